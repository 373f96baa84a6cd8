//! Metrics and health over plain HTTP/1.1, beside the request path: a few connections at a time, one request on each, nothing but GET and
//! HEAD.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

use super::{Metrics, Sources};

/// Who asks for metrics is one, or a few.
const CONNECTIONS_MAX: usize = 32;
/// For a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection lasts no longer: those who only hold places are soon gone.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The answer as long as there is nothing to tell.
const STARTING: &str = "starting: this node waits for its cluster, or catches up\n";
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// The server, until it is dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    metrics: Arc<OnceLock<Metrics>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Listens. Until [`Self::tell`] is called, the node is alive and not ready.
    ///
    /// # Errors
    /// If the address can't be had.
    pub async fn start(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let metrics = Arc::new(OnceLock::new());
        #[allow(clippy::disallowed_methods, reason = "ended when this is dropped")]
        let task = tokio::spawn(accept(listener, metrics.clone()));
        Ok(Self { address, metrics, task })
    }

    /// From now on this is told.
    pub fn tell(&self, sources: Sources) {
        self.metrics.get_or_init(|| Metrics::new(sources));
    }
}

async fn accept(listener: TcpListener, metrics: Arc<OnceLock<Metrics>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let metrics = metrics.clone();
                connections.spawn(async move {
                    let service =
                        service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(metrics.get(), &request))));
                    let serving = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_TIMEOUT)
                        .keep_alive(false)
                        .max_buf_size(16 << 10)
                        .serve_connection(TokioIo::new(stream), service);
                    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIMEOUT, serving).await {
                        tracing::debug!(%error, "a connection for metrics ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection for metrics can't be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

fn answer(metrics: Option<&Metrics>, request: &Request<Incoming>) -> Response<Full<bytes::Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match (request.uri().path(), metrics) {
        ("/livez", _) => text(StatusCode::OK, "ok\n".to_owned()),
        ("/metrics" | "/readyz", None) => text(StatusCode::SERVICE_UNAVAILABLE, STARTING.to_owned()),
        ("/metrics", Some(metrics)) => match metrics.text() {
            Ok(metrics) => {
                let mut response = text(StatusCode::OK, metrics);
                response.headers_mut().insert(header::CONTENT_TYPE, OPEN_METRICS);
                response
            }
            Err(error) => {
                tracing::error!(%error, "metrics can't be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be written\n".to_owned())
            }
        },
        ("/readyz", Some(metrics)) => match metrics.sources.unready() {
            None => text(StatusCode::OK, "ok\n".to_owned()),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz\n".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<bytes::Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
