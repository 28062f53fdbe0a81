//! mcp-gateway: one MCP daemon for the whole machine.
//!
//! The rooms, top floor first; a room imports only from rooms below it (`tests/tidy.rs`).

pub mod cli;
pub mod daemon;
pub mod frontend;
pub mod gateway;
pub mod backend;
pub mod spawner;
pub mod policy;
pub mod config;
pub mod protocol;
pub mod sys;
pub mod launcher;
#[cfg(target_os = "linux")]
pub mod probe;
pub mod brief;
pub mod bridge;
