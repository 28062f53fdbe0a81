//! 1–10: does not work at all, or kills itself.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{Client, World, eventually, faulty};

#[test]
fn every_command_works_with_nothing_but_the_binary() {
    let world = World::new("");
    for (args, words) in [
        (&["--help"][..], "Usage"),
        (&["--version"], "mcp-gateway"),
        (&["list"], "Total tools: 1"),
        (&["list", "--tools"], "gateway_status"),
        (&["check"], "ok, 0 of 0"),
        (&["schema"], "\"properties\""),
        (&["completions", "bash"], "mcp-gateway"),
        (&["call", "gateway_status"], "uptime_s"),
        (&[], "Usage"),
    ] {
        let output = world.run(args);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
    assert_eq!(world.stdio().tools(), ["gateway_status"]);
}

#[test]
fn a_placeholder_connects_over_stdio_and_the_session_goes_on() {
    let world = World::with(&faulty("f", "plain", "discover: placeholder"));
    let mut client = world.stdio();
    assert_eq!(client.tools(), ["_f_connect", "gateway_status"]);
    assert!(client.text("_f_connect", json!({})).contains("\"connected\": \"f\""));
    assert!(client.ask("ping", json!({}))["result"].is_object());
    assert_eq!(client.text("f_echo", json!({"text": "hello"})), "hello");
    client.close();
    assert_eq!(client.gateway().ended().code(), Some(0));
}

#[test]
fn over_sse_the_client_that_connects_a_backend_keeps_its_session() {
    let world = World::with(&faulty("f", "plain", "discover: placeholder"));
    let daemon = world.serve();
    let (mut first, mut second) = (daemon.sse(), daemon.sse());
    first.text("_f_connect", json!({}));
    for n in 0..20 {
        let nonce = n.to_string();
        assert_eq!(first.text("f_echo", json!({"text": nonce})), nonce);
        assert_eq!(second.text("f_echo", json!({"text": nonce})), nonce);
    }
}

#[test]
fn serve_starts_and_tells_its_health() {
    let world = World::with(&faulty("f", "plain", ""));
    let daemon = world.serve();
    let health = daemon.raw_http("/mcp").get("/health");
    assert_eq!(health.status, 200);
    assert_eq!(health.header("content-type"), Some("application/json"));
}

#[test]
fn nothing_tells_to_install_somebody_elses_package() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).unwrap_or_default();
    let world = World::new("");
    let help = String::from_utf8(world.run(&["--help"]).stdout).unwrap();
    for text in [readme, help] {
        assert!(!text.contains("pip install mcp-gateway"));
        assert!(!text.contains("cargo install mcp-gateway\n"), "no such crate is ours");
    }
}

#[test]
fn a_backend_that_speaks_first_or_asks_for_roots_blocks_nobody() {
    let world = World::with(&faulty("f", "notify-first,log,roots", ""));
    let mut client = world.stdio();
    assert_eq!(client.text("f_echo", json!({"text": "one"})), "one");
    client.text("f_log_all", json!({}));
    // This client has no roots; the backend is told so, and goes on.
    assert!(client.text("f_ask", json!({})).contains("\"error\""));
    assert_eq!(client.text("f_echo", json!({"text": "two"})), "two");
}

#[test]
fn a_backend_that_crashes_dies_or_is_cancelled_leaves_the_gateway_well() {
    let servers = [faulty("bad", "exit-at-once", ""), faulty("f", "die-mid-call,slow", "")];
    let world = World::with(&servers.concat());
    let mut client = world.stdio();
    let why = client.call("_bad_connect", json!({}));
    assert_eq!(why["result"]["isError"], true, "{why}");
    client.failure("f_die", json!({}));
    let id = client.start_call("f_sleep", json!({"ms": 20_000, "every": 50}));
    client.notice("notifications/progress");
    client.send(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
    ));
    assert_eq!(client.text("f_echo", json!({"text": "well"})), "well");
    client.close();
    assert_eq!(client.gateway().ended().code(), Some(0));
}

#[test]
fn unknown_methods_and_malformed_messages_are_answered() {
    let world = World::with(&faulty("f", "plain", ""));
    let mut client = world.raw_stdio(&[]);
    // Newer clients ask this before they initialize.
    let answer = client.ask("server/discover", json!({}));
    assert!(answer["error"]["code"].is_i64(), "{answer}");
    let mut client = client.opened();
    assert_eq!(client.ask("foo/bar", json!({}))["error"]["code"], -32601);
    for (line, code) in [
        ("{", -32700),
        ("not json", -32700),
        ("[]", -32600),
        ("1", -32600),
        (r#"{"jsonrpc":"2.0"}"#, -32600),
        (r#"{"jsonrpc":"1.0","id":5,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, -32600),
    ] {
        client.send(line);
        let answer = client.wait(line, |message| message.0.contains("\"error\"")).json();
        assert_eq!(answer["error"]["code"], code, "{line}: {answer}");
    }
    for params in ["null", "[]", "7", "{\"name\":7}", "{}"] {
        let id = client.next_id();
        let line =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#);
        let answer = client.exchange(id, &line).pop().unwrap().json();
        assert!(answer["error"]["code"].is_i64(), "{params}: {answer}");
    }
    assert_eq!(client.text("f_echo", json!({"text": "well"})), "well");
}

#[test]
fn reaping_an_idle_backend_ends_no_session() {
    let world = World::with(&faulty("f", "plain", "timeouts: {idle: 200ms}"));
    let daemon = world.serve();
    let (mut sse, mut unix, mut stdio) = (daemon.sse(), daemon.unix(), world.stdio());
    let clients: [&mut dyn Client; 3] = [&mut sse, &mut unix, &mut stdio];
    for client in clients {
        client.text("f_echo", json!({}));
        eventually("the idle backend to stop", || world.children().is_empty().then_some(()));
        assert!(client.ask("ping", json!({}))["result"].is_object());
        assert_eq!(client.text("f_echo", json!({"text": "again"})), "again");
    }
}

#[test]
fn a_session_with_a_backend_ends_with_exit_code_0() {
    let world = World::with(&faulty("f", "plain", ""));
    let mut client = world.stdio();
    client.text("f_echo", json!({}));
    client.close();
    assert_eq!(client.gateway().ended().code(), Some(0));
    let log = client.gateway().log();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    let mut daemon = world.serve();
    daemon.http().text("f_echo", json!({}));
    daemon.running.signal(Signal::SIGTERM);
    assert_eq!(daemon.running.ended().code(), Some(0));
}
