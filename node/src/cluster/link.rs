//! The way to other nodes: HTTP/2 over TLS, two connections to each, so that what is large holds up nothing that is urgent.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex as StdMutex, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::{body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use octelium_consensus::transport::{Link, LinkError, Method, Parts};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    sync::{Mutex, watch},
    time::Instant,
};
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use super::{
    authority::{Identity, server_name},
    start::Start,
    tls,
};

/// A connection is made within this time.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// After so long it is no restart any more whose predecessor is still believed to be there.
const REFUSED_MAX: Duration = Duration::from_secs(8);
/// An answer is no longer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// A node that answers no PING for so long is gone.
const ALIVE_EVERY: Duration = Duration::from_secs(2);

type Sending = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;
type Sender = http2::SendRequest<Sending>;

/// See the module. Before it is [opened](TlsLink::open) nobody can be reached.
#[derive(Clone)]
pub struct TlsLink {
    inner: Arc<OnceLock<Inner>>,
    start: Start,
    /// Since when others say that they hear another process with this node's id, and nobody listens to this one.
    refused: Arc<StdMutex<Option<Instant>>>,
    is_doubled: watch::Sender<bool>,
}

struct Inner {
    /// The cluster and this node, as requests name them.
    cluster: Uuid,
    node: u64,
    config: ArcSwap<ClientConfig>,
    peers: StdMutex<HashMap<(u64, String), Arc<Peer>>>,
}

#[derive(Default)]
struct Peer {
    urgent: Mutex<Option<Sender>>,
    large: Mutex<Option<Sender>>,
}

impl TlsLink {
    /// A link of one start of the node, which reaches nobody yet.
    pub fn new(start: Start) -> Self {
        Self { inner: Arc::default(), start, refused: Arc::default(), is_doubled: watch::Sender::new(false) }
    }

    /// Resolves if others hear another process with this node's id, for longer than a restart could explain.
    pub async fn doubled(&self) {
        // The sender lives as long as this link.
        self.is_doubled.subscribe().wait_for(|is_doubled| *is_doubled).await.ok();
    }

    /// From now on connections are made with this certificate; those that there are go on.
    ///
    /// # Errors
    /// If the identity can't be used.
    pub fn open(&self, identity: &Identity) -> Result<()> {
        let config = tls::client(identity)?;
        let inner = self.inner.get_or_init(|| Inner {
            cluster: identity.cluster,
            node: identity.node,
            config: ArcSwap::new(config.clone()),
            peers: StdMutex::default(),
        });
        inner.config.store(config);
        Ok(())
    }
}

/// Notes whether somebody listened; returns whether for too long nobody did.
fn is_doubled(refused: &StdMutex<Option<Instant>>, was_refused: bool) -> bool {
    let mut since = refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match was_refused {
        false => *since = None,
        true => return since.get_or_insert_with(Instant::now).elapsed() >= REFUSED_MAX,
    }
    false
}

impl Inner {
    fn peer(&self, node: u64, address: &str) -> Arc<Peer> {
        let mut peers = self.peers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A node that moved is found at its new address alone.
        peers.retain(|(id, at), _| *id != node || at == address);
        peers.entry((node, address.to_owned())).or_default().clone()
    }

    async fn sender(&self, peer: &Peer, node: u64, address: &str, method: Method) -> Result<Sender> {
        let slot = match method {
            Method::Append | Method::Snapshot => &peer.large,
            _ => &peer.urgent,
        };
        let mut slot = slot.lock().await;
        if let Some(sender) = slot.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let config = self.config.load_full();
        let sender = tokio::time::timeout(CONNECT_WITHIN, connect(config, address, server_name(self.cluster, node)));
        let sender = sender.await.context("it takes too long to connect")??;
        *slot = Some(sender.clone());
        Ok(sender)
    }
}

/// Connects to the node that proves this name.
pub(super) async fn connect<B>(
    config: Arc<ClientConfig>,
    address: &str,
    name: ServerName<'static>,
) -> Result<http2::SendRequest<B>>
where
    B: http_body::Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(address).await.context("connecting")?;
    stream.set_nodelay(true).context("connecting")?;
    let stream = TlsConnector::from(config).connect(name, stream).await.context("shaking hands")?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(ALIVE_EVERY)
        .keep_alive_timeout(2 * ALIVE_EVERY)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .handshake(TokioIo::new(stream))
        .await
        .context("beginning HTTP/2")?;
    #[allow(clippy::disallowed_methods, reason = "ends with the connection, whose sender its caller holds")]
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a node ended");
        }
    });
    Ok(sender)
}

impl Link for TlsLink {
    fn call(
        &self,
        node: u64,
        address: &str,
        method: Method,
        request: Parts,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
        let (inner, address) = (self.inner.clone(), address.to_owned());
        let (start, refused, doubled) = (self.start, self.refused.clone(), self.is_doubled.clone());
        async move {
            let unreachable = |reason: String| LinkError::Unreachable { node, address: address.clone(), reason };
            let deadline = tokio::time::Instant::now() + within;
            let Some(inner) = inner.get() else {
                return Err(unreachable("this node has no certificate yet".to_owned()));
            };
            let peer = inner.peer(node, &address);
            let connecting = tokio::time::timeout_at(deadline, inner.sender(&peer, node, &address, method));
            let mut sender = connecting
                .await
                .map_err(|_| unreachable("it takes too long to connect".to_owned()))?
                .map_err(|error| unreachable(format!("{error:#}")))?;
            tokio::time::timeout_at(deadline, sender.ready())
                .await
                .map_err(|_| unreachable("its connection is busy".to_owned()))?
                .map_err(|error| unreachable(error.to_string()))?;
            let parts = request.map(|part| Ok(Frame::data(part)));
            let request = Request::post(format!("https://node/{}", method.name()))
                .header(super::server::NODE, format!("{:016x}", inner.node))
                .header(super::server::START, start.to_string())
                .body(StreamBody::new(parts.boxed()))
                .map_err(|error| unreachable(error.to_string()))?;
            let no_answer = |reason: String| LinkError::NoAnswer { node, address: address.clone(), reason };
            match tokio::time::timeout_at(deadline, exchange(&mut sender, request)).await {
                Ok(Ok(answer)) => {
                    is_doubled(&refused, false);
                    Ok(answer)
                }
                Ok(Err(error)) if error.is::<Doubled>() => {
                    if is_doubled(&refused, true) {
                        doubled.send_replace(true);
                    }
                    Err(unreachable(error.to_string()))
                }
                Ok(Err(error)) => Err(no_answer(format!("{error:#}"))),
                Err(_) => Err(no_answer(format!("nothing came within {within:?}"))),
            }
        }
        .boxed()
    }
}

/// A node hears another process with this node's id.
#[derive(Debug, thiserror::Error)]
#[error("it hears another process with this node's id")]
struct Doubled;

/// One request and its answer.
pub(super) async fn exchange<B>(sender: &mut http2::SendRequest<B>, request: Request<B>) -> Result<Bytes>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let response = sender.send_request(request).await.context("sending a request")?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("reading the answer: {error}"))?.to_bytes();
    if status == StatusCode::CONFLICT {
        return Err(Doubled.into());
    }
    if status != StatusCode::OK {
        let text: String = String::from_utf8_lossy(&body).chars().take(300).collect();
        bail!("{text}");
    }
    Ok(body)
}
