//! Tasks: whose they are, who may see them, and how long their backend stays awake for them.

use serde_json::{Value, json};

use crate::harness::{Client, Framed, World, eventually, faulty};

/// The id of a new task.
fn made(client: &mut Framed, tool: &str, arguments: Value, ttl: u64) -> String {
    let params = json!({"name": tool, "arguments": arguments, "task": {"ttl": ttl}});
    let answer = client.ask("tools/call", params);
    let id = answer["result"]["task"]["taskId"].as_str();
    id.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn ask(client: &mut Framed, method: &str, id: &str) -> Value {
    client.ask(method, json!({ "taskId": id }))
}

fn unknown(answer: &Value) {
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("Task not found"), "{answer}");
}

/// A world with a backend that tells no status by itself, and no child in it.
fn quiet() -> World {
    World::with(&faulty("t", "tasks quiet", "timeouts: {idle: 300ms}"))
}

fn asleep(world: &World) {
    eventually("the backend to sleep", || world.children().is_empty().then_some(()));
}

#[test]
fn a_backend_sleeps_when_an_answer_says_that_its_task_is_over() {
    let world = quiet();
    let daemon = world.serve();
    let mut client = daemon.unix();
    let id = made(&mut client, "t_job", json!({"ms": 50}), 3_600_000);
    eventually("the task to end", || {
        (ask(&mut client, "tasks/get", &id)["result"]["status"] == "completed").then_some(())
    });
    asleep(&world);
    let id = made(&mut client, "t_job", json!({"ms": 50}), 3_600_000);
    assert!(ask(&mut client, "tasks/result", &id)["result"].is_object());
    asleep(&world);
    let id = made(&mut client, "t_job", json!({"ms": 60_000}), 3_600_000);
    assert_eq!(ask(&mut client, "tasks/cancel", &id)["result"]["status"], "cancelled");
    asleep(&world);
}

#[test]
fn a_backend_sleeps_when_the_time_of_its_task_is_over() {
    let world = quiet();
    let daemon = world.serve();
    let mut client = daemon.unix();
    made(&mut client, "t_job", json!({"ms": 60_000}), 500);
    asleep(&world);
}

#[test]
fn a_task_keeps_its_backend_awake() {
    let world = quiet();
    let daemon = world.serve();
    let mut client = daemon.unix();
    let id = made(&mut client, "t_job", json!({"ms": 60_000}), 3_600_000);
    std::thread::sleep(std::time::Duration::from_millis(900));
    assert_eq!(ask(&mut client, "tasks/get", &id)["result"]["status"], "working");
}

#[test]
fn two_backends_may_give_the_same_id_to_two_tasks() {
    let servers = [faulty("a", "tasks numbered", ""), faulty("b", "tasks numbered", "")];
    let world = World::with(&servers.concat());
    let daemon = world.serve();
    let mut client = daemon.unix();
    let long = json!({"ms": 60_000});
    assert_eq!(made(&mut client, "a_job", json!({"ms": 10}), 60_000), "1");
    assert_eq!(made(&mut client, "b_job", long.clone(), 60_000), "1");
    assert_eq!(made(&mut client, "b_job", long, 60_000), "2");
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        unknown(&ask(&mut client, method, "1"));
    }
    assert_eq!(ask(&mut client, "tasks/get", "2")["result"]["status"], "working");
    let result = ask(&mut daemon.unix_with("a"), "tasks/result", "1");
    assert_eq!(result["result"]["content"][0]["text"], "done", "{result}");
    let result = ask(&mut daemon.unix_with("b"), "tasks/get", "1");
    assert_eq!(result["result"]["status"], "working", "{result}");
    let listed = client.ask("tasks/list", json!({}));
    assert_eq!(listed["result"]["tasks"].as_array().unwrap().len(), 3, "{listed}");
}

#[test]
fn who_may_not_call_a_tool_does_not_see_its_tasks() {
    let roles = "roles: {worker: [t_job], reader: [t_echo]}\n";
    let world = World::new(&format!("servers:\n{}{roles}", faulty("t", "tasks", "")));
    let daemon = world.serve();
    let mut client = daemon.unix();
    let id = made(&mut client, "t_job", json!({"ms": 60_000}), 60_000);
    for preface in [r#"{"role":"reader"}"#, r#"{"role":"reader","server":"t"}"#] {
        let mut reader = daemon.raw_unix(preface).opened();
        for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
            unknown(&ask(&mut reader, method, &id));
        }
        assert_eq!(reader.ask("tasks/list", json!({}))["result"]["tasks"], json!([]));
    }
    for preface in [r#"{"role":"worker"}"#, r#"{"role":"worker","server":"t"}"#] {
        let mut worker = daemon.raw_unix(preface).opened();
        assert_eq!(ask(&mut worker, "tasks/get", &id)["result"]["status"], "working");
        let listed = worker.ask("tasks/list", json!({}));
        assert_eq!(listed["result"]["tasks"][0]["taskId"], id.as_str(), "{listed}");
    }
}

#[test]
fn a_tasks_question_goes_to_the_client_that_made_it() {
    let world = World::with(&faulty("t", "tasks,slow", ""));
    let daemon = world.serve();
    let open = || {
        let mut client = daemon.raw_unix("{}");
        client.initialize(json!({"elicitation": {}}));
        client.text("t_echo", json!({}));
        client
    };
    let (mut client, mut other) = (open(), open());
    // The only call in flight is another client's.
    other.start_call("t_sleep", json!({"ms": 20_000, "every": 50}));
    other.notice("notifications/progress");
    let id = made(&mut client, "t_job", json!({"ask": true, "ms": 10}), 60_000);
    let question = client.notice("elicitation/create");
    client.answer(&question, json!({"action": "decline"}));
    let result = ask(&mut client, "tasks/result", &id).to_string();
    assert!(result.contains("decline"), "{result}");
    assert!(other.kept().iter().all(|message| !message.0.contains("elicitation/create")));
}

#[test]
fn a_tasks_progress_goes_on_under_its_token() {
    let world = World::with(&faulty("t", "tasks", ""));
    let mut client = world.stdio();
    let params = json!({
        "name": "t_job", "arguments": {"ms": 300, "progress": true}, "task": {"ttl": 60_000},
        "_meta": {"progressToken": "mine"},
    });
    let id = client.start("tools/call", params);
    assert!(client.response(id).result().contains("taskId"));
    let progress = client.notice("notifications/progress");
    assert_eq!(progress["params"], json!({"progressToken": "mine", "progress": 1, "total": 1}));
}
