//! Nothing that a backend starts outlives it, whoever is killed, and when.

use std::{
    io::Write,
    process::Command,
    time::{Duration, Instant},
};

use mcp_gateway::launcher::{Layers, Policy};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{dice::Dice, harness::*};

/// Forks twice, leaves the session, closes what it has, ignores every signal that can be.
const STUBBORN: &str = "trap '' TERM HUP INT; \
    (setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1; done' <&- >&- 2>&- &) & \
    setsid setsid sleep 1000 <&- >&- 2>&- & echo up; while :; do sleep 1; done";

/// Without end, as fast as it can.
const FORK_BOMB: &str = "exec perl -e '$| = 1; print \"up\\n\"; fork while 1'";

fn portable() -> Layers {
    Layers { namespaces: false, ..Layers::ALL }
}

fn with(place: &Place, text: &str, layers: Layers, by: As) -> Policy {
    Policy { layers, ..place.script(text, by) }
}

fn pid_of(place: &Place, what: impl Fn(&str) -> bool) -> i32 {
    let find = || place.alive().into_iter().find(|(_, words)| what(words)).map(|(pid, _)| pid);
    eventually("the process", find)
}

#[test]
fn a_lifeline_that_is_let_go_ends_everything() {
    let place = Place::new();
    for layers in [Layers::ALL, portable(), Layers::NONE] {
        for by in [As::Root, As::User] {
            let mut started = place.start(&with(&place, STUBBORN, layers, by), by);
            assert_eq!(started.line(), "up");
            started.lifeline.take();
            let took = place.gone();
            started.ended();
            assert!(took < Duration::from_millis(500), "{layers:?}, {by:?}: {took:?}");
        }
    }
}

#[test]
fn a_program_that_ends_leaves_nothing_behind() {
    let place = Place::new();
    for layers in [Layers::ALL, portable(), Layers::NONE] {
        let text = STUBBORN.replace("echo up; while :; do sleep 1; done", "sleep 0.1; exit 3");
        let mut started = place.start(&with(&place, &text, layers, As::Root), As::Root);
        assert_eq!(started.ended().code(), Some(3), "{layers:?}");
        // Its own end is the sign that nothing is left.
        assert!(place.alive().is_empty(), "{layers:?}: {:?}", place.alive());
    }
}

#[test]
fn sigterm_reaches_the_program_and_its_group() {
    let place = Place::new();
    for layers in [Layers::ALL, portable(), Layers::NONE] {
        let text = "trap 'echo asked; exit 4' TERM; echo up; sleep 1000 & wait";
        let mut started = place.start(&with(&place, text, layers, As::Root), As::Root);
        assert_eq!(started.line(), "up");
        kill(Pid::from_raw(started.pid()), Signal::SIGTERM).unwrap();
        assert_eq!(started.line(), "asked", "{layers:?}");
        assert_eq!(started.ended().code(), Some(4), "{layers:?}");
        assert!(place.alive().is_empty());
    }
}

#[test]
fn whoever_of_them_is_killed_the_others_follow() {
    let place = Place::new();
    for by in [As::Root, As::User] {
        // The monitor, pid 1, the program.
        for victim in 0..3 {
            let mut started = place.start(&with(&place, STUBBORN, Layers::ALL, by), by);
            assert_eq!(started.line(), "up");
            let victim = match victim {
                0 => started.pid(),
                1 => first_child(started.pid()),
                _ => pid_of(&place, |words| words.starts_with("/bin/sh -c trap")),
            };
            kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
            let took = place.gone();
            started.ended();
            assert!(took < Duration::from_millis(500), "{by:?}, {victim}: {took:?}");
        }
    }
}

