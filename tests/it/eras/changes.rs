//! What changes, told to clients of each era by backends of each: `subscriptions/listen` in both
//! directions, and the older subscriptions.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{Modern, OURS, TRACE, modern};
use crate::harness::{Client, Daemon, Exchange, Framed, World, eventually, faulty};

const ACK: &str = "notifications/subscriptions/acknowledged";
const UPDATED: &str = "notifications/resources/updated";
const TOOLS: &str = "notifications/tools/list_changed";

/// A subscription over HTTP, acknowledged.
struct Ear {
    stream: Exchange,
    id: Value,
    honoured: Value,
}

impl Ear {
    fn new(daemon: &Daemon, path: &str, wanted: Value) -> Self {
        let mut client = modern(daemon.raw_http(path));
        let mut stream = client.begin("subscriptions/listen", json!({"notifications": wanted}));
        assert!(stream.is_events(), "{}", stream.status);
        let first: Value = serde_json::from_str(&stream.event().unwrap()).unwrap();
        assert_eq!(first["method"], ACK, "{first}");
        let id = tag(&first);
        assert_eq!(id, 1, "{first}");
        Ear { stream, id, honoured: first["params"]["notifications"].clone() }
    }

    /// The next message, which has this method and the subscription's name.
    fn next(&mut self, method: &str) -> Value {
        let text = self.stream.event().unwrap_or_else(|| panic!("no {method} came"));
        let message: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(message["method"], method, "{message}");
        if method != "notifications/cancelled" {
            assert_eq!(tag(&message), self.id, "{message}");
        }
        message
    }
}

fn tag(message: &Value) -> Value {
    message["params"]["_meta"][format!("{OURS}subscriptionId")].clone()
}

/// A backend of this era that can be made to change everything, and how.
fn changing(modern: bool) -> World {
    let mode = if modern { "listen,slow" } else { "rug,prompts,resources" };
    World::with(&faulty("f", mode, TRACE))
}

fn change_tools(client: &mut Framed, modern: bool) {
    match modern {
        true => client.text("f_push", json!({"kind": "tools"})),
        false => client.text("f_pull", json!({})),
    };
}

fn change_prompts(client: &mut Framed, modern: bool) {
    match modern {
        true => client.text("f_push", json!({"kind": "prompts"})),
        false => client.text("f_grow", json!({})),
    };
}

fn touch(client: &mut Framed, modern: bool, uri: &str) {
    match modern {
        true => client.text("f_push", json!({"kind": "updated", "uri": uri})),
        false => client.text("f_touch", json!({"uri": uri})),
    };
}

/// The URIs that the backend has been asked to tell of.
fn watched(client: &mut Framed, modern: bool) -> Vec<String> {
    let tool = if modern { "f_streams" } else { "f_subscriptions" };
    let said: Value = serde_json::from_str(&client.text(tool, json!({}))).unwrap();
    let all = said.as_array().unwrap().iter().flat_map(|one| match one {
        Value::String(uri) => vec![uri.clone()],
        filter => filter["resourceSubscriptions"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|uri| uri.as_str().unwrap().to_owned())
            .collect(),
    });
    all.collect()
}

