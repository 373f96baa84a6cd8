//! The door for other nodes. A stranger gets as far as a TLS handshake, and may ask to join.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream, Full, Limited};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use octelium_consensus::{Error, Replica, transport::Method};
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use super::{
    authority::{Identity, is_of_node},
    join::{Joins, REQUEST_BYTES_MAX},
    start::{Start, Starts},
    tls,
};

/// Names the node that sends a request; its certificate proves it.
pub(super) const NODE: HeaderName = HeaderName::from_static("octelium-node");
/// Says which start of it; see `start.rs`.
pub(super) const START: HeaderName = HeaderName::from_static("octelium-start");
/// Connections at once; a node has two to each other.
const CONNECTIONS_MAX: usize = 256;
/// Requests to join at once.
const JOINS_MAX: usize = 8;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// So long a stranger may stay.
const STRANGER_WITHIN: Duration = Duration::from_secs(30);
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// An open door; dropping it closes it.
pub struct Server {
    /// Where it is, its port filled in.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

struct Shared {
    cluster: Uuid,
    replica: Replica,
    config: ArcSwap<ServerConfig>,
    /// Absent until this node can take others in.
    joins: OnceLock<Joins>,
    joining: Semaphore,
    starts: Starts,
}

impl Server {
    /// Opens the door at a listener.
    ///
    /// # Errors
    /// If the identity can't be used.
    pub fn start(listener: std::net::TcpListener, identity: &Identity, replica: Replica) -> Result<Self> {
        listener.set_nonblocking(true).context("listening for nodes")?;
        let listener = TcpListener::from_std(listener).context("listening for nodes")?;
        let address = listener.local_addr().context("listening for nodes")?;
        let shared = Arc::new(Shared {
            cluster: identity.cluster,
            replica,
            config: ArcSwap::new(tls::server(identity)?),
            joins: OnceLock::new(),
            starts: Starts::default(),
            joining: Semaphore::new(JOINS_MAX),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, _accepting: accepting })
    }

    /// From now on new nodes are taken in.
    pub fn take_in(&self, joins: Joins) {
        self.shared.joins.set(joins).ok(); // once is enough
    }

    /// From now on this certificate is shown.
    ///
    /// # Errors
    /// If the identity can't be used.
    pub fn renew(&self, identity: &Identity) -> Result<()> {
        self.shared.config.store(tls::server(identity)?);
        Ok(())
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    if let Err(error) = serve(stream, &shared).await {
                        tracing::debug!(%from, error = %format!("{error:#}"), "a connection of a node ended");
                    }
                    drop(place);
                });
            }
            // Out of files, most likely: others must close first.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: &Arc<Shared>) -> Result<()> {
    stream.set_nodelay(true)?;
    let acceptor = TlsAcceptor::from(shared.config.load_full());
    let stream = timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await.context("the handshake takes too long")??;
    // Verified: the authority signed it.
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
    let certificate: Arc<Option<CertificateDer<'static>>> = Arc::new(certificate);
    let is_stranger = certificate.is_none();
    let service = service_fn(|request| {
        let (shared, certificate) = (shared.clone(), certificate.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(&shared, certificate.as_ref().as_ref(), request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(ALIVE_EVERY)
        .keep_alive_timeout(2 * ALIVE_EVERY)
        .max_concurrent_streams(if is_stranger { 1 } else { 512 })
        .max_header_list_size(8 << 10)
        .initial_stream_window_size(if is_stranger { 65_535 } else { 1 << 20 })
        .initial_connection_window_size(if is_stranger { 65_535 } else { 4 << 20 })
        .serve_connection(TokioIo::new(stream), service);
    match is_stranger {
        true => timeout(STRANGER_WITHIN, connection).await.context("a stranger stays too long")??,
        false => connection.await?,
    }
    Ok(())
}

type Answer = Response<Full<Bytes>>;

async fn answer(shared: &Shared, certificate: Option<&CertificateDer<'static>>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path();
    if path == "/join" {
        return join(shared, request).await;
    }
    let Some(certificate) = certificate else {
        return refuse(StatusCode::FORBIDDEN, "only nodes of this cluster may ask that: show a certificate");
    };
    let method = Method::ALL.into_iter().find(|method| path.strip_prefix('/') == Some(method.name()));
    let Some(method) = method else { return refuse(StatusCode::NOT_FOUND, "this node doesn't know that request") };
    let node = request.headers().get(NODE).and_then(|node| u64::from_str_radix(node.to_str().ok()?, 16).ok());
    let Some(node) = node.filter(|node| is_of_node(certificate, shared.cluster, *node)) else {
        return refuse(StatusCode::FORBIDDEN, "the certificate is not that of the node which the request names");
    };
    let start = request.headers().get(START).and_then(|start| start.to_str().ok()?.parse::<Start>().ok());
    let Some(start) = start else {
        return refuse(StatusCode::BAD_REQUEST, "the request doesn't say of which start it is");
    };
    if !shared.starts.may_speak(node, start, std::time::Instant::now()) {
        return refuse(StatusCode::CONFLICT, "another process with this node's id is heard");
    }
    let parts = BodyStream::new(request.into_body()).filter_map(|frame| {
        std::future::ready(match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(format!("the message is cut off: {error}"))),
        })
    });
    match shared.replica.answer(node, method, parts.boxed()).await {
        Ok(answer) => Response::new(Full::new(answer)),
        Err(error @ Error::Invalid { .. }) => {
            tracing::warn!(node = %format!("{node:016x}"), method = method.name(), %error, "a node sent what makes no sense");
            refuse(StatusCode::BAD_REQUEST, &error.to_string())
        }
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

async fn join(shared: &Shared, request: Request<Incoming>) -> Answer {
    let Some(joins) = shared.joins.get() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "this node is starting: try again in a moment");
    };
    let Ok(_place) = shared.joining.try_acquire() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "other nodes are joining: try again in a moment");
    };
    let body = match Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return refuse(StatusCode::BAD_REQUEST, "the request to join is too long or cut off"),
    };
    match joins.take_in(&shared.replica, &body).await {
        Ok(answer) => Response::new(Full::new(answer.into())),
        Err(error) => {
            tracing::warn!(error = %format!("{error:#}"), "a node was not taken in");
            refuse(StatusCode::FORBIDDEN, &format!("{error:#}"))
        }
    }
}

fn refuse(status: StatusCode, text: &str) -> Answer {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response
}
