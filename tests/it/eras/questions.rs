//! Questions in the middle of a call, put to a client of the other era; and what belongs to the
//! call beside them: progress, cancellation, log messages, errors.

use std::thread;

use serde_json::{Value, json};

use super::{Asked, Door, Modern, OURS, TRACE, modern, parsed, reference, refused, text};
use crate::harness::{Client, Daemon, Framed, Http, World, eventually, faulty};

const EVERYTHING: &str = r#"{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{}}"#;

/// A legacy client that can be asked everything.
fn legacy(daemon: &Daemon, preface: &str) -> Framed {
    let mut client = daemon.raw_unix(preface);
    client.initialize(serde_json::from_str(EVERYTHING).unwrap());
    client
}

fn model() -> Value {
    json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "said"}})
}

/// What a user, a model and a folder list say.
fn reply(question: &Value) -> Value {
    match question["method"].as_str().unwrap() {
        "sampling/createMessage" => model(),
        "roots/list" => json!({"roots": [{"uri": "file:///x", "name": "x"}]}),
        _ => json!({"action": "accept", "content": {"value": question["params"]["message"]}}),
    }
}

fn replies(asked: &Asked) -> Value {
    asked.inputs.iter().map(|(key, question)| (key.clone(), reply(question))).collect()
}

/// Three rounds of four questions each, answered.
fn interviewed<C: Door>(mut client: Modern<C>) {
    let asks = ["elicitation", "sampling", "elicitation", "sampling"];
    let mut asked = client.asked_by("r_interview", json!({"rounds": 3, "asks": asks}));
    for round in 1..=3 {
        assert_eq!(asked.inputs.len(), 4, "round {round}: {asked:?}");
        let messages = asked.messages();
        assert_eq!(messages.len(), 2, "{asked:?}");
        let begin = format!("Round {round}");
        assert!(messages.iter().all(|one| one.starts_with(&begin)), "{asked:?}");
        let answer = client.again(&asked, replies(&asked));
        if round < 3 {
            asked = Asked::of("tools/call", asked.params.clone(), &answer);
            continue;
        }
        let said = parsed(&answer);
        for (round, said) in (1..).zip(said.as_array().unwrap()) {
            assert_eq!(said["first"]["content"]["value"], format!("Round {round}, the first?"));
            assert_eq!(said["second"]["content"]["text"], "said");
            assert_eq!(said["third"]["content"]["value"], format!("Round {round}, the third?"));
        }
        assert_eq!(said.as_array().map(Vec::len), Some(3));
    }
}

#[test]
fn several_questions_at_once_are_one_round_and_there_may_be_several() {
    let world = World::with(&reference("r", "legacy", ""));
    let daemon = world.serve();
    interviewed(modern(daemon.raw_http("/mcp")));
    interviewed(modern(daemon.raw_unix("{}")));
    interviewed(modern(world.raw_stdio(&[])));
}

#[test]
fn a_legacy_client_is_asked_round_after_round_and_all_of_a_round_at_once() {
    for (server, tool, arguments, each) in [
        (
            reference("r", "modern", ""),
            "r_interview",
            json!({"rounds": 3, "asks": ["elicitation", "sampling", "roots"]}),
            3,
        ),
        (faulty("r", "rounds", ""), "r_ask", json!({"rounds": 3, "each": 2}), 2),
        (faulty("r", "rounds", "share: all"), "r_ask", json!({"rounds": 3, "each": 2}), 2),
    ] {
        let world = World::with(&server);
        let daemon = world.serve();
        let mut client = legacy(&daemon, "{}");
        let id = client.start("tools/call", json!({"name": tool, "arguments": arguments}));
        for round in 1..=3 {
            let questions: Vec<Value> = (0..each)
                .map(|_| {
                    client
                        .wait("a question", |message| {
                            message.method().is_some() && message.id().is_some()
                        })
                        .json()
                })
                .collect();
            for question in questions.iter().rev() {
                assert!(
                    question.to_string().contains(&format!("Round {round}"))
                        || question["method"] == "roots/list",
                    "{question}"
                );
                client.answer(question, reply(question));
            }
        }
        let answer = client.response(id).json();
        assert_eq!(parsed(&answer).as_array().map(Vec::len), Some(3), "{answer}");
        for modern in ["resultType", "requestState", "inputRequests"] {
            assert!(answer["result"].get(modern).is_none(), "{answer}");
        }
    }
}

