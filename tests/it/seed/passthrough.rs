//! 26–33: everything that MCP has passes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Framed, World, eventually, example, faulty};

const TRACE: &str = "env: {MCP_TRACE: \"{DIR}/traces/all\"}, sandbox: {write: [\"{DIR}/traces\"]}";

#[test]
fn a_list_that_changes_is_announced_to_everyone_who_sees_it() {
    let keys = "discover: placeholder, timeouts: {idle: 1s}";
    let world = World::with(&faulty("f", "plain", keys));
    let daemon = world.serve();
    let mut client = daemon.raw_unix("{}");
    let opened = client.initialize(json!({})).json();
    assert_eq!(opened["result"]["capabilities"]["tools"]["listChanged"], true);
    let mut other = daemon.sse();
    assert_eq!(client.tools(), other.tools());
    client.text("_f_connect", json!({}));
    for client in [&mut client, &mut other] {
        client.notice("notifications/tools/list_changed");
        assert!(client.tools().contains(&"f_echo".to_owned()));
    }
    // And again when the placeholder comes back.
    for client in [&mut client, &mut other] {
        client.notice("notifications/tools/list_changed");
        assert_eq!(client.tools(), ["_f_connect", "gateway_status"]);
    }
}

#[test]
fn a_backends_new_tools_are_announced_and_callable() {
    let world = World::with(&faulty("f", "rug", ""));
    let daemon = world.serve();
    let mut client = daemon.unix();
    assert!(!client.tools().contains(&"f_pulled_1".to_owned()));
    let mut listening = daemon.http();
    listening.tools();
    let mut stream = listening.listen();
    client.text("f_pull", json!({}));
    client.notice("notifications/tools/list_changed");
    let heard = stream.event().unwrap();
    assert!(heard.contains("notifications/tools/list_changed"), "{heard}");
    assert!(client.tools().contains(&"f_pulled_1".to_owned()));
    assert_eq!(client.text("f_pulled_1", json!({})), "new");
    let list = client.ask("tools/list", json!({})).to_string();
    assert!(list.contains("Sends your text to pull number 1"), "what echo claims to be now");
}

#[test]
fn a_storm_of_changes_is_told_once_and_no_change_not_at_all() {
    let world = World::with(&faulty("f", "rug", ""));
    let mut client = world.stdio();
    client.tools();
    client.text("f_storm", json!({"count": 1000}));
    client.text("f_pull", json!({}));
    client.notice("notifications/tools/list_changed");
    let more = client.kept();
    assert!(more.is_empty(), "{more:?}");
}

#[test]
fn progress_log_messages_and_meta_pass() {
    let world = World::with(&faulty("f", "slow,log", TRACE));
    let mut client = world.stdio();
    let opened = client.tools();
    assert!(opened.contains(&"f_sleep".to_owned()));
    let params = json!({
        "name": "f_sleep", "arguments": {"ms": 300, "every": 100},
        "_meta": {"progressToken": "mine", "example.com/trace": {"id": 7}},
    });
    let id = client.start("tools/call", params);
    client.response(id).result();
    let progress: Vec<Value> =
        client.kept().iter().map(|message| message.json()["params"].clone()).collect();
    let done: Vec<&Value> = progress.iter().map(|params| &params["progress"]).collect();
    assert_eq!(done, [0, 100, 200, 300], "each once, in order, before the answer: {progress:?}");
    assert!(
        progress.iter().all(|params| params["progressToken"] == "mine" && params["total"] == 300)
    );
    assert!(world.read("traces/all").contains(r#""example.com/trace":{"id":7}"#));
    assert_eq!(client.ask("logging/setLevel", json!({"level": "error"}))["result"], json!({}));
    let id = client.start_call("f_log_all", json!({}));
    assert_eq!(client.response(id).json()["result"]["content"][0]["text"], "logged from error up");
    let levels: Vec<String> = client
        .kept()
        .iter()
        .map(|message| message.json()["params"]["level"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(levels, ["error", "critical", "alert", "emergency"]);
}

#[test]
fn a_cancelled_call_is_cancelled_at_the_backend() {
    let world = World::with(&faulty("f", "slow", ""));
    let daemon = world.serve();
    let clients: [Framed; 3] = [world.stdio(), daemon.unix(), daemon.sse()];
    for mut client in clients {
        client.text("f_echo", json!({}));
        let id = client.start_call("f_sleep", json!({"ms": 20_000, "every": 50}));
        client.notice("notifications/progress");
        client.send(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"changed my mind"}}}}"#
        ));
        eventually("the backend to hear of it", || {
            client.text("f_cancelled", json!({})).contains("changed my mind").then_some(())
        });
        eventually("no call in flight", || (client.instance("f")["calls"] == 0).then_some(()));
        let answered = client.kept().iter().any(|message| message.id() == Some(id.to_string()));
        assert!(!answered, "a cancelled request gets no answer");
    }
}

/// Asks through the tool, answers what is asked, and gives back the question and what the backend
/// got for an answer.
fn asked(client: &mut Framed, tool: &str, method: &str, result: Value) -> (Value, Value) {
    let id = client.start_call(tool, json!({}));
    let question = client.notice(method);
    client.answer(&question, result);
    let answer = client.response(id).json();
    let reply =
        answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"));
    (question, serde_json::from_str(reply).unwrap())
}

