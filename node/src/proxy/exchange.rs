//! One request on its way through the pipeline, and what became known about it.

use std::{rc::Rc, sync::Arc, time::SystemTime};

use http::{HeaderMap, Method, Version};
use octelium_actors::{
    router::{EffectiveConfig, Route},
    sessions::SessionEntry,
};
use octelium_http1::Body;
use octelium_policy::Value;

use super::{decision::Verdict, respond::Rejection};

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
    /// When its head was read.
    pub started: SystemTime,
    /// Who sent it.
    pub peer: Rc<Peer>,
    /// Its method.
    pub method: Method,
    /// Host, lower case, without port.
    pub host: String,
    /// Decoded, canonical.
    pub path: String,
    /// Escaped path and query as they go to the upstream (before rewriting).
    pub target: String,
    /// Of the HTTP message.
    pub version: Version,
    /// As received, until `forward` edits them.
    pub headers: HeaderMap,
    /// The declared length of the body; 0 if unknown.
    pub request_bytes: u64,
    /// Streamed, or whole once buffered.
    pub body: Body,
    /// The whole body, if a rule reads it.
    pub buffered: Option<bytes::Bytes>,
    /// The body as a JSON object, if a rule reads it.
    pub body_map: Option<Value>,
    /// The Service.
    pub route: Option<Arc<Route>>,
    /// The caller.
    pub session: Option<Arc<SessionEntry>>,
    /// The decision, allowed or not.
    pub verdict: Option<Verdict>,
    /// The chosen configuration.
    pub config: Option<Arc<EffectiveConfig>>,
    /// Why it was refused, if it was.
    pub rejection: Option<Rejection>,
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
    /// Escaped path without query.
    pub fn escaped_path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The query, without `?`.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}
