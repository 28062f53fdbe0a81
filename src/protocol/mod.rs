//! JSON-RPC envelopes over raw bytes: what the gateway needs to know of a message, and no more.
//!
//! A message is scanned once. What it carries is never rebuilt: ids, names and progress tokens
//! are replaced at their byte ranges, so unknown fields, key order and big numbers survive.
//! No I/O, no policy, no knowledge of who speaks.
#![forbid(unsafe_code)]

mod envelope;
mod error;
mod field;
mod member;
mod message;
pub mod method;
pub mod stream;
mod version;

pub use error::{ErrorCode, error_response, error_response_with, result_response};
pub use field::decode_field;
pub use member::{array_member, edited, member, members, string_member, with_member};
pub use message::{Invalid, Kind, Message, Span, blank_newlines};
pub use version::{Era, MODERN, Version};
