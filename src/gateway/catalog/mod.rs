//! What all backends offer, under which names, with every one of them asleep.
//!
//! Listings are kept by backend and holder, in memory and on disk. A session sees a [`View`]
//! made from them; it is made again only when a listing has changed.

mod disk;
mod listing;
mod mirrored;
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
    backend::{InstanceKey, Scope, Speak},
    config::Server,
    protocol::Era,
};

/// Views kept for the principals that were seen last.
const VIEWS: usize = 1024;
/// Listings kept of backends that sleep; the disk remembers those that are forgotten here.
const LISTINGS: usize = 2048;

pub(super) struct Catalog {
    disk: Disk,
    listings: Mutex<Listings>,
    views: Mutex<HashMap<String, (u64, Arc<View>)>>,
    generation: AtomicU64,
    pub(super) grown: Notify,
}

#[derive(Default)]
struct Listings {
    all: HashMap<InstanceKey, Entry>,
    uses: u64,
}

struct Entry {
    /// `None`: not on disk either; looked for once.
    listing: Option<Arc<Listing>>,
    /// The backend that told it runs: what it said of its resources is nowhere else.
    awake: bool,
    used: u64,
}

impl Listings {
    /// The entry of this key, made by `make` where there is none; the least recently used of a
    /// backend that sleeps makes room for it.
    fn entry(
        &mut self,
        key: &InstanceKey,
        make: impl FnOnce() -> Option<Arc<Listing>>,
    ) -> &mut Entry {
        self.uses += 1;
        if self.all.len() >= LISTINGS && !self.all.contains_key(key) {
            let asleep = self.all.iter().filter(|(_, entry)| !entry.awake);
            let oldest = asleep.min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| self.all.remove(&oldest));
        }
        let entry = self.all.entry(key.clone());
        let entry = entry.or_insert_with(|| Entry { listing: make(), awake: false, used: 0 });
        entry.used = self.uses;
        entry
    }
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

    fn listings(&self) -> MutexGuard<'_, Listings> {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// What is known of a backend for a holder, from memory or disk.
    pub(super) fn get(&self, key: &InstanceKey, server: &Server) -> Option<Arc<Listing>> {
        let mut listings = self.listings();
        let entry = listings.entry(key, || {
            let holder = holder(key)?;
            self.disk.load(server, &holder).map(Arc::new)
        });
        entry.listing.clone()
    }

    /// The era that a backend spoke last, to whomever.
    pub(super) fn era(&self, key: &InstanceKey, server: &Server) -> Option<Era> {
        let known = self.get(key, server).and_then(|listing| listing.era);
        known.or_else(|| {
            let listings = self.listings();
            let others = listings
                .all
                .iter()
                .filter(|(other, _)| other.server == key.server && other.speak == key.speak);
            others.filter_map(|(_, entry)| entry.listing.as_ref()?.era).next()
        })
    }

    /// Takes what a backend that runs said now. True when it differs from what was known.
    pub(super) fn put(&self, key: &InstanceKey, server: &Server, listing: Listing) -> bool {
        let known = self.get(key, server);
        let same = known.as_ref().is_some_and(|known| {
            known.info == listing.info
                && Kind::ALL.iter().all(|kind| known.list(*kind) == listing.list(*kind))
        });
        {
            let mut listings = self.listings();
            let entry = listings.entry(key, || None);
            entry.awake = true;
            if !same || known.is_some_and(|known| known.from_disk) {
                if let Some(holder) = holder(key)
                    && !same
                {
                    // What is missing may come without a change of the plugins' own code.
                    if listing.problems().is_empty() {
                        self.disk.save(server, &holder, &listing);
                    }
                }
                entry.listing = Some(Arc::new(listing));
            }
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
        let scope = Scope::Session(session.into());
        self.listings().all.retain(|key, _| key.scope != scope);
        // A view of its own has the session's id at the end of its key.
        let own = format!("\0{session}");
        self.views().retain(|key, _| !key.ends_with(&own));
    }

    /// Nothing of this backend is known any more, but what is on disk and still holds.
    pub(super) fn forget(&self, server: &str) {
        self.listings().all.retain(|key, _| *key.server != *server);
        self.touch();
    }

    /// An instance has ended; what it said may be forgotten when room is needed.
    pub(super) fn asleep(&self, key: &InstanceKey) {
        if let Some(entry) = self.listings().all.get_mut(key) {
            entry.awake = false;
        }
    }

    fn views(&self) -> MutexGuard<'_, HashMap<String, (u64, Arc<View>)>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The view under this key, made by `make` if the last one is out of date.
    pub(super) fn view(&self, key: &str, make: impl FnOnce() -> View) -> (u64, Arc<View>) {
        let generation = self.generation();
        let mut views = self.views();
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
        let mut views = self.views();
        views.insert(key.to_owned(), (generation, Arc::clone(&view)));
        (generation, view)
    }
}

/// The name of a holder that outlives the daemon.
fn holder(key: &InstanceKey) -> Option<String> {
    let mut holder = match &key.scope {
        Scope::User(user) => user.to_string(),
        Scope::Project(user, folder) => format!("{user}\0{}", folder.display()),
        Scope::All => "all".to_owned(),
        Scope::Session(_) => return None,
    };
    if key.speak == Speak::Legacy {
        holder.push_str("\0legacy");
    }
    Some(holder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(session: &str) -> InstanceKey {
        InstanceKey {
            server: "s".into(),
            scope: Scope::Session(session.into()),
            speak: Speak::Best,
            revision: 0,
        }
    }

    #[test]
    fn the_least_recently_used_listing_of_a_sleeping_backend_makes_room() {
        let catalog = Catalog::new(Disk::default());
        let server = Server::named("s");
        let listing = || Listing { info: "{}".into(), ..Listing::default() };
        for name in ["awake", "used", "old"] {
            catalog.put(&key(name), &server, listing());
        }
        catalog.asleep(&key("used"));
        catalog.asleep(&key("old"));
        for n in 0..LISTINGS {
            catalog.get(&key(&n.to_string()), &server);
            assert!(catalog.get(&key("used"), &server).is_some());
        }
        assert_eq!(catalog.listings().all.len(), LISTINGS);
        assert!(catalog.get(&key("awake"), &server).is_some());
        assert!(catalog.get(&key("old"), &server).is_none());
    }

    #[test]
    fn what_was_made_for_a_session_alone_goes_with_it() {
        let catalog = Catalog::new(Disk::default());
        for view in ["uid:1\0all\0x\0y\0abc", "uid:1\0all\0x\0y\0"] {
            catalog.view(view, View::default);
        }
        catalog.get(&key("abc"), &Server::named("s"));
        catalog.forget_session("abc");
        assert!(catalog.listings().all.is_empty());
        assert_eq!(catalog.views().len(), 1, "others may share what is nobody's own");
    }
}
