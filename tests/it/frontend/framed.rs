//! Lines over a pair of streams, as on stdin and stdout.

use std::{sync::Arc, time::Duration};

use mcp_gateway::frontend::{
    Limits,
    stdio::{self, Options},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};

use super::{
    House, PING, Plan, call, client::Client, echo, initialize, initialize_with, said, subscribe,
    within,
};

async fn raw(limits: Limits) -> (Client<DuplexStream>, House, JoinHandle<()>) {
    let house = House::with(limits).await;
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(theirs);
    let shared = Arc::clone(&house.shared);
    let served = tokio::spawn(async move {
        stdio::serve(shared, reader, writer, Options::default()).await.unwrap();
    });
    (Client::new(ours), house, served)
}

/// The same with a session that can be asked.
async fn pipe(limits: Limits) -> (Client<DuplexStream>, House, JoinHandle<()>) {
    let (mut client, house, served) = raw(limits).await;
    client.tell(&initialize_with("2025-06-18", r#"{"elicitation":{}}"#)).await;
    assert_eq!(client.heard().await["result"]["protocolVersion"], "2025-06-18");
    (client, house, served)
}

#[tokio::test]
async fn a_session_over_lines() {
    let (mut client, mut house, served) = pipe(Limits::default()).await;
    assert_eq!(house.sessions(), 1);
    // Several at once, cut anywhere, blank lines in between.
    let text = format!(
        "\n{}\r\n\n{}\n{}\n",
        call(1, "slow"),
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        echo(2, "\n")
    );
    for piece in text.as_bytes().chunks(7) {
        client.raw(piece).await;
    }
    // The backend runs both side by side.
    let mut two = [client.heard().await, client.heard().await];
    two.sort_by_key(|message| message.get("id").is_some());
    assert_eq!(two[0]["params"], json!({"progressToken": 1, "progress": 1, "total": 2}));
    assert_eq!((&two[1]["id"], said(&two[1])), (&2.into(), "\n"));
    // What belongs to no request.
    client.tell(&subscribe(3)).await;
    assert_eq!(client.heard().await["id"], 3);
    house.tell(1).await;
    assert_eq!(client.heard().await["params"]["uri"], "gate:///1");
    // Errors, and the line after them.
    for (line, code, id) in [
        ("{", -32700, Value::Null),
        ("\u{feff}{}", -32700, Value::Null),
        ("[]", -32600, Value::Null),
        (r#"{"jsonrpc":"1.0","id":5,"method":"x"}"#, -32600, 5.into()),
    ] {
        client.tell(line).await;
        let answer = client.heard().await;
        assert_eq!((answer["error"]["code"].as_i64(), &answer["id"]), (Some(code), &id), "{line}");
    }
    house.go();
    assert_eq!(client.heard().await["params"]["progress"], 2);
    assert_eq!(client.heard().await["id"], 1);
    client.stream.shutdown().await.unwrap();
    assert!(client.ends().await);
    within(served).await.unwrap();
    assert_eq!(house.sessions(), 0);
}

#[tokio::test]
async fn what_is_in_flight_at_the_end_of_the_input_is_still_answered() {
    let limits = Limits { eof_grace: Duration::from_secs(20), ..Limits::default() };
    let (mut client, mut house, served) = pipe(limits).await;
    client.tell(&call(1, "quiet")).await;
    client.stream.shutdown().await.unwrap();
    house.begun().await;
    house.go();
    let answer = client.heard().await;
    assert_eq!((&answer["id"], said(&answer)), (&1.into(), "quiet"));
    within(served).await.unwrap();
}

#[tokio::test]
async fn but_not_for_ever() {
    let limits = Limits { eof_grace: Duration::from_millis(50), ..Limits::default() };
    let (mut client, house, served) = pipe(limits).await;
    client.tell(&call(1, "quiet")).await;
    client.stream.shutdown().await.unwrap();
    within(served).await.unwrap();
    assert_eq!(house.sessions(), 0);
    assert!(client.ends().await);
}

#[tokio::test]
async fn long_lines() {
    let (client, _house, _served) = pipe(Limits { message: 100_000, ..Limits::default() }).await;
    let (reader, mut writer) = tokio::io::split(client.stream);
    let fits = "x".repeat(90_000);
    let text = format!("{}\n{}\n{}\n", echo(1, &fits), "y".repeat(500_000), echo(2, "short"));
    let write = tokio::spawn(async move {
        writer.write_all(text.as_bytes()).await.unwrap();
        writer
    });
    let mut client = Client::new(tokio::io::join(reader, tokio::io::sink()));
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(client.heard().await);
    }
    answers.sort_by_key(|answer| answer["id"].as_i64());
    assert!(answers[0]["id"].is_null() && answers[0]["error"]["code"] == -32600);
    assert!(said(&answers[1]) == fits);
    assert_eq!(said(&answers[2]), "short");
    drop(within(write).await.unwrap());
}

#[tokio::test]
async fn requests_in_flight_are_bounded() {
    let (mut client, mut house, _served) = pipe(Limits { in_flight: 2, ..Limits::default() }).await;
    for id in 1..=3 {
        client.tell(&call(id, "quiet")).await;
    }
    let refused = client.heard().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&3.into(), &(-32603).into()));
    house.go();
    for _ in 0..2 {
        assert_eq!(said(&client.heard().await), "quiet");
    }
    client.tell(&echo(4, "")).await;
    assert_eq!(client.heard().await["id"], 4);
}

