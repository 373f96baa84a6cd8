//! Upstreams that keep what they were sent and answer as they are told.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::http::Io;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    /// Names as they were spelled.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    /// The value of the only header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "several headers `{name}`: {:?}", self.headers);
        first
    }

    /// Everything, to search in.
    pub fn text(&self) -> String {
        format!("{self:?} {}", String::from_utf8_lossy(&self.body))
    }
}

/// What an upstream does once it has read a request.
pub enum Reply {
    /// Sends this and keeps the connection.
    Bytes(Vec<u8>),
    /// Sends this and closes.
    Last(Vec<u8>),
    /// Resets the connection.
    Reset,
    /// Never answers.
    Hang,
}

/// A whole answer with a body.
pub fn answer(status: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.as_ref().len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    Reply::Bytes([text.as_bytes(), b"\r\n", body.as_ref()].concat())
}

/// A certificate authority for upstreams.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn acceptor(&self, names: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// See the module. Ends with the test's runtime.
#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// Answers everything with 200 and a small JSON document.
    pub async fn ok() -> Self {
        Self::start(|_| answer("200 OK", &[("Content-Type", "application/json")], r#"{"upstream":"ok"}"#)).await
    }

    /// Answers with what it was sent.
    pub async fn echo() -> Self {
        Self::start(|seen| answer("200 OK", &[], &seen.body)).await
    }

    pub async fn start(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(reply, None).await
    }

    /// The same behind TLS, with a certificate for `names`.
    pub async fn tls(
        authority: &Authority,
        names: &[&str],
        reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(reply, Some(authority.acceptor(names))).await
    }

    async fn serve(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream =
            Self { address: listener.local_addr().unwrap(), seen: Arc::default(), connections: Arc::default() };
        let shared = upstream.clone();
        let reply = Arc::new(reply);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, reply, tls) = (shared.clone(), reply.clone(), tls.clone());
                shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move { shared.connection(stream, tls, &*reply).await });
            }
        });
        upstream
    }

    async fn connection(
        &self,
        stream: TcpStream,
        tls: Option<TlsAcceptor>,
        reply: &(impl Fn(&Seen) -> Reply + Send + Sync),
    ) {
        stream.set_nodelay(true).unwrap();
        let Some(tls) = tls else {
            // A reset is a setting of the socket, which the boxed stream doesn't show any more.
            let socket = socket2::SockRef::from(&stream).try_clone().unwrap();
            return self.requests(Box::new(stream), reply, Some(socket)).await;
        };
        if let Ok(stream) = tls.accept(stream).await {
            self.requests(Box::new(stream), reply, None).await;
        }
    }

    async fn requests(
        &self,
        mut io: Box<dyn Io>,
        reply: &(impl Fn(&Seen) -> Reply + Send + Sync),
        socket: Option<socket2::Socket>,
    ) {
        let mut buffer = Vec::new();
        while let Some(seen) = read(&mut io, &mut buffer).await {
            self.seen.lock().push(seen.clone());
            match reply(&seen) {
                Reply::Bytes(bytes) => {
                    if io.write_all(&bytes).await.is_err() || io.flush().await.is_err() {
                        return;
                    }
                }
                Reply::Last(bytes) => {
                    // The node may have gone away already.
                    io.write_all(&bytes).await.ok();
                    io.shutdown().await.ok();
                    return;
                }
                Reply::Reset => {
                    // Both handles are closed on return.
                    socket.as_ref().unwrap().set_linger(Some(Duration::ZERO)).unwrap();
                    return;
                }
                Reply::Hang => std::future::pending().await,
            }
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The only request since the last call of this.
    pub fn only(&self) -> Seen {
        let mut seen = std::mem::take(&mut *self.seen.lock());
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }
}

async fn read(io: &mut Box<dyn Io>, buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        more(io, buffer).await?;
    };
    let head: Vec<u8> = buffer.drain(..end).collect();
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    let mut seen = Seen { method, target, headers, body: Vec::new() };
    if let Some(length) = seen.header("content-length") {
        let length: usize = length.parse().unwrap();
        while buffer.len() < length {
            more(io, buffer).await?;
        }
        seen.body = buffer.drain(..length).collect();
    } else if seen.header("transfer-encoding").is_some() {
        loop {
            let line = line(io, buffer).await?;
            let size = usize::from_str_radix(line.split(';').next()?, 16).unwrap();
            while buffer.len() < size + 2 {
                more(io, buffer).await?;
            }
            seen.body.extend(buffer.drain(..size));
            buffer.drain(..2);
            if size == 0 {
                break;
            }
        }
    }
    Some(seen)
}

async fn line(io: &mut Box<dyn Io>, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(at) = buffer.windows(2).position(|window| window == b"\r\n") {
            let line: Vec<u8> = buffer.drain(..at + 2).collect();
            return Some(String::from_utf8_lossy(&line[..at]).into_owned());
        }
        more(io, buffer).await?;
    }
}

async fn more(io: &mut Box<dyn Io>, buffer: &mut Vec<u8>) -> Option<()> {
    buffer.reserve(64 << 10);
    io.read_buf(buffer).await.ok().filter(|read| *read > 0)?;
    Some(())
}
