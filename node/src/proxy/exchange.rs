//! One request on its way through the pipeline, and what became known about it.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Method, Version};
use octelium_actors::{
    router::{EffectiveConfig, Route, plugins::Answer},
    sessions::{SessionEntry, entry::LiveToken},
};
use octelium_http1::{Body, Headers, Interims};
use octelium_policy::Value;

use super::{
    body::Reservation, cors::Page, decision::Verdict, header_rules::Made, plugins::Shown, respond::Rejection,
    trace::Trace, under_way::Watch,
};
use crate::listener::accept::Request as Place;

/// The connection that a request came over.
pub struct Peer {
    /// Address of the caller.
    pub ip: Box<str>,
    /// Whether it speaks TLS.
    pub is_tls: bool,
}

/// A request. What is `None` wasn't reached yet.
pub struct Exchange {
    /// Identifies the exchange in the access log and towards the caller.
    pub id: Id,
    /// What it is called elsewhere.
    pub trace: Trace,
    /// When its head was read.
    pub started: SystemTime,
    /// Who sent it.
    pub peer: Rc<Peer>,
    /// Its method.
    pub method: Method,
    /// Host, lower case, without port.
    pub host: String,
    /// Decoded, canonical, where that is another text than the target's path.
    pub decoded_path: Option<String>,
    /// Escaped path and query as they go to the upstream (before rewriting).
    pub target: Target,
    /// Of the HTTP message.
    pub version: Version,
    /// As received, until `forward` edits them.
    pub headers: Headers,
    /// Whether those are all; `forward` keeps them where a rule reads any.
    pub has_headers: bool,
    /// The declared length of the body; 0 if unknown.
    pub request_bytes: u64,
    /// The same; `None` if unknown.
    pub declared_bytes: Option<u64>,
    /// Streamed, or whole once buffered.
    pub body: Body,
    /// Whether the caller asks to go on with WebSocket.
    pub wants_websocket: bool,
    /// The way of interim responses to the caller.
    pub interims: Interims,
    /// The whole body, if a rule reads it.
    pub buffered: Option<bytes::Bytes>,
    /// The share of the process's memory for bodies that these take.
    pub reserved: Option<Reservation>,
    /// The body as a JSON object, if a rule reads it.
    pub body_map: Option<Value>,
    /// The page of another origin that it is made for.
    pub page: Option<Box<Page>>,
    /// The Service.
    pub route: Option<Arc<Route>>,
    /// The caller.
    pub session: Option<Arc<SessionEntry>>,
    /// The access token that said so, as last seen.
    pub token: Option<LiveToken>,
    /// The decision, allowed or not.
    pub verdict: Option<Verdict>,
    /// The chosen configuration.
    pub config: Option<Arc<EffectiveConfig>>,
    /// The headers that the configuration's expressions made.
    pub made: Made,
    /// What the caller is told of limits that it was held to.
    pub limits: Vec<Shown>,
    /// What the plugin that refused or answered it says, and when another try is worth it.
    pub own_answer: Option<(Arc<Answer>, Option<Duration>)>,
    /// Why it was refused, if it was.
    pub rejection: Option<Rejection>,
    /// Its place among the requests under way, until its record is written.
    pub place: Option<Place>,
    /// How often its worker had looked at the views when it began.
    pub looks: u64,
    /// Ends it early.
    pub watch: Option<Watch>,
}

/// A request's target, and where its path ends.
pub struct Target {
    text: String,
    path_length: usize,
}

impl Target {
    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<String> for Target {
    fn from(text: String) -> Self {
        let path_length = text.find('?').unwrap_or(text.len());
        Self { text, path_length }
    }
}

/// 128 bits, unique in the cluster: 64 random ones of the worker's life, and a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(pub u64, pub u64);

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}{:016x}", self.0, self.1)
    }
}

impl serde::Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Exchange {
    /// The decoded, canonical path.
    pub fn path(&self) -> &str {
        self.decoded_path.as_deref().unwrap_or_else(|| self.escaped_path())
    }

    /// Escaped path without query.
    pub fn escaped_path(&self) -> &str {
        &self.target.text[..self.target.path_length]
    }

    /// The query, without `?`.
    pub fn query(&self) -> Option<&str> {
        self.target.text.get(self.target.path_length + 1..)
    }
}
