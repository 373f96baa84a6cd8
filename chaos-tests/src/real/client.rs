//! Callers: plain HTTP/1.1 with kept connections, and the control API.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use hyper_util::rt::TokioIo;
use octelium_api::{
    auth::AuthenticateWithAuthenticationTokenRequest,
    clients::octelium::{
        api::main::{
            auth::v1::main_service_client::MainServiceClient as AuthClient,
            core::v1::main_service_client::MainServiceClient as CoreClient,
        },
        control::v1::control_service_client::ControlServiceClient,
    },
    control::{ApplyRequest, Change, change},
    manifest,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use super::nodes::{DOMAIN, HTTPS};

/// An answer is no larger.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a node answered.
pub struct Answer {
    pub status: u16,
    /// `X-Octelium-Error`, if there is one.
    pub code: Option<String>,
    pub body: String,
    closes: bool,
}

/// A caller with one connection, opened anew when that was closed.
pub struct Caller {
    address: SocketAddr,
    request: String,
    within: Duration,
    stream: Option<TcpStream>,
}

impl Caller {
    /// Asks for the root of a host, with a token if there is one.
    pub fn new(address: SocketAddr, host: &str, token: Option<&str>, within: Duration) -> Self {
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{token}\r\n");
        Self { address, request, within, stream: None }
    }

    /// Asks once.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(&mut self) -> Result<Answer> {
        let asked = timeout(self.within, self.ask_in_time()).await;
        let answer = asked.unwrap_or_else(|_| Err(anyhow!("no answer within {:?}", self.within)));
        match &answer {
            Ok(answer) if !answer.closes => {}
            _ => self.stream = None,
        }
        answer
    }

    async fn ask_in_time(&mut self) -> Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await.context("connecting")?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(self.request.as_bytes()).await.context("sending")?;
        let answer = read(&mut stream).await?;
        self.stream = Some(stream);
        Ok(answer)
    }
}

/// One request over a connection of its own.
///
/// # Errors
/// Why there is no answer.
pub async fn get_once(address: SocketAddr, host: &str, path: &str, within: Duration) -> Result<Answer> {
    let mut caller = Caller::new(address, host, None, within);
    caller.request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    caller.ask().await
}

async fn read(stream: &mut TcpStream) -> Result<Answer> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        more(stream, &mut bytes).await?;
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim().to_owned())
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    let length: usize = header("content-length").map_or(Ok(0), |length| length.parse())?;
    while bytes.len() < head_end + length {
        more(stream, &mut bytes).await?;
    }
    let closes = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let body = String::from_utf8_lossy(&bytes[head_end..]).into_owned();
    Ok(Answer { status, code: header("x-octelium-error"), body, closes })
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<()> {
    if bytes.len() > ANSWER_BYTES_MAX {
        bail!("the answer has no end");
    }
    match stream.read_buf(bytes).await.context("reading")? {
        0 => bail!("the connection was closed before the answer's end"),
        _ => Ok(()),
    }
}

/// Shows a token with each call.
#[derive(Clone)]
pub struct Shows(Option<MetadataValue<Ascii>>);

impl Interceptor for Shows {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("x-octelium-auth", token.clone());
        }
        Ok(request)
    }
}

type Authenticated = InterceptedService<Channel, Shows>;

/// A caller of one node's control API.
#[derive(Clone)]
pub struct Api {
    channel: Channel,
    shows: Shows,
}

impl Api {
    /// Nobody yet.
    ///
    /// # Errors
    /// If the certificate can't be read.
    pub fn anonymous(address: Ipv4Addr, ca: &Path, within: Duration) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca)? {
            roots.add(certificate?)?;
        }
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let host = format!("octelium-api.{DOMAIN}");
        let name = ServerName::try_from(host.clone())?;
        let endpoint = Endpoint::from_shared(format!("https://{host}"))?.timeout(within).connect_timeout(within);
        let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
            let (connector, name) = (connector.clone(), name.clone());
            async move {
                let stream = TcpStream::connect((address, HTTPS)).await?;
                stream.set_nodelay(true)?;
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        }));
        Ok(Self { channel, shows: Shows(None) })
    }

    /// As whom a token stands for; the same token does at every node.
    ///
    /// # Errors
    /// If it can't be shown.
    pub fn with(&self, access_token: &str) -> Result<Self> {
        Ok(Self { channel: self.channel.clone(), shows: Shows(Some(access_token.parse()?)) })
    }

    /// An access token of the User of an authentication token.
    ///
    /// # Errors
    /// If the node doesn't let it in.
    pub async fn log_in(&self, token: &str) -> Result<String> {
        let request = AuthenticateWithAuthenticationTokenRequest {
            authentication_token: token.to_owned(),
            ..AuthenticateWithAuthenticationTokenRequest::default()
        };
        let session = AuthClient::new(self.channel.clone()).authenticate_with_authentication_token(request).await?;
        Ok(session.into_inner().access_token)
    }

    pub fn core(&self) -> CoreClient<Authenticated> {
        CoreClient::with_interceptor(self.channel.clone(), self.shows.clone())
    }

    pub fn control(&self) -> ControlServiceClient<Authenticated> {
        ControlServiceClient::with_interceptor(self.channel.clone(), self.shows.clone())
    }

    /// Applies documents.
    ///
    /// # Errors
    /// What is wrong with the text, or the node's refusal.
    pub async fn apply(&self, text: &str) -> Result<u64> {
        let documents = manifest::parse("chaos.yaml", text, &manifest::Limits::default());
        let documents = documents
            .map_err(|errors| anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
        let changes = documents.into_iter().map(|document| Change {
            kind: document.object.kind().name().to_owned(),
            change: Some(change::Change::Put(document.object.encode())),
            ..Change::default()
        });
        let request = ApplyRequest { changes: changes.collect(), ..ApplyRequest::default() };
        Ok(self.control().apply(request).await?.into_inner().index)
    }
}
