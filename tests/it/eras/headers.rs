//! What an HTTP header says again must be what the body says, and what is answered where not.

use serde_json::{Value, json};

use super::{MODERN, OURS, TRACE, modern, refused};
use crate::harness::{Daemon, Exchange, Http, World, faulty};

const VERSION: (&str, &str) = ("MCP-Protocol-Version", MODERN);

fn world() -> World {
    World::with(&faulty("f", "mirrored,prompts,resources,log,modern", TRACE))
}

/// Posts a body under exactly these header fields besides those of every POST.
fn post(daemon: &Daemon, path: &str, fields: &[(&str, &str)], body: &str) -> Exchange {
    let mut http: Http = daemon.raw_http(path);
    for (name, value) in fields {
        http = http.header(name, value);
    }
    http.post(path, body)
}

fn body(method: &str, mut params: Value) -> String {
    params["_meta"] = json!({
        format!("{OURS}protocolVersion"): MODERN, format!("{OURS}clientCapabilities"): {},
    });
    json!({"jsonrpc": "2.0", "id": "same", "method": method, "params": params}).to_string()
}

fn read(answer: &Exchange) -> Value {
    // A result may come as the one event of a stream.
    let text = answer.body.trim_start_matches("data:").trim();
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
}

/// An error under the request's id, of this status and code; no session comes with it.
fn fails(answer: &Exchange, status: u16, code: i64, what: &str) -> Value {
    assert_eq!(answer.status, status, "{what}: {}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    assert_eq!(answer.header("mcp-session-id"), None, "{what}");
    let error = read(answer);
    assert_eq!(error["error"]["code"], code, "{what}: {error}");
    assert_eq!(error["id"], "same", "{what}: {error}");
    error
}

fn works(answer: &Exchange, what: &str) {
    assert_eq!(answer.status, 200, "{what}: {}", answer.body);
    assert_eq!(answer.header("mcp-session-id"), None, "{what}");
    assert!(read(answer)["result"].is_object(), "{what}: {}", answer.body);
}

#[test]
fn version_method_and_name_are_what_the_body_says() {
    let world = world();
    let daemon = world.serve();
    let call = body("tools/call", json!({"name": "f_echo", "arguments": {"text": "x"}}));
    let (method, name) = (("Mcp-Method", "tools/call"), ("Mcp-Name", "f_echo"));
    let encoded = ("Mcp-Name", "=?base64?Zl9lY2hv?=");
    for fields in [
        vec![VERSION, method, name],
        vec![VERSION, method, encoded],
        vec![
            ("mcp-protocol-version", MODERN),
            ("mcp-method", "tools/call"),
            ("mcp-name", "f_echo"),
        ],
        vec![
            ("MCP-PROTOCOL-VERSION", MODERN),
            ("MCP-METHOD", "tools/call"),
            ("MCP-NAME", "f_echo"),
        ],
        vec![VERSION, method, ("Mcp-Name", "  f_echo ")],
        vec![VERSION, method, name, ("Mcp-Session-Id", "nobodys")],
        vec![VERSION, method, name, ("Mcp-Param-Whatever", "ignored")],
        vec![VERSION, method, name, ("Last-Event-ID", "7")],
    ] {
        works(&post(&daemon, "/mcp", &fields, &call), &format!("{fields:?}"));
    }
    let before = world.read("traces/all").matches("tools/call").count();
    for fields in [
        vec![method, name],
        vec![("MCP-Protocol-Version", "2025-11-25"), method, name],
        vec![("MCP-Protocol-Version", "2099-01-01"), method, name],
        vec![("MCP-Protocol-Version", ""), method, name],
        vec![VERSION, VERSION, method, name],
        vec![VERSION, ("MCP-Protocol-Version", "2025-11-25"), method, name],
        vec![VERSION, name],
        vec![VERSION, ("Mcp-Method", ""), name],
        vec![VERSION, ("Mcp-Method", "tools/list"), name],
        vec![VERSION, ("Mcp-Method", "Tools/Call"), name],
        vec![VERSION, ("Mcp-Method", "=?base64?dG9vbHMvY2FsbA==?="), name],
        vec![VERSION, method, method, name],
        vec![VERSION, method, ("Mcp-Method", "tools/list"), name],
        vec![VERSION, method],
        vec![VERSION, method, ("Mcp-Name", "")],
        vec![VERSION, method, ("Mcp-Name", "echo")],
        vec![VERSION, method, ("Mcp-Name", "F_ECHO")],
        vec![VERSION, method, name, ("Mcp-Name", "f_pid")],
        vec![VERSION, method, name, name],
        vec![VERSION, method, ("Mcp-Name", "=?base64?Zl9waWQ=?=")],
        vec![VERSION, method, ("Mcp-Name", "=?base64?Zl9lY2hv")],
        vec![VERSION, method, ("Mcp-Name", "=?base64?Zl9lY2h?=")],
        vec![VERSION, method, ("Mcp-Name", "=?base64?!!!?=")],
        vec![VERSION, method, ("Mcp-Name", "=?base64?/w==?=")],
        vec![VERSION, method, ("Mcp-Name", "=?BASE64?Zl9lY2hv?=")],
        vec![VERSION, method, ("Mcp-Name", "f_echo\u{e9}")],
        vec![VERSION, method, ("Mcp-Name", "f_echo, f_pid")],
    ] {
        fails(&post(&daemon, "/mcp", &fields, &call), 400, -32020, &format!("{fields:?}"));
    }
    assert_eq!(world.read("traces/all").matches("tools/call").count(), before, "nobody was called");
}

#[test]
fn prompts_and_resources_are_named_too_and_nothing_else_needs_a_name() {
    let world = world();
    let daemon = world.serve();
    for (method, params, name) in [
        ("prompts/get", json!({"name": "f_greeting"}), "f_greeting"),
        ("resources/read", json!({"uri": "faulty://one"}), "faulty://one"),
        (
            "resources/read",
            json!({"uri": "faulty://by-id/é 1"}),
            "=?base64?ZmF1bHR5Oi8vYnktaWQvw6kgMQ==?=",
        ),
    ] {
        let body = body(method, params);
        let method = ("Mcp-Method", method);
        works(&post(&daemon, "/mcp", &[VERSION, method, ("Mcp-Name", name)], &body), name);
        for fields in [vec![VERSION, method], vec![VERSION, method, ("Mcp-Name", "other")]] {
            fails(&post(&daemon, "/mcp", &fields, &body), 400, -32020, &format!("{fields:?}"));
        }
    }
    for method in ["tools/list", "prompts/list", "resources/list", "server/discover"] {
        let body = body(method, json!({}));
        works(&post(&daemon, "/mcp", &[VERSION, ("Mcp-Method", method)], &body), method);
        let other = [VERSION, ("Mcp-Method", "tools/call")];
        fails(&post(&daemon, "/mcp", &other, &body), 400, -32020, method);
    }
}

/// Calls `place` by one of its doors under these fields.
fn place(daemon: &Daemon, path: &str, fields: &[(&str, &str)], arguments: &Value) -> Exchange {
    let tool = if path == "/mcp" { "f_place" } else { "place" };
    let all = [&[VERSION, ("Mcp-Method", "tools/call"), ("Mcp-Name", tool)], fields].concat();
    let body = body("tools/call", json!({"name": tool, "arguments": arguments}));
    post(daemon, path, &all, &body)
}

#[test]
fn repeated_arguments_are_what_the_body_says() {
    let world = world();
    let daemon = world.serve();
    let region = ("Mcp-Param-Region", "eu");
    let eu = json!({"region": "eu"});
    for path in ["/mcp", "/mcp/f"] {
        // The tool's definition is known from here on.
        modern(daemon.raw_http(path)).ask("tools/list", json!({}));
        for (fields, arguments) in [
            (vec![region], &eu),
            (vec![("mcp-PARAM-region", "eu")], &eu),
            (vec![("Mcp-Param-Region", "=?base64?ZXU=?=")], &eu),
            (vec![("Mcp-Param-Region", "=?base64?5Y2X?=")], &json!({"region": "南"})),
            (vec![("Mcp-Param-Region", "")], &json!({"region": ""})),
            (vec![("Mcp-Param-Region", "=?base64?IGV1IA==?=")], &json!({"region": " eu "})),
            (
                vec![("Mcp-Param-Region", "=?base64?PT9iYXNlNjQ/eD89?=")],
                &json!({"region": "=?base64?x?="}),
            ),
            (vec![], &json!({})),
            (vec![], &json!({"region": null})),
            (vec![], &json!({"other": "eu"})),
            (vec![], &json!({"deep": {"other": 1}})),
            (vec![region, ("Mcp-Param-Unknown", "x")], &eu),
            (
                vec![("Mcp-Param-Count", "42"), ("Mcp-Param-Sure", "true")],
                &json!({"count": 42, "sure": true}),
            ),
            (vec![("Mcp-Param-Count", "42.0")], &json!({"count": 42})),
            (vec![("Mcp-Param-Count", "-7")], &json!({"count": -7})),
            (vec![("Mcp-Param-Sure", "false")], &json!({"sure": false})),
            (vec![("Mcp-Param-Zone", "a")], &json!({"deep": {"zone": "a"}})),
        ] {
            let answer = place(&daemon, path, &fields, arguments);
            works(&answer, &format!("{path} {fields:?} {arguments}"));
        }
        let before = world.read("traces/all").matches("\"place\"").count();
        for (fields, arguments) in [
            (vec![], &eu),
            (vec![("Mcp-Param-Region", "us")], &eu),
            (vec![("Mcp-Param-Region", "EU")], &eu),
            (vec![("Mcp-Param-Region", "")], &eu),
            (vec![region, region], &eu),
            (vec![region, ("Mcp-Param-Region", "us")], &eu),
            (vec![region], &json!({})),
            (vec![region], &json!({"region": null})),
            (vec![("Mcp-Param-Region", "null")], &json!({"region": null})),
            (vec![("Mcp-Param-Region", "=?base64?dXM=?=")], &eu),
            (vec![("Mcp-Param-Region", "=?base64?ZXU?=")], &eu),
            (vec![("Mcp-Param-Region", "=?base64?*?=")], &eu),
            (vec![("Mcp-Param-Region", "=?base64?/w==?=")], &eu),
            (vec![("Mcp-Param-Region", "=?Base64?ZXU=?=")], &eu),
            (vec![("Mcp-Param-Region", "南")], &json!({"region": "南"})),
            (vec![("Mcp-Param-Count", "43")], &json!({"count": 42})),
            (vec![("Mcp-Param-Count", "forty-two")], &json!({"count": 42})),
            (vec![("Mcp-Param-Sure", "True")], &json!({"sure": true})),
            (vec![("Mcp-Param-Sure", "1")], &json!({"sure": true})),
            (vec![("Mcp-Param-Zone", "b")], &json!({"deep": {"zone": "a"}})),
            (vec![], &json!({"deep": {"zone": "a"}})),
            (vec![("Mcp-Param-Zone", "a")], &json!({"zone": "a"})),
        ] {
            let answer = place(&daemon, path, &fields, arguments);
            fails(&answer, 400, -32020, &format!("{path} {fields:?} {arguments}"));
        }
        assert_eq!(world.read("traces/all").matches("\"place\"").count(), before, "{path}");
    }
}

#[test]
fn a_field_that_the_tool_does_not_know_is_ignored_whatever_it_holds() {
    let world = world();
    let daemon = world.serve();
    for value in ["=?base64?*?=", "=?base64?/w==?=", "n\u{e9}"] {
        let fields = [("Mcp-Param-Region", "eu"), ("Mcp-Param-Unknown", value)];
        works(&place(&daemon, "/mcp", &fields, &json!({"region": "eu"})), value);
    }
}

#[test]
fn arguments_are_compared_at_the_first_call_that_nobody_listed_before() {
    for path in ["/mcp", "/mcp/f"] {
        let world = world();
        let daemon = world.serve();
        let answer = place(&daemon, path, &[("Mcp-Param-Region", "us")], &json!({"region": "eu"}));
        fails(&answer, 400, -32020, path);
        assert!(!world.read("traces/all").contains("\"place\""), "{path}");
    }
}

#[test]
fn what_a_request_lacks_is_told_by_code_and_status() {
    let world = world();
    let daemon = world.serve();
    let list = [VERSION, ("Mcp-Method", "tools/list")];
    let version = format!("{OURS}protocolVersion");
    let capable = format!("{OURS}clientCapabilities");
    for meta in [
        json!({}),
        json!({ version.as_str(): MODERN }),
        json!({ capable.as_str(): {} }),
        json!({ version.as_str(): 7, capable.as_str(): {} }),
        json!({ version.as_str(): MODERN, capable.as_str(): [] }),
        json!({ version.as_str(): MODERN, capable.as_str(): {}, format!("{OURS}logLevel"): "loud" }),
    ] {
        let body = json!({"jsonrpc": "2.0", "id": "same", "method": "tools/list", "params": {"_meta": meta}});
        fails(&post(&daemon, "/mcp", &list, &body.to_string()), 400, -32602, &meta.to_string());
    }
    let bare = r#"{"jsonrpc":"2.0","id":"same","method":"tools/list"}"#;
    fails(&post(&daemon, "/mcp", &list, bare), 400, -32602, "no params");

    let supported = modern(daemon.raw_http("/mcp")).ask("server/discover", json!({}));
    let supported = supported["result"]["supportedVersions"].clone();
    assert!(supported.as_array().unwrap().contains(&json!(MODERN)), "{supported}");
    for wrong in ["2099-01-01", "1900-01-01", "2025-11-25", "draft", "2026-07-28 "] {
        let meta = json!({ version.as_str(): wrong, capable.as_str(): {} });
        let body = json!({"jsonrpc": "2.0", "id": "same", "method": "tools/list", "params": {"_meta": meta}}).to_string();
        if wrong.trim() == wrong {
            let fields = [("MCP-Protocol-Version", wrong), ("Mcp-Method", "tools/list")];
            let error = fails(&post(&daemon, "/mcp", &fields, &body), 400, -32022, wrong);
            assert_eq!(error["error"]["data"]["supported"], supported, "{error}");
            assert_eq!(error["error"]["data"]["requested"], wrong, "{error}");
        }
        // The header says another one.
        fails(&post(&daemon, "/mcp", &list, &body), 400, -32020, wrong);
    }
}

#[test]
fn a_version_is_refused_alike_by_every_door() {
    let world = World::with(&faulty("f", "plain", ""));
    let daemon = world.serve();
    let supported = modern(daemon.raw_unix("{}")).ask("server/discover", json!({}));
    let supported = &supported["result"]["supportedVersions"];
    let direct = modern(daemon.raw_http("/mcp/f")).ask("server/discover", json!({}));
    assert_eq!(direct["result"]["supportedVersions"], *supported);
    for mut client in [modern(daemon.raw_unix("{}")), modern(world.raw_stdio(&[]))] {
        let other = client
            .ask("tools/list", json!({"_meta": {format!("{OURS}protocolVersion"): "2099-01-01"}}));
        refused(&other, -32022, "2099-01-01");
        assert_eq!(other["error"]["data"]["supported"], *supported);
        let lacks =
            client.ask("tools/list", json!({"_meta": {format!("{OURS}clientCapabilities"): null}}));
        refused(&lacks, -32602, "clientCapabilities");
        assert!(client.ask("tools/list", json!({}))["result"]["tools"].is_array());
    }
}

#[test]
fn a_capability_that_a_call_needs_is_named() {
    let servers = [super::reference("l", "legacy", ""), super::reference("m", "modern", "")];
    let world = World::with(&servers.concat());
    let daemon = world.serve();
    for (tool, can, missing) in [
        ("l_ask", json!({}), json!({"elicitation": {"form": {}}})),
        ("l_ask", json!({"elicitation": {"url": {}}}), json!({"elicitation": {"form": {}}})),
        ("l_ask_url", json!({"elicitation": {}}), json!({"elicitation": {"url": {}}})),
        ("m_ask", json!({}), json!({"elicitation": {}})),
        ("m_sample", json!({"elicitation": {}}), json!({"sampling": {}})),
    ] {
        let mut client = modern(daemon.raw_http("/mcp")).can(can);
        let mut answer = client.begin("tools/call", json!({"name": tool, "arguments": {}}));
        answer.finish();
        assert_eq!(answer.status, 400, "{tool}: {}", answer.body);
        let error: Value = serde_json::from_str(&answer.body).unwrap();
        refused(&error, -32021, "");
        assert_eq!(error["error"]["data"]["requiredCapabilities"], missing, "{tool}: {error}");
    }
    // The same over the socket, which has no status.
    let mut client = modern(daemon.raw_unix("{}")).can(json!({}));
    refused(&client.call("l_ask", json!({})), -32021, "");
    refused(&client.call("m_ask", json!({})), -32021, "");
}

#[test]
fn a_method_that_is_not_there_is_not_found() {
    let world = world();
    let daemon = world.serve();
    for (path, method) in [
        ("/mcp", "vendor/nothing"),
        ("/mcp/f", "vendor/nothing"),
        ("/mcp", "initialize"),
        ("/mcp", "ping"),
        ("/mcp", "logging/setLevel"),
        ("/mcp", "resources/subscribe"),
        ("/mcp", "resources/unsubscribe"),
        ("/mcp", "tasks/list"),
        ("/mcp", "tasks/result"),
        ("/mcp/f", "resources/subscribe"),
        ("/mcp", ""),
    ] {
        let body = body(method, json!({"uri": "faulty://one", "taskId": "t", "level": "info"}));
        let answer = post(&daemon, path, &[VERSION, ("Mcp-Method", method)], &body);
        fails(&answer, 404, -32601, &format!("{path} {method}"));
    }
}

#[test]
fn a_notification_needs_no_method_in_its_header_and_gets_no_answer() {
    let world = world();
    let daemon = world.serve();
    for note in [
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/vendor"}"#,
    ] {
        for fields in [vec![VERSION], vec![VERSION, ("Mcp-Session-Id", "nobodys")]] {
            let answer = post(&daemon, "/mcp", &fields, note);
            assert_eq!((answer.status, answer.body.as_str()), (202, ""), "{note}");
            assert_eq!(answer.header("mcp-session-id"), None);
        }
    }
    let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let answer = post(&daemon, "/mcp", &[VERSION], response);
    assert_eq!(answer.status, 400, "{}", answer.body);
}

#[test]
fn a_session_of_the_other_era_is_none_of_a_requests_business() {
    let world = world();
    let daemon = world.serve();
    let legacy = daemon.http();
    let session = legacy.session.clone().unwrap();
    let call = body("tools/call", json!({"name": "f_echo", "arguments": {"text": "x"}}));
    let fields = [
        VERSION,
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "f_echo"),
        ("Mcp-Session-Id", &session),
    ];
    works(&post(&daemon, "/mcp", &fields, &call), "a session that is there");
    // And the session does not turn modern, nor serve what has no place in it.
    let mut legacy = legacy;
    let answer = crate::harness::Client::ask(&mut legacy, "ping", json!({}));
    assert!(answer["result"].is_object(), "{answer}");
    let id_taken = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2026-07-28","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    let answer = post(&daemon, "/mcp", &[], id_taken);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(read(&answer)["result"]["protocolVersion"], "2025-11-25", "{}", answer.body);
}

