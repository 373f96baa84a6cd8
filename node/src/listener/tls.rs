//! TLS towards callers: the name they ask for picks certificate and protocol.

use std::{io, sync::Arc, time::Duration};

use rustls::{ServerConfig, server::Acceptor};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::opening::Replayed;
use crate::{control_door::is_api_host, identity::Certificates};

/// HTTP/2, as ALPN names it.
const H2: &[u8] = b"h2";

/// TLS settings of the listeners.
#[derive(Clone)]
pub struct Tls {
    services: Arc<ServerConfig>,
    api: Arc<ServerConfig>,
    domain: Arc<str>,
    handshake_timeout: Duration,
}

/// A connection, and what is spoken on it.
pub struct Accepted {
    /// The connection; boxed, so that futures that hand it on don't each hold room for it.
    pub stream: Box<TlsStream<Replayed<TcpStream>>>,
    /// Whether it is for the control API, over HTTP/2.
    pub is_api: bool,
    /// Whether the caller chose HTTP/2.
    pub is_http2: bool,
}

impl Tls {
    /// Certificates come from `certificates`.
    pub fn new(certificates: Arc<Certificates>, domain: &str, handshake_timeout: Duration) -> Self {
        let config = |alpn: &[&[u8]]| {
            let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(certificates.clone());
            config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
            config.send_tls13_tickets = 1; // one resumption is what a client makes of a connection
            Arc::new(config)
        };
        Self { services: config(&[H2, b"http/1.1"]), api: config(&[H2]), domain: domain.into(), handshake_timeout }
    }

    /// Shakes hands, within the time for it.
    ///
    /// # Errors
    /// If the caller doesn't speak TLS, asks for a name that isn't here, or is slow.
    pub async fn accept(&self, stream: Replayed<TcpStream>) -> io::Result<Accepted> {
        let handshake = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let is_api = start
                .client_hello()
                .server_name()
                .is_some_and(|name| is_api_host(&name.to_ascii_lowercase(), &self.domain));
            let config = if is_api { &self.api } else { &self.services };
            let stream = start.into_stream(config.clone()).await?;
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(H2);
            Ok(Accepted { stream: Box::new(stream), is_api, is_http2 })
        };
        let timeout = || io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long");
        tokio::time::timeout(self.handshake_timeout, handshake).await.map_err(|_| timeout())?
    }
}
