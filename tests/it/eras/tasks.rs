//! The tasks of the modern era (the extension `io.modelcontextprotocol/tasks`): whose they are,
//! how long they live, and that the other era does not know them.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{Modern, modern, reference, refused};
use crate::harness::{Client, Daemon, Framed, Http, World, eventually, faulty};

const TASKS: &str = "io.modelcontextprotocol/tasks";

fn can() -> Value {
    json!({"elicitation": {"form": {}}, "extensions": {TASKS: {}}})
}

fn client(daemon: &Daemon, path: &str) -> Modern<Http> {
    modern(daemon.raw_http(path)).can(can())
}

fn made<C: super::Door>(client: &mut Modern<C>, tool: &str, arguments: Value) -> String {
    let answer = client.call(tool, arguments);
    assert_eq!(answer["result"]["resultType"], "task", "{answer}");
    answer["result"]["taskId"].as_str().unwrap().to_owned()
}

fn about<C: super::Door>(client: &mut Modern<C>, method: &str, id: &str) -> Value {
    client.ask(method, json!({ "taskId": id }))
}

fn settled<C: super::Door>(client: &mut Modern<C>, id: &str, status: &str) -> Value {
    eventually(&format!("the task to be {status}"), || {
        let answer = about(client, "tasks/get", id);
        (answer["result"]["status"] == status).then_some(answer)
    })
}

#[test]
fn a_task_is_looked_at_answered_and_cancelled_by_its_owner() {
    let world = World::with(&(reference("r", "modern", "") + &faulty("other", "plain", "")));
    let daemon = world.serve();
    for (path, prefix) in [("/mcp", "r_"), ("/mcp/r", "")] {
        let mut one = client(&daemon, path);
        let id = made(
            &mut one,
            &format!("{prefix}slow_compute"),
            json!({"seconds": 0.2, "label": "it"}),
        );
        // Over another connection as well: there are no sessions.
        let answer = settled(&mut client(&daemon, path), &id, "completed");
        assert!(answer["result"].to_string().contains("it took"), "{answer}");
        assert_eq!(answer["result"]["resultType"], "complete", "{answer}");

        let id = made(&mut one, &format!("{prefix}slow_compute"), json!({"seconds": 600}));
        assert_eq!(about(&mut one, "tasks/get", &id)["result"]["status"], "working");
        assert!(about(&mut one, "tasks/cancel", &id)["result"].is_object());
        settled(&mut one, &id, "cancelled");

        let id = made(&mut one, &format!("{prefix}confirm_delete"), json!({"filename": "x"}));
        let asked = settled(&mut one, &id, "input_required");
        let asked = asked["result"]["inputRequests"].as_object().unwrap();
        assert_eq!(asked["confirm"]["method"], "elicitation/create");
        let given = json!({"confirm": {"action": "accept", "content": {"confirm": true}}});
        let answer = one.ask("tasks/update", json!({"taskId": id, "inputResponses": given}));
        assert!(answer["result"].is_object(), "{answer}");
        let answer = settled(&mut one, &id, "completed");
        assert!(answer["result"].to_string().contains("x: accept"), "{answer}");

        let id = made(&mut one, &format!("{prefix}failing_job"), json!({}));
        let answer = settled(&mut one, &id, "completed");
        assert!(answer["result"].to_string().contains("the job failed"), "{answer}");
    }
}

#[test]
fn who_does_not_declare_tasks_gets_none() {
    let world = World::with(&reference("r", "modern", ""));
    let daemon = world.serve();
    let id = made(&mut client(&daemon, "/mcp"), "r_slow_compute", json!({"seconds": 600}));
    let mut plain = modern(daemon.raw_http("/mcp"));
    let answer = plain.call("r_slow_compute", json!({"seconds": 0, "label": "it"}));
    assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
    for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
        let answer = about(&mut plain, method, &id);
        refused(&answer, -32021, "");
        assert_eq!(
            answer["error"]["data"]["requiredCapabilities"],
            json!({"extensions": {TASKS: {}}})
        );
    }
    assert_eq!(
        about(&mut client(&daemon, "/mcp"), "tasks/get", &id)["result"]["status"],
        "working"
    );
}

