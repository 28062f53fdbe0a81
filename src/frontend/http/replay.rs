//! The event streams of one session, and what was sent on them, for clients that come back.
//!
//! A stream outlives the connection that carries it: while nobody reads, what comes waits. Each
//! event has the id `<stream>-<number>`; with the last one it saw, a client takes its stream up
//! again. What is kept is bounded; when there is too much, the oldest streams lose their events
//! first. No I/O, and the clock is an argument.

use std::{
    collections::{BTreeMap, VecDeque},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::protocol::stream::Receiver;

/// The stream that belongs to no request.
pub(super) const GENERAL: u64 = 0;

/// Where in which stream an event lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) stream: u64,
    pub(super) number: u64,
}

impl Position {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { digits.parse().ok() } else { None }
        };
        let (stream, at) = text.split_once('-')?;
        Some(Self { stream: number(stream)?, number: number(at)? })
    }
}

/// What may be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) events: usize,
    pub(super) bytes: usize,
    /// Milliseconds after the end of a stream.
    pub(super) time: u64,
}

pub(super) struct Replay {
    bounds: Bounds,
    tracks: BTreeMap<u64, Track>,
    next_stream: u64,
    events: usize,
    bytes: usize,
}

struct Track {
    source: Receiver,
    /// Responses that have not come yet; with the last one the stream ends.
    expected: usize,
    kept: VecDeque<(u64, Bytes)>,
    /// The number of the next event that comes.
    next: u64,
    /// Counts the readers. Only the newest one gets anything.
    reader: u64,
    read: bool,
    /// Set while that reader waits.
    waker: Option<Waker>,
    ended: bool,
    /// When it was first seen to have ended, or, of the general stream, to have no reader.
    left_at: Option<u64>,
}

/// A reader's right to one stream, until a newer reader comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) stream: u64,
    reader: u64,
}

