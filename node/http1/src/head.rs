//! Message heads: a strict scan of their bytes first, `httparse` for the grammar afterwards.
//!
//! The scan sees what a parser hides: bare line feeds, bare carriage returns, folded lines. It works line by line in
//! the order of the bytes, so that its verdict doesn't depend on how they arrived.

pub(crate) mod framing;
pub(crate) mod host;
pub(crate) mod request;
pub(crate) mod response;
#[cfg(test)]
mod tests;
pub(crate) mod trailers;

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

/// No setting allows more header lines than this: it is the room that parsing has on the stack.
pub(crate) const HEADERS_CAP: usize = 256;

/// How far a head has been checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scan {
    line: usize,
    searched: usize,
    past_first: bool,
}

/// What the scan says of the bytes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// No fault, and not the end.
    Partial,
    /// The head is this long, final empty line included.
    Complete(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    FirstLineTooLong,
    TooLong,
    Malformed(&'static str),
}

impl Scan {
    /// For header lines without a start line.
    pub(crate) fn trailers() -> Self {
        Self { past_first: true, ..Self::default() }
    }

    /// Checks what came since the last call; `bytes` begins where it did then.
    pub(crate) fn step(&mut self, bytes: &[u8], first_line_max: usize, total_max: usize) -> Result<Scanned, Fault> {
        while let Some(at) = memchr(b'\n', &bytes[self.searched..]) {
            let feed = self.searched + at;
            if !self.past_first && feed - self.line > first_line_max + 1 {
                return Err(Fault::FirstLineTooLong);
            }
            if feed + 1 > total_max {
                return Err(Fault::TooLong);
            }
            let Some((b'\r', line)) = bytes[self.line..feed].split_last() else {
                return Err(Fault::Malformed("line feed without carriage return"));
            };
            check_line(line, self.past_first)?;
            self.line = feed + 1;
            self.searched = feed + 1;
            if line.is_empty() {
                return match self.past_first {
                    true => Ok(Scanned::Complete(feed + 1)),
                    false => Err(Fault::Malformed("empty start line")),
                };
            }
            self.past_first = true;
        }
        self.searched = bytes.len();
        if !self.past_first && bytes.len() - self.line > first_line_max + 1 {
            return Err(Fault::FirstLineTooLong);
        }
        if bytes.len() > total_max {
            return Err(Fault::TooLong);
        }
        Ok(Scanned::Partial)
    }
}

fn check_line(line: &[u8], is_header: bool) -> Result<(), Fault> {
    if is_header && matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Fault::Malformed("folded header line"));
    }
    // Without an early exit this loop is vectorised.
    let bad = line.iter().fold(false, |bad, &byte| bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f));
    if bad {
        let reason = if line.contains(&b'\r') { "carriage return without line feed" } else { "control byte" };
        return Err(Fault::Malformed(reason));
    }
    Ok(())
}

/// The headers as a map; values are slices of `head`, which they come from.
fn header_map(head: &Bytes, parsed: &[httparse::Header<'_>]) -> Result<HeaderMap, &'static str> {
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| "header name")?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(header.value)).map_err(|_| "header value")?;
        headers.try_append(name, value).map_err(|_| "too many headers")?;
    }
    Ok(headers)
}

/// Uninitialised room for a head's headers.
fn room<'b>() -> [MaybeUninit<httparse::Header<'b>>; HEADERS_CAP] {
    [const { MaybeUninit::uninit() }; HEADERS_CAP]
}
