//! The README's first config: `npx`, whose package is fetched at the first call; and `uvx`, and
//! `mcp-gateway fetch`.
//!
//! Needs node, uv (from tests/setup), and the package registries.

use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

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
            signs += usize::from(text.contains(&format!(": fetching {PACKAGE} (")));
        }
    }
}

#[test]
fn the_first_call_fetches_the_server_which_then_needs_no_network() {
    // It has none of its own, and a start takes less than npm does.
    let world = world("", "sandbox: {network: none}\n    timeouts: {call: 20s, start: 20s}");
    let checked = world.run(&["check"]);
    let checked = String::from_utf8(checked.stdout).unwrap();
    assert!(
        checked.contains(&format!("is {PACKAGE}, fetched before its first start")),
        "{checked}"
    );
    world.write("files/here.txt", "");
    // By its own name, as the seed had it.
    let (answer, signs) = watched_call(&world, "list_directory");
    let text = answer["result"]["content"][0]["text"].as_str();
    assert_eq!(text, Some("[FILE] here.txt"), "{answer}");
    assert!(world.path(CACHE).is_dir(), "the cache was not ours");
    assert!(signs > 0, "it was fetched within a second?");
    let checked = String::from_utf8(world.run(&["check"]).stdout).unwrap();
    assert!(checked.contains(&format!("is {PACKAGE}: 2026.8.31 sha512-")), "{checked}");
    // The second time there is nothing to fetch, and the name is known.
    let (answer, signs) = watched_call(&world, "filesystem_list_directory");
    let text = answer["result"]["content"][0]["text"].as_str();
    assert_eq!(text, Some("[FILE] here.txt"), "{answer}");
    assert_eq!(signs, 0);
    world.assert_empty();
}

/// The folder of a program by this name, a shell script that may be read.
fn program(world: &World, name: &str, script: &str) -> PathBuf {
    let path = world.write(&format!("src/{name}"), &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn fetching_has_no_secret_and_no_folder_of_the_server() {
    let world = World::new("");
    std::fs::create_dir_all(world.path("src")).unwrap();
    std::fs::create_dir_all(world.path("files")).unwrap();
    let script = "env | cut -d= -f1 | sort | tr '\\n' ' ' >&2; echo >&2; ls -d \"$HOME\"/../../files \
                  /secret/*/files 2>&1 >/dev/null | tail -1 >&2; echo $TOKEN $npm_config_where >&2; exit 3";
    let script = script.replace("/secret/*", &world.folder().to_string_lossy());
    let npx = program(&world, "npx", &script);
    let (npx, files) = (npx.display(), world.path("files"));
    world.write("gateway.yaml", &format!(
        "servers:\n  x: {{command: {npx}, args: [thing, {0}], env: {{TOKEN: hush-5f1e, npm_config_where: there}}, sandbox: {{write: [{0}]}}}}\n",
        files.display()
    ));
    for args in [&["fetch"][..], &["call", "x_y"]] {
        let output = world.run(args);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(69), "{told}");
        assert!(told.contains("its package thing cannot be fetched: exit status: 3: "), "{told}");
        assert!(told.contains(" npm_config_where ") && !told.contains("TOKEN "), "{told}");
        assert!(told.contains("No such file") && told.contains("| there"), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }
}

#[test]
fn timeouts_fetch_is_what_a_fetch_may_take() {
    let world = World::new("");
    std::fs::create_dir_all(world.path("src")).unwrap();
    let npx = program(&world, "npx", "echo not yet >&2; sleep 1000");
    let config = format!(
        "servers:\n  x: {{command: {}, args: [thing], timeouts: {{fetch: 700ms}}}}\n",
        npx.display()
    );
    world.write("gateway.yaml", &config);
    let began = Instant::now();
    let output = world.run(&["call", "x_y"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("not done within 0.7 s (timeouts.fetch): not yet"), "{told}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    world.assert_empty();
}

#[test]
fn fetch_fetches_ahead_and_uvx_too() {
    let world = world("", "sandbox: {network: none}");
    let uvx = format!("{}/python/bin/uvx", crate::boxes::installed());
    let config = world
        .read("gateway.yaml")
        .replace(PACKAGE, "@modelcontextprotocol/server-filesystem")
        + &format!(
            "  time: {{command: {uvx}, args: [mcp-server-time@2026.10.19, --local-timezone, UTC], env: {{SSL_CERT_FILE: /etc/ssl/certs/ca-certificates.crt}}, sandbox: {{network: none}}}}\n"
        );
    world.write("gateway.yaml", &config);
    let output = world.run(&["fetch"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let [files, time] = told.lines().collect::<Vec<_>>().try_into().unwrap();
    assert!(files.starts_with("filesystem: @modelcontextprotocol/server-filesystem: 2"), "{told}");
    assert!(files.contains(" sha512-"), "{told}");
    assert!(time.starts_with("time: mcp-server-time@2026.10.19: 2026.10.19 sha256:"), "{told}");
    for (tool, arguments) in [
        ("time_get_current_time", json!({"timezone": "UTC"})),
        ("filesystem_list_directory", json!({"path": world.path("files")})),
    ] {
        let output = world.run(&["call", tool, &arguments.to_string()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // Again is no harm, and what is no package is told from one.
    let output = world.run(&["fetch", "--server", "time"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), time);
    world.write("gateway.yaml", "servers:\n  x: {command: cat}\n");
    let output = world.run(&["fetch", "--server", "x"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told, "x: nothing to fetch; it is no package of npx or uvx\n");
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
