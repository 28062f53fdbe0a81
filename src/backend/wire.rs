//! A child's two pipes as a conversation: ids, tokens, who waits for what.
//!
//! Reading and writing never wait for each other: the reader hands everything on at once, the
//! writer drains a queue of its own. The queue is bounded by the calls in flight
//! (`limits.calls`), and a child that leaves it full is stopped.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{Notify, Semaphore},
};

use super::{
    Host, Instance,
    pending::{self, Call, Pending},
};
use crate::protocol::{
    Era, ErrorCode, Kind, Message, error_response, method,
    stream::{self, Bounds, Outgoing, stream},
};

/// Lines that are no messages, one after the other, before a child is given up.
const JUNK: u64 = 1000;
/// What may wait for a child that does not read; with more it is stopped.
const INPUT: Bounds = Bounds { messages: 16_384, bytes: 512 << 20 };
/// Why reading ends where the child does.
pub(super) const CLOSED: &str = "closed its output";
/// Messages that are handed on before others get a turn.
const TURN: usize = 64;
/// Small lines are written together.
const BATCH: usize = 64 * 1024;

/// What a backend said of itself in its handshake.
#[derive(Clone, Debug)]
pub struct Info {
    /// The result of `initialize` or `server/discover`, as it came.
    pub raw: Arc<str>,
    /// Its process holds to it.
    pub era: Era,
    pub version: &'static str,
    pub capabilities: Value,
}

/// The conversation with one running child.
pub struct Link {
    input: Mutex<Option<stream::Sender>>,
    pending: Mutex<Pending>,
    info: OnceLock<Info>,
    junk: AtomicU64,
    /// The child reads no more: its pipe is broken, or too much waits for it.
    pub(super) deaf: Notify,
    pub(super) slots: Arc<Semaphore>,
    /// Milliseconds from `began` to the last message.
    heard: AtomicU64,
    began: Instant,
    doubted: AtomicBool,
    /// Lists that are being asked for.
    listing: AtomicUsize,
    written: AtomicBool,
}

/// The child is gone, or going.
#[derive(Debug, thiserror::Error)]
#[error("backend has ended")]
pub struct Gone;

impl Link {
    pub(super) fn new(calls: usize) -> (Arc<Self>, stream::Receiver) {
        let (input, receiver) = stream(INPUT);
        let link = Link {
            input: Mutex::new(Some(input)),
            pending: Mutex::default(),
            info: OnceLock::new(),
            junk: AtomicU64::new(0),
            deaf: Notify::new(),
            slots: Arc::new(Semaphore::new(calls)),
            heard: AtomicU64::new(0),
            began: Instant::now(),
            doubted: AtomicBool::new(false),
            listing: AtomicUsize::new(0),
            written: AtomicBool::new(false),
        };
        (Arc::new(link), receiver)
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, bytes: Bytes) -> Result<(), Gone> {
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let input = input.as_ref().ok_or(Gone)?;
        input.send(Outgoing::notice(bytes)).map_err(|_| {
            self.deaf.notify_one();
            Gone
        })
    }

    pub(super) fn set_info(&self, info: Info) {
        let _ = self.info.set(info);
    }

    /// What the backend said in its handshake; `None` before that is done.
    pub fn info(&self) -> Option<&Info> {
        self.info.get()
    }

    /// The era that the child holds to; before its handshake is done, nobody needs to know.
    pub fn era(&self) -> Era {
        self.info().map_or(Era::Legacy, |info| info.era)
    }

    /// True where the backend's capabilities have this member.
    pub fn has(&self, capability: &str) -> bool {
        self.info().is_some_and(|info| info.capabilities.get(capability).is_some())
    }

    /// Sends a client's request under an id of our own, with the tool's own name where it was
    /// qualified. Everything that belongs to it comes to `call.reply`.
    pub fn request(&self, message: &Message, name: Option<&str>, call: Call) -> Result<u64, Gone> {
        let mut pending = self.pending();
        let id = pending.add(call);
        if message.wants_task() {
            pending.asks_for_task(id);
        }
        if self.line(pending::request_line(message, id, name)).is_err() {
            pending.remove(id);
            return Err(Gone);
        }
        Ok(id)
    }

