//! 17–25: names, roles, and who may come in.

use serde_json::json;

use crate::harness::{Client, World, faulty};

const ROLES: &str = "roles:
  admin: null
  readonly: [\"filesystem_*\", \"gateway_status\"]
  nobody: []
";

fn with_roles(keys: &str) -> World {
    let servers = [faulty("filesystem", "plain", keys), faulty("git-hub", "plain", keys)];
    World::new(&format!("servers:\n{}{ROLES}", servers.concat()))
}

#[test]
fn a_role_matches_server_and_tool_before_and_after_the_connect() {
    let world = with_roles("discover: placeholder").env("MCP_GATEWAY_ROLE", "readonly");
    let mut client = world.stdio();
    assert_eq!(client.tools(), ["_filesystem_connect", "gateway_status"]);
    client.text("_filesystem_connect", json!({}));
    let tools = client.tools();
    assert_eq!(
        tools,
        ["filesystem_echo", "filesystem_pid", "filesystem_cancelled", "gateway_status"]
    );
    assert_eq!(client.text("filesystem_echo", json!({"text": "hello"})), "hello");
}

#[test]
fn what_a_role_does_not_show_cannot_be_called() {
    let world = with_roles("discover: placeholder").env("MCP_GATEWAY_ROLE", "readonly");
    let mut client = world.stdio();
    let unknown = client.call("no_such_tool", json!({}))["error"].to_string();
    for hidden in ["_git_hub_connect", "git-hub_echo", "git_hub_echo", "echo", "git-hub_pid"] {
        let answer = client.call(hidden, json!({}))["error"].to_string();
        assert_eq!(answer.replace(hidden, "no_such_tool"), unknown, "looks exactly like unknown");
    }
    assert_eq!(world.children().len(), 0, "nothing was started for it");
    drop(client);
    let world = world.env("MCP_GATEWAY_ROLE", "nobody");
    let mut client = world.stdio();
    assert!(client.tools().is_empty());
    client.failure("gateway_status", json!({}));
    client.failure("filesystem_echo", json!({}));
}

#[test]
fn an_unknown_role_is_refused() {
    for role in ["ADMIN", "readonyl"] {
        let world = with_roles("").env("MCP_GATEWAY_ROLE", role);
        let output = world.run(&["stdio"]);
        assert_eq!(output.status.code(), Some(77));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(role) && text.contains("admin, nobody, readonly"), "{text}");
    }
    let world = World::with(&faulty("f", "plain", "")).env("MCP_GATEWAY_ROLE", "admin");
    assert_eq!(world.run(&["stdio"]).status.code(), Some(77), "without roles no role is known");
}

