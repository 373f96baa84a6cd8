//! One request and its response on an upstream connection.
//!
//! The request's body goes out while the response is awaited and, if that comes early, while its body is read. The
//! connection returns to the pool only when both messages have ended exactly.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::LINK;
use http::{HeaderMap, Method, StatusCode};

use super::departure::{self, Departure};
use super::{Failed, SendError, SharedUpstream, Upstream};
use crate::body::{Body, BodyError, Source};
use crate::chunked::Decoder;
use crate::head::framing::Declared;
use crate::head::response::{self, ResponseHead};
use crate::head::{Fault, Scan, Scanned};
use crate::headers::Headers;
use crate::interim::Interims;
use crate::limits::PoolLimits;
use crate::message::{Request, Response};
use crate::pool::Pool;
use crate::sending::{Sending, SendingError};
use crate::upgrade::Upgrade;

pub(super) struct Exchange {
    pool: Pool,
    /// `None` once the response has ended.
    upstream: Option<SharedUpstream>,
    /// `None` once the request is written, or can't be any further.
    sending: Option<Sending>,
    /// Whether it may be queued to be written; once.
    may_depart: bool,
    /// Whether it is queued, as far as is known.
    departs: bool,
    /// Whether the task is woken when something comes, and nothing had come when this was set.
    is_watched: bool,
    /// Whether the connection may be used again afterwards.
    keep: bool,
    write_error: Option<io::Error>,
    /// Bytes of the request that were written before sending stopped.
    written: u64,
    scan: Scan,
    /// Interim responses so far, and where they go.
    interims: usize,
    interims_to: Interims,
    wants_websocket: bool,
    /// Of the response's body.
    idle_timeout: Duration,
    trailers: Option<HeaderMap>,
}

impl Exchange {
    pub(super) fn new(
        pool: Pool,
        upstream: SharedUpstream,
        is_watched: bool,
        sending: Sending,
        request: &Request,
    ) -> Self {
        let idle_timeout = pool.0.limits.body_idle_timeout;
        Self {
            pool,
            idle_timeout,
            upstream: Some(upstream),
            sending: Some(sending),
            may_depart: true,
            departs: false,
            is_watched,
            keep: true,
            write_error: None,
            written: 0,
            scan: Scan::default(),
            interims: 0,
            interims_to: request.interims.clone(),
            wants_websocket: request.wants_websocket,
            trailers: None,
        }
    }

