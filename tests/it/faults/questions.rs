//! Questions of backends whose asker, or whose client, goes away before the answer.

use serde_json::{Value, json};

use crate::harness::{Client, Framed, World, eventually, faulty};

/// A client that can be asked, in the middle of a question.
fn asked(mut client: Framed) -> (Framed, u64, Value) {
    client.initialize(json!({"elicitation": {}}));
    client.text("f_echo", json!({}));
    let id = client.start_call("f_ask", json!({}));
    let question = client.notice("elicitation/create");
    (client, id, question)
}

#[test]
fn a_question_is_withdrawn_when_its_backend_dies() {
    let world = World::with(&faulty("f", "elicit,die-mid-call", ""));
    let (mut client, id, question) = asked(world.raw_stdio(&[]));
    client.failure("f_die", json!({}));
    let notice = client.notice("notifications/cancelled");
    assert_eq!(notice["params"]["requestId"], question["id"]);
    assert!(client.response(id).error().contains("about to die"));
    // An answer that comes too late goes nowhere.
    client.answer(&question, json!({"action": "accept"}));
    assert_eq!(client.text("f_echo", json!({"text": "again"})), "again");
}

#[test]
fn a_question_is_withdrawn_when_its_call_is_cancelled() {
    let world = World::with(&faulty("f", "elicit", ""));
    let (mut client, id, question) = asked(world.raw_stdio(&[]));
    client.send(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
    ));
    let notice = client.notice("notifications/cancelled");
    assert_eq!(notice["params"]["requestId"], question["id"]);
    assert_eq!(client.text("f_echo", json!({"text": "well"})), "well");
}

#[test]
fn a_backend_hears_that_the_client_it_asked_has_gone() {
    let world = World::with(&faulty(
        "f",
        "elicit",
        "env: {MCP_TRACE: \"{DIR}/traces/all\"}, sandbox: {write: [\"{DIR}/traces\"]}",
    ));
    let daemon = world.serve();
    let (client, _, _) = asked(daemon.raw_unix("{}"));
    drop(client);
    eventually("the backend to hear of it", || {
        let trace = world.read("traces/all");
        let refused = trace.contains("\"question-1\"") && trace.contains("\"error\"");
        (refused || trace.contains("notifications/cancelled")).then_some(())
    });
    assert_eq!(daemon.unix().text("f_echo", json!({"text": "well"})), "well");
}

#[test]
fn a_question_that_could_be_for_two_clients_is_for_none() {
    let world = World::with(&faulty("f", "elicit,slow", ""));
    let daemon = world.serve();
    let mut other = daemon.raw_unix("{}");
    other.initialize(json!({"elicitation": {}}));
    other.text("f_echo", json!({}));
    other.start_call("f_sleep", json!({"ms": 20_000, "every": 50}));
    other.notice("notifications/progress");
    let mut client = daemon.raw_unix("{}");
    client.initialize(json!({"elicitation": {}}));
    let reply: Value = serde_json::from_str(&client.text("f_ask", json!({}))).unwrap();
    let text = reply["error"]["message"].as_str().unwrap_or_else(|| panic!("{reply}"));
    assert!(text.contains("share: session"), "the remedy: {text}");
    let heard = other.kept();
    assert!(heard.iter().all(|message| message.method().as_deref() != Some("elicitation/create")));
}

#[test]
fn a_client_that_thinks_for_long_is_not_a_backend_that_hangs() {
    let world = World::with(&faulty("f", "elicit", "timeouts: {call: 500ms}"));
    let (mut client, id, question) = asked(world.raw_stdio(&[]));
    // Longer than the call may take without a question.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    client.answer(&question, json!({"action": "accept", "content": {"name": "bob"}}));
    assert!(client.response(id).result().contains("bob"));
}

#[test]
fn a_cancellation_of_nothing_withdraws_nothing() {
    let world = World::with(&faulty("f", "elicit,cancel-nothing", ""));
    let (mut client, id, question) = asked(world.raw_stdio(&[]));
    client.text("f_cancel_nothing", json!({}));
    client.answer(&question, json!({"action": "decline"}));
    assert!(client.response(id).result().contains("decline"));
    assert!(client.kept().iter().all(|message| !message.0.contains("notifications/cancelled")));
}

#[test]
fn a_question_about_an_unknown_task_is_for_nobody() {
    let world = World::with(&faulty("f", "elicit", ""));
    let mut client = world.raw_stdio(&[]);
    client.initialize(json!({"elicitation": {}}));
    let params = json!({
        "message": "?", "requestedSchema": {"type": "object", "properties": {}},
        "_meta": {"io.modelcontextprotocol/related-task": {"taskId": "somebody's"}},
    });
    let reply = client.text("f_ask", json!({ "params": params }));
    assert!(reply.contains("\"error\"") && reply.contains("is not known"), "{reply}");
}

#[test]
fn an_answer_to_a_question_that_nobody_asked_does_nothing() {
    let world = World::with(&faulty("f", "elicit", ""));
    let (mut client, id, question) = asked(world.raw_stdio(&[]));
    for other in ["99", "\"1\"", "null", "-1"] {
        client.send(&format!(r#"{{"jsonrpc":"2.0","id":{other},"result":{{"action":"accept"}}}}"#));
    }
    client.answer(&question, json!({"action": "decline"}));
    client.answer(&question, json!({"action": "accept"}));
    assert!(client.response(id).result().contains("decline"));
    assert_eq!(client.text("f_echo", json!({"text": "well"})), "well");
}