#[test]
fn what_two_readers_may_read_in_two_ways_is_refused() {
    let world = world();
    let daemon = world.serve();
    let meta = format!(
        r#""_meta":{{"{OURS}protocolVersion":"{MODERN}","{OURS}clientCapabilities":{{}}}}"#
    );
    for rest in [
        r#""name":"f_place","arguments":{"region":"eu","region":"us"}"#,
        r#""name":"f_place","arguments":{"region":"us","region":"eu"}"#,
        r#""name":"f_place","arguments":{"region":"eu"},"arguments":{"region":"us"}"#,
        r#""name":"f_place","name":"f_echo","arguments":{"region":"eu"}"#,
    ] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":"same","method":"tools/call","params":{{{rest},{meta}}}}}"#
        );
        for region in ["eu", "us"] {
            for name in ["f_place", "f_echo"] {
                let fields = [
                    VERSION,
                    ("Mcp-Method", "tools/call"),
                    ("Mcp-Name", name),
                    ("Mcp-Param-Region", region),
                ];
                let answer = post(&daemon, "/mcp", &fields, &body);
                assert!(
                    !answer.body.contains("\"result\""),
                    "{rest} as {name} in {region}: {}",
                    answer.body
                );
            }
        }
    }
}

#[test]
fn a_batch_is_no_way_round_the_header() {
    let world = world();
    let daemon = world.serve();
    let call = body("tools/call", json!({"name": "f_echo", "arguments": {"text": "sly"}}));
    let batch = format!("[{call}]");
    let answer = post(&daemon, "/mcp", &[VERSION, ("Mcp-Method", "tools/list")], &batch);
    assert_eq!(answer.status, 400, "{}", answer.body);
    // In a session of the one revision that has batches.
    let opening = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    let opened = post(&daemon, "/mcp", &[], opening);
    let session = opened.header("mcp-session-id").unwrap().to_owned();
    for fields in [
        vec![("Mcp-Session-Id", session.as_str()), ("MCP-Protocol-Version", "2025-03-26")],
        vec![("Mcp-Session-Id", session.as_str()), VERSION, ("Mcp-Method", "tools/list")],
    ] {
        let answer = post(&daemon, "/mcp", &fields, &batch);
        assert!(!answer.body.contains("\"result\""), "{fields:?}: {}", answer.body);
    }
    assert!(!world.read("traces/all").contains("sly"));
}

#[test]
fn what_this_era_has_no_more_over_http_is_not_allowed() {
    let world = world();
    let daemon = world.serve();
    for method in ["GET", "DELETE"] {
        let mut http = daemon.raw_http("/mcp").header("MCP-Protocol-Version", MODERN);
        let mut answer = http.send(method, "/mcp", None);
        answer.finish();
        assert!((400..=405).contains(&answer.status), "{method}: {}", answer.status);
        assert_eq!(answer.header("mcp-session-id"), None);
    }
}
