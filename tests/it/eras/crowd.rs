//! Clients that are asked and never come back: what they leave behind is bounded, nobody else
//! waits for it, and in the end it is gone.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Asked, TRACE, modern, parsed, refused, text};
use crate::harness::{Client, Daemon, Framed, World, eventually, faulty};

/// Parked calls that one principal may have (`era/parked.rs`).
const OWN: usize = 64;

/// The proportional memory of a process, in KiB.
fn memory(pid: i32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// How many of its calls a backend has been told to give up.
fn cancelled(client: &mut Framed, tool: &str) -> usize {
    let all: Value = serde_json::from_str(&client.text(tool, json!({}))).unwrap();
    all.as_array().unwrap().len()
}

/// Opens so many questions, each in a call of its own, and answers none. One client in a thread
/// for each backend.
fn attack(many: usize, backends: usize) {
    let servers = (0..backends).map(|n| {
        faulty(&format!("s{n}"), "elicit", "limits: {calls: 2, memory: 64G, processes: 10000}")
    });
    let world = World::with(&servers.collect::<String>());
    let mut daemon = world.serve();
    let mut witness = daemon.unix();
    for n in 0..backends {
        witness.text(&format!("s{n}_echo"), json!({}));
    }
    let before = memory(daemon.running.pid());
    let threads: Vec<_> = (0..backends)
        .map(|n| {
            let mut client = modern(daemon.raw_http("/mcp"));
            thread::spawn(move || {
                let tool = format!("s{n}_ask");
                let asked = (0..many / backends).map(|_| {
                    let answer = client.call(&tool, json!({}));
                    // While somebody else's call is in flight nobody knows whose question it is.
                    (answer["result"]["resultType"] == "input_required")
                        .then(|| answer["result"]["requestState"].clone())
                });
                asked.flatten().collect::<Vec<Value>>()
            })
        })
        .collect();
    // All the while others are served, and what is kept does not grow.
    let mut slowest = Duration::ZERO;
    let mut most = 0;
    for n in (0..backends).cycle() {
        if threads.iter().all(thread::JoinHandle::is_finished) {
            break;
        }
        let began = Instant::now();
        witness.text(&format!("s{n}_echo"), json!({"text": "x"}));
        slowest = slowest.max(began.elapsed());
        most = most.max(memory(daemon.running.pid()));
        thread::sleep(Duration::from_millis(20));
    }
    let states: Vec<Vec<Value>> = threads.into_iter().map(|one| one.join().unwrap()).collect();
    let parked: usize = states.iter().map(Vec::len).sum();
    assert!(parked > many * 9 / 10, "{parked} of {many} were asked");
    assert!(slowest < Duration::from_secs(1), "somebody waited {slowest:?}");
    assert!(most < before + 16 * 1024, "{before} KiB became {most} KiB");

    // The oldest were given up, and their backends know.
    let told = |witness: &mut Framed| -> usize {
        (0..backends).map(|n| cancelled(witness, &format!("s{n}_cancelled"))).sum()
    };
    eventually("the backends to be told", || (told(&mut witness) >= parked - OWN).then_some(()));
    let running: u64 =
        (0..backends).map(|n| witness.instance(&format!("s{n}"))["calls"].as_u64().unwrap()).sum();
    assert!(running <= OWN as u64, "{running} calls are parked");
    let mut client = modern(daemon.raw_http("/mcp"));
    let of = |n: usize, state: &Value| Asked {
        method: "tools/call".into(),
        params: json!({"name": format!("s{n}_ask")}),
        inputs: [("1".to_owned(), Value::Null)].into_iter().collect(),
        state: state.clone(),
    };
    let oldest = of(0, &states[0][0]);
    refused(&client.again(&oldest, oldest.accepted()), -32602, "requestState is refused");
    // The newest of all is one of those that are the newest of their backends.
    let newest = (0..backends).filter_map(|n| Some(of(n, states[n].last()?)));
    let alive = newest.filter(|asked| client.again(asked, asked.accepted())["result"].is_object());
    assert!(alive.count() > 0);
    daemon.running.signal(Signal::SIGTERM);
    let began = Instant::now();
    assert!(daemon.running.ended().success());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    world.assert_empty();
}

#[test]
fn many_questions_that_nobody_answers_cost_nobody_else_anything() {
    attack(1_000, 8);
}

#[test]
#[ignore = "soak"]
fn ten_thousand_questions_that_nobody_answers_cost_nobody_else_anything() {
    attack(10_000, 8);
}

/// A backend with two places, and ten calls parked at it by one client.
fn crowded(daemon: &Daemon) -> Vec<Asked> {
    let mut client = modern(daemon.raw_http("/mcp"));
    (0..10).map(|_| client.asked_by("f_ask", json!({}))).collect()
}

#[test]
fn a_parked_call_takes_no_place_among_the_calls() {
    let world = World::with(&faulty("f", "elicit,slow", "limits: {calls: 2}"));
    let daemon = world.serve();
    let asked = crowded(&daemon);
    let began = Instant::now();
    let mut other = daemon.unix();
    assert_eq!(other.text("f_echo", json!({"text": "x"})), "x");
    // Both places are free.
    let (one, two) = (
        other.start_call("f_sleep", json!({"ms": 50})),
        other.start_call("f_sleep", json!({"ms": 50})),
    );
    other.response(one);
    other.response(two);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    for asked in asked {
        let answer = modern(daemon.raw_http("/mcp")).again(&asked, asked.accepted());
        assert!(text(&answer).contains("bob"));
    }
}

#[test]
fn a_resumed_call_takes_a_place_again() {
    let world = World::with(&faulty("f", "elicit,tasks,slow", "limits: {calls: 1}"));
    let daemon = world.serve();
    let mut client = modern(daemon.raw_http("/mcp"));
    let asked = client.asked_by("f_job", json!({"ask": true, "ms": 400}));
    let mut other = daemon.unix();
    let sleep = other.start_call("f_sleep", json!({"ms": 300, "every": 10}));
    other.notice("notifications/progress");
    // It waits for its turn, and then goes on.
    let answer = client.again(&asked, asked.accepted());
    assert!(text(&answer).contains("bob"), "{answer}");
    other.response(sleep);
}

#[test]
fn a_parked_call_keeps_its_backend_awake_and_no_longer_than_it_waits() {
    let world = World::with(&faulty("f", "elicit", "timeouts: {idle: 200ms}"));
    let daemon = world.serve();
    let mut client = modern(daemon.raw_http("/mcp"));
    let asked = client.asked_by("f_ask", json!({}));
    let pid = world.child();
    thread::sleep(Duration::from_millis(700));
    assert_eq!(world.child(), pid);
    assert!(text(&client.again(&asked, asked.accepted())).contains("bob"));
    world.gone_soon(0);
}

#[test]
fn a_call_taken_up_by_another_connection_belongs_to_it() {
    let servers = super::reference("r", "legacy", "") + &faulty("f", "tasks", TRACE);
    let world = World::with(&servers);
    let daemon = world.serve();
    let mut one = modern(daemon.raw_unix("{}"));
    let first = one.asked_by("r_interview", json!({"rounds": 2}));
    let mut two = modern(daemon.raw_http("/mcp"));
    let second = two.again(&first, first.accepted());
    let second = Asked::of(&first.method, first.params.clone(), &second);
    // The one that began it leaves between the rounds, or while it runs.
    let running = one.asked_by("f_job", json!({"ask": true, "ms": 300, "progress": true}));
    let mut params = running.retry(running.accepted());
    params["_meta"] = json!({"progressToken": "mine"});
    let (id, line) = two.request("tools/call", params);
    let call = thread::spawn(move || two.client.exchange(id, &line).pop().unwrap().json());
    eventually("the answer to arrive", || world.read("traces/all").contains("bob").then_some(()));
    drop(one);
    assert!(text(&call.join().unwrap()).contains("bob"));
    let mut three = modern(daemon.raw_unix("{}"));
    let answer = three.again(&second, second.accepted());
    assert_eq!(parsed(&answer).as_array().map(Vec::len), Some(2), "{answer}");
    assert!(!world.read("traces/all").contains("notifications/cancelled"));
}

#[test]
fn a_call_that_goes_on_while_it_is_parked_is_answered_at_the_retry() {
    let world = World::with(&faulty("f", "impatient", TRACE));
    let daemon = world.serve();
    let mut client = modern(daemon.raw_http("/mcp"));
    for late in [false, true] {
        let params = json!({
            "name": "f_brief", "arguments": {"ms": if late { 60 } else { 200 }},
            "_meta": {"progressToken": "one"},
        });
        let asked = client.asked("tools/call", params);
        if late {
            eventually("its end", || (daemon.unix().instance("f")["calls"] == 0).then_some(()));
        }
        let mut again = asked.retry(asked.accepted());
        again["_meta"] = json!({"progressToken": "two"});
        let mut all = client.all("tools/call", again);
        assert_eq!(text(&all.pop().unwrap().json()), "went on without you");
        let all: Vec<Value> = all.iter().map(|one| one.json()).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0]["params"]["progressToken"], "two", "{all:?}");
        refused(&client.again(&asked, json!({})), -32602, "used already");
    }
}

