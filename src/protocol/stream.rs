//! One FIFO of messages to one reader: a request's stream, or a connection's.
//!
//! Bounded. A reader that does not keep up loses the stream, never the writer its time: `send`
//! does not wait. What is lost is told to both sides ([`Closed`], [`Receiver::overflowed`]).

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

/// One message on its way to a client.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// One JSON-RPC message without raw newlines.
    pub bytes: Bytes,
    /// The response that ends its request. Nothing of that request follows.
    pub last: bool,
    /// A response that is an error.
    pub failed: bool,
    /// Progress or a log message: left out where its reader is slow, since what would be lost
    /// instead is the stream and every answer on it.
    pub spare: bool,
}

impl Outgoing {
    /// What comes before the response.
    pub fn notice(bytes: Bytes) -> Self {
        Outgoing { bytes, last: false, failed: false, spare: false }
    }

    /// What a reader who is slow can do without.
    pub fn spare(bytes: Bytes) -> Self {
        Outgoing { spare: true, ..Self::notice(bytes) }
    }

    /// The response.
    pub fn answer(bytes: Bytes, failed: bool) -> Self {
        Outgoing { bytes, last: true, failed, spare: false }
    }
}

/// What may wait in a stream. A single message is always let into an empty one.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub messages: usize,
    pub bytes: usize,
}

impl Bounds {
    pub const REQUEST: Bounds = Bounds { messages: 1024, bytes: 64 << 20 };
    pub const CONNECTION: Bounds = Bounds { messages: 4096, bytes: 128 << 20 };
}

/// The reader is gone, or was too slow and has lost the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

#[derive(Default)]
struct State {
    queue: VecDeque<Outgoing>,
    bytes: usize,
    senders: usize,
    closed: bool,
    overflowed: bool,
    reader: Option<Waker>,
    watchers: Vec<Waker>,
}

impl State {
    /// Half full or more: what can be left out should be.
    fn is_crowded(&self, bounds: Bounds) -> bool {
        self.queue.len() * 2 >= bounds.messages || self.bytes * 2 >= bounds.bytes
    }
}

