//! The control plane over a real replica and real actors, called through its gRPC services.

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
