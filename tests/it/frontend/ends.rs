//! Drain and kill.

use std::time::Duration;

use tokio::net::TcpStream;

use super::{House, call, client::Events, quick, said, within};

#[tokio::test]
async fn drain_finishes_what_runs_and_ends_what_is_open() {
    let mut house = House::with(quick()).await;
    let (mut client, id) = house.session("2025-11-25").await;
    assert!(client.say(&id, &call(1, "slow")).await.is_events());
    let mut call_events = Events::new(client);
    let (mut plain, plain_id) = house.session("2025-06-18").await;
    plain.ask(&plain_id, &call(2, "quiet")).await;
    let mut listener = house.client().await;
    assert!(listener.listen(&id, "").await.is_events());
    let mut listener = Events::new(listener);
    let mut old = house.client().await;
    assert!(old.get("/sse", "").await.is_events());
    let mut old = Events::new(old);
    let mut idle = house.client().await;
    assert_eq!(idle.get("/health", "").await.status, 200);
    house.begun().await;
    house.begun().await;
    house.drain.cancel();
    assert!(idle.ends().await);
    while listener.next().await.is_some() {}
    while old.next().await.is_some() {}
    assert!(!house.served.is_finished());
    house.go();
    let mut last = None;
    while let Some(event) = call_events.next().await {
        last = Some(event);
    }
    assert_eq!(said(&last.unwrap().json()), "slow");
    assert_eq!(said(&plain.answer().await.1), "quiet");
    within(house.served).await.unwrap();
    house.tracker.close();
    within(house.tracker.wait()).await;
    assert!(TcpStream::connect(house.address).await.is_err());
}

#[tokio::test]
async fn kill_ends_at_once() {
    let mut house = House::with(quick()).await;
    let (mut client, id) = house.session("2025-11-25").await;
    assert!(client.say(&id, &call(1, "slow")).await.is_events());
    house.kill.cancel();
    within(&mut house.served).await.unwrap();
    while client.line().await.is_some() {}
    // What the door leaves behind, the gateway ends.
    within(house.gateway.drain(Duration::ZERO)).await;
    assert_eq!(house.sessions(), 0);
    house.tracker.close();
    within(house.tracker.wait()).await;
}
