//! Header lines as spans over one buffer: parsing copies the head once, an edit touches only its own line, and lines that
//! nobody edits are copied out as they came, neighbours together.

mod kind;
mod seen;
mod swar;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::spare;
pub(crate) use kind::Kind;
use seen::Seen;

/// Lists of lines that a thread keeps for its next messages, and the room of those that are worth it.
const KEPT_MAX: usize = 64;
const KEPT_LINES_MAX: usize = 128;
/// Room of a new one.
const NEW_LINES: usize = 16;

thread_local! {
    static KEPT: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// The headers of one message, in their order. Names are lower case; values are any bytes that HTTP allows in them
/// (RFC 9110 §5.5), so no control byte but the tab.
#[derive(Default)]
pub struct Headers {
    /// What the lines point into: a head, and lines in the form in which they are sent.
    bytes: Vec<u8>,
    lines: Vec<Line>,
    /// The names of all lines, also of those that were removed.
    seen: Seen,
    has_underscores: bool,
}

/// One line in the buffer: its name, then somewhere its value.
#[derive(Debug, Clone, Copy)]
struct Line {
    name: u32,
    name_length: u32,
    value: u32,
    value_length: u32,
    kind: Kind,
    /// Whether the whole line lies there as it is sent: name, colon, one space, value, line end.
    is_as_sent: bool,
}

impl Line {
    #[inline]
    fn name(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.name as usize..(self.name + self.name_length) as usize).unwrap_or_default()
    }

    #[inline]
    fn value(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.value as usize..(self.value + self.value_length) as usize).unwrap_or_default()
    }
}

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of `head`, which `parsed` was parsed from. The caller limits both.
    pub(crate) fn of_head(head: &[u8], parsed: &[httparse::Header<'_>]) -> Self {
        let mut headers = Self::with_room();
        let Self { bytes, lines, seen, has_underscores } = &mut headers;
        bytes.extend_from_slice(head);
        let offset = |part: &[u8]| (part.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
        lines.extend(parsed.iter().map(|header| {
            // An empty value may point anywhere.
            let value = if header.value.is_empty() { 0 } else { offset(header.value) };
            let at = offset(header.name.as_bytes());
            let name = &mut bytes[at..at + header.name.len()];
            *has_underscores |= swar::lower(name);
            seen.add(name);
            let kind = Kind::of(name);
            let (name_end, value_end) = (at + header.name.len(), value + header.value.len());
            let is_as_sent = value == name_end + 2
                && bytes.get(name_end..value) == Some(b": ")
                && bytes.get(value_end..value_end + 2) == Some(b"\r\n");
            Line {
                name: span(at),
                name_length: span(header.name.len()),
                value: span(value),
                value_length: span(header.value.len()),
                kind,
                is_as_sent,
            }
        }));
        headers
    }

    fn with_room() -> Self {
        let lines = KEPT.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(NEW_LINES));
        Self { bytes: spare::take(), lines, seen: Seen::default(), has_underscores: false }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether a name has an underscore, which many servers take for a hyphen; true also if that line was removed.
    pub fn has_underscores(&self) -> bool {
        self.has_underscores
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// The value of the first line of this name, which is lower case.
    #[inline]
    pub fn get(&self, name: impl AsRef<str>) -> Option<&[u8]> {
        let name = name.as_ref().as_bytes();
        if self.seen.may_have(name) { self.find(name) } else { None }
    }

    fn find(&self, name: &[u8]) -> Option<&[u8]> {
        self.lines.iter().find(|line| line.name(&self.bytes) == name).map(|line| line.value(&self.bytes))
    }

    /// Whether there is a line of this name.
    #[inline]
    pub fn contains_key(&self, name: impl AsRef<str>) -> bool {
        self.get(name).is_some()
    }

    /// The values of all lines of this name, which is lower case.
    #[inline]
    pub fn get_all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a, 'n> {
        let Self { bytes, .. } = self;
        let lines = if self.seen.may_have(name.as_bytes()) { &self.lines[..] } else { &[] };
        lines.iter().filter(move |line| line.name(bytes) == name.as_bytes()).map(|line| line.value(bytes))
    }

    /// The only value of this name; `None` if there is no line of it, or more than one.
    #[inline]
    pub fn get_one(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.get_all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// All lines: names, which are ASCII, and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        let Self { bytes, lines, .. } = self;
        lines.iter().map(|line| (line.name(bytes), line.value(bytes)))
    }

    /// The lines that the engine itself acts on: kinds and values.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (Kind, &[u8])> {
        let Self { bytes, lines, .. } = self;
        lines.iter().filter(|line| line.kind != Kind::Other).map(|line| (line.kind, line.value(bytes)))
    }

    /// Writes the lines whose kind `wanted` is true for.
    pub(crate) fn write(&self, out: &mut Vec<u8>, wanted: impl Fn(Kind) -> bool) {
        let Self { bytes, lines, .. } = self;
        // Enough for all that a head brought, and for the edits.
        out.reserve(bytes.len() + 4 * lines.len());
        // Lines that follow one another are copied at once.
        let mut run = 0..0;
        for line in lines.iter().filter(|line| wanted(line.kind)) {
            if !line.is_as_sent {
                out.extend_from_slice(&bytes[std::mem::take(&mut run)]);
                out.extend_from_slice(line.name(bytes));
                out.extend_from_slice(b": ");
                out.extend_from_slice(line.value(bytes));
                out.extend_from_slice(b"\r\n");
                continue;
            }
            let start = line.name as usize;
            if start != run.end {
                out.extend_from_slice(&bytes[std::mem::replace(&mut run, start..start)]);
            }
            run.end = (line.value + line.value_length) as usize + 2;
        }
        out.extend_from_slice(&bytes[run]);
    }

    /// Adds a line. `name` is the name of a header, in lower case.
    pub fn append(&mut self, name: impl AsRef<str>, value: &HeaderValue) {
        self.push(name.as_ref(), value.as_bytes());
    }

    /// Adds a line that was made before: a name of this length in lower case, colon, one space, value, line end. The caller vouches
    /// that it is one.
    pub fn append_line(&mut self, line: &str, name_length: usize) {
        let Some(name) = line.get(..name_length) else { return };
        let start = self.begin_line();
        self.bytes.extend_from_slice(line.as_bytes());
        let value_length = line.len().saturating_sub(name_length + 4);
        debug_assert!(line.get(name_length..name_length + 2) == Some(": ") && line.ends_with("\r\n"));
        self.end(start, name, value_length);
    }

    /// Adds a line, unless the value has a control byte other than the tab; whether it did.
    pub fn try_append(&mut self, name: &HeaderName, value: &[u8]) -> bool {
        let is_valid = is_value(value);
        if is_valid {
            self.push(name.as_str(), value);
        }
        is_valid
    }

    /// Adds a line whose value `write` appends to what it is given. It is for values that the caller makes itself: it vouches that
    /// they have no control byte but the tab.
    pub fn append_with(&mut self, name: &HeaderName, write: impl FnOnce(&mut Vec<u8>)) {
        let name = name.as_str();
        let start = self.begin(name);
        let bytes = &mut self.bytes;
        let value = start + name.len() + 2;
        write(bytes);
        let length = bytes.len().saturating_sub(value);
        debug_assert!(bytes.get(value..).is_some_and(is_value));
        bytes.extend_from_slice(b"\r\n");
        self.end(start, name, length);
    }

    /// Adds all lines of `from`.
    pub fn extend(&mut self, from: &Self) {
        if self.bytes.capacity() == 0 {
            *self = Self::with_room();
        }
        let start = span(self.bytes.len());
        self.bytes.extend_from_slice(&from.bytes);
        self.lines.extend(from.lines.iter().map(|line| Line {
            name: line.name + start,
            value: line.value + start,
            ..*line
        }));
        self.seen.join(from.seen);
        self.has_underscores |= from.has_underscores;
    }

    /// Adds the lines of this name that `from` has.
    pub fn copy(&mut self, name: impl AsRef<str>, from: &Self) {
        for value in from.get_all(name.as_ref()) {
            self.push(name.as_ref(), value);
        }
    }

    /// Adds a line in place of those of the same name.
    pub fn insert(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.remove(name);
        self.append(name, value);
    }

    /// Removes all lines of this name; whether there was one.
    #[inline]
    pub fn remove(&mut self, name: impl AsRef<str>) -> bool {
        let name = name.as_ref().as_bytes();
        let Self { bytes, lines, seen, .. } = self;
        if !seen.may_have(name) {
            return false;
        }
        let before = lines.len();
        lines.retain(|line| line.name(bytes) != name);
        lines.len() < before
    }

    /// Removes all lines of this name, and those that differ from it in `_` for `-` alone: to many servers they are the
    /// same.
    pub fn remove_alike(&mut self, name: impl AsRef<str>) {
        let name = name.as_ref();
        if !self.has_underscores {
            self.remove(name);
            return;
        }
        let hyphened = |byte: &u8| if *byte == b'_' { b'-' } else { *byte };
        let name = name.as_bytes();
        self.retain(|other, _| !other.iter().map(hyphened).eq(name.iter().map(hyphened)));
    }

    /// Keeps the lines that `keep` is true for.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let Self { bytes, lines, .. } = self;
        lines.retain(|line| keep(line.name(bytes), line.value(bytes)));
    }

    /// The same lines as a map of the `http` crate.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.len());
        for (name, value) in self.iter() {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        map
    }

    fn push(&mut self, name: &str, value: &[u8]) {
        let start = self.begin(name);
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
        self.end(start, name, value.len());
    }

    /// Where the next line begins.
    fn begin_line(&mut self) -> usize {
        if self.bytes.capacity() == 0 {
            *self = Self::with_room();
        }
        self.bytes.len()
    }

    /// Writes the beginning of a line; where that is.
    fn begin(&mut self, name: &str) -> usize {
        let start = self.begin_line();
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b": ");
        start
    }

    /// Adds the line that was written from `start` on.
    fn end(&mut self, start: usize, name: &str, value_length: usize) {
        let Self { lines, seen, has_underscores, .. } = self;
        *has_underscores |= swar::has_underscore(name.as_bytes());
        seen.add(name.as_bytes());
        lines.push(Line {
            name: span(start),
            name_length: span(name.len()),
            value: span(start + name.len() + 2),
            value_length: span(value_length),
            kind: Kind::of(name.as_bytes()),
            is_as_sent: true,
        });
    }
}

