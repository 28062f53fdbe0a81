//! Clients that vanish, and clients that look alike.

use std::{thread, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Client, Daemon, World, eventually, faulty};

const TRACE: &str = "env: {MCP_TRACE: \"{DIR}/traces/all\"}, sandbox: {write: [\"{DIR}/traces\"]}";

/// Waits until the backend was told to stop, and until no call is in flight.
fn cancelled(world: &World, daemon: &Daemon) {
    eventually("the call to be cancelled", || {
        world.read("traces/all").contains("notifications/cancelled").then_some(())
    });
    let mut witness = daemon.unix();
    eventually("no call in flight", || (witness.instance("f")["calls"] == 0).then_some(()));
    assert_eq!(witness.text("f_echo", json!({"text": "well"})), "well");
}

#[test]
fn a_unix_client_that_vanishes_in_a_call_cancels_it() {
    let world = World::with(&faulty("f", "slow", TRACE));
    let daemon = world.serve();
    let mut client = daemon.unix();
    client.text("f_echo", json!({}));
    client.start_call("f_sleep", json!({"ms": 20_000, "every": 50}));
    client.notice("notifications/progress");
    drop(client);
    cancelled(&world, &daemon);
}

#[test]
fn an_sse_client_that_vanishes_in_a_call_cancels_it() {
    let world = World::with(&faulty("f", "slow", TRACE));
    let daemon = world.serve();
    let mut client = daemon.sse();
    client.text("f_echo", json!({}));
    client.start_call("f_sleep", json!({"ms": 20_000, "every": 50}));
    client.notice("notifications/progress");
    drop(client);
    cancelled(&world, &daemon);
}

#[test]
fn a_stdio_client_that_vanishes_in_a_call_leaves_nothing_behind() {
    let world = World::with(&faulty("f", "slow,ignore-term", "timeouts: {stop: 1s}"));
    let mut client = world.stdio();
    client.text("f_echo", json!({}));
    client.start_call("f_sleep", json!({"ms": 20_000, "every": 50}));
    client.notice("notifications/progress");
    client.close();
    assert!(client.gateway().ended().success());
    world.assert_empty_now();
}

#[test]
fn an_http_client_that_vanishes_loses_no_answer() {
    let world = World::with(&faulty("f", "slow", TRACE));
    let daemon = world.serve();
    let mut client = daemon.http();
    client.text("f_echo", json!({}));
    // In this era a lost connection is no cancellation: the client comes back for its answer.
    let call = json!({
        "jsonrpc": "2.0", "id": 77, "method": "tools/call",
        "params": {"name": "f_sleep", "arguments": {"ms": 1500, "every": 100}, "_meta": {"progressToken": "p"}},
    });
    let mut stream = client.begin(&call.to_string());
    assert!(stream.is_events(), "{}", stream.status);
    let (last, _) = stream.numbered_event().unwrap();
    let last = last.expect("events are numbered");
    drop(stream);
    let mut again =
        client.twin().header("accept", "text/event-stream").header("last-event-id", &last);
    let mut resumed = again.get("/mcp");
    assert_eq!(resumed.status, 200);
    let answer = eventually("the answer", || {
        let message: Value = serde_json::from_str(&resumed.event()?).unwrap();
        (message["id"] == 77).then_some(message)
    });
    assert_eq!(answer["result"]["content"][0]["text"], "slept 1500 ms");
    assert!(!world.read("traces/all").contains("notifications/cancelled"));
}

#[test]
fn an_http_session_that_is_deleted_in_a_call_cancels_it() {
    let world = World::with(&faulty("f", "slow", TRACE));
    let daemon = world.serve();
    let mut client = daemon.http();
    client.text("f_echo", json!({}));
    let call = r#"{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{"name":"f_sleep","arguments":{"ms":20000}}}"#;
    let mut twin = client.twin();
    let call = call.to_owned();
    let waiting = thread::spawn(move || twin.begin(&call).status);
    eventually("the call to arrive", || {
        world.read("traces/all").contains("\"sleep\"").then_some(())
    });
    assert_eq!(client.twin().send("DELETE", "/mcp", None).status, 204);
    cancelled(&world, &daemon);
    waiting.join().unwrap();
}

#[test]
fn two_clients_that_both_use_id_1_a_thousand_times_get_their_own_answers() {
    let world = World::with(&faulty("f", "plain", ""));
    let daemon = world.serve();
    let clients: Vec<Box<dyn Client + Send>> =
        vec![Box::new(daemon.unix()), Box::new(daemon.http()), Box::new(daemon.sse())];
    let threads: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(who, mut client)| {
            thread::spawn(move || {
                for n in 0..1000 {
                    let nonce = format!("{who}/{n}");
                    let line = format!(
                        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"f_echo","arguments":{{"text":"{nonce}"}}}}}}"#
                    );
                    let answer = client.exchange(1, &line).pop().unwrap().json();
                    assert_eq!(answer["result"]["content"][0]["text"], nonce);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(world.children().len(), 1);
}

#[test]
fn ids_of_every_kind_come_back_as_they_were() {
    let world = World::with(&faulty("f", "plain", ""));
    let mut client = world.stdio();
    for id in ["0", "-7", "\"1\"", "\"\\u00e9\"", "9007199254740993", "\"\"", "1.5"] {
        client.send(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"f_echo","arguments":{{"text":"x"}}}}}}"#
        ));
        client.wait(id, |message| message.id().as_deref() == Some(id)).result();
    }
}

#[test]
fn a_gateway_that_is_killed_takes_well_behaved_backends_with_it() {
    let world = World::with(&faulty("f", "plain", ""));
    let mut client = world.stdio();
    client.text("f_echo", json!({}));
    client.gateway().signal(Signal::SIGKILL);
    client.gateway().ended();
    world.assert_empty();
}

#[test]
fn a_client_that_stops_reading_delays_nobody_else() {
    let world = World::with(&faulty("f", "plain", ""));
    let daemon = world.serve();
    let mut other = daemon.unix();
    other.text("f_echo", json!({}));
    // Answers of 64 MiB in all that nobody reads.
    let deaf = std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap();
    deaf.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    let text = "x".repeat(1 << 20);
    use std::io::Write;
    writeln!(&deaf, "MCP-GATEWAY 1 {{}}\n{hello}").unwrap();
    for id in 1..64 {
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"f_echo","arguments":{{"text":"{text}"}}}}}}"#
        );
        if writeln!(&deaf, "{call}").is_err() {
            break;
        }
    }
    for n in 0..50 {
        let nonce = n.to_string();
        assert_eq!(other.text("f_echo", json!({"text": nonce})), nonce);
    }
}
