//! Sessions of Streamable HTTP: whose they are, where they hold, when they end.

use std::{sync::Arc, time::Duration};

use mcp_gateway::{
    frontend::Limits,
    gateway::{Hello, Layer, Transport},
    policy::Credential,
    sys::peer,
};
use serde_json::json;

use super::{
    House, PING, Plan, call,
    client::{Events, unix_client},
    echo, initialize, patient, quick, said,
};

#[tokio::test]
async fn a_session_from_initialize_to_delete() {
    let house = House::with(patient()).await;
    let (mut client, id) = house.session("2025-11-25").await;
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_graphic()));
    let headers = format!("mcp-session-id: {id}\r\nmcp-protocol-version: 2025-11-25\r\n");
    let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let reply = client.post("/mcp", &headers, note).await;
    assert_eq!((reply.status, reply.body.as_str()), (202, ""));
    let reply = client.post("/mcp", &headers, &echo(7, "1.0")).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let content = json!([{"type": "text", "text": "1.0"}]);
    assert_eq!(reply.json(), json!({"jsonrpc": "2.0", "id": 7, "result": {"content": content}}));
    assert_eq!(house.sessions(), 1);
    let reply = client.delete(&headers).await;
    assert!(reply.status == 204 || reply.status == 200);
    assert_eq!(house.sessions(), 0);
    let reply = client.post("/mcp", &headers, &echo(8, "")).await;
    assert_eq!((reply.status, reply.code()), (404, -32600));
    assert_eq!(reply.json()["id"], 8);
}

#[tokio::test]
async fn a_session_belongs_to_its_path() {
    let plan = Plan { servers: vec!["echo", "a b"], ..Plan::with(patient()) };
    let house = plan.build(false).await;
    let mut client = house.client().await;
    let reply = client.post("/mcp/echo", "", &initialize("2025-06-18")).await;
    let id = reply.header("mcp-session-id").unwrap().to_owned();
    let headers = format!("mcp-session-id: {id}\r\n");
    assert_eq!(client.post("/mcp/echo", &headers, PING).await.status, 200);
    assert_eq!(client.post("/mcp/%65cho", &headers, PING).await.status, 200);
    assert_eq!(client.post("/mcp", &headers, PING).await.status, 404);
    assert_eq!(client.post("/mcp/a%20b", &headers, PING).await.status, 404);
    assert_eq!(client.post("/mcp/a%20b", "", &initialize("2025-06-18")).await.status, 200);
    assert_eq!(client.post("/mcp/nope", "", &initialize("2025-06-18")).await.status, 404);
}

#[tokio::test]
async fn one_session_too_many_is_turned_away() {
    let house = Plan::with(patient()).build(false).await;
    let principal = house.gateway.identify(Credential::Own, None).unwrap();
    let mut last = None;
    loop {
        let hello = Hello {
            principal: Arc::clone(&principal),
            layer: Layer::Aggregate,
            cwd: None,
            transport: Transport::Stdio,
        };
        match house.gateway.open(hello) {
            Ok(session) => last = Some(session),
            Err(why) => break assert!(why.to_string().contains("no more are taken"), "{why}"),
        }
    }
    let mut client = house.client().await;
    let full = client.post("/mcp", "", &initialize("2025-06-18")).await;
    assert_eq!(full.status, 503, "{full:?}");
    last.unwrap().close();
    assert_eq!(client.post("/mcp", "", &initialize("2025-06-18")).await.status, 200);
}

/// Two principals cannot meet over HTTP here: whoever is served is this uid in no role. What is
/// left is that an id which nobody has looks like any other.
#[tokio::test]
async fn an_unknown_session_does_not_exist() {
    let house = House::with(patient()).await;
    let (mut alice, id) = house.session("2025-06-18").await;
    let unknown = "00000000000000000000000000000000";
    let reply = alice.say(unknown, PING).await;
    assert_eq!((reply.status, reply.code()), (404, -32600));
    assert_eq!(alice.listen(unknown, "").await.status, 404);
    assert_eq!(alice.delete(&format!("mcp-session-id: {unknown}\r\n")).await.status, 404);
    assert_eq!(alice.say(&id, PING).await.status, 200);
    // The Unix socket leads to the same sessions: this is the same principal.
    let mut unix = unix_client(&house.unix().await).await;
    assert_eq!(unix.say(&id, PING).await.status, 200);
}

