//! Another config while sessions go on.

use std::{
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Client, Daemon, Framed, Http, World, eventually, faulty};

fn servers(b: &str) -> String {
    faulty("a", "plain", "") + &faulty("b", "slow", b)
}

fn reload(daemon: &Daemon) -> Value {
    let exchange = Http::over_unix(&daemon.socket, "/mcp").post("/reload", "");
    let body: Value = serde_json::from_str(&exchange.body).unwrap();
    assert_eq!(exchange.status, 200, "{body}");
    body
}

#[test]
fn only_what_changed_starts_anew_and_calls_in_flight_finish() {
    let world = World::with(&servers("env: {X: '1'}"));
    let daemon = world.serve();
    let mut client = daemon.unix();
    let (a, b) = (client.text("a_pid", json!({})), client.text("b_pid", json!({})));
    let slow = client.start_call("b_sleep", json!({"ms": 700, "every": 50}));
    client.notice("notifications/progress");
    world.write("gateway.yaml", &format!("servers:\n{}", servers("env: {X: '2'}")));
    let told = reload(&daemon);
    assert_eq!((&told["changed"], &told["unchanged"]), (&json!(["b"]), &json!(1)), "{told}");
    assert_eq!(client.text("a_pid", json!({})), a);
    let next = client.text("b_pid", json!({}));
    assert_ne!(next, b, "the call after the reload is served by the new entry");
    let answer = client.response(slow);
    assert!(answer.result().contains("slept 700 ms"), "{answer:?}");
    eventually("the old one's end", || (world.children().len() == 2).then_some(()));
    assert_eq!(client.text("b_pid", json!({})), next);
    // The same again: nothing is touched.
    assert_eq!(reload(&daemon)["unchanged"], 2);
    assert_eq!(client.text("b_pid", json!({})), next);
    // Without it its calls are calls of nothing.
    world.write("gateway.yaml", &format!("servers:\n{}", faulty("a", "plain", "")));
    assert_eq!(reload(&daemon)["removed"], json!(["b"]));
    assert!(client.failure("b_pid", json!({})).contains("Unknown tool"));
    eventually("its end", || (world.children().len() == 1).then_some(()));
}

