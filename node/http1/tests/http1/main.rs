//! The engine over in-memory streams and real sockets.

#![allow(clippy::unwrap_used, reason = "a failing step fails the test, in helpers too")]

mod client;
mod departures;
mod differential;
mod forward;
mod heads;
mod server;
mod support;
mod upgrade;
