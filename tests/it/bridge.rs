//! `mcp-gateway-stdio`: a client that stays while daemons come and go.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener, process::CommandExt},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{sys::signal::Signal, unistd::geteuid};
use serde_json::json;

use crate::harness::{BRIDGE, Client, Daemon, Framed, World, eventually, faulty, skipped};

fn world() -> World {
    World::with(&(faulty("f", "counter", "") + &faulty("slow", "slow", "")))
}

/// What a client sees that notices nothing.
fn nothing_unasked(client: &mut Framed) {
    let kept = client.kept();
    assert!(kept.is_empty(), "{kept:?}");
}

fn end(mut daemon: Daemon, signal: Signal) {
    daemon.running.signal(signal);
    let status = daemon.running.ended();
    assert_eq!(status.success(), signal == Signal::SIGTERM);
}

#[test]
fn the_end_of_the_input_ends_what_it_began() {
    let world = world();
    let daemon = world.serve();
    let mut client = world.raw_bridge(&["--server", "slow"]).opened();
    assert_eq!(client.tools(), ["echo", "pid", "cancelled", "sleep"]);
    client.start_call("sleep", json!({"ms": 60_000}));
    eventually("the call", || (daemon.unix().instance("slow")["calls"] == 1).then_some(()));
    client.close();
    assert_eq!(client.gateway().ended().code(), Some(0));
    eventually("its end", || (daemon.unix().instance("slow")["calls"] != 1).then_some(()));
    let other = daemon.unix().status();
    assert_eq!(other["sessions"], 1, "{other}");
}

#[test]
fn what_is_piped_in_is_answered_before_its_end() {
    let world = world();
    let _daemon = world.serve();
    let mut client = world.raw_bridge(&[]);
    client.send(r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#);
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    client.send(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"f_echo","arguments":{"text":"piped"}}}"#);
    client.close();
    let all = client.rest();
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[1].result().contains("piped"));
    assert_eq!(client.gateway().ended().code(), Some(0));
}

#[test]
fn a_killed_daemon_costs_only_what_was_in_flight() {
    let world = world();
    let mut daemon = world.serve();
    let mut client = world.raw_bridge(&[]).opened();
    client.tools();
    assert_eq!(client.text("f_next", json!({})), "1");
    for _ in 0..3 {
        let call = json!({"name": "slow_sleep", "arguments": {"ms": 60_000}});
        let call = client.start("tools/call", call);
        eventually("the call", || (daemon.unix().instance("slow")["calls"] == 1).then_some(()));
        end(daemon, Signal::SIGKILL);
        let answer = client.response(call);
        assert!(answer.error().contains("outcome is unknown"), "{answer:?}");
        daemon = world.serve();
        // Its handshake is said again, and its answer is not the client's.
        assert_eq!(client.text("f_echo", json!({"text": "again"})), "again");
        assert_eq!(client.text("f_next", json!({})), "1", "nothing was sent twice");
        nothing_unasked(&mut client);
        assert_eq!(daemon.unix().status()["sessions"], 2);
    }
}

#[test]
fn a_call_waits_for_a_daemon_that_is_being_replaced() {
    let world = world();
    let daemon = world.serve();
    let mut client = world.raw_bridge(&[]).opened();
    client.text("f_echo", json!({}));
    end(daemon, Signal::SIGTERM);
    let call = client.start("tools/call", json!({"name": "f_echo", "arguments": {"text": "late"}}));
    let ping = client.start("ping", json!({}));
    let _daemon = world.serve();
    assert!(client.response(call).result().contains("late"));
    client.response(ping);
    nothing_unasked(&mut client);
}

#[test]
fn restarts_under_load_lose_no_call() {
    let world = world();
    let mut daemon = Some(world.serve());
    let mut client = world.raw_bridge(&[]).opened();
    let mut asked = 0;
    for _ in 0..4 {
        // Calls on their way all the time, a hundred of them after the signal at the least.
        let mut waiting: Vec<(u64, u32)> = Vec::new();
        let mut old = daemon.take().unwrap();
        for round in 0..200 {
            asked += 1;
            let text = asked.to_string();
            let params = json!({"name": "f_echo", "arguments": {"text": text}});
            waiting.push((client.start("tools/call", params), asked));
            if waiting.len() > 8 {
                let (id, number) = waiting.remove(0);
                let answer = client.response(id);
                assert!(answer.result().contains(&format!("\"{number}\"")), "{answer:?}");
            }
            if round == 50 {
                old.running.signal(Signal::SIGTERM);
                // The one listens only when the other has gone.
                old.running.ended();
                daemon = Some(world.serve());
            }
        }
        for (id, number) in waiting {
            let answer = client.response(id);
            assert!(answer.result().contains(&format!("\"{number}\"")), "{answer:?}");
        }
        nothing_unasked(&mut client);
    }
}

