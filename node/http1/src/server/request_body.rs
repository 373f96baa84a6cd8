//! The body of the request that a connection is answering.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Shared;
use crate::body::{BodyError, Source};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What is still to be said before the client sends its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interim {
    None,
    /// The client waits for a 100.
    Wanted,
    /// So many bytes of the 100 are written.
    Begun(usize),
}

impl Interim {
    /// What must still be written of a 100 that was begun.
    pub(super) fn begun(self) -> &'static [u8] {
        match self {
            Self::Begun(written) if written > 0 => &CONTINUE[written..],
            _ => &[],
        }
    }
}

pub(super) struct RequestBody<IO> {
    shared: Rc<Shared<IO>>,
    exchange: u64,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> RequestBody<IO> {
    pub(super) fn new(shared: Rc<Shared<IO>>) -> Self {
        let exchange = shared.exchange.get();
        Self { shared, exchange }
    }

    /// Asks for the body if the client waits to be asked.
    fn poll_interim(&self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let wire = &mut *self.shared.wire.borrow_mut();
        let mut written = match self.shared.interim.get() {
            Interim::None => return Poll::Ready(Ok(())),
            Interim::Wanted if !wire.buffer.is_empty() => {
                // It didn't wait.
                self.shared.interim.set(Interim::None);
                return Poll::Ready(Ok(()));
            }
            Interim::Wanted => 0,
            Interim::Begun(written) => written,
        };
        while written < CONTINUE.len() {
            match Pin::new(&mut wire.io).poll_write(cx, &CONTINUE[written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(BodyError::Closed)),
                Poll::Ready(Ok(bytes)) => written += bytes,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(BodyError::Io(error.kind()))),
                Poll::Pending => {
                    if written > 0 {
                        self.shared.interim.set(Interim::Begun(written));
                    }
                    ready!(wire.writing.poll_after(self.shared.write_timeout, cx));
                    return Poll::Ready(Err(BodyError::Timeout));
                }
            }
        }
        wire.writing.clear();
        self.shared.interim.set(Interim::Begun(written));
        ready!(Pin::new(&mut wire.io).poll_flush(cx)).map_err(|error| BodyError::Io(error.kind()))?;
        self.shared.interim.set(Interim::None);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Source for RequestBody<IO> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.shared.exchange.get() != self.exchange {
            return Poll::Ready(Some(Err(BodyError::Closed)));
        }
        if let Err(error) = ready!(self.poll_interim(cx)) {
            return Poll::Ready(Some(Err(error)));
        }
        self.shared.wire.borrow_mut().poll_body(cx, self.shared.body_idle_timeout)
    }

    fn length(&self) -> Option<u64> {
        if self.shared.exchange.get() != self.exchange {
            return None;
        }
        self.shared.wire.borrow().decoder.left()
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        if self.shared.exchange.get() != self.exchange {
            return None;
        }
        self.shared.wire.borrow_mut().decoder.take_trailers()
    }
}

impl<IO> Drop for RequestBody<IO> {
    fn drop(&mut self) {
        if self.shared.exchange.get() == self.exchange {
            self.shared.body_held.set(false);
        }
    }
}
