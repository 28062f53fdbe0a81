//! The gateway as its users meet it: the real binary, real children, real sockets.
//!
//! One binary, a module a subject. Reads `/proc`, so Linux only.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "tests start the gateway")]

mod backends;
mod boxes;
mod bridge;
mod browser;
mod byte_exact;
mod cli;
mod doors;
mod eras;
mod faults;
mod frontend;
mod harness;
mod keys;
mod load;
mod npx;
mod plugins;
mod roles;
mod seed;
mod service;
mod soak;
mod strangers;
mod subscriptions;
mod tasks;
