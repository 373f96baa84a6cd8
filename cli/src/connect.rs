//! The channel to a cluster's API: gRPC over our own TLS.

use std::{io, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use crate::{config::Settings, output};

/// For the connection and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For one request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// For one that carries or checks a whole configuration.
pub const LONG_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const KEEPALIVE_PERIOD: Duration = Duration::from_secs(45);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(15);
/// By this name the server tells a client from a library.
const USER_AGENT: &str = concat!("octelium-cli/", env!("CARGO_PKG_VERSION"));

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers there.
    #[error("cannot connect to {address}")]
    Tcp {
        /// `host:port`
        address: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Not in time.
    #[error("cannot connect to {address} within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout {
        /// `host:port`
        address: String,
    },
    /// Somebody else answers, or somebody who can't prove who they are.
    #[error("no trusted connection to {host} at {address}")]
    Tls {
        /// The expected name.
        host: String,
        /// `host:port`
        address: String,
        /// What the handshake says.
        #[source]
        source: io::Error,
    },
    /// A server, but not of this API.
    #[error("{address} does not speak HTTP/2")]
    NotHttp2 {
        /// `host:port`
        address: String,
    },
}

impl Error {
    /// Whether a later attempt may succeed.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }
}

/// A channel that connects with its first request, and again when the connection was lost.
///
/// # Errors
/// If the trusted certificates can't be read.
pub fn channel(settings: &Settings, request_timeout: Duration) -> anyhow::Result<Channel> {
    if let Some(path) = &settings.proxy_socket {
        return socket(settings, path, request_timeout);
    }
    let mut tls = client_config(settings)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(tls));
    let (address, host) = (settings.address.clone(), settings.host());
    let name = ServerName::try_from(host.clone()).context("the domain is no host name")?;
    let endpoint = endpoint(format!("https://{host}"), request_timeout)?;
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let (connector, address, host, name) = (connector.clone(), address.clone(), host.clone(), name.clone());
        async move { connect(&connector, &address, host, name).await.map(TokioIo::new) }
    })))
}

fn endpoint(uri: String, request_timeout: Duration) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::from_shared(uri)?
        .user_agent(USER_AGENT)?
        .timeout(request_timeout)
        .http2_keep_alive_interval(KEEPALIVE_PERIOD)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT))
}

/// The same without TLS over a local process's socket. Who may open the socket is decided by the file's mode.
#[cfg(unix)]
fn socket(settings: &Settings, path: &Path, request_timeout: Duration) -> anyhow::Result<Channel> {
    let endpoint = endpoint(format!("http://{}", settings.host()), request_timeout)?;
    let path = path.to_owned();
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            let address = path.display().to_string();
            match timeout(CONNECT_TIMEOUT, tokio::net::UnixStream::connect(&path)).await {
                Ok(Ok(stream)) => Ok(TokioIo::new(stream)),
                Ok(Err(source)) => Err(Error::Tcp { address, source }),
                Err(_) => Err(Error::Timeout { address }),
            }
        }
    })))
}

#[cfg(not(unix))]
fn socket(_: &Settings, _: &Path, _: Duration) -> anyhow::Result<Channel> {
    bail!("OCTELIUM_AUTH_PROXY_SOCKET: this system has no Unix sockets")
}

async fn connect(
    connector: &TlsConnector,
    (host, port): &(String, u16),
    name: String,
    server: ServerName<'static>,
) -> Result<TlsStream<TcpStream>, Error> {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let attempt = async {
        let tcp = TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(|source| Error::Tcp { address: address.clone(), source })?;
        // Requests are small and waited for; without the option one could wait for another's acknowledgement.
        tcp.set_nodelay(true).map_err(|source| Error::Tcp { address: address.clone(), source })?;
        let stream = connector.connect(server, tcp).await.map_err(|source| Error::Tls {
            host: name,
            address: address.clone(),
            source,
        })?;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Ok(stream),
            _ => Err(Error::NotHttp2 { address: address.clone() }),
        }
    };
    timeout(CONNECT_TIMEOUT, attempt).await.unwrap_or_else(|_| Err(Error::Timeout { address: address.clone() }))
}

fn client_config(settings: &Settings) -> anyhow::Result<ClientConfig> {
    if settings.insecure {
        output::warning("OCTELIUM_INSECURE_TLS: the server's certificate is not checked; anybody could be answering");
        let verifier = Arc::new(AcceptAny(Arc::new(rustls::crypto::aws_lc_rs::default_provider())));
        return Ok(ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth());
    }
    Ok(ClientConfig::builder().with_root_certificates(roots(settings)?).with_no_client_auth())
}

/// The authorities of the CA file alone, or else those of the system.
fn roots(settings: &Settings) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &settings.ca_file else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            bail!("this system has no trusted certificates; name the cluster's by --ca-file");
        }
        return Ok(roots);
    };
    let shown = || format!("CA file {}", path.display());
    for certificate in CertificateDer::pem_file_iter(path).with_context(shown)? {
        roots.add(certificate.with_context(shown)?).with_context(shown)?;
    }
    if roots.is_empty() {
        bail!("{}: no certificate in it", shown());
    }
    Ok(roots)
}

/// Accepts every certificate, but still only of who holds its key.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
