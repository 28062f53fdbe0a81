//! Backends that do not start, or start badly.

use std::{
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{Client, Framed, World, eventually, example, faulty};

const TRACE: &str = "env: {MCP_TRACE: \"{DIR}/traces/all\"}, sandbox: {write: [\"{DIR}/traces\"]}";

/// How often a backend was started, by what it received.
fn starts(world: &World) -> usize {
    world.read("traces/all").matches(r#""method":"initialize""#).count()
}

#[test]
fn a_missing_program_is_named_with_the_remedy() {
    let world = World::with("  f: {command: no-such-program}\n  g: {command: /no/such/file}\n");
    for (server, words) in [("f", "no program \"no-such-program\""), ("g", "no file /no/such/file")]
    {
        let text = world.stdio_with_error(server);
        assert!(text.contains(words) && text.contains(&format!("\"{server}\"")), "{text}");
    }
}

#[test]
fn a_program_that_is_not_executable_is_named_with_the_remedy() {
    let world = World::with("  f: {command: \"{DIR}/script\"}\n  g: {command: \"{DIR}/bad\"}\n");
    world.write("script", "#!/bin/sh\n");
    let bad = world.write("bad", "#!/no/interpreter\n");
    std::fs::set_permissions(bad, std::fs::Permissions::from_mode(0o755)).unwrap();
    let text = world.stdio_with_error("f");
    assert!(text.contains("not executable (chmod +x"), "{text}");
    let text = world.stdio_with_error("g");
    assert!(text.contains("interpreter"), "{text}");
}

#[test]
fn a_backend_that_exits_at_once_is_reported_in_its_own_words() {
    let world = World::with(&faulty("f", "exit-at-once 3", ""));
    let began = Instant::now();
    let text = world.stdio_with_error("f");
    assert!(text.contains("exit status: 3") && text.contains("missing API key"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_backend_that_hangs_at_initialize_is_given_up_after_timeouts_start() {
    let world = World::with(&faulty("f", "missing-init", "timeouts: {start: 1s, stop: 1s}"));
    let began = Instant::now();
    let text = world.stdio_with_error("f");
    assert!(text.contains("\"f\""), "{text}");
    assert!(text.contains("timeouts.start"), "the caller learns which time ran out: {text}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    world.assert_empty();
}

#[test]
fn a_protocol_version_that_nobody_knows_is_named() {
    let world = World::with(&faulty("f", "version 1999-12-31", "timeouts: {stop: 1s}"));
    let text = world.stdio_with_error("f");
    assert!(text.contains("1999-12-31") && text.contains("2025-11-25"), "{text}");
}

#[test]
fn every_legacy_version_of_a_backend_is_spoken() {
    let versions = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
    let servers = versions.iter().enumerate();
    let servers: String = servers
        .map(|(n, version)| faulty(&format!("v{n}"), &format!("version {version}"), ""))
        .collect();
    let world = World::with(&servers);
    let mut client = world.stdio();
    for n in 0..versions.len() {
        assert_eq!(client.text(&format!("v{n}_echo"), json!({"text": "hello"})), "hello");
    }
}

#[test]
fn junk_before_and_between_messages_is_passed_over_and_counted() {
    let world = World::with(&faulty("f", "junk-then-ok", ""));
    let mut client = world.stdio();
    for n in 0..20 {
        let nonce = n.to_string();
        assert_eq!(client.text("f_echo", json!({"text": nonce})), nonce);
    }
    assert!(client.instance("f")["junk_lines"].as_u64().unwrap() > 20);
}

#[test]
fn notifications_before_the_first_answer_do_no_harm() {
    let world = World::with(&faulty("f", "notify-first", ""));
    let mut client = world.stdio();
    assert_eq!(client.text("f_echo", json!({"text": "hello"})), "hello");
}

#[test]
fn fifty_first_calls_at_once_start_one_process() {
    let world = World::with(&faulty("f", "plain", TRACE));
    let mut client = world.stdio();
    let ids: Vec<u64> =
        (0..50).map(|n| client.start_call("f_echo", json!({"text": n.to_string()}))).collect();
    for (n, id) in ids.into_iter().enumerate() {
        let answer = client.response(id).json();
        assert_eq!(answer["result"]["content"][0]["text"], n.to_string(), "{answer}");
    }
    assert_eq!(starts(&world), 1);
    assert_eq!(client.instance("f")["starts"], 1);
}

#[test]
fn fifty_first_calls_of_fifty_clients_start_one_process() {
    let world = World::with(&faulty("f", "plain", TRACE));
    let daemon = world.serve();
    let mut clients: Vec<_> = (0..50).map(|_| daemon.unix()).collect();
    let ids: Vec<u64> = clients
        .iter_mut()
        .enumerate()
        .map(|(n, client)| client.start_call("f_echo", json!({"text": n.to_string()})))
        .collect();
    for (n, (client, id)) in clients.iter_mut().zip(ids).enumerate() {
        let answer = client.response(id).json();
        assert_eq!(answer["result"]["content"][0]["text"], n.to_string(), "{answer}");
    }
    assert_eq!(starts(&world), 1);
}

#[test]
fn a_caller_who_waits_for_a_slow_start_sees_progress() {
    let world = World::with(&faulty("f", "slow-start 2.5", ""));
    // The tools are known already: the call starts the backend.
    assert!(world.stdio().tools().contains(&"f_echo".to_owned()));
    world.assert_empty();
    let mut client = world.stdio();
    let id = client.start_call("f_echo", json!({"text": "hello"}));
    let notice = client.notice("notifications/progress");
    assert_eq!(notice["params"]["progressToken"], id);
    let text = notice["params"]["message"].as_str().unwrap();
    assert!(text.contains("starting backend \"f\""), "{text}");
    assert_eq!(client.response(id).json()["result"]["content"][0]["text"], "hello");
}

#[test]
fn a_crash_loop_opens_the_circuit_and_the_reason_stays_visible() {
    let world = World::with(&faulty("f", "exit-at-once 3", TRACE));
    let mut client = world.stdio();
    let connect = |client: &mut Framed| -> String {
        let answer = client.call("_f_connect", json!({}));
        answer["result"]["structuredContent"]["reason"].as_str().unwrap().to_owned()
    };
    // Five starts, each after a pause that is longer than the one before.
    let open = eventually("the circuit to open", || {
        Some(connect(&mut client)).filter(|reason| reason.contains("5 failures in a row"))
    });
    assert!(open.contains("missing API key"), "{open}");
    let pause = open.split("next try in ").nth(1).unwrap().split(' ').next().unwrap();
    assert!((55.0..80.0).contains(&pause.parse::<f64>().unwrap()), "{open}");
    // From now on callers are told at once, and nothing is started.
    let began = Instant::now();
    for _ in 0..20 {
        assert!(connect(&mut client).contains("missing API key"));
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let instance = client.instance("f");
    assert_eq!(instance["starts"], 5, "{instance}");
    assert_eq!(instance["state"], "failed", "{instance}");
    assert!(instance["trouble"].as_str().unwrap().contains("missing API key"), "{instance}");
}

#[test]
fn a_backend_that_fails_does_not_keep_others_from_starting() {
    let servers = [
        faulty("bad", "exit-at-once", ""),
        "  gone: {command: no-such-program}\n".to_owned(),
        example("good", "echo", "", ""),
    ];
    let world = World::with(&servers.concat());
    let mut client = world.stdio();
    assert_eq!(client.text("good_echo", json!({"text": "hello"})), "hello");
    let tools = client.tools();
    for name in ["good_echo", "_bad_connect", "_gone_connect", "gateway_status"] {
        assert!(tools.contains(&name.to_owned()), "{name} in {tools:?}");
    }
}
