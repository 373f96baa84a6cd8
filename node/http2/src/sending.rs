//! A body on its way out, as fast as its recipient gives window for it.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use octelium_http1::shared::Timer;
use octelium_http1::turn::Turn;
use octelium_http1::{Body, BodyError};

use crate::incoming::allowed;

/// Why a stream ended before the body did.
pub(crate) enum Stop {
    /// The recipient gave it up, or the connection ended.
    Gone,
    /// Nobody reads it.
    Slow,
    /// The body failed or isn't as long as it says.
    Body(BodyError),
}

const LONGER: Stop = Stop::Body(BodyError::Framing("body is longer than its length"));
const SHORTER: Stop = Stop::Body(BodyError::Framing("body is shorter than its length"));

/// A body that is being sent.
pub(crate) struct Sending {
    stream: SendStream<Bytes>,
    body: Body,
    /// Bytes that the head promised and that weren't pulled yet.
    left: Option<u64>,
    /// Pulled and not yet sent.
    piece: Bytes,
    waiting: Timer,
    write_timeout: Duration,
    turn: Turn,
}

impl Sending {
    pub(crate) fn new(stream: SendStream<Bytes>, body: Body, write_timeout: Duration) -> Self {
        let left = body.length();
        Self {
            stream,
            left,
            body,
            piece: Bytes::new(),
            waiting: Timer::default(),
            write_timeout,
            turn: Turn::default(),
        }
    }

    /// Sends all of it.
    pub(crate) async fn run(mut self) -> Result<(), Stop> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Sends what can be sent; ready when everything is, or when the stream was ended early.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let result = ready!(self.poll_pieces(cx));
        match &result {
            Ok(()) | Err(Stop::Gone) => {}
            Err(Stop::Slow | Stop::Body(BodyError::Withdrawn)) => self.stream.send_reset(Reason::CANCEL),
            Err(Stop::Body(_)) => self.stream.send_reset(Reason::INTERNAL_ERROR),
        }
        Poll::Ready(result)
    }

    fn poll_pieces(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        loop {
            if self.turn.poll(cx).is_pending() {
                return self.stream.poll_reset(cx).map(|_| Err(Stop::Gone));
            }
            if self.piece.is_empty() {
                // Nothing is pulled before there is window for some of it.
                ready!(self.poll_window(1, cx))?;
                match self.body.poll_next(cx) {
                    Poll::Ready(Some(Ok(piece))) if piece.is_empty() => continue,
                    Poll::Ready(Some(Ok(piece))) => {
                        if let Some(left) = &mut self.left {
                            *left = left.checked_sub(piece.len() as u64).ok_or(LONGER)?;
                        }
                        self.piece = piece;
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Stop::Body(error))),
                    Poll::Ready(None) => return Poll::Ready(self.end()),
                    Poll::Pending => {
                        // A client that leaves meanwhile is noticed here.
                        return self.stream.poll_reset(cx).map(|_| Err(Stop::Gone));
                    }
                }
            }
            let room = ready!(self.poll_window(self.piece.len(), cx))?;
            let piece = self.piece.split_to(room.min(self.piece.len()));
            self.turn.moved(piece.len());
            let is_last = self.piece.is_empty() && self.left == Some(0);
            self.stream.send_data(piece, is_last).map_err(|_| Stop::Gone)?;
            if is_last {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Waits until at least one byte may be sent; says how many.
    fn poll_window(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, Stop>> {
        self.stream.reserve_capacity(wanted);
        loop {
            let room = self.stream.capacity();
            if room > 0 {
                self.waiting.clear();
                return Poll::Ready(Ok(room));
            }
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(Err(Stop::Gone)),
                Poll::Pending => {
                    if self.waiting.poll_after(self.write_timeout, cx).is_ready() {
                        return Poll::Ready(Err(Stop::Slow));
                    }
                    return match self.body.poll_progress(cx) {
                        Ok(()) => Poll::Pending,
                        Err(error) => Poll::Ready(Err(Stop::Body(error))),
                    };
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), Stop> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(SHORTER);
        }
        let trailers = self.body.take_trailers().map(allowed).filter(|trailers| !trailers.is_empty());
        match trailers {
            Some(trailers) => self.stream.send_trailers(trailers),
            None => self.stream.send_data(Bytes::new(), true),
        }
        .map_err(|_| Stop::Gone)
    }
}