#[test]
fn a_round_that_asks_nothing_goes_on_by_itself() {
    let world = World::with(&faulty("f", "rounds", ""));
    let daemon = world.serve();
    let mut client = legacy(&daemon, "{}");
    let answer = client.call("f_ask", json!({"rounds": 3, "bare": true}));
    assert_eq!(parsed(&answer).as_array().map(Vec::len), Some(3), "{answer}");
    assert!(client.kept().is_empty());
    // A modern client sees it as it is.
    let mut client = modern(daemon.raw_http("/mcp"));
    let asked = client.asked_by("f_ask", json!({"rounds": 1, "bare": true}));
    assert!(asked.inputs.is_empty());
    assert!(client.again(&asked, Value::Null)["result"]["content"].is_array());
}

#[test]
fn what_a_legacy_client_declines_and_refuses_the_backend_hears() {
    let world = World::with(&reference("r", "modern", ""));
    let daemon = world.serve();
    let mut client = legacy(&daemon, "{}");
    for action in ["decline", "cancel"] {
        let id = client.start("tools/call", json!({"name": "r_ask", "arguments": {}}));
        let question = client.notice("elicitation/create");
        client.answer(&question, json!({"action": action}));
        assert_eq!(parsed(&client.response(id).json())["action"], action);
    }
    // The modern era has no errors here: a form that could not be shown is one that was cancelled.
    let id = client.start("tools/call", json!({"name": "r_ask", "arguments": {}}));
    let question = client.notice("elicitation/create");
    client.send(
        &json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "no"}})
            .to_string(),
    );
    assert_eq!(parsed(&client.response(id).json())["action"], "cancel");
    let id = client.start("tools/call", json!({"name": "r_sample", "arguments": {}}));
    let question = client.notice("sampling/createMessage");
    client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "the user says no"}}).to_string());
    assert!(client.response(id).error().contains("the user says no"));
    // Who cannot be asked is told what is lacking.
    let mut plain = daemon.unix();
    for tool in ["r_ask", "r_sample", "r_ask_url"] {
        let answer = plain.call(tool, json!({}));
        assert!(answer["error"]["message"].is_string(), "{tool}: {answer}");
    }
}