#[test]
fn a_question_that_comes_while_the_call_is_parked_is_asked_at_the_retry() {
    let world = World::with(&faulty("f", "impatient", TRACE));
    let daemon = world.serve();
    let mut client = modern(daemon.raw_http("/mcp"));
    // Together, if they come together.
    let both = client.asked_by("f_late", json!({"ms": 1}));
    assert_eq!(both.messages(), ["one", "two"]);
    assert!(text(&client.again(&both, both.accepted())).contains("bob"));
    let first = client.asked_by("f_late", json!({"ms": 100}));
    assert_eq!(first.messages(), ["one"]);
    // It cannot be seen from outside that the second one has come.
    thread::sleep(Duration::from_millis(300));
    let answer = client.again(&first, first.accepted());
    let second = Asked::of(&first.method, first.params.clone(), &answer);
    assert_eq!(second.messages(), ["two"]);
    let said = parsed(&client.again(&second, second.accepted()));
    assert_eq!(said["one"]["result"]["content"]["name"], "bob", "{said}");
    assert_eq!(said["two"]["result"]["content"]["name"], "bob", "{said}");
}

#[test]
fn a_parked_calls_next_question_is_put_to_nobody_in_another_role() {
    let servers = faulty("f", "impatient,slow", "share: all");
    let world = World::new(&format!("servers:\n{servers}roles: {{one: null, two: null}}\n"));
    let daemon = world.serve();
    let other = r#"{"role":"two"}"#;
    let mut client = modern(daemon.raw_unix(r#"{"role":"one"}"#));
    let first = client.asked_by("f_late", json!({"ms": 300}));
    assert_eq!(first.messages(), ["one"]);
    // Over either era's door; it asks nothing and is asked nothing.
    let mut old = daemon.raw_unix(other);
    old.initialize(json!({"elicitation": {}}));
    let id = old.start("tools/call", json!({"name": "f_sleep", "arguments": {"ms": 900}}));
    let answer = old.response(id);
    let heard = old.kept();
    assert!(heard.iter().all(|one| !one.0.contains("elicitation/create")), "{heard:?}");
    assert!(answer.result().contains("slept"));
    let first = client.asked_by("f_late", json!({"ms": 300}));
    let answer = modern(daemon.raw_unix(other)).call("f_sleep", json!({"ms": 900}));
    assert!(answer.to_string().contains("slept"), "{answer}");
    client.again(&first, first.accepted());
}

#[test]
fn a_retry_taken_back_ends_its_call() {
    let world = World::with(&faulty("f", "tasks", TRACE));
    let daemon = world.serve();
    let arguments = json!({"ask": true, "ms": 60_000});
    let mut client = modern(daemon.raw_unix("{}"));
    let asked = client.asked_by("f_job", arguments);
    let id = client.start("tools/call", asked.retry(asked.accepted()));
    eventually("the answer to arrive", || world.read("traces/all").contains("bob").then_some(()));
    let note = json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": id, "reason": "enough"},
    });
    client.client.send(&note.to_string());
    eventually("the backend to be told", || {
        world.read("traces/all").contains("enough").then_some(())
    });
    refused(&client.again(&asked, json!({})), -32602, "used already");
    released(&world, &daemon, 1);
}

