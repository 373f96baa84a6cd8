//! A message on its way out: its head, then its body, framed here and pulled only as fast as the peer takes it.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use crate::body::{Body, BodyError};
use crate::head::trailers;
use crate::outbox::Outbox;
use crate::turn::Turn;

/// More of the body isn't pulled while this much waits to be written.
const QUEUED_BYTES_MAX: usize = 64 * 1024;

/// How the body's end is told to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body.
    None,
    /// This many bytes are left to send.
    Length(u64),
    Chunked,
    /// By closing the connection.
    UntilClose,
}

pub(crate) enum SendingError {
    Body(BodyError),
    Io(io::Error),
}

pub(crate) struct Sending {
    pub(crate) out: Outbox,
    body: Body,
    framing: Framing,
    ended: bool,
    /// What is wrong with the body, to be told once what came before it is written.
    failed: Option<BodyError>,
    turn: Turn,
}

impl Sending {
    /// `out` holds the head.
    pub(crate) fn new(out: Outbox, body: Body, framing: Framing) -> Self {
        let ended = matches!(framing, Framing::None | Framing::Length(0));
        let body = if ended { Body::empty() } else { body };
        Self { out, body, framing, ended, failed: None, turn: Turn::default() }
    }

    /// What is left of a message whose body has ended.
    pub(crate) fn rest(out: Outbox) -> Self {
        Self::new(out, Body::empty(), Framing::None)
    }

    /// Takes what there is of the body, without writing; whether that was all.
    pub(crate) fn gather(&mut self, cx: &mut Context<'_>) -> bool {
        match self.pull(cx) {
            Ok(_) => self.ended,
            Err(error) => {
                self.failed = Some(error);
                false
            }
        }
    }

    /// Whether nothing more is wanted of the body; what is left is writing.
    pub(crate) fn has_all(&self) -> bool {
        self.ended
    }

    /// Sends what there is; ready when everything is written. `flush` writes the outbox to the stream.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut flush: impl FnMut(&mut Outbox, &mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<Result<(), SendingError>> {
        loop {
            if self.turn.poll(cx).is_pending() {
                return Poll::Pending;
            }
            let stalled = self.pull(cx);
            self.turn.moved(self.out.queued());
            match flush(&mut self.out, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(SendingError::Io(error))),
                Poll::Pending => {
                    if let Err(error) = stalled {
                        return Poll::Ready(Err(SendingError::Body(error)));
                    }
                    return match self.body.poll_progress(cx) {
                        Ok(()) => Poll::Pending,
                        Err(error) => Poll::Ready(Err(SendingError::Body(error))),
                    };
                }
            }
            match stalled {
                Err(error) => return Poll::Ready(Err(SendingError::Body(error))),
                Ok(_) if self.ended => return Poll::Ready(Ok(())),
                Ok(true) => return Poll::Pending,
                Ok(false) => {}
            }
        }
    }

    /// Moves body bytes into the outbox until it is full, the body ends (`false`) or has none at the moment (`true`).
    fn pull(&mut self, cx: &mut Context<'_>) -> Result<bool, BodyError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        while !self.ended && self.out.queued() < QUEUED_BYTES_MAX {
            match self.body.poll_next(cx) {
                Poll::Ready(Some(Ok(data))) => self.push(data)?,
                Poll::Ready(Some(Err(error))) => return Err(error),
                Poll::Ready(None) => self.end()?,
                Poll::Pending => return Ok(true),
            }
        }
        Ok(false)
    }

    fn push(&mut self, data: Bytes) -> Result<(), BodyError> {
        // An empty chunk would be the last one.
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framing::None => {}
            Framing::UntilClose => self.out.push_data(data),
            Framing::Length(left) => {
                *left =
                    left.checked_sub(data.len() as u64).ok_or(BodyError::Framing("body is longer than its length"))?;
                self.ended = *left == 0;
                self.out.push_data(data);
            }
            Framing::Chunked => {
                self.out.push_hex(data.len());
                self.out.push(b"\r\n");
                self.out.push_data(data);
                self.out.push(b"\r\n");
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), BodyError> {
        self.ended = true;
        match self.framing {
            Framing::None | Framing::UntilClose | Framing::Length(0) => {}
            Framing::Length(_) => return Err(BodyError::Framing("body is shorter than its length")),
            Framing::Chunked => {
                self.out.push(b"0\r\n");
                if let Some(trailers) = self.body.take_trailers() {
                    push_trailers(&mut self.out, &trailers);
                }
                self.out.push(b"\r\n");
            }
        }
        Ok(())
    }
}

/// Writes one header line.
pub(crate) fn push_header(out: &mut Outbox, name: &str, value: &[u8]) {
    out.push(name.as_bytes());
    out.push(b": ");
    out.push(value);
    out.push(b"\r\n");
}

fn push_trailers(out: &mut Outbox, trailers: &HeaderMap) {
    for (name, value) in trailers {
        if trailers::is_allowed(name.as_str()) {
            push_header(out, name.as_str(), value.as_bytes());
        }
    }
}
