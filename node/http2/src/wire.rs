//! A connection's stream as `h2` sees it. What is written is gathered and sent once for each turn of the connection:
//! `h2` flushes after nearly every frame.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use octelium_http1::shared::Timer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::gauge::Gauge;

/// Up to this many bytes are gathered; what is longer goes out with them at once.
const GATHERED_BYTES_MAX: usize = 32 << 10;

/// A handle; clones are the same stream.
pub(crate) struct Wire<IO>(Rc<Inner<IO>>);

struct Inner<IO> {
    gauge: Rc<Gauge>,
    state: RefCell<State<IO>>,
}

struct State<IO> {
    io: IO,
    out: BytesMut,
    /// Bytes that the stream has taken, and how many these were when the timer was last looked at.
    sent: u64,
    seen: u64,
    writing: Timer,
}

impl<IO> Clone for Wire<IO> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    pub(crate) fn new(io: IO, gauge: Rc<Gauge>) -> Self {
        let state = RefCell::new(State { io, out: BytesMut::new(), sent: 0, seen: 0, writing: Timer::default() });
        Self(Rc::new(Inner { gauge, state }))
    }

    /// Sends what was gathered. Fails with `TimedOut` if nothing could be sent for so long.
    pub(crate) fn poll_send(&self, timeout: Duration, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.state.borrow_mut();
        let sent = state.poll_send(cx);
        // `h2` writes too, between two calls of this.
        if std::mem::replace(&mut state.seen, state.sent) != state.sent {
            state.writing.clear();
        }
        match sent {
            Poll::Pending => {
                ready!(state.writing.poll_after(timeout, cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            sent => {
                state.writing.clear();
                sent
            }
        }
    }

    /// Bytes that the stream has taken so far.
    pub(crate) fn sent(&self) -> u64 {
        self.0.state.borrow().sent
    }

    /// Reads and forgets; 0 is the end.
    pub(crate) fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [0; 4096];
        let mut room = ReadBuf::new(&mut room);
        let state = &mut *self.0.state.borrow_mut();
        ready!(Pin::new(&mut state.io).poll_read(cx, &mut room))?;
        Poll::Ready(Ok(room.filled().len()))
    }
}

impl<IO: AsyncWrite + Unpin> State<IO> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent as u64;
            self.out.advance(sent);
        }
        // A waiting connection holds no buffer.
        self.out = BytesMut::new();
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Gathers, or sends what was gathered together with `bufs`.
    fn poll_write(&mut self, bufs: &[IoSlice<'_>], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.out.len() + length <= GATHERED_BYTES_MAX {
            if self.out.capacity() == 0 {
                self.out.reserve(length.max(1024));
            }
            for buf in bufs {
                self.out.extend_from_slice(buf);
            }
            return Poll::Ready(Ok(length));
        }
        loop {
            let mut all = Slices::new();
            all.push(&self.out);
            bufs.iter().for_each(|buf| all.push(buf));
            let sent = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, all.get()))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent as u64;
            let gathered = self.out.len();
            if sent > gathered {
                self.out.clear();
                return Poll::Ready(Ok(sent - gathered));
            }
            self.out.advance(sent);
        }
    }
}

/// A few slices without an allocation; `h2` writes a frame's head and its payload. What is too much is written later.
struct Slices<'a> {
    slices: [IoSlice<'a>; 8],
    count: usize,
}

impl<'a> Slices<'a> {
    fn new() -> Self {
        Self { slices: [IoSlice::new(&[]); 8], count: 0 }
    }

    fn push(&mut self, bytes: &'a [u8]) {
        if let Some(slice) = self.slices.get_mut(self.count) {
            *slice = IoSlice::new(bytes);
            self.count += 1;
        }
    }

    fn get(&self) -> &[IoSlice<'a>] {
        &self.slices[..self.count]
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Inner { gauge, state } = &*self.0;
        if gauge.flood().is_some() {
            return Poll::Pending; // the server is about to close
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut state.borrow_mut().io).poll_read(cx, buf))?;
        if gauge.incoming(&buf.filled()[before..]).is_err() {
            buf.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Inner { gauge, state } = &*self.0;
        let written = ready!(state.borrow_mut().poll_write(bufs, cx))?;
        let mut left = written;
        for buf in bufs {
            let of_this = left.min(buf.len());
            gauge.outgoing(&buf[..of_this]);
            left -= of_this;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Left to [`Wire::poll_send`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.state.borrow_mut();
        ready!(state.poll_send(cx))?;
        Pin::new(&mut state.io).poll_shutdown(cx)
    }
}