#[test]
fn sampling_elicitation_and_roots_reach_the_client() {
    let servers = [
        faulty("s", "sampling", ""),
        faulty("e", "elicit", ""),
        faulty("r", "roots", "share: session"),
    ];
    let world = World::with(&servers.concat());
    let daemon = world.serve();
    for mut client in [world.raw_stdio(&[]), daemon.raw_unix("{}"), daemon.raw_sse()] {
        client.initialize(
            json!({"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {}}),
        );
        let said = json!({"role": "assistant", "content": {"type": "text", "text": "Hm."}, "model": "m", "x-v": 1});
        let (question, reply) = asked(&mut client, "s_ask", "sampling/createMessage", said.clone());
        assert_eq!(question["params"]["maxTokens"], 100);
        assert_eq!(reply["result"], said);
        assert_eq!(reply["id"], "question-1", "under the backend's own id");
        let said = json!({"action": "accept", "content": {"name": "bob"}});
        let (question, reply) = asked(&mut client, "e_ask", "elicitation/create", said.clone());
        let name = &question["params"]["requestedSchema"]["properties"]["name"];
        assert_eq!(*name, json!({"type": "string", "pattern": "^[a-z]+$", "x-vendor": {"n": 1}}));
        assert_eq!(reply["result"], said);
        let said = json!({"action": "accept"});
        let (question, _) = asked(&mut client, "e_ask_url", "elicitation/create", said);
        assert_eq!(question["params"]["url"], "https://example.com/consent");
        let complete = client.notice("notifications/elicitation/complete");
        assert_eq!(complete["params"]["elicitationId"], "elicitation-1");
        let said = json!({"roots": [{"uri": "file:///srv", "name": "srv"}]});
        let (_, reply) = asked(&mut client, "r_ask", "roots/list", said.clone());
        assert_eq!(reply["result"], said);
        // Each client after the other asks a backend of its own.
        drop(client);
        eventually("the backends of this client to go", || {
            world.children().iter().all(|(_, words)| !words.contains("roots")).then_some(())
        });
        for (pid, _) in world.children() {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
        eventually("no backend", || world.children().is_empty().then_some(()));
        // The next client's call must not go to one that the gateway has yet to miss.
        eventually("the gateway to know", || {
            let mut health = daemon.raw_http("/mcp").get("/health");
            health.finish();
            health.body.contains("\"instances_ready\":0").then_some(())
        });
    }
}

#[test]
fn a_question_over_http_comes_on_the_calls_own_stream() {
    let world = World::with(&faulty("e", "elicit", ""));
    let daemon = world.serve();
    let mut client = daemon.raw_http("/mcp");
    client.initialize(json!({"elicitation": {}}));
    client.text("e_echo", json!({}));
    let call = r#"{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{"name":"e_ask","arguments":{}}}"#;
    let mut stream = client.begin(call);
    let question: Value = serde_json::from_str(&stream.event().unwrap()).unwrap();
    assert_eq!(question["method"], "elicitation/create");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}});
    client.twin().tell(&answer.to_string());
    let answer = stream.event().unwrap();
    assert!(answer.contains("decline") && answer.contains("\"id\":77"), "{answer}");
}

#[test]
fn a_client_without_the_capability_is_not_asked() {
    let servers =
        [faulty("s", "sampling", ""), faulty("e", "elicit", ""), faulty("r", "roots", "")];
    let world = World::with(&servers.concat());
    let mut client = world.stdio();
    for (tool, what) in [("s_ask", "sampling"), ("e_ask", "elicitation"), ("r_ask", "roots")] {
        let reply: Value = serde_json::from_str(&client.text(tool, json!({}))).unwrap();
        assert!(reply["error"]["message"].as_str().unwrap().contains(what), "{reply}");
    }
}

