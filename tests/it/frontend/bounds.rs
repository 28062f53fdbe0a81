//! What a client may cost.

use std::time::Duration;

use mcp_gateway::frontend::Limits;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use super::{
    House, Plan, call,
    client::{Client, unix_client},
    until,
};

#[tokio::test]
async fn who_sends_no_head_in_time_is_dropped() {
    let limits = Limits {
        head_time: Duration::from_millis(60),
        keep_alive: Duration::from_millis(60),
        ..Limits::default()
    };
    let mut house = House::with(limits).await;
    let mut silent = house.client().await;
    let mut slow = house.client().await;
    slow.raw(b"GET /health HTTP/1.1\r\nhost: local").await;
    let mut idle = house.client().await;
    assert_eq!(idle.get("/health", "").await.status, 200);
    assert!(silent.ends().await && slow.ends().await && idle.ends().await);
    // A request that takes longer is no reason.
    let (mut client, id) = house.session("2025-06-18").await;
    client.ask(&id, &call(1, "quiet")).await;
    house.begun().await;
    for _ in 0..2 {
        assert!(house.client().await.ends().await, "the time is over, again");
    }
    house.go();
    assert_eq!(client.reply().await.status, 200);
}

#[tokio::test]
async fn connections_are_bounded_and_wait_for_their_turn() {
    let limits = Limits { connections: 3, reserved_for_unix: 1, ..Limits::default() };
    let house = Plan::with(limits).build(false).await;
    let path = house.unix().await;
    let mut first = house.client().await;
    let mut second = house.client().await;
    assert_eq!(first.get("/health", "").await.status, 200);
    assert_eq!(second.get("/health", "").await.status, 200);
    let mut third = house.client().await;
    third.send("GET", "/health", "", "").await;
    let mut unix = unix_client(&path).await;
    assert_eq!(unix.get("/health", "").await.status, 200, "the unix socket is still served");
    let early = tokio::time::timeout(Duration::from_millis(50), third.reply()).await;
    assert!(early.is_err());
    drop(first);
    assert_eq!(third.reply().await.status, 200);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_dropped() {
    let limits = Limits { write_stall: Duration::from_millis(100), ..Limits::default() };
    let house = House::with(limits).await;
    let (mut client, id) = house.session("2025-06-18").await;
    for number in 0..20 {
        client.ask(&id, &call(number, "flood")).await;
    }
    // The two background tasks remain.
    until("it is dropped", || house.tracker.len() <= 2).await;
}

#[tokio::test]
async fn only_our_own_uid_is_served_over_tcp_in_every_family() {
    for (bind, connect) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
        ("[::]:0", "127.0.0.1"),
        ("[::]:0", "::1"),
    ] {
        if TcpListener::bind(bind).await.is_err() {
            continue;
        }
        let house = Plan { address: bind, ..Plan::with(Limits::default()) }.build(false).await;
        let address = (connect, house.address.port());
        let mut client = Client::new(TcpStream::connect(address).await.unwrap());
        assert_eq!(client.get("/health", "").await.status, 200, "{bind} {connect}");
        // Whose process has closed its socket is not known any more, and so not served.
        let mut gone = TcpStream::connect(address).await.unwrap();
        gone.write_all(b"x").await.unwrap();
        drop(gone);
        assert_eq!(client.get("/health", "").await.status, 200, "{bind} {connect}");
    }
}
