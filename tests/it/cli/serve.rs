//! `serve`: where it listens and where it refuses to; and secrets, which no verb tells.

use std::{fs, net::TcpListener};

use serde_json::json;

use super::{run, run_with};
use crate::harness::{Client, World, faulty};

const CANARY: &str = "canary-5f0c1a";

#[test]
fn an_open_address_is_refused() {
    let world = World::new("");
    for host in ["0.0.0.0", "::", "[::]", "192.0.2.1"] {
        let did = run(&world, &["serve", "--host", host, "--port", "0"]);
        assert_eq!((did.code, did.out.as_str()), (77, ""), "{host}: {}", did.err);
        for word in [host, "--insecure-no-auth", "127.0.0.1", "--socket"] {
            assert!(did.err.contains(word), "{word} in {}", did.err);
        }
    }
}

#[test]
fn a_busy_port_is_named() {
    let world = World::new("");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let did = run(&world, &["serve", "--port", &port]);
    assert_eq!((did.code, did.out.as_str()), (69, ""), "{}", did.err);
    let last = did.err.lines().last().unwrap();
    assert!(last.contains(&format!("port {port}")) && last.contains("in use"), "{}", did.err);
}

#[test]
fn a_socket_that_cannot_be_made_is_named() {
    let world = World::new("");
    let file = world.write("precious", "kept");
    let path = file.to_str().unwrap();
    let did = run(&world, &["serve", "--no-tcp", "--socket", path]);
    assert_eq!(did.code, 69, "{}", did.err);
    assert!(did.err.contains(path) && did.err.contains("no socket of ours"), "{}", did.err);
    assert_eq!(world.read("precious"), "kept");
}

/// A world whose backend has a secret in its environment, from the config and from ours.
fn with_secrets(mode: &str) -> World {
    let env = format!("env: {{CONFIGURED: {CANARY}-1, TAKEN: \"${{TOKEN}}\"}}");
    World::with(&(faulty("f", mode, &env) + &faulty("dead", "exit-at-once", &env)))
        .env("TOKEN", &format!("{CANARY}-2"))
}

#[test]
fn no_verb_tells_secrets() {
    let world = with_secrets("plain");
    let token = format!("{CANARY}-2");
    let env = [("TOKEN", token.as_str())];
    let verbs: [&[&str]; 13] = [
        &["check"],
        &["check", "--print"],
        &["check", "--json"],
        &["list"],
        &["list", "--json"],
        &["list", "--tools"],
        &["list", "--tools", "--json"],
        &["call", "f_echo", "{}"],
        &["call", "dead_echo"],
        &["call", "_dead_connect", "--json"],
        &["call", "nope"],
        &["call", "gateway_status", "--json"],
        &["schema"],
    ];
    for verb in verbs {
        for level in ["error", "trace"] {
            let did = run_with(&world, &[verb, &["--log", level]].concat(), &env);
            let told = format!("{}{}", did.out, did.err);
            assert!(!told.contains(CANARY), "{verb:?}: {told}");
        }
    }
    // Nor does one that complains about the very place.
    world.write(
        "bad.yaml",
        &format!(
            "servers:\n  f: {{command: x, env: {{A: [{CANARY}]}}}}\n  g: {{command: x, envv: {{A: {CANARY}}}}}\n"
        ),
    );
    for verb in [&["check"][..], &["check", "--json"], &["list"], &["serve"], &["stdio"]] {
        let did = run_with(&world, &[verb, &["-c", "bad.yaml"]].concat(), &env);
        assert_eq!(did.code, 78);
        let told = format!("{}{}", did.out, did.err);
        assert!(!told.contains(CANARY), "{verb:?}: {told}");
    }
}

#[test]
fn the_log_tells_no_secrets_at_any_level() {
    for format in ["text", "json"] {
        let world = with_secrets("env");
        let daemon = world.serve_with(&["--log", "trace", "--log-format", format]);
        let mut client = daemon.http();
        client.tools();
        client.failure("dead_echo", json!({}));
        // The backend itself has them, and what it answers is its own business...
        let env = client.text("f_env", json!({}));
        assert!(env.contains(&format!("{CANARY}-1")) && env.contains(&format!("{CANARY}-2")));
        client.status();
        let mut framed = daemon.unix();
        framed.text("f_echo", json!({"text": "hello"}));
        let mut daemon = daemon;
        daemon.running.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(daemon.running.ended().success());
        // ... but the log has heard neither.
        let log = daemon.running.log();
        assert!(log.lines().count() > 10, "{log}");
        let leaks: Vec<&str> = log.lines().filter(|line| line.contains(CANARY)).collect();
        assert!(leaks.is_empty(), "{leaks:#?}");
    }
}

#[test]
fn the_cache_keeps_no_secrets() {
    let world = with_secrets("plain");
    world.stdio().tools();
    let mut folders = vec![world.path("cache")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            assert!(!text.contains(CANARY), "{}", path.display());
        }
    }
    assert!(files > 0, "the cache is empty");
}