#[test]
fn a_task_of_one_era_is_unknown_in_the_other() {
    let world = World::with(&(reference("m", "modern", "") + &faulty("l", "tasks", "")));
    let daemon = world.serve();
    let mut new = client(&daemon, "/mcp");
    let mut old = daemon.unix();
    let theirs = made(&mut new, "m_slow_compute", json!({"seconds": 600}));
    let mut hidden = |methods: &[&str], id: &str| {
        for method in methods {
            let answer = old.ask(method, json!({"taskId": id}));
            refused(&answer, -32602, "Task not found");
        }
    };
    hidden(&["tasks/get", "tasks/cancel", "tasks/result"], &theirs);
    let params = json!({"name": "l_job", "arguments": {"ms": 60_000}, "task": {"ttl": 60_000}});
    let mut old = daemon.unix();
    let answer = old.ask("tools/call", params);
    let ours = answer["result"]["task"]["taskId"].as_str().unwrap().to_owned();
    for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
        refused(&about(&mut new, method, &ours), -32602, "Task not found");
    }
    for method in ["tasks/list", "tasks/result"] {
        refused(&about(&mut new, method, &ours), -32601, "");
    }
    assert_eq!(about(&mut new, "tasks/get", &theirs)["result"]["status"], "working");
    assert_eq!(old.ask("tasks/get", json!({"taskId": ours}))["result"]["status"], "working");
    // Neither is promised what it cannot have.
    let found = new.ask("server/discover", json!({}));
    assert!(found["result"]["capabilities"].get("tasks").is_none(), "{found}");
    assert!(found["result"]["capabilities"]["extensions"][TASKS].is_object(), "{found}");
    let answer = daemon.raw_unix("{}").initialize(json!({})).json();
    assert!(answer["result"]["capabilities"]["extensions"].get(TASKS).is_none(), "{answer}");
    assert!(answer["result"]["capabilities"]["tasks"].is_object(), "{answer}");
    let answer = daemon.raw_unix(r#"{"server":"m"}"#).initialize(json!({})).json();
    assert!(answer["result"]["capabilities"]["extensions"].get(TASKS).is_none(), "{answer}");
    // A legacy client that says that it can have them is not believed.
    let mut sly = daemon.raw_unix("{}");
    sly.initialize(json!({"extensions": {TASKS: {}}}));
    let answer = sly.call("m_slow_compute", json!({"seconds": 0, "label": "it"}));
    assert!(super::text(&answer).contains("it took"), "{answer}");
}

#[test]
fn who_may_not_call_the_tool_does_not_see_its_tasks() {
    let servers = reference("r", "modern", "");
    let roles = "roles: {worker: [r_slow_compute], reader: [r_echo]}\n";
    let world = World::new(&format!("servers:\n{servers}{roles}"));
    let daemon = world.serve();
    let door = |role: &str, server: &str| -> Modern<Framed> {
        modern(daemon.raw_unix(&format!(r#"{{"role":"{role}"{server}}}"#))).can(can())
    };
    let id = made(&mut door("worker", ""), "r_slow_compute", json!({"seconds": 600}));
    for server in ["", r#","server":"r""#] {
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            refused(&about(&mut door("reader", server), method, &id), -32602, "Task not found");
        }
        let answer = about(&mut door("worker", server), "tasks/get", &id);
        assert_eq!(answer["result"]["status"], "working", "{answer}");
    }
    for nobodys in ["", "x", "../r"] {
        refused(&about(&mut door("worker", ""), "tasks/get", nobodys), -32602, "Task not found");
    }
}

#[test]
fn a_task_dies_with_its_process_and_the_answer_says_so() {
    let world = World::with(&reference("r", "modern", ""));
    let daemon = world.serve();
    for path in ["/mcp", "/mcp/r"] {
        let mut one = client(&daemon, path);
        let tool = if path == "/mcp" { "r_slow_compute" } else { "slow_compute" };
        let id = made(&mut one, tool, json!({"seconds": 600}));
        kill(Pid::from_raw(world.child()), Signal::SIGKILL).unwrap();
        world.gone_soon(0);
        if path == "/mcp" {
            let answer = about(&mut one, "tasks/get", &id);
            assert!(answer["error"]["message"].is_string(), "{answer}");
        }
        eventually("another child", || {
            one.call(&tool.replace("slow_compute", "pid"), json!({}))["result"]
                .as_object()
                .map(|_| ())
        });
        let answer = about(&mut one, "tasks/get", &id);
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    // Where it cannot be another's, the gateway itself says why.
    let world = World::with(&(reference("r", "modern", "") + &faulty("f", "plain", "")));
    let daemon = world.serve();
    let mut one = client(&daemon, "/mcp");
    let id = made(&mut one, "r_slow_compute", json!({"seconds": 600}));
    kill(
        Pid::from_raw(
            world.children().iter().find(|(_, words)| words.contains("reference")).unwrap().0,
        ),
        Signal::SIGKILL,
    )
    .unwrap();
    eventually("its end", || {
        let answer = about(&mut one, "tasks/get", &id);
        answer["error"]["message"]
            .as_str()
            .filter(|text| text.contains("as long as its backend's process"))
            .map(|_| ())
    });
}

#[test]
fn a_task_keeps_its_backend_awake_until_it_is_over() {
    let world = World::with(&reference("r", "modern", "timeouts: {idle: 200ms}"));
    let daemon = world.serve();
    let mut one = client(&daemon, "/mcp");
    let id = made(&mut one, "r_slow_compute", json!({"seconds": 0.9, "label": "it"}));
    let pid = world.child();
    settled(&mut one, &id, "completed");
    assert_eq!(world.child(), pid, "it was not reaped meanwhile");
    world.gone_soon(0);
}

#[test]
fn a_task_that_is_nobodys_cannot_be_listened_to() {
    let world = World::with(&(reference("r", "modern", "") + &faulty("l", "tasks", "")));
    let daemon = world.serve();
    let mut one = client(&daemon, "/mcp");
    let id = made(&mut one, "r_slow_compute", json!({"seconds": 600}));
    let wanted = json!({"notifications": {"taskIds": ["nobodys"], "toolsListChanged": true}});
    let mut stream = one.begin("subscriptions/listen", wanted);
    let first: Value = serde_json::from_str(&stream.event().unwrap()).unwrap();
    assert_eq!(first["params"]["notifications"], json!({"toolsListChanged": true}), "{first}");
    drop(stream);
    assert_eq!(about(&mut one, "tasks/get", &id)["result"]["status"], "working");
}