#[test]
fn a_listener_hears_what_it_asked_for_and_nothing_else() {
    for backend in [false, true] {
        let world = changing(backend);
        let mut daemon = world.serve();
        let mut other = daemon.unix();
        other.tools();
        other.ask("prompts/list", json!({}));
        let both = ["faulty://one", "faulty://two"];
        let mut ears = Vec::new();
        for path in ["/mcp", "/mcp/f"] {
            for (wanted, honoured) in [
                (json!({}), json!({})),
                (json!({"toolsListChanged": false}), json!({})),
                (
                    json!({"toolsListChanged": true, "promptsListChanged": false}),
                    json!({"toolsListChanged": true}),
                ),
                (
                    json!({"resourceSubscriptions": both[..1]}),
                    json!({"resourceSubscriptions": both[..1]}),
                ),
                (
                    json!({"toolsListChanged": true, "resourceSubscriptions": both}),
                    json!({"toolsListChanged": true, "resourceSubscriptions": both}),
                ),
            ] {
                let ear = Ear::new(&daemon, path, wanted);
                assert_eq!(ear.honoured, honoured);
                ears.push(ear);
            }
        }
        let mut prompts = Ear::new(&daemon, "/mcp", json!({"promptsListChanged": true}));
        if !backend {
            change_prompts(&mut other, backend);
            prompts.next("notifications/prompts/list_changed");
        }
        for uri in both {
            touch(&mut other, backend, uri);
        }
        change_tools(&mut other, backend);
        // Whoever wants to hear of the tools has heard of all that was before.
        for ear in &mut ears {
            let wanted = ear.honoured.clone();
            for uri in wanted["resourceSubscriptions"].as_array().into_iter().flatten() {
                assert_eq!(ear.next(UPDATED)["params"]["uri"], *uri);
            }
            if wanted["toolsListChanged"] == true {
                ear.next(TOOLS);
            }
        }
        ears.push(prompts);
        daemon.running.signal(Signal::SIGTERM);
        for ear in &mut ears {
            ear.next("notifications/cancelled");
        }
        assert!(daemon.running.ended().success());
    }
}

#[test]
fn subscriptions_of_one_connection_are_told_apart_by_their_ids() {
    for backend in [false, true] {
        let world = changing(backend);
        let daemon = world.serve();
        let mut other = daemon.unix();
        other.tools();
        let mut client = modern(daemon.raw_unix("{}"));
        let mut listen = |id: &Value, wanted: Value| {
            let params = client.params(json!({"notifications": wanted}));
            let line = json!({"jsonrpc": "2.0", "id": id, "method": "subscriptions/listen", "params": params});
            client.client.send(&line.to_string());
            let first = client.client.notice(ACK);
            assert_eq!(tag(&first), *id, "{first}");
        };
        listen(&json!("a"), json!({"toolsListChanged": true}));
        listen(&json!(7), json!({"resourceSubscriptions": ["faulty://one"]}));
        listen(&json!("7"), json!({"resourceSubscriptions": ["faulty://one", "faulty://two"]}));
        change_tools(&mut other, backend);
        assert_eq!(tag(&client.client.notice(TOOLS)), "a");
        touch(&mut other, backend, "faulty://two");
        let heard = client.client.notice(UPDATED);
        assert_eq!((tag(&heard), &heard["params"]["uri"]), (json!("7"), &json!("faulty://two")));
        touch(&mut other, backend, "faulty://one");
        let mut tags = [tag(&client.client.notice(UPDATED)), tag(&client.client.notice(UPDATED))];
        tags.sort_by_key(Value::is_string);
        assert_eq!(tags, [json!(7), json!("7")]);
        // One ends, the other goes on, and the backend is told what nobody wants any more.
        let cancel = |client: &mut Framed, id: &Value| {
            client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}).to_string());
        };
        cancel(&mut client.client, &json!("7"));
        eventually("one subscription", || {
            (watched(&mut other, backend) == ["faulty://one"]).then_some(())
        });
        touch(&mut other, backend, "faulty://two");
        touch(&mut other, backend, "faulty://one");
        let heard = client.client.notice(UPDATED);
        assert_eq!((tag(&heard), &heard["params"]["uri"]), (json!(7), &json!("faulty://one")));
        cancel(&mut client.client, &json!(7));
        eventually("no subscription", || watched(&mut other, backend).is_empty().then_some(()));
        assert!(client.call("f_echo", json!({}))["result"].is_object());
        assert!(client.client.kept().iter().all(|message| !message.0.contains("notifications")));
    }
}

