//! What the clients of the modern era share, who have no sessions; and apps, whose capability
//! goes both ways.

use std::thread;

use serde_json::{Value, json};

use super::{Modern, TRACE, modern, parsed, refused, text};
use crate::harness::{Client, Http, World, faulty};

const UI: &str = "io.modelcontextprotocol/ui";

#[test]
fn an_instance_of_a_session_is_a_connections_or_over_http_its_principals() {
    for mode in ["counter", "counter,modern"] {
        let world = World::with(&faulty("f", mode, "share: session"));
        let daemon = world.serve();
        let (mut one, mut two) = (modern(daemon.raw_unix("{}")), modern(daemon.raw_unix("{}")));
        for expected in ["1", "2", "3"] {
            assert_eq!(one.text("f_next", json!({})), expected);
        }
        assert_eq!(two.text("f_next", json!({})), "1");
        for (n, door) in ["/mcp", "/mcp/f", "/mcp"].into_iter().enumerate() {
            let tool = if door == "/mcp" { "f_next" } else { "next" };
            assert_eq!(modern(daemon.raw_http(door)).text(tool, json!({})), (n + 1).to_string());
        }
        assert_eq!(daemon.unix().text("f_next", json!({})), "1");
        drop(one);
        // Each ends with its connection; the one that all requests share stays.
        world.gone_soon(2);
        drop(two);
        world.gone_soon(1);
        assert_eq!(modern(daemon.raw_http("/mcp")).text("f_next", json!({})), "4");
    }
}

#[test]
fn an_instance_of_all_is_everybodys() {
    for mode in ["counter", "counter,modern"] {
        for share in ["share: all", "share: user"] {
            let world = World::with(&faulty("f", mode, share));
            let daemon = world.serve();
            assert_eq!(modern(daemon.raw_unix("{}")).text("f_next", json!({})), "1");
            assert_eq!(modern(daemon.raw_http("/mcp")).text("f_next", json!({})), "2");
            assert_eq!(daemon.unix().text("f_next", json!({})), "3");
            assert_eq!(daemon.http().text("f_next", json!({})), "4");
            assert_eq!(world.children().len(), 1);
        }
    }
}

#[test]
fn lists_say_whose_caches_may_keep_them() {
    for (keys, roles, scope) in [
        ("share: all", "", "public"),
        ("", "", "private"),
        ("share: all", "roles: {r: ['f_*']}\n", "private"),
    ] {
        let world = World::new(&format!("servers:\n{}{roles}", faulty("f", "resources", keys)));
        let daemon = world.serve();
        let mut client = modern(daemon.raw_http("/mcp"));
        for (method, params) in [
            ("tools/list", json!({})),
            ("resources/list", json!({})),
            ("resources/templates/list", json!({})),
            ("resources/read", json!({"uri": "faulty://one"})),
            ("server/discover", json!({})),
        ] {
            let answer = client.ask(method, params);
            assert_eq!(answer["result"]["cacheScope"], scope, "{method} {keys}: {answer}");
            assert!(answer["result"]["ttlMs"].is_u64(), "{answer}");
        }
    }
}

#[test]
fn an_instance_of_a_session_is_asked_nothing_of_another_connection() {
    let world = World::with(&faulty("f", "elicit,slow", "share: session"));
    let daemon = world.serve();
    // What would be nobody's question at a shared instance is this connection's.
    let mut other = modern(daemon.raw_unix("{}"));
    let sleep = json!({"name": "f_sleep", "arguments": {"ms": 20_000, "every": 20}, "_meta": {"progressToken": "p"}});
    other.start("tools/call", sleep);
    other.client.wait("progress", |message| message.0.contains("\"total\""));
    let mut client = modern(daemon.raw_unix("{}"));
    let asked = client.asked_by("f_ask", json!({}));
    let foreign = other.again(&asked, asked.accepted());
    // One principal's, so it opens; and the call goes on where it was parked.
    assert!(foreign["result"].is_object() || foreign["error"].is_object(), "{foreign}");
    assert!(other.client.kept().iter().all(|message| !message.0.contains("elicitation/create")));
}

