//! Event streams: primed, resumed, taken over, forgotten.

use std::time::{Duration, Instant};

use mcp_gateway::frontend::Limits;

use super::{House, JSON, call, client::Events, echo, patient, quick, said, subscribe};
use crate::harness::PATIENCE;

#[tokio::test]
async fn a_slow_call_becomes_a_primed_stream() {
    let mut house = House::with(quick()).await;
    let (mut client, id) = house.session("2025-11-25").await;
    let reply = client.say(&id, &call(1, "quiet")).await;
    assert!(reply.is_events(), "{reply:?}");
    assert_eq!(reply.header("x-accel-buffering"), Some("no"));
    let mut events = Events::new(client);
    let first = events.next().await.unwrap();
    assert_eq!((first.id.as_deref(), first.data.as_deref()), (Some("1-0"), Some("")));
    assert_eq!(first.retry.as_deref(), Some("1000"));
    assert!(events.comment().await, "a heartbeat");
    house.go();
    let answer = events.next().await.unwrap();
    assert_eq!(answer.id.as_deref(), Some("1-1"));
    assert_eq!(answer.name.as_deref(), Some("message"));
    assert_eq!(said(&answer.json()), "quiet");
    assert!(events.next().await.is_none());
    // The connection goes on.
    let (_, answer) = events.client.done(&id, &echo(2, "hello")).await;
    assert_eq!((&answer["id"], said(&answer)), (&2.into(), "hello"));
}

