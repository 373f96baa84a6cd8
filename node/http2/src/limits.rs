//! What a client may send and how long it may take. Every limit has a name; the defaults are the node's.

use std::time::Duration;

/// Bounds for one downstream connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Streams open at once.
    pub streams_max: u32,
    /// Bytes of one stream's body that may be on their way to us.
    pub stream_window_bytes: u32,
    /// The same for all streams together.
    pub connection_window_bytes: u32,
    /// Bytes of a decoded header list, with 32 for each field (RFC 9113 §6.5.2); more is answered with 431. A block that
    /// is twice as long even before it is decoded ends the connection.
    pub header_list_bytes_max: u32,
    /// Header fields of a request; more is answered with 431.
    pub headers_max: usize,
    /// Bytes of path and query; more is answered with 414.
    pub target_bytes_max: usize,
    /// Trailer fields of a body.
    pub trailers_max: usize,
    /// Streams that a client may give up on one connection beyond those that were answered.
    pub resets_max: u64,
    /// SETTINGS and PING frames in a second, and as many frames that carry nothing (empty DATA, PRIORITY, unknown types).
    pub control_frames_per_second_max: u32,
    /// WINDOW_UPDATE frames beyond what requests and the bytes of responses explain.
    pub window_updates_max: u64,
    /// From a header block's first byte to its last; also for the connection's preface.
    pub head_timeout: Duration,
    /// How long a connection may be without a stream; with streams, how long it may be silent until it is asked whether
    /// it is alive, and how long it may take to answer that.
    pub idle_timeout: Duration,
    /// Waiting time between two parts of a request's body.
    pub body_idle_timeout: Duration,
    /// How long a response may wait for window, or the connection for room to write.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_max: 100,
            stream_window_bytes: 64 << 10,
            connection_window_bytes: 1 << 20,
            header_list_bytes_max: 16 << 10,
            headers_max: 100,
            target_bytes_max: 8 << 10,
            trailers_max: 32,
            resets_max: 1000,
            control_frames_per_second_max: 100,
            window_updates_max: 1000,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
        }
    }
}
