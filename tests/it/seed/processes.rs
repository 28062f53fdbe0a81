//! 34–50: processes, sessions, and what one sees of them.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::harness::{Client, World, eventually, example, faulty};

#[test]
fn nothing_is_waited_for_without_a_limit() {
    let servers = [
        faulty("init", "missing-init", "timeouts: {start: 1s, stop: 1s}"),
        faulty("call", "hang-call", "timeouts: {call: 1s}"),
    ];
    let world = World::with(&servers.concat());
    let mut client = world.stdio();
    let began = Instant::now();
    let answer = client.call("_init_connect", json!({}));
    assert!(
        answer["result"]["structuredContent"]["reason"]
            .as_str()
            .unwrap()
            .contains("timeouts.start"),
        "{answer}"
    );
    assert!(client.failure("call_hang", json!({})).contains("timeouts.call"));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_slow_call_delays_no_other() {
    let world = World::with(&[faulty("f", "slow", ""), faulty("g", "plain", "")].concat());
    let mut client = world.stdio();
    client.text("f_echo", json!({}));
    client.text("g_echo", json!({}));
    let slow = client.start_call("f_sleep", json!({"ms": 3000, "every": 3000}));
    client.notice("notifications/progress");
    let began = Instant::now();
    assert!(client.ask("ping", json!({}))["result"].is_object());
    for tool in ["f_echo", "g_echo"] {
        assert_eq!(client.text(tool, json!({"text": "meanwhile"})), "meanwhile");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    client.response(slow).result();
}

#[test]
fn the_first_call_after_a_backends_death_works() {
    let world = World::with(&faulty("f", "counter", ""));
    let mut client = world.stdio();
    assert_eq!(client.text("f_next", json!({})), "1");
    assert_eq!(client.text("f_next", json!({})), "2");
    let pid = world.child();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    client.gateway().logged("ended: signal: 9");
    // A new process, by its count.
    assert_eq!(client.text("f_next", json!({})), "1");
}

#[test]
fn errors_and_failed_starts_leave_no_process_behind() {
    let servers = [
        faulty("e", "error-data", ""),
        faulty("x", "exit-at-once", "discover: placeholder"),
        faulty("h", "missing-init", "discover: placeholder, timeouts: {start: 300ms, stop: 200ms}"),
    ];
    let world = World::with(&servers.concat());
    let mut client = world.stdio();
    let pid = client.text("e_pid", json!({}));
    for _ in 0..20 {
        client.failure("e_fail", json!({}));
    }
    for _ in 0..5 {
        client.call("_x_connect", json!({}));
        client.call("_h_connect", json!({}));
    }
    assert_eq!(client.text("e_pid", json!({})), pid);
    eventually("one process", || (world.children().len() == 1).then_some(()));
}

#[test]
fn connects_at_once_start_one_process() {
    let world = World::with(&faulty("f", "plain", "discover: placeholder"));
    let daemon = world.serve();
    let mut clients = [daemon.unix(), daemon.sse(), daemon.unix(), daemon.sse(), daemon.unix()];
    let ids: Vec<u64> =
        clients.iter_mut().map(|client| client.start_call("_f_connect", json!({}))).collect();
    for (client, id) in clients.iter_mut().zip(ids) {
        assert!(client.response(id).result().contains("f_echo"));
    }
    assert_eq!(world.children().len(), 1);
    assert_eq!(clients[0].instance("f")["starts"], 1);
}

#[test]
fn a_running_call_is_never_idle() {
    let world = World::new(&format!("idle_timeout: 200ms\nservers:\n{}", faulty("f", "slow", "")));
    let daemon = world.serve();
    let mut client = daemon.sse();
    assert_eq!(client.text("f_sleep", json!({"ms": 1500, "every": 2000})), "slept 1500 ms");
    eventually("the idle backend to stop", || world.children().is_empty().then_some(()));
}

#[test]
fn an_idle_timeout_is_checked_and_exact() {
    let world = World::new("idle_timeout: abc\n");
    let output = world.run(&["stdio"]);
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("gateway.yaml:1:15: idle_timeout: `abc` is no duration"), "{text}");
    let world = World::new(&format!("idle_timeout: 1s\nservers:\n{}", faulty("f", "plain", "")));
    let mut client = world.stdio();
    client.text("f_echo", json!({}));
    let began = Instant::now();
    eventually("the idle backend to stop", || world.children().is_empty().then_some(()));
    let took = began.elapsed();
    assert!((900..2500).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn no_signal_leaves_a_backend_behind() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let keys = "timeouts: {stop: 500ms}";
        let world = World::with(&faulty("f", "ignore-term,grandchild leave", keys));
        let mut client = world.stdio();
        client.text("f_grandchildren", json!({}));
        assert_eq!(world.children().len(), 3);
        client.gateway().signal(signal);
        assert_eq!(client.gateway().ended().code(), Some(0), "{signal}");
        world.assert_empty_now();
    }
}

#[test]
fn ctrl_c_ends_stdio() {
    let world = World::with(&faulty("f", "plain", ""));
    let mut client = world.stdio();
    client.text("f_echo", json!({}));
    let began = Instant::now();
    client.gateway().signal(Signal::SIGINT);
    assert_eq!(client.gateway().ended().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    world.assert_empty_now();
}

#[test]
fn sigterm_ends_serve_with_an_open_sse_client() {
    let world = World::with(&faulty("f", "plain", ""));
    let mut daemon = world.serve();
    let mut client = daemon.sse();
    client.text("f_echo", json!({}));
    let began = Instant::now();
    daemon.running.signal(Signal::SIGTERM);
    assert_eq!(daemon.running.ended().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    client.rest();
}

#[test]
fn a_dead_backend_is_not_called_connected() {
    let world = World::with(&faulty("f", "die-mid-call", ""));
    let mut client = world.stdio();
    client.text("f_echo", json!({}));
    assert_eq!(client.status()["servers_connected"], json!(["f"]));
    client.failure("f_die", json!({}));
    assert_eq!(client.status()["servers_connected"], json!([]));
    let instance = client.instance("f");
    assert_eq!(instance["state"], "failed", "{instance}");
    assert!(instance["trouble"].as_str().unwrap().contains("about to die"), "{instance}");
}

#[test]
fn the_caller_learns_why_a_backend_fails() {
    let servers = [
        "  missing: {command: no-such-program}\n".to_owned(),
        faulty("key", "exit-at-once", ""),
        faulty("old", "version 1999-12-31", "timeouts: {stop: 300ms}"),
    ];
    let world = World::with(&servers.concat());
    let mut client = world.stdio();
    for (server, words) in
        [("missing", "no program"), ("key", "missing API key"), ("old", "1999-12-31")]
    {
        let answer = client.call(&format!("_{server}_connect"), json!({}));
        let told = &answer["result"]["structuredContent"];
        assert_eq!(told["error"], format!("Failed to connect to {server}"));
        assert!(told["reason"].as_str().unwrap().contains(words), "{told}");
        assert_eq!(answer["result"]["isError"], true);
    }
}

#[test]
fn clients_share_one_set_of_backends() {
    let world = World::with(&[faulty("f", "counter", ""), faulty("g", "plain", "")].concat());
    let daemon = world.serve();
    let mut counts = Vec::new();
    let (mut unix, mut http, mut sse) = (daemon.unix(), daemon.http(), daemon.sse());
    let clients: [&mut dyn Client; 3] = [&mut unix, &mut http, &mut sse];
    for client in clients {
        counts.push(client.text("f_next", json!({})));
        client.text("g_echo", json!({}));
    }
    assert_eq!(counts, ["1", "2", "3"]);
    assert_eq!(world.children().len(), 2);
}

#[test]
fn sessions_can_have_backends_of_their_own() {
    let world = World::with(&faulty("f", "counter", "share: session"));
    let daemon = world.serve();
    let (mut first, mut second, mut third) = (daemon.unix(), daemon.sse(), daemon.http());
    for n in 1..4 {
        for client in [&mut first as &mut dyn Client, &mut second, &mut third] {
            assert_eq!(client.text("f_next", json!({})), n.to_string());
        }
    }
    assert_eq!(world.children().len(), 3);
    // And they go with their session.
    drop(first);
    eventually("its backend's end", || (world.children().len() == 2).then_some(()));
    third.twin().send("DELETE", "/mcp", None);
    eventually("its backend's end", || (world.children().len() == 1).then_some(()));
    assert_eq!(second.text("f_next", json!({})), "4");
}

#[test]
fn posts_share_a_connection_and_log_no_trouble() {
    let world = World::with(&example("e", "echo", "", ""));
    let daemon = world.serve();
    let mut client = daemon.http();
    for n in 0..50 {
        assert_eq!(client.text("e_echo", json!({"text": n.to_string()})), n.to_string());
    }
    assert_eq!(client.connections, 1);
    let mut sse = daemon.sse();
    sse.text("e_echo", json!({"text": "x"}));
    let log = daemon.running.log();
    for words in ["panicked", "ERROR", "WARN", "Traceback"] {
        assert!(!log.contains(words), "{words} in {log}");
    }
}

#[test]
fn large_bodies_and_early_requests_are_answered() {
    let world = World::with(&faulty("f", "plain", ""));
    let daemon = world.serve();
    let text = "0123456789abcdef".repeat(5 << 16);
    let (mut unix, mut http, mut sse, mut stdio) =
        (daemon.unix(), daemon.http(), daemon.sse(), world.stdio());
    let clients: [&mut dyn Client; 4] = [&mut unix, &mut http, &mut sse, &mut stdio];
    for client in clients {
        let answer = client.text("f_echo", json!({ "text": text }));
        assert!(answer == text, "{} of {} bytes", answer.len(), text.len());
    }
    for mut client in [daemon.raw_unix("{}"), daemon.raw_sse(), world.raw_stdio(&[])] {
        let answer = client.ask("tools/list", json!({}));
        let why = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(why.contains("initialize"), "{why}");
    }
}

#[test]
fn one_sees_what_runs_who_called_what_and_what_takes_long() {
    let world = World::with(&faulty("f", "slow-start 1.5", ""));
    let daemon = world.serve();
    let mut client = daemon.unix();
    let id = client.start_call("f_echo", json!({"text": "secret words"}));
    // A sign of life, though nobody has met this backend before.
    client.notice("notifications/progress");
    client.response(id).result();
    let status = client.status();
    assert_eq!(status["servers_connected"], json!(["f"]));
    for key in ["uptime_s", "plugins", "servers_configured", "tools_total", "idle_timeout"] {
        assert!(status[key].is_u64(), "{key} in {status}");
    }
    assert!(client.instance("f")["pid"].is_i64());
    let line = daemon.running.logged("audit");
    let uid = format!("uid={}", nix::unistd::geteuid());
    for words in ["tools/call", "server=\"f\"", "echo", uid.as_str(), "ok", "ms="] {
        assert!(line.contains(words), "{words} in {line}");
    }
    assert!(!daemon.running.log().contains("secret words"), "arguments are not logged");
}

#[test]
fn the_log_is_as_loud_as_one_wants_and_json_where_one_wants() {
    let world = World::with(&faulty("f", "plain", ""));
    let mut client = world.raw_stdio(&["--log", "info,audit=off"]).opened();
    client.text("f_echo", json!({}));
    client.close();
    client.gateway().ended();
    let log = client.gateway().log();
    assert!(log.contains("started") && !log.contains("tools/call"), "{log}");
    let mut client = world.raw_stdio(&["--log-format", "json"]).opened();
    client.text("f_echo", json!({}));
    let line = client.gateway().logged("tools/call");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["name"], "echo", "{line}");
    assert_eq!(line["outcome"], "ok", "{line}");
}
