//! Backends that are stuck, deaf, odd or loud, and what others feel of it.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::harness::{Client, World, eventually, faulty};

#[test]
fn capabilities_that_are_no_objects_harm_nobody() {
    let world = World::with(&faulty("odd", "odd-capabilities", ""));
    let mut client = world.stdio();
    assert_eq!(client.text("odd_echo", json!({"text": "x"})), "x");
    drop(client);
    // Now they are known from disk when the next client opens.
    let mut next = world.stdio();
    assert_eq!(next.text("odd_echo", json!({"text": "y"})), "y");
}

const BURST: &str = r#"{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{"name":"b_burst","arguments":{"kind":"progress"},"_meta":{"progressToken":"t"}}}"#;

const TRACE: &str = "env: {MCP_TRACE: \"{DIR}/traces/all\"}, sandbox: {write: [\"{DIR}/traces\"]}";

/// The steps of progress that came before the answer to [`BURST`].
fn steps(mut next: impl FnMut() -> Value) -> Vec<i64> {
    let mut steps = Vec::new();
    loop {
        let message = next();
        if message["id"] == 77 {
            assert_eq!(message["result"]["content"][0]["text"], "burst");
            return steps;
        }
        steps.extend(message["params"]["progress"].as_i64());
    }
}

#[test]
fn a_burst_of_progress_reaches_its_caller_in_order_with_the_answer_last() {
    let world = World::with(&faulty("b", "burst", ""));
    let daemon = world.serve();
    let mut client = daemon.unix();
    client.tools();
    client.send(BURST);
    let steps = steps(|| client.wait("a message", |_| true).json());
    assert_eq!(steps[..1000], (1..=1000).collect::<Vec<_>>());
    assert!(steps.is_sorted_by(|one, next| one < next), "{steps:?}");
}

#[test]
fn who_reads_too_slowly_for_a_burst_of_progress_misses_some_of_it_and_has_its_answer() {
    let world = World::with(&faulty("b", "burst", TRACE));
    let daemon = world.serve();
    let mut other = daemon.unix();
    other.tools();
    let mut slow = UnixStream::connect(&daemon.socket).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let opening = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"slow","version":"1"}}}"#;
    let opened = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    writeln!(slow, "MCP-GATEWAY 1 {{}}\n{opening}\n{opened}\n{BURST}").unwrap();
    eventually("the call to arrive", || {
        world.read("traces/all").contains("\"burst\"").then_some(())
    });
    eventually("the call to be answered", || (other.instance("b")["calls"] == 0).then_some(()));
    let mut lines = BufReader::new(slow.try_clone().unwrap()).lines();
    let mut next = || serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let steps = steps(&mut next);
    assert!(steps.len() < 20_000, "it all fitted, so this shows nothing");
    assert!(steps.is_sorted_by(|one, next| one < next), "{steps:?}");
    writeln!(slow, r#"{{"jsonrpc":"2.0","id":78,"method":"ping"}}"#).unwrap();
    assert_eq!(next()["id"], 78);
}

#[test]
fn a_burst_of_logs_costs_nobody_the_connection() {
    let world = World::with(&faulty("b", "burst", ""));
    let mut client = world.stdio();
    client.tools();
    for _ in 0..3 {
        assert_eq!(client.text("b_burst", json!({"kind": "log"})), "burst");
    }
    assert_eq!(client.text("b_echo", json!({"text": "still here"})), "still here");
}

#[test]
fn lists_that_never_come_keep_no_other_list_back() {
    let world = World::with(&faulty("m", "mute-lists", "timeouts: {call: 60s}"));
    let mut client = world.stdio();
    let began = Instant::now();
    assert!(client.tools().contains(&"m_echo".to_owned()));
    assert_eq!(client.text("m_echo", json!({"text": "x"})), "x");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_backend_that_hears_no_more_is_replaced() {
    let world = World::with(&faulty("d", "deaf", "timeouts: {call: 2s, stop: 1s}"));
    let mut client = world.stdio();
    let first = client.text("d_pid", json!({}));
    assert_eq!(client.text("d_plug", json!({})), "plugged");
    // A read that had begun may still take a line; the calls that find it out fail; then there is
    // a new backend.
    eventually("a new backend", || {
        let id = client.start_call("d_pid", json!({}));
        let answer = client.response(id).json();
        let pid = answer["result"]["content"][0]["text"].as_str()?;
        (pid != first).then_some(())
    });
}

#[test]
fn a_stopped_backend_is_replaced_after_a_call_has_timed_out() {
    let keys = "timeouts: {call: 1s, max_call: 2s, stop: 1s}";
    let world = World::with(&faulty("s", "plain", keys));
    let mut client = world.stdio();
    let first = client.text("s_pid", json!({}));
    kill(Pid::from_raw(world.child()), Signal::SIGSTOP).unwrap();
    let text = client.failure("s_pid", json!({}));
    assert!(text.contains("timeouts.call"), "{text}");
    let pid = eventually("a new backend", || {
        let id = client.start_call("s_pid", json!({}));
        let answer = client.response(id).json();
        answer["result"]["content"][0]["text"].as_str().map(str::to_owned)
    });
    assert_ne!(pid, first);
    world.gone_soon(1);
}

#[test]
fn backends_that_hang_at_the_start_keep_no_other_from_starting() {
    let mut servers: String = (0..6)
        .map(|n| faulty(&format!("h{n}"), "missing-init", "timeouts: {start: 40s}"))
        .collect();
    servers.push_str(&faulty("well", "plain", ""));
    let world = World::with(&servers);
    let daemon = world.serve();
    let mut lister = daemon.unix();
    let id = lister.start("tools/list", json!({}));
    let mut client = daemon.unix_with("well");
    let began = Instant::now();
    assert_eq!(client.text("echo", json!({"text": "x"})), "x");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let tools = lister.response(id);
    assert!(tools.result().contains("well_echo"), "{}", tools.result());
}

#[test]
fn a_session_that_ends_while_its_backend_starts_leaves_none_behind() {
    let world = World::with(&faulty("f", "slow-start", "share: session, timeouts: {idle: 0}"));
    let daemon = world.serve();
    for _ in 0..3 {
        let mut client = daemon.unix();
        client.start("tools/list", json!({}));
        eventually("its start", || (!world.children().is_empty()).then_some(()));
        drop(client);
        eventually("its end", || world.children().is_empty().then_some(()));
    }
    world.gone_soon(0);
}

#[test]
fn lists_asked_for_at_once_are_each_whole() {
    for _ in 0..5 {
        let world = World::with(&faulty("f", "resources,prompts", ""));
        let mut client = world.stdio();
        let ids = ["tools/list", "prompts/list", "resources/list", "resources/templates/list"]
            .map(|method| client.start(method, json!({})));
        for id in ids {
            let result = client.response(id).json()["result"].clone();
            let lists = result.as_object().unwrap();
            assert!(lists.values().all(|list| !list.as_array().unwrap().is_empty()), "{result}");
        }
    }
}
