//! The headers that the engine itself acts on.

/// What a header is to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Other,
    Host,
    Expect,
    Upgrade,
    Connection,
    KeepAlive,
    ProxyConnection,
    ContentLength,
    TransferEncoding,
}

impl Kind {
    /// Of a name in lower case.
    pub(super) fn of(name: &[u8]) -> Self {
        match name.len() {
            4 if name == b"host" => Self::Host,
            6 if name == b"expect" => Self::Expect,
            7 if name == b"upgrade" => Self::Upgrade,
            10 if name == b"connection" => Self::Connection,
            10 if name == b"keep-alive" => Self::KeepAlive,
            14 if name == b"content-length" => Self::ContentLength,
            16 if name == b"proxy-connection" => Self::ProxyConnection,
            17 if name == b"transfer-encoding" => Self::TransferEncoding,
            _ => Self::Other,
        }
    }

    /// Whether it says how one connection works or where one message ends: the engine makes its own (RFC 9110 §7.6.1).
    pub(crate) fn is_ours(self) -> bool {
        !matches!(self, Self::Other | Self::Host | Self::Expect)
    }
}
