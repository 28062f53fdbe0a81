//! What a backend wrote arrives as it was written, whichever way it takes.

use serde_json::{Value, json};

use crate::harness::{Client, World, faulty};

/// Results whose bytes a re-serializing proxy would change.
const KINDS: [&str; 3] = ["ordinary", "extreme", "deep"];

fn compare(client: &mut dyn Client, prefix: &str) {
    for kind in KINDS {
        let call =
            |tool: &str| json!({"name": format!("{prefix}{tool}"), "arguments": {"kind": kind}});
        let expected = client.request("tools/call", &call("expected")).json();
        let expected = expected["result"]["content"][0]["text"].as_str().unwrap();
        let raw = client.request("tools/call", &call("raw"));
        assert_eq!(raw.result(), expected, "{kind}");
        assert!(raw.0.contains(r#""x-top":1.0"#), "members beside the result stay: {raw:?}");
    }
}

#[test]
fn results_keep_their_bytes_through_every_front_door_and_both_layers() {
    let world = World::with(&faulty("b", "bigints", ""));
    compare(&mut world.stdio(), "b_");
    compare(&mut world.stdio_with("b"), "");
    let daemon = world.serve();
    compare(&mut daemon.unix(), "b_");
    compare(&mut daemon.unix_with("b"), "");
    compare(&mut daemon.http(), "b_");
    compare(&mut daemon.http_with("b"), "");
    compare(&mut daemon.http_over_unix("/mcp"), "b_");
    compare(&mut daemon.http_over_unix("/mcp/b"), "");
    compare(&mut daemon.sse(), "b_");
}

#[test]
fn errors_keep_their_bytes() {
    let world = World::with(&faulty("e", "error-data", ""));
    let daemon = world.serve();
    let clients: [(&mut dyn Client, &str); 3] = [
        (&mut daemon.unix(), "e_fail_raw"),
        (&mut daemon.http_with("e"), "fail_raw"),
        (&mut daemon.sse(), "e_fail_raw"),
    ];
    for (client, tool) in clients {
        let answer = client.request("tools/call", &json!({"name": tool, "arguments": {}}));
        let expected = concat!(
            r#"{"data":{"n":18446744073709551617,"r":1.0,"u":"\u00e9"},"message":"raw \u0041","#,
            r#""code":-31999,"x-extra":[1,2]}"#
        );
        assert_eq!(answer.error(), expected);
    }
}

#[test]
fn definitions_keep_unknown_members_and_big_numbers() {
    let world = World::with(&faulty("b", "bigints", ""));
    let daemon = world.serve();
    let clients: [(&mut dyn Client, &str); 2] =
        [(&mut daemon.unix(), "b_raw"), (&mut daemon.http_with("b"), "raw")];
    for (client, name) in clients {
        let list = client.request("tools/list", &json!({}));
        for bytes in [
            r#""x-tool":{"n":9007199254740993}"#,
            r#""execution":{"taskSupport":"forbidden","x-extra":true}"#,
            r#""annotations":{"readOnlyHint":true,"x-hint":1.0}"#,
            r#""x-keyword":{"minimum":1.0,"big":18446744073709551617}"#,
        ] {
            assert!(list.result().contains(bytes), "{bytes} in {}", list.result());
        }
        let tools = list.json()["result"]["tools"].clone();
        assert!(tools.as_array().unwrap().iter().any(|tool| tool["name"] == name));
    }
}

/// What the backend received for the call of this tool.
fn received(world: &World, tool: &str) -> String {
    let trace = world.read("traces/all");
    let words = format!("{tool:?}");
    let line = trace.lines().find(|line| line.contains("tools/call") && line.contains(&words));
    line.unwrap_or_else(|| panic!("{tool} in {trace}")).to_owned()
}

#[test]
fn requests_keep_their_bytes_but_for_ids_tokens_and_names() {
    let world = World::with(&faulty(
        "b",
        "plain",
        "env: {MCP_TRACE: \"{DIR}/traces/all\"}, sandbox: {write: [\"{DIR}/traces\"]}",
    ));
    let mut client = world.stdio();
    let rest = r#""arguments" : {"text":"\u00e9 \ud83d\ude00","n":18446744073709551617,"f":1.0},"x-p":1E2,"_meta":{"progressToken":"abc","x/y":[ 1 ]}"#;
    let id = client.next_id();
    let line = format!(
        r#"{{"jsonrpc":"2.0","method":"tools/call","id":{id},"x-top":-0.0,"params":{{{rest},"name":"b_echo"}}}}"#
    );
    assert_eq!(client.exchange(id, &line).pop().unwrap().id(), Some(id.to_string()));
    let seen = received(&world, "echo");
    let token: Value = serde_json::from_str(&seen).unwrap();
    let token = &token["params"]["_meta"]["progressToken"];
    assert!(token.is_u64(), "{seen}");
    let expected = rest.replace("\"abc\"", &token.to_string());
    assert!(seen.contains(&expected), "{expected}\nin {seen}");
    assert!(seen.contains(r#""x-top":-0.0"#), "{seen}");
    assert!(seen.contains(r#""name":"echo""#), "{seen}");
}
