//! Backends that misbehave in the middle of a call.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Client, World, faulty};

#[test]
fn a_call_that_hangs_ends_after_timeouts_call_and_is_cancelled_at_the_backend() {
    let world = World::with(&faulty("f", "hang-call", "timeouts: {call: 1s}"));
    let mut client = world.stdio();
    assert!(client.tools().contains(&"f_hang".to_owned()));
    let began = Instant::now();
    let text = client.failure("f_hang", json!({}));
    assert!(text.contains("\"f\"") && text.contains("timeouts.call"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let seen = client.text("f_cancelled", json!({}));
    assert!(seen.contains("timed out"), "the backend heard of it: {seen}");
}

#[test]
fn progress_extends_a_call_up_to_max_call() {
    let keys = "timeouts: {call: 700ms, max_call: 3s}";
    let world = World::with(&faulty("f", "slow", keys));
    let mut client = world.stdio();
    assert!(client.tools().contains(&"f_sleep".to_owned()));
    // Longer than `call`, with progress in between.
    let id = client.start_call("f_sleep", json!({"ms": 1600, "every": 200}));
    assert!(client.response(id).result().contains("slept"));
    // As long, without: nobody asked for progress, so none comes.
    let text = client.failure("f_sleep", json!({"ms": 1600, "every": 200}));
    assert!(text.contains("timeouts.call"), "{text}");
    let id = client.start_call("f_sleep", json!({"ms": 20_000, "every": 200}));
    let answer = client.response(id).json();
    let text = answer["error"]["message"].as_str().unwrap();
    assert!(text.contains("timeouts.max_call"), "{text}");
}

#[test]
fn a_backend_that_dies_in_a_call_tells_its_caller_fast_and_runs_again_for_the_next() {
    for arguments in [json!({}), json!({"code": 7}), json!({"signal": 9}), json!({"half": true})] {
        let world = World::with(&faulty("f", "die-mid-call", ""));
        let mut client = world.stdio();
        let first = client.text("f_pid", json!({}));
        let began = Instant::now();
        let text = client.failure("f_die", arguments.clone());
        let took = began.elapsed();
        assert!(text.contains("\"f\""), "{text}");
        assert!(text.contains("about to die"), "its last words: {text}");
        assert!(took < Duration::from_millis(500), "{arguments}: {took:?}");
        assert_ne!(client.text("f_pid", json!({})), first);
        assert_eq!(client.instance("f")["starts"], 2);
    }
}

#[test]
fn everyone_who_waits_for_a_dying_backend_is_told_once() {
    let world = World::with(&faulty("f", "die-mid-call,hang-call", ""));
    let mut client = world.stdio();
    client.text("f_pid", json!({}));
    let ids: Vec<u64> = (0..20).map(|_| client.start_call("f_hang", json!({}))).collect();
    client.failure("f_die", json!({"ms": 200}));
    for id in ids {
        let answer = client.response(id).json();
        assert!(answer["error"]["message"].as_str().unwrap().contains("\"f\""), "{answer}");
    }
    assert!(client.ask("ping", json!({}))["result"].is_object());
    let late: Vec<_> = client.kept().into_iter().filter(|message| message.id().is_some()).collect();
    assert!(late.is_empty(), "{late:?}");
}

#[test]
fn a_backend_that_never_reads_costs_its_callers_their_time_and_nobody_elses() {
    let keys = "timeouts: {call: 2s, start: 2s, stop: 1s}, limits: {calls: 16}";
    let servers = [faulty("f", "no-stdin", keys), faulty("g", "plain", "")];
    let world = World::with(&servers.concat());
    let daemon = world.serve();
    let mut stuck = daemon.unix_with("f");
    let mut other = daemon.unix();
    assert_eq!(other.text("g_echo", json!({"text": "warm"})), "warm");
    let long = "x".repeat(100_000);
    let began = Instant::now();
    let ids: Vec<u64> = (0..100)
        .map(|_| stuck.start("tools/call", json!({"name": "echo", "arguments": {"text": long}})))
        .collect();
    for n in 0..50 {
        let before = Instant::now();
        let nonce = n.to_string();
        assert_eq!(other.text("g_echo", json!({"text": nonce})), nonce);
        assert!(before.elapsed() < Duration::from_millis(500), "{:?}", before.elapsed());
    }
    for id in ids {
        let answer = stuck.response(id).json();
        let text = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(text.contains("\"f\""), "{text}");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_flood_on_stderr_is_bounded_in_the_log_and_delays_nothing_for_long() {
    let world = World::with(&faulty("f", "flood-stderr 50000000", ""));
    let mut client = world.stdio();
    for n in 0..20 {
        let nonce = n.to_string();
        assert_eq!(client.text("f_echo", json!({"text": nonce})), nonce);
    }
    client.gateway().logged("lines of stderr left out");
    let log = client.gateway().log().len();
    assert!(log < 2_000_000, "{log} bytes of 50 MB reached the log");
}

#[test]
fn a_flood_of_junk_on_stdout_ends_the_backend_with_the_reason() {
    let world = World::with(&faulty("f", "flood-stdout", "timeouts: {stop: 1s}"));
    let text = world.stdio_with_error("f");
    assert!(text.contains("lines in a row to stdout that are no messages"), "{text}");
    world.assert_empty();
}

#[test]
fn answers_that_come_twice_or_to_nobody_reach_nobody() {
    let servers = [faulty("t", "answer-twice", ""), faulty("f", "foreign-id", "")];
    let world = World::with(&servers.concat());
    let mut client = world.stdio();
    for n in 0..50 {
        for tool in ["t_echo", "f_echo"] {
            let nonce = format!("{tool} {n}");
            assert_eq!(client.text(tool, json!({"text": nonce})), nonce);
        }
    }
    let kept = client.kept();
    assert!(kept.iter().all(|message| message.id().is_none()), "{kept:?}");
    assert!(client.instance("t")["stray_answers"].as_u64().unwrap() >= 50);
    assert!(client.instance("f")["stray_answers"].as_u64().unwrap() >= 300);
}

#[test]
fn a_line_that_never_ends_ends_the_backend_before_it_fills_the_memory() {
    let keys = "timeouts: {stop: 1s}";
    let world = World::with(&faulty("f", "no-newline", keys));
    let daemon = world.serve();
    let mut client = daemon.unix();
    assert_eq!(client.text("f_echo", json!({"text": "warm"})), "warm");
    let before = memory(daemon.running.pid());
    let text = client.failure("f_gush", json!({}));
    assert!(text.contains("limits.line") && text.contains("\"f\""), "{text}");
    let peak = high_water(daemon.running.pid());
    assert!(peak < before + (40 << 10), "{before} KiB before, {peak} KiB at the peak");
    assert_eq!(client.text("f_echo", json!({"text": "again"})), "again");
}

fn status_field(pid: i32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn memory(pid: i32) -> u64 {
    status_field(pid, "VmRSS:")
}

fn high_water(pid: i32) -> u64 {
    status_field(pid, "VmHWM:")
}