#[test]
fn prompts_and_resources_ask_too() {
    let world = World::with(&reference("r", "legacy", ""));
    let daemon = world.serve();
    let mut client = modern(daemon.raw_http("/mcp/r"));
    let said = json!({"action": "accept", "content": {"context": "home", "text": "hello"}});
    let asked = client.asked("prompts/get", json!({"name": "test_input_required_result_prompt"}));
    let answer = client.again(&asked, asked.each(&said));
    assert!(answer["result"]["messages"].to_string().contains("home"), "{answer}");
    let asked = client.asked("resources/read", json!({"uri": "test://asking-resource"}));
    let answer = client.again(&asked, asked.each(&said));
    assert_eq!(answer["result"]["contents"][0]["text"], "hello", "{answer}");
    let world = World::with(&reference("r", "modern", ""));
    let daemon = world.serve();
    let mut client = legacy(&daemon, r#"{"server":"r"}"#);
    for (method, params) in [
        ("prompts/get", json!({"name": "test_input_required_result_prompt"})),
        ("resources/read", json!({"uri": "test://asking-resource"})),
    ] {
        let id = client.start(method, params);
        let question = client.notice("elicitation/create");
        client.answer(&question, said.clone());
        let answer = client.response(id).result().to_owned();
        assert!(answer.contains("home") || answer.contains("hello"), "{answer}");
    }
}

#[test]
fn progress_after_an_answer_comes_under_the_retrys_token() {
    let world = World::with(&faulty("f", "tasks", ""));
    let daemon = world.serve();
    for door in ["/mcp", "/mcp/f"] {
        let tool = if door == "/mcp" { "f_job" } else { "job" };
        let mut client = modern(daemon.raw_http(door));
        let arguments = json!({"ask": true, "progress": true, "ms": 50});
        let asked = client.asked(
            "tools/call",
            json!({
                "name": tool, "arguments": arguments, "_meta": {"progressToken": "one"},
            }),
        );
        for (token, heard) in [(json!("two"), 1), (json!(17), 1), (Value::Null, 0)] {
            let asked = match token == "two" {
                true => asked.clone(),
                false => client.asked("tools/call", asked.params.clone()),
            };
            let mut again = asked.retry(asked.accepted());
            again["_meta"] =
                if token.is_null() { json!({}) } else { json!({"progressToken": token}) };
            let mut all = client.all("tools/call", again);
            let answer = all.pop().unwrap().json();
            assert!(answer["result"]["content"].is_array(), "{answer}");
            let progress: Vec<Value> = all.iter().map(|one| one.json()).collect();
            assert_eq!(progress.len(), heard, "{token}: {progress:?}");
            for one in progress {
                assert_eq!(one["method"], "notifications/progress", "{one}");
                assert_eq!(one["params"]["progressToken"], token, "{one}");
            }
        }
    }
}

/// A world of a backend of this era whose tool takes long, by the tool `f_sleep`.
fn slow(modern: bool) -> World {
    World::with(&faulty("f", if modern { "slow,modern" } else { "slow" }, TRACE))
}

fn told(world: &World) {
    eventually("the backend to be told", || {
        world.read("traces/all").contains("\"notifications/cancelled\"").then_some(())
    });
    let trace = world.read("traces/all");
    let lines = || trace.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let call = lines().find(|line| line["params"]["name"] == "sleep").unwrap();
    let cancelled = lines().find(|line| line["method"] == "notifications/cancelled").unwrap();
    assert_eq!(cancelled["params"]["requestId"], call["id"], "{trace}");
}

#[test]
fn a_call_taken_back_is_taken_back_at_the_backend_in_every_pair() {
    let sleep = json!({"name": "f_sleep", "arguments": {"ms": 20_000, "every": 20}, "_meta": {"progressToken": "p"}});
    for backend in [false, true] {
        // Of a modern HTTP client by leaving.
        let world = slow(backend);
        let daemon = world.serve();
        let mut client = modern(daemon.raw_http("/mcp"));
        let mut stream = client.begin("tools/call", sleep.clone());
        assert!(stream.is_events(), "{}", stream.status);
        assert!(stream.event().unwrap().contains("notifications/progress"));
        drop(stream);
        told(&world);
        assert_eq!(client.text("f_echo", json!({"text": "x"})), "x");
        // Of both eras' framed clients by saying so.
        for client_is_modern in [false, true] {
            let world = slow(backend);
            let daemon = world.serve();
            let mut client = modern(daemon.raw_unix("{}"));
            let id = if client_is_modern {
                client.start("tools/call", sleep.clone())
            } else {
                client.client = client.client.opened();
                client.client.start("tools/call", sleep.clone())
            };
            client.client.wait("progress", |message| message.0.contains("\"total\""));
            let note = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id, "reason": "enough"}});
            client.client.send(&note.to_string());
            told(&world);
            assert!(world.read("traces/all").contains("enough"));
            // And it gets no answer.
            let answer = match client_is_modern {
                true => client.call("f_echo", json!({"text": "x"})),
                false => client.client.call("f_echo", json!({"text": "x"})),
            };
            assert_eq!(text(&answer), "x");
            let id = id.to_string();
            assert!(
                client.client.kept().iter().all(|message| message.id().as_deref() != Some(&id))
            );
        }
    }
}

#[test]
fn a_call_taken_back_between_two_rounds_takes_its_question_back() {
    // A legacy client, in the middle of a modern backend's question.
    let world = World::with(&faulty("f", "rounds", TRACE));
    let daemon = world.serve();
    let mut client = legacy(&daemon, "{}");
    let id = client.start("tools/call", json!({"name": "f_ask", "arguments": {}}));
    let question = client.notice("elicitation/create");
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}).to_string());
    let note = client.notice("notifications/cancelled");
    assert_eq!(note["params"]["requestId"], question["id"]);
    client.answer(&question, json!({"action": "accept"}));
    assert_eq!(client.text("f_echo", json!({"text": "x"})), "x");
    // Nobody asked the backend again.
    assert_eq!(world.read("traces/all").matches("\"ask\"").count(), 1);
}

