//! The control plane over a real replica and real actors, called through its gRPC services.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::large_futures,
    reason = "a test that fails ends, and with it all that it started"
)]

mod apply;
mod backup;
mod bootstrap;
mod credentials;
mod introspection;
mod kinds;
mod lists;
mod locks;
mod oauth2;
mod policies;
mod preconditions;
mod rotation;
mod secrets;
mod services;
mod sessions;
mod support;
mod throttle;
mod tokens;
mod tools;
mod user_api;
mod users;
mod waiting;
mod wire;
