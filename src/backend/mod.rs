//! The running instances of the configured backends.
//!
//! Knows how to start, use and stop a child that speaks JSON-RPC over its pipes. Does not know
//! what its messages mean: that is told by [`Host`], which the gateway implements.
#![forbid(unsafe_code)]

mod ask;
mod backoff;
mod handshake;
mod instance;
mod lease;
mod pending;
mod state;
mod stderr;
mod supervisor;
mod wire;

pub use ask::{AskError, own_meta};
pub use handshake::Opening;
pub use instance::Instance;
pub use lease::Lease;
pub use pending::Call;
pub use state::Phase;
pub use supervisor::{
    AcquireError, Counts, Holder, InstanceKey, InstanceStatus, Scope, Speak, Supervisor,
};
pub use wire::{Info, Link};

use std::sync::Arc;

use crate::protocol::Message;

/// What the room above does with what instances say of their own accord.
///
/// Called from an instance's reader in the order of its output, so it must not block.
pub trait Host: Send + Sync {
    /// A notification that belongs to no call by a progress token.
    fn notification(&self, from: &Arc<Instance>, link: &Arc<Link>, message: Message);
    /// A request of the backend to its client. Answered by [`Link::answer`].
    fn request(&self, from: &Arc<Instance>, link: &Arc<Link>, message: Message);
    /// How to open the conversation with an instance that is about to start.
    fn opening(&self, instance: &Instance) -> Opening;
    /// A child that was opened in the era that it spoke before has ended before it was ready.
    fn unopened(&self, instance: &Arc<Instance>);
    /// The handshake is done.
    fn ready(&self, instance: &Arc<Instance>, link: &Arc<Link>);
    /// The child has ended; its calls are answered already.
    fn gone(&self, instance: &Arc<Instance>, link: &Arc<Link>);
}
