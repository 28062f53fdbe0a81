//! The same for longer: `make soak` runs what stands here, and its figures are printed.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::{
    harness::{Client, Framed, World, eventually, example, faulty},
    load::{connections, load, pss},
};

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
#[ignore = "soak"]
fn twenty_thousand_sessions_leave_nothing_behind() {
    let world = World::with(&example("e", "echo", "", ""));
    let daemon = world.serve();
    let pid = daemon.running.pid();
    let calm = || eventually("calm", || (connections(pid) == 0).then(|| pss(pid)));
    load(&daemon, 1000, "warm-up");
    let before = calm();
    let began = Instant::now();
    load(&daemon, 20_000, "measured");
    let after = calm();
    println!("20,000 sessions in {:?}: PSS {before} KiB, then {after} KiB", began.elapsed());
    assert!(after * 10 <= before * 12, "PSS was {before} KiB, then {after} KiB");
}

#[test]
#[ignore = "soak"]
fn a_hundred_thousand_calls_of_mixed_sizes_leave_nothing_behind() {
    let world = World::with(&example("e", "echo", "", ""));
    let daemon = world.serve();
    let pid = daemon.running.pid();
    let text = "0123456789abcdef".repeat(1 << 16);
    let round = |calls: u64| {
        thread::scope(|scope| {
            for worker in 0..4 {
                let (daemon, text) = (&daemon, &text);
                scope.spawn(move || {
                    let mut client = daemon.unix();
                    let mut dice = Dice(worker);
                    for _ in 0..calls / 4 {
                        let size = [10, 100, 1000, 10_000, 100_000][dice.roll(5) as usize];
                        // Now and then a large one.
                        let size = if dice.roll(1000) == 0 { text.len() } else { size };
                        let sent = &text[..size];
                        assert!(client.text("e_echo", json!({"text": sent})) == sent);
                    }
                });
            }
        });
        // Its sessions are over once it has noticed.
        let mut witness = daemon.unix();
        eventually("its clients' sessions to be over", || {
            (witness.status()["sessions"] == 1).then(|| pss(pid))
        })
    };
    let began = Instant::now();
    let rounds: Vec<u64> = (0..6).map(|_| round(20_000)).collect();
    println!("6 times 20,000 calls in {:?}: PSS {rounds:?} KiB", began.elapsed());
    assert!(rounds[5] <= rounds[0] + (4 << 10), "PSS after each round: {rounds:?} KiB");
}

#[test]
#[ignore = "soak"]
fn a_gateway_that_is_ended_at_any_moment_leaves_nothing_behind() {
    let mut dice = Dice(7);
    for round in 0..200 {
        let keys = "timeouts: {stop: 200ms}";
        let servers =
            faulty("f", "ignore-term,grandchild,slow leave", keys) + &faulty("g", "plain", keys);
        let world = World::with(&servers);
        let mut client: Framed = world.raw_stdio(&[]);
        let hello = json!({
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "it", "version": "1"},
        });
        client.start("initialize", hello);
        client.start_call("f_sleep", json!({"ms": 100, "every": 20}));
        client.start_call("g_echo", json!({"text": "x"}));
        // Any moment, on purpose.
        thread::sleep(Duration::from_millis(dice.roll(300)));
        let signal = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP][dice.roll(3) as usize];
        client.gateway().signal(signal);
        if dice.roll(3) == 0 {
            thread::sleep(Duration::from_millis(dice.roll(100)));
            let _ = kill(Pid::from_raw(client.gateway().pid()), signal);
        }
        client.gateway().ended();
        let began = Instant::now();
        eventually("the last child's end", || world.children().is_empty().then_some(()));
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "round {round}, {signal}: {took:?}");
    }
}

#[test]
#[ignore = "soak"]
fn a_backend_that_is_killed_at_any_moment_answers_no_call_wrongly() {
    let world = World::with(&faulty("f", "plain", ""));
    let daemon = world.serve();
    let over = std::sync::atomic::AtomicBool::new(false);
    let (mut fine, mut told) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = Dice(3);
            for _ in 0..20 {
                // Past the time in which a crash counts as one of a start.
                thread::sleep(Duration::from_millis(5100 + dice.roll(300)));
                for (pid, _) in world.children() {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let mut client = daemon.unix();
        for n in 0.. {
            if over.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            let nonce = format!("nonce {n}");
            let answer = client.call("f_echo", json!({"text": nonce}));
            match answer["error"]["message"].as_str() {
                Some(text) => {
                    assert!(text.contains("\"f\"") && text.contains("SIGKILL"), "{text}");
                    told += 1;
                }
                None => {
                    assert_eq!(answer["result"]["content"][0]["text"], nonce.as_str());
                    fine += 1;
                }
            }
        }
    });
    println!("{fine} calls answered, {told} told of the death, 20 kills");
    assert!(told <= 20, "one call in flight, one told");
}
