//! How a backend's era is found out, kept, and found out again; and who gets which child.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{TRACE, modern, parsed, reference};
use crate::harness::{Client, Daemon, World, eventually, faulty};

fn traced(world: &World, method: &str) -> usize {
    world.read("traces/all").matches(&format!("\"method\":\"{method}\"")).count()
}

fn stop(mut daemon: Daemon, world: &World) {
    daemon.running.signal(Signal::SIGTERM);
    assert!(daemon.running.ended().success());
    drop(daemon);
    world.assert_empty();
}

#[test]
fn a_backend_that_says_nothing_to_discovery_is_asked_once_in_all_its_lives() {
    let world = World::with(&faulty("f", "unknown", TRACE));
    let daemon = world.serve();
    assert_eq!(modern(daemon.raw_http("/mcp")).text("f_echo", json!({"text": "x"})), "x");
    // The child that was asked was no use any more.
    assert_eq!((traced(&world, "server/discover"), traced(&world, "initialize")), (1, 1));
    assert_eq!(world.children().len(), 1);
    stop(daemon, &world);
    let daemon = world.serve();
    assert_eq!(daemon.unix().text("f_echo", json!({"text": "x"})), "x");
    assert_eq!((traced(&world, "server/discover"), traced(&world, "initialize")), (1, 2));
}

#[test]
fn a_backend_that_refuses_discovery_in_its_own_way_is_initialized() {
    for mode in ["unknown -32000", "unknown -32602", "plain", "initialize-first"] {
        let world = World::with(&faulty("f", mode, TRACE));
        let daemon = world.serve();
        assert_eq!(modern(daemon.raw_http("/mcp")).text("f_echo", json!({"text": "x"})), "x");
        assert_eq!(
            (traced(&world, "server/discover"), traced(&world, "initialize")),
            (1, 1),
            "{mode}"
        );
        kill(Pid::from_raw(world.child()), Signal::SIGKILL).unwrap();
        world.gone_soon(0);
        // The next child is not asked what is known.
        eventually("another child", || {
            daemon.unix().call("f_echo", json!({"text": "y"}))["result"].is_object().then_some(())
        });
        assert_eq!(
            (traced(&world, "server/discover"), traced(&world, "initialize")),
            (1, 2),
            "{mode}"
        );
        stop(daemon, &world);
        let daemon = world.serve();
        assert_eq!(daemon.unix().text("f_echo", json!({"text": "x"})), "x");
        assert_eq!(traced(&world, "server/discover"), 1, "{mode}: remembered with the catalog");
    }
}

#[test]
fn the_probe_waits_for_a_backend_that_is_slow_to_start() {
    // Longer than it may be silent once it has read the question.
    let world = World::with(&faulty("f", "slow-start,modern 6", TRACE));
    let daemon = world.serve();
    assert_eq!(daemon.unix().text("f_echo", json!({"text": "x"})), "x");
    assert_eq!((traced(&world, "server/discover"), traced(&world, "initialize")), (1, 0));
}

/// What the backend says that its era is, to a legacy and to a modern client.
fn era(daemon: &Daemon, path: &str) -> [String; 2] {
    let tool = if path == "/mcp" { "f_era" } else { "era" };
    let legacy = daemon.raw_http(path).opened().text(tool, json!({}));
    [legacy, modern(daemon.raw_http(path)).text(tool, json!({}))]
}

#[test]
fn who_speaks_both_serves_the_aggregate_in_the_modern_era_and_its_own_clients_in_theirs() {
    let world = World::with(&faulty("f", "pinned", TRACE));
    let daemon = world.serve();
    assert_eq!(era(&daemon, "/mcp"), ["modern", "modern"]);
    assert_eq!(traced(&world, "initialize"), 0);
    assert_eq!(world.children().len(), 1);
    assert_eq!(era(&daemon, "/mcp/f"), ["legacy", "modern"]);
    // One child for each era, and no more.
    assert_eq!(world.children().len(), 2);
    assert_eq!(traced(&world, "initialize"), 1);
    assert_eq!(era(&daemon, "/mcp/f"), ["legacy", "modern"]);
    assert_eq!(era(&daemon, "/mcp"), ["modern", "modern"]);
    assert_eq!((world.children().len(), traced(&world, "initialize")), (2, 1));
    // Each child saw the messages of one era alone.
    let trace = world.read("traces/all");
    let enveloped = trace.lines().filter(|line| line.contains("clientCapabilities"));
    assert!(enveloped.clone().count() > 0);
    assert!(enveloped.clone().all(|line| !line.contains("\"initialize\"")), "{trace}");
}

#[test]
fn the_reference_backend_of_both_eras_serves_each_client_as_it_is() {
    let world = World::with(&reference("r", "dual", ""));
    let daemon = world.serve();
    let said = |answer: &Value| parsed(answer)["protocolVersion"].clone();
    let mut direct = daemon.raw_http("/mcp/r").opened();
    assert_eq!(said(&direct.call("whoami_meta", json!({}))), "2025-11-25");
    let mut whole = daemon.http();
    assert_eq!(said(&whole.call("r_whoami_meta", json!({}))), "2026-07-28");
    for (path, tool) in [("/mcp", "r_whoami_meta"), ("/mcp/r", "whoami_meta")] {
        let answer = modern(daemon.raw_http(path)).call(tool, json!({}));
        assert_eq!(said(&answer), "2026-07-28", "{path}");
    }
}

