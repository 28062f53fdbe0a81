//! Whoever is killed, and whenever: nothing of a backend survives, and the next call is served.
//!
//! The backend of these tests is as stubborn as they come: beside it there is a process that has
//! left its session, closed its descriptors and hears no signal that can be refused.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::harness::{Client, World, eventually};

/// What is left of a backend has so long to go.
const SOON: Duration = Duration::from_secs(2);

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Twice as many as there are processors, who do nothing as fast as they can.
struct Load(Arc<AtomicBool>, Vec<thread::JoinHandle<()>>);

impl Load {
    fn new() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let count = 2 * thread::available_parallelism().map_or(2, usize::from);
        let busy = (0..count).map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        });
        Load(Arc::clone(&over), busy.collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        for busy in self.1.drain(..) {
            let _ = busy.join();
        }
    }
}

fn left_after(world: &World, time: Duration) -> Vec<(i32, String)> {
    let until = Instant::now() + time;
    loop {
        let left = world.children();
        if left.is_empty() || Instant::now() > until {
            return left;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn rounds(count: u64) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/server.pl");
    let world = World::with(&format!("  k: {{command: perl, args: [{script}, stubborn]}}\n"));
    // Its tools are known from here on.
    let mut client = world.stdio();
    assert_eq!(client.text("k_hello", json!({})), "hello");
    client.close();
    client.gateway().ended();
    world.assert_empty();
    let _load = Load::new();
    let mut dice = Dice(count);
    let (mut survivors, mut killed) = (0, BTreeMap::new());
    let began = Instant::now();
    for _ in 0..count {
        let mut client = world.stdio();
        client.start_call("k_hello", json!({}));
        // At any moment from before its start until after its answer.
        thread::sleep(Duration::from_micros(dice.below(120_000)));
        let children = world.children();
        let gateway = client.gateway().pid();
        let (victim, what) = match dice.below(children.len() as u64 * 2 + 1) as usize {
            index if index < children.len() => {
                let (pid, words) = &children[index];
                let word = words.split(' ').next().unwrap_or_default();
                let word = word.rsplit('/').next().unwrap_or_default().to_owned();
                (*pid, if word.is_empty() { "ending".to_owned() } else { word })
            }
            _ => (gateway, "gateway".to_owned()),
        };
        let _ = kill(Pid::from_raw(victim), Signal::SIGKILL);
        *killed.entry(what).or_insert(0_u64) += 1;
        if victim != gateway {
            // A call that was in its hands may fail; one after it may not, for long.
            eventually("the next call to be served", || {
                let answer = client.call("k_hello", json!({}));
                (answer["result"]["content"][0]["text"] == "hello").then_some(())
            });
            client.gateway().signal(Signal::SIGKILL);
        }
        let left = left_after(&world, SOON);
        for (pid, words) in &left {
            println!("survived: {pid} {words}");
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        survivors += left.len();
    }
    println!(
        "{count} kills under load in {:?}: {killed:?}; {survivors} survivors",
        began.elapsed()
    );
    assert_eq!(survivors, 0);
    assert!(killed.len() > 2, "one of each at least: {killed:?}");
    let mut client = world.stdio();
    let status = client.text("gateway_status", json!({}));
    assert!(status.contains("\"orphans_found\": 0"), "{status}");
}

#[test]
fn two_hundred_kills_leave_nothing_and_cost_no_later_call() {
    rounds(200);
}

#[test]
#[ignore = "soak"]
fn two_thousand_kills_leave_nothing_and_cost_no_later_call() {
    rounds(2000);
}