#[test]
fn who_thinks_for_longer_than_a_call_may_take_is_waited_for() {
    for mode in ["elicit", "rounds"] {
        let world = World::with(&faulty("f", mode, "timeouts: {call: 300ms}"));
        let daemon = world.serve();
        let mut client = modern(daemon.raw_http("/mcp"));
        let asked = client.asked_by("f_ask", json!({"rounds": 1}));
        let mut old = daemon.raw_unix("{}");
        old.initialize(json!({"elicitation": {}}));
        let id = old.start("tools/call", json!({"name": "f_ask", "arguments": {"rounds": 1}}));
        let question = old.notice("elicitation/create");
        thread::sleep(Duration::from_millis(700));
        assert!(text(&client.again(&asked, asked.accepted())).contains("bob"), "{mode}");
        old.answer(&question, json!({"action": "accept", "content": {"name": "bob"}}));
        assert!(old.response(id).result().contains("bob"), "{mode}");
    }
}

#[test]
fn a_legacy_client_that_thinks_takes_no_place_at_a_modern_backend() {
    let world =
        World::with(&faulty("f", "rounds", "limits: {calls: 1}, timeouts: {start: 3s, call: 3s}"));
    let daemon = world.serve();
    let mut old = daemon.raw_unix("{}");
    old.initialize(json!({"elicitation": {}}));
    let id = old.start("tools/call", json!({"name": "f_ask", "arguments": {"rounds": 1}}));
    let question = old.notice("elicitation/create");
    // The backend has answered; it works on nothing.
    assert_eq!(modern(daemon.raw_http("/mcp")).text("f_echo", json!({"text": "x"})), "x");
    old.answer(&question, json!({"action": "accept", "content": {"name": "bob"}}));
    assert!(old.response(id).result().contains("bob"));
}