#[test]
fn what_an_error_proposes_helps_clients_without_sessions_too() {
    // Two calls of two requests are asked at once: `share: session`, says the error elsewhere.
    let world = World::with(&faulty("f", "elicit,slow", "share: session"));
    let daemon = world.serve();
    let sleep = json!({"name": "f_sleep", "arguments": {"ms": 20_000, "every": 20}, "_meta": {"progressToken": "p"}});
    let mut other = modern(daemon.raw_http("/mcp"));
    let mut stream = other.begin("tools/call", sleep);
    stream.event().unwrap();
    let answer = modern(daemon.raw_http("/mcp")).call("f_ask", json!({}));
    let asked = answer["result"]["resultType"] == "input_required";
    assert!(asked || !answer.to_string().contains("set `share: session`"), "{answer}");
}

#[test]
fn a_state_of_a_shared_backend_is_told_from_its_own_words() {
    let world = World::with(&faulty("f", "rounds", &format!("share: all, {TRACE}")));
    let daemon = world.serve();
    let mut client = modern(daemon.raw_http("/mcp"));
    let asked = client.asked_by("f_ask", json!({"rounds": 2}));
    // What the backend said is not what the client got; what it gets back is.
    let ours = asked.state.as_str().unwrap();
    let answer = client.again(&asked, asked.accepted());
    assert!(!world.read("traces/all").contains(ours));
    let next = super::Asked::of("tools/call", asked.params.clone(), &answer);
    assert_ne!(next.state, asked.state);
    assert!(text(&client.again(&next, next.accepted())).contains("bob"));
    // A state that only the backend knows how to read is none of ours.
    let trace = world.read("traces/all");
    let theirs = trace.split("\"requestState\":\"").nth(1).unwrap().split('"').next().unwrap();
    let answer = client.again(&asked.with_state(theirs), asked.accepted());
    refused(&answer, -32602, "requestState is refused");
}

fn declares(mut client: Modern<Http>, tool: &str) -> Value {
    parsed(&client.call(tool, json!({})))["extensions"].clone()
}

#[test]
fn apps_are_declared_by_both_sides_and_their_views_come_through() {
    let kind = json!({"mimeTypes": ["text/html;profile=mcp-app"]});
    let can = json!({"extensions": {UI: kind, "com.example/own": {}}});
    for (mode, era) in [("apps", "legacy"), ("apps,modern", "modern")] {
        let world = World::with(&faulty("f", mode, ""));
        let daemon = world.serve();
        for (door, prefix) in [("/mcp", "f_"), ("/mcp/f", "")] {
            // The backend hears of it: of the client that asks, or of the gateway for all.
            let tool = format!("{prefix}said");
            let said = declares(modern(daemon.raw_http(door)).can(can.clone()), &tool);
            assert_eq!(said[UI], kind, "{era} {door}: {said}");
            let mut old = daemon.raw_http(door);
            old.initialize(can.clone());
            let said = parsed(&old.call(&tool, json!({})));
            assert_eq!(said["extensions"][UI], kind, "{era} {door}: {said}");
            if era == "modern" {
                let said = declares(modern(daemon.raw_http(door)).can(json!({})), &tool);
                assert_eq!(said[UI], Value::Null, "nobody else's words: {said}");
            }
            // And the client of the backend.
            let mut client = modern(daemon.raw_http(door)).can(can.clone());
            client.ask("tools/list", json!({}));
            let found = client.ask("server/discover", json!({}));
            assert_eq!(
                found["result"]["capabilities"]["extensions"][UI], kind,
                "{era} {door}: {found}"
            );
            let mut old = daemon.raw_http(door);
            let answer = old.initialize(can.clone()).json();
            assert_eq!(
                answer["result"]["capabilities"]["extensions"][UI], kind,
                "{era} {door}: {answer}"
            );
            // Definitions, results and views.
            let show = format!("{prefix}show");
            let view = json!({"uri": "ui://faulty/view"});
            let new = [
                client.ask("tools/list", json!({})),
                client.call(&show, json!({})),
                client.ask("resources/read", view.clone()),
                client.ask("resources/list", json!({})),
            ];
            let old = [
                old.ask("tools/list", json!({})),
                old.call(&show, json!({})),
                old.ask("resources/read", view),
                old.ask("resources/list", json!({})),
            ];
            for [tools, shown, read, listed] in [new, old] {
                let tools = tools["result"]["tools"].as_array().unwrap();
                let tool = tools.iter().find(|tool| tool["name"] == show.as_str()).unwrap();
                assert_eq!(
                    tool["_meta"]["ui"],
                    json!({"resourceUri": "ui://faulty/view", "visibility": ["model", "app"]})
                );
                assert_eq!(
                    shown["result"]["_meta"]["ui"]["big"], 9_007_199_254_740_993_u64,
                    "{shown}"
                );
                let content = &read["result"]["contents"][0];
                assert_eq!(content["mimeType"], "text/html;profile=mcp-app", "{read}");
                assert_eq!(content["_meta"]["ui"]["csp"], json!({}), "{read}");
                assert_eq!(listed["result"]["resources"][0]["uri"], "ui://faulty/view", "{listed}");
            }
        }
    }
}

