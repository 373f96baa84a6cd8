//! The node's HTTP/1.1 engine: strict parsing, framing and connection handling for both sides of the gateway.
//!
//! It works over any byte stream and knows nothing of TLS, policy or resources. [`serve`] answers one downstream
//! connection through a [`Handler`]; [`Pool`] sends requests to upstreams and keeps their idle connections. Everything
//! belongs to one thread (`!Send`): a node runs one single-threaded runtime per core.
//!
//! Three rules hold everywhere: a message whose end could be read in two ways is refused, framing headers are made
//! here and never copied from one side to the other, and nothing is read before somebody asks for it.

mod body;
mod chunked;
mod client;
pub mod clock;
mod date;
pub mod departures;
mod drain;
mod head;
mod headers;
mod interim;
mod limits;
mod message;
mod outbox;
mod pool;
mod sending;
mod server;
mod spare;
mod timer;
pub mod turn;
mod upgrade;
mod waker;
mod wire;

pub use body::{Body, BodyError, CollectError, Source};
pub use client::{Connect, SendError};
pub use drain::Drain;
pub use headers::Headers;
pub use interim::{InterimSink, Interims};
pub use limits::{Limits, PoolLimits};
pub use message::{Request, Response};
pub use pool::Pool;
pub use server::{Handler, Refusal, ServeError, serve};
pub use upgrade::{Observe, Upgrade};

/// What the HTTP/2 engine has in common with this one.
pub mod shared {
    pub use crate::date::now as date;
    pub use crate::head::framing::decimal;
    pub use crate::head::host;
    pub use crate::head::trailers::is_allowed as trailer_is_allowed;
    pub use crate::timer::Timer;
}
