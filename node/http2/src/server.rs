//! A connection: its handshake, its turns, its end.
//!
//! One turn runs the streams that can go on, reads and handles all frames that are there, runs the streams that these
//! began, and then sends everything at once.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::server::{Builder, Connection};
use h2::{Ping, PingPong, Reason};
use http::StatusCode;
use octelium_http1::shared::Timer;
use octelium_http1::{Drain, Handler, Refusal};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::begun::Begun;
use crate::gauge::{Answered, Flood, Gauge};
use crate::limits::Limits;
use crate::sending::Stop;
use crate::stream;
use crate::wire::Wire;

/// A client that is told to go has so long to take note and close.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 256 << 10;
/// What is over the limit by less than this is refused by us, with a record; what is over it by more, by `h2`.
const HEADER_LIST_SLACK: u32 = 2;
/// Of a response that waits in `h2` for the connection's turn.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Why a connection ended in the middle of something.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client did too much of something; it was told to calm down.
    #[error("flood: {0}")]
    Flood(#[from] Flood),
    /// The client broke the protocol's rules, or left in the middle of a frame.
    #[error("HTTP/2: {0}")]
    Protocol(h2::Error),
    /// Reading or writing failed; a write without progress is `TimedOut`.
    #[error("downstream connection: {0}")]
    Io(#[from] io::Error),
    /// The client was silent where it owed something.
    #[error("no {0} within the timeout")]
    Silent(&'static str),
}

impl From<h2::Error> for ServeError {
    fn from(error: h2::Error) -> Self {
        if error.is_io()
            && let Some(kind) = error.get_io().map(io::Error::kind)
        {
            return Self::Io(error.into_io().unwrap_or_else(|| kind.into()));
        }
        Self::Protocol(error)
    }
}

/// Serves one connection until it ends. `io` begins with the client's preface.
///
/// # Errors
/// Why the connection ended in the middle of something.
pub async fn serve<IO, H>(io: IO, limits: &Limits, handler: &H, drain: &Drain) -> Result<(), ServeError>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    let gauge = Rc::new(Gauge::of_client(limits));
    let wire = Wire::new(io, gauge.clone());
    let result = turns(&wire, &gauge, limits, handler, drain).await;
    if result.is_err() {
        // Closing with unread bytes makes TCP reset the connection, and the client would never learn why.
        linger(&wire, limits).await;
    }
    result
}

async fn turns<IO, H>(
    wire: &Wire<IO>,
    gauge: &Gauge,
    limits: &Limits,
    handler: &H,
    drain: &Drain,
) -> Result<(), ServeError>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    let mut connection = handshake(wire, limits).await?;
    let pings = connection.ping_pong();
    let streams = FuturesUnordered::new();
    let begin = |request, respond| stream::answer(request, respond, handler, limits);
    let mut turns = Turns {
        connection,
        wire,
        gauge,
        limits,
        streams,
        begun_streams: Begun::default(),
        pings,
        phase: Phase::Open,
        waiting: Timer::default(),
        waits_for: Wait::Stream,
        read: 0,
        begun: 0,
        was_used: false,
        sent: 0,
    };
    let mut drained = pin!(drain.fired());
    poll_fn(|cx| {
        if turns.phase == Phase::Open && drained.as_mut().poll(cx).is_ready() {
            turns.go_away();
        }
        turns.poll(handler, &begin, cx)
    })
    .await
}

async fn handshake<IO: AsyncRead + AsyncWrite + Unpin>(
    wire: &Wire<IO>,
    limits: &Limits,
) -> Result<Connection<Wire<IO>, Bytes>, ServeError> {
    let resets_max = usize::try_from(limits.resets_max).unwrap_or(usize::MAX);
    let mut handshake = Builder::new()
        .max_concurrent_streams(limits.streams_max)
        .initial_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_header_list_size(HEADER_LIST_SLACK * limits.header_list_bytes_max)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(limits.streams_max as usize)
        .max_local_error_reset_streams(Some(resets_max))
        .handshake::<_, Bytes>(wire.clone());
    let mut waiting = Timer::default();
    poll_fn(|cx| {
        let made = Pin::new(&mut handshake).poll(cx);
        if let Poll::Ready(Err(error)) = wire.poll_send(limits.write_timeout, cx) {
            return Poll::Ready(Err(error.into()));
        }
        match made {
            Poll::Ready(made) => Poll::Ready(made.map_err(ServeError::from)),
            Poll::Pending => {
                ready!(waiting.poll_after(limits.head_timeout, cx));
                Poll::Ready(Err(ServeError::Silent("preface")))
            }
        }
    })
    .await
}

