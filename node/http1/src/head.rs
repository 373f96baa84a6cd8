//! Message heads: a strict scan of their bytes first, `httparse` for the grammar afterwards.
//!
//! The scan sees what the parser hides: line feeds without carriage return, and folded lines. It works line by line in the
//! order of the bytes, so that its verdict doesn't depend on how they arrived. Control bytes and bare carriage returns are
//! left to `httparse`, which refuses them everywhere.

pub(crate) mod facts;
pub(crate) mod framing;
pub mod host;
pub(crate) mod request;
pub(crate) mod response;
#[cfg(test)]
mod tests;
pub(crate) mod trailers;

use std::mem::MaybeUninit;

use memchr::memchr_iter;

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
    /// Whether nothing has been checked yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.searched == 0
    }

    /// For header lines without a start line.
    pub(crate) fn trailers() -> Self {
        Self { past_first: true, ..Self::default() }
    }

    /// Checks what came since the last call; `bytes` begins where it did then.
    pub(crate) fn step(&mut self, bytes: &[u8], first_line_max: usize, total_max: usize) -> Result<Scanned, Fault> {
        let searched = self.searched;
        for feed in memchr_iter(b'\n', &bytes[searched..]).map(|at| searched + at) {
            if !self.past_first && feed - self.line > first_line_max + 1 {
                return Err(Fault::FirstLineTooLong);
            }
            if feed + 1 > total_max {
                return Err(Fault::TooLong);
            }
            let Some((b'\r', line)) = bytes[self.line..feed].split_last() else {
                return Err(Fault::Malformed("line feed without carriage return"));
            };
            if self.past_first && matches!(line.first(), Some(b' ' | b'\t')) {
                return Err(Fault::Malformed("folded header line"));
            }
            let is_last = line.is_empty();
            self.line = feed + 1;
            self.searched = feed + 1;
            if is_last {
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

/// Whether the scan would accept a head that `httparse` has accepted: its header lines follow one another from `at` on, and end as
/// lines must. For heads that are there as a whole, which most are; says no of some that the scan accepts.
fn is_strict(head: &[u8], mut at: usize, headers: &[httparse::Header<'_>]) -> bool {
    let offset = |part: &[u8]| (part.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
    for header in headers {
        // An empty value may point anywhere: that is for the scan.
        if offset(header.name.as_bytes()) != at || header.value.is_empty() {
            return false;
        }
        let end = offset(header.value) + header.value.len();
        if head.get(end..end + 2) != Some(b"\r\n") {
            return false;
        }
        at = end + 2;
    }
    head.get(at..) == Some(b"\r\n")
}

/// Uninitialised room for a head's headers.
fn room<'b>() -> [MaybeUninit<httparse::Header<'b>>; HEADERS_CAP] {
    [const { MaybeUninit::uninit() }; HEADERS_CAP]
}
