//! Whoever is killed, and whenever: nothing of a backend survives, and the next call is served.
//!
//! The backend of these tests is as stubborn as they come: beside it there is a process that has
//! left its session, closed its descriptors and hears no signal that can be refused. A binary of its
//! own, since the load that it makes would disturb other tests.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "tests start the gateway")]

#[path = "../it/harness/dice.rs"]
mod dice;
#[allow(dead_code, unused_imports, reason = "made for more tests than these")]
#[path = "../it/harness/mod.rs"]
mod harness;

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

use dice::Dice;
use harness::{Client, World, eventually};

/// What is left of a backend has so long to go.
const SOON: Duration = Duration::from_secs(2);

/// As many as there are processors, who do nothing as fast as they can.
struct Load(Arc<AtomicBool>, Vec<thread::JoinHandle<()>>);

impl Load {
    fn new() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let count = thread::available_parallelism().map_or(2, usize::from);
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

/// A process: its pid, when it began, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process(i32, String, String);

impl Process {
    fn look(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.rsplit_once(") ")?;
        let began = rest.split(' ').nth(19)?.to_owned();
        let name = name.split_once('(')?.1.to_owned();
        (!rest.starts_with(['Z', 'X'])).then_some(Process(pid, began, name))
    }

    fn lives(&self) -> bool {
        Process::look(self.0).as_ref().is_some_and(|now| now.1 == self.1)
    }
}

/// Everything below a process: monitors, each one's pid 1, and what runs in their boxes.
fn below(pid: i32) -> Vec<Process> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| Process::look(pid.parse().ok()?));
    children.flat_map(|child| [vec![child.clone()], below(child.0)].concat()).collect()
}

/// What still runs in this world, and of those that were known.
fn left_after(world: &World, known: &[Process], time: Duration) -> Vec<(i32, String)> {
    let until = Instant::now() + time;
    loop {
        let mut left = world.children();
        let known = known.iter().filter(|it| it.lives());
        left.extend(known.map(|Process(pid, _, name)| (*pid, name.clone())));
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
        let gateway = client.gateway().pid();
        let mut known = below(gateway);
        let (victim, what) = match known.get(dice.below(known.len() as u64 + 2) as usize) {
            Some(Process(pid, ..)) if known[0].0 == *pid => (*pid, "monitor".to_owned()),
            Some(Process(pid, _, name)) => (*pid, name.clone()),
            None => (gateway, "gateway".to_owned()),
        };
        let _ = kill(Pid::from_raw(victim), Signal::SIGKILL);
        *killed.entry(what).or_insert(0_u64) += 1;
        if victim != gateway {
            // A call that was in its hands may fail; one after it may not, for long.
            eventually("the next call to be served", || {
                let answer = client.call("k_hello", json!({}));
                (answer["result"]["content"][0]["text"] == "hello").then_some(())
            });
            known.extend(below(gateway));
            client.gateway().signal(Signal::SIGKILL);
        }
        let left = left_after(&world, &known, SOON);
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
    assert!(killed.len() > 3, "one of each at least: {killed:?}");
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