    /// Forgets a call and tells the backend to stop working on it, in the client's words where
    /// there are any.
    pub fn cancel(&self, id: u64, words: Option<&Message>, reason: &str) {
        if self.pending().remove(id).is_none() {
            return;
        }
        let line = match words {
            Some(words) if words.request_id().is_some() => {
                words.edit().request_id(id.to_string()).line()
            }
            _ => {
                let reason = Value::from(reason);
                let text = format!(
                    "{{\"jsonrpc\":\"2.0\",\"method\":\"{}\",\"params\":{{\"requestId\":{id},\"reason\":{reason}}}}}\n",
                    method::CANCELLED
                );
                text.into()
            }
        };
        let _ = self.line(line);
    }

    /// Passes a client's notification on.
    pub fn notify(&self, message: &Message) -> Result<(), Gone> {
        self.line(message.edit().line())
    }

    /// Sends a notification of the gateway's own.
    pub fn announce(&self, method: &str, params: &str) -> Result<(), Gone> {
        let text = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{params}}}\n");
        self.line(text.into())
    }

    /// Passes a client's answer on to the backend's question `id` (JSON text).
    pub fn answer(&self, id: &str, message: &Message) {
        let _ = self.line(message.edit().id(id).line());
    }

    /// Passes a client's progress on a question back under the backend's token (JSON text).
    pub fn progress_back(&self, message: &Message, token: &str) {
        let _ = self.line(message.edit().progress_of(token).line());
    }

    /// Answers the backend's question with a result of our own, as JSON text.
    pub fn reply(&self, id: &str, result: &str) {
        let _ =
            self.line(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n").into());
    }

    /// Answers the backend's question with an error.
    pub fn refuse(&self, id: &str, code: ErrorCode, text: &str) {
        let mut line = BytesMut::from(&error_response(Some(id), code, text)[..]);
        line.extend_from_slice(b"\n");
        let _ = self.line(line.freeze());
    }

    /// This call waits for its client from now on.
    pub fn park(&self, call: u64) {
        self.pending().park(call);
    }

    /// From now on what comes of this call is for another request of its client.
    pub fn readdress(&self, call: u64, id: &str, token: Option<&str>, client: u64) {
        self.pending().readdress(call, id, token, client);
    }

    /// The newest stream of this session's calls here.
    pub fn newest_of(&self, session: u64) -> Option<stream::Sender> {
        self.pending().newest_of(session)
    }

    /// The session that a question is for, if all calls in flight are of one client; calls that
    /// wait for others of its principal do not count.
    pub fn only_session(&self) -> Option<u64> {
        self.pending().only_session()
    }

    /// Progress of a task whose call has been answered: its session, and what that is told.
    pub fn task_progress(&self, message: &Message) -> Option<(u64, Bytes)> {
        self.pending().task_progress(message)
    }

    /// The session whose call made the task of this id.
    pub fn task_session(&self, task: &str) -> Option<u64> {
        self.pending().task_session(task)
    }

    /// A question of the child's goes to this session.
    pub fn asks(&self, session: u64) {
        self.pending().ask(session);
    }

    /// Whether this session's call is the only one of clients in flight.
    pub fn is_alone(&self, session: u64) -> bool {
        self.pending().sessions() == [session]
    }

    /// The session that a question is for, whoever else has calls in flight.
    pub fn newest_session(&self) -> Option<u64> {
        self.pending().newest_session()
    }

    /// The sessions with calls in flight.
    pub fn sessions(&self) -> Vec<u64> {
        self.pending().sessions()
    }

    pub fn in_flight(&self) -> usize {
        self.pending().len()
    }

    /// Lines that were no messages, and answers that nobody waited for.
    pub fn noise(&self) -> (u64, u64) {
        (self.junk.load(Ordering::Relaxed), self.pending().strays)
    }

    /// True once anything has been put into the child's stdin.
    pub(super) fn has_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    /// When the child said something last.
    pub fn heard(&self) -> Instant {
        self.began + Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }

    /// True for the first who doubts that the child is alive, until `end_doubt`.
    pub fn begin_doubt(&self) -> bool {
        !self.doubted.swap(true, Ordering::Relaxed)
    }

    pub fn end_doubt(&self) {
        self.doubted.store(false, Ordering::Relaxed);
    }

    /// Counts who asks for this child's lists, while the value lives.
    pub fn listing(self: &Arc<Self>) -> Listing {
        self.listing.fetch_add(1, Ordering::Relaxed);
        Listing(Arc::clone(self))
    }

    pub fn is_listing(&self) -> bool {
        self.listing.load(Ordering::Relaxed) > 0
    }

    /// False once the child has ended or is to end.
    pub fn is_open(&self) -> bool {
        self.input.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// No more input for the child; it is to end by itself.
    pub(super) fn close_input(&self) {
        self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Nothing goes out any more, and every caller is told why.
    pub(super) fn end(&self, why: &str) {
        self.close_input();
        self.pending().fail_all(why);
    }
}

/// Somebody is asking for lists.
#[must_use]
pub struct Listing(Arc<Link>);

impl Drop for Listing {
    fn drop(&mut self) {
        self.0.listing.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes what waits, small lines together, until the input is closed or the pipe breaks.
pub(super) async fn write(
    mut pipe: impl AsyncWrite + Unpin,
    mut lines: stream::Receiver,
    link: Arc<Link>,
) {
    let mut batch = BytesMut::new();
    while let Some(first) = lines.recv().await {
        let mut next = Some(first);
        while let Some(line) = next {
            if line.bytes.len() >= BATCH {
                if pipe.write_all(&batch).await.is_err()
                    || pipe.write_all(&line.bytes).await.is_err()
                {
                    return link.deaf.notify_one();
                }
                batch.clear();
            } else {
                batch.extend_from_slice(&line.bytes);
            }
            next = (batch.len() < BATCH).then(|| lines.try_recv()).flatten();
        }
        if pipe.write_all(&batch).await.is_err() {
            return link.deaf.notify_one();
        }
        link.written.store(true, Ordering::Relaxed);
        batch.clear();
    }
}

/// Reads lines until the pipe ends or the child misbehaves; says why it stopped.
pub(super) async fn read(
    mut pipe: impl AsyncRead + Unpin,
    instance: &Arc<Instance>,
    link: &Arc<Link>,
    host: &dyn Host,
    limit: usize,
) -> String {
    let mut buffer = BytesMut::with_capacity(BATCH);
    let mut scanned = 0;
    let mut junk_in_a_row = 0;
    let mut delivered = 0usize;
    loop {
        while let Some(at) = memchr::memchr(b'\n', &buffer[scanned..]) {
            let mut line = buffer.split_to(scanned + at + 1);
            scanned = 0;
            line.truncate(line.len() - 1);
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match Message::parse(line.freeze()) {
                Ok(message) => {
                    junk_in_a_row = 0;
                    let age = u64::try_from(link.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    link.heard.store(age, Ordering::Relaxed);
                    deliver(instance, link, host, message);
                    delivered += 1;
                    // Whoever takes these runs on this thread too, and must keep up.
                    if delivered.is_multiple_of(TURN) {
                        tokio::task::yield_now().await;
                    }
                }
                Err(why) => {
                    junk_in_a_row += 1;
                    if link.junk.fetch_add(1, Ordering::Relaxed) == 0 {
                        let server = instance.server_name();
                        tracing::warn!(
                            server,
                            "a line on stdout is no message ({why}); further ones are only counted"
                        );
                    }
                    if junk_in_a_row >= JUNK {
                        return format!(
                            "wrote {JUNK} lines in a row to stdout that are no messages"
                        );
                    }
                }
            }
        }
        scanned = buffer.len();
        if scanned > limit {
            return format!("sent a line of over {limit} bytes (limits.line)");
        }
        if buffer.capacity() - buffer.len() < 4096 {
            buffer.reserve(BATCH.max(buffer.len()));
        }
        match pipe.read_buf(&mut buffer).await {
            Ok(0) => return CLOSED.to_owned(),
            Ok(_) => {}
            Err(error) => return format!("its output cannot be read: {error}"),
        }
    }
}

fn deliver(instance: &Arc<Instance>, link: &Arc<Link>, host: &dyn Host, message: Message) {
    match message.kind() {
        Kind::Response => link.pending().answer(&message),
        Kind::Request if message.method() == method::PING => {
            link.reply(message.id().unwrap_or("null"), "{}");
        }
        Kind::Request => host.request(instance, link, message),
        Kind::Notification if message.method() == method::PROGRESS => {
            if !link.pending().progress(&message) {
                host.notification(instance, link, message);
            }
        }
        Kind::Notification => {
            if !(message.subscription().is_some() && link.pending().subscribed(&message)) {
                host.notification(instance, link, message);
            }
        }
    }
}
