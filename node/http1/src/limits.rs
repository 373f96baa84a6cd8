//! What a peer may send and how long it may take. Every limit has a name; the defaults are the node's (D11).

use std::time::Duration;

const KIB: usize = 1024;

/// Bounds for one downstream connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line without its CRLF; more is answered with 414.
    pub request_line_bytes_max: usize,
    /// Bytes of the whole head, request line and final CRLF included; more is answered with 431.
    pub head_bytes_max: usize,
    /// Header lines of a head (at most 256 are ever accepted); more is answered with 431.
    pub headers_max: usize,
    /// Bytes of extensions on one chunk-size line.
    pub chunk_extension_bytes_max: usize,
    /// Trailer lines after a chunked body.
    pub trailers_max: usize,
    /// Bytes of all trailer lines of one body.
    pub trailer_bytes_max: usize,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// How long a connection may wait for the first byte of the next request.
    pub idle_timeout: Duration,
    /// Waiting time between two reads of a request body.
    pub body_idle_timeout: Duration,
    /// How long a write may make no progress.
    pub write_timeout: Duration,
    /// How long an upgraded connection (WebSocket) may be silent in both directions.
    pub upgraded_idle_timeout: Duration,
    /// Requests answered on one connection before it is closed; `None` for no bound.
    pub requests_per_connection_max: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line_bytes_max: 8 * KIB,
            head_bytes_max: 32 * KIB,
            headers_max: 100,
            chunk_extension_bytes_max: 256,
            trailers_max: 32,
            trailer_bytes_max: 8 * KIB,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            upgraded_idle_timeout: Duration::from_secs(3600),
            requests_per_connection_max: None,
        }
    }
}

/// Bounds for upstream connections and for what upstreams may answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolLimits {
    /// Idle connections kept for one key.
    pub idle_per_key_max: usize,
    /// Idle connections kept in all; the oldest goes first.
    pub idle_max: usize,
    /// How long an idle connection may be taken again.
    pub idle_timeout: Duration,
    /// Dialling, TLS included.
    pub connect_timeout: Duration,
    /// From the end of the request to the end of the response's head.
    pub response_head_timeout: Duration,
    /// Waiting time between two reads of a response body.
    pub body_idle_timeout: Duration,
    /// The same for an event stream (`text/event-stream`), which may be silent for long.
    pub event_stream_idle_timeout: Duration,
    /// How long a write may make no progress.
    pub write_timeout: Duration,
    /// Bytes of a response head.
    pub head_bytes_max: usize,
    /// Header lines of a response head (at most 256 are ever accepted).
    pub headers_max: usize,
    /// Interim (1xx) responses skipped before the final one.
    pub interim_responses_max: usize,
    /// Bytes of extensions on one chunk-size line.
    pub chunk_extension_bytes_max: usize,
    /// Trailer lines after a chunked body.
    pub trailers_max: usize,
    /// Bytes of all trailer lines of one body.
    pub trailer_bytes_max: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            idle_per_key_max: 256,
            idle_max: 1024,
            idle_timeout: Duration::from_secs(90),
            connect_timeout: Duration::from_secs(10),
            response_head_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(60),
            event_stream_idle_timeout: Duration::from_secs(3600),
            write_timeout: Duration::from_secs(60),
            head_bytes_max: 64 * KIB,
            headers_max: 128,
            interim_responses_max: 8,
            chunk_extension_bytes_max: 256,
            trailers_max: 32,
            trailer_bytes_max: 8 * KIB,
        }
    }
}

/// The part of the limits that a chunked body is read under.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkLimits {
    pub(crate) extension_bytes_max: usize,
    pub(crate) trailers_max: usize,
    pub(crate) trailer_bytes_max: usize,
}

impl Limits {
    pub(crate) fn chunks(&self) -> ChunkLimits {
        ChunkLimits {
            extension_bytes_max: self.chunk_extension_bytes_max,
            trailers_max: self.trailers_max,
            trailer_bytes_max: self.trailer_bytes_max,
        }
    }
}

impl PoolLimits {
    pub(crate) fn chunks(&self) -> ChunkLimits {
        ChunkLimits {
            extension_bytes_max: self.chunk_extension_bytes_max,
            trailers_max: self.trailers_max,
            trailer_bytes_max: self.trailer_bytes_max,
        }
    }
}
