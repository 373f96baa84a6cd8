//! The downstream side: reads requests off one connection, one after the other, and writes what the handler answers.

mod request_body;
mod respond;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::{Body, BodyError};
use crate::chunked::Decoder;
use crate::departures::{self, Depart};
use crate::drain::{Drain, Watch};
use crate::head::framing::Declared;
use crate::head::request::{self, RequestHead};
use crate::head::{Scan, Scanned};
use crate::headers::Headers;
use crate::interim::{InterimSink, Interims};
use crate::limits::Limits;
use crate::message::{Request, Response};
use crate::outbox::Outbox;
use crate::sending::{Sending, SendingError};
use crate::upgrade::{Bounds, Tunnel, Upgrade};
use crate::waker;
use crate::wire::Wire;
use request_body::RequestBody;

/// How much of an unread request body is read away so that the connection can go on.
const DRAIN_BYTES_MAX: usize = 64 * 1024;
/// After a final answer that the client may not expect yet, its bytes are read away for this long and this much:
/// closing with unread bytes makes TCP reset the connection, and the client would never see the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 256 * 1024;
const REFUSED_HEAD_BYTES_MAX: usize = 1024;
/// More interim responses than this are dropped: they are hints.
const EARLY_BYTES_MAX: usize = 16 * 1024;

/// Why bytes on a connection never became a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What the client was answered.
    pub status: StatusCode,
    /// What was wrong, for the log.
    pub reason: &'static str,
}

/// Answers the requests of a connection.
pub trait Handler {
    /// Answers one request. The future is dropped when the client goes away before the response's head was written; a
    /// guard inside it may log that.
    ///
    /// The engine sets `Content-Length`, `Transfer-Encoding` and `Connection` itself (a `Content-Length` is kept where
    /// it only describes: HEAD and 304) and adds `Date` if there is none. An absolute target is reduced to path and
    /// query, since it agrees with `host`.
    fn handle(&self, request: Request) -> impl Future<Output = Response>;

    /// Told of what never became a request, for the access log; the engine has the answer. `head` is the beginning of
    /// the bytes, at most 1 KiB.
    fn refused(&self, refusal: &Refusal, head: &[u8]);

    /// Told of a request that its client gave up before [`Handler::handle`] was called for it, for the access log. Only
    /// HTTP/2's clients can.
    fn given_up(&self, _request: Request) {}
}

/// Why a connection ended in the middle of something.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client closed or reset the connection while its request was being answered.
    #[error("client went away")]
    Aborted,
    /// Reading or writing failed; a write without progress is `TimedOut`.
    #[error("downstream connection: {0}")]
    Io(#[from] io::Error),
    /// The response's body failed after its head was written.
    #[error("response body: {0}")]
    Body(#[source] BodyError),
}

/// Serves one connection until it ends. Requests are answered in order; the next head isn't parsed before the response
/// is written.
pub async fn serve<IO, H>(io: IO, limits: &Limits, handler: &H, drain: &Drain) -> Result<(), ServeError>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    let shared = Shared {
        wire: RefCell::new(Wire::new(io)),
        exchange: Cell::new(0),
        body_held: Cell::new(false),
        wants_continue: Cell::new(false),
        early: RefCell::default(),
        departs: Cell::new(false),
        waker: RefCell::default(),
        early_bytes: Cell::new(0),
        body_idle_timeout: limits.body_idle_timeout,
        write_timeout: limits.write_timeout,
    };
    let mut connection = Connection { shared: Rc::new(shared), limits, drain: drain.watch(), served: 0 };
    let result = connection.run(handler).await;
    // A body that the handler kept somewhere must not read on.
    connection.shared.exchange.set(u64::MAX);
    result
}

/// What the connection and the body of its current request both use. A borrow of `wire` lasts for one poll of the
/// stream and never while the handler's or a body's code runs.
struct Shared<IO> {
    wire: RefCell<Wire<IO>>,
    /// Number of the current request: bodies of earlier ones have ended.
    exchange: Cell<u64>,
    /// Whether the current request's body hasn't been dropped.
    body_held: Cell<bool>,
    /// Whether the client waits for a 100 before it sends its body.
    wants_continue: Cell<bool>,
    /// What is written before everything else: interim responses, and those that leave with others.
    early: RefCell<Outbox>,
    /// Whether it is queued to leave.
    departs: Cell<bool>,
    /// Who is woken when it can't leave at once.
    waker: RefCell<Option<Waker>>,
    /// How much of them the current request has made.
    early_bytes: Cell<usize>,
    body_idle_timeout: Duration,
    write_timeout: Duration,
}

