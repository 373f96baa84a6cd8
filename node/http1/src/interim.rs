//! Interim responses (1xx) on their way to a client (RFC 9110 §15.2).

use std::rc::Rc;

use http::StatusCode;

use crate::headers::Headers;

/// Takes interim responses for one request.
pub trait InterimSink {
    /// An interim response other than 100 and 101 has come for exchange `exchange`; it may be dropped.
    fn push(&self, exchange: u64, status: StatusCode, headers: &Headers);
}

/// The way of interim responses to the client of a request; by default they go nowhere.
#[derive(Clone, Default)]
pub struct Interims(Option<(Rc<dyn InterimSink>, u64)>);

impl Interims {
    /// To `sink`, for its exchange number `exchange`.
    pub fn new(sink: Rc<dyn InterimSink>, exchange: u64) -> Self {
        Self(Some((sink, exchange)))
    }

    pub(crate) fn push(&self, status: StatusCode, headers: &Headers) {
        if let Self(Some((sink, exchange))) = self {
            sink.push(*exchange, status, headers);
        }
    }
}

impl std::fmt::Debug for Interims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Interims").field(&self.0.is_some()).finish()
    }
}