#[test]
fn who_asks_for_it_is_told_that_the_daemon_goes() {
    let world = world();
    let mut daemon = world.serve();
    let mut asked = daemon.raw_unix(r#"{"farewell":true}"#).opened();
    let mut other = daemon.unix();
    let call = json!({"name": "slow_sleep", "arguments": {"ms": 300}});
    let call = asked.start("tools/call", call);
    eventually("the call", || (other.instance("slow")["calls"] == 1).then_some(()));
    daemon.running.signal(Signal::SIGTERM);
    asked.notice("notifications/mcp-gateway/closing");
    // What is asked now is for the next daemon.
    let late = asked.start("ping", json!({}));
    assert_eq!(asked.response(late).json()["error"]["data"], json!({"started": false}));
    asked.response(call).result();
    let last = asked.rest().pop().and_then(|message| message.method());
    assert_eq!(last.as_deref(), Some("notifications/mcp-gateway/idle"));
    assert!(!other.rest().iter().any(|message| message.0.contains("notifications/mcp-gateway")));
    assert!(daemon.running.ended().success());
}

#[test]
fn subscriptions_and_changed_lists_live_on() {
    let servers = |more: &str| format!("servers:\n{}{more}", faulty("r", "resources", ""));
    let world = World::new(&servers(""));
    let daemon = world.serve();
    let mut client = world.raw_bridge(&[]).opened();
    let before = client.tools();
    client.ask("logging/setLevel", json!({"level": "warning"}));
    end(daemon, Signal::SIGTERM);
    world.write("gateway.yaml", &servers(&faulty("f", "plain", "")));
    let _daemon = world.serve();
    client.ask("ping", json!({}));
    client.notice("notifications/tools/list_changed");
    assert!(client.tools().len() > before.len());
    nothing_unasked(&mut client);
}

#[test]
fn a_modern_client_needs_no_handshake_again() {
    let world = world();
    let mut daemon = world.serve();
    let mut client = world.raw_bridge(&[]);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "it", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let listen = client.start(
        "subscriptions/listen",
        json!({"_meta": meta, "notifications": {"toolsListChanged": true}}),
    );
    client.notice("notifications/subscriptions/acknowledged");
    let sessions = daemon.unix().status()["sessions"].clone();
    for _ in 0..2 {
        let call = json!({"name": "f_echo", "arguments": {"text": "m"}, "_meta": meta});
        assert_eq!(client.ask("tools/call", call)["result"]["content"][0]["text"], "m");
        end(daemon, Signal::SIGKILL);
        daemon = world.serve();
        // It still listens, and is told so only once.
        eventually("the listener", || {
            (daemon.unix().status()["sessions"] == sessions).then_some(())
        });
    }
    for message in client.kept() {
        // What the daemon tells its listener is told; its second word of agreement is not.
        assert_eq!(message.method().as_deref(), Some("notifications/tools/list_changed"));
        assert!(message.0.contains(&format!("subscriptionId\":{listen}")), "{message:?}");
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn no_socket_says_how_to_get_one() {
    let world = World::new("").env("XDG_RUNTIME_DIR", "/nowhere");
    let output = world.run_bridge(&["--socket", "/nowhere/s"]);
    assert_eq!(output.status.code(), Some(69));
    let said = stderr(&output);
    for part in
        ["/nowhere/s", "systemctl enable --now", "systemctl --user enable --now", "--standalone"]
    {
        assert!(said.contains(part), "{said}");
    }
    for args in [&["--sever"][..], &["--server"], &["--standalone=1"], &["a", "b"], &["--role="]] {
        let output = world.run_bridge(args);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn without_a_gateway_it_can_be_one() {
    let world = World::with(&faulty("f", "plain", ""));
    let mut client = world.raw_bridge(&["--standalone", "--server=f"]).opened();
    assert_eq!(client.text("echo", json!({"text": "alone"})), "alone");
    client.close();
    assert_eq!(client.gateway().ended().code(), Some(0));
}

#[test]
fn a_refused_session_is_told_to_the_client() {
    let world = world();
    let _daemon = world.serve();
    let mut client = world.raw_bridge(&["nobody"]);
    let answer = client.initialize(json!({}));
    let said = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(said.contains("no backend named \"nobody\""), "{said}");
    assert_eq!(client.gateway().ended().code(), Some(77));
}

#[test]
fn the_project_is_the_clients() {
    let config = format!("servers:\n{}", faulty("f", "roots", "share: project"));
    let world = World::new(&config).env("CLAUDE_PROJECT_DIR", "/usr/share");
    let _daemon = world.serve();
    let mut client = world.raw_bridge(&[]).opened();
    client.text("f_echo", json!({}));
    let other = world.raw_bridge(&[]).opened().status();
    let instances = &other["servers"][0]["instances"];
    assert!(instances.to_string().contains("/usr/share"), "{other}");
}

/// As another user, from a place where that one may be.
fn as_nobody(world: &World, program: &str, args: &[&str]) -> Command {
    fs::set_permissions(world.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(program);
    command.args(args).current_dir("/").env_clear().uid(65534).gid(65534);
    command.stdin(Stdio::null());
    command
}

#[test]
fn who_may_not_is_told_what_an_administrator_has_to_do() {
    if !geteuid().is_root() {
        skipped("only root can be somebody else");
        return;
    }
    let world = world();
    let daemon = world.serve();
    let bridge = world.path("bridge");
    fs::copy(BRIDGE, &bridge).unwrap();
    let socket = daemon.socket.to_str().unwrap();
    let output =
        as_nobody(&world, bridge.to_str().unwrap(), &["--socket", socket]).output().unwrap();
    assert_eq!(output.status.code(), Some(77), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("usermod -aG mcp-gateway-users nobody"), "{said}");
}

#[test]
fn a_stranger_who_listens_is_told_nothing() {
    if !geteuid().is_root() {
        skipped("only root can be somebody else");
        return;
    }
    let world = World::new("");
    fs::set_permissions(world.path("traces"), fs::Permissions::from_mode(0o777)).unwrap();
    let socket = world.path("traces/s");
    let script = "import socket,sys\ns = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\n\
                  c, _ = s.accept()\nprint(len(c.recv(1)), flush=True)";
    let mut stranger =
        as_nobody(&world, "/usr/bin/python3", &["-c", script, socket.to_str().unwrap()]);
    let stranger = stranger.stdout(Stdio::piped()).spawn().unwrap();
    eventually("the socket", || socket.exists().then_some(()));
    let output = eventually("its listener", || {
        let output = world.run_bridge(&["--socket", socket.to_str().unwrap()]);
        (output.status.code() == Some(77)).then_some(output)
    });
    assert!(stderr(&output).contains("neither root nor you"), "{}", stderr(&output));
    assert_eq!(stranger.wait_with_output().unwrap().stdout, b"0\n");
}

#[test]
fn a_daemon_that_ends_every_connection_is_given_up() {
    let world = World::new("");
    let listener = UnixListener::bind(world.path("socket")).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let mut client = world.raw_bridge(&[]);
    let answer = client.initialize(json!({}));
    assert!(answer.error().contains("without a word"), "{answer:?}");
}

/// Private memory, in KiB: all of it, and what is not a file's. (Pages of a program that has just
/// been built count as private and dirty until they are on disk.)
fn private(pid: i32) -> (u64, u64) {
    let map = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |name: &str| -> u64 {
        let line = map.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (field("Private_Clean:") + field("Private_Dirty:"), field("Anonymous:"))
}

#[test]
fn it_is_small_and_quick() {
    let world = world();
    let _daemon = world.serve();
    world.raw_bridge(&[]).opened().tools();
    let mut times = Vec::new();
    let mut memory = (0, 0);
    for _ in 0..9 {
        let start = Instant::now();
        let mut client = world.raw_bridge(&[]).opened();
        client.tools();
        times.push(start.elapsed());
        for _ in 0..100 {
            client.text("f_echo", json!({"text": "x".repeat(1000)}));
        }
        memory = memory.max(private(client.gateway().pid()));
    }
    times.sort();
    println!(
        "first list after {:?}; private {} KiB, {} KiB of no file",
        times[4], memory.0, memory.1
    );
    // Of a build for debugging, on a machine that does other things too, the files' share and the
    // goal of 10 ms say little; the package's own suite holds it to them.
    assert!(memory.1 <= 1200, "{memory:?}");
    assert!(times[4] < Duration::from_millis(200), "{times:?}");
}