async fn linger<IO: AsyncRead + AsyncWrite + Unpin>(wire: &Wire<IO>, limits: &Limits) {
    let mut shutting = wire.clone();
    let mut budget = LINGER_BYTES_MAX;
    let mut waiting = Timer::default();
    let mut is_shut = false;
    poll_fn(|cx| {
        if !is_shut {
            match Pin::new(&mut shutting).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => is_shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        loop {
            match wire.poll_discard(cx) {
                Poll::Ready(Ok(read @ 1..)) if read < budget => budget -= read,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return waiting.poll_after(LINGER.min(limits.write_timeout), cx),
            }
        }
    })
    .await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client was told to open no more streams.
    GoingAway,
    /// The connection ends as soon as that is written.
    Closing(Option<Flood>),
}

/// What the connection waits for while nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The rest of a header block or another small frame.
    Rest,
    /// The next stream.
    Stream,
    /// Any sign of life, while streams are open.
    Life,
    /// The answer to a PING.
    Pong,
    /// The client's leaving.
    Leaving,
}

struct Turns<'a, IO, F> {
    connection: Connection<Wire<IO>, Bytes>,
    wire: &'a Wire<IO>,
    gauge: &'a Gauge,
    limits: &'a Limits,
    streams: FuturesUnordered<F>,
    begun_streams: Begun,
    pings: Option<PingPong>,
    phase: Phase,
    waiting: Timer,
    waits_for: Wait,
    /// Bytes read and frames begun when that was last looked at.
    read: u64,
    begun: u64,
    /// Whether a stream began since then.
    was_used: bool,
    /// Bytes sent when that was last looked at.
    sent: u64,
}

impl<IO, F> Turns<'_, IO, F>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Future<Output = Result<(), Stop>>,
{
    /// GOAWAY, and finish what is under way.
    fn go_away(&mut self) {
        self.phase = Phase::GoingAway;
        self.connection.graceful_shutdown();
    }

    /// GOAWAY, and nothing more.
    fn close(&mut self, reason: Reason, flood: Option<Flood>) {
        self.phase = Phase::Closing(flood);
        self.streams = FuturesUnordered::new();
        self.connection.abrupt_shutdown(reason);
    }

    fn poll<H: Handler>(
        &mut self,
        handler: &H,
        begin: &impl Fn(http::Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) -> F,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ServeError>> {
        loop {
            self.run_streams(cx);
            let began = self.streams.len();
            if let Poll::Ready(ended) = self.poll_frames(begin, cx) {
                return Poll::Ready(self.ended(ended, handler));
            }
            if let Some(flood) = self.gauge.flood().filter(|_| !matches!(self.phase, Phase::Closing(_))) {
                self.close(Reason::ENHANCE_YOUR_CALM, Some(flood));
                continue;
            }
            if self.streams.len() == began {
                break;
            }
        }
        self.tell_faulted(handler);
        if let Poll::Ready(Err(error)) = self.wire.poll_send(self.limits.write_timeout, cx) {
            return Poll::Ready(Err(error.into()));
        }
        self.poll_waiting(handler, cx)
    }

    fn run_streams(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(_)) = self.streams.poll_next_unpin(cx) {}
    }

