//! Finds the frames in a stream of bytes without keeping any of them (RFC 9113 §4.1).

use crate::PREFACE;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const HEAD_BYTES: usize = 9;
/// RST_STREAM is looked at with its error code.
const RESET_BYTES: usize = HEAD_BYTES + 4;

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) length: u32,
    pub(crate) kind: u8,
    flags: u8,
    pub(crate) stream: u32,
    /// Of a RST_STREAM.
    pub(crate) code: u32,
}

impl Frame {
    fn parse(head: &[u8; RESET_BYTES]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3, c0, c1, c2, c3] = *head;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
            code: u32::from_be_bytes([c0, c1, c2, c3]),
        }
    }

    /// Bytes that are kept of it to look at.
    fn seen_bytes(&self) -> usize {
        if self.kind == RST_STREAM && self.length >= 4 { RESET_BYTES } else { HEAD_BYTES }
    }

    pub(crate) fn ends_stream(&self) -> bool {
        self.flags & END_STREAM != 0
    }

    pub(crate) fn ends_headers(&self) -> bool {
        self.flags & END_HEADERS != 0
    }
}

/// Where in the stream the next byte lies.
#[derive(Debug)]
pub(crate) struct Scanner {
    head: [u8; RESET_BYTES],
    have: usize,
    /// Bytes to pass over: of the preface or of a frame.
    skip: usize,
    kind: u8,
}

impl Scanner {
    /// At the beginning of what a client sends.
    pub(crate) fn client() -> Self {
        Self { skip: PREFACE.len(), ..Self::server() }
    }

    /// At the beginning of what a server sends.
    pub(crate) fn server() -> Self {
        Self { head: [0; RESET_BYTES], have: 0, skip: 0, kind: DATA }
    }

    /// Whether a frame other than DATA has begun and hasn't ended.
    pub(crate) fn is_within_control(&self) -> bool {
        self.have > 0 || (self.skip > 0 && self.kind != DATA)
    }

    /// Calls `found` for every frame whose head ends in `bytes`; stops when it says so.
    pub(crate) fn scan<E>(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame) -> Result<(), E>) -> Result<(), E> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            let wanted = if self.have < HEAD_BYTES { HEAD_BYTES } else { RESET_BYTES };
            let taken = (wanted - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == wanted {
                let frame = Frame::parse(&self.head);
                if frame.seen_bytes() > self.have {
                    continue;
                }
                self.skip = frame.length as usize - (self.have - HEAD_BYTES);
                self.have = 0;
                self.kind = frame.kind;
                found(frame)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn scan(scanner: &mut Scanner, bytes: &[u8]) -> Vec<(u8, u32, u32)> {
        let mut seen = Vec::new();
        let scanned = scanner.scan(bytes, |frame| {
            seen.push((frame.kind, frame.length, frame.stream));
            Ok::<_, Infallible>(())
        });
        let Ok(()) = scanned;
        seen
    }

    proptest! {
        #[test]
        fn frames_are_found_however_their_bytes_arrive(
            frames in proptest::collection::vec((any::<u8>(), 0_usize..300, 0_u32..1 << 31), 0..20),
            piece in 1_usize..64,
        ) {
            let mut bytes = PREFACE.to_vec();
            for (kind, length, stream) in &frames {
                bytes.extend(&(*length as u32).to_be_bytes()[1..]);
                bytes.extend([*kind, 0]);
                bytes.extend(stream.to_be_bytes());
                bytes.extend(vec![0xaa; *length]);
            }
            let expected: Vec<_> = frames.iter().map(|(kind, length, stream)| (*kind, *length as u32, *stream)).collect();
            let mut scanner = Scanner::client();
            let seen: Vec<_> = bytes.chunks(piece).flat_map(|piece| scan(&mut scanner, piece)).collect();
            prop_assert_eq!(seen, expected);
            prop_assert!(!scanner.is_within_control());
        }
    }

    #[test]
    fn a_frame_that_has_begun_is_known() {
        let mut scanner = Scanner::server();
        assert!(!scanner.is_within_control());
        scan(&mut scanner, &[0, 0, 2, HEADERS]);
        assert!(scanner.is_within_control(), "within its head");
        scan(&mut scanner, &[0, 0, 0, 0, 1, 9]);
        assert!(scanner.is_within_control(), "within its payload");
        scan(&mut scanner, &[9]);
        assert!(!scanner.is_within_control());
        scan(&mut scanner, &[0, 0, 2, DATA, 0, 0, 0, 0, 1, 9]);
        assert!(!scanner.is_within_control(), "a body has a time of its own");
    }
}
