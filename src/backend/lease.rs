//! "In use" as a value. While one lives, its instance is not idle; dropping the last starts the
//! idle clock.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{Instance, Link, state::Event};

#[must_use]
pub struct Lease {
    instance: Arc<Instance>,
    link: Arc<Link>,
    /// One of the instance's `limits.calls`.
    pub(super) slot: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// Only after the machine has granted it.
    pub(super) fn new(instance: Arc<Instance>, link: Arc<Link>) -> Self {
        Lease { instance, link, slot: None }
    }

    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Keeps the instance awake without counting as a call: for subscriptions and tasks.
    pub fn only_hold(mut self) -> Self {
        self.release_slot();
        self
    }

    /// The same, for a call that waits for its client.
    pub fn release_slot(&mut self) {
        self.slot = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.instance.on(Event::Release);
    }
}
