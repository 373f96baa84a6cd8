//! What a connection begins with: bytes that decide who reads the rest.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use octelium_http2::PREFACE;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Enough for most first requests; what is longer is read by whoever reads on.
const FIRST_BYTES: usize = 2048;

/// A stream of which some bytes were looked at before; they are read again.
pub struct Replayed<IO> {
    first: Bytes,
    io: IO,
}

impl<IO: AsyncRead + Unpin> Replayed<IO> {
    /// Nothing was looked at.
    pub fn new(io: IO) -> Self {
        Self { first: Bytes::new(), io }
    }

    /// Reads once more into `seen`, however little there is; 0 is the end.
    ///
    /// # Errors
    /// If reading fails.
    pub async fn look(&mut self, seen: &mut BytesMut) -> io::Result<usize> {
        // The room is on the stack of one poll: a connection that waits holds none.
        poll_fn(|cx| {
            let mut room = [MaybeUninit::uninit(); FIRST_BYTES];
            let mut room = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut *self).poll_read(cx, &mut room))?;
            seen.extend_from_slice(room.filled());
            Poll::Ready(Ok(room.filled().len()))
        })
        .await
    }

    /// Puts back what was looked at and isn't used up.
    pub fn put_back(&mut self, seen: BytesMut) {
        debug_assert!(self.first.is_empty(), "what was put back before is looked at first");
        self.first = seen.freeze();
    }

    /// Whether `seen` and what follows are HTTP/2; reads on while it could be.
    ///
    /// # Errors
    /// If reading fails.
    pub async fn begins_http2(&mut self, seen: &mut BytesMut) -> io::Result<bool> {
        loop {
            let length = seen.len().min(PREFACE.len());
            if seen[..length] != PREFACE[..length] {
                return Ok(false);
            }
            if length == PREFACE.len() {
                return Ok(true);
            }
            if self.look(seen).await? == 0 {
                return Ok(false);
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Replayed<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let length = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..length]);
        self.first.advance(length);
        if self.first.is_empty() {
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Replayed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn the_preface_is_told_apart_however_it_arrives_and_nothing_is_lost() {
        let cases: [(&[u8], bool); 6] = [
            (b"GET / HTTP/1.1\r\n\r\n", false),
            (b"P", false),
            (b"POST / HTTP/1.1\r\n\r\n", false),
            (b"PRI / HTTP/1.1\r\n\r\n", false),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", true),
        ];
        for (bytes, expected) in cases {
            for piece in [1, 5, 1000] {
                let (mut near, far) = duplex(64);
                let write = async {
                    for piece in bytes.chunks(piece) {
                        near.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    drop(near);
                };
                let read = async {
                    let mut io = Replayed::new(far);
                    let mut seen = BytesMut::new();
                    io.look(&mut seen).await.unwrap();
                    let found = io.begins_http2(&mut seen).await.unwrap();
                    io.put_back(seen);
                    let mut all = Vec::new();
                    io.read_to_end(&mut all).await.unwrap();
                    (found, all)
                };
                let ((), found) = tokio::join!(write, read);
                assert_eq!(found, (expected, bytes.to_vec()));
            }
        }
    }
}
