//! Tests of the streams that clients come back to.

use super::*;
use crate::protocol::stream::{self, Outgoing, Sender, stream};

const BOUNDS: Bounds = Bounds { events: 6, bytes: 100, time: 1000 };

fn source() -> (Sender, Receiver) {
    stream(stream::Bounds::REQUEST)
}

fn send(tx: &Sender, text: &'static str, last: bool) {
    tx.send(Outgoing { last, ..Outgoing::notice(Bytes::from_static(text.as_bytes())) }).unwrap();
}

/// All that a reader gets now, and whether the stream has ended.
fn read(replay: &mut Replay, ticket: Ticket, mut from: u64) -> (Vec<String>, bool) {
    let mut got = Vec::new();
    loop {
        match replay.poll(ticket, from, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some((number, bytes))) => {
                got.push(format!("{number}:{}", String::from_utf8_lossy(&bytes)));
                from = number + 1;
            }
            Poll::Ready(None) => return (got, true),
            Poll::Pending => return (got, false),
        }
    }
}

fn at(stream: u64, number: u64) -> Position {
    Position { stream, number }
}

#[test]
fn positions() {
    assert_eq!(Position::parse("3-14"), Some(at(3, 14)));
    for text in ["", "-", "3", "3-", "-3", "3-+4", "a-1", "1-2-3", "99999999999999999999-1"] {
        assert_eq!(Position::parse(text), None, "{text}");
    }
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed_and_what_follows() {
    let mut replay = Replay::new(BOUNDS);
    let (tx, rx) = source();
    let ticket = replay.open(rx, 1);
    assert_eq!(replay.mark(ticket), 0);
    send(&tx, "a", false);
    send(&tx, "b", false);
    assert_eq!(read(&mut replay, ticket, 1), (vec!["1:a".into(), "2:b".into()], false));
    assert!(replay.leave(ticket));
    send(&tx, "c", false);
    let (again, from) = replay.resume(at(ticket.stream, 1)).unwrap();
    assert_eq!(read(&mut replay, again, from), (vec!["2:b".into(), "3:c".into()], false));
    send(&tx, "d", true);
    assert_eq!(read(&mut replay, again, 4), (vec!["4:d".into()], true));
    // The end may be missed as well.
    replay.leave(again);
    let (last, from) = replay.resume(at(ticket.stream, 3)).unwrap();
    assert_eq!(read(&mut replay, last, from), (vec!["4:d".into()], true));
    assert!(replay.resume(at(ticket.stream, 5)).is_none());
    assert!(replay.resume(at(77, 0)).is_none());
}

#[test]
fn only_the_newest_reader_gets_anything() {
    let mut replay = Replay::new(BOUNDS);
    let (tx, rx) = source();
    let first = replay.open(rx, 1);
    replay.mark(first);
    let (second, from) = replay.resume(at(first.stream, 0)).unwrap();
    send(&tx, "a", false);
    assert_eq!(read(&mut replay, first, 1), (vec![], true));
    assert!(!replay.leave(first));
    assert_eq!(read(&mut replay, second, from), (vec!["1:a".into()], false));
}

#[test]
fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
    let mut replay = Replay::new(BOUNDS);
    let (tx, rx) = source();
    let ticket = replay.open(rx, 1);
    replay.leave(ticket);
    for _ in 0..10 {
        send(&tx, "x", false);
    }
    replay.sweep(0);
    let (ticket, from) = replay.resume(at(ticket.stream, 2)).unwrap();
    assert_eq!(from, 3);
    let (got, ended) = read(&mut replay, ticket, from);
    assert_eq!((got.len(), got[0].as_str(), ended), (6, "4:x", false));
    // One message that is too big is passed on all the same.
    let big = "y".repeat(200);
    tx.notify(big.clone().into()).unwrap();
    let (got, _) = read(&mut replay, ticket, 10);
    assert_eq!(got, [format!("10:{big}")]);
    assert_eq!((replay.events, replay.bytes), (0, 0));
}

#[test]
fn an_ended_stream_is_forgotten_after_a_while() {
    let mut replay = Replay::new(BOUNDS);
    let (tx, rx) = source();
    let ticket = replay.open(rx, 1);
    replay.leave(ticket);
    replay.sweep(0);
    replay.sweep(10_000);
    send(&tx, "late", true);
    replay.sweep(20_000);
    replay.sweep(20_999);
    assert_eq!(replay.tracks.len(), 1);
    replay.sweep(21_000);
    assert_eq!((replay.tracks.len(), replay.events, replay.bytes), (0, 0, 0));
}

#[test]
fn a_cancelled_request_ends_its_stream() {
    let mut replay = Replay::new(BOUNDS);
    let (tx, rx) = source();
    let ticket = replay.open(rx, 1);
    drop(tx);
    assert_eq!(read(&mut replay, ticket, 0), (vec![], true));
}

#[test]
fn the_general_stream_goes_on_with_its_numbers() {
    let mut replay = Replay::new(BOUNDS);
    assert!(!replay.general_is_open());
    let (tx, rx) = source();
    replay.open_general(rx);
    let (ticket, from) = replay.take(GENERAL).unwrap();
    assert!(replay.general_is_read() && replay.general_is_open());
    send(&tx, "a", false);
    assert_eq!(read(&mut replay, ticket, from), (vec!["0:a".into()], false));
    replay.leave(ticket);
    assert!(!replay.general_is_read());
    // What comes meanwhile waits for the next reader, however long.
    send(&tx, "b", false);
    replay.sweep(0);
    replay.sweep(10_000);
    assert_eq!(replay.events, 0);
    let (ticket, from) = replay.take(GENERAL).unwrap();
    assert_eq!(read(&mut replay, ticket, from), (vec!["1:b".into()], false));
    drop(tx);
    assert_eq!(read(&mut replay, ticket, 2), (vec![], true));
    assert!(!replay.general_is_open());
    let (tx, rx) = source();
    replay.open_general(rx);
    send(&tx, "c", false);
    assert_eq!(read(&mut replay, ticket, 2), (vec!["2:c".into()], false));
}
