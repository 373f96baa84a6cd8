//! A caller that sends exactly the bytes it is given, and reads answers as strictly as it must.

use std::{net::SocketAddr, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{cluster::DOMAIN, soon};

pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// One connection to the node.
pub struct Connection {
    io: Box<dyn Io>,
    buffer: Vec<u8>,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the order of the message.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Call {
    method: String,
    host: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// `svc` becomes `svc.<domain>`; what has the domain or a port stays.
pub fn full(host: &str) -> String {
    let is_full = host.to_ascii_lowercase().contains(DOMAIN) || host.contains(':');
    if is_full { host.to_owned() } else { format!("{host}.{DOMAIN}") }
}

pub fn get(host: &str, target: &str) -> Call {
    Call::new("GET", host, target)
}

pub fn post(host: &str, target: &str, body: impl AsRef<[u8]>) -> Call {
    Call { body: body.as_ref().to_vec(), ..Call::new("POST", host, target) }
}

impl Call {
    pub fn new(method: &str, host: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            host: full(host),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Shows an access token as `Authorization: Bearer`.
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, self.host);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() || self.method == "POST" {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        [text.as_bytes(), b"\r\n", &self.body].concat()
    }
}

/// What trusts the certificates of `ca`, for `alpn`.
pub fn tls_client(ca: &Path, alpn: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    TlsConnector::from(Arc::new(config))
}

impl Connection {
    pub async fn plain(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { io: Box::new(stream), buffer: Vec::new() }
    }

    pub async fn tls(address: SocketAddr, host: &str, ca: &Path) -> Self {
        Self::tls_as(address, &full(host), ca).await
    }

    /// To a cluster of another domain.
    pub async fn tls_as(address: SocketAddr, host: &str, ca: &Path) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let stream = tls_client(ca, b"http/1.1").connect(name, stream).await.unwrap();
        Self { io: Box::new(stream), buffer: Vec::new() }
    }

    /// Speaks TLS from now on.
    pub async fn secure(self, host: &str, ca: &Path) -> Self {
        assert!(self.buffer.is_empty(), "nothing was said before TLS");
        let name = ServerName::try_from(full(host)).unwrap();
        Self { io: Box::new(tls_client(ca, b"http/1.1").connect(name, self.io).await.unwrap()), buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    pub async fn call(&mut self, call: &Call) -> Answer {
        self.send(call.bytes()).await;
        self.answer_to(&call.method).await
    }

    pub async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    pub async fn answer_to(&mut self, method: &str) -> Answer {
        soon("an answer", self.read(method)).await
    }

    /// Whether the node closes the connection, having sent nothing more.
    pub async fn closed(&mut self) -> bool {
        // A reset says so too.
        self.buffer.is_empty() && soon("the connection's end", self.io.read_u8()).await.is_err()
    }

    /// Bytes of the answer, as they come.
    pub async fn more(&mut self) -> usize {
        self.buffer.reserve(64 << 10);
        soon("more bytes", self.io.read_buf(&mut self.buffer)).await.unwrap()
    }

    /// All bytes until the connection ends, in whatever way.
    pub async fn rest(&mut self) -> String {
        soon("the connection's end", async {
            // A reset is an end too, and so is TLS that is cut off.
            while self.io.read_buf(&mut self.buffer).await.is_ok_and(|read| read > 0) {}
        })
        .await;
        self.received()
    }

    /// What was read and belongs to no answer yet.
    pub fn received(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    async fn read(&mut self, method: &str) -> Answer {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.more().await > 0, "the connection ended within a head: {:?}", self.received());
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(':').unwrap());
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        if status == 103 {
            // A hint; the answer follows.
            return Box::pin(self.read(method)).await;
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if method == "HEAD" || status == 204 || status == 304 || status == 100 {
            return answer;
        }
        answer.body = match (answer.header("transfer-encoding"), answer.header("content-length")) {
            (Some("chunked"), None) => self.chunks().await,
            (None, Some(length)) => self.take(length.parse().unwrap()).await,
            other => panic!("an answer with the framing {other:?}"),
        };
        answer
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.more().await > 0, "the connection ended within a body");
        }
        self.buffer.drain(..length).collect()
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await;
            let size = usize::from_str_radix(&line, 16).unwrap();
            if size == 0 {
                while !self.line().await.is_empty() {}
                return body;
            }
            body.extend(self.take(size).await);
            assert_eq!(self.line().await, "");
        }
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return String::from_utf8(line[..at].to_vec()).unwrap();
            }
            assert!(self.more().await > 0, "the connection ended within a line");
        }
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other == name);
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "several headers `{name}`: {:?}", self.headers);
        first
    }

    /// The code of a refusal; empty if the upstream answered.
    pub fn code(&self) -> &str {
        self.header("x-octelium-error").unwrap_or_default()
    }

    /// By which the access log knows a refusal.
    pub fn decision(&self) -> &str {
        self.header("x-octelium-decision").unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Status and code, to be compared as one.
    pub fn short(&self) -> (u16, &str) {
        (self.status, self.code())
    }
}