#[tokio::test]
async fn who_is_denied_hears_why() {
    let owner = peer::own_uid() + 1;
    let house = Plan { owner, ..Plan::with(Limits::default()) }.build(false).await;
    let mut client = house.client().await;
    let mut unix = unix_client(&house.unix().await).await;
    for path in ["/health", "/mcp"] {
        for reply in [client.get(path, "").await, unix.get(path, "").await] {
            assert_eq!(reply.status, 403);
            assert!(reply.body.contains("start your own with `mcp-gateway serve`"), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn quiet_sessions_expire_and_busy_ones_do_not() {
    let timeout = Duration::from_millis(100);
    let mut house = Plan { session_timeout: timeout, ..Plan::with(quick()) }.build(true).await;
    let (mut busy, busy_id) = house.session("2025-11-25").await;
    busy.ask(&busy_id, &call(1, "slow")).await;
    house.begun().await;
    let (_, open_id) = house.session("2025-11-25").await;
    let mut open = house.client().await;
    assert!(open.listen(&open_id, "").await.is_events());
    // Those that come later expire again and again; these two do not.
    for _ in 0..3 {
        let (mut quiet, quiet_id) = house.session("2025-11-25").await;
        house.until_sessions(2).await;
        let reply = quiet.say(&quiet_id, &echo(1, "")).await;
        assert_eq!((reply.status, reply.code()), (404, -32600));
    }
    house.go();
    drop((busy, open));
    house.until_sessions(0).await;
}

#[tokio::test]
async fn a_question_is_answered_by_another_post() {
    let house = House::open().await;
    let mut client = house.client().await;
    let begin = super::initialize_with("2025-06-18", r#"{"elicitation":{}}"#);
    let reply = client.post("/mcp", "", &begin).await;
    let id = reply.header("mcp-session-id").unwrap().to_owned();
    assert!(client.say(&id, &call(1, "ask")).await.is_events());
    let mut events = Events::new(client);
    let question = events.message().await;
    assert_eq!(question["method"], "elicitation/create");
    let mut other = house.client().await;
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "cancel"}});
    assert_eq!(other.say(&id, &answer.to_string()).await.status, 202);
    let answer = events.message().await;
    assert!(answer["id"] == 1 && said(&answer).contains(r#""action":"cancel""#), "{answer}");
}

#[tokio::test]
async fn a_cancelled_request_ends_without_a_response() {
    let mut house = House::with(quick()).await;
    for (version, name) in [("2025-11-25", "slow"), ("2025-06-18", "quiet")] {
        let (mut client, id) = house.session(version).await;
        client.ask(&id, &call(1, name)).await;
        house.begun().await;
        let mut other = house.client().await;
        let cancel =
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
        assert_eq!(other.say(&id, cancel).await.status, 202);
        let reply = client.reply().await;
        if reply.is_events() {
            let all = Events::new(client).rest().await;
            assert!(all.iter().all(|message| message.get("id").is_none()), "{all:?}");
        } else {
            assert_eq!(reply.status, 202);
        }
    }
    // The backend has heard of both.
    let heard = house.run("cancelled", json!({})).await;
    assert_eq!(heard["text"].as_str().unwrap().matches("requestId").count(), 2, "{heard}");
}

#[tokio::test]
async fn batches_exist_in_one_revision() {
    let mut house = House::with(patient()).await;
    let (mut client, id) = house.session("2025-03-26").await;
    let both = format!("[{},{}]", echo(1, "one"), echo(2, "two"));
    let reply = client.say(&id, &both).await;
    assert_eq!(reply.status, 200);
    let mut answers = reply.json().as_array().unwrap().clone();
    answers.sort_by_key(|answer| answer["id"].as_i64());
    assert_eq!(answers.iter().map(said).collect::<Vec<_>>(), ["one", "two"]);
    let mixed = format!(r#"[{},{{"jsonrpc":"2.0","method":"n"}},5]"#, echo(3, ""));
    let reply = client.say(&id, &mixed).await.json();
    assert_eq!(reply.as_array().unwrap().len(), 2);
    assert_eq!(reply[0]["error"]["code"], -32600);
    let notes = r#"[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","method":"b"}]"#;
    assert_eq!(client.say(&id, notes).await.status, 202);
    for bad in ["[]", "[", &format!("[{}]", initialize("2025-03-26"))] {
        assert_eq!(client.say(&id, bad).await.status, 400, "{bad}");
    }
    // With a notification in between it is a stream.
    house.go();
    let slow = format!("[{},{}]", echo(1, ""), call(2, "slow"));
    assert!(client.say(&id, &slow).await.is_events());
    let got = Events::new(client).rest().await;
    assert_eq!(got.len(), 4);
    assert_eq!(got.iter().filter(|message| message.get("id").is_some()).count(), 2);
    for version in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let (mut client, id) = house.session(version).await;
        let reply = client.say(&id, &both).await;
        assert_eq!((reply.status, reply.code()), (400, -32600), "{version}");
    }
}

#[tokio::test]
async fn ordinary_traffic_in_parallel() {
    let house = House::with(patient()).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(house.session("2025-11-25").await);
    }
    let tasks = clients.into_iter().enumerate().map(|(client, (mut connection, id))| {
        tokio::spawn(async move {
            for number in 0..50 {
                let nonce = format!("{client}-{number}");
                let reply = connection.say(&id, &echo(1, &nonce)).await;
                assert!(!reply.is_events(), "an answer at once is plain");
                assert_eq!(said(&reply.json()), nonce);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}
