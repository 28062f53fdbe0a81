//! mcp-gateway: one MCP daemon for the whole machine.
//!
//! The rooms, top floor first; a room imports only from rooms below it (`tests/tidy.rs`).

pub mod protocol;