#[test]
fn resources_prompts_completion_and_subscriptions_pass() {
    let world =
        World::with(&[faulty("r", "resources", TRACE), faulty("p", "prompts", "")].concat());
    let daemon = world.serve();
    let mut client = daemon.raw_unix("{}");
    let capabilities = client.initialize(json!({})).json()["result"]["capabilities"].clone();
    assert_eq!(capabilities["resources"], json!({"subscribe": true, "listChanged": true}));
    for name in ["prompts", "completions", "logging"] {
        assert!(capabilities[name].is_object(), "{name} in {capabilities}");
    }
    let resources = client.ask("resources/list", json!({}))["result"]["resources"].clone();
    assert_eq!(resources[0]["uri"], "faulty://one");
    let templates = client.ask("resources/templates/list", json!({}));
    assert_eq!(templates["result"]["resourceTemplates"][0]["uriTemplate"], "faulty://by-id/{id}");
    for uri in ["faulty://one", "faulty://by-id/7"] {
        let read = client.ask("resources/read", json!({ "uri": uri }));
        assert_eq!(read["result"]["contents"][0]["text"], "touched 0 times", "{read}");
    }
    assert_eq!(client.ask("resources/read", json!({"uri": "other://x"}))["error"]["code"], -32002);
    assert!(
        client.ask("resources/subscribe", json!({"uri": "faulty://one"}))["result"].is_object()
    );
    let mut stranger = daemon.unix();
    stranger.text("r_touch", json!({}));
    assert_eq!(client.notice("notifications/resources/updated")["params"]["uri"], "faulty://one");
    stranger.text("r_echo", json!({}));
    assert!(stranger.kept().iter().all(|message| !message.0.contains("resources/updated")));
    client.text("r_touch", json!({"uri": "faulty://three"}));
    client.notice("notifications/resources/list_changed");
    let resources = client.ask("resources/list", json!({}))["result"]["resources"].clone();
    assert_eq!(resources.as_array().unwrap().len(), 3);
    assert!(
        client.ask("resources/unsubscribe", json!({"uri": "faulty://one"}))["result"].is_object()
    );
    eventually("the backend to hear of it", || {
        (client.text("r_subscriptions", json!({})) == "[]").then_some(())
    });
    let prompts = client.ask("prompts/list", json!({}))["result"]["prompts"].clone();
    assert_eq!(prompts[0]["name"], "p_greeting");
    let prompt = json!({"name": "p_greeting", "arguments": {"who": "bob"}});
    let prompt = client.ask("prompts/get", prompt);
    assert_eq!(prompt["result"]["messages"][0]["content"]["text"], "Greet bob.");
    for reference in [
        json!({"type": "ref/prompt", "name": "p_greeting"}),
        json!({"type": "ref/resource", "uri": "faulty://by-id/{id}"}),
    ] {
        let argument = json!({"name": "who", "value": "al"});
        let answer =
            client.ask("completion/complete", json!({"ref": reference, "argument": argument}));
        if reference["type"] == "ref/prompt" {
            assert_eq!(answer["result"]["completion"]["values"], json!(["alice", "alan"]));
        } else {
            assert_eq!(answer["error"]["code"], -32601, "that backend has none: {answer}");
        }
    }
    client.text("p_grow", json!({}));
    client.notice("notifications/prompts/list_changed");
    assert_eq!(
        client.ask("prompts/list", json!({}))["result"]["prompts"][1]["name"],
        "p_greeting_2"
    );
}

#[test]
fn tasks_of_2025_11_25_pass() {
    let world = World::with(&faulty("t", "tasks", ""));
    let daemon = world.serve();
    let mut client = daemon.unix();
    client.text("t_echo", json!({}));
    let call = json!({"name": "t_job", "arguments": {"ms": 200}, "task": {"ttl": 60000}});
    let made = client.ask("tools/call", call);
    let id =
        made["result"]["task"]["taskId"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let task = json!({ "taskId": id });
    assert_eq!(client.ask("tasks/get", task.clone())["result"]["taskId"], id.as_str());
    let result = client.ask("tasks/result", task.clone());
    assert_eq!(result["result"]["content"][0]["text"], "done", "{result}");
    let mut stranger = daemon.raw_unix("{}").opened();
    let listed = client.ask("tasks/list", json!({}))["result"]["tasks"].to_string();
    assert!(listed.contains(&id), "{listed}");
    let answer = stranger.ask("tasks/get", json!({"taskId": "no-such-task"}));
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    let long = json!({"name": "t_job", "arguments": {"ms": 60_000}, "task": {}});
    let made = client.ask("tools/call", long);
    let task = json!({"taskId": made["result"]["task"]["taskId"]});
    assert_eq!(client.ask("tasks/cancel", task)["result"]["status"], "cancelled");
}

#[test]
fn streamable_http_is_served() {
    let world = World::with(&example("e", "echo", "", ""));
    let daemon = world.serve();
    let mut client = daemon.raw_http("/mcp");
    client.initialize(json!({}));
    assert!(client.session.is_some());
    assert_eq!(client.text("e_echo", json!({"text": "hello"})), "hello");
    let mut stream = client.listen();
    assert!(stream.is_events());
    assert_eq!(client.twin().send("DELETE", "/mcp", None).status, 204);
    assert!(stream.event().is_none(), "its streams end with a session");
    assert_eq!(client.begin(r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#).status, 404);
    let refused = daemon.raw_http("/mcp").begin(r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#);
    assert_eq!(refused.status, 400, "no session, no service");
    let missing = daemon.raw_http("/mcp/nobody").begin(
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#,
    );
    assert_eq!(missing.status, 404);
    let old = client.twin().header("mcp-protocol-version", "1999-01-01").begin("{}").status;
    assert!(old == 400 || old == 404, "{old}");
}

#[test]
fn a_quiet_http_session_ends_after_timeouts_session() {
    let servers = example("e", "echo", "", "");
    let world = World::new(&format!("timeouts: {{session: 1s}}\nservers:\n{servers}"));
    let daemon = world.serve();
    let mut client = daemon.http();
    client.text("e_echo", json!({"text": "x"}));
    std::thread::sleep(Duration::from_millis(1100));
    let late = client.begin(r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#);
    assert_eq!(late.status, 404);
}