#[tokio::test]
async fn an_older_session_is_not_primed() {
    let mut house = House::with(quick()).await;
    let (mut client, id) = house.session("2025-06-18").await;
    let reply = client.say(&id, &call(1, "slow")).await;
    assert!(reply.is_events());
    let mut events = Events::new(client);
    assert_eq!(events.progress().await, 1);
    house.go();
    assert_eq!(events.progress().await, 2);
    assert_eq!(events.message().await["id"], 1);
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn who_would_rather_have_streams_gets_them_several_at_once() {
    let mut house = House::with(patient()).await;
    let (_, id) = house.session("2025-11-25").await;
    let mut all = Vec::new();
    for number in 0..3 {
        let mut client = house.client().await;
        let headers = format!(
            "accept: text/event-stream, application/json\r\n{JSON}mcp-session-id: {id}\r\n"
        );
        client.send("POST", "/mcp", &headers, &call(number, "slow")).await;
        assert!(client.reply().await.is_events());
        all.push(Events::new(client));
    }
    for events in &mut all {
        assert_eq!(events.next().await.unwrap().data.as_deref(), Some(""));
        assert_eq!(events.progress().await, 1);
    }
    house.go();
    for (number, events) in all.iter_mut().enumerate() {
        assert_eq!(events.progress().await, 2);
        assert_eq!(events.message().await["id"], number);
        assert!(events.next().await.is_none());
    }
}

#[tokio::test]
async fn a_disconnect_cancels_nothing_and_the_stream_can_be_resumed() {
    let mut house = House::with(quick()).await;
    let (mut client, id) = house.session("2025-11-25").await;
    assert!(client.say(&id, &call(1, "slow")).await.is_events());
    let mut events = Events::new(client);
    let first = events.next().await.unwrap();
    assert_eq!(first.data.as_deref(), Some(""));
    house.begun().await;
    drop(events);
    house.go();
    house.until_idle().await;
    // Twice, as if the first answer to the resumption were lost as well.
    for _ in 0..2 {
        let mut client = house.client().await;
        let last = format!("last-event-id: {}\r\n", first.id.as_deref().unwrap());
        assert!(client.listen(&id, &last).await.is_events());
        let mut events = Events::new(client);
        for (event, key) in [("1-1", "method"), ("1-2", "method"), ("1-3", "result")] {
            let next = events.next().await.unwrap();
            assert_eq!(next.id.as_deref(), Some(event));
            assert!(next.json().get(key).is_some());
        }
        assert!(events.next().await.is_none());
    }
    // From the middle, and from the end.
    let mut client = house.client().await;
    assert!(client.listen(&id, "last-event-id: 1-2\r\n").await.is_events());
    let mut events = Events::new(client);
    assert_eq!(events.next().await.unwrap().id.as_deref(), Some("1-3"));
    assert!(events.next().await.is_none());
    let mut client = house.client().await;
    assert!(client.listen(&id, "last-event-id: 1-3\r\n").await.is_events());
    assert!(Events::new(client).next().await.is_none());
}

#[tokio::test]
async fn a_resumed_stream_goes_on_live_and_takes_over() {
    let mut house = House::with(quick()).await;
    let (mut client, id) = house.session("2025-11-25").await;
    assert!(client.say(&id, &call(1, "slow")).await.is_events());
    let mut former = Events::new(client);
    assert_eq!(former.next().await.unwrap().id.as_deref(), Some("1-0"));
    // The former connection is still there.
    let mut client = house.client().await;
    assert!(client.listen(&id, "last-event-id: 1-0\r\n").await.is_events());
    let mut events = Events::new(client);
    assert_eq!(events.next().await.unwrap().id.as_deref(), Some("1-1"));
    assert!(events.comment().await);
    house.go();
    assert_eq!(events.next().await.unwrap().id.as_deref(), Some("1-2"));
    assert_eq!(events.message().await["id"], 1);
    assert!(events.next().await.is_none());
    while let Some(event) = former.next().await {
        assert_eq!(event.id.as_deref(), Some("1-1"));
    }
}

#[tokio::test]
async fn what_is_kept_for_resuming_is_forgotten() {
    let limits = Limits { replay_time: Duration::from_millis(30), ..quick() };
    let mut house = House::with(limits).await;
    let (mut client, id) = house.session("2025-11-25").await;
    assert!(client.say(&id, &call(1, "slow")).await.is_events());
    drop(client);
    house.go();
    // Each look keeps it for a while, so they lie farther and farther apart.
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(60);
    loop {
        let mut client = house.client().await;
        let reply = client.listen(&id, "last-event-id: 1-0\r\n").await;
        if reply.status == 400 {
            break;
        }
        drop(client);
        assert!(Instant::now() < until, "never forgotten");
        tokio::time::sleep(pause).await;
        pause = pause * 3 / 2;
    }
}

#[tokio::test]
async fn the_general_stream() {
    let house = House::with(quick()).await;
    let (client, id) = house.session("2025-11-25").await;
    let (_, answer) = client.done(&id, &subscribe(1)).await;
    assert!(answer.get("result").is_some(), "{answer}");
    let told = |message: serde_json::Value| message["params"]["uri"].as_str().unwrap().to_owned();
    house.tell(0).await;
    let mut client = house.client().await;
    assert!(client.listen(&id, "").await.is_events());
    let mut events = Events::new(client);
    let first = events.next().await.unwrap();
    assert_eq!((first.id.as_deref(), first.data.as_deref()), (Some("0-0"), Some("")));
    assert_eq!(told(events.message().await), "gate:///0");
    house.tell(1).await;
    assert_eq!(told(events.message().await), "gate:///1");
    assert!(events.comment().await);
    // One at a time.
    let mut second = house.client().await;
    assert_eq!(second.listen(&id, "").await.status, 409);
    // A second one at once after the first one's end is fine.
    drop(events);
    assert!(second.listen(&id, "").await.is_events());
    house.tell(2).await;
    let mut events = Events::new(second);
    assert_eq!(events.next().await.unwrap().id.as_deref(), Some("0-3"));
    assert_eq!(told(events.message().await), "gate:///2");
    // It can be taken up after any of its events, also while it seems to be read.
    let mut third = house.client().await;
    assert!(third.listen(&id, "last-event-id: 0-1\r\n").await.is_events());
    let mut events = Events::new(third);
    assert_eq!(told(events.message().await), "gate:///1");
    assert_eq!(told(events.message().await), "gate:///2");
    house.tell(3).await;
    assert_eq!(told(events.message().await), "gate:///3");
    // It ends with its session.
    let mut client = house.client().await;
    assert_eq!(client.delete(&format!("mcp-session-id: {id}\r\n")).await.status, 204);
    assert!(events.next().await.is_none());
}
