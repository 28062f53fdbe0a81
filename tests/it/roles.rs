//! What a role holds back, by whichever door and under whichever name it is asked for.

use serde_json::{Value, json};

use crate::harness::{Client, Framed, World, faulty};

const TRACE: &str = "env: {MCP_TRACE: \"{DIR}/traces/all\"}, sandbox: {write: [\"{DIR}/traces\"]}";

fn world(roles: &str) -> World {
    let servers = faulty("p", "prompts,resources", TRACE) + &faulty("secret", "plain", "");
    World::new(&format!("servers:\n{servers}roles:\n{roles}"))
}

/// Sends a request with these `params` as they are written.
fn ask_raw(client: &mut Framed, method: &str, params: &str) -> Value {
    let id = client.next_id();
    client.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#));
    client.response(id).json()
}

#[test]
fn a_server_whose_names_are_all_denied_is_nowhere() {
    let world =
        world("  most: {allow: ['*'], deny: ['secret_*']}\n").env("MCP_GATEWAY_ROLE", "most");
    let mut client = world.stdio();
    let tools = client.tools();
    assert!(tools.contains(&"p_echo".to_owned()), "{tools:?}");
    assert!(!tools.iter().any(|name| name.contains("secret")), "{tools:?}");
    assert!(
        !client.ask("tools/call", json!({"name": "gateway_status"})).to_string().contains("secret")
    );
    assert_eq!(client.failure("_secret_connect", json!({})), "Unknown tool: _secret_connect");
    let output = world.run(&["stdio", "--server", "secret"]);
    let nobody = world.run(&["stdio", "--server", "nobody"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.replace("secret", "nobody"), String::from_utf8(nobody.stderr).unwrap());
}

#[test]
fn a_role_by_prefix_sees_its_server_with_nothing_in_the_cache() {
    let servers = faulty("docs", "plain", "prefix: d_") + &faulty("secret", "plain", "");
    let world = World::new(&format!("servers:\n{servers}roles: {{docs: [\"d_*\"]}}\n"))
        .env("MCP_GATEWAY_ROLE", "docs");
    assert_eq!(world.stdio().tools(), ["d_echo", "d_pid", "d_cancelled"]);
    // Under the server's own names the same globs hold.
    assert_eq!(world.stdio_with("docs").text("echo", json!({"text": "hello"})), "hello");
}

#[test]
fn a_completion_is_for_what_its_type_says_and_nothing_else() {
    let world = world("  r: ['p_greeting', 'p_faulty://by-id/*']\n");
    let argument = r#""argument":{"name":"who","value":"al"}"#;
    let ask = |client: &mut Framed, reference: &str| {
        ask_raw(client, "completion/complete", &format!("{{\"ref\":{reference},{argument}}}"))
    };
    let fine = |answer: &Value| {
        assert_eq!(answer["result"]["completion"]["values"], json!(["alice", "alan"]), "{answer}");
    };
    // Without a role everything is passed on, as it was written.
    let mut free = world.stdio_with("p");
    let written = r#"{"type" : "ref/prompt","name":"greeting","x":1.0}"#;
    fine(&ask(&mut free, written));
    assert!(world.read("traces/all").contains(written));
    drop(free);
    let world = world.env("MCP_GATEWAY_ROLE", "r");
    for (mut client, prompt) in [(world.stdio(), "p_greeting"), (world.stdio_with("p"), "greeting")]
    {
        fine(&ask(&mut client, &format!(r#"{{"type":"ref/prompt","name":"{prompt}"}}"#)));
        fine(&ask(&mut client, r#"{"type":"ref/resource","uri":"faulty://by-id/{id}"}"#));
        for reference in [
            &format!(r#"{{"type":"ref/prompt","name":"{prompt}","uri":"hidden://x"}}"#),
            r#"{"type":"ref/resource","uri":"faulty://by-id/{id}","name":"hidden"}"#,
            r#"{"type":"ref/resource","name":"hidden"}"#,
            r#"{"type":"ref/prompt","uri":"hidden://x"}"#,
            r#"{"type":"ref/tool","name":"hidden"}"#,
            r#"{"name":"hidden"}"#,
            r#"{"type":"ref/prompt","name":"hidden"}"#,
            "null",
            "[]",
        ] {
            let answer = ask(&mut client, reference);
            assert_eq!(answer["error"]["code"], -32602, "{reference}: {answer}");
        }
        let denied = ask(&mut client, r#"{"type":"ref/resource","uri":"hidden://x"}"#);
        assert_eq!(denied["error"]["message"], "Resource not found: hidden://x");
        // Whatever another reader might make of it.
        let params = format!(
            r#"{{"ref":{{"type":"ref/prompt","name":"hidden","name":"{prompt}","Name":"hidden"}},"REF":{{"name":"hidden"}},{argument},"context":{{"arguments":{{"k":"kept"}}}}}}"#
        );
        fine(&ask_raw(&mut client, "completion/complete", &params));
    }
    let trace = world.read("traces/all");
    assert!(!trace.contains("hidden"), "{trace}");
    assert_eq!(trace.matches("kept").count(), 2, "{trace}");
}

#[test]
fn unknown_methods_are_for_those_whom_no_role_restricts() {
    let world = world("  r: ['p_*']\n  admin: null\n");
    let ask =
        |client: &mut Framed| client.ask("vendor/look", json!({"name": "x"}))["error"].clone();
    let theirs = json!({"code": -32601, "message": "method not found: vendor/look"});
    assert_eq!(ask(&mut world.stdio_with("p")), theirs);
    let world = world.env("MCP_GATEWAY_ROLE", "admin");
    assert_eq!(ask(&mut world.stdio_with("p")), theirs);
    let before = world.read("traces/all").matches("vendor/look").count();
    let world = world.env("MCP_GATEWAY_ROLE", "r");
    let ours = json!({"code": -32601, "message": "Method not found: vendor/look"});
    assert_eq!(ask(&mut world.stdio_with("p")), ours);
    assert_eq!(world.read("traces/all").matches("vendor/look").count(), before);
}

#[test]
fn a_name_that_stands_there_twice_in_two_spellings_goes_nowhere() {
    let world = world("  r: ['p_echo']\n").env("MCP_GATEWAY_ROLE", "r");
    let mut client = world.stdio_with("p");
    client.text("echo", json!({}));
    for other in ["Name", "NAME", "n\\u0041me"] {
        let params = format!(r#"{{"name":"echo","{other}":"touch"}}"#);
        let answer = ask_raw(&mut client, "tools/call", &params);
        assert_eq!(answer["error"]["code"], -32600, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("`name`"), "{answer}");
    }
    assert!(!world.read("traces/all").contains("touch"));
}

#[test]
fn in_a_session_with_one_server_a_denied_name_is_answered_alike_be_it_there_or_not() {
    let world = world("  r: {allow: ['p_*'], deny: ['p_t*']}\n").env("MCP_GATEWAY_ROLE", "r");
    let mut client = world.stdio_with("p");
    assert_eq!(client.failure("touch", json!({})), "Unknown tool: touch");
    assert_eq!(client.failure("tooth", json!({})), "Unknown tool: tooth");
    // The server itself knows what it does not have.
    assert_eq!(client.failure("other", json!({})), "unknown tool: other");
}

#[test]
fn a_bare_name_that_looks_like_another_servers_is_still_its_own_servers() {
    let servers = faulty("p", "plain", "") + &faulty("files", "plain", "");
    let world = World::new(&format!("servers:\n{servers}roles: {{r: ['ech*', 'files_pid']}}\n"))
        .env("MCP_GATEWAY_ROLE", "r");
    // The glob is about qualified names; on the server's own endpoint it means no other thing.
    let mut client = world.stdio_with("files");
    assert_eq!(client.tools(), ["pid"]);
    assert_eq!(client.failure("echo", json!({"text": "x"})), "Unknown tool: echo");
}
