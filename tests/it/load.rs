//! Many sessions, and what is left of them.

use std::{fs, thread};

use serde_json::json;

use crate::harness::{Client, Daemon, World, eventually, example};

const CALLS: usize = 10;
/// Clients at work at the same time.
const AT_ONCE: usize = 8;

/// Opens sessions, calls, and ends them; checks every answer.
pub fn load(daemon: &Daemon, sessions: usize, round: &str) {
    thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            scope.spawn(move || {
                for session in (worker..sessions).step_by(AT_ONCE) {
                    let mut client = daemon.http();
                    for call in 0..CALLS {
                        let nonce = format!("{round}/{session}/{call}");
                        assert_eq!(client.text("e_echo", json!({"text": nonce})), nonce);
                    }
                    assert_eq!(client.send("DELETE", "/mcp", None).status, 204);
                }
            });
        }
    });
}

/// The PSS of what is the gateway's own, in KiB. Pages of the program's file are left out: it
/// shares them with the gateways of other tests, so its part of them grows when those end.
pub fn pss(pid: i32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let own = rollup
        .lines()
        .filter(|line| line.starts_with("Pss_Anon:") || line.starts_with("Pss_Shmem:"));
    own.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
}

pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Waits until the gateway has noticed that its clients have gone, and has no descriptor more than
/// before they came.
fn settled(daemon: &Daemon, calm: usize) -> u64 {
    let pid = daemon.running.pid();
    eventually("every session to be over", || {
        let health = daemon.raw_http("/mcp").get("/health");
        assert_eq!(health.status, 200);
        drop(health);
        (descriptors(pid) <= calm).then_some(())
    });
    pss(pid)
}

#[test]
fn a_thousand_sessions_with_ten_calls_each_leave_nothing_behind() {
    let world = World::with(&example("e", "echo", "", ""));
    let daemon = world.serve();
    daemon.http().text("e_echo", json!({"text": "first"}));
    let pid = daemon.running.pid();
    eventually("the first client to be gone", || (connections(pid) == 0).then_some(()));
    let calm = descriptors(pid);
    load(&daemon, 1000, "warm-up");
    let before = settled(&daemon, calm);
    load(&daemon, 1000, "measured");
    let after = settled(&daemon, calm);
    assert!(after * 10 <= before * 12, "PSS was {before} KiB after the warm-up, then {after} KiB");
    let log = daemon.running.log();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
    assert_eq!(world.children().len(), 1);
}

/// Established TCP connections among its descriptors: each beyond the listener is a socket.
pub fn connections(pid: i32) -> usize {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(Result::ok);
    let sockets = links.filter_map(|link| fs::read_link(link.path()).ok());
    let sockets: Vec<String> = sockets
        .filter_map(|link| {
            Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())
        })
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let established = table.lines().filter(|line| line.split_whitespace().nth(3) == Some("01"));
    established
        .filter(|line| {
            line.split_whitespace()
                .nth(9)
                .is_some_and(|inode| sockets.iter().any(|one| one == inode))
        })
        .count()
}

#[test]
fn large_messages_both_ways_at_once_never_wait_for_each_other() {
    // One request at a time, and it reads nothing while it writes.
    let world = World::with(&example("e", "echo", "", ""));
    let daemon = world.serve();
    let mut client = daemon.unix();
    let text = "0123456789abcdef".repeat(1 << 16);
    let nonce = |n: usize| format!("{n}:{text}");
    let ids: Vec<u64> =
        (0..64).map(|n| client.start_call("e_echo", json!({"text": nonce(n)}))).collect();
    for (n, id) in ids.into_iter().enumerate() {
        let answer = client.response(id).json();
        assert!(answer["result"]["content"][0]["text"] == nonce(n).as_str(), "{n}");
    }
}
