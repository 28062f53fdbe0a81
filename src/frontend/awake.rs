//! What keeps the gateway from exiting when it is idle, and the word that it does.
//!
//! Whoever has something to do with a client holds an [`Awake`]: from its accept until it has
//! said what it wants, while a request runs, while half a message has come. A connection that
//! is open and quiet holds none. When nobody does, the daemon may say [`Wakefulness::quit`],
//! after which no connection is accepted and none is read: what comes then stays where it was,
//! the connections with the init system, and a message with a client that is told so.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub(crate) struct Wakefulness {
    held: AtomicUsize,
    /// Counts what happened, so that two looks tell whether anything did between them.
    events: AtomicU64,
    quit: CancellationToken,
}

/// While one lives, the gateway is not idle.
pub(crate) struct Awake(Arc<Wakefulness>);

impl Wakefulness {
    pub(crate) fn hold(self: &Arc<Self>) -> Awake {
        self.note();
        self.held.fetch_add(1, Ordering::Relaxed);
        Awake(Arc::clone(self))
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn note(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    pub(crate) fn quit(&self) {
        self.quit.cancel();
    }

    /// Completes when the gateway exits because it is idle.
    pub(crate) async fn over(&self) {
        self.quit.cancelled().await;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.quit.is_cancelled()
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.note();
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}
