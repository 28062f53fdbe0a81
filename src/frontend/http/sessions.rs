//! The sessions of Streamable HTTP, from `initialize` until they are deleted or expire.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::replay::{Bounds, Replay, Ticket};
use crate::{
    frontend::{Shared, millis},
    gateway::Session,
    policy::Principal,
};

/// All sessions by their id. An id is worth nothing without its principal and its path.
#[derive(Default)]
pub(in crate::frontend) struct Sessions(Mutex<HashMap<String, Arc<HttpSession>>>);

pub(super) struct HttpSession {
    pub(super) session: Arc<Session>,
    /// The one backend that its path shows.
    server: Option<String>,
    /// When something last happened, by [`Shared::now`].
    touched: AtomicU64,
    /// Event streams that somebody reads.
    readers: AtomicUsize,
    replay: Mutex<Replay>,
    /// Told when a reader goes.
    pub(super) gone: Notify,
}

impl HttpSession {
    fn new(shared: &Shared, session: Arc<Session>, server: Option<&str>) -> Self {
        let limits = &shared.limits;
        let bounds = Bounds {
            events: limits.replay_events,
            bytes: limits.replay_bytes,
            time: millis(limits.replay_time),
        };
        Self {
            session,
            server: server.map(str::to_owned),
            touched: AtomicU64::new(shared.now()),
            readers: AtomicUsize::new(0),
            replay: Mutex::new(Replay::new(bounds)),
            gone: Notify::new(),
        }
    }

    pub(super) fn replay(&self) -> MutexGuard<'_, Replay> {
        self.replay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn touch(&self, now: u64) {
        self.touched.store(now, Ordering::Relaxed);
    }

    pub(super) fn reader_comes(&self) {
        self.readers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn reader_goes(&self, ticket: Ticket, now: u64) {
        self.replay().leave(ticket);
        self.touch(now);
        self.readers.fetch_sub(1, Ordering::Relaxed);
        self.gone.notify_waiters();
    }

    fn has_expired(&self, now: u64, timeout: u64) -> bool {
        now.saturating_sub(self.touched.load(Ordering::Relaxed)) >= timeout
            && self.readers.load(Ordering::Relaxed) == 0
            && !self.session.busy()
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<HttpSession>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(
        &self,
        shared: &Shared,
        session: Arc<Session>,
        server: Option<&str>,
    ) -> Arc<HttpSession> {
        let entry = Arc::new(HttpSession::new(shared, session, server));
        self.lock().insert(entry.session.id().to_owned(), Arc::clone(&entry));
        entry
    }

    /// The session with this id, if it is this principal's and belongs to this path.
    pub(super) fn find(
        &self,
        shared: &Shared,
        principal: &Principal,
        server: Option<&str>,
        id: &str,
    ) -> Option<Arc<HttpSession>> {
        let entry = Arc::clone(self.lock().get(id)?);
        if *entry.session.principal() != *principal || entry.server.as_deref() != server {
            return None;
        }
        let now = shared.now();
        if entry.has_expired(now, millis(shared.gateway.session_timeout())) {
            self.close(&entry);
            return None;
        }
        entry.touch(now);
        Some(entry)
    }

    pub(super) fn close(&self, entry: &HttpSession) {
        self.lock().remove(entry.session.id());
        entry.session.close();
    }

    /// Whether anything was said to a client that has gone, and may come back for it.
    pub(in crate::frontend) fn have_unsent(&self) -> bool {
        self.lock().values().any(|entry| entry.replay().has_unsent())
    }

    /// Closes what has expired, and tidies what is kept for resuming.
    pub(super) fn sweep(&self, shared: &Shared) {
        let timeout = millis(shared.gateway.session_timeout());
        let now = shared.now();
        let entries: Vec<Arc<HttpSession>> = self.lock().values().cloned().collect();
        for entry in entries {
            if entry.has_expired(now, timeout) {
                tracing::debug!(session = entry.session.id(), "an http session has expired");
                self.close(&entry);
            } else {
                entry.replay().sweep(now);
            }
        }
    }
}