struct Shared {
    bounds: Bounds,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Sender(Arc<Shared>);

pub struct Receiver(Arc<Shared>);

pub fn stream(bounds: Bounds) -> (Sender, Receiver) {
    let state = Mutex::new(State { senders: 1, ..State::default() });
    let shared = Arc::new(Shared { bounds, state });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl Sender {
    pub fn send(&self, message: Outgoing) -> Result<(), Closed> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(Closed);
        }
        if message.spare && state.is_crowded(self.0.bounds) {
            return Ok(());
        }
        let full = state.queue.len() >= self.0.bounds.messages
            || state.bytes + message.bytes.len() > self.0.bounds.bytes;
        if full && !state.queue.is_empty() {
            state.overflowed = true;
            state.closed = true;
            wake_all(state);
            return Err(Closed);
        }
        state.bytes += message.bytes.len();
        state.queue.push_back(message);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    /// Sends a message that is not a response.
    pub fn notify(&self, bytes: Bytes) -> Result<(), Closed> {
        self.send(Outgoing::notice(bytes))
    }

    pub fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Half full or more.
    pub fn is_crowded(&self) -> bool {
        self.0.lock().is_crowded(self.0.bounds)
    }

    /// Bytes that wait for the reader.
    pub fn waiting(&self) -> usize {
        self.0.lock().bytes
    }

    /// Completes when the reader is gone or has lost the stream.
    pub async fn closed(&self) {
        poll_fn(|context| {
            let mut state = self.0.lock();
            if state.closed {
                return Poll::Ready(());
            }
            if !state.watchers.iter().any(|waker| waker.will_wake(context.waker())) {
                state.watchers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    pub fn same_stream(&self, other: &Sender) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Clone for Sender {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Sender(Arc::clone(&self.0))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.senders -= 1;
        if state.senders == 0
            && let Some(reader) = state.reader.take()
        {
            drop(state);
            reader.wake();
        }
    }
}

impl Receiver {
    /// Whether nothing waits to be read.
    pub fn is_empty(&self) -> bool {
        self.0.lock().queue.is_empty()
    }

    /// The next message; `None` when every sender is gone and nothing waits, or the stream was
    /// lost.
    pub async fn recv(&mut self) -> Option<Outgoing> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Outgoing>> {
        let mut state = self.0.lock();
        if let Some(message) = state.queue.pop_front() {
            state.bytes -= message.bytes.len();
            if state.queue.is_empty() && state.queue.capacity() > 64 {
                state.queue.shrink_to(8);
            }
            return Poll::Ready(Some(message));
        }
        if state.senders == 0 || state.closed {
            return Poll::Ready(None);
        }
        match &mut state.reader {
            Some(waker) => waker.clone_from(context.waker()),
            None => state.reader = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// What waits now, without waiting for more.
    pub fn try_recv(&mut self) -> Option<Outgoing> {
        let mut state = self.0.lock();
        let message = state.queue.pop_front()?;
        state.bytes -= message.bytes.len();
        Some(message)
    }

    /// True when the stream ended because this reader was too slow.
    pub fn overflowed(&self) -> bool {
        self.0.lock().overflowed
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.queue = VecDeque::new();
        state.bytes = 0;
        wake_all(state);
    }
}

fn wake_all(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    let watchers = std::mem::take(&mut state.watchers);
    drop(state);
    for waker in watchers.into_iter().chain(reader) {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;

    fn message(len: usize) -> Outgoing {
        Outgoing::notice(Bytes::from(vec![b'x'; len]))
    }

    #[tokio::test]
    async fn keeps_order_and_ends_with_its_senders() {
        let (tx, mut rx) = stream(Bounds { messages: 8, bytes: 100 });
        for len in 1..5 {
            tx.send(message(len)).unwrap();
        }
        drop(tx);
        for len in 1..5 {
            assert_eq!(rx.recv().await.unwrap().bytes.len(), len);
        }
        assert!(rx.recv().await.is_none());
        assert!(!rx.overflowed());
    }

    #[tokio::test]
    async fn a_slow_reader_loses_the_stream() {
        let (tx, mut rx) = stream(Bounds { messages: 2, bytes: 100 });
        tx.send(message(1)).unwrap();
        tx.send(message(1)).unwrap();
        assert_eq!(tx.send(message(1)), Err(Closed));
        assert_eq!(tx.send(message(1)), Err(Closed));
        tx.closed().await;
        assert!(rx.recv().await.is_some());
        assert!(rx.recv().await.is_some());
        assert!(rx.recv().await.is_none());
        assert!(rx.overflowed());
    }

    #[tokio::test]
    async fn a_slow_reader_misses_what_it_can_do_without_and_keeps_the_rest() {
        let (tx, mut rx) = stream(Bounds { messages: 4, bytes: 100 });
        for _ in 0..10 {
            tx.send(Outgoing::spare(Bytes::from_static(b"a"))).unwrap();
        }
        tx.send(Outgoing::answer(Bytes::from_static(b"answer"), false)).unwrap();
        drop(tx);
        let mut heard = Vec::new();
        while let Some(message) = rx.recv().await {
            heard.push(message.bytes);
        }
        assert_eq!(heard, ["a", "a", "answer"]);
    }

    #[test]
    fn one_big_message_passes_through_an_empty_stream() {
        let (tx, mut rx) = stream(Bounds { messages: 2, bytes: 10 });
        tx.send(message(1000)).unwrap();
        assert_eq!(tx.waiting(), 1000);
        assert_eq!(rx.try_recv().unwrap().bytes.len(), 1000);
        assert_eq!(tx.waiting(), 0);
    }

    #[tokio::test]
    async fn a_sender_hears_that_the_reader_is_gone() {
        let (tx, rx) = stream(Bounds::REQUEST);
        let watcher = tx.clone();
        let waits = TaskTracker::new().spawn(async move { watcher.closed().await });
        tokio::task::yield_now().await;
        drop(rx);
        waits.await.unwrap();
        assert!(tx.is_closed());
    }
}