/// Whether a value has no control byte but the tab. Most are plain, which eight bytes at a time tell.
fn is_value(value: &[u8]) -> bool {
    !swar::has_control(value) || value.iter().all(|byte| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t')
}

/// Heads are limited to far less than 4 GiB.
#[allow(clippy::cast_possible_truncation, reason = "the limits on heads keep all spans small")]
fn span(at: usize) -> u32 {
    debug_assert!(u32::try_from(at).is_ok());
    at as u32
}

impl Drop for Headers {
    fn drop(&mut self) {
        spare::give(std::mem::take(&mut self.bytes));
        let mut lines = std::mem::take(&mut self.lines);
        if lines.capacity() == 0 || lines.capacity() > KEPT_LINES_MAX {
            return;
        }
        lines.clear();
        // A thread that ends has no place for it any more; then it is freed.
        let _kept = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT_MAX {
                kept.push(lines);
            }
        });
    }
}

impl Clone for Headers {
    fn clone(&self) -> Self {
        let mut copy = Self::with_room();
        copy.bytes.extend_from_slice(&self.bytes);
        copy.lines.extend_from_slice(&self.lines);
        copy.seen = self.seen;
        copy.has_underscores = self.has_underscores;
        copy
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Names only: values may be credentials.
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

impl From<&HeaderMap> for Headers {
    fn from(map: &HeaderMap) -> Self {
        let mut headers = Self::new();
        for (name, value) in map {
            headers.append(name, value);
        }
        headers
    }
}

impl<'a> FromIterator<(&'a HeaderName, &'a HeaderValue)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>>(lines: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        headers
    }
}
