//! The two eras of MCP, and what one says in the other's words.
//!
//! In the legacy era a conversation opens with `initialize` and both sides ask. In the modern one
//! (2026-07-28) each request stands for itself, and what a server wants to know comes as the
//! result of a request, which the client then makes again.
//!
//! ```text
//!                      legacy backend                     modern backend
//!   legacy client      passed on                          rounds.rs: asked, and asked again
//!   modern client      parked.rs: parked, and resumed     passed on; state.rs seals for `all`
//! ```
//!
//! A request of the modern era is served by a [`Session`](super::Session) of its own, which ends
//! with it; `said.rs` reads what the request says of its client.

mod discover;
mod listen;
mod parked;
mod rounds;
mod said;
mod state;
mod translate;
mod upstream;

pub(super) use discover::{discover, initialized, without_tasks_extension};
pub(super) use listen::{Filter, listen};
pub(super) use parked::{Parking, begin as begin_parked, carry_sealed, resume};
pub(super) use rounds::carry as carry_rounds;
pub(super) use said::{Said, is_modern};
pub use state::Keys;
pub(super) use state::{Bound, States};
pub(super) use translate::{
    TASKS_EXTENSION, complete, error_between, legacy_request, legacy_result, modern_capabilities,
    modern_question, modern_request,
};
pub(super) use upstream::{Hearing, Subject, Upstream};
