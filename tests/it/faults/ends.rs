//! How backends and the gateway itself end: idle, told to, or in the middle of everything.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Client, World, eventually, faulty};

#[test]
fn an_idle_backend_is_stopped_and_the_next_call_starts_it_again() {
    let world = World::with(&faulty("f", "plain", "timeouts: {idle: 300ms}"));
    let mut client = world.stdio();
    let first = client.text("f_pid", json!({}));
    eventually("the idle backend to stop", || world.children().is_empty().then_some(()));
    let second = client.text("f_pid", json!({}));
    assert_ne!(first, second);
}

#[test]
fn a_call_in_flight_is_never_reaped() {
    let world = World::with(&faulty("f", "slow", "timeouts: {idle: 200ms}"));
    let mut client = world.stdio();
    client.text("f_echo", json!({}));
    assert_eq!(client.text("f_sleep", json!({"ms": 2000})), "slept 2000 ms");
    assert_eq!(client.instance("f")["failures"], 0);
}

#[test]
fn a_backend_that_ignores_everything_is_gone_within_the_ladders_time() {
    let world = World::with(&faulty("f", "ignore-term", "timeouts: {stop: 1s}"));
    let mut client = world.stdio();
    client.text("f_echo", json!({}));
    let began = Instant::now();
    client.gateway().signal(Signal::SIGTERM);
    let status = client.gateway().ended();
    assert_eq!(status.code(), Some(0));
    world.assert_empty_now();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn grandchildren_end_with_their_backend() {
    for kind in ["tidy", "leave"] {
        let keys = "timeouts: {stop: 1s}";
        let world = World::with(&faulty("f", &format!("grandchild {kind}"), keys));
        let mut client = world.stdio();
        client.text("f_grandchildren", json!({}));
        assert_eq!(world.children().len(), 3, "{kind}");
        client.close();
        assert_eq!(client.gateway().ended().code(), Some(0));
        world.assert_empty_now();
    }
}

#[test]
fn grandchildren_end_when_their_backend_crashes() {
    let world = World::with(&faulty("f", "grandchild,die-mid-call leave", ""));
    let mut client = world.stdio();
    client.text("f_grandchildren", json!({}));
    client.failure("f_die", json!({"signal": 9}));
    eventually("the grandchildren's end", || world.children().is_empty().then_some(()));
}

#[test]
fn calls_in_flight_finish_when_the_gateway_is_told_to_end() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let world = World::with(&faulty("f", "slow", ""));
        let mut client = world.stdio();
        client.text("f_echo", json!({}));
        let id = client.start_call("f_sleep", json!({"ms": 1500, "every": 50}));
        client.notice("notifications/progress");
        client.gateway().signal(signal);
        assert_eq!(client.response(id).json()["result"]["content"][0]["text"], "slept 1500 ms");
        assert_eq!(client.gateway().ended().code(), Some(0));
        world.assert_empty_now();
    }
}

#[test]
fn calls_over_http_finish_when_the_gateway_is_told_to_end() {
    let world = World::with(&faulty("f", "slow", ""));
    let mut daemon = world.serve();
    let mut client = daemon.http();
    client.text("f_echo", json!({}));
    let call = r#"{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{"name":"f_sleep","arguments":{"ms":1500,"every":50},"_meta":{"progressToken":1}}}"#;
    let mut stream = client.begin(call);
    stream.event().unwrap();
    daemon.running.signal(Signal::SIGTERM);
    let answer = eventually("the answer", || {
        let message: Value = serde_json::from_str(&stream.event().unwrap()).unwrap();
        (message["id"] == 77).then_some(message)
    });
    assert_eq!(answer["result"]["content"][0]["text"], "slept 1500 ms");
    assert_eq!(daemon.running.ended().code(), Some(0));
    world.assert_empty_now();
    assert!(!daemon.socket.exists(), "the socket file is taken away");
}