#[test]
fn a_file_with_errors_changes_nothing_and_says_all_of_them() {
    let world = World::with(&servers(""));
    let daemon = world.serve();
    let mut client = daemon.unix();
    let a = client.text("a_pid", json!({}));
    world.write("gateway.yaml", "servers: {a: {comand: x}}\nidle_timeout: never\n");
    let socket = daemon.socket.to_str().unwrap();
    let output = world.run(&["reload", "--socket", socket]);
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    for words in ["comand: unknown key", "idle_timeout:", "the one before stays in force"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    daemon.running.logged("not reloaded:");
    assert_eq!(client.text("a_pid", json!({})), a);
    world.write("gateway.yaml", &format!("servers:\n{}", servers("")));
    let output = world.run(&["reload", "--socket", socket]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "reloaded: 2 unchanged\n");
}

#[test]
fn live_sessions_see_what_is_new_and_no_more_than_their_role() {
    let uid = nix::unistd::geteuid();
    let config = |servers: &str, role: &str| {
        format!(
            "servers:\n{servers}roles: {{some: ['a_*'], most: ['a_*', 'b_*']}}\n\
             access: [{{user: {uid}, role: {role}}}]\n"
        )
    };
    let (one, two) = (faulty("a", "plain", ""), servers(""));
    let world = World::new(&config(&one, "most"));
    let daemon = world.serve();
    let mut client = daemon.unix();
    let mut http = daemon.http();
    let has = |tools: &[String], name: &str| tools.iter().any(|tool| tool == name);
    let tools = client.tools();
    assert!(has(&tools, "a_echo") && !has(&tools, "b_echo"), "{tools:?}");
    http.tools();

    world.write("gateway.yaml", &config(&two, "most"));
    daemon.running.signal(Signal::SIGHUP);
    client.notice("notifications/tools/list_changed");
    assert!(has(&client.tools(), "b_echo"));
    assert!(has(&http.tools(), "b_echo"), "the session over http goes on");
    client.text("b_echo", json!({"text": "x"}));

    world.write("gateway.yaml", &config(&two, "some"));
    reload(&daemon);
    client.notice("notifications/tools/list_changed");
    for tools in [client.tools(), http.tools()] {
        assert!(has(&tools, "a_echo") && !has(&tools, "b_echo"), "{tools:?}");
    }
    assert_eq!(client.failure("b_echo", json!({})), "Unknown tool: b_echo");

    // No role at all: nothing is left, and the session is.
    world.write(
        "gateway.yaml",
        &config(&two, "some").replace(&format!("user: {uid}"), "user: 54999"),
    );
    reload(&daemon);
    assert_eq!(client.ask("ping", json!({}))["result"], json!({}));
    let tools = client.tools();
    // Our own uid needs no rule where it is no system service.
    assert!(has(&tools, "b_echo"), "{tools:?}");
}

#[test]
fn the_service_manager_hears_of_a_reload() {
    let world = World::new("timeouts: {exit: 10s}\nservers: {}\n");
    let activator = world.activator(&[]);
    let reload = || Http::over_unix(&activator.socket, "/mcp").post("/reload", "").status;
    assert_eq!(reload(), 200);
    let told = activator.hears("RELOADING=1");
    assert!(told.contains("MONOTONIC_USEC="), "{told}");
    let ready = || activator.told().iter().filter(|told| told.contains("READY=1")).count();
    eventually("ready again", || (ready() == 2).then_some(()));
    world.write("gateway.yaml", "servers: []\n");
    assert_eq!(reload(), 422);
    let told = activator.hears("not reloaded");
    assert!(told.contains("READY=1") && told.contains("the one before is in force"), "{told}");
}

#[test]
fn a_hundred_reloads_under_load_lose_no_call_and_leave_no_orphan() {
    const RELOADS: usize = 100;
    let entry = |n: usize| servers(&format!("env: {{N: '{n}'}}, timeouts: {{idle: 60s}}"));
    let world = World::with(&entry(0));
    let daemon = world.serve_with(&["--log", "info,audit=off"]);
    let over = AtomicBool::new(false);
    let calls = AtomicUsize::new(0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|n| {
                let stream = UnixStream::connect(&daemon.socket).unwrap();
                let (over, calls) = (&over, &calls);
                scope.spawn(move || {
                    let mut client = Framed::over_unix(stream);
                    client.send("MCP-GATEWAY 1");
                    let mut client = client.opened();
                    while !over.load(Ordering::Relaxed) {
                        let tool = if n % 2 == 0 { "b_echo" } else { "a_echo" };
                        let word = calls.fetch_add(1, Ordering::Relaxed).to_string();
                        assert_eq!(client.text(tool, json!({"text": word})), word);
                    }
                })
            })
            .collect();
        let version = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    for _ in 0..RELOADS / 10 {
                        let n = version.fetch_add(1, Ordering::Relaxed);
                        // Between calls, not before them.
                        let called = || calls.load(Ordering::Relaxed) >= 2 * n;
                        eventually("calls to be made", || called().then_some(()));
                        // Whole or not at all, as an editor writes it.
                        let new =
                            world.write(&format!("new{n}"), &format!("servers:\n{}", entry(n)));
                        std::fs::rename(new, world.path("gateway.yaml")).unwrap();
                        reload(&daemon);
                    }
                });
            }
        });
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
    });
    assert!(calls.load(Ordering::Relaxed) >= 2 * RELOADS - 2);
    eventually("all but one of each", || (world.children().len() <= 2).then_some(()));
    daemon.running.signal(Signal::SIGTERM);
    let mut daemon = daemon;
    assert!(daemon.running.ended().success());
    world.assert_empty();
}