    /// Ready with the final response's head.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Failed>> {
        let head = ready!(self.poll_final_head(cx));
        Poll::Ready(head.map_err(|(error, silent)| {
            let written = self.sending.as_ref().map_or(self.written, |sending| sending.out.written());
            Failed { error, silent, unsent: written == 0 }
        }))
    }

    /// The response that begins with `head`.
    pub(super) fn response(mut self, method: &Method, head: ResponseHead) -> Response {
        self.interims_to = Interims::default();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let upstream = self.upstream.take().and_then(Rc::into_inner);
            let upgrade = upstream.map(|upstream| Box::new(Upgrade::new(upstream.into_inner().wire)));
            return Response { status: head.status, headers: head.headers, body: Body::empty(), upgrade };
        }
        self.keep &= head.keep_alive;
        if head.headers.get("content-type").is_some_and(is_event_stream) {
            self.idle_timeout = self.pool.0.limits.event_stream_idle_timeout;
        }
        let body = self.body(method, &head);
        Response { status: head.status, headers: head.headers, body, upgrade: None }
    }

    /// Ready with the final response's head, or with an error and whether the upstream closed without a byte.
    fn poll_final_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, (SendError, bool)>> {
        if let Err(error) = self.poll_send(cx) {
            return Poll::Ready(Err((SendError::RequestBody(error), false)));
        }
        if let Some(error) = self.write_error.take_if(|error| error.kind() == io::ErrorKind::TimedOut) {
            return Poll::Ready(Err((SendError::Io(error), false)));
        }
        let was_watched = std::mem::take(&mut self.is_watched);
        loop {
            let Some(upstream) = &self.upstream else { return Poll::Ready(Err((SendError::Closed, false))) };
            let wire = &mut upstream.borrow_mut().wire;
            let mut heads = Heads {
                scan: &mut self.scan,
                interims: &mut self.interims,
                interims_to: &self.interims_to,
                wants_websocket: self.wants_websocket,
                limits: &self.pool.0.limits,
            };
            let silent = wire.buffer.is_empty() && *heads.interims == 0;
            let mut found = Ok(None);
            let filled = if was_watched && self.write_error.is_none() {
                // The request has only just been sent.
                Poll::Pending
            } else if wire.buffer.is_empty() {
                wire.poll_fill_via(cx, |bytes, _| heads.take(bytes, &mut found))
            } else {
                let taken = heads.take(&wire.buffer, &mut found);
                wire.buffer.advance(taken);
                match matches!(found, Ok(None)) && taken == 0 {
                    true => wire.poll_fill(cx),
                    false => Poll::Ready(Ok(1)),
                }
            };
            if self.departs && filled.is_ready() {
                // Before the request: it is no answer to it, and the connection isn't what it was taken for.
                return Poll::Ready(Err((SendError::Closed, true)));
            }
            if let Some(head) = found.map_err(|reason| (SendError::Framing(reason), false))? {
                wire.reading.clear();
                return Poll::Ready(Ok(head));
            }
            return Poll::Ready(Err(match filled {
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

    /// Sends what there is of the request. Only a fault of its body is an error: after a failed write the upstream may
    /// still have an answer for us.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        self.see_departure(cx);
        let Some(upstream) = &self.upstream else { return Ok(()) };
        let timeout = self.pool.0.limits.write_timeout;
        let Some(sending) = &mut self.sending else { return Ok(()) };
        if std::mem::take(&mut self.may_depart) && sending.gather(cx) {
            match departure::queue(upstream, std::mem::take(&mut sending.out), timeout, cx) {
                Ok(()) => {
                    self.departs = true;
                    self.sending = None;
                    return Ok(());
                }
                Err(out) => sending.out = out,
            }
        }
        let wire = &mut upstream.borrow_mut().wire;
        let sent = match sending.poll(cx, |out, cx| wire.poll_write(out, cx, timeout)) {
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

    /// Sees what came of a request that was queued.
    fn see_departure(&mut self, cx: &Context<'_>) {
        let Some(upstream) = self.upstream.as_ref().filter(|_| self.departs) else { return };
        let Upstream { departure, wire, .. } = &mut *upstream.borrow_mut();
        self.departs = false;
        match std::mem::take(departure) {
            Departure::None => {}
            Departure::Queued { out, waker, write_timeout } => {
                let waker = if waker.will_wake(cx.waker()) { waker } else { cx.waker().clone() };
                *departure = Departure::Queued { out, waker, write_timeout };
                self.departs = true;
            }
            Departure::Held(out) => {
                // The time for the response's head begins when all is written.
                wire.reading.clear();
                self.sending = Some(Sending::rest(out));
            }
            Departure::Left(written) => self.written = written,
            Departure::Failed(written, error) => {
                self.written = written;
                self.keep = false;
                self.write_error = Some(error);
            }
        }
    }

    /// The response's body. One that is there already frees the connection at once.
    fn body(mut self, method: &Method, head: &ResponseHead) -> Body {
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
        match self.begin_body(head.declared) {
            Some(body) => {
                self.finish();
                Body::full(body.freeze())
            }
            None => Body::from_source(self),
        }
    }

    /// Sets the wire up for a body, or takes one that is there already.
    fn begin_body(&mut self, declared: Declared) -> Option<BytesMut> {
        let wire = &mut self.upstream.as_ref()?.borrow_mut().wire;
        wire.decoder = match declared {
            // Nothing but the body: its bytes are taken as they are.
            Declared::Length(length) if length == wire.buffer.len() as u64 => {
                return Some(std::mem::take(&mut wire.buffer));
            }
            Declared::Length(length) if length < wire.buffer.len() as u64 => {
                return Some(wire.buffer.split_to(length as usize));
            }
            Declared::Length(length) => Decoder::length(length),
            Declared::Chunked => Decoder::chunked(self.pool.0.limits.chunks()),
            Declared::Nothing => {
                self.keep = false;
                Decoder::UntilClose
            }
        };
        None
    }

    /// The response has ended: the connection goes back to the pool if the request has too and nothing is left over.
    fn finish(&mut self) {
        let Some(upstream) = self.upstream.take() else { return };
        let is_request_done = self.sending.take().is_none() && !self.departs;
        let is_free = {
            let wire = &mut upstream.borrow_mut().wire;
            self.trailers = wire.decoder.take_trailers();
            let is_free = self.keep && is_request_done && wire.buffer.is_empty();
            if is_free {
                wire.decoder = Decoder::Done(None);
                wire.buffer = BytesMut::new();
                wire.reading.clear();
                wire.writing.clear();
            }
            is_free
        };
        if is_free {
            self.pool.put(upstream);
        }
    }
}

/// Reads response heads off an upstream's bytes.
struct Heads<'a> {
    scan: &'a mut Scan,
    interims: &'a mut usize,
    interims_to: &'a Interims,
    wants_websocket: bool,
    limits: &'a PoolLimits,
}

impl Heads<'_> {
    /// Takes whole heads off the beginning of `bytes` up to the final response's, which goes into `found`, and passes
    /// interim ones on; how much it has taken.
    fn take(&mut self, bytes: &[u8], found: &mut Result<Option<ResponseHead>, &'static str>) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.one(&bytes[taken..]) {
                Ok(Some((length, head))) => {
                    taken += length;
                    if head.is_some() {
                        *found = Ok(head);
                        break;
                    }
                }
                Ok(None) => break,
                Err(reason) => {
                    *found = Err(reason);
                    break;
                }
            }
        }
        taken
    }

    /// The length of a whole head, and the head itself if it is the final one.
    fn one(&mut self, bytes: &[u8]) -> Result<Option<(usize, Option<ResponseHead>)>, &'static str> {
        let plain = match self.scan.is_fresh() {
            true => response::parse_plain(bytes, self.limits.head_bytes_max, self.limits.headers_max),
            false => None,
        };
        let found = match plain {
            Some((length, head)) => Some((length, head?)),
            None => self.scanned(bytes)?,
        };
        let Some((length, head)) = found else { return Ok(None) };
        if !head.status.is_informational() {
            return Ok(Some((length, Some(head))));
        }
        if head.declared != Declared::Nothing {
            return Err("interim response with a body");
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return match self.wants_websocket && head.is_websocket {
                true => Ok(Some((length, Some(head)))),
                false => Err("unsolicited 101"),
            };
        }
        *self.interims += 1;
        if *self.interims > self.limits.interim_responses_max {
            return Err("too many interim responses");
        }
        // Hints are for the client (RFC 8297); all else an upstream may say early isn't its business.
        if head.status == StatusCode::EARLY_HINTS {
            let mut hints = Headers::new();
            hints.copy(LINK, &head.headers);
            self.interims_to.push(head.status, &hints);
        }
        Ok(Some((length, None)))
    }

    /// A whole head and its length, checked line by line.
    fn scanned(&mut self, bytes: &[u8]) -> Result<Option<(usize, ResponseHead)>, &'static str> {
        let length = match self.scan.step(bytes, usize::MAX - 1, self.limits.head_bytes_max) {
            Ok(Scanned::Partial) => return Ok(None),
            Ok(Scanned::Complete(length)) => length,
            Err(Fault::Malformed(reason)) => return Err(reason),
            Err(Fault::FirstLineTooLong | Fault::TooLong) => return Err("response head is too long"),
        };
        *self.scan = Scan::default();
        response::parse(&bytes[..length], self.limits.headers_max).map(|head| Some((length, head)))
    }
}

