//! What strangers send: too much, too deep, not ours. It costs them, and nobody else.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Client, Framed, World, eventually, example, faulty};

const HELLO: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;

#[test]
fn the_same_progress_token_of_two_clients_is_two_tokens() {
    let world = World::with(&faulty("f", "slow", ""));
    let daemon = world.serve();
    let mut clients = [daemon.unix(), daemon.unix(), daemon.sse()];
    let ids: Vec<u64> = clients
        .iter_mut()
        .enumerate()
        .map(|(who, client)| {
            let arguments = json!({"ms": 600 + who, "every": 100});
            let meta = json!({"progressToken": "same"});
            let params = json!({"name": "f_sleep", "arguments": arguments, "_meta": meta});
            client.start("tools/call", params)
        })
        .collect();
    for (who, (client, id)) in clients.iter_mut().zip(ids).enumerate() {
        client.response(id).result();
        let heard: Vec<Value> =
            client.kept().iter().map(|message| message.json()["params"].clone()).collect();
        assert!(heard.len() >= 6, "{heard:?}");
        for params in heard {
            assert_eq!(params["progressToken"], "same");
            assert!(params["message"].is_string() || params["total"] == 600 + who, "{params}");
        }
    }
}

#[test]
fn nobody_cancels_or_answers_for_somebody_else() {
    let world = World::with(&faulty("f", "slow,elicit", "share: session"));
    let daemon = world.serve();
    let mut client = daemon.raw_unix("{}");
    client.initialize(json!({"elicitation": {}}));
    client.text("f_echo", json!({}));
    let sleep = client.start_call("f_sleep", json!({"ms": 800, "every": 100}));
    client.notice("notifications/progress");
    let ask = client.start_call("f_ask", json!({}));
    let question = client.notice("elicitation/create");
    let mut stranger = daemon.unix();
    for id in 0..20 {
        stranger.send(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        ));
        stranger.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"action":"stolen"}}}}"#));
    }
    assert!(stranger.ask("ping", json!({}))["result"].is_object());
    assert!(client.response(sleep).result().contains("slept 800 ms"));
    client.answer(&question, json!({"action": "decline"}));
    assert!(client.response(ask).result().contains("decline"));
}

