//! Backends that do not start, or start badly.

use std::{
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{Client, World, example, faulty};

const TRACE: &str = "env: {MCP_TRACE: \"{DIR}/trace\"}";

/// How often a backend was started, by what it received.
fn starts(world: &World) -> usize {
    world.read("trace").matches(r#""method":"initialize""#).count()
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
fn a_crash_loop_is_slowed_down_and_the_reason_stays_visible() {
    let world = World::with(&faulty("f", "exit-at-once 3", ""));
    let mut client = world.stdio();
    // First contact is one failure; each call that finds the pause over is another.
    let text = crate::harness::eventually("the circuit to open", || {
        let text = client.failure("f_anything", json!({}));
        let _ = text;
        let instance = client.instance("f");
        (instance["failures"].as_u64() >= Some(3)).then(|| instance)
    });
    assert_eq!(text["state"], "failed", "{text}");
    assert!(text["trouble"].as_str().unwrap().contains("missing API key"), "{text}");
    let starts = text["starts"].as_u64().unwrap();
    let began = Instant::now();
    let answer = world_call(&world);
    assert!(answer.contains("missing API key"), "{answer}");
    for _ in 0..50 {
        client.failure("f_anything", json!({}));
    }
    let after = client.instance("f")["starts"].as_u64().unwrap();
    let allowed = starts + 2 + began.elapsed().as_secs();
    assert!(after <= allowed, "{starts} starts, then {after} after 50 more calls");
}

/// One placeholder's answer from another process.
fn world_call(world: &World) -> String {
    let output = world.run(&["call", "_f_connect", "--json"]);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
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
