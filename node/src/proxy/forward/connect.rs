//! Dials upstreams: name to address, TCP, TLS.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use octelium_actors::router::{Scheme, Tls, Upstream};
use octelium_http1::Connect;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::tls;

/// TLS settings of upstreams that one worker keeps.
const TLS_CONFIGS_MAX: usize = 256;

/// Where names lead that DNS needn't be asked for, `host` or `host:port` → address.
pub type Overrides = Arc<HashMap<String, SocketAddr>>;

/// Makes connectors.
pub struct Dialer {
    overrides: Overrides,
    tls: RefCell<HashMap<Tls, TlsConnector>>,
}

/// Dials one upstream.
pub struct Connector<'a> {
    dialer: &'a Dialer,
    upstream: &'a Upstream,
}

impl Dialer {
    /// A dialer that asks DNS for what isn't in `overrides`.
    pub fn new(overrides: Overrides) -> Self {
        Self { overrides, tls: RefCell::default() }
    }

    /// A connector for `upstream`; what it needs is looked up when it dials.
    pub fn connector<'a>(&'a self, upstream: &'a Upstream) -> Connector<'a> {
        Connector { dialer: self, upstream }
    }

    fn address(&self, upstream: &Upstream) -> Option<SocketAddr> {
        if self.overrides.is_empty() {
            return None;
        }
        let with_port = self.overrides.get(&format!("{}:{}", upstream.host, upstream.port));
        with_port.or_else(|| self.overrides.get(&*upstream.host)).copied()
    }

    fn tls(&self, settings: &Arc<Tls>) -> io::Result<TlsConnector> {
        let mut known = self.tls.borrow_mut();
        if let Some(connector) = known.get(&**settings) {
            return Ok(connector.clone());
        }
        let connector = TlsConnector::from(tls::client(settings).map_err(io::Error::other)?);
        if known.len() >= TLS_CONFIGS_MAX {
            known.clear();
        }
        known.insert(Tls::clone(settings), connector.clone());
        Ok(connector)
    }
}

impl Connect for Connector<'_> {
    type Io = UpstreamIo;

    async fn connect(&self) -> io::Result<UpstreamIo> {
        let upstream = self.upstream;
        let tls = match upstream.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(self.dialer.tls(&upstream.tls)?),
        };
        let stream = match self.dialer.address(upstream) {
            Some(address) => TcpStream::connect(address).await?,
            None => TcpStream::connect((&*upstream.host, upstream.port)).await?,
        };
        stream.set_nodelay(true)?;
        let Some(tls) = tls else { return Ok(UpstreamIo::Plain(stream)) };
        let name = ServerName::try_from(upstream.host.to_string())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = tls.connect(name, stream).await?;
        if upstream.is_http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("isUpstreamHTTP2 is set and the upstream doesn't offer HTTP/2"));
        }
        Ok(UpstreamIo::Tls(Box::new(stream)))
    }
}

/// A connection to an upstream.
pub enum UpstreamIo {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for UpstreamIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
