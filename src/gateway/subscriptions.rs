//! What a session is subscribed to, and the leases that keep its backends awake for it.
//!
//! A subscription outlives its instance: the client has not ended it, so the next instance hears
//! of it. Asks no backend itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{era::Hearing, error::Failure};
use crate::backend::Lease;

/// Subscriptions of one session.
const MOST: usize = 1000;
/// What the URI of one may have.
const URI_BYTES: usize = 8 << 10;

/// By backend and URI. Without one: the instance has ended, and the next one has not heard of it
/// yet.
type Held = HashMap<(Arc<str>, String), Option<Subscribed>>;

/// What keeps a subscription up at its instance.
pub(super) struct Subscribed {
    _lease: Lease,
    /// At a modern backend.
    _hearing: Option<Hearing>,
}

impl Subscribed {
    pub(super) fn new(lease: Lease, hearing: Option<Hearing>) -> Self {
        Subscribed { _lease: lease.only_hold(), _hearing: hearing }
    }
}

#[derive(Default)]
pub(super) struct Subscriptions(Mutex<State>);

#[derive(Default)]
struct State {
    held: Held,
    closed: bool,
}

// Leases lock their instances, so none is dropped while the table is locked.
impl Subscriptions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more is taken.
    pub(super) fn may_add(&self, server: &Arc<str>, uri: &str) -> Result<(), Failure> {
        if uri.len() > URI_BYTES {
            let text = format!("a subscription's `uri` has over {URI_BYTES} bytes");
            return Err(Failure::InvalidParams(text));
        }
        let state = self.state();
        if state.closed {
            return Err(Failure::ShuttingDown);
        }
        let again = state.held.contains_key(&(Arc::clone(server), uri.to_owned()));
        if state.held.len() >= MOST && !again {
            let text = format!("this session has {MOST} subscriptions");
            return Err(Failure::InvalidParams(text));
        }
        Ok(())
    }

    pub(super) fn add(&self, server: &Arc<str>, uri: &str, held: Option<Subscribed>) {
        let replaced = self.state().held.insert((Arc::clone(server), uri.to_owned()), held);
        drop(replaced);
    }

    /// Gives one that has lost its instance what keeps it up at the next.
    pub(super) fn renew(&self, server: &Arc<str>, uri: &str, held: Option<Subscribed>) {
        let mut state = self.state();
        let unused = match state.held.get_mut(&(Arc::clone(server), uri.to_owned())) {
            Some(kept @ None) => std::mem::replace(kept, held),
            _ => held,
        };
        drop(state);
        drop(unused);
    }

    pub(super) fn remove(&self, server: &Arc<str>, uri: &str) -> Option<Option<Subscribed>> {
        self.state().held.remove(&(Arc::clone(server), uri.to_owned()))
    }

    pub(super) fn has(&self, server: &Arc<str>, uri: &str) -> bool {
        self.state().held.contains_key(&(Arc::clone(server), uri.to_owned()))
    }

    /// One to something that this URI is a part of.
    pub(super) fn has_above(&self, server: &Arc<str>, uri: &str) -> bool {
        self.state().held.keys().any(|(name, above)| {
            let rest = uri.strip_prefix(above.as_str());
            name == server && rest.is_some_and(|rest| above.ends_with('/') || rest.starts_with('/'))
        })
    }

    /// The URIs that the backend's instance has not heard of.
    pub(super) fn unheard(&self, server: &Arc<str>) -> Vec<String> {
        let state = self.state();
        let unheard =
            state.held.iter().filter(|((name, _), lease)| name == server && lease.is_none());
        unheard.map(|((_, uri), _)| uri.clone()).collect()
    }

    /// The backend's instance has ended; a lease on it means nothing now.
    pub(super) fn lost(&self, server: &Arc<str>) {
        let lost: Vec<Subscribed> = {
            let mut state = self.state();
            let at = state.held.iter_mut().filter(|((name, _), _)| name == server);
            at.filter_map(|(_, lease)| lease.take()).collect()
        };
        drop(lost);
    }

    /// The session is over; what it had is handed out.
    pub(super) fn close(&self) -> Held {
        let mut state = self.state();
        state.closed = true;
        std::mem::take(&mut state.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many_and_their_uris_are_only_so_long() {
        let all = Subscriptions::default();
        let server: Arc<str> = "s".into();
        for n in 0..MOST {
            let uri = n.to_string();
            assert!(all.may_add(&server, &uri).is_ok());
            all.add(&server, &uri, None);
        }
        let more = all.may_add(&server, "more").unwrap_err();
        assert!(more.to_string().contains("1000 subscriptions"), "{more}");
        assert!(all.may_add(&server, "7").is_ok(), "the same again is no more");
        all.remove(&server, "7");
        assert!(all.may_add(&server, &"u".repeat(URI_BYTES)).is_ok());
        assert!(all.may_add(&server, &"u".repeat(URI_BYTES + 1)).is_err());
        assert_eq!(all.close().len(), MOST - 1);
        assert!(all.may_add(&server, "late").is_err());
    }

    #[test]
    fn one_that_lost_its_instance_stays_and_is_unheard_of() {
        let all = Subscriptions::default();
        let (server, other): (Arc<str>, Arc<str>) = ("s".into(), "t".into());
        all.add(&server, "a:/b", None);
        all.add(&other, "c", None);
        all.lost(&server);
        assert_eq!(all.unheard(&server), ["a:/b"]);
        assert!(all.has(&server, "a:/b") && all.has_above(&server, "a:/b/c"));
        assert!(!all.has(&other, "a:/b") && !all.has_above(&server, "a:/bc"));
    }
}