struct Connection<'a, IO> {
    shared: Rc<Shared<IO>>,
    limits: &'a Limits,
    drain: Watch,
    served: u64,
}

/// Where reading a head is.
#[derive(Default)]
struct Reading {
    scan: Scan,
    begun: bool,
    /// The time for the head runs.
    timed: bool,
    skipped_empty_line: bool,
}

enum Next {
    Request(RequestHead),
    Refused { refusal: Refusal, head: Bytes },
    Closed,
}

/// What happens to the connection after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Keep,
    Close,
    /// Close, but the client may still be sending.
    Linger,
}

impl<IO: AsyncRead + AsyncWrite + Unpin + 'static> Connection<'_, IO> {
    async fn run<H: Handler>(&mut self, handler: &H) -> Result<(), ServeError> {
        loop {
            let mut reading = Reading::default();
            let head = match poll_fn(|cx| self.poll_head(&mut reading, cx)).await? {
                Next::Request(head) => head,
                Next::Refused { refusal, head } => {
                    handler.refused(&refusal, &head);
                    self.refuse(&refusal).await;
                    return Ok(());
                }
                Next::Closed => {
                    self.close(false).await;
                    return Ok(());
                }
            };
            match self.answer(head, handler).await? {
                After::Keep => {}
                After::Close => {
                    self.close(false).await;
                    return Ok(());
                }
                After::Linger => {
                    self.close(true).await;
                    return Ok(());
                }
            }
        }
    }