impl Source for Exchange {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Err(error) = self.poll_send(cx) {
            self.upstream = None;
            return Poll::Ready(Some(Err(error)));
        }
        let Some(upstream) = &self.upstream else { return Poll::Ready(None) };
        let next = ready!(upstream.borrow_mut().wire.poll_body(cx, self.idle_timeout));
        let is_last = upstream.borrow().wire.decoder.is_done();
        match &next {
            Some(Ok(_)) if !is_last => {}
            // After its last piece the connection may serve others, before that piece is written downstream.
            Some(Ok(_)) | None => self.finish(),
            Some(Err(_)) => self.upstream = None,
        }
        Poll::Ready(next)
    }

    fn length(&self) -> Option<u64> {
        self.upstream.as_ref().map_or(Some(0), |upstream| upstream.borrow().wire.decoder.left())
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        if self.poll_send(cx).is_err()
            && let Some(upstream) = &self.upstream
        {
            // The next read of this body tells.
            upstream.borrow_mut().wire.decoder = Decoder::Failed;
        }
        Ok(())
    }
}

fn is_event_stream(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"text/event-stream";
    content_type.get(..TYPE.len()).is_some_and(|start| start.eq_ignore_ascii_case(TYPE))
}

/// What a peer's closing looks like when it isn't a clean end.
fn is_disconnect(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted | NotConnected | UnexpectedEof)
}