#[test]
fn a_modern_backend_serves_a_legacy_client_on_its_own_endpoint() {
    for servers in [reference("f", "modern", ""), faulty("f", "modern", TRACE)] {
        let world = World::with(&servers);
        let daemon = world.serve();
        for mut client in
            [daemon.raw_unix(r#"{"server":"f"}"#), world.raw_stdio(&["--server", "f"])]
        {
            let answer = client.initialize(json!({})).json();
            let result = &answer["result"];
            assert_eq!(result["protocolVersion"], "2025-11-25", "{answer}");
            assert!(result["serverInfo"]["name"].is_string(), "{answer}");
            assert!(result["capabilities"]["tools"].is_object(), "{answer}");
            for modern in ["resultType", "supportedVersions", "ttlMs", "cacheScope"] {
                assert!(result.get(modern).is_none(), "{modern}: {answer}");
            }
            assert!(client.ask("ping", json!({}))["result"].is_object());
            let tools = client.ask("tools/list", json!({}));
            assert!(tools["result"].get("ttlMs").is_none(), "{tools}");
            let answer = client.call("echo", json!({"text": "x"}));
            assert_eq!(super::text(&answer), "x");
            assert!(answer["result"].get("resultType").is_none(), "{answer}");
        }
        // Once, since not all who speak both eras say so.
        assert!(traced(&world, "initialize") <= 1);
    }
}

#[test]
fn a_backend_whose_era_has_changed_is_served_in_its_new_one() {
    let world = World::with(&faulty("f", "era-file {DIR}/traces/era", TRACE));
    world.write("traces/era", "legacy");
    let mut daemon = world.serve();
    assert_eq!(era(&daemon, "/mcp"), ["legacy", "legacy"]);
    for now in ["modern", "legacy", "both", "legacy", "modern"] {
        stop(daemon, &world);
        world.write("traces/era", now);
        daemon = world.serve();
        // What was kept with the catalog is wrong.
        assert_eq!(era(&daemon, "/mcp"), [now, now], "{now}");
        assert_eq!(era(&daemon, "/mcp/f"), [now, now], "{now}");
    }
}

#[test]
fn a_backend_that_changes_its_era_between_two_starts_is_met_anew() {
    let world = World::with(&faulty("f", "era-file {DIR}/traces/era", TRACE));
    world.write("traces/era", "modern");
    let daemon = world.serve();
    let mut legacy = daemon.unix();
    for (before, now) in [("modern", "legacy"), ("legacy", "modern"), ("modern", "legacy")] {
        assert_eq!(era(&daemon, "/mcp"), [before, before]);
        assert_eq!(legacy.text("f_era", json!({})), before);
        world.write("traces/era", now);
        for (pid, _) in world.children() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        world.gone_soon(0);
        eventually("the new era", || {
            (legacy.call("f_era", json!({}))["result"]["content"][0]["text"] == now).then_some(())
        });
    }
    assert_eq!(era(&daemon, "/mcp"), ["legacy", "legacy"]);
}

#[test]
fn who_discovers_and_then_initializes_is_served() {
    for mode in ["pinned", "era-file {DIR}/traces/era", "pinned,slow"] {
        let world = World::with(&faulty("f", mode, TRACE));
        world.write("traces/era", "modern");
        let daemon = world.serve();
        for (client, tool) in [
            (daemon.raw_unix("{}"), "f_era"),
            (world.raw_stdio(&[]), "f_era"),
            (daemon.raw_unix(r#"{"server":"f"}"#), "era"),
            (world.raw_stdio(&["--server", "f"]), "era"),
        ] {
            let mut client = modern(client);
            let found = client.ask("server/discover", json!({}));
            let versions = found["result"]["supportedVersions"].as_array().unwrap();
            assert!(versions.contains(&json!("2025-11-25")), "{found}");
            assert!(versions.contains(&json!("2026-07-28")), "{found}");
            let mut client = client.client;
            let answer = client.initialize(json!({})).json();
            assert_eq!(answer["result"]["protocolVersion"], "2025-11-25", "{answer}");
            let spoken = client.text(tool, json!({}));
            // By its own door in its own era if the backend has it.
            assert!(
                spoken == "modern" || tool == "era" && mode != "era-file {DIR}/traces/era",
                "{spoken}"
            );
            // A modern request on the same connection still is one.
            let mut client = modern(client);
            assert_eq!(client.text(tool, json!({})), "modern", "{mode}");
        }
    }
}

#[test]
fn a_legacy_backend_discovered_by_a_client_is_told_nothing_new() {
    let world = World::with(&faulty("f", "prompts,resources,log", TRACE));
    let daemon = world.serve();
    for (path, echo) in [("/mcp", "f_echo"), ("/mcp/f", "echo")] {
        let mut client = modern(daemon.raw_http(path));
        let found = client.ask("server/discover", json!({}));
        assert!(found["result"]["capabilities"]["tools"].is_object(), "{found}");
        assert_eq!(found["result"]["resultType"], "complete", "{found}");
        assert!(found["result"]["ttlMs"].is_u64(), "{found}");
        assert!(found["result"]["cacheScope"].is_string(), "{found}");
        assert!(found["result"].get("protocolVersion").is_none(), "{found}");
        assert_eq!(client.text(echo, json!({"text": "x"})), "x");
    }
    let trace = world.read("traces/all");
    assert!(
        !trace
            .lines()
            .filter(|line| !line.contains("server/discover"))
            .any(|line| line.contains("io.modelcontextprotocol/protocolVersion")),
        "{trace}"
    );
}
