//! Decoding of bodies: by length, in chunks, or until the connection closes.
//!
//! Works on a buffer and knows no I/O. Chunk framing is read strictly (RFC 9112 §7.1): hexadecimal digits only, CRLF
//! only, extensions bounded, no white space anywhere.

#[cfg(test)]
mod tests;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use crate::head::{Fault, Scan, Scanned, trailers};
use crate::limits::ChunkLimits;

const SIZE_DIGITS_MAX: u8 = 16;

/// Where in a body its reader is.
pub(crate) enum Decoder {
    /// At the end, with the trailers if there were any.
    Done(Option<Box<HeaderMap>>),
    /// This many bytes are left.
    Length(u64),
    Chunked(Chunked),
    /// Everything until the peer closes.
    UntilClose,
    /// The framing was broken or the connection was lost.
    Failed,
}

pub(crate) enum Step {
    Data(Bytes),
    More,
    End,
}

pub(crate) struct Chunked {
    state: State,
    limits: ChunkLimits,
}

enum State {
    Size { value: u64, digits: u8 },
    Extension { value: u64, bytes: usize },
    SizeFeed { value: u64 },
    Data { left: u64 },
    DataReturn,
    DataFeed,
    Trailers(Scan),
}

impl Decoder {
    pub(crate) fn length(length: u64) -> Self {
        if length == 0 { Self::Done(None) } else { Self::Length(length) }
    }

    pub(crate) fn chunked(limits: ChunkLimits) -> Self {
        Self::Chunked(Chunked { state: State::Size { value: 0, digits: 0 }, limits })
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// Body bytes left, if known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Done(_) => Some(0),
            Self::Length(left) => Some(*left),
            _ => None,
        }
    }

    /// How many bytes the next read may expect, to choose its buffer.
    pub(crate) fn expected(&self) -> u64 {
        match self {
            Self::Length(left) | Self::Chunked(Chunked { state: State::Data { left }, .. }) => *left,
            Self::UntilClose => u64::MAX,
            _ => 0,
        }
    }

    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::Done(trailers) => trailers.take().map(|trailers| *trailers),
            _ => None,
        }
    }

    /// Takes the next piece out of `buffer`. After an error the decoder has failed for good.
    pub(crate) fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, &'static str> {
        match self {
            Self::Done(_) => Ok(Step::End),
            Self::Failed => Err("body has failed before"),
            _ if buffer.is_empty() => Ok(Step::More),
            Self::Length(left) => {
                let data = take(buffer, left);
                if *left == 0 {
                    *self = Self::Done(None);
                }
                Ok(Step::Data(data))
            }
            Self::UntilClose => Ok(Step::Data(buffer.split().freeze())),
            Self::Chunked(chunked) => match chunked.step(buffer) {
                Ok(Progress::Data(data)) => Ok(Step::Data(data)),
                Ok(Progress::More) => Ok(Step::More),
                Ok(Progress::End(trailers)) => {
                    *self = Self::Done(trailers);
                    Ok(Step::End)
                }
                Err(reason) => {
                    *self = Self::Failed;
                    Err(reason)
                }
            },
        }
    }
}

enum Progress {
    Data(Bytes),
    More,
    End(Option<Box<HeaderMap>>),
}

fn take(buffer: &mut BytesMut, left: &mut u64) -> Bytes {
    let bytes = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= bytes as u64;
    if bytes == buffer.len() { buffer.split().freeze() } else { buffer.split_to(bytes).freeze() }
}

impl Chunked {
    fn step(&mut self, buffer: &mut BytesMut) -> Result<Progress, &'static str> {
        loop {
            if let State::Trailers(scan) = &mut self.state {
                return finish(scan, buffer, self.limits);
            }
            if let State::Data { left } = &mut self.state {
                if buffer.is_empty() {
                    return Ok(Progress::More);
                }
                let data = take(buffer, left);
                if *left == 0 {
                    self.state = State::DataReturn;
                }
                return Ok(Progress::Data(data));
            }
            if !buffer.has_remaining() {
                return Ok(Progress::More);
            }
            self.framing_byte(buffer.get_u8())?;
        }
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), &'static str> {
        self.state = match (&self.state, byte) {
            (State::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if *digits == SIZE_DIGITS_MAX {
                    return Err("chunk size is too long");
                }
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    _ => (byte | 0x20) - b'a' + 10,
                };
                State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err("chunk size is missing"),
            (State::Size { value, .. } | State::Extension { value, .. }, b'\r') => State::SizeFeed { value: *value },
            (State::Size { value, .. }, b';') => State::Extension { value: *value, bytes: 1 },
            (State::Size { .. }, _) => return Err("chunk size is not hexadecimal"),
            (State::Extension { .. }, 0..=0x08 | 0x0a..=0x1f | 0x7f) => return Err("control byte in chunk extension"),
            (State::Extension { value, bytes }, _) => {
                if *bytes >= self.limits.extension_bytes_max {
                    return Err("chunk extension is too long");
                }
                State::Extension { value: *value, bytes: bytes + 1 }
            }
            (State::SizeFeed { value: 0 }, b'\n') => State::Trailers(Scan::trailers()),
            (State::SizeFeed { value }, b'\n') => State::Data { left: *value },
            (State::DataReturn, b'\r') => State::DataFeed,
            (State::DataFeed, b'\n') => State::Size { value: 0, digits: 0 },
            (State::SizeFeed { .. }, _) => return Err("carriage return without line feed in chunk size"),
            _ => return Err("chunk is not followed by CRLF"),
        };
        Ok(())
    }
}

fn finish(scan: &mut Scan, buffer: &mut BytesMut, limits: ChunkLimits) -> Result<Progress, &'static str> {
    // The limit is on the trailer lines; the final CRLF comes on top.
    match scan.step(buffer, usize::MAX - 1, limits.trailer_bytes_max.saturating_add(2)) {
        Ok(Scanned::Partial) => Ok(Progress::More),
        Ok(Scanned::Complete(2)) => {
            buffer.advance(2);
            Ok(Progress::End(None))
        }
        Ok(Scanned::Complete(bytes)) => {
            let trailers = trailers::parse(&buffer.split_to(bytes), limits.trailers_max)?;
            Ok(Progress::End((!trailers.is_empty()).then(|| Box::new(trailers))))
        }
        Err(Fault::FirstLineTooLong | Fault::TooLong) => Err("trailers are too long"),
        Err(Fault::Malformed(reason)) => Err(reason),
    }
}