fn first_child(pid: i32) -> i32 {
    let path = format!("/proc/{pid}/task/{pid}/children");
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

#[test]
fn a_fork_bomb_is_ended_in_no_time() {
    let place = Place::new();
    for layers in [Layers::ALL, portable()] {
        let mut policy = with(&place, FORK_BOMB, layers, As::Root);
        policy.limits.processes = 200;
        // Without a user namespace of its own the limit is the user's.
        let mut command = Command::new("prlimit");
        command.args(["--nproc=200:200", "--"]).arg(place.path("mcp-gateway-exec"));
        command.env_clear().env("LAUNCHER", &place.tag).env("PATH", "/usr/bin");
        let mut started = Started::new(command, &policy.encode().unwrap());
        let report = started.report();
        assert!(report.is_running(), "{report:?}");
        assert_eq!(started.line(), "up");
        eventually("the bomb", || (place.alive().len() > 100).then_some(()));
        started.lifeline.take();
        let took = place.gone();
        started.ended();
        println!("a fork bomb of 200, {layers:?}: gone in {took:?}");
        assert!(took < Duration::from_secs(3), "{layers:?}: {took:?}");
    }
}

/// Not a test of its own: a process that starts backends until it is killed. The others start it
/// by running this binary again.
#[test]
fn starter() {
    let Ok(tag) = std::env::var("STARTER_OF") else { return };
    let folder = std::env::var("STARTER_IN").unwrap();
    let policies: Vec<Vec<u8>> = std::env::var("STARTER_POLICIES")
        .unwrap()
        .split(' ')
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    println!("\ngo");
    std::io::stdout().flush().unwrap();
    let mut running = Vec::new();
    for policy in &policies {
        let mut command = Command::new(format!("{folder}/mcp-gateway-exec"));
        command.env_clear().env("LAUNCHER", &tag);
        running.push(Started::new(command, policy));
    }
    std::thread::sleep(PATIENCE);
}

/// Kills a starter of two backends at some moment of their start; how many outlive it.
fn killed_at(place: &Place, policies: &[&str], delay: Duration) -> usize {
    use std::io::Read;
    let mut starter = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "orphans::starter", "--nocapture"])
        .env("STARTER_OF", &place.tag)
        .env("STARTER_IN", place.folder.path())
        .env("STARTER_POLICIES", policies.join(" "))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = starter.stdout.take().unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"go\n") {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    std::thread::sleep(delay);
    starter.kill().unwrap();
    starter.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(1);
    let left = loop {
        let left = place.alive();
        if left.is_empty() || Instant::now() > until {
            break left;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    for (pid, words) in &left {
        println!("still there: {pid} {words}");
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    left.len()
}

/// Kills starters at random moments; how many processes outlived them.
fn killed(rounds: u64) -> usize {
    let place = Place::new();
    let policies = [Layers::ALL, portable()].map(|layers| {
        let path = place.path(if layers.namespaces { "full" } else { "portable" });
        std::fs::write(&path, with(&place, STUBBORN, layers, As::Root).encode().unwrap()).unwrap();
        path.to_string_lossy().into_owned()
    });
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    let mut dice = Dice(rounds);
    (0..rounds)
        .map(|_| killed_at(&place, &policies, Duration::from_micros(dice.below(40_000))))
        .sum()
}

#[test]
fn a_starter_that_is_killed_at_any_moment_leaves_nothing() {
    assert_eq!(killed(40), 0);
}

#[test]
#[ignore = "soak"]
fn a_thousand_starters_that_are_killed_leave_nothing() {
    let left = killed(1000);
    println!("1,000 starters of two backends each killed at a random moment: {left} survivors");
    assert_eq!(left, 0);
}

/// Kills the monitor, pid 1 or the program at random moments of the start; the survivors.
fn members_killed(rounds: u64) -> usize {
    let place = Place::new();
    let mut dice = Dice(rounds);
    let mut left = 0;
    for _ in 0..rounds {
        let mut started = place.start(&with(&place, STUBBORN, Layers::ALL, As::Root), As::Root);
        std::thread::sleep(Duration::from_micros(dice.below(25_000)));
        let alive = place.alive();
        let (victim, _) = &alive[dice.below(alive.len() as u64) as usize];
        let status = std::fs::read_to_string(format!("/proc/{victim}/status")).unwrap_or_default();
        let inside =
            status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split('\t').nth(2));
        let main = matches!(inside, Some("1" | "2"));
        let _ = kill(Pid::from_raw(*victim), Signal::SIGKILL);
        // A grandchild may go alone; whoever holds the sandbox up takes it down.
        let holds = main || *victim == started.pid();
        if !holds {
            started.lifeline.take();
        }
        let until = Instant::now() + Duration::from_secs(1);
        while !place.alive().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        left += place.alive().len();
        started.lifeline.take();
        started.ended();
        place.gone();
    }
    left
}

#[test]
fn a_member_that_is_killed_at_any_moment_takes_the_rest_along() {
    assert_eq!(members_killed(40), 0);
}

#[test]
#[ignore = "soak"]
fn a_thousand_members_that_are_killed_take_the_rest_along() {
    let left = members_killed(1000);
    println!("1,000 times one of monitor, pid 1 and program killed: {left} survivors");
    assert_eq!(left, 0);
}

/// The same with a parent's death signal in place of the lifeline, as most programs have it: the
/// starter is a shell, the launcher `setpriv --pdeathsig`.
fn killed_with_a_death_signal(rounds: u64) -> usize {
    let mut dice = Dice(rounds);
    let mut left = 0;
    for _ in 0..rounds {
        let place = Place::new();
        let line =
            format!("setpriv --pdeathsig KILL sh -c '{}' & wait", STUBBORN.replace('\'', "'\\''"));
        let mut starter = Command::new("/bin/sh")
            .args(["-c", &line])
            .env("TAG", &place.tag)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(dice.below(40_000)));
        starter.kill().unwrap();
        starter.wait().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        left += usize::from(!place.alive().is_empty());
    }
    left
}

#[test]
fn a_death_signal_in_place_of_the_lifeline_is_seen_to_fail() {
    // If this passes with none, the tests above show nothing.
    let left = killed_with_a_death_signal(20);
    println!("20 starters killed that rely on the death signal: {left} left something behind");
    assert!(left > 0);
}
