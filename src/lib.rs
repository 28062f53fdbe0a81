//! mcp-gateway: one MCP daemon for the whole machine.
//!
//! The rooms, top floor first; a room imports only from rooms below it (`tests/tidy.rs`).

pub mod gateway;
pub mod backend;
pub mod config;
pub mod policy;
pub mod protocol;
pub mod spawner;
pub mod sys;
