//! HTTP+SSE.

use std::time::Duration;

use mcp_gateway::frontend::Limits;
use tokio::net::TcpStream;

use super::{House, JSON, Plan, call, client::Events, echo, initialize, said, subscribe};

async fn open(house: &House, path: &str) -> (Events<TcpStream>, String) {
    let mut client = house.client().await;
    let reply = client.get(path, "accept: text/event-stream\r\n").await;
    assert!(reply.is_events());
    assert_eq!(reply.header("x-accel-buffering"), Some("no"));
    let mut events = Events::new(client);
    let endpoint = events.next().await.unwrap();
    assert_eq!(endpoint.name.as_deref(), Some("endpoint"));
    let path = endpoint.data.unwrap();
    assert!(path.starts_with("/messages/?session_id="));
    (events, path)
}

#[tokio::test]
async fn a_session_lives_as_long_as_its_stream() {
    let limits = Limits { heartbeat: Duration::from_millis(20), ..Limits::default() };
    let mut house = House::with(limits).await;
    let (mut events, path) = open(&house, "/sse").await;
    let mut client = house.client().await;
    let reply = client.post(&path, "", &initialize("2024-11-05")).await;
    assert_eq!((reply.status, reply.body.as_str()), (202, "Accepted"));
    let answer = events.next().await.unwrap();
    assert_eq!(answer.name.as_deref(), Some("message"));
    assert_eq!(answer.id, None);
    assert_eq!(answer.json()["result"]["protocolVersion"], "2024-11-05");
    // Without the slash as well, and without an accept field.
    let path = path.replace("/messages/", "/messages");
    client.send("POST", &path, JSON, &call(2, "slow")).await;
    assert_eq!(client.reply().await.status, 202);
    assert_eq!(events.progress().await, 1);
    client.send("POST", &path, JSON, &echo(3, "hello")).await;
    assert_eq!(client.reply().await.status, 202);
    let answer = events.message().await;
    assert_eq!((&answer["id"], said(&answer)), (&3.into(), "hello"));
    assert!(events.comment().await);
    client.send("POST", &path, JSON, &subscribe(4)).await;
    assert_eq!(client.reply().await.status, 202);
    assert_eq!(events.message().await["id"], 4);
    house.tell(1).await;
    assert_eq!(events.message().await["params"]["uri"], "gate:///1");
    house.go();
    assert_eq!(events.progress().await, 2);
    assert_eq!(events.message().await["id"], 2);
    for (body, status) in [("{", 400), ("[]", 400), ("{}", 400)] {
        client.send("POST", &path, JSON, body).await;
        assert_eq!(client.reply().await.status, status, "{body}");
    }
    assert_eq!(house.sessions(), 1);
    drop(events);
    house.until_sessions(0).await;
    client.send("POST", &path, JSON, &echo(5, "")).await;
    assert_eq!(client.reply().await.status, 404);
}

#[tokio::test]
async fn one_backend_and_the_other_transport() {
    let house = Plan::with(Limits::default()).build(false).await;
    let (mut events, path) = open(&house, "/sse/gate").await;
    let mut client = house.client().await;
    assert_eq!(client.get("/sse/nope", "").await.status, 404);
    assert_eq!(client.get("/sse", "accept: application/json\r\n").await.status, 406);
    assert_eq!(client.post(&path, "", &initialize("2024-11-05")).await.status, 202);
    assert_eq!(events.message().await["result"]["serverInfo"]["name"], "faulty");
    // Its id is no id of the other transport.
    let id = path.split_once('=').unwrap().1.to_owned();
    assert_eq!(client.say(&id, &echo(1, "")).await.status, 404);
}