#[test]
fn a_call_that_outlasts_the_grace_gets_a_clear_error() {
    let world = World::with(&faulty("f", "hang-call", "timeouts: {stop: 1s}"));
    let mut client = world.stdio();
    client.text("f_echo", json!({}));
    let id = client.start_call("f_hang", json!({}));
    client.text("f_echo", json!({}));
    let began = Instant::now();
    client.gateway().signal(Signal::SIGTERM);
    let answer = client.response(id).json();
    let text = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(text.contains("shutting down"), "{text}");
    assert_eq!(client.gateway().ended().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    world.assert_empty_now();
}

#[test]
fn a_request_after_the_signal_gets_a_clear_error() {
    let world = World::with(&faulty("f", "slow", ""));
    let mut client = world.stdio();
    client.text("f_echo", json!({}));
    let id = client.start_call("f_sleep", json!({"ms": 1500, "every": 50}));
    client.notice("notifications/progress");
    client.gateway().signal(Signal::SIGTERM);
    client.gateway().logged("ending");
    let late = client.start_call("f_echo", json!({}));
    let answer = client.response(late).json();
    let text = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(text.contains("shutting down"), "{text}");
    client.response(id).result();
    assert_eq!(client.gateway().ended().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once_and_leaves_no_child() {
    let keys = "timeouts: {stop: 10s}";
    let world = World::with(&faulty("f", "hang-call,ignore-term,grandchild leave", keys));
    let mut daemon = world.serve();
    let mut client = daemon.unix();
    client.text("f_grandchildren", json!({}));
    client.start_call("f_hang", json!({}));
    client.text("f_echo", json!({}));
    daemon.running.signal(Signal::SIGTERM);
    daemon.running.logged("ending");
    let began = Instant::now();
    daemon.running.signal(Signal::SIGTERM);
    daemon.running.ended();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    eventually("the last child's end", || world.children().is_empty().then_some(()));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_second_ctrl_c_ends_stdio_at_once_and_leaves_no_child() {
    let keys = "timeouts: {stop: 10s}";
    let world = World::with(&faulty("f", "hang-call,ignore-term,grandchild leave", keys));
    let mut client = world.stdio();
    client.text("f_grandchildren", json!({}));
    client.start_call("f_hang", json!({}));
    client.text("f_echo", json!({}));
    client.gateway().signal(Signal::SIGINT);
    client.gateway().logged("ending");
    let began = Instant::now();
    client.gateway().signal(Signal::SIGINT);
    client.gateway().ended();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    eventually("the last child's end", || world.children().is_empty().then_some(()));
}

#[test]
fn a_gateway_that_ends_while_a_backend_starts_leaves_it_nowhere() {
    let world = World::with(&faulty("f", "missing-init,ignore-term", "timeouts: {stop: 500ms}"));
    let mut client = world.stdio();
    let id = client.start_call("f_echo", json!({}));
    client.gateway().logged("started");
    let began = Instant::now();
    client.gateway().signal(Signal::SIGTERM);
    let answer = client.response(id).json();
    assert!(answer["error"]["message"].is_string(), "{answer}");
    assert_eq!(client.gateway().ended().code(), Some(0));
    world.assert_empty_now();
    assert!(began.elapsed() < Duration::from_secs(13), "{:?}", began.elapsed());
}

#[test]
fn backends_that_wait_for_their_turn_to_start_never_start_after_the_end() {
    let keys = "lazy: false, timeouts: {stop: 500ms}, env: {MCP_TRACE: \"{DIR}/traces/all\"}, sandbox: {write: [\"{DIR}/traces\"]}";
    let servers: String =
        (0..8).map(|n| faulty(&format!("f{n}"), "missing-init,ignore-term", keys)).collect();
    let world = World::with(&servers);
    let mut client = world.stdio();
    let opened = || world.read("traces/all").matches("initialize").count();
    eventually("four to start", || (opened() == 4).then_some(()));
    client.gateway().signal(Signal::SIGTERM);
    assert_eq!(client.gateway().ended().code(), Some(0));
    world.assert_empty_now();
    assert_eq!(opened(), 4, "and no other");
}

#[test]
fn open_streams_do_not_hold_the_gateway() {
    let world = World::with(&faulty("f", "plain", ""));
    let mut daemon = world.serve();
    let mut http = daemon.http();
    http.text("f_echo", json!({}));
    let mut listening = http.listen();
    let (mut sse, mut unix) = (daemon.sse(), daemon.unix());
    let began = Instant::now();
    daemon.running.signal(Signal::SIGTERM);
    assert_eq!(daemon.running.ended().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    while listening.event().is_some() {}
    sse.rest();
    unix.rest();
    world.assert_empty_now();
}
