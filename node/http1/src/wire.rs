//! One connection's stream with its read buffer, body decoder and deadlines.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::body::BodyError;
use crate::chunked::{Decoder, Step};
use crate::outbox::Outbox;
use crate::timer::Timer;

const SCRATCH_BYTES: usize = 64 * 1024;
const LARGE_READ_BYTES: usize = 64 * 1024;
/// From this many expected bytes on, a read goes into its own buffer instead of being copied out of the scratch.
const DIRECT_READ_BYTES: u64 = 16 * 1024;

thread_local! {
    /// Where reads of unknown size land first, so that a waiting connection needs no buffer of its own.
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

fn with_scratch<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; SCRATCH_BYTES].into_boxed_slice());
    let result = read(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}

pub(crate) struct Wire<IO> {
    pub(crate) io: IO,
    /// Read and not yet parsed.
    pub(crate) buffer: BytesMut,
    /// Of the message that is being read.
    pub(crate) decoder: Decoder,
    pub(crate) reading: Timer,
    pub(crate) writing: Timer,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    pub(crate) fn new(io: IO) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            decoder: Decoder::Done(None),
            reading: Timer::default(),
            writing: Timer::default(),
        }
    }

    /// Reads once into the buffer; 0 is the end of the stream.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.decoder.expected() >= DIRECT_READ_BYTES {
            if self.buffer.capacity() - self.buffer.len() < DIRECT_READ_BYTES as usize {
                // Takes the same memory again if the pieces handed out of it are gone.
                self.buffer.reserve(LARGE_READ_BYTES);
            }
            return pin!(self.io.read_buf(&mut self.buffer)).poll(cx);
        }
        with_scratch(|scratch| {
            let mut space = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut space))?;
            self.buffer.extend_from_slice(space.filled());
            Poll::Ready(Ok(space.filled().len()))
        })
    }

    /// Reads once and shows what came to `take`, which says how much of it it has taken; the rest goes into the buffer,
    /// which is empty. 0 is the end of the stream.
    pub(crate) fn poll_fill_via(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8], &mut Context<'_>) -> usize,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.buffer.is_empty());
        with_scratch(|scratch| {
            let mut space = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut space))?;
            let filled = space.filled();
            if !filled.is_empty() {
                let taken = take(filled, cx);
                if taken < filled.len() {
                    self.buffer = BytesMut::from(&filled[taken..]);
                }
            }
            Poll::Ready(Ok(filled.len()))
        })
    }

    /// The next piece of the body that is being read.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        idle_timeout: Duration,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match self.decoder.step(&mut self.buffer) {
                Ok(Step::Data(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(Step::End) => return Poll::Ready(None),
                Ok(Step::More) => {}
                Err(reason) => return Poll::Ready(Some(Err(BodyError::Framing(reason)))),
            }
            let error = match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) if matches!(self.decoder, Decoder::UntilClose) => {
                    self.decoder = Decoder::Done(None);
                    continue;
                }
                Poll::Ready(Ok(0)) => BodyError::Closed,
                Poll::Ready(Ok(_)) => {
                    self.reading.clear();
                    continue;
                }
                Poll::Ready(Err(error)) => BodyError::Io(error.kind()),
                Poll::Pending => {
                    ready!(self.reading.poll_after(idle_timeout, cx));
                    BodyError::Timeout
                }
            };
            self.decoder = Decoder::Failed;
            return Poll::Ready(Some(Err(error)));
        }
    }

    /// Writes and flushes all of `out`.
    pub(crate) fn poll_write(
        &mut self,
        out: &mut Outbox,
        cx: &mut Context<'_>,
        timeout: Duration,
    ) -> Poll<io::Result<()>> {
        loop {
            match out.poll_write(&mut self.io, cx) {
                Poll::Ready(Ok(finished)) => {
                    self.writing.clear();
                    if finished {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(self.writing.poll_after(timeout, cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
    }
}