fn released(world: &World, daemon: &Daemon, many: usize) {
    let mut witness = daemon.unix();
    eventually("the backend to be told", || {
        (cancelled(&mut witness, "f_cancelled") == many).then_some(())
    });
    assert_eq!(witness.instance("f")["calls"], 0);
    assert_eq!(world.children().len(), 1);
}

#[test]
fn parked_calls_end_with_the_connection_of_their_client() {
    for door in ["unix", "two rounds"] {
        let world =
            World::with(&(faulty("f", "elicit", TRACE) + &super::reference("r", "legacy", "")));
        let daemon = world.serve();
        let mut other = modern(daemon.raw_unix("{}"));
        let kept = other.asked_by("f_ask", json!({}));
        let mut client = modern(daemon.raw_unix("{}"));
        let states: Vec<Asked> = (0..5).map(|_| client.asked_by("f_ask", json!({}))).collect();
        let mut gone = states[2].clone();
        if door == "two rounds" {
            let first = client.asked_by("r_interview", json!({"rounds": 2}));
            let second = client.again(&first, first.accepted());
            gone = Asked::of(&first.method, first.params.clone(), &second);
        }
        drop(client);
        let mut witness = daemon.unix();
        eventually("the backend to be told", || {
            (cancelled(&mut witness, "f_cancelled") == 5).then_some(())
        });
        let late = other.again(&gone, gone.accepted());
        refused(&late, -32602, "requestState is refused");
        assert_eq!(witness.instance("r")["calls"].as_u64().unwrap_or(0), 0);
        // Another connection's goes on.
        assert!(text(&other.again(&kept, kept.accepted())).contains("bob"));
    }
}

#[test]
fn a_stdio_client_that_leaves_while_its_calls_are_parked_leaves_nothing_behind() {
    let world = World::with(&faulty("f", "elicit", ""));
    let mut client = modern(world.raw_stdio(&[]));
    for _ in 0..5 {
        client.asked_by("f_ask", json!({}));
    }
    client.client.close();
    let began = Instant::now();
    assert!(client.client.gateway().ended().success());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    world.assert_empty_now();
}

#[test]
fn a_parked_call_ends_when_its_client_takes_it_back() {
    let world = World::with(&faulty("f", "elicit", TRACE));
    let daemon = world.serve();
    let mut client = modern(daemon.raw_unix("{}"));
    let ask = json!({"name": "f_ask", "arguments": {}});
    let mut asked: Vec<(u64, Asked)> = Vec::new();
    for _ in 0..3 {
        let id = client.start("tools/call", ask.clone());
        let answer = client.client.response(id).json();
        asked.push((id, Asked::of("tools/call", ask.clone(), &answer)));
    }
    let (id, taken_back) = asked.remove(1);
    client.client.send(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}).to_string(),
    );
    let answer = client.again(&taken_back, taken_back.accepted());
    refused(&answer, -32602, "requestState is refused");
    let mut witness = daemon.unix();
    eventually("the backend to be told", || {
        (cancelled(&mut witness, "f_cancelled") == 1).then_some(())
    });
    // Somebody else's word for it counts for nothing, nor does an id of nothing.
    let mut other = modern(daemon.raw_unix("{}"));
    other.ask("tools/list", json!({}));
    for id in [json!(asked[0].0), json!(asked[0].0.to_string()), json!(-1), json!(null)] {
        let note = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
        other.client.send(&note.to_string());
    }
    other.ask("tools/list", json!({}));
    for (_, asked) in asked {
        assert!(text(&client.again(&asked, asked.accepted())).contains("bob"));
    }
}

