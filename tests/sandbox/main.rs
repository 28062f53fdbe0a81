//! The launcher, as an attacker and as an accident meet it: the real binary, a real kernel.
//!
//! Needs root, to play a service that was started as root and a plain user as well. Linux only.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "tests start the launcher")]

mod attacks;
#[path = "../it/harness/dice.rs"]
mod dice;
mod harness;
mod leftovers;
mod orphans;
mod steps;