#[test]
fn a_modern_backend_that_dies_while_its_client_is_asked_is_answered_for() {
    let world = World::with(&faulty("f", "rounds", ""));
    let daemon = world.serve();
    let mut client = legacy(&daemon, "{}");
    let id = client.start("tools/call", json!({"name": "f_ask", "arguments": {"rounds": 1}}));
    let question = client.notice("elicitation/create");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(world.child()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    world.gone_soon(0);
    client.answer(&question, json!({"action": "accept", "content": {"name": "bob"}}));
    // By an error, or by the next child: all that is known is in the state.
    let answer = client.response(id).json();
    assert!(answer["error"]["message"].is_string() || text(&answer).contains("bob"), "{answer}");
    eventually("another child", || {
        client.call("f_echo", json!({}))["result"].as_object().map(|_| ())
    });
}

#[test]
fn log_messages_come_to_the_request_that_wants_them_and_from_its_level_on() {
    let levels = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
    let world = World::with(&faulty("f", "log,slow", ""));
    let daemon = world.serve();
    let mut client = modern(daemon.raw_http("/mcp"));
    // In flight all the while, and wants no messages.
    let sleep = json!({"name": "f_sleep", "arguments": {"ms": 20_000, "every": 20}, "_meta": {"progressToken": "p"}});
    let mut quiet = client.twin();
    let mut stream = quiet.begin("tools/call", sleep);
    stream.event().unwrap();
    for least in ["error", "debug", "emergency", "info"] {
        let params = json!({"name": "f_log_all", "_meta": {format!("{OURS}logLevel"): least}});
        let mut all = client.all("tools/call", params);
        assert!(all.pop().unwrap().json()["result"].is_object());
        let heard: Vec<String> = all
            .iter()
            .map(|one| one.json()["params"]["level"].as_str().unwrap().to_owned())
            .collect();
        let from = levels.iter().position(|level| *level == least).unwrap();
        assert_eq!(heard, levels[from..], "from {least} on");
    }
    assert_eq!(client.all("tools/call", json!({"name": "f_log_all"})).len(), 1, "nobody asked");
    for _ in 0..5 {
        let message = stream.event().unwrap();
        assert!(message.contains("notifications/progress"), "{message}");
    }
    // A modern backend is told by each request.
    let world = World::with(&reference("r", "modern", ""));
    let daemon = world.serve();
    for (least, heard) in [(Some("warning"), 2), (Some("error"), 1), (None, 1)] {
        let mut client = modern(daemon.raw_http("/mcp"));
        let mut params =
            json!({"name": "r_log", "arguments": {"level": "warning", "data": {"big": 1}}});
        if let Some(least) = least {
            params["_meta"] = json!({format!("{OURS}logLevel"): least});
        }
        assert_eq!(client.all("tools/call", params).len(), heard, "{least:?}");
    }
    // For a legacy client by the level that it has set.
    let mut client = daemon.unix();
    for (level, heard) in [("error", false), ("info", true), ("warning", true), ("critical", false)]
    {
        client.ask("logging/setLevel", json!({"level": level}));
        client.text("r_log", json!({"level": "warning", "data": "x"}));
        let kept = client.kept();
        assert_eq!(
            kept.iter().any(|one| one.0.contains("notifications/message")),
            heard,
            "{level}: {kept:?}"
        );
    }
}

#[test]
fn a_resource_that_is_not_there_has_the_code_of_each_era() {
    for (backend, own) in [("legacy", -32002), ("modern", -32602)] {
        let world = World::with(&reference("r", backend, ""));
        let daemon = world.serve();
        for door in ["/mcp", "/mcp/r"] {
            let missing = json!({"uri": "test://nothing"});
            let answer = daemon.raw_http(door).opened().ask("resources/read", missing.clone());
            assert_eq!(answer["error"]["code"], -32002, "{backend} {door}: {answer}");
            assert_eq!(answer["error"]["data"]["uri"], "test://nothing", "{answer}");
            let answer = modern(daemon.raw_http(door)).ask("resources/read", missing);
            assert_eq!(answer["error"]["code"], -32602, "{backend} {door}: {answer}");
            assert_eq!(answer["error"]["data"]["uri"], "test://nothing", "{answer}");
        }
        // Other errors of the same code are other errors.
        let fail = json!({"code": own, "message": "other", "data": {"uri": "x"}});
        let answer = daemon.unix().call("r_rpc_error", fail.clone());
        assert_eq!(answer["error"]["code"], own, "{answer}");
        assert_eq!(answer["error"]["data"], fail["data"], "{answer}");
    }
}

#[test]
fn a_page_to_visit_is_an_error_in_one_era_and_a_question_in_the_other() {
    let world = World::with(&reference("r", "legacy", ""));
    let daemon = world.serve();
    let mut client = modern(daemon.raw_http("/mcp"));
    let asked = client.asked_by("r_need_page", json!({}));
    let question = asked.inputs.values().next().unwrap();
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(question["params"]["mode"], "url");
    assert_eq!(question["params"]["url"], "https://example.com/page");
    assert!(question["params"].get("elicitationId").is_none(), "{question}");
    // Not there yet: it is asked again, and the old state is used.
    let answer = client.again(&asked, asked.each(&json!({"action": "accept"})));
    let next = Asked::of("tools/call", asked.params.clone(), &answer);
    refused(&client.again(&asked, json!({})), -32602, "used already");
    client.text("r_visit_page", json!({}));
    assert_eq!(text(&client.again(&next, next.each(&json!({"action": "accept"})))), "welcome");
    // Who cannot show pages is told what it lacks.
    let mut plain = client.can(json!({"elicitation": {"form": {}}}));
    let answer = plain.call("r_need_page", json!({}));
    refused(&answer, -32021, "");
    assert_eq!(
        answer["error"]["data"]["requiredCapabilities"],
        json!({"elicitation": {"url": {}}})
    );
    // In its own era it is an error as before.
    let answer = legacy(&daemon, "{}").call("r_need_page", json!({}));
    refused(&answer, -32042, "");
    assert_eq!(answer["error"]["data"]["elicitations"][0]["elicitationId"], "page-1", "{answer}");
}

#[test]
fn a_modern_backends_page_is_a_legacy_clients_elicitation_with_a_beginning_and_an_end() {
    let world = World::with(&reference("r", "modern", ""));
    let daemon = world.serve();
    for preface in ["{}", r#"{"server":"r"}"#] {
        let prefix = if preface == "{}" { "r_" } else { "" };
        for (tool, result) in [("need_page", "welcome"), ("ask_url", "accept")] {
            let mut client = legacy(&daemon, preface);
            let id = client.start("tools/call", json!({"name": format!("{prefix}{tool}")}));
            let question = client.notice("elicitation/create");
            assert_eq!(question["params"]["mode"], "url", "{question}");
            let elicitation = question["params"]["elicitationId"].as_str().unwrap().to_owned();
            client.answer(&question, json!({"action": "accept"}));
            let answer = client.response(id).0;
            assert!(answer.contains(result), "{answer}");
            let over = client.notice("notifications/elicitation/complete");
            assert_eq!(over["params"]["elicitationId"], elicitation);
        }
        // Two that are asked have two names.
        let mut client = legacy(&daemon, preface);
        let mut named = Vec::new();
        for _ in 0..2 {
            let id = client.start("tools/call", json!({"name": format!("{prefix}ask_url")}));
            let question = client.notice("elicitation/create");
            named.push(question["params"]["elicitationId"].clone());
            client.answer(&question, json!({"action": "decline"}));
            client.response(id);
        }
        assert_ne!(named[0], named[1]);
    }
}

#[test]
fn roots_are_asked_of_the_client_in_its_own_words_or_known_from_the_config() {
    let own = json!([{"uri": "file:///x", "name": "x"}]);
    let world = World::with(&reference("r", "legacy", "share: session"));
    let daemon = world.serve();
    let mut client = modern(daemon.raw_unix("{}"));
    let asked = client.asked_by("r_roots", json!({}));
    assert_eq!(asked.inputs.values().next().unwrap()["method"], "roots/list");
    let answer = client.again(&asked, replies(&asked));
    assert_eq!(parsed(&answer)["roots"], own, "{answer}");

    let world = World::with(&reference("r", "modern", ""));
    let daemon = world.serve();
    let mut client = legacy(&daemon, "{}");
    let id = client.start("tools/call", json!({"name": "r_roots", "arguments": {}}));
    let question = client.notice("roots/list");
    client.answer(&question, reply(&question));
    assert_eq!(parsed(&client.response(id).json())["roots"], own);

    for era in ["legacy", "modern"] {
        let world = World::with(&reference("r", era, "roots: [/srv/docs]"));
        let daemon = world.serve();
        let mut client = legacy(&daemon, "{}");
        let known = parsed(&client.call("r_roots", json!({})));
        assert_eq!(known["roots"][0]["uri"], "file:///srv/docs", "{era}: {known}");
        if era == "legacy" {
            let known = parsed(&modern(daemon.raw_http("/mcp")).call("r_roots", json!({})));
            assert_eq!(known["roots"][0]["uri"], "file:///srv/docs", "{known}");
        }
    }
}

#[test]
fn a_question_between_two_clients_calls_goes_to_none_of_the_others() {
    let world = World::with(&faulty("f", "elicit,slow", ""));
    let daemon = world.serve();
    let mut other: Modern<Http> = modern(daemon.raw_http("/mcp"));
    let sleep = json!({"name": "f_sleep", "arguments": {"ms": 20_000, "every": 20}, "_meta": {"progressToken": "p"}});
    let mut stream = other.begin("tools/call", sleep);
    stream.event().unwrap();
    let mut client = modern(daemon.raw_unix("{}"));
    let answer = client.text("f_ask", json!({}));
    assert!(answer.contains("share: session"), "the remedy: {answer}");
    // A parked call of one is no obstacle to another's question.
    drop(stream);
    eventually("the other call's end", || {
        let answer = other.call("f_ask", json!({}));
        (answer["result"]["resultType"] == "input_required").then_some(())
    });
    let asked: Vec<_> = (0..4)
        .map(|_| {
            let mut client = modern(daemon.raw_unix("{}"));
            let asked = client.asked_by("f_ask", json!({}));
            (client, asked)
        })
        .collect();
    let threads: Vec<_> = asked
        .into_iter()
        .map(|(mut client, asked)| {
            thread::spawn(move || text(&client.again(&asked, asked.accepted())))
        })
        .collect();
    for thread in threads {
        assert!(thread.join().unwrap().contains("bob"));
    }
}

/// A legacy backend's page, as a modern client is asked to visit it.
fn page(daemon: &Daemon, path: &str) -> (Modern<Http>, Asked) {
    let tool = if path == "/mcp" { "f_ask_url" } else { "ask_url" };
    let mut client = modern(daemon.raw_http(path));
    let asked = client.asked_by(tool, json!({}));
    let question = asked.inputs.values().next().unwrap();
    assert_eq!(question["params"]["url"], "https://example.com/consent", "{question}");
    (client, asked)
}

#[test]
fn a_legacy_backends_page_is_a_modern_clients_question_without_a_name() {
    let world = World::with(&faulty("f", "elicit", ""));
    let daemon = world.serve();
    for path in ["/mcp", "/mcp/f"] {
        let (_, asked) = page(&daemon, path);
        let question = asked.inputs.values().next().unwrap();
        assert_eq!(question["params"].get("elicitationId"), None, "{question}");
    }
}

#[test]
fn the_end_of_a_page_is_told_to_no_modern_client() {
    let world = World::with(&faulty("f", "elicit", ""));
    let daemon = world.serve();
    for path in ["/mcp", "/mcp/f"] {
        let (mut client, asked) = page(&daemon, path);
        let all = client.all("tools/call", asked.retry(asked.accepted()));
        assert_eq!(all.len(), 1, "{all:?}");
    }
}
