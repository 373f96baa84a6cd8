//! The upstream side: sends one request on a kept or a new connection and reads the response.

mod departure;
mod exchange;
mod request;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::body::{Body, BodyError};
use crate::message::{Request, Response};
use crate::pool::Pool;
use crate::wire::Wire;
use departure::Departure;
use exchange::Exchange;

/// Dials an upstream (and does TLS with it).
pub trait Connect {
    /// The stream that comes of it.
    type Io: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Makes one connection; the pool sets the timeout.
    fn connect(&self) -> impl Future<Output = io::Result<Self::Io>>;
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Dialling failed.
    #[error("connecting: {0}")]
    Connect(#[source] io::Error),
    /// Dialling took too long.
    #[error("connecting took too long")]
    ConnectTimeout,
    /// The whole request was sent and no response head came in time.
    #[error("no response within the timeout")]
    HeadTimeout,
    /// The upstream closed before a whole response head.
    #[error("connection closed before a response")]
    Closed,
    /// The response isn't valid HTTP/1, or the request can't be written as such.
    #[error("message framing: {0}")]
    Framing(&'static str),
    /// Reading or writing failed; a write without progress is `TimedOut`.
    #[error("upstream connection: {0}")]
    Io(#[source] io::Error),
    /// The request's body failed: the downstream's fault, not the upstream's.
    #[error("request body: {0}")]
    RequestBody(#[source] BodyError),
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// One upstream connection. The stream is boxed so that one pool holds plain and TLS connections alike.
pub(crate) struct Upstream {
    pub(crate) wire: Wire<Box<dyn Stream>>,
    pub(crate) key: Rc<str>,
    pub(crate) era: u64,
    pub(crate) departure: Departure,
}

/// With the queue of requests that leave. A borrow lasts for one poll of the stream.
pub(crate) type SharedUpstream = Rc<RefCell<Upstream>>;

impl Upstream {
    /// Whether an idle connection is still open and the upstream has said nothing that nobody asked for.
    pub(crate) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        self.wire.poll_fill(cx).is_pending()
    }
}

/// A request that failed, and whether it may be sent again.
struct Failed {
    error: SendError,
    /// The upstream closed without a byte of response: what a kept connection does that went stale.
    silent: bool,
    /// Nothing of the request left this node.
    unsent: bool,
}

impl Pool {
    /// Sends `request` on a connection kept under `key`, or on a new one from `connect`, and waits for the response's
    /// head. The response's body reads on from the connection, which is kept again once the message has ended exactly.
    ///
    /// The headers are sent as they are, `Host` first (the caller sets it), except for `Content-Length`,
    /// `Transfer-Encoding`, `Connection`, `Keep-Alive`, `Proxy-Connection`, `Upgrade` and `Expect`, which the engine
    /// owns.
    ///
    /// A kept connection that turns out to be stale is replaced by a new one, once, if the body can be sent twice and
    /// the method is idempotent or nothing was sent yet.
    pub async fn send<C: Connect>(&self, key: &str, connect: &C, mut request: Request) -> Result<Response, SendError> {
        let mut body = std::mem::take(&mut request.body);
        if let Some(upstream) = poll_fn(|cx| Poll::Ready(self.take(key, cx))).await {
            let replay = body.replay();
            match self.attempt(upstream, true, &request, body).await {
                Ok(response) => return Ok(response),
                Err(failed) => match replay {
                    Some(again) if failed.silent && (failed.unsent || request.method.is_idempotent()) => body = again,
                    _ => return Err(failed.error),
                },
            }
        }
        let upstream = self.dial(key, connect).await?;
        self.attempt(upstream, false, &request, body).await.map_err(|failed| failed.error)
    }

    async fn dial<C: Connect>(&self, key: &str, connect: &C) -> Result<SharedUpstream, SendError> {
        let era = self.era();
        // Boxed: dialling is rare, and its room shouldn't be held by every request.
        let io = match timeout(self.0.limits.connect_timeout, Box::pin(connect.connect())).await {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => return Err(SendError::Connect(error)),
            Err(_) => return Err(SendError::ConnectTimeout),
        };
        let upstream = Upstream { wire: Wire::new(Box::new(io)), key: key.into(), era, departure: Departure::None };
        Ok(Rc::new(RefCell::new(upstream)))
    }

    /// `is_watched`: the task is woken when something comes from the upstream, which hasn't happened yet.
    async fn attempt(
        &self,
        upstream: SharedUpstream,
        is_watched: bool,
        request: &Request,
        body: Body,
    ) -> Result<Response, Failed> {
        let sending = match request::write(request, body) {
            Ok(sending) => sending,
            Err(reason) => {
                return Err(Failed { error: SendError::Framing(reason), silent: false, unsent: true });
            }
        };
        let mut exchange = Exchange::new(self.clone(), upstream, is_watched, sending, request);
        let head = poll_fn(|cx| exchange.poll_head(cx)).await?;
        Ok(exchange.response(&request.method, head))
    }
}
