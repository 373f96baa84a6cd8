//! A request or response body: nothing, bytes at hand, or a source that is read only when asked.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

/// Why a body ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The bytes break the framing, or the body isn't as long as it says.
    #[error("body framing: {0}")]
    Framing(&'static str),
    /// The peer closed before the body was complete, or the exchange that it belonged to is over.
    #[error("connection closed within the body")]
    Closed,
    /// The peer sent nothing for too long.
    #[error("no body bytes within the timeout")]
    Timeout,
    /// Whoever it is for may not have more of it.
    #[error("withdrawn before its end")]
    Withdrawn,
    /// Reading failed.
    #[error("reading the body: {0}")]
    Io(io::ErrorKind),
}

/// Why a body couldn't be collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// It is longer than the caller accepts.
    #[error("body is too large")]
    TooLarge,
    /// It failed.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// Makes a body's bytes when they are asked for. It isn't polled again after `None` or an error.
pub trait Source {
    /// The next piece; empty pieces are allowed and mean nothing.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>>;

    /// Bytes left, if that is known exactly. The engine closes the connection when it proves wrong.
    fn length(&self) -> Option<u64> {
        None
    }

    /// The trailers, asked for once after the end.
    fn take_trailers(&mut self) -> Option<HeaderMap> {
        None
    }

    /// Called while the reader of this body is held up elsewhere, for work that must go on meanwhile. An error ends the body
    /// at once.
    fn poll_progress(&mut self, _cx: &mut Context<'_>) -> Result<(), BodyError> {
        Ok(())
    }
}

/// A request or response body, from either side or made here.
///
/// Nothing is read before [`next`](Self::next) asks for it. Dropping a body that came from a connection before its end
/// gives up that connection (an upstream's) or leaves the rest to be drained (a downstream's).
#[derive(Default)]
pub struct Body {
    kind: Kind,
    trailers: Option<Box<HeaderMap>>,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Source(Box<dyn Source>),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { kind: if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) }, trailers: None }
    }

    /// The bytes that `source` makes.
    pub fn from_source(source: impl Source + 'static) -> Self {
        Self::from_box(Box::new(source))
    }

    /// The same for one that lies in a box already.
    pub fn from_box(source: Box<dyn Source>) -> Self {
        Self { kind: Kind::Source(source), trailers: None }
    }

    /// Bytes left, if known exactly.
    pub fn length(&self) -> Option<u64> {
        match &self.kind {
            Kind::Empty => Some(0),
            Kind::Full(bytes) => Some(bytes.len() as u64),
            Kind::Source(source) => source.length(),
        }
    }

    /// Whether all of it is there, so that nothing can go wrong with it.
    pub(crate) fn is_at_hand(&self) -> bool {
        matches!(self.kind, Kind::Empty | Kind::Full(_))
    }

    /// Whether nothing is left. A body of unknown length isn't at its end until [`next`](Self::next) said so.
    pub fn is_end(&self) -> bool {
        self.length() == Some(0)
    }

    /// The next bytes, `None` at the end. After an error only `None` follows.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Self::next) as a poll function.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let source = match &mut self.kind {
            Kind::Empty => return Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                return Poll::Ready(Some(Ok(bytes)));
            }
            Kind::Source(source) => source,
        };
        let next = ready!(source.poll_next(cx));
        if !matches!(next, Some(Ok(_))) {
            // The source is dropped at once, for what it holds (a connection) may be of use elsewhere.
            self.trailers = source.take_trailers().map(Box::new);
            self.kind = Kind::Empty;
        }
        Poll::Ready(next)
    }

    /// The trailers, once, after [`next`](Self::next) returned `None`.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().map(|trailers| *trailers)
    }

    /// All bytes that are left, if they are at most `bytes_max`.
    pub async fn collect(mut self, bytes_max: usize) -> Result<Bytes, CollectError> {
        if self.length().is_some_and(|length| length > bytes_max as u64) {
            return Err(CollectError::TooLarge);
        }
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await {
            let piece = piece?;
            if piece.len() > bytes_max - first.len() - all.len() {
                return Err(CollectError::TooLarge);
            }
            if first.is_empty() && all.is_empty() {
                first = piece;
            } else {
                all.extend_from_slice(&std::mem::take(&mut first));
                all.extend_from_slice(&piece);
            }
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }

    /// Lets the source work on while the reader is held up; a source that wraps a body passes this on.
    ///
    /// # Errors
    /// If the body is to be given up.
    pub fn poll_progress(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        match &mut self.kind {
            Kind::Source(source) => source.poll_progress(cx),
            _ => Ok(()),
        }
    }

    /// A second copy of this body, if it can be sent twice.
    pub fn replay(&self) -> Option<Self> {
        match &self.kind {
            Kind::Empty => Some(Self::empty()),
            Kind::Full(bytes) => Some(Self::full(bytes.clone())),
            Kind::Source(_) => None,
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("length", &self.length()).finish_non_exhaustive()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}