#[test]
fn parked_calls_that_nobody_answers_expire_and_their_backend_hears_it() {
    let keys = "timeouts: {call: 1s, max_call: 1s}";
    let world = World::with(&faulty("f", "elicit", keys));
    let daemon = world.serve();
    let asked = crowded(&daemon);
    released(&world, &daemon, 10);
    let answer = modern(daemon.raw_http("/mcp")).again(&asked[9], asked[9].accepted());
    refused(&answer, -32602, "requestState is refused");
}

#[test]
fn a_gateway_with_parked_calls_ends_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let world = World::with(&faulty("f", "elicit", TRACE));
        let mut daemon = world.serve();
        crowded(&daemon);
        let mut framed = modern(daemon.raw_unix("{}"));
        framed.asked_by("f_ask", json!({}));
        daemon.running.signal(signal);
        let began = Instant::now();
        assert!(daemon.running.ended().success());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        world.assert_empty_now();
        assert!(!daemon.running.log().contains("panicked"), "{}", daemon.running.log());
    }
}

#[test]
fn calls_of_one_connection_that_are_asked_at_once_all_come_to_their_end() {
    asked_at_once("limits: {calls: 4}", Duration::ZERO);
}

#[test]
fn calls_of_one_connection_that_are_asked_at_once_may_be_thought_about() {
    asked_at_once("timeouts: {call: 500ms}", Duration::from_millis(1200));
}

/// Four calls of one connection are asked at once, and answered after some thought.
fn asked_at_once(keys: &str, thought: Duration) {
    let world = World::with(&faulty("f", "elicit", keys));
    let daemon = world.serve();
    let mut client = modern(daemon.raw_unix("{}"));
    let ask = json!({"name": "f_ask", "arguments": {}});
    let mut open: Vec<u64> = (0..4).map(|_| client.start("tools/call", ask.clone())).collect();
    let mut done = 0;
    // Which question belongs to which of them nobody can know; all are asked and all answered.
    while let Some(id) = open.pop() {
        let answer = client.client.wait("an answer", |message| {
            let id_of = |open: &u64| message.id().as_deref() == Some(open.to_string().as_str());
            message.method().is_none() && (id_of(&id) || open.iter().any(id_of))
        });
        let answer = answer.json();
        let answered = answer["id"].as_u64().unwrap();
        if answered != id {
            open.retain(|other| *other != answered);
            open.push(id);
        }
        if answer["result"]["resultType"] == "input_required" {
            let asked = Asked::of("tools/call", ask.clone(), &answer);
            thread::sleep(thought);
            open.push(client.start("tools/call", asked.retry(asked.accepted())));
        } else {
            assert!(parsed(&answer)["result"]["content"]["name"] == "bob", "{answer}");
            done += 1;
        }
    }
    assert_eq!(done, 4);
}

#[test]
fn calls_of_one_connection_that_are_asked_at_once_and_left_take_nobodys_place() {
    let world = World::with(&faulty("f", "elicit,slow", "limits: {calls: 4}"));
    let daemon = world.serve();
    let mut client = modern(daemon.raw_unix("{}"));
    client.text("f_echo", json!({}));
    let ask = json!({"name": "f_ask", "arguments": {}});
    for _ in 0..4 {
        client.start("tools/call", ask.clone());
    }
    client.client.wait("a question", |message| message.0.contains("input_required"));
    // All places are free for another.
    let mut other = daemon.unix();
    let mut sleeping: Vec<u64> = Vec::new();
    for _ in 0..4 {
        sleeping.push(other.start_call("f_sleep", json!({"ms": 120_000, "every": 20})));
    }
    for id in sleeping {
        other.wait("progress", |message| {
            message.0.contains(&format!("\"progressToken\":{id},"))
                && message.0.contains("\"total\"")
        });
    }
}
