//! What all backends offer, under which names, with every one of them asleep.
//!
//! Listings are kept by backend and holder, in memory and on disk. A session sees a [`View`]
//! made from them; it is made again only when a listing has changed.

mod disk;
mod listing;
mod names;
mod template;
mod view;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

pub(super) use disk::Disk;
pub(super) use listing::{Kind, Listing, fetch};
use tokio::sync::Notify;
pub(super) use view::{Located, Route, Source, View, aggregate, transparent};

use crate::{
    backend::{InstanceKey, Scope},
    config::Server,
};

/// Views kept for the principals that were seen last.
const VIEWS: usize = 1024;

pub(super) struct Catalog {
    disk: Disk,
    listings: Mutex<HashMap<InstanceKey, Entry>>,
    views: Mutex<HashMap<String, (u64, Arc<View>)>>,
    generation: AtomicU64,
    pub(super) grown: Notify,
}

#[derive(Clone)]
enum Entry {
    Known(Arc<Listing>),
    /// Not on disk either; looked for once.
    Unknown,
}

impl Catalog {
    pub(super) fn new(disk: Disk) -> Self {
        Catalog {
            disk,
            listings: Mutex::default(),
            views: Mutex::default(),
            generation: AtomicU64::new(1),
            grown: Notify::new(),
        }
    }

    fn listings(&self) -> MutexGuard<'_, HashMap<InstanceKey, Entry>> {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// What is known of a backend for a holder, from memory or disk.
    pub(super) fn get(&self, key: &InstanceKey, server: &Server) -> Option<Arc<Listing>> {
        let mut listings = self.listings();
        let entry = listings.entry(key.clone()).or_insert_with(|| {
            match holder(&key.scope).and_then(|holder| self.disk.load(server, &holder)) {
                Some(listing) => Entry::Known(Arc::new(listing)),
                None => Entry::Unknown,
            }
        });
        match entry {
            Entry::Known(listing) => Some(Arc::clone(listing)),
            Entry::Unknown => None,
        }
    }

    /// Takes what a backend said now. True when it differs from what was known.
    pub(super) fn put(&self, key: &InstanceKey, server: &Server, listing: Listing) -> bool {
        let known = self.get(key, server);
        let same = known.as_ref().is_some_and(|known| {
            known.info == listing.info
                && Kind::ALL.iter().all(|kind| known.list(*kind) == listing.list(*kind))
        });
        if !same || known.is_some_and(|known| known.from_disk) {
            if let Some(holder) = holder(&key.scope)
                && !same
            {
                self.disk.save(server, &holder, &listing);
            }
            self.listings().insert(key.clone(), Entry::Known(Arc::new(listing)));
        }
        if !same {
            self.touch();
        } else {
            self.grown.notify_waiters();
        }
        !same
    }

    /// Views made so far are out of date.
    pub(super) fn touch(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.grown.notify_waiters();
    }

    /// A session is over, and what was listed for it alone.
    pub(super) fn forget_session(&self, session: &str) {
        let scope = Scope::Session(session.to_owned());
        self.listings().retain(|key, _| key.scope != scope);
    }

    /// The view under this key, made by `make` if the last one is out of date.
    pub(super) fn view(&self, key: &str, make: impl FnOnce() -> View) -> (u64, Arc<View>) {
        let generation = self.generation();
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, view)) = views.get(key)
            && *known == generation
        {
            return (generation, Arc::clone(view));
        }
        if views.len() >= VIEWS {
            views.clear();
        }
        drop(views);
        let view = Arc::new(make());
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.insert(key.to_owned(), (generation, Arc::clone(&view)));
        (generation, view)
    }
}

/// The name of a holder that outlives the daemon.
fn holder(scope: &Scope) -> Option<String> {
    match scope {
        Scope::User(user) => Some(user.clone()),
        Scope::Project(user, folder) => Some(format!("{user}\0{}", folder.display())),
        Scope::All => Some("all".to_owned()),
        Scope::Session(_) => None,
    }
}
