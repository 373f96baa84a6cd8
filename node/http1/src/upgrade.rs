//! What a connection becomes after a 101: bytes pass both ways as they come, until both sides have closed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::client::Stream;
use crate::turn::Turn;
use crate::wire::Wire;

/// The upstream's side of an upgraded connection.
pub struct Upgrade {
    pub(crate) wire: Wire<Box<dyn Stream>>,
    observer: Option<Box<dyn Observe>>,
}

/// Counts what passes through an upgraded connection; dropped when it ends.
pub trait Observe {
    /// So many bytes went each way since the last call.
    fn moved(&mut self, to_client: u64, to_upstream: u64);

    /// Both sides closed in order.
    fn closed(&mut self);

    /// Whether the connection is to end now; if not, the task is woken when that is to be asked again.
    fn is_withdrawn(&mut self, _cx: &mut Context<'_>) -> bool {
        false
    }
}

/// Bounds for an upgraded connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Without a byte in either direction.
    pub(crate) idle_timeout: Duration,
    /// The same once one side has closed.
    pub(crate) half_closed_timeout: Duration,
    /// A write without progress while nothing moves the other way either.
    pub(crate) write_timeout: Duration,
}

impl Upgrade {
    pub(crate) fn new(wire: Wire<Box<dyn Stream>>) -> Self {
        Self { wire, observer: None }
    }

    /// Lets `observer` count.
    pub fn observe(&mut self, observer: Box<dyn Observe>) {
        self.observer = Some(observer);
    }
}

/// An upgraded connection at work.
pub(crate) struct Tunnel {
    upgrade: Upgrade,
    bounds: Bounds,
    down: Way,
    up: Way,
}

impl Tunnel {
    /// Between `client`, which is given again to each poll, and the upstream.
    pub(crate) fn new<IO>(client: &mut Wire<IO>, mut upgrade: Upgrade, bounds: Bounds) -> Self {
        client.reading.clear();
        client.writing.clear();
        upgrade.wire.reading.clear();
        Self { upgrade, bounds, down: Way::default(), up: Way::default() }
    }

    /// Passes bytes between the two until both have closed, one fails, or nothing has moved for too long.
    pub(crate) fn poll<IO>(&mut self, client: &mut Wire<IO>, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { upgrade: Upgrade { wire: upstream, observer }, bounds, down, up } = self;
        if observer.as_mut().is_some_and(|observer| observer.is_withdrawn(cx)) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let to_upstream = up.poll(client, upstream, cx)?;
        let to_client = down.poll(upstream, client, cx)?;
        if to_upstream + to_client > 0 {
            client.reading.clear();
            client.writing.clear();
            upstream.reading.clear();
            if let Some(observer) = observer {
                observer.moved(to_client, to_upstream);
            }
        }
        if up.is_closed && down.is_closed {
            if let Some(observer) = observer {
                observer.closed();
            }
            return Poll::Ready(Ok(()));
        }
        let mut is_late = client.reading.poll_after(bounds.idle_timeout, cx).is_ready();
        if up.has_ended || down.has_ended {
            is_late |= upstream.reading.poll_after(bounds.half_closed_timeout, cx).is_ready();
        }
        if up.is_stalled || down.is_stalled {
            is_late |= client.writing.poll_after(bounds.write_timeout, cx).is_ready();
        } else {
            client.writing.clear();
        }
        if is_late { Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut))) } else { Poll::Pending }
    }
}

impl std::fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upgrade").finish_non_exhaustive()
    }
}

/// One direction.
#[derive(Default)]
struct Way {
    /// Its source has closed.
    has_ended: bool,
    /// That was passed on.
    is_closed: bool,
    /// Bytes wait for the other side to take them.
    is_stalled: bool,
    /// The same within TLS.
    is_unflushed: bool,
    turn: Turn,
}

impl Way {
    /// Moves what there is; how much. Errors end both directions.
    fn poll<A, B>(&mut self, from: &mut Wire<A>, to: &mut Wire<B>, cx: &mut Context<'_>) -> io::Result<u64>
    where
        A: AsyncRead + AsyncWrite + Unpin,
        B: AsyncRead + AsyncWrite + Unpin,
    {
        let mut moved = 0;
        while !self.is_closed && self.turn.poll(cx).is_ready() {
            match self.step(from, to, cx) {
                Poll::Ready(bytes) => {
                    let bytes = bytes?;
                    self.turn.moved(usize::try_from(bytes).unwrap_or(usize::MAX));
                    moved += bytes;
                }
                Poll::Pending => break,
            }
        }
        self.is_stalled = !from.buffer.is_empty() || self.is_unflushed;
        Ok(moved)
    }

    fn step<A, B>(&mut self, from: &mut Wire<A>, to: &mut Wire<B>, cx: &mut Context<'_>) -> Poll<io::Result<u64>>
    where
        A: AsyncRead + AsyncWrite + Unpin,
        B: AsyncRead + AsyncWrite + Unpin,
    {
        if !from.buffer.is_empty() {
            let bytes = ready!(Pin::new(&mut to.io).poll_write(cx, &from.buffer))?;
            if bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            from.buffer.advance(bytes);
            if from.buffer.is_empty() {
                // A quiet connection holds no buffer.
                from.buffer = bytes::BytesMut::new();
            }
            return Poll::Ready(Ok(bytes as u64));
        }
        self.is_unflushed = true;
        ready!(Pin::new(&mut to.io).poll_flush(cx))?;
        self.is_unflushed = false;
        if self.has_ended {
            ready!(Pin::new(&mut to.io).poll_shutdown(cx))?;
            self.is_closed = true;
            return Poll::Ready(Ok(0));
        }
        let io = &mut to.io;
        let mut wrote = Ok(0);
        let read = ready!(from.poll_fill_via(cx, |bytes, cx| match Pin::new(io).poll_write(cx, bytes) {
            Poll::Ready(Ok(written)) => {
                wrote = Ok(written as u64);
                written
            }
            Poll::Ready(Err(error)) => {
                wrote = Err(error);
                bytes.len()
            }
            Poll::Pending => 0,
        }))?;
        self.has_ended = read == 0;
        Poll::Ready(wrote)
    }
}
