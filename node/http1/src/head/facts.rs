//! What the lines of a head say about the message and its connection, gathered in one pass over them.

use http::Version;

use crate::headers::{Headers, Kind};

/// The values of a header that may stand in a message once.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Once<'a> {
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) again: bool,
}

impl<'a> Once<'a> {
    fn set(&mut self, value: &'a [u8]) {
        self.again |= self.value.is_some();
        self.value = Some(value);
    }
}

/// The headers that the engine itself acts on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Facts<'a> {
    pub(crate) host: Once<'a>,
    pub(crate) content_length: Once<'a>,
    pub(crate) transfer_encoding: Once<'a>,
    pub(crate) expect: Once<'a>,
    pub(crate) upgrade: Once<'a>,
    /// `Connection` says so.
    close: bool,
    keep_alive: bool,
    pub(crate) names_upgrade: bool,
}

impl<'a> Facts<'a> {
    pub(crate) fn of(headers: &'a Headers) -> Self {
        let mut facts = Self::default();
        for (kind, value) in headers.kinds() {
            match kind {
                Kind::Host => facts.host.set(value),
                Kind::Expect => facts.expect.set(value),
                Kind::Upgrade => facts.upgrade.set(value),
                Kind::Connection => facts.connection(value),
                Kind::ContentLength => facts.content_length.set(value),
                Kind::TransferEncoding => facts.transfer_encoding.set(value),
                Kind::KeepAlive | Kind::ProxyConnection | Kind::Other => {}
            }
        }
        facts
    }

    fn connection(&mut self, value: &[u8]) {
        for token in value.split(|byte| *byte == b',') {
            let token = token.trim_ascii();
            self.close |= token.eq_ignore_ascii_case(b"close");
            self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            self.names_upgrade |= token.eq_ignore_ascii_case(b"upgrade");
        }
    }

    /// Whether the connection stays open after this message, as far as its sender is concerned (RFC 9112 §9.3).
    pub(crate) fn keeps_alive(&self, version: Version) -> bool {
        !self.close && (self.keep_alive || version == Version::HTTP_11)
    }
}
