//! The engine over in-memory streams and real sockets.

mod client;
mod forward;
mod heads;
mod server;
mod support;