#[tokio::test]
async fn batches_over_lines() {
    let (mut client, mut house, _served) = raw(Limits::default()).await;
    let batch = format!("[{},{},5]", echo(1, ""), call(2, "slow"));
    client.tell(&batch).await;
    assert_eq!(client.heard().await["error"]["code"], -32600);
    client.tell(&initialize("2025-03-26")).await;
    assert_eq!(client.heard().await["result"]["protocolVersion"], "2025-03-26");
    house.go();
    client.tell(&batch).await;
    assert_eq!(client.heard().await["params"]["progress"], 1);
    assert_eq!(client.heard().await["params"]["progress"], 2);
    assert_eq!(client.heard().await.as_array().unwrap().len(), 3);
    client.tell("[{\"jsonrpc\":\"2.0\",\"method\":\"n\"}]").await;
    client.tell(&echo(9, "")).await;
    assert_eq!(client.heard().await["id"], 9);
}

#[tokio::test]
async fn drain_answers_what_runs_and_refuses_what_comes() {
    let (mut client, house, served) = pipe(Limits::default()).await;
    client.tell(&call(1, "ask")).await;
    let question = client.heard().await;
    assert_eq!(question["method"], "elicitation/create");
    house.drain.cancel();
    // The door hears of it when it comes to; a request before that is served as ever.
    client.tell(PING.replace(":1,", ":2,").as_str()).await;
    let mut refused = client.heard().await;
    while refused.get("result").is_some() {
        client.tell(PING.replace(":1,", ":2,").as_str()).await;
        refused = client.heard().await;
    }
    assert!(refused["error"]["message"].as_str().unwrap().contains("shutting down"), "{refused}");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}});
    client.tell(&answer.to_string()).await;
    let answer = client.heard().await;
    assert!(answer["id"] == 1 && said(&answer).contains("decline"), "{answer}");
    within(served).await.unwrap();
    assert!(client.ends().await);
}

#[tokio::test]
async fn kill_ends_a_line_session() {
    let (mut client, mut house, served) = pipe(Limits::default()).await;
    client.tell(&call(1, "quiet")).await;
    house.begun().await;
    house.kill.cancel();
    within(served).await.unwrap();
    assert_eq!(house.sessions(), 0);
}

#[tokio::test]
async fn stdio_refuses_what_cannot_be_opened() {
    let house = Plan::with(Limits::default()).build(false).await;
    let refused = async |options| {
        let (shared, input) = (Arc::clone(&house.shared), tokio::io::empty());
        let outcome = stdio::serve(shared, input, tokio::io::sink(), options);
        within(outcome).await.unwrap_err().to_string()
    };
    let why = refused(Options { server: Some("nope".to_owned()), ..Options::default() }).await;
    assert!(why.contains("no backend named \"nope\""), "{why}");
    let why = refused(Options { role: Some("nobody".to_owned()), ..Options::default() }).await;
    assert!(why.contains("no role named \"nobody\"") && why.contains("dev"), "{why}");
    assert_eq!(house.sessions(), 0);
}
