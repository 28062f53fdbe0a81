//! `requestState` in the hands of those who did not get it, changed it, or used it already.

use std::{
    collections::BTreeSet,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{Asked, Modern, TRACE, modern, refused, text};
use crate::harness::{Daemon, Http, World, eventually, faulty};

/// A legacy backend `l`, whose calls are parked, and a modern one `m` that all share, whose own
/// state travels in ours.
fn both() -> World {
    let servers = [
        faulty(
            "l",
            "elicit,prompts,resources",
            "env: {MCP_TRACE: \"{DIR}/traces/legacy\"}, sandbox: {write: [\"{DIR}/traces\"]}",
        ),
        faulty(
            "m",
            "rounds",
            "share: all, env: {MCP_TRACE: \"{DIR}/traces/modern\"}, sandbox: {write: [\"{DIR}/traces\"]}",
        ),
    ];
    World::with(&servers.concat())
}

/// The same with a folder for the key, so that the next gateway has it too.
fn lasting() -> World {
    let world = both();
    let folder = world.path("run").to_string_lossy().into_owned();
    world.env("XDG_RUNTIME_DIR", &folder)
}

fn client(daemon: &Daemon) -> Modern<Http> {
    modern(daemon.raw_http("/mcp"))
}

/// A question of each kind of backend.
fn both_asked(client: &mut Modern<Http>) -> [Asked; 2] {
    [client.asked_by("l_ask", json!({})), client.asked_by("m_ask", json!({"rounds": 1}))]
}

fn calls(world: &World, trace: &str) -> usize {
    world.read(trace).matches("\"tools/call\"").count()
}

#[test]
fn a_state_changed_anywhere_is_refused_and_the_true_one_still_good() {
    let world = both();
    let daemon = world.serve();
    let mut client = client(&daemon);
    for (asked, trace) in
        both_asked(&mut client).into_iter().zip(["traces/legacy", "traces/modern"])
    {
        let calls_before = calls(&world, trace);
        let state = asked.state.as_str().unwrap().to_owned();
        let mut wrong: BTreeSet<String> = BTreeSet::new();
        // In the nonce, in the id, in the expiry, in the kind, in the text, in the tag.
        let length = state.len();
        let places = [0, 1, 31, 32, 40, 53, 54, 60, 64, 66, length / 2, length - 12, length - 2];
        for at in places.into_iter().chain((0..length).step_by(9)) {
            let mut bytes = state.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            wrong.insert(String::from_utf8(bytes).unwrap());
        }
        wrong.extend([1, 32, 54, length / 2, length - 1].map(|cut| state[..cut].to_owned()));
        wrong.extend([
            String::new(),
            format!("{state}A"),
            format!("{state}=="),
            format!(" {state}"),
            format!("{state}\n"),
            format!("A{state}"),
            format!("{state}{state}"),
            state[1..].to_owned(),
            state.chars().rev().collect(),
            state.to_uppercase(),
            "x".repeat(1 << 20),
            "../../etc/passwd".to_owned(),
        ]);
        wrong.remove(&state);
        for wrong in wrong {
            let answer = client.again(&asked.with_state(wrong.as_str()), asked.accepted());
            refused(&answer, -32602, "requestState is refused");
        }
        for odd in [json!(7), json!(true), json!([state]), json!({"s": state})] {
            let answer = client.again(&asked.with_state(odd), asked.accepted());
            refused(&answer, -32602, "requestState is refused");
        }
        assert_eq!(calls(&world, trace), calls_before, "the backend heard of none of it");
        // None at all is a call from its beginning.
        let anew = client.again(&asked.with_state(Value::Null), asked.accepted());
        assert_eq!(anew["result"]["resultType"], "input_required", "{anew}");
        assert!(text(&client.again(&asked, asked.accepted())).contains("bob"));
    }
}

#[test]
fn a_state_is_good_once() {
    let world = both();
    let daemon = world.serve();
    let mut client = client(&daemon);
    for (asked, trace) in
        both_asked(&mut client).into_iter().zip(["traces/legacy", "traces/modern"])
    {
        assert!(text(&client.again(&asked, asked.accepted())).contains("bob"));
        let calls_before = calls(&world, trace);
        for given in [asked.accepted(), json!({}), Value::Null] {
            let answer = client.again(&asked, given);
            refused(&answer, -32602, "used already");
        }
        assert_eq!(calls(&world, trace), calls_before);
    }
}

#[test]
fn of_many_who_bring_the_same_state_at_once_one_is_served() {
    const MANY: usize = 12;
    let world = both();
    let daemon = world.serve();
    let mut client = client(&daemon);
    for asked in both_asked(&mut client) {
        let start = Arc::new(Barrier::new(MANY));
        let threads: Vec<_> = (0..MANY)
            .map(|_| {
                let (mut twin, asked, start) = (client.twin(), asked.clone(), Arc::clone(&start));
                thread::spawn(move || {
                    // Its connection is open when the race begins.
                    twin.ask("ping", json!({}));
                    start.wait();
                    twin.again(&asked, asked.accepted())
                })
            })
            .collect();
        let answers: Vec<Value> = threads.into_iter().map(|one| one.join().unwrap()).collect();
        let served = answers.iter().filter(|answer| answer["result"].is_object());
        assert_eq!(served.count(), 1, "{answers:?}");
        for answer in answers.iter().filter(|answer| answer["result"].is_null()) {
            refused(answer, -32602, "used already");
        }
    }
}

#[test]
fn a_state_opens_nothing_but_its_own_request() {
    let more = [
        faulty("l2", "elicit", ""),
        faulty("m2", "rounds", "share: all"),
        faulty("l", "elicit,prompts,resources", ""),
        faulty("m", "rounds", "share: all"),
    ];
    let world = World::with(&more.concat());
    let daemon = world.serve();
    let mut client = client(&daemon);
    client.ask("resources/list", json!({}));
    for asked in both_asked(&mut client) {
        for (method, params) in [
            ("tools/call", json!({"name": "l_ask_url"})),
            ("tools/call", json!({"name": "l_echo"})),
            ("tools/call", json!({"name": "l2_ask"})),
            ("tools/call", json!({"name": "m2_ask"})),
            ("tools/call", json!({"name": "m_echo"})),
            ("prompts/get", json!({"name": "l_greeting"})),
            ("resources/read", json!({"uri": "faulty://one"})),
        ] {
            let foreign = Asked { method: method.into(), params, ..asked.clone() };
            let answer = client.again(&foreign, asked.accepted());
            refused(&answer, -32602, "another caller, backend or request");
        }
        let other = if asked.params["name"] == "l_ask" { "m_ask" } else { "l_ask" };
        let foreign = Asked { params: json!({"name": other}), ..asked.clone() };
        refused(&client.again(&foreign, asked.accepted()), -32602, "another caller");
        assert!(text(&client.again(&asked, asked.accepted())).contains("bob"));
    }
    // The modern backend that nobody shares reads its own state, and gets nobody else's.
    let world = World::with(&faulty("own", "rounds", TRACE));
    let daemon = world.serve();
    let mut client = modern(daemon.raw_http("/mcp"));
    let asked = client.asked_by("own_ask", json!({"rounds": 1}));
    assert!(world.read("traces/all").contains("\"ask\""));
    let answer = client.again(&asked.with_state("bm9uZQ.x"), asked.accepted());
    refused(&answer, -32602, "requestState is not ours");
    assert!(text(&client.again(&asked, asked.accepted())).contains("bob"));
}

#[test]
fn who_may_not_call_the_tool_cannot_take_up_its_call() {
    let servers = faulty("l", "elicit", "");
    let roles = "roles: {asker: [l_ask], reader: [l_echo]}\n";
    let world = World::new(&format!("servers:\n{servers}{roles}"));
    let daemon = world.serve();
    for door in ["", r#","server":"l""#] {
        let name = if door.is_empty() { "l_ask" } else { "ask" };
        let mut asker = modern(daemon.raw_unix(&format!(r#"{{"role":"asker"{door}}}"#)));
        let asked = asker.asked_by(name, json!({}));
        let mut reader = modern(daemon.raw_unix(&format!(r#"{{"role":"reader"{door}}}"#)));
        refused(&reader.again(&asked, asked.accepted()), -32602, "Unknown tool");
        let foreign = Asked { params: json!({"name": name.replace("ask", "echo")}), ..asked };
        refused(&reader.again(&foreign, foreign.accepted()), -32602, "requestState is refused");
        let asked = Asked { params: json!({"name": name}), ..foreign };
        assert!(text(&asker.again(&asked, asked.accepted())).contains("bob"));
    }
}

#[test]
fn the_names_of_both_doors_mean_the_same_call() {
    let world = both();
    let daemon = world.serve();
    let asked = client(&daemon).asked_by("l_ask", json!({}));
    let mut direct = modern(daemon.raw_http("/mcp/l"));
    let same = Asked { params: json!({"name": "ask"}), ..asked };
    assert!(text(&direct.again(&same, same.accepted())).contains("bob"));
}

#[test]
fn a_state_expires_and_its_call_with_it() {
    let world = World::with(&faulty(
        "l",
        "elicit",
        &format!("timeouts: {{call: 1s, max_call: 1s}}, {TRACE}"),
    ));
    let daemon = world.serve();
    let mut client = client(&daemon);
    let asked = client.asked_by("l_ask", json!({}));
    eventually("the backend to hear of it", || {
        world.read("traces/all").contains("notifications/cancelled").then_some(())
    });
    let answer = client.again(&asked, asked.accepted());
    refused(&answer, -32602, "requestState is refused");
    refused(&answer, -32602, "make the request anew");
    let asked = client.asked_by("l_ask", json!({}));
    assert!(text(&client.again(&asked, asked.accepted())).contains("bob"));
}

#[test]
fn a_state_ends_with_the_gateway_that_gave_it() {
    let world = lasting();
    let mut daemon = world.serve();
    let [parked, carried] = both_asked(&mut client(&daemon));
    let used = client(&daemon).asked_by("m_ask", json!({"rounds": 1}));
    assert!(text(&client(&daemon).again(&used, used.accepted())).contains("bob"));
    daemon.running.signal(Signal::SIGTERM);
    assert!(daemon.running.ended().success());
    drop(daemon);
    world.assert_empty();

    let daemon = world.serve();
    let mut client = client(&daemon);
    let answer = client.again(&parked, parked.accepted());
    refused(&answer, -32602, "requestState is refused");
    let asked = client.asked_by("l_ask", json!({}));
    assert!(text(&client.again(&asked, asked.accepted())).contains("bob"));
    // Good for one use: which were used only that gateway knew.
    for state in [&carried, &used] {
        refused(&client.again(state, state.accepted()), -32602, "requestState is refused");
    }
}

#[test]
fn a_used_state_is_used_after_a_restart_too() {
    let world = lasting();
    let mut daemon = world.serve();
    let asked = client(&daemon).asked_by("m_ask", json!({"rounds": 1}));
    assert!(text(&client(&daemon).again(&asked, asked.accepted())).contains("bob"));
    daemon.running.signal(Signal::SIGTERM);
    assert!(daemon.running.ended().success());
    drop(daemon);
    let daemon = world.serve();
    let answer = client(&daemon).again(&asked, asked.accepted());
    refused(&answer, -32602, "requestState is refused");
}

#[test]
fn a_parked_call_ends_with_its_backend() {
    let world = World::with(&faulty("l", "elicit", ""));
    let daemon = world.serve();
    let mut client = client(&daemon);
    let asked = client.asked_by("l_ask", json!({}));
    let late = client.asked_by("l_ask", json!({}));
    kill(Pid::from_raw(world.child()), Signal::SIGKILL).unwrap();
    let began = Instant::now();
    let answer = client.again(&asked, asked.accepted());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(answer["error"]["message"].is_string(), "{answer}");
    assert_ne!(answer["id"], Value::Null);
    // Whether it has been swept or not.
    let answer = client.again(&late, late.accepted());
    assert!(answer["error"]["message"].is_string(), "{answer}");
    eventually("another child", || {
        client.call("l_echo", json!({}))["result"].as_object().map(|_| ())
    });
    let asked = client.asked_by("l_ask", json!({}));
    assert!(text(&client.again(&asked, asked.accepted())).contains("bob"));
}

#[test]
fn who_answers_badly_may_answer_again() {
    let world = both();
    let daemon = world.serve();
    let mut client = client(&daemon);
    let asked = client.asked_by("l_ask", json!({}));
    let key = asked.inputs.keys().next().unwrap();
    for bad in [
        json!([]),
        json!("yes"),
        json!(7),
        json!(true),
        json!({key: null}),
        json!({key: "bob"}),
        json!({key: [{"action": "accept"}]}),
        json!({"other": 1}),
    ] {
        refused(&client.again(&asked, bad), -32602, "inputResponses");
    }
    let answer = text(&client.again(&asked, asked.accepted()));
    assert!(answer.contains("bob"), "{answer}");
}

#[test]
fn what_was_not_answered_is_asked_again_and_what_nobody_asked_is_ignored() {
    let world = World::with(&super::reference("l", "legacy", ""));
    let daemon = world.serve();
    let mut client = client(&daemon);
    let asks = json!({"rounds": 1, "asks": ["elicitation", "sampling", "elicitation"]});
    let first = client.asked_by("l_interview", asks);
    assert_eq!(first.inputs.len(), 3, "{first:?}");
    let forms: Vec<String> = first
        .inputs
        .iter()
        .filter(|(_, one)| one["method"] == "elicitation/create")
        .map(|(key, _)| key.clone())
        .collect();
    let sample = first.inputs.keys().find(|key| !forms.contains(key)).unwrap().clone();
    // No answers, none of them, one of them.
    let mut asked = first.clone();
    for given in [Value::Null, json!({}), json!({"unknown": {"action": "accept"}, "-1": {}})] {
        let next = client.again(&asked, given);
        let next = Asked::of(&asked.method, asked.params.clone(), &next);
        assert_eq!(next.inputs, first.inputs);
        assert_ne!(next.state, asked.state);
        refused(&client.again(&asked, json!({})), -32602, "used already");
        asked = next;
    }
    let said = |value: &str| json!({"action": "accept", "content": {"value": value}});
    let next = client.again(&asked, json!({ forms[1].as_str(): said("third") }));
    let asked = Asked::of(&asked.method, asked.params.clone(), &next);
    assert_eq!(asked.inputs.len(), 2, "{asked:?}");
    assert!(!asked.inputs.contains_key(&forms[1]));
    let model = json!({
        "role": "assistant", "model": "m", "content": {"type": "text", "text": "second"},
    });
    let given = json!({
        forms[0].as_str(): said("first"), sample.as_str(): model,
        // Answered already; the first answer counts.
        forms[1].as_str(): said("changed"), "unknown": {"action": "accept"},
    });
    let answer = super::parsed(&client.again(&asked, given));
    assert_eq!(answer[0]["first"]["content"]["value"], "first", "{answer}");
    assert_eq!(answer[0]["second"]["content"]["text"], "second", "{answer}");
    assert_eq!(answer[0]["third"]["content"]["value"], "third", "{answer}");
}

#[test]
fn a_state_of_a_call_that_goes_on_elsewhere_is_of_no_use_meanwhile() {
    // Between two rounds: the state of the first one is void when the second one is asked.
    let world = World::with(&super::reference("l", "legacy", ""));
    let daemon = world.serve();
    let mut client = client(&daemon);
    let first = client.asked_by("l_interview", json!({"rounds": 2}));
    let second = client.again(&first, first.accepted());
    let second = Asked::of(&first.method, first.params.clone(), &second);
    refused(&client.again(&first, first.accepted()), -32602, "used already");
    let answer = super::parsed(&client.again(&second, second.accepted()));
    assert_eq!(answer.as_array().map(Vec::len), Some(2), "{answer}");
}