#[test]
fn a_listener_that_leaves_is_heard_of_by_the_backend_and_missed_by_nobody() {
    for backend in [false, true] {
        let world = changing(backend);
        let daemon = world.serve();
        let mut other = daemon.unix();
        other.text("f_echo", json!({}));
        let wanted = json!({"resourceSubscriptions": ["faulty://one"]});
        let first = Ear::new(&daemon, "/mcp", wanted.clone());
        let mut second = Ear::new(&daemon, "/mcp", wanted);
        assert_eq!(watched(&mut other, backend), ["faulty://one"]);
        drop(first);
        // It takes a while until the gateway knows; nothing may be lost meanwhile.
        for _ in 0..5 {
            touch(&mut other, backend, "faulty://one");
            second.next(UPDATED);
        }
        drop(second);
        eventually("no subscription", || watched(&mut other, backend).is_empty().then_some(()));
    }
}

#[test]
fn what_cannot_be_heard_is_left_out_of_the_acknowledgement() {
    let servers =
        faulty("a", "resources", "") + &faulty("b", "resources", "") + &faulty("c", "listen", "");
    let world = World::with(&servers);
    let daemon = world.serve();
    let wanted = json!({
        "toolsListChanged": true, "vendorThing": true,
        "resourceSubscriptions": ["faulty://one", "nowhere://at/all"], "taskIds": ["nobodys"],
    });
    let ear = Ear::new(&daemon, "/mcp", wanted);
    assert_eq!(
        ear.honoured,
        json!({"toolsListChanged": true, "resourceSubscriptions": ["faulty://one"]})
    );
    // A backend that tells of no changes of its prompts.
    let world = World::with(&faulty("p", "plain", ""));
    let daemon = world.serve();
    modern(daemon.raw_http("/mcp/p")).text("echo", json!({}));
    let ear =
        Ear::new(&daemon, "/mcp/p", json!({"toolsListChanged": true, "promptsListChanged": true}));
    assert_eq!(ear.honoured, json!({"toolsListChanged": true}));
    for wrong in [
        json!({}),
        json!({"notifications": null}),
        json!({"notifications": {"resourceSubscriptions": "x"}}),
    ] {
        let answer = modern(daemon.raw_http("/mcp")).ask("subscriptions/listen", wrong);
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
}

#[test]
fn a_listener_is_told_that_the_gateway_ends() {
    for backend in [false, true] {
        let world = changing(backend);
        let mut daemon = world.serve();
        daemon.unix().tools();
        let mut ear = Ear::new(
            &daemon,
            "/mcp",
            json!({"toolsListChanged": true, "resourceSubscriptions": ["faulty://one"]}),
        );
        let mut framed = modern(daemon.raw_unix("{}"));
        let id = framed
            .start("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
        framed.client.notice(ACK);
        daemon.running.signal(Signal::SIGTERM);
        let over = ear.next("notifications/cancelled");
        assert_eq!(over["params"]["requestId"], ear.id, "{over}");
        let answer: Value = serde_json::from_str(&ear.stream.event().unwrap()).unwrap();
        assert_eq!(answer["id"], ear.id, "{answer}");
        assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
        assert_eq!(answer["result"]["_meta"][format!("{OURS}subscriptionId")], ear.id, "{answer}");
        assert_eq!(ear.stream.event(), None);
        let over = framed.client.notice("notifications/cancelled");
        assert_eq!(over["params"]["requestId"], id, "{over}");
        assert!(framed.client.response(id).result().contains("subscriptionId"));
        assert!(daemon.running.ended().success());
        world.assert_empty();
    }
}

#[test]
fn a_listener_outlives_a_crash_of_the_backend() {
    for backend in [false, true] {
        let world = changing(backend);
        let daemon = world.serve();
        let mut other = daemon.unix();
        other.tools();
        let mut ear = Ear::new(
            &daemon,
            "/mcp",
            json!({"toolsListChanged": true, "resourceSubscriptions": ["faulty://one"]}),
        );
        change_tools(&mut other, backend);
        ear.next(TOOLS);
        kill(Pid::from_raw(world.child()), Signal::SIGKILL).unwrap();
        world.gone_soon(0);
        eventually("another child", || {
            other.call("f_echo", json!({}))["result"].as_object().map(|_| ())
        });
        // The new child has its first tools again, and nobody knows what has become of the resource.
        let mut heard = Vec::new();
        while heard.len() < 2 {
            let message: Value = serde_json::from_str(&ear.stream.event().unwrap()).unwrap();
            assert_eq!(tag(&message), ear.id);
            heard.push(message["method"].as_str().unwrap().to_owned());
        }
        heard.sort();
        assert_eq!(heard, [UPDATED, TOOLS]);
        eventually("the subscription", || {
            (watched(&mut other, backend) == ["faulty://one"]).then_some(())
        });
        touch(&mut other, backend, "faulty://one");
        ear.next(UPDATED);
        change_tools(&mut other, backend);
        ear.next(TOOLS);
    }
}

/// A legacy session that has subscribed to the resource.
fn subscribed(daemon: &Daemon) -> Framed {
    let mut client = daemon.unix();
    let answer = client.ask("resources/subscribe", json!({"uri": "faulty://one"}));
    assert!(answer["result"].is_object(), "{answer}");
    client
}

#[test]
fn a_legacy_subscription_at_a_modern_backend_lasts_until_it_is_ended() {
    for mode in ["listen", "listen text", "listen early"] {
        let world = World::with(&faulty("f", mode, TRACE));
        let daemon = world.serve();
        let mut client = subscribed(&daemon);
        let mut witness = daemon.unix();
        assert_eq!(watched(&mut witness, true), ["faulty://one"]);
        touch(&mut witness, true, "faulty://two");
        touch(&mut witness, true, "faulty://one");
        assert_eq!(client.notice(UPDATED)["params"]["uri"], "faulty://one");
        // A second client's counts for itself.
        let mut second = subscribed(&daemon);
        assert_eq!(watched(&mut witness, true), ["faulty://one"]);
        let answer = client.ask("resources/unsubscribe", json!({"uri": "faulty://one"}));
        assert!(answer["result"].is_object(), "{answer}");
        touch(&mut witness, true, "faulty://one");
        assert_eq!(second.notice(UPDATED)["params"]["uri"], "faulty://one");
        let answer = second.ask("resources/unsubscribe", json!({"uri": "faulty://one"}));
        assert!(answer["result"].is_object(), "{answer}");
        eventually("the subscription's end", || {
            watched(&mut witness, true).is_empty().then_some(())
        });
        assert!(client.kept().iter().all(|message| !message.0.contains(UPDATED)));
        // Or until its client has gone.
        drop(subscribed(&daemon));
        eventually("the subscription's end", || {
            watched(&mut witness, true).is_empty().then_some(())
        });
        let trace = world.read("traces/all");
        assert!(!trace.contains("resources/subscribe") && !trace.contains("resources/unsubscribe"));
    }
}

#[test]
fn a_stream_that_the_backend_tears_down_is_listened_to_again() {
    for how in ["cancelled", "result", "both", "exit"] {
        let world = World::with(&faulty("f", "listen", ""));
        let daemon = world.serve();
        let mut client = subscribed(&daemon);
        client.tools();
        let mut ear = Ear::new(&daemon, "/mcp", json!({"resourceSubscriptions": ["faulty://one"]}));
        let mut witness = daemon.unix();
        witness.call("f_tear", json!({"how": how}));
        if how == "exit" {
            world.gone_soon(0);
            eventually("another child", || {
                witness.call("f_echo", json!({}))["result"].as_object().map(|_| ())
            });
        }
        eventually("the subscription again", || {
            (watched(&mut witness, true) == ["faulty://one"]).then_some(())
        });
        touch(&mut witness, true, "faulty://one");
        assert_eq!(client.notice(UPDATED)["params"]["uri"], "faulty://one", "{how}");
        assert_eq!(ear.next(UPDATED)["params"]["uri"], "faulty://one", "{how}");
        // The lists are heard of again as well.
        eventually("two streams", || {
            let streams: Value =
                serde_json::from_str(&witness.text("f_streams", json!({}))).unwrap();
            (streams.as_array().unwrap().len() == 2).then_some(())
        });
        change_tools(&mut witness, true);
        client.notice(TOOLS);
    }
}

#[test]
fn a_legacy_client_hears_that_a_modern_backends_lists_have_changed() {
    let world = World::with(&faulty("f", "listen", ""));
    let daemon = world.serve();
    for preface in ["{}", r#"{"server":"f"}"#] {
        let mut client = daemon.raw_unix(preface).opened();
        let before = client.tools().len();
        let mut witness = daemon.unix();
        change_tools(&mut witness, true);
        let note = client.notice(TOOLS);
        assert_eq!(tag(&note), Value::Null, "a name of the gateway's own: {note}");
        assert_eq!(client.tools().len(), before + 1);
    }
}

#[test]
fn a_late_word_of_a_subscription_that_is_over_is_heard_by_nobody() {
    let world = World::with(&faulty("f", "listen", ""));
    let daemon = world.serve();
    let ear = Ear::new(&daemon, "/mcp", json!({"resourceSubscriptions": ["faulty://one"]}));
    let mut witness = daemon.unix();
    let mut two = Ear::new(&daemon, "/mcp", json!({"resourceSubscriptions": ["faulty://two"]}));
    drop(ear);
    eventually("its end", || (watched(&mut witness, true) == ["faulty://two"]).then_some(()));
    let uri = "faulty://one";
    witness.text("f_push", json!({"kind": "updated", "uri": uri, "stale": true}));
    touch(&mut witness, true, "faulty://two");
    assert_eq!(two.next(UPDATED)["params"]["uri"], "faulty://two");
    assert!(witness.kept().iter().all(|message| !message.0.contains(UPDATED)));
}

#[test]
fn a_subscription_keeps_a_modern_backend_awake_and_a_look_at_its_lists_does_not() {
    let world = World::with(&faulty("f", "listen", "timeouts: {idle: 300ms}"));
    let daemon = world.serve();
    let mut client = daemon.unix();
    client.tools();
    let lists = Ear::new(&daemon, "/mcp", json!({"toolsListChanged": true}));
    world.gone_soon(0);
    drop(lists);
    for old in [false, true] {
        let ear = match old {
            true => Err(subscribed(&daemon)),
            false => {
                Ok(Ear::new(&daemon, "/mcp", json!({"resourceSubscriptions": ["faulty://one"]})))
            }
        };
        let pid = world.child();
        std::thread::sleep(std::time::Duration::from_millis(900));
        assert_eq!(world.child(), pid);
        drop(ear);
        world.gone_soon(0);
    }
}

#[test]
fn a_role_hears_of_what_it_may_see() {
    let servers = faulty("f", "rug,resources", "");
    let roles = "roles: {reader: {allow: ['f_*'], deny: ['f_faulty://two']}, blind: [f_echo]}\n";
    let world = World::new(&format!("servers:\n{servers}{roles}"));
    let daemon = world.serve();
    let listen = |role: &str| {
        let mut client: Modern<Framed> =
            modern(daemon.raw_unix(&format!(r#"{{"role":"{role}"}}"#)));
        client.ask("tools/list", json!({}));
        let uris = ["faulty://one", "faulty://two"];
        client.start(
            "subscriptions/listen",
            json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": uris}}),
        );
        let honoured = client.client.notice(ACK)["params"]["notifications"].clone();
        (client, honoured)
    };
    let (mut reader, honoured) = listen("reader");
    assert_eq!(honoured["resourceSubscriptions"], json!(["faulty://one"]));
    let (mut blind, honoured) = listen("blind");
    assert_eq!(honoured.get("resourceSubscriptions"), None);
    let mut other = daemon.unix();
    other.tools();
    for uri in ["faulty://two", "faulty://one"] {
        touch(&mut other, false, uri);
    }
    assert_eq!(reader.client.notice(UPDATED)["params"]["uri"], "faulty://one");
    // A tool that it cannot see has come.
    change_tools(&mut other, false);
    reader.client.notice(TOOLS);
    assert!(reader.client.kept().is_empty());
    blind.ask("tools/list", json!({}));
    assert!(blind.client.kept().iter().all(|message| !message.0.contains(UPDATED)));
}