    /// Handles all frames that are there; ready at the connection's end.
    fn poll_frames(
        &mut self,
        begin: &impl Fn(http::Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) -> F,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), h2::Error>> {
        if matches!(self.phase, Phase::Closing(_)) {
            return self.connection.poll_closed(cx);
        }
        // A stream that its client gave up counts until its handler has been dropped.
        while self.streams.len() < self.limits.streams_max as usize {
            match ready!(self.connection.poll_accept(cx)) {
                Some(Ok((request, respond))) => {
                    self.was_used = true;
                    self.begun_streams.begin(respond.stream_id().as_u32());
                    self.streams.push(begin(request, respond));
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
        self.connection.poll_closed(cx)
    }

    fn ended<H: Handler>(&mut self, ended: Result<(), h2::Error>, handler: &H) -> Result<(), ServeError> {
        if let Phase::Closing(Some(flood)) = self.phase {
            return Err(flood.into());
        }
        let Err(error) = ended else { return Ok(()) };
        if error.is_library() {
            if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
                return Err(Flood::Engine.into());
            }
            let reason = "the connection breaks HTTP/2's rules";
            handler.refused(&Refusal { status: StatusCode::BAD_REQUEST, reason }, b"");
        }
        Err(error.into())
    }

    /// What `h2` found malformed or far too large never became a request.
    fn tell_faulted<H: Handler>(&mut self, handler: &H) {
        let begun = &mut self.begun_streams;
        self.gauge.answered(|Answered { stream, is_reset }| {
            if !begun.is_news(stream) {
                return;
            }
            let (status, reason) = match is_reset {
                true => (StatusCode::BAD_REQUEST, "request breaks HTTP/2's rules"),
                false => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "header list is far too long"),
            };
            handler.refused(&Refusal { status, reason }, b"");
        });
    }

    /// Waits, but not for ever.
    fn poll_waiting<H: Handler>(&mut self, handler: &H, cx: &mut Context<'_>) -> Poll<Result<(), ServeError>> {
        let read = self.gauge.read();
        let has_read = std::mem::replace(&mut self.read, read) != read;
        let begun = self.gauge.begun();
        let is_another = std::mem::replace(&mut self.begun, begun) != begun;
        let was_used = std::mem::take(&mut self.was_used);
        let waits_for = match self.phase {
            Phase::Closing(_) => Wait::Leaving,
            _ if self.gauge.awaits_rest() => Wait::Rest,
            Phase::GoingAway if self.streams.is_empty() => Wait::Leaving,
            _ if self.streams.is_empty() => Wait::Stream,
            _ if self.waits_for == Wait::Pong && !has_read => Wait::Pong,
            _ => Wait::Life,
        };
        let starts_anew = match waits_for {
            Wait::Rest => is_another,
            Wait::Stream => was_used,
            Wait::Life => has_read,
            Wait::Pong => false,
            // What `h2` still holds of the last answers goes out meanwhile.
            Wait::Leaving => std::mem::replace(&mut self.sent, self.wire.sent()) != self.wire.sent(),
        };
        if waits_for != self.waits_for || starts_anew {
            self.waiting.clear();
        }
        self.waits_for = waits_for;
        let after = match waits_for {
            Wait::Rest => self.limits.head_timeout,
            Wait::Leaving => LINGER,
            Wait::Stream | Wait::Life | Wait::Pong => self.limits.idle_timeout,
        };
        ready!(self.waiting.poll_after(after, cx));
        self.waiting.clear();
        cx.waker().wake_by_ref();
        match waits_for {
            Wait::Rest => return Poll::Ready(Err(ServeError::Silent("end of a frame"))),
            Wait::Pong => return Poll::Ready(Err(ServeError::Silent("answer to a ping"))),
            Wait::Stream => self.go_away(),
            Wait::Leaving if matches!(self.phase, Phase::Closing(_)) => {
                return Poll::Ready(self.ended(Ok(()), handler));
            }
            Wait::Leaving => self.close(Reason::NO_ERROR, None),
            Wait::Life => {
                self.waits_for = Wait::Pong;
                if let Some(pings) = &mut self.pings {
                    // The last one's answer makes room for this one; an error shows as an answer that doesn't come.
                    let _ = pings.poll_pong(cx);
                    pings.send_ping(Ping::opaque()).ok();
                }
            }
        }
        Poll::Pending
    }
}