impl Replay {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, tracks: BTreeMap::new(), next_stream: GENERAL + 1, events: 0, bytes: 0 }
    }

    /// Whether anything waits on a stream that nobody reads.
    pub(super) fn has_unsent(&self) -> bool {
        self.tracks.values().any(|track| !track.read && !track.source.is_empty())
    }

    /// A new stream for `expected` responses.
    pub(super) fn open(&mut self, source: Receiver, expected: usize) -> Ticket {
        let stream = self.next_stream;
        self.next_stream += 1;
        self.tracks.insert(stream, Track::new(source, expected));
        Ticket { stream, reader: 0 }
    }

    /// True while a reader has the general stream.
    pub(super) fn general_is_read(&self) -> bool {
        self.tracks.get(&GENERAL).is_some_and(|track| track.read)
    }

    /// True when what comes next on the general stream would arrive.
    pub(super) fn general_is_open(&self) -> bool {
        self.tracks.get(&GENERAL).is_some_and(|track| !track.ended && !track.source.overflowed())
    }

    /// Gives the general stream its source, at first or anew; the numbers go on.
    pub(super) fn open_general(&mut self, source: Receiver) {
        match self.tracks.get_mut(&GENERAL) {
            Some(track) => {
                track.source = source;
                track.ended = false;
            }
            None => {
                self.tracks.insert(GENERAL, Track::new(source, usize::MAX));
            }
        }
    }

    /// Makes the caller the reader of a stream, and the number of the event that it gets first.
    pub(super) fn take(&mut self, stream: u64) -> Option<(Ticket, u64)> {
        let track = self.tracks.get_mut(&stream)?;
        track.reader += 1;
        track.read = true;
        track.left_at = None;
        if let Some(former) = track.waker.take() {
            former.wake();
        }
        Some((Ticket { stream, reader: track.reader }, track.next))
    }

    /// Takes up a stream after an event that was sent on it.
    pub(super) fn resume(&mut self, after: Position) -> Option<(Ticket, u64)> {
        if self.tracks.get(&after.stream)?.next <= after.number {
            return None;
        }
        let (ticket, _) = self.take(after.stream)?;
        Some((ticket, after.number + 1))
    }

    /// Numbers an event that carries no message.
    pub(super) fn mark(&mut self, ticket: Ticket) -> u64 {
        self.tracks.get_mut(&ticket.stream).map_or(0, |track| {
            track.next += 1;
            track.next - 1
        })
    }

    /// Records a message that was taken out of the source before its stream was opened.
    pub(super) fn push(&mut self, stream: u64, bytes: Bytes, last: bool) -> u64 {
        let Some(track) = self.tracks.get_mut(&stream) else {
            return 0;
        };
        let number = track.next;
        track.next += 1;
        if last {
            track.expected = track.expected.saturating_sub(1);
            track.ended |= track.expected == 0;
        }
        self.events += 1;
        self.bytes += bytes.len();
        track.kept.push_back((number, bytes));
        self.shrink();
        number
    }

    /// The first event from number `from` on. `None`: the stream has ended, or has another
    /// reader.
    pub(super) fn poll(
        &mut self,
        ticket: Ticket,
        from: u64,
        context: &mut Context<'_>,
    ) -> Poll<Option<(u64, Bytes)>> {
        let Some(track) = self.tracks.get_mut(&ticket.stream) else {
            return Poll::Ready(None);
        };
        if track.reader != ticket.reader {
            return Poll::Ready(None);
        }
        if from < track.next {
            let at = track.kept.partition_point(|(number, _)| *number < from);
            if let Some(event) = track.kept.get(at) {
                return Poll::Ready(Some(event.clone()));
            }
        }
        if track.ended {
            return Poll::Ready(None);
        }
        match track.source.poll_recv(context) {
            Poll::Ready(Some(message)) => {
                let number = self.push(ticket.stream, message.bytes.clone(), message.last);
                Poll::Ready(Some((number, message.bytes)))
            }
            Poll::Ready(None) => {
                track.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending => {
                track.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The reader is gone. True when nobody has taken its place.
    pub(super) fn leave(&mut self, ticket: Ticket) -> bool {
        match self.tracks.get_mut(&ticket.stream) {
            Some(track) if track.reader == ticket.reader => {
                track.read = false;
                track.waker = None;
                true
            }
            _ => false,
        }
    }

    /// Takes in what came on streams without a reader, and forgets what is too old.
    pub(super) fn sweep(&mut self, now: u64) {
        let streams: Vec<u64> =
            self.tracks.iter().filter(|(_, track)| !track.read).map(|(id, _)| *id).collect();
        for stream in streams {
            // What comes on the general stream waits in its source: it may be read at any time.
            if stream != GENERAL && !self.take_in(stream) {
                continue;
            }
            let Some(track) = self.tracks.get_mut(&stream) else {
                continue;
            };
            let since = *track.left_at.get_or_insert(now);
            if now.saturating_sub(since) < self.bounds.time {
                continue;
            }
            self.events -= track.kept.len();
            self.bytes -= track.kept.drain(..).map(|(_, bytes)| bytes.len()).sum::<usize>();
            if stream != GENERAL {
                self.tracks.remove(&stream);
            }
        }
    }

    /// Keeps what waits in a source. True when that was the end of its stream.
    fn take_in(&mut self, stream: u64) -> bool {
        while let Some(track) = self.tracks.get_mut(&stream) {
            if track.ended {
                return true;
            }
            match track.source.poll_recv(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(message)) => {
                    self.push(stream, message.bytes, message.last);
                }
                Poll::Ready(None) => track.ended = true,
                Poll::Pending => return false,
            }
        }
        true
    }

    fn shrink(&mut self) {
        while self.events > self.bounds.events || self.bytes > self.bounds.bytes {
            let oldest = self.tracks.values_mut().find(|track| !track.kept.is_empty());
            let Some((_, bytes)) = oldest.and_then(|track| track.kept.pop_front()) else {
                return;
            };
            self.events -= 1;
            self.bytes -= bytes.len();
        }
    }
}

impl Track {
    fn new(source: Receiver, expected: usize) -> Self {
        Self {
            source,
            expected,
            kept: VecDeque::new(),
            next: 0,
            reader: 0,
            read: true,
            waker: None,
            ended: expected == 0,
            left_at: None,
        }
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
