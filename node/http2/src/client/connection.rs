//! One connection to an upstream, driven by a task of its own.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use octelium_http1::{PoolLimits, SendError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::send_error;
use crate::Limits;
use crate::gauge::Gauge;
use crate::wire::Wire;

/// Streams on one connection; the upstream may want fewer.
const STREAMS_MAX: usize = 100;
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// Room for all streams: callers of different people share a connection, and one who doesn't read must not stop the others.
const CONNECTION_WINDOW_BYTES: u32 = STREAMS_MAX as u32 * STREAM_WINDOW_BYTES;
const SEND_BUFFER_BYTES: usize = 64 << 10;

pub(super) struct Connection {
    send: RefCell<SendRequest<Bytes>>,
    gauge: Rc<Gauge>,
    has_ended: Rc<Cell<bool>>,
    /// Tells of the upstream's first frames, and of the end.
    news: Rc<Notify>,
    /// Takes no new streams: it doesn't answer.
    is_retired: Cell<bool>,
    streams: Cell<usize>,
    used: Cell<Instant>,
}

impl Connection {
    pub(super) async fn new<IO>(io: IO, limits: &PoolLimits) -> Result<Self, SendError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let gauge = Rc::new(Gauge::of_server(&Limits {
            header_list_bytes_max: u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX),
            ..Limits::default()
        }));
        let wire = Wire::new(io, gauge.clone());
        let head_bytes_max = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX);
        let (send, connection) = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(STREAMS_MAX)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(head_bytes_max)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .handshake::<_, Bytes>(wire.clone())
            .await
            .map_err(send_error)?;
        let has_ended = Rc::new(Cell::new(false));
        let news = Rc::new(Notify::new());
        let ended = Ended(has_ended.clone(), news.clone());
        // Ends by itself once nobody holds a place on the connection and the pool has let go of it.
        tokio::task::spawn_local(drive(connection, wire, gauge.clone(), ended, limits.write_timeout));
        let made = Self {
            send: RefCell::new(send),
            gauge,
            has_ended,
            news,
            is_retired: Cell::new(false),
            streams: Cell::new(0),
            used: Cell::new(Instant::now()),
        };
        made.settled().await?;
        Ok(made)
    }

    /// Waits for the upstream's settings: they say how many streams it takes, and that it speaks HTTP/2 at all.
    async fn settled(&self) -> Result<(), SendError> {
        while self.gauge.read() == 0 && !self.has_ended.get() {
            self.news.notified().await;
        }
        match (self.has_ended.get(), self.gauge.read()) {
            (false, _) => Ok(()),
            (true, 0) => Err(SendError::Closed),
            (true, _) => Err(SendError::Framing("the upstream doesn't speak HTTP/2")),
        }
    }

    /// Whether new streams may be begun, now or later.
    pub(super) fn is_open(&self) -> bool {
        // A GOAWAY shows here.
        let ready = self.send.borrow_mut().poll_ready(&mut Context::from_waker(Waker::noop()));
        !self.has_ended.get() && !self.is_retired.get() && !matches!(ready, Poll::Ready(Err(_)))
    }

    pub(super) fn has_room(&self) -> bool {
        self.streams.get() < STREAMS_MAX.min(self.send.borrow().current_max_send_streams())
    }

    pub(super) fn is_idle(&self, now: Instant, since: Duration) -> bool {
        self.streams.get() == 0 && now - self.used.get() >= since
    }
}

struct Ended(Rc<Cell<bool>>, Rc<Notify>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.set(true);
        self.1.notify_one();
    }
}

async fn drive<IO: AsyncRead + AsyncWrite + Unpin>(
    mut connection: h2::client::Connection<Wire<IO>, Bytes>,
    wire: Wire<IO>,
    gauge: Rc<Gauge>,
    ended: Ended,
    write_timeout: Duration,
) {
    let mut is_settled = false;
    poll_fn(|cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        let sent = wire.poll_send(write_timeout, cx);
        // Why it ended is told to each of its streams.
        if polled.is_ready() || gauge.flood().is_some() || matches!(sent, Poll::Ready(Err(_))) {
            return Poll::Ready(());
        }
        if !is_settled && gauge.read() > 0 {
            is_settled = true;
            ended.1.notify_one();
        }
        Poll::Pending
    })
    .await;
    drop(ended);
}

/// A place for one stream on a connection.
pub(super) struct Lease(Rc<Connection>);

impl Lease {
    pub(super) fn new(connection: Rc<Connection>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self(connection)
    }

    pub(super) fn send(&self) -> SendRequest<Bytes> {
        self.0.send.borrow().clone()
    }

    /// The upstream doesn't answer on this connection: it gets no more streams.
    pub(super) fn retire(&self) {
        self.0.is_retired.set(true);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.used.set(Instant::now());
    }
}
