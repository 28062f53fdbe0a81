//! The kernel: unsafe code, nix and libc live here and in no other room.
//!
//! Plain structs in, `io::Result` out. Nothing here has heard of MCP, YAML or roles.
#![allow(unsafe_code)]

pub mod cgroup;
pub mod fds;
pub mod ids;
#[cfg(target_os = "macos")]
pub mod launchd;
pub mod leftovers;
pub mod peer;
pub mod signals;
pub mod spawn;
