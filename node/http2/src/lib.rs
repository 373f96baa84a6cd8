//! The node's HTTP/2 engine: [`serve`] answers callers' connections behind the same
//! [`Handler`](octelium_http1::Handler) as HTTP/1.1, [`Pool`] sends requests to upstreams as its namesake does there.
//!
//! Frames, header compression, flow control and stream states are those of the `h2` crate. Around it lie what a gateway
//! needs beside them: a strict reading of requests (`request.rs`), an eye on every frame that passes, so that floods end
//! the connection (`gauge.rs`), and a stream that writes once for each turn (`wire.rs`).
//!
//! A connection and all of its streams are one task of one thread. Memory is bounded by named [`Limits`]: a response's
//! body is pulled only as fast as its caller gives window, and window is given back only for what a handler has taken.

mod begun;
mod client;
mod frames;
mod gauge;
mod incoming;
mod limits;
mod request;
mod response;
mod sending;
mod server;
mod stream;
mod wire;

pub use client::Pool;
pub use gauge::Flood;
pub use limits::Limits;
pub use server::{ServeError, serve};

/// What a client that knows without negotiation begins its connection with (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