#[test]
fn a_role_that_is_no_list_is_a_config_error() {
    for role in ["\"gateway_*\"", "[1]", "{}", "[[]]", "{alow: []}"] {
        let world = World::new(&format!("roles:\n  x: {role}\n"));
        let output = world.run(&["check"]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{role}: {text}");
        assert!(text.contains("gateway.yaml:2:") && text.contains("roles.x"), "{text}");
    }
}

#[test]
fn two_clients_have_two_roles() {
    let world = with_roles("");
    let daemon = world.serve();
    let mut all = daemon.raw_unix(r#"{"role":"admin"}"#).opened();
    let mut some = daemon.raw_unix(r#"{"role":"readonly"}"#).opened();
    assert!(all.tools().contains(&"git-hub_echo".to_owned()));
    assert!(!some.tools().contains(&"git-hub_echo".to_owned()));
    assert_eq!(all.text("git-hub_echo", json!({"text": "hello"})), "hello");
    some.failure("git-hub_echo", json!({"text": "hello"}));
    let mut none = daemon.raw_unix(r#"{"role":"wizard"}"#);
    let said = none.rest();
    assert!(said[0].error().contains("no role named"), "{said:?}");
}

#[test]
fn the_same_name_in_two_backends_leads_to_two_tools() {
    let servers = [
        faulty("one", "collide", ""),
        faulty("two", "collide", ""),
        faulty("gateway", "collide", ""),
        faulty("bare", "collide", "prefix: \"\""),
    ];
    let world = World::with(&servers.concat());
    let mut client = world.stdio();
    let tools = client.tools();
    let mut sorted = tools.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), tools.len(), "no name twice");
    for name in &tools {
        let fits = name.len() <= 50 && !name.is_empty();
        let clean = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        assert!(fits && clean, "{name:?}");
    }
    // Every one leads to a tool of its own.
    let pids: Vec<String> =
        ["one_pid", "two_pid", "pid"].iter().map(|tool| client.text(tool, json!({}))).collect();
    assert!(pids[0] != pids[1] && pids[1] != pids[2] && pids[0] != pids[2]);
    // `gateway_status` stays the gateway's, though two backends would have the name.
    let status = client.status();
    assert!(status["uptime_s"].is_u64(), "{status}");
}

#[test]
fn a_bare_name_that_is_unique_is_accepted_on_call() {
    let servers = [faulty("one", "counter", ""), faulty("two", "plain", "")];
    let world = World::with(&servers.concat());
    let mut client = world.stdio();
    assert_eq!(client.text("next", json!({})), "1");
    let text = client.failure("echo", json!({}));
    assert!(text.contains("echo"), "{text}");
}

#[test]
fn placeholders_that_would_be_alike_are_two() {
    let servers = [
        faulty("a-b", "plain", "discover: placeholder"),
        faulty("a_b", "plain", "discover: placeholder"),
    ];
    let world = World::with(&servers.concat());
    let mut client = world.stdio();
    let tools = client.tools();
    assert_eq!(tools.len(), 3);
    assert_eq!(tools[0], "_a_b_connect");
    for tool in &tools[..2] {
        client.text(tool, json!({}));
    }
    let first = client.text("a-b_pid", json!({}));
    let tools = client.tools();
    let second = tools.iter().find(|name| name.starts_with("a_b_pid")).unwrap();
    assert_ne!(client.text(second, json!({})), first);
}

#[test]
fn only_this_machine_is_served_and_no_web_page() {
    let world = World::with(&faulty("f", "plain", ""));
    let daemon = world.serve();
    assert!(daemon.address.ip().is_loopback(), "by default");
    let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    for (name, value) in [
        ("host", "evil.example"),
        ("host", "localhost.evil.example"),
        ("origin", "http://evil.example"),
        ("origin", "null"),
    ] {
        for path in ["/mcp", "/sse", "/health", "/messages/?session_id=x"] {
            let mut client = daemon.raw_http("/mcp").header(name, value);
            assert_eq!(client.get(path).status, 403, "{name}: {value} {path}");
        }
        assert_eq!(daemon.raw_http("/mcp").header(name, value).post("/mcp", hello).status, 403);
    }
    let plain = daemon.raw_http("/mcp").header("content-type", "text/plain").post("/mcp", hello);
    assert_eq!(plain.status, 415, "what a form can send is refused");
    assert_eq!(
        daemon
            .raw_http("/mcp")
            .header("origin", "http://localhost:3000")
            .post("/mcp", hello)
            .status,
        200
    );
}

#[test]
fn an_open_address_needs_to_be_asked_for_in_so_many_words() {
    let world = World::new("");
    for host in ["0.0.0.0", "::"] {
        let output = world.run(&["serve", "--host", host, "--port", "0"]);
        assert_eq!(output.status.code(), Some(77));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("--insecure-no-auth"), "{text}");
    }
    let daemon = world.serve_with(&["--host", "0.0.0.0", "--insecure-no-auth"]);
    daemon.running.logged("no authentication");
}

#[test]
fn a_session_id_is_worth_nothing_elsewhere_and_no_secret_is_kept() {
    let secret = "s3cr3t-value-of-the-token";
    let servers = faulty("f", "env", &format!("env: {{API_TOKEN: {secret}}}"));
    let world = World::new(&format!("registry: reg.db\nservers:\n{servers}"));
    let mut daemon = world.serve();
    let mut client = daemon.http();
    client.text("f_env", json!({}));
    let id = client.session.clone().unwrap();
    assert!(id.len() >= 32, "{id}");
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let mut elsewhere = daemon.raw_http("/mcp/f");
    elsewhere.session = Some(id.clone());
    assert_eq!(elsewhere.begin(ping).status, 404, "it belongs to its path");
    let posted = daemon.raw_http("/mcp").post(&format!("/messages/?session_id={id}"), ping);
    assert_eq!(posted.status, 404, "and to its transport");
    let mut other = daemon.raw_http("/mcp");
    other.session = Some("0".repeat(32));
    assert_eq!(other.begin(ping).status, 404);
    // Another user on this machine is turned away, whatever he knows.
    if nix::unistd::geteuid().is_root() {
        let address = daemon.address;
        let script = format!(
            "import os,socket\n'x'.encode('idna')\nos.setuid(65534)\ns=socket.create_connection(('{}',{}),10)\n\
             s.sendall(b'GET /mcp HTTP/1.1\\r\\nhost: localhost\\r\\nmcp-session-id: {id}\\r\\n\
             accept: text/event-stream\\r\\n\\r\\n')\nprint(s.recv(12).decode()[9:])\n",
            address.ip(),
            address.port()
        );
        let output = std::process::Command::new(crate::harness::python())
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "403", "{output:?}");
    }
    drop(client);
    daemon.running.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.running.ended();
    assert!(!world.path("reg.db").exists());
    let grep = std::process::Command::new("grep")
        .args(["-rl", secret])
        .arg(world.folder())
        .output()
        .unwrap();
    let holders = String::from_utf8(grep.stdout).unwrap();
    assert_eq!(holders.trim(), world.path("gateway.yaml").to_str().unwrap());
    assert!(!daemon.running.log().contains(secret));
}
