//! The body of the request that a connection is answering.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Shared;
use crate::body::{BodyError, Source};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

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
    fn poll_continue(&self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let shared = &self.shared;
        // What has sent some of its body didn't wait.
        if shared.wants_continue.replace(false) && shared.wire.borrow().buffer.is_empty() {
            shared.early.borrow_mut().push(CONTINUE);
        }
        shared.poll_early(cx).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => BodyError::Timeout,
            kind => BodyError::Io(kind),
        })
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Source for RequestBody<IO> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.shared.exchange.get() != self.exchange {
            return Poll::Ready(Some(Err(BodyError::Closed)));
        }
        if let Err(error) = ready!(self.poll_continue(cx)) {
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
