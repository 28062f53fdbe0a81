//! The README's first config: `npx`, which installs the server at the first call.
//!
//! Needs node, and for one test the package registry.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpSocket;

use crate::harness::World;

const PACKAGE: &str = "@modelcontextprotocol/server-filesystem@2026.8.31";

/// Where npm keeps what it has installed: in the server's own home.
const CACHE: &str = ".local/state/mcp-gateway/backends/filesystem/.npm/_cacache";

/// The config of the README, with a cache that is empty.
fn world(env: &str, timeouts: &str) -> World {
    let config = format!(
        "servers:
  filesystem:
    command: npx
    args: [\"-y\", \"{PACKAGE}\", \"{{DIR}}/files\"]
    env: {{npm_config_update_notifier: \"false\"{env}}}
    {timeouts}
"
    );
    let world = World::new(&config);
    std::fs::create_dir(world.path("files")).unwrap();
    world
}

/// Calls and waits for the answer; a sign of life comes at least every two seconds, or so.
fn watched_call(world: &World, tool: &str) -> (serde_json::Value, usize) {
    let mut client = world.stdio();
    let id = client.start_call(tool, json!({"path": world.path("files")}));
    let mut last = Instant::now();
    let mut signs = 0;
    loop {
        let message = client.wait("a sign of life", |_| true).json();
        let silent = last.elapsed();
        assert!(silent < Duration::from_secs(3), "not a word for {silent:?}: {message}");
        last = Instant::now();
        if message["id"] == id {
            return (message, signs);
        }
        if message["method"] == "notifications/progress" {
            assert_eq!(message["params"]["progressToken"], id, "{message}");
            let text = message["params"]["message"].as_str().unwrap();
            assert!(text.contains("starting backend \"filesystem\""), "{text}");
            signs += 1;
        }
    }
}

#[test]
fn the_first_call_installs_the_server_and_works() {
    let world = world("", "timeouts: {start: 3m, call: 3m}");
    world.write("files/here.txt", "");
    // By its own name, as the seed had it.
    let (answer, signs) = watched_call(&world, "list_directory");
    let text = answer["result"]["content"][0]["text"].as_str();
    assert_eq!(text, Some("[FILE] here.txt"), "{answer}");
    assert!(world.path(CACHE).is_dir(), "the cache was not ours");
    assert!(signs > 0, "it was installed within a second?");
    // The second time there is nothing to install, and the name is known.
    let (answer, _) = watched_call(&world, "filesystem_list_directory");
    let text = answer["result"]["content"][0]["text"].as_str();
    assert_eq!(text, Some("[FILE] here.txt"), "{answer}");
    world.assert_empty();
}

#[test]
fn without_a_registry_npms_words_are_the_answer() {
    // Bound and not listened on: nobody else gets it, and whoever connects is refused.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = closed.local_addr().unwrap().port();
    let env = format!(
        ", npm_config_registry: \"http://127.0.0.1:{port}/\", npm_config_fetch_retries: \"0\""
    );
    let world = world(&env, "sandbox: {network: host}");
    let began = Instant::now();
    for tool in ["list_directory", "filesystem_list_directory"] {
        let (answer, _) = watched_call(&world, tool);
        let text = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(text.contains("\"filesystem\"") && text.contains("npm error"), "{text}");
        assert!(text.contains("ECONNREFUSED"), "{text}");
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    // The same from the shell.
    let output = world.run(&["call", "list_directory"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(text.contains("ECONNREFUSED"), "{text}");
    world.assert_empty();
}
