//! Backends and clients that misbehave: the others notice nothing, and who is concerned is told.

mod calls;
mod clients;
mod ends;
mod questions;
mod starts;
mod stuck;
