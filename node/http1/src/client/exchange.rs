//! One request and its response on an upstream connection.
//!
//! The request's body goes out while the response is awaited and, if that comes early, while its body is read. The
//! connection returns to the pool only when both messages have ended exactly.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Response, StatusCode};

use super::{Failed, SendError, Upstream};
use crate::body::{Body, BodyError, Source};
use crate::chunked::Decoder;
use crate::head::framing::Declared;
use crate::head::response::{self, ResponseHead};
use crate::head::{Fault, Scan, Scanned};
use crate::pool::Pool;
use crate::sending::{Sending, SendingError};

pub(super) struct Exchange {
    pool: Pool,
    /// `None` once the response has ended.
    upstream: Option<Box<Upstream>>,
    /// `None` once the request is written, or can't be any further.
    sending: Option<Sending>,
    /// Whether the connection may be used again afterwards.
    keep: bool,
    write_error: Option<io::Error>,
    /// Bytes of the request that were written before sending stopped.
    written: u64,
    scan: Scan,
    interims: usize,
    trailers: Option<HeaderMap>,
}

impl Exchange {
    pub(super) fn new(pool: Pool, upstream: Box<Upstream>, sending: Sending) -> Self {
        Self {
            pool,
            upstream: Some(upstream),
            sending: Some(sending),
            keep: true,
            write_error: None,
            written: 0,
            scan: Scan::default(),
            interims: 0,
            trailers: None,
        }
    }

