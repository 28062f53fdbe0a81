//! What a start costs: the launcher and its layers against a bare exec and against bubblewrap.
//!
//!     cargo bench --bench spawn [-- ROUNDS]
//!
//! One interleaved run: every round starts each kind once, so that a busy moment is everybody's.
//! The program is /bin/true. CPU is that of all processes that were collected, launchers included.
//! Needs root, to play a plain user as well; bubblewrap from PATH, or it is left out.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "starting is what is measured")]

#[allow(dead_code, reason = "made for the tests of the launcher")]
#[path = "../tests/sandbox/harness.rs"]
mod harness;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use harness::{As, Place};
use mcp_gateway::launcher::{Layers, Network};
use nix::sys::resource::{UsageWho, getrusage};

type Start<'a> = Box<dyn Fn() + 'a>;

struct Kind<'a> {
    name: &'static str,
    start: Start<'a>,
    wall: Vec<Duration>,
    cpu: Vec<Duration>,
}

fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    [usage.user_time(), usage.system_time()]
        .map(|time| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000))
        .into_iter()
        .sum()
}

fn main() {
    let rounds = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(300_usize);
    let place = Place::new();
    let run = |by: As, layers: Layers, network: Network| {
        let mut policy = place.policy("/bin/true", &[], by);
        (policy.layers, policy.network) = (layers, network);
        let place = &place;
        move || {
            let ended = place.run(&policy, by);
            assert!(ended.status.success(), "{:?}", ended.report);
        }
    };
    let web = || Network::Ports { tcp: vec![443, 80, 53], udp: true };
    let portable = Layers { namespaces: false, ..Layers::ALL };
    let plain = |program: &'static str, args: &'static [&'static str]| {
        move || assert!(Command::new(program).args(args).status().unwrap().success())
    };
    let mut kinds: Vec<(&'static str, Start<'_>)> = vec![
        ("bare exec", Box::new(plain("/bin/true", &[]))),
        ("launcher, no layer", Box::new(run(As::Root, Layers::NONE, Network::Host))),
        ("launcher, no namespaces", Box::new(run(As::Root, portable, Network::None))),
        ("launcher, network web", Box::new(run(As::Root, Layers::ALL, web()))),
        ("launcher, network none", Box::new(run(As::Root, Layers::ALL, Network::None))),
        (
            "launcher, network none, by a plain user",
            Box::new(run(As::User, Layers::ALL, Network::None)),
        ),
    ];
    const BWRAP: [&str; 14] = [
        "--unshare-all",
        "--die-with-parent",
        "--ro-bind",
        "/usr",
        "/usr",
        "--symlink",
        "usr/lib",
        "/lib",
        "--symlink",
        "usr/lib64",
        "/lib64",
        "--proc",
        "/proc",
        "/usr/bin/true",
    ];
    if Command::new("bwrap").arg("--version").output().is_ok() {
        kinds.push(("bubblewrap --unshare-all", Box::new(plain("bwrap", &BWRAP))));
    } else {
        println!("bubblewrap is not installed, so it is left out");
    }
    let kinds = kinds.into_iter();
    let mut kinds: Vec<Kind<'_>> = kinds
        .map(|(name, start)| Kind { name, start, wall: Vec::new(), cpu: Vec::new() })
        .collect();
    for _ in 0..rounds {
        for kind in &mut kinds {
            let (cpu, began) = (children(), Instant::now());
            (kind.start)();
            kind.wall.push(began.elapsed());
            kind.cpu.push(children() - cpu);
        }
    }
    println!("{rounds} rounds, milliseconds\n");
    println!("| start of /bin/true | CPU, median | CPU, mean | wall, least | wall, median |");
    println!("|---|---|---|---|---|");
    for kind in &mut kinds {
        kind.wall.sort();
        kind.cpu.sort();
        let ms = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e3);
        let mean = kind.cpu.iter().sum::<Duration>() / rounds as u32;
        let (cpu, least, wall) = (kind.cpu[rounds / 2], kind.wall[0], kind.wall[rounds / 2]);
        println!("| {} | {} | {} | {} | {} |", kind.name, ms(cpu), ms(mean), ms(least), ms(wall));
    }
}
