//! Subscriptions whose backend ends before they do, and how many there may be.

use serde_json::json;

use crate::harness::{Client, World, faulty};

const UPDATED: &str = "notifications/resources/updated";

#[test]
fn a_subscription_outlives_its_backend() {
    let world = World::with(&faulty("r", "resources,die-mid-call", "timeouts: {idle: 1s}"));
    let daemon = world.serve();
    let mut client = daemon.unix();
    client.ask("resources/list", json!({}));
    for uri in ["faulty://one", "faulty://two"] {
        let answer = client.ask("resources/subscribe", json!({ "uri": uri }));
        assert!(answer["result"].is_object(), "{answer}");
    }
    let answer = client.ask("resources/unsubscribe", json!({"uri": "faulty://two"}));
    assert!(answer["result"].is_object(), "{answer}");
    client.failure("r_die", json!({}));
    assert!(client.kept().iter().all(|message| !message.0.contains(UPDATED)));
    // The next start is somebody else's; what has changed meanwhile nobody knows.
    let mut other = daemon.unix();
    other.text("r_echo", json!({}));
    assert_eq!(client.notice(UPDATED)["params"]["uri"], "faulty://one");
    assert_eq!(client.text("r_subscriptions", json!({})), r#"["faulty://one"]"#);
    other.text("r_touch", json!({"uri": "faulty://one"}));
    assert_eq!(client.notice(UPDATED)["params"]["uri"], "faulty://one");
    // It is held awake again, for longer than it may idle.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(world.children().len(), 1);
}

#[test]
fn a_uri_that_is_too_long_is_refused_before_the_backend_hears_of_it() {
    let world = World::with(&faulty(
        "r",
        "resources",
        "env: {MCP_TRACE: \"{DIR}/traces/all\"}, sandbox: {write: [\"{DIR}/traces\"]}",
    ));
    let mut client = world.stdio_with("r");
    let long = format!("faulty://by-id/{}", "x".repeat(9000));
    let answer = client.ask("resources/subscribe", json!({ "uri": long }));
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    assert!(!world.read("traces/all").contains("resources/subscribe"));
}
