//! The upstream side: requests as streams of a few connections, which are made when there are too many for those at hand.

mod connection;
mod exchange;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use h2::Reason;
use http::{Request, Response};
use octelium_http1::{Body, Connect, PoolLimits, SendError};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use connection::{Connection, Lease};
use exchange::Failed;

/// Upstream connections of one thread; clones share them. Must be used within a `LocalSet`: each connection is a task.
#[derive(Clone)]
pub struct Pool(Rc<Shared>);

struct Shared {
    limits: PoolLimits,
    upstreams: RefCell<HashMap<Rc<str>, Rc<Upstream>>>,
}

/// The connections under one key.
#[derive(Default)]
struct Upstream {
    connections: RefCell<Vec<Rc<Connection>>>,
    /// Whoever finds no room dials, one at a time: what they make may be enough for all who wait.
    dialing: Mutex<()>,
}

impl Pool {
    /// An empty pool. Of the limits, those of HTTP/1.1's framing mean nothing here.
    pub fn new(limits: PoolLimits) -> Self {
        Self(Rc::new(Shared { limits, upstreams: RefCell::default() }))
    }

    /// Sends `request` on a connection under `key`, or on a new one from `connect`, and waits for the response's head. The
    /// connection must be for HTTP/2 alone (ALPN `h2`, or prior knowledge).
    ///
    /// The `Uri` gives path, query and scheme (`http` if none). `Host` becomes `:authority`; the caller sets it. The
    /// engine owns `Content-Length` and what belongs to a connection.
    ///
    /// A request that the upstream didn't begin (REFUSED_STREAM, or a connection that had ended before) is sent once more
    /// if its body can be sent twice.
    ///
    /// # Errors
    /// Why there is no response.
    pub async fn send<C: Connect>(
        &self,
        key: &str,
        connect: &C,
        request: Request<Body>,
    ) -> Result<Response<Body>, SendError> {
        let (head, body) = exchange::head(request)?;
        let again = body.replay();
        let lease = self.lease(key, connect).await?;
        let failed = match exchange::send(lease, head.clone(), body, &self.0.limits).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        match again {
            Some(body) if failed.is_untouched => {
                let lease = self.lease(key, connect).await?;
                exchange::send(lease, head, body, &self.0.limits).await.map_err(|Failed { error, .. }| error)
            }
            _ => Err(failed.error),
        }
    }

    /// Closes all connections as soon as their streams have ended.
    pub fn clear(&self) {
        self.0.upstreams.borrow_mut().clear();
    }

    /// Number of connections.
    pub fn connections(&self) -> usize {
        self.0.upstreams.borrow().values().map(|upstream| upstream.connections.borrow().len()).sum()
    }

    /// Closes connections that were without a stream for too long. A thread calls it from a timer.
    pub fn sweep(&self) {
        let now = Instant::now();
        let idle_timeout = self.0.limits.idle_timeout;
        self.0.upstreams.borrow_mut().retain(|_, upstream| {
            let mut connections = upstream.connections.borrow_mut();
            connections.retain(|connection| connection.is_open() && !connection.is_idle(now, idle_timeout));
            // Somebody may be dialing: what comes of it must be found here.
            !connections.is_empty() || Rc::strong_count(upstream) > 1
        });
    }

    /// A place on a connection.
    async fn lease<C: Connect>(&self, key: &str, connect: &C) -> Result<Lease, SendError> {
        let upstream = {
            let mut upstreams = self.0.upstreams.borrow_mut();
            match upstreams.get(key) {
                Some(upstream) => upstream.clone(),
                None => upstreams.entry(key.into()).or_default().clone(),
            }
        };
        if let Some(lease) = upstream.lease() {
            return Ok(lease);
        }
        let dialed = async {
            let _dialing = upstream.dialing.lock().await;
            if let Some(lease) = upstream.lease() {
                return Ok(lease);
            }
            let io = connect.connect().await.map_err(SendError::Connect)?;
            let connection = Rc::new(Connection::new(io, &self.0.limits).await?);
            let lease = Lease::new(connection.clone());
            self.make_room();
            upstream.connections.borrow_mut().push(connection);
            Ok(lease)
        };
        // Boxed: dialling is rare, and its room shouldn't be held by every request.
        timeout(self.0.limits.connect_timeout, Box::pin(dialed)).await.unwrap_or(Err(SendError::ConnectTimeout))
    }

    /// Before one more connection: if there are too many, those that nobody uses go.
    fn make_room(&self) {
        if self.connections() >= self.0.limits.idle_max {
            let now = Instant::now();
            for upstream in self.0.upstreams.borrow().values() {
                upstream.connections.borrow_mut().retain(|connection| !connection.is_idle(now, Duration::ZERO));
            }
        }
    }
}

impl Upstream {
    /// A place on the first connection that has one, so that the later ones may rest and be closed.
    fn lease(&self) -> Option<Lease> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.is_open());
        connections.iter().find(|connection| connection.has_room()).cloned().map(Lease::new)
    }
}

/// What `h2` says, in the words that both engines share.
fn send_error(error: h2::Error) -> SendError {
    if error.is_io()
        && let Some(kind) = error.get_io().map(std::io::Error::kind)
    {
        return SendError::Io(error.into_io().unwrap_or_else(|| kind.into()));
    }
    if error.is_library() { SendError::Framing("response breaks HTTP/2's rules") } else { SendError::Closed }
}

/// Whether the upstream says that it did nothing with the request.
fn is_untouched(error: &h2::Error) -> bool {
    error.is_remote() && error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM)
}
