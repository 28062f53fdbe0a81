//! 11–16: what a backend answers is what the client gets.

use serde_json::{Value, json};

use crate::harness::{Client, World, example, faulty};

/// The reference backend, which answers as a real one does.
fn reference() -> World {
    World::with(&example("ref", "reference-backend", "stdio", ""))
}

#[test]
fn tools_with_an_output_schema_are_usable() {
    let world = reference();
    let mut client = world.stdio();
    let tools = client.ask("tools/list", json!({}))["result"]["tools"].clone();
    let add = tools.as_array().unwrap().iter().find(|tool| tool["name"] == "ref_add").unwrap();
    assert_eq!(add["outputSchema"]["properties"]["sum"]["type"], "integer", "{add}");
    let answer = client.call("ref_add", json!({"a": 2, "b": 3}));
    assert_eq!(answer["result"]["structuredContent"], json!({"sum": 5}), "{answer}");
    assert_ne!(answer["result"]["isError"], true);
}

#[test]
fn images_audio_and_resources_arrive_whole() {
    let world = reference();
    let daemon = world.serve();
    let mut direct = daemon.http_with("ref");
    let mut aggregate = daemon.unix();
    for (tool, kinds) in [
        ("test_image_content", &["image"][..]),
        ("test_audio_content", &["audio"]),
        ("test_embedded_resource", &["resource"]),
        ("test_multiple_content_types", &["text", "image", "resource"]),
        ("vendor", &[]),
    ] {
        let transparent = direct.request("tools/call", &json!({"name": tool, "arguments": {}}));
        let name = format!("ref_{tool}");
        let answer = aggregate.request("tools/call", &json!({"name": name, "arguments": {}}));
        assert_eq!(answer.result(), transparent.result(), "{tool}");
        let content = answer.json()["result"]["content"].clone();
        for kind in kinds {
            let block = content.as_array().unwrap().iter().find(|block| block["type"] == *kind);
            let block = block.unwrap_or_else(|| panic!("{kind} in {content}"));
            let whole = match *kind {
                "image" | "audio" => block["data"].as_str().is_some_and(|data| data.len() > 20),
                "resource" => block["resource"]["uri"].is_string(),
                _ => block["text"].is_string(),
            };
            assert!(whole, "{block}");
        }
    }
}

#[test]
fn what_a_vendor_adds_arrives() {
    let world = reference();
    let answer = world.stdio().call("ref_vendor", json!({}));
    let result = &answer["result"];
    for member in ["_meta", "structuredContent"] {
        assert!(result[member].is_object(), "{member} in {answer}");
    }
    assert!(result["content"][0]["annotations"].is_object(), "{answer}");
}

#[test]
fn a_backends_is_error_is_seen() {
    let world = reference();
    let answer = world.stdio().call("ref_fail", json!({"message": "no such file"}));
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    assert_eq!(answer["result"]["content"][0]["text"], "no such file", "not wrapped once more");
    let output = world.run(&["call", "ref_fail", r#"{"message":"no such file"}"#]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "no such file\n");
}

#[test]
fn a_backends_json_rpc_error_is_passed_on_and_breaks_nothing() {
    let world = World::with(&faulty("f", "error-data", ""));
    let mut client = world.stdio();
    let pid = client.text("f_pid", json!({}));
    let error = json!({"code": -31001, "message": "disk full", "data": {"free": 0, "of": [1, 2]}});
    let answer = client.call("f_fail", error.clone());
    assert_eq!(answer["error"], error);
    assert_eq!(client.text("f_pid", json!({})), pid);
    assert_eq!(client.instance("f")["failures"], 0);
}

#[test]
fn nothing_is_added_to_a_result() {
    let world = World::with(&faulty("f", "plain", ""));
    let mut client = world.stdio();
    let answer = client.call("f_echo", json!({"text": "hello"}));
    let content: Value = json!([{"type": "text", "text": "hello"}]);
    assert_eq!(answer["result"], json!({ "content": content }));
}

#[test]
fn every_page_of_a_backends_tools_is_seen() {
    let servers = [
        faulty("f", "pages 25 10", ""),
        faulty("loop", "pages 25 10 loop", ""),
        faulty("endless", "pages 5 10 endless", ""),
    ];
    let world = World::with(&servers.concat());
    let mut client = world.stdio();
    let tools = client.tools();
    for number in 0..25 {
        let name = format!("f_tool_{number:03}");
        assert!(tools.contains(&name), "{name} in {tools:?}");
        assert_eq!(client.text(&name, json!({})), format!("tool_{number:03}"));
    }
    // A cursor that repeats, or never ends, is cut; what was listed is there once.
    for name in ["loop_echo", "endless_tool_004"] {
        assert_eq!(tools.iter().filter(|tool| *tool == name).count(), 1, "{name} in {tools:?}");
    }
    // On its own endpoint too, all of them.
    let own = world.stdio_with("f").tools();
    assert!(own.contains(&"tool_024".to_owned()), "{own:?}");
}

#[test]
fn more_tools_than_one_page_holds_are_paged_upwards() {
    let world = World::with(&faulty("f", "pages 2500 700", ""));
    let tools = world.stdio().tools();
    assert_eq!(tools.iter().filter(|tool| tool.starts_with("f_tool_")).count(), 2500);
}
