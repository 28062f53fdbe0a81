//! Backends that are stuck, deaf, odd or loud, and what others feel of it.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

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

#[test]
fn a_burst_of_progress_reaches_its_caller_in_order_with_the_answer_last() {
    let world = World::with(&faulty("b", "burst", ""));
    let mut client = world.stdio();
    client.tools();
    let params = json!({
        "name": "b_burst", "arguments": {"kind": "progress"}, "_meta": {"progressToken": "t"},
    });
    let id = client.start("tools/call", params);
    assert!(client.response(id).result().contains("burst"));
    let steps: Vec<i64> = client
        .kept()
        .iter()
        .filter(|message| message.method().as_deref() == Some("notifications/progress"))
        .filter_map(|message| message.json()["params"]["progress"].as_i64())
        .collect();
    assert_eq!(steps, (1..=20_000).collect::<Vec<_>>());
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