#[test]
fn what_the_gateway_answers_itself_is_of_the_clients_era() {
    let servers =
        faulty("f", "plain", "discover: placeholder") + &faulty("off", "exit-at-once", "");
    let world = World::with(&servers);
    let daemon = world.serve();
    let identity = "io.modelcontextprotocol/serverInfo";
    let mut new = modern(daemon.raw_http("/mcp"));
    for tool in ["gateway_status", "_f_connect"] {
        let answer = new.call(tool, json!({}));
        assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
        assert!(answer["result"]["_meta"][identity]["name"].is_string(), "{answer}");
        let answer = daemon.unix().call(tool, json!({}));
        assert!(answer["result"].get("resultType").is_none(), "{answer}");
    }
    // Errors too, and what is not there.
    refused(&new.call("nobody_tool", json!({})), -32602, "Unknown tool");
    assert!(new.call("off_tool", json!({}))["error"]["code"].is_i64());
    let mut answer = modern(daemon.raw_http("/mcp/nobody")).begin("server/discover", json!({}));
    answer.finish();
    assert_eq!(answer.status, 404, "{}", answer.body);
    let read = modern(daemon.raw_http("/mcp")).ask("resources/read", json!({"uri": "no://where"}));
    refused(&read, -32602, "no://where");
}

#[test]
fn a_long_list_comes_in_pages_to_clients_of_both_eras() {
    for mode in ["pages 25 10", "pages,modern 25 10"] {
        let world = World::with(&faulty("f", mode, ""));
        let daemon = world.serve();
        for path in ["/mcp", "/mcp/f"] {
            let old = daemon.raw_http(path).opened().tools();
            let mut client = modern(daemon.raw_http(path));
            let (mut new, mut params) = (Vec::new(), json!({}));
            loop {
                let answer = client.ask("tools/list", params);
                let tools =
                    answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("{answer}"));
                new.extend(tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
                match answer["result"]["nextCursor"].as_str() {
                    Some(cursor) => params = json!({ "cursor": cursor }),
                    None => break,
                }
            }
            assert_eq!(old, new, "{mode} {path}");
            assert!(new.len() >= 28, "{mode} {path}: {new:?}");
        }
    }
}

#[test]
fn many_clients_of_both_eras_at_once_get_their_own_answers() {
    for mode in ["plain", "modern"] {
        let world = World::with(&faulty("f", mode, ""));
        let daemon = world.serve();
        let mut threads = Vec::new();
        for who in 0..4 {
            let mut framed = modern(daemon.raw_unix("{}"));
            let mut http = modern(daemon.raw_http("/mcp"));
            let mut old = daemon.unix();
            threads.push(thread::spawn(move || {
                for n in 0..100 {
                    let said = format!("{who}/{n}/framed");
                    assert_eq!(framed.text("f_echo", json!({"text": said})), said);
                    let said = format!("{who}/{n}/http");
                    assert_eq!(http.text("f_echo", json!({"text": said})), said);
                    let said = format!("{who}/{n}/old");
                    assert_eq!(old.text("f_echo", json!({"text": said})), said);
                }
            }));
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(world.children().len(), 1);
    }
}
