//! The front doors, and the verbs of the command line, as a shell meets them.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Client, World, eventually, example, faulty};

#[test]
fn what_is_piped_into_stdio_is_answered_before_its_end() {
    let world = World::with(&faulty("f", "slow-start 0.3", ""));
    let mut client = world.raw_stdio(&[]);
    client.send(r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#);
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    client.send(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"f_echo","arguments":{"text":"piped"}}}"#);
    client.close();
    let all = client.rest();
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[1].result().contains("piped"));
    assert_eq!(client.gateway().ended().code(), Some(0));
    world.assert_empty_now();
}

#[test]
fn stdout_carries_nothing_but_messages() {
    let world = World::with(&faulty("f", "flood-stderr,junk-then-ok 100000", ""));
    let mut client = world.raw_stdio(&["--log", "trace"]).opened();
    client.text("f_echo", json!({}));
    client.close();
    for message in client.rest() {
        assert_eq!(message.json()["jsonrpc"], "2.0");
    }
}

#[test]
fn one_server_over_stdio_has_its_own_names_and_no_others() {
    let world = World::with(&(faulty("f", "counter", "") + &faulty("g", "plain", "")));
    let mut client = world.stdio_with("f");
    assert_eq!(client.tools(), ["echo", "pid", "cancelled", "next"]);
    assert_eq!(client.text("next", json!({})), "1");
    assert!(client.call("gateway_status", json!({}))["error"].is_object());
    assert!(client.call("g_echo", json!({}))["error"].is_object());
    let output = world.run(&["stdio", "--server", "nobody"]);
    assert_ne!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no backend named \"nobody\""));
}

#[test]
fn a_socket_is_ours_alone_and_never_taken_from_a_living_daemon() {
    let world = World::new("");
    let mut daemon = world.serve();
    let mode = fs::metadata(&daemon.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let path = daemon.socket.to_str().unwrap().to_owned();
    let second = world.run(&["serve", "--no-tcp", "--socket", &path]);
    assert_eq!(second.status.code(), Some(69));
    assert!(String::from_utf8(second.stderr).unwrap().contains(&path));
    assert!(daemon.unix().ask("ping", json!({}))["result"].is_object());
    // One that was killed leaves its socket, and the next takes it over.
    daemon.running.signal(Signal::SIGKILL);
    daemon.running.ended();
    assert!(daemon.socket.exists());
    let next = world.serve();
    assert!(next.unix().ask("ping", json!({}))["result"].is_object());
    // A file that is no socket is left alone.
    let file = world.write("precious", "data");
    let output = world.run(&["serve", "--no-tcp", "--socket", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(69));
    assert_eq!(world.read("precious"), "data");
}

#[test]
fn a_port_that_is_taken_is_told() {
    let world = World::new("");
    let daemon = world.serve();
    let port = daemon.address.port().to_string();
    let output = world.run(&["serve", "--port", &port]);
    assert_eq!(output.status.code(), Some(69));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&port) && !text.contains("panicked"), "{text}");
    for args in [&["serve", "--port", "99999"][..], &["serve", "--host", "not a host"]] {
        assert_eq!(world.run(args).status.code(), Some(64), "{args:?}");
    }
}

#[test]
fn a_wrong_preface_is_told_what_is_expected() {
    let world = World::new("");
    let daemon = world.serve();
    for preface in ["{\"sever\":\"x\"}", "[]", "{\"server\":\"nobody\"}"] {
        let mut client = daemon.raw_unix(preface);
        let said = client.rest();
        assert_eq!(said.len(), 1, "{preface}: {said:?}");
        assert!(!said[0].error().is_empty());
    }
    assert!(daemon.unix().ask("ping", json!({}))["result"].is_object());
}

#[test]
fn call_prints_text_and_tells_by_its_exit_code() {
    let servers = [
        example("e", "echo", "", ""),
        "  gone: {command: no-such-program}\n".to_owned(),
        faulty("dead", "die-mid-call", ""),
    ];
    let world = World::with(&servers.concat());
    let output = world.run(&["call", "e_echo", r#"{"text":"hello"}"#]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"hello\n"[..]));
    let output = world.run(&["call", "e_add", "--json", r#"{"a":1,"b":2}"#]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["content"][0]["text"], "3");
    for (args, code) in [
        (&["call", "e_echo", "not json"][..], 64),
        (&["call", "e_echo", "[1]"], 64),
        (&["call", "no_such_tool"], 64),
        (&["call", "dead_die"], 69),
        (&["call"], 64),
    ] {
        let output = world.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args:?}: {output:?}");
    }
    world.assert_empty_now();
}

#[test]
fn call_reads_its_arguments_from_stdin() {
    let world = World::with(&example("e", "echo", "", ""));
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-gateway"))
        .args(["call", "e_echo", "-"])
        .current_dir(world.folder())
        .env("HOME", world.folder())
        .env("MCP_GATEWAY_CACHE", world.path("cache"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{\n \"text\": \"from\\nstdin\"\n}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"from\nstdin\n");
}

#[test]
fn call_shows_on_a_terminal_what_it_waits_for() {
    let world = World::with(&faulty("f", "slow-start 1.5", ""));
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-gateway"))
        .args(["call", "f_echo", r#"{"text":"hello"}"#])
        .current_dir(world.folder())
        .env("HOME", world.folder())
        .env("TERM", "xterm")
        .env("MCP_GATEWAY_CACHE", world.path("cache"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(terminal.slave)
        .spawn()
        .unwrap();
    let mut master = fs::File::from(terminal.master);
    let seen = std::thread::spawn(move || {
        let mut all = Vec::new();
        // At the end of a terminal's last writer stands EIO.
        let _ = master.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    });
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(text, "hello\n");
    let seen = seen.join().unwrap();
    assert!(seen.contains("starting"), "{seen:?}");
}

#[test]
fn a_subscription_keeps_its_backend() {
    let world = World::with(&faulty("r", "resources", "timeouts: {idle: 300ms}"));
    let daemon = world.serve();
    let mut client = daemon.unix();
    client.ask("resources/list", json!({}));
    let subscribed = client.ask("resources/subscribe", json!({"uri": "faulty://one"}));
    assert!(subscribed["result"].is_object(), "{subscribed}");
    let pid = world.child();
    std::thread::sleep(std::time::Duration::from_millis(900));
    assert_eq!(world.child(), pid);
    client.ask("resources/unsubscribe", json!({"uri": "faulty://one"}));
    eventually("the idle backend to stop", || world.children().is_empty().then_some(()));
}

#[test]
fn batches_of_2025_03_26_are_answered_and_no_others() {
    let world = World::with(&faulty("f", "plain", ""));
    let daemon = world.serve();
    let batch = r#"[{"jsonrpc":"2.0","id":"a","method":"ping"},{"jsonrpc":"2.0","method":"notifications/x"},{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"f_echo","arguments":{"text":"x"}}}]"#;
    let mut old = daemon.raw_http("/mcp").header("mcp-protocol-version", "2025-03-26");
    let hello = json!({"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}});
    assert_eq!(old.ask("initialize", hello)["result"]["protocolVersion"], "2025-03-26");
    let path = "/mcp";
    let mut answer = old.send("POST", path, Some(batch));
    assert_eq!(answer.status, 200);
    let mut text = String::new();
    if answer.is_events() {
        while let Some(event) = answer.event() {
            text.push_str(&event);
        }
    } else {
        answer.finish();
        text = answer.body;
    }
    assert!(text.contains(r#""id":"a""#) && text.contains(r#""id":"b""#), "{text}");
    let mut new = daemon.http();
    assert_eq!(new.post(path, batch).status, 400);
}
