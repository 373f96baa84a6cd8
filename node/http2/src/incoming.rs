//! A body that arrives: window is given back to its sender only for what was taken out of here.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use octelium_http1::shared::{Timer, trailer_is_allowed};
use octelium_http1::{BodyError, Source};

pub(crate) struct Incoming {
    stream: RecvStream,
    /// Bytes left, if the sender said how many.
    left: Option<u64>,
    /// Set when the body is first asked for, if the client waits for that.
    pub(crate) wanted: Option<Rc<Cell<bool>>>,
    trailers_max: usize,
    idle_timeout: Duration,
    /// Handed out last; asking for more says that it is used.
    held: usize,
    has_data_ended: bool,
    trailers: Option<HeaderMap>,
    idle: Timer,
}

impl Incoming {
    pub(crate) fn new(stream: RecvStream, left: Option<u64>, trailers_max: usize, idle_timeout: Duration) -> Self {
        Self {
            stream,
            left,
            wanted: None,
            trailers_max,
            idle_timeout,
            held: 0,
            has_data_ended: false,
            trailers: None,
            idle: Timer::default(),
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if !self.has_data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.held = data.len();
                    if let Some(left) = &mut self.left {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(body_error(&error)))),
                None => self.has_data_ended = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(None) => Poll::Ready(None),
            Ok(Some(trailers)) if trailers.len() > self.trailers_max => {
                Poll::Ready(Some(Err(BodyError::Framing("too many trailers"))))
            }
            Ok(Some(trailers)) => {
                self.trailers = Some(allowed(trailers));
                Poll::Ready(None)
            }
            Err(error) => Poll::Ready(Some(Err(body_error(&error)))),
        }
    }
}

impl Source for Incoming {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(wanted) = self.wanted.take() {
            wanted.set(true);
        }
        let held = std::mem::take(&mut self.held);
        if held > 0 && self.stream.flow_control().release_capacity(held).is_err() {
            return Poll::Ready(Some(Err(BodyError::Closed)));
        }
        match self.poll_piece(cx) {
            Poll::Ready(next) => {
                self.idle.clear();
                Poll::Ready(next)
            }
            Poll::Pending => {
                ready!(self.idle.poll_after(self.idle_timeout, cx));
                Poll::Ready(Some(Err(BodyError::Timeout)))
            }
        }
    }

    fn length(&self) -> Option<u64> {
        self.left
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }
}

/// Without those that a recipient would have had to know before the body.
pub(crate) fn allowed(mut trailers: HeaderMap) -> HeaderMap {
    let forbidden: Vec<_> = trailers.keys().filter(|name| !trailer_is_allowed(name.as_str())).cloned().collect();
    for name in forbidden {
        trailers.remove(name);
    }
    trailers
}

fn body_error(error: &h2::Error) -> BodyError {
    if let Some(error) = error.get_io() {
        BodyError::Io(error.kind())
    } else if error.is_library() {
        BodyError::Framing("the body breaks HTTP/2's rules")
    } else {
        BodyError::Closed
    }
}
