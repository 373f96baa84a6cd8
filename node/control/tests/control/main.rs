//! The control plane over a real replica and real actors, called through its gRPC services.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::large_futures,
    reason = "a test that fails ends, and with it all that it started"
)]

mod apply;
mod bootstrap;
mod credentials;
mod lists;
mod oauth2;
mod policies;
mod secrets;
mod services;
mod sessions;
mod support;
mod tokens;
mod users;
mod wire;