#[test]
fn what_is_nested_too_deep_for_others_harms_nobody() {
    let world = World::with(&faulty("f", "plain", "timeouts: {call: 1s, stop: 500ms}"));
    let mut daemon = world.serve();
    let mut client = daemon.unix();
    client.text("f_echo", json!({}));
    let depth = 200_000;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        for line in [
            format!(r#"{{"jsonrpc":"2.0","id":77,"method":"ping","params":{{"x":{deep}}}}}"#),
            format!(
                r#"{{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{{"name":"f_echo","arguments":{deep}}}}}"#
            ),
            format!(r#"{{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{deep}}}"#),
            format!(
                r#"{{"jsonrpc":"2.0","id":77,"method":"completion/complete","params":{deep}}}"#
            ),
        ] {
            client.send(&line);
            client.wait("an answer", |message| {
                message.0.contains("77") || message.0.contains("error")
            });
        }
        client.send(&deep);
        client.wait("an error", |message| message.0.contains("\"error\""));
    }
    assert!(daemon.running.is_running());
    assert!(client.ask("ping", json!({}))["result"].is_object());
}

#[test]
fn a_line_that_is_not_utf_8_or_too_long_is_refused_and_the_session_goes_on() {
    let world = World::new("");
    let daemon = world.serve();
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    writeln!(stream, "MCP-GATEWAY 1 {{}}\n{HELLO}").unwrap();
    stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\xfe\"}\n").unwrap();
    let filler = vec![b' '; 1 << 20];
    for _ in 0..65 {
        stream.write_all(&filler).unwrap();
    }
    stream.write_all(b"\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}\n").unwrap();
    let mut said = String::new();
    while !said.contains("\"id\":2") {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).unwrap();
        assert!(n > 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    assert_eq!(said.lines().filter(|line| line.contains("\"error\"")).count(), 2, "{said}");
}

#[test]
fn too_many_requests_at_once_are_all_answered() {
    let world = World::with(&faulty("f", "slow", ""));
    let mut client = world.stdio();
    client.text("f_echo", json!({}));
    let ids: Vec<u64> =
        (0..400).map(|_| client.start_call("f_sleep", json!({"ms": 100, "every": 100}))).collect();
    let mut refused = 0;
    for id in ids {
        let answer = client.response(id).json();
        match answer["error"]["message"].as_str() {
            Some(text) => {
                assert!(text.contains("in flight"), "{text}");
                refused += 1;
            }
            None => assert_eq!(answer["result"]["content"][0]["text"], "slept 100 ms"),
        }
    }
    assert!(refused <= 144, "{refused} of 400");
}

#[test]
fn an_id_that_is_in_flight_is_not_taken_twice() {
    let world = World::with(&faulty("f", "slow", ""));
    let mut client = world.stdio();
    client.text("f_echo", json!({}));
    let call = |ms: u32| {
        format!(
            r#"{{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{{"name":"f_sleep","arguments":{{"ms":{ms}}}}}}}"#
        )
    };
    client.send(&call(500));
    client.send(&call(501));
    let mine = |message: &crate::harness::Msg| message.id().as_deref() == Some("\"x\"");
    let answers = [client.wait("one", mine), client.wait("other", mine)];
    let refused = answers.iter().filter(|answer| answer.0.contains("in flight already")).count();
    let slept = answers.iter().filter(|answer| answer.0.contains("slept 500 ms")).count();
    assert_eq!((refused, slept), (1, 1), "{answers:?}");
}

#[test]
fn http_that_is_not_ours_is_refused_with_the_right_status() {
    let world = World::with(&example("e", "echo", "", ""));
    let daemon = world.serve();
    let raw = || daemon.raw_http("/mcp");
    for (status, answer) in [
        (415, raw().header("content-type", "text/plain").begin(HELLO)),
        (406, raw().header("accept", "text/html").begin(HELLO)),
        (406, raw().header("accept", "application/json").begin(HELLO)),
        (400, raw().begin("{")),
        (413, raw().header("content-length", "209715200").begin(HELLO)),
        (404, raw().send("POST", "/nowhere", Some(HELLO))),
        (405, raw().send("PUT", "/mcp", Some(HELLO))),
        (405, raw().send("POST", "/sse", Some(HELLO))),
        (400, raw().header("host", "localhost\r\nhost: localhost").begin(HELLO)),
        (404, raw().header("mcp-session-id", "../../etc/passwd").begin(HELLO)),
    ] {
        assert_eq!(answer.status, status);
    }
    assert_eq!(daemon.http().text("e_echo", json!({"text": "well"})), "well");
}

#[test]
fn a_request_that_never_ends_holds_nothing_but_its_connection() {
    let world = World::with(&example("e", "echo", "", ""));
    let mut daemon = world.serve();
    let half: Vec<std::net::TcpStream> = (0..50)
        .map(|n| {
            let mut stream = std::net::TcpStream::connect(daemon.address).unwrap();
            let text = ["POST /mcp HTTP/1.1\r\nhost: loc", "M", "", "GET /sse HTTP/1.1\r\n"][n % 4];
            stream.write_all(text.as_bytes()).unwrap();
            stream
        })
        .collect();
    let mut client = daemon.http();
    assert_eq!(client.text("e_echo", json!({"text": "well"})), "well");
    let began = std::time::Instant::now();
    daemon.running.signal(Signal::SIGTERM);
    assert_eq!(daemon.running.ended().code(), Some(0));
    assert!(began.elapsed().as_secs() < 7, "{:?}", began.elapsed());
    drop(half);
}

#[test]
fn a_thousand_connections_that_come_and_go_leave_no_descriptor() {
    let world = World::with(&example("e", "echo", "", ""));
    let daemon = world.serve();
    daemon.unix().text("e_echo", json!({"text": "x"}));
    let count = || std::fs::read_dir(format!("/proc/{}/fd", daemon.running.pid())).unwrap().count();
    let calm = eventually("calm", || Some(count()));
    for n in 0..1000 {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        let text = ["", "M", "MCP-GATEWAY 1 {}\n", "GET / HTTP/1.1\r\n\r\n", "\0"][n % 5];
        let _ = stream.write_all(text.as_bytes());
    }
    eventually("every connection to be gone", || (count() <= calm).then_some(()));
    let sessions = daemon.unix().status()["sessions"].clone();
    assert_eq!(sessions, 1, "and every session with it");
}

#[test]
fn a_client_that_sends_faster_than_it_reads_gets_every_answer_in_the_end() {
    let world = World::with(&example("e", "echo", "", ""));
    let mut client: Framed = world.stdio();
    let text = "y".repeat(10_000);
    let ids: Vec<u64> =
        (0..200).map(|_| client.start_call("e_echo", json!({"text": text}))).collect();
    for id in ids {
        assert_eq!(client.response(id).json()["result"]["content"][0]["text"], text.as_str());
    }
}