    fn poll_head(&mut self, reading: &mut Reading, cx: &mut Context<'_>) -> Poll<io::Result<Next>> {
        // Whoever doesn't read its answers isn't asked for more.
        if !self.shared.departs.get() && !self.shared.early.borrow().is_done() {
            ready!(self.shared.poll_early(cx))?;
            // The times for the next head begin when the answer is out.
            self.shared.wire.borrow_mut().reading.clear();
        }
        let wire = &mut *self.shared.wire.borrow_mut();
        loop {
            let mut next = None;
            let filled = if wire.buffer.is_empty() {
                // A waiting connection holds no buffer, and a head that comes whole needs none.
                wire.buffer = BytesMut::new();
                wire.poll_fill_via(cx, |bytes, _| reading.take(bytes, self.limits, &mut next))
            } else {
                let taken = reading.take(&wire.buffer, self.limits, &mut next);
                wire.buffer.advance(taken);
                match next.is_some() || taken > 0 {
                    true => Poll::Ready(Ok(1)),
                    false => wire.poll_fill(cx),
                }
            };
            if reading.begun && !std::mem::replace(&mut reading.timed, true) {
                // From here on it is the time for the head that runs.
                wire.reading.clear();
            }
            if let Some(next) = next {
                wire.reading.clear();
                return Poll::Ready(Ok(next));
            }
            let refused = match filled {
                Poll::Ready(Ok(0)) if !reading.begun => return Poll::Ready(Ok(Next::Closed)),
                Poll::Ready(Ok(0)) => bad_request("connection closed within the head"),
                Poll::Ready(Ok(_)) => continue,
                // A reset between two requests is a way to close.
                Poll::Ready(Err(_)) if !reading.begun => return Poll::Ready(Ok(Next::Closed)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if !reading.begun => {
                    if !self.drain.poll(cx) {
                        ready!(wire.reading.poll_after(self.limits.idle_timeout, cx));
                    }
                    return Poll::Ready(Ok(Next::Closed));
                }
                Poll::Pending => {
                    ready!(wire.reading.poll_after(self.limits.head_timeout, cx));
                    Refusal { status: StatusCode::REQUEST_TIMEOUT, reason: "timeout within the head" }
                }
            };
            return Poll::Ready(Ok(Next::refused(refused, &wire.buffer)));
        }
    }

    async fn answer<H: Handler>(&mut self, head: RequestHead, handler: &H) -> Result<After, ServeError> {
        self.served += 1;
        let RequestHead {
            method,
            host,
            target,
            version,
            headers,
            declared,
            keep_alive,
            expects_continue,
            wants_websocket,
        } = head;
        let is_head = method == Method::HEAD;
        let body = self.request_body(declared, expects_continue);
        let interims = match version {
            Version::HTTP_11 => Interims::new(self.shared.clone(), self.served),
            // HTTP/1.0 has none (RFC 9110 §15.2).
            _ => Interims::default(),
        };
        let request = Request { method, host, target, version, headers, body, wants_websocket, interims };

        let response = {
            // Not boxed: a waiting connection holds its room as well, but no request has to get and move it.
            let mut handling = pin!(handler.handle(request));
            poll_fn(|cx| match handling.as_mut().poll(cx) {
                Poll::Ready(response) => Poll::Ready(Some(response)),
                // A client that has left may still read the answers to earlier requests.
                Poll::Pending => match ready!(self.shared.poll_early(cx)) {
                    Ok(()) if !self.poll_gone(cx) => Poll::Pending,
                    _ => Poll::Ready(None),
                },
            })
            .await
        };
        match response {
            None => Err(ServeError::Aborted),
            Some(Response { status: StatusCode::SWITCHING_PROTOCOLS, headers, upgrade: Some(upgrade), .. })
                if wants_websocket =>
            {
                self.switch(&headers, *upgrade).await
            }
            Some(response) => self.respond(response, is_head, version, keep_alive).await,
        }
    }

    /// Answers 101 and passes bytes from then on.
    async fn switch(&mut self, headers: &Headers, upgrade: Upgrade) -> Result<After, ServeError> {
        let mut out = self.shared.early.take();
        respond::write_switch(&mut out, headers);
        poll_fn(|cx| self.shared.wire.borrow_mut().poll_write(&mut out, cx, self.limits.write_timeout)).await?;
        drop(out);
        let bounds = Bounds {
            idle_timeout: self.limits.upgraded_idle_timeout,
            half_closed_timeout: self.limits.body_idle_timeout,
            write_timeout: self.limits.write_timeout,
        };
        let mut tunnel = Tunnel::new(&mut self.shared.wire.borrow_mut(), upgrade, bounds);
        poll_fn(|cx| tunnel.poll(&mut self.shared.wire.borrow_mut(), cx)).await?;
        Ok(After::Close)
    }

    /// Sets the wire up for the request's body.
    fn request_body(&mut self, declared: Declared, expects_continue: bool) -> Body {
        self.shared.exchange.set(self.served);
        let decoder = match declared {
            Declared::Nothing => Decoder::Done(None),
            Declared::Length(length) => Decoder::length(length),
            Declared::Chunked => Decoder::chunked(self.limits.chunks()),
        };
        let has_body = !decoder.is_done();
        self.shared.wire.borrow_mut().decoder = decoder;
        self.shared.body_held.set(has_body);
        self.shared.wants_continue.set(has_body && expects_continue);
        self.shared.early_bytes.set(0);
        if has_body { Body::from_source(RequestBody::new(self.shared.clone())) } else { Body::empty() }
    }

    async fn respond(
        &mut self,
        response: Response,
        is_head: bool,
        version: Version,
        keep_alive: bool,
    ) -> Result<After, ServeError> {
        // An answer that may fail, or for which the client may not wait, doesn't take earlier ones along.
        if !response.body.is_at_hand() && !self.shared.early.borrow().is_done() {
            poll_fn(|cx| self.shared.poll_early(cx)).await?;
        }
        // Interim responses go first; once the final one begins, no 100 may follow.
        let mut out = self.shared.early.take();
        out.make_room();
        let unexpected_body = self.shared.wants_continue.replace(false);
        let mut keep = keep_alive
            && !unexpected_body
            && !self.drain.is_fired()
            && self.limits.requests_per_connection_max.is_none_or(|max| self.served < max);
        if keep && !self.shared.body_held.get() {
            keep = poll_fn(|cx| Poll::Ready(self.can_skip_body(cx))).await;
        }

        let framing = respond::write_head(&mut out, &response, is_head, version, &mut keep);
        let mut sending = Sending::new(out, response.body, framing);
        drop(response.headers);
        if keep && poll_fn(|cx| Poll::Ready(self.shared.queue(&mut sending, cx))).await {
            drop(sending);
            // Pipelined requests may follow for as long as their client sends them.
            tokio::task::coop::consume_budget().await;
            return Ok(After::Keep);
        }
        let sent = poll_fn(|cx| {
            let sent = sending
                .poll(cx, |out, cx| self.shared.wire.borrow_mut().poll_write(out, cx, self.limits.write_timeout));
            match sent {
                Poll::Ready(sent) => Poll::Ready(Some(sent)),
                // A client that half-closed may still read a response that is complete.
                Poll::Pending if !sending.has_all() && self.poll_gone(cx) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        // With the response's body goes what it held, such as the request's body on its way upstream.
        drop(sending);
        match sent {
            Some(Ok(())) => {}
            Some(Err(SendingError::Io(error))) => return Err(error.into()),
            Some(Err(SendingError::Body(error))) => return Err(ServeError::Body(error)),
            None => return Err(ServeError::Aborted),
        }

        if self.shared.wire.borrow().decoder.is_done() {
            return Ok(if keep { After::Keep } else { After::Close });
        }
        self.shared.exchange.set(u64::MAX);
        let mut budget = DRAIN_BYTES_MAX;
        match keep && poll_fn(|cx| self.poll_skip_body(&mut budget, cx)).await {
            true => Ok(After::Keep),
            false => Ok(After::Linger),
        }
    }

    /// Whether the client has left. Looks only once all of the request has arrived, and stops when the client has sent
    /// more than that.
    fn poll_gone(&self, cx: &mut Context<'_>) -> bool {
        let wire = &mut *self.shared.wire.borrow_mut();
        wire.decoder.left() == Some(wire.buffer.len() as u64)
            && matches!(wire.poll_fill(cx), Poll::Ready(Ok(0) | Err(_)))
    }

    /// Whether the rest of an abandoned body is at hand, or short enough to be read after the response.
    fn can_skip_body(&self, cx: &mut Context<'_>) -> bool {
        let mut budget = DRAIN_BYTES_MAX;
        match self.poll_skip_body(&mut budget, cx) {
            Poll::Ready(skipped) => skipped,
            Poll::Pending => self.shared.wire.borrow().decoder.left().is_some_and(|left| left <= budget as u64),
        }
    }

    fn poll_skip_body(&self, budget: &mut usize, cx: &mut Context<'_>) -> Poll<bool> {
        let wire = &mut *self.shared.wire.borrow_mut();
        loop {
            match ready!(wire.poll_body(cx, self.limits.body_idle_timeout)) {
                None => return Poll::Ready(true),
                Some(Ok(data)) if data.len() <= *budget => *budget -= data.len(),
                Some(_) => return Poll::Ready(false),
            }
        }
    }

    async fn refuse(&mut self, refusal: &Refusal) {
        let mut out = self.shared.early.take();
        out.make_room();
        respond::write_refusal(&mut out, refusal.status);
        let wrote =
            poll_fn(|cx| self.shared.wire.borrow_mut().poll_write(&mut out, cx, self.limits.write_timeout)).await;
        if wrote.is_ok() {
            self.close(true).await;
        }
    }

    /// Ends the stream. Failures don't matter any more: everything was said.
    async fn close(&mut self, linger: bool) {
        let written = poll_fn(|cx| self.shared.poll_early(cx)).await;
        self.shared.wire.borrow_mut().writing.clear();
        let shut = written.is_ok()
            && poll_fn(|cx| {
                let wire = &mut *self.shared.wire.borrow_mut();
                match Pin::new(&mut wire.io).poll_shutdown(cx) {
                    Poll::Ready(shut) => Poll::Ready(shut.is_ok()),
                    Poll::Pending => wire.writing.poll_after(LINGER, cx).map(|()| false),
                }
            })
            .await;
        if linger && shut {
            self.linger().await;
        }
    }

    async fn linger(&mut self) {
        {
            let wire = &mut *self.shared.wire.borrow_mut();
            wire.reading.clear();
            wire.decoder = Decoder::Done(None);
        }
        let mut budget = LINGER_BYTES_MAX;
        poll_fn(|cx| {
            let wire = &mut *self.shared.wire.borrow_mut();
            loop {
                wire.buffer.clear();
                match wire.poll_fill(cx) {
                    Poll::Ready(Ok(bytes @ 1..)) if bytes <= budget => budget -= bytes,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return wire.reading.poll_after(LINGER, cx),
                }
            }
        })
        .await;
    }
}

impl Reading {
    /// Takes an empty line or a whole head off the beginning of `bytes`; how much it has taken.
    fn take(&mut self, bytes: &[u8], limits: &Limits, next: &mut Option<Next>) -> usize {
        let mut taken = 0;
        if !self.skipped_empty_line && bytes.starts_with(b"\r\n") {
            *self = Self { skipped_empty_line: true, ..Self::default() };
            taken = 2;
        }
        let bytes = &bytes[taken..];
        if bytes.is_empty() {
            return taken;
        }
        self.begun = true;
        if self.scan.is_fresh()
            && let Some((length, parsed)) = request::parse_plain(bytes, limits)
        {
            *next = Some(parsed.map_or_else(|refusal| Next::refused(refusal, &bytes[..length]), Next::Request));
            return taken + length;
        }
        let found = match self.scan.step(bytes, limits.request_line_bytes_max, limits.head_bytes_max) {
            Ok(Scanned::Partial) => return taken,
            Ok(Scanned::Complete(length)) => {
                taken += length;
                let head = &bytes[..length];
                request::parse(head, limits.headers_max)
                    .map_or_else(|refusal| Next::refused(refusal, head), Next::Request)
            }
            Err(fault) => Next::refused(fault.into(), bytes),
        };
        *next = Some(found);
        taken
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Shared<IO> {
    /// Writes interim responses, and others that were to leave, as far as the client takes them.
    fn poll_early(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let early = &mut *self.early.borrow_mut();
        if early.is_done() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.wire.borrow_mut().poll_write(early, cx, self.write_timeout))?;
        // A waiting connection holds no buffer.
        *early = Outbox::default();
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + 'static> Shared<IO> {
    /// Lets a response leave with others, if all of it is there and nothing is left of its request; whether it does.
    fn queue(self: &Rc<Self>, sending: &mut Sending, cx: &mut Context<'_>) -> bool {
        if !self.wire.borrow().decoder.is_done() || !sending.gather(cx) || sending.out.queued() > departures::BYTES_MAX
        {
            return false;
        }
        if !self.departs.get() && !departures::queue(self.clone()) {
            return false;
        }
        self.departs.set(true);
        *self.early.borrow_mut() = std::mem::take(&mut sending.out);
        waker::keep(&mut self.waker.borrow_mut(), cx);
        true
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Depart for Shared<IO> {
    fn depart(self: Rc<Self>) {
        self.departs.set(false);
        let Some(waker) = &*self.waker.borrow() else { return };
        if let Poll::Ready(Err(_)) = self.poll_early(&mut Context::from_waker(waker)) {
            // It meets the same error, and ends.
            waker.wake_by_ref();
        }
    }
}

impl<IO> InterimSink for Shared<IO> {
    fn push(&self, exchange: u64, status: StatusCode, headers: &Headers) {
        if exchange != self.exchange.get() || self.early_bytes.get() >= EARLY_BYTES_MAX {
            return;
        }
        let early = &mut *self.early.borrow_mut();
        let before = early.queued();
        respond::write_interim(early, status, headers);
        self.early_bytes.set(self.early_bytes.get() + early.queued() - before);
    }
}

impl Next {
    fn refused(refusal: Refusal, head: &[u8]) -> Self {
        Self::Refused { refusal, head: Bytes::copy_from_slice(&head[..head.len().min(REFUSED_HEAD_BYTES_MAX)]) }
    }
}

fn bad_request(reason: &'static str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, reason }
}