    pub(super) async fn response(mut self, method: &Method) -> Result<Response<Body>, Failed> {
        let head = match poll_fn(|cx| self.poll_head(cx)).await {
            Ok(head) => head,
            Err((error, silent)) => {
                let written = self.sending.as_ref().map_or(self.written, |sending| sending.out.written());
                return Err(Failed { error, silent, unsent: written == 0 });
            }
        };
        self.keep &= head.keep_alive;
        let body = self.body(method, &head);
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.version_mut() = head.version;
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    /// Ready with the final response's head, or with an error and whether the upstream closed without a byte.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, (SendError, bool)>> {
        if let Err(error) = self.poll_send(cx) {
            return Poll::Ready(Err((SendError::RequestBody(error), false)));
        }
        if let Some(error) = self.write_error.take_if(|error| error.kind() == io::ErrorKind::TimedOut) {
            return Poll::Ready(Err((SendError::Io(error), false)));
        }
        loop {
            if let Some(head) = self.parse_head().map_err(|reason| (SendError::Framing(reason), false))? {
                return Poll::Ready(Ok(head));
            }
            let Some(upstream) = &mut self.upstream else { return Poll::Ready(Err((SendError::Closed, false))) };
            let wire = &mut upstream.wire;
            let silent = wire.buffer.is_empty() && self.interims == 0;
            return Poll::Ready(Err(match wire.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => continue,
                Poll::Ready(Ok(0)) => (self.write_error.take().map_or(SendError::Closed, SendError::Io), silent),
                Poll::Ready(Err(error)) => {
                    let silent = silent && is_disconnect(&error);
                    (SendError::Io(self.write_error.take().unwrap_or(error)), silent)
                }
                // While the request is being sent, the write and body timeouts watch over it.
                Poll::Pending if self.sending.is_some() => return Poll::Pending,
                Poll::Pending => {
                    ready!(wire.reading.poll_after(self.pool.0.limits.response_head_timeout, cx));
                    (SendError::HeadTimeout, false)
                }
            }));
        }
    }

    /// The final response's head, if all of it is in the buffer; interim responses before it are passed over.
    fn parse_head(&mut self) -> Result<Option<ResponseHead>, &'static str> {
        let limits = &self.pool.0.limits;
        let Some(upstream) = &mut self.upstream else { return Ok(None) };
        let wire = &mut upstream.wire;
        loop {
            let bytes = match self.scan.step(&wire.buffer, usize::MAX - 1, limits.head_bytes_max) {
                Ok(Scanned::Partial) => return Ok(None),
                Ok(Scanned::Complete(bytes)) => bytes,
                Err(Fault::Malformed(reason)) => return Err(reason),
                Err(Fault::FirstLineTooLong | Fault::TooLong) => return Err("response head is too long"),
            };
            self.scan = Scan::default();
            let head = response::parse(wire.buffer.split_to(bytes).freeze(), limits.headers_max)?;
            if !head.status.is_informational() {
                wire.reading.clear();
                return Ok(Some(head));
            }
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err("unsolicited 101");
            }
            if head.declared != Declared::Nothing {
                return Err("interim response with a body");
            }
            self.interims += 1;
            if self.interims > limits.interim_responses_max {
                return Err("too many interim responses");
            }
        }
    }

    /// Sends what there is of the request. Only a fault of its body is an error: after a failed write the upstream may
    /// still have an answer for us.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        let (Some(sending), Some(upstream)) = (&mut self.sending, &mut self.upstream) else { return Ok(()) };
        let timeout = self.pool.0.limits.write_timeout;
        let sent = match sending.poll(cx, |out, cx| upstream.wire.poll_write(out, cx, timeout)) {
            Poll::Pending => return Ok(()),
            Poll::Ready(sent) => sent,
        };
        self.written = sending.out.written();
        self.sending = None;
        match sent {
            Ok(()) => Ok(()),
            Err(SendingError::Io(error)) => {
                self.keep = false;
                self.write_error = Some(error);
                Ok(())
            }
            Err(SendingError::Body(error)) => {
                self.keep = false;
                Err(error)
            }
        }
    }

    /// The response's body. One that is there already frees the connection at once.
    fn body(mut self, method: &Method, head: &ResponseHead) -> Body {
        let Some(upstream) = &mut self.upstream else { return Body::empty() };
        let wire = &mut upstream.wire;
        if method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED {
            self.finish();
            return Body::empty();
        }
        if head.status == StatusCode::NO_CONTENT {
            // What an upstream that announces a body here sends next is anybody's guess.
            self.keep &= matches!(head.declared, Declared::Nothing | Declared::Length(0));
            self.finish();
            return Body::empty();
        }
        wire.decoder = match head.declared {
            Declared::Length(length) if length <= wire.buffer.len() as u64 => {
                let body = wire.buffer.split_to(length as usize).freeze();
                self.finish();
                return Body::full(body);
            }
            Declared::Length(length) => Decoder::length(length),
            Declared::Chunked => Decoder::chunked(self.pool.0.limits.chunks()),
            Declared::Nothing => {
                self.keep = false;
                Decoder::UntilClose
            }
        };
        Body::from_source(self)
    }

    /// The response has ended: the connection goes back to the pool if the request has too and nothing is left over.
    fn finish(&mut self) {
        let Some(mut upstream) = self.upstream.take() else { return };
        let wire = &mut upstream.wire;
        self.trailers = wire.decoder.take_trailers();
        if self.keep && self.sending.is_none() && wire.buffer.is_empty() {
            wire.decoder = Decoder::Done(None);
            wire.buffer = BytesMut::new();
            wire.reading.clear();
            wire.writing.clear();
            self.pool.put(upstream);
        }
        self.sending = None;
    }
}

impl Source for Exchange {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Err(error) = self.poll_send(cx) {
            self.upstream = None;
            return Poll::Ready(Some(Err(error)));
        }
        let Some(upstream) = &mut self.upstream else { return Poll::Ready(None) };
        let next = ready!(upstream.wire.poll_body(cx, self.pool.0.limits.body_idle_timeout));
        match &next {
            Some(Ok(_)) if !upstream.wire.decoder.is_done() => {}
            // After its last piece the connection may serve others, before that piece is written downstream.
            Some(Ok(_)) | None => self.finish(),
            Some(Err(_)) => self.upstream = None,
        }
        Poll::Ready(next)
    }

    fn length(&self) -> Option<u64> {
        self.upstream.as_ref().map_or(Some(0), |upstream| upstream.wire.decoder.left())
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) {
        if self.poll_send(cx).is_err()
            && let Some(upstream) = &mut self.upstream
        {
            // The next read of this body tells.
            upstream.wire.decoder = Decoder::Failed;
        }
    }
}

/// What a peer's closing looks like when it isn't a clean end.
fn is_disconnect(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted | NotConnected | UnexpectedEof)
}
