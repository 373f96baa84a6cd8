//! The messages that pass between the engine and whoever handles them.

use http::{Method, StatusCode, Version};

use crate::body::Body;
use crate::headers::Headers;
use crate::interim::Interims;
use crate::upgrade::Upgrade;

/// A request: received, or to be sent.
#[derive(Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Of a received request: the host that it names, lower case, without port and final dot. Of others: empty, as `headers` say
    /// it.
    pub host: String,
    /// Path and query as sent, or `*`. The engine hands out printable ASCII without `#` only.
    pub target: String,
    /// Of the message as received; the engine sends HTTP/1.1.
    pub version: Version,
    /// Its headers. A received HTTP/1.1 request has exactly one `host`.
    pub headers: Headers,
    /// Its body.
    pub body: Body,
    /// Whether the client asks to go on with WebSocket (RFC 6455 §4.1) on this connection.
    pub wants_websocket: bool,
    /// Where interim responses for the client go.
    pub interims: Interims,
}

impl Request {
    /// A request for `target` without headers and body.
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        Self {
            method,
            host: String::new(),
            target: target.into(),
            version: Version::HTTP_11,
            headers: Headers::new(),
            body: Body::empty(),
            wants_websocket: false,
            interims: Interims::default(),
        }
    }
}

/// A response: received, or to be sent.
#[derive(Debug)]
pub struct Response {
    /// Its status. 101 comes with an `upgrade`, and no other 1xx is a response of its own.
    pub status: StatusCode,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: Body,
    /// The other end of what comes after a 101.
    pub upgrade: Option<Box<Upgrade>>,
}

impl Response {
    /// A response without headers and body.
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: Headers::new(), body: Body::empty(), upgrade: None }
    }
}

impl From<http::Response<Body>> for Response {
    fn from(response: http::Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: Headers::from(&parts.headers), body, upgrade: None }
    }
}
