//! The gateway as a service: started by its socket, gone when idle, reloaded while it serves.

mod access;
mod activation;
mod idle;
mod reload;
