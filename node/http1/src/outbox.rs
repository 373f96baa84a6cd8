//! Bytes on their way out: small pieces are gathered into one buffer, large ones are kept as they are and written with
//! one vectored call.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::spare;

/// Up to this size copying is cheaper than another slice in the vectored write.
const COPY_BYTES_MAX: usize = 8 * 1024;
const SLICES_MAX: usize = 16;

#[derive(Default)]
pub(crate) struct Outbox {
    parts: VecDeque<Bytes>,
    /// What comes after `parts`, from `tail_at` on.
    tail: Vec<u8>,
    tail_at: usize,
    queued: usize,
    written: u64,
    unflushed: bool,
}

impl Outbox {
    /// An outbox with room for a head.
    pub(crate) fn new() -> Self {
        let mut outbox = Self::default();
        outbox.make_room();
        outbox
    }

    /// Gets room for a head if there is none.
    pub(crate) fn make_room(&mut self) {
        if self.tail.capacity() == 0 {
            self.tail = spare::take();
        }
    }

    /// Bytes not yet written.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether everything is written and flushed.
    pub(crate) fn is_done(&self) -> bool {
        self.queued == 0 && !self.unflushed
    }

    /// Bytes the stream has taken so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.queued += bytes.len();
    }

    /// Lets `write` append to what is queued.
    pub(crate) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.tail.len();
        write(&mut self.tail);
        self.queued += self.tail.len() - before;
    }

    pub(crate) fn push_data(&mut self, data: Bytes) {
        if data.len() <= COPY_BYTES_MAX {
            return self.push(&data);
        }
        if self.tail_at < self.tail.len() {
            let mut tail = Bytes::from(std::mem::take(&mut self.tail));
            tail.advance(self.tail_at);
            self.parts.push_back(tail);
            self.tail_at = 0;
        }
        self.queued += data.len();
        self.parts.push_back(data);
    }

    pub(crate) fn push_decimal(&mut self, number: u64) {
        let mut digits = [0; 20];
        self.push_number(number, 10, &mut digits);
    }

    pub(crate) fn push_hex(&mut self, number: usize) {
        let mut digits = [0; 16];
        self.push_number(number as u64, 16, &mut digits);
    }

    fn push_number(&mut self, mut number: u64, base: u64, digits: &mut [u8]) {
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b"0123456789abcdef"[(number % base) as usize];
            number /= base;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[at..]);
    }

    /// One write of as much as the stream takes; ready with `true` once everything is written and flushed.
    pub(crate) fn poll_write<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let mut io = Pin::new(io);
        if self.queued == 0 {
            if self.unflushed {
                std::task::ready!(io.as_mut().poll_flush(cx))?;
                self.unflushed = false;
            }
            return Poll::Ready(Ok(true));
        }
        let wrote = if self.parts.is_empty() {
            io.poll_write(cx, &self.tail[self.tail_at..])
        } else if io.is_write_vectored() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut used = 0;
            for (slice, part) in
                slices.iter_mut().zip(self.parts.iter().map(|part| &part[..]).chain([&self.tail[self.tail_at..]]))
            {
                *slice = IoSlice::new(part);
                used += 1;
            }
            io.poll_write_vectored(cx, &slices[..used])
        } else {
            io.poll_write(cx, &self.parts[0])
        };
        match std::task::ready!(wrote)? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            bytes => {
                self.advance(bytes);
                Poll::Ready(Ok(false))
            }
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.queued -= bytes;
        self.written += bytes as u64;
        self.unflushed = true;
        let mut left = bytes;
        while let Some(part) = self.parts.front_mut() {
            if left < part.len() {
                part.advance(left);
                return;
            }
            left -= part.len();
            self.parts.pop_front();
        }
        self.tail_at += left;
        if self.tail_at == self.tail.len() {
            self.tail.clear();
            self.tail_at = 0;
        } else if self.tail_at >= COPY_BYTES_MAX && self.tail_at >= self.tail.len() / 2 {
            // What was written goes away even if the peer never takes all at once.
            self.tail.drain(..self.tail_at);
            self.tail_at = 0;
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        spare::give(std::mem::take(&mut self.tail));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    #[test]
    fn a_slow_reader_does_not_make_it_grow() {
        let (mut near, mut far) = duplex(1000);
        let mut cx = Context::from_waker(Waker::noop());
        let mut out = Outbox::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut sent, mut received) = (0_usize, 0);
        for round in 0..2000_usize {
            // As a message does it: there is always more to write than the peer takes.
            while out.queued() < 64 * 1024 {
                out.push(&[round as u8; 4096]);
                sent += 4096;
            }
            assert!(out.poll_write(&mut near, &mut cx).is_ready());
            let mut taken = [0; 1000];
            received += runtime.block_on(far.read(&mut taken)).unwrap();
            assert!(out.tail.capacity() <= 512 * 1024, "{}", out.tail.capacity());
        }
        assert_eq!(sent - received, out.queued());
    }
}
