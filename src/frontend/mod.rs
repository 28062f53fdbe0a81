//! The only room that knows sockets and HTTP.
//!
//! Four front doors to one gateway: [`stdio`], [`unix`] (framed JSON-RPC or HTTP, told apart by
//! the first byte), [`http`] over TCP, and within HTTP both Streamable HTTP and the older
//! HTTP+SSE. Each has a `serve(...)` that ends itself: on `drain` it takes nothing new and
//! finishes what runs, on `kill` it ends at once.
//!
//! It frames, checks who may speak at all, and keeps HTTP sessions and their streams. What a
//! message means, and what a principal may do, is the gateway's business.
#![forbid(unsafe_code)]

mod accept;
pub mod activation;
mod awake;
mod batch;
mod framed;
pub mod http;
mod preface;
pub mod stdio;
pub mod unix;

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::gateway::Gateway;
use awake::{Awake, Wakefulness};

/// What strangers may cost us. The defaults are meant for everyone; tests inject short ones.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once, of all kinds. At the limit no more are accepted.
    pub connections: usize,
    /// How many of them TCP leaves to the Unix socket, so that one cannot shut out the other.
    pub reserved_for_unix: usize,
    /// One message: an HTTP body or a framed line, in bytes.
    pub message: usize,
    /// An HTTP request's head, in bytes and in fields.
    pub head_bytes: usize,
    pub head_fields: usize,
    /// From accept to the end of the first HTTP head, or of the preface.
    pub head_time: Duration,
    /// From the end of an HTTP head to the end of its body.
    pub body_time: Duration,
    /// How long a connection may be kept without a request.
    pub keep_alive: Duration,
    /// How long a write may stand still before the connection is dropped.
    pub write_stall: Duration,
    /// Requests in flight on one framed connection; more are answered with an error.
    pub in_flight: usize,
    /// Messages in one batch.
    pub batch: usize,
    /// After the client's end of file: how long requests in flight may still finish.
    pub eof_grace: Duration,
    /// After that: how long written replies may take to leave.
    pub linger: Duration,
    /// How long an answer may take before a resumable event stream is opened for it. It is
    /// between one and two times this.
    pub prime_after: Duration,
    /// Between two comments that keep an event stream alive. Sessions are swept as often.
    pub heartbeat: Duration,
    /// What `retry:` tells clients to wait before they reconnect.
    pub retry: Duration,
    /// Sent events that one session keeps for clients that come back.
    pub replay_events: usize,
    pub replay_bytes: usize,
    /// How long they are kept after their stream has ended.
    pub replay_time: Duration,
    /// How long a second general stream waits for the first one's end to be noticed.
    pub takeover: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            reserved_for_unix: 128,
            message: 64 << 20,
            head_bytes: 32 << 10,
            head_fields: 100,
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            keep_alive: Duration::from_secs(60),
            write_stall: Duration::from_secs(30),
            in_flight: 1024,
            batch: 100,
            eof_grace: Duration::from_secs(2),
            linger: Duration::from_secs(1),
            prime_after: Duration::from_millis(50),
            heartbeat: Duration::from_secs(15),
            retry: Duration::from_secs(1),
            replay_events: 256,
            replay_bytes: 8 << 20,
            replay_time: Duration::from_secs(60),
            takeover: Duration::from_millis(250),
        }
    }
}

/// What all front doors share. One for each daemon.
pub struct Shared {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) limits: Limits,
    /// Where every task of this room runs.
    pub(crate) tracker: TaskTracker,
    /// Take nothing new, finish what runs.
    pub(crate) drain: CancellationToken,
    /// End at once. Cancels `drain` too, when a `serve` hears it.
    pub(crate) kill: CancellationToken,
    started: Instant,
    connections: Arc<Semaphore>,
    tcp_connections: Arc<Semaphore>,
    http: http::State,
    background: AtomicBool,
    wakefulness: Arc<Wakefulness>,
    reloader: OnceLock<Box<dyn Reload>>,
}

/// What reads the config again, for who may ask for it.
pub trait Reload: Send + Sync {
    /// What was done; or every problem that kept it from being done.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<Value, Vec<String>>> + Send + '_>>;
}

impl Shared {
    pub fn new(
        gateway: Arc<Gateway>,
        limits: Limits,
        tracker: TaskTracker,
        drain: CancellationToken,
        kill: CancellationToken,
    ) -> Arc<Self> {
        let for_tcp = limits.connections.saturating_sub(limits.reserved_for_unix).max(1);
        Arc::new(Self {
            connections: Arc::new(Semaphore::new(limits.connections.max(1))),
            tcp_connections: Arc::new(Semaphore::new(for_tcp)),
            started: Instant::now(),
            http: http::State::default(),
            background: AtomicBool::new(false),
            wakefulness: Arc::default(),
            reloader: OnceLock::new(),
            gateway,
            limits,
            tracker,
            drain,
            kill,
        })
    }

    /// Whom `/reload` is passed to. Set once, before the first door opens.
    pub fn set_reloader(&self, reloader: Box<dyn Reload>) {
        let _ = self.reloader.set(reloader);
    }

    async fn reload(&self) -> Option<Result<Value, Vec<String>>> {
        match self.reloader.get() {
            Some(reloader) => Some(reloader.reload().await),
            None => None,
        }
    }

    /// From now on the gateway is not idle, until this is dropped.
    fn awake(&self) -> Awake {
        self.wakefulness.hold()
    }

    /// The same, for work that no client waits for.
    pub fn stay_awake(&self) -> impl Drop + Send + use<> {
        self.wakefulness.hold()
    }

    /// Whether any client wants something, or has something coming: a message that has not come
    /// whole, a request, an open stream, an answer to come back for. Connections that are open
    /// and quiet do not count.
    pub fn is_wanted(&self) -> bool {
        self.wakefulness.is_held() || self.http.sessions.have_unsent()
    }

    /// Counts what clients do: the same number twice, and nothing was done between.
    pub fn events(&self) -> u64 {
        self.wakefulness.events()
    }

    /// Ends quiet connections, and takes no more: whoever comes now finds the next gateway. Only
    /// while nobody wants anything.
    pub fn quit(&self) {
        self.wakefulness.quit();
    }

    /// Milliseconds since the start: small enough for an atomic.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Starts what sweeps sessions and keeps streams alive, with the first door to HTTP.
    fn start_background(self: &Arc<Self>) {
        if !self.background.swap(true, Ordering::Relaxed) {
            self.tracker.spawn(http::background(Arc::clone(self)));
            self.tracker.spawn(http::priming(Arc::clone(self)));
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
