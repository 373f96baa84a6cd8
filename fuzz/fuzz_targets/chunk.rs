//! What a caller sends as a chunked body, against a plain reading of RFC 9112 §7.1 that shares nothing with the engine's: the same
//! data and trailers, the same verdict, and the next request begins at the same byte or never.
//!
//! First byte: bit 0, another request follows at once; bit 1, nobody reads the body; bit 2, small limits. The next four bytes are
//! the sizes of the pieces in which everything arrives, the rest is the body.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use octelium_http1::{Body, BodyError, Handler, Limits, Refusal, Request, Response, shared::trailer_is_allowed};

#[path = "shared/connection.rs"]
mod connection;

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
const WHOLE: [usize; 1] = [usize::MAX];
const SIZE_DIGITS_MAX: usize = 16;

/// Names and values, in the order of the names.
type Lines = Vec<(String, Vec<u8>)>;

/// What became of a connection's bytes.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Request { line: String, data: Vec<u8>, trailers: Lines, failed: Option<BodyError> },
    Refused(u16, &'static str),
}

struct Seen {
    events: RefCell<Vec<Event>>,
    reads: bool,
}

impl Handler for Seen {
    async fn handle(&self, request: Request) -> Response {
        let Request { method, target, headers, mut body, .. } = request;
        let line = format!("{method} {target} {headers:?}");
        let (mut data, mut failed) = (Vec::new(), None);
        while let Some(piece) = if self.reads { body.next().await } else { None } {
            match piece {
                Ok(piece) => data.extend_from_slice(&piece),
                Err(error) => failed = Some(error),
            }
        }
        let trailers = body.take_trailers().unwrap_or_default();
        let mut trailers: Lines =
            trailers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
        trailers.sort_by(|one, other| one.0.cmp(&other.0));
        drop(body);
        self.events.borrow_mut().push(Event::Request { line, data, trailers, failed });
        let mut response = Response::new(http::StatusCode::OK);
        response.body = Body::full("ok");
        response
    }

    fn refused(&self, refusal: &Refusal, _: &[u8]) {
        self.events.borrow_mut().push(Event::Refused(refusal.status.as_u16(), refusal.reason));
    }
}

fn events(input: &[u8], sizes: &[usize], limits: &Limits, reads: bool) -> Vec<Event> {
    let seen = Seen { events: RefCell::default(), reads };
    connection::served(input, sizes, limits, &seen);
    seen.events.into_inner()
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Before the byte at this place.
    At(usize),
    /// Something stands where it can't.
    Broken,
    /// More would have to come.
    Cut,
}

/// A body as the RFC has it, but without white space around extensions and bounded as `limits` say.
struct Reading {
    data: Vec<u8>,
    trailers: Lines,
    end: End,
}

impl Reading {
    fn of(bytes: &[u8], limits: &Limits) -> Self {
        let mut reading = Self { data: Vec::new(), trailers: Vec::new(), end: End::Cut };
        reading.end = reading.chunks(bytes, limits).map_or_else(|end| end, End::At);
        reading
    }

    fn chunks(&mut self, bytes: &[u8], limits: &Limits) -> Result<usize, End> {
        let mut at = 0;
        loop {
            let (size, line) = size_line(&bytes[at..], limits)?;
            at += line;
            if size == 0 {
                let (trailers, section) = trailers(&bytes[at..], limits)?;
                self.trailers = trailers;
                return Ok(at + section);
            }
            let left = &bytes[at..];
            let there = usize::try_from(size).unwrap_or(usize::MAX).min(left.len());
            self.data.extend_from_slice(&left[..there]);
            if (there as u64) < size {
                return Err(End::Cut);
            }
            at += there + line_end(&left[there..])?;
        }
    }
}

/// The CRLF at the beginning.
fn line_end(bytes: &[u8]) -> Result<usize, End> {
    match bytes {
        [b'\r', b'\n', ..] => Ok(2),
        [] | [b'\r'] => Err(End::Cut),
        _ => Err(End::Broken),
    }
}

/// Size of the chunk and length of the line that says it.
fn size_line(bytes: &[u8], limits: &Limits) -> Result<(u64, usize), End> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    match digits {
        0 if bytes.is_empty() => return Err(End::Cut),
        1..=SIZE_DIGITS_MAX => {}
        _ => return Err(End::Broken),
    }
    let text = str::from_utf8(&bytes[..digits]).expect("digits are text");
    let size = u64::from_str_radix(text, 16).expect("sixteen digits fit");
    let after = &bytes[digits..];
    let extension = match after.first() {
        Some(b';') => after.iter().take_while(|byte| **byte == b'\t' || **byte >= b' ' && **byte != 0x7f).count(),
        _ => 0,
    };
    if extension > limits.chunk_extension_bytes_max {
        return Err(End::Broken);
    }
    Ok((size, digits + extension + line_end(&after[extension..])?))
}

/// The trailers that may be passed on, and the length of their section. What the lines say is judged once all are there.
fn trailers(bytes: &[u8], limits: &Limits) -> Result<(Lines, usize), End> {
    let section_max = limits.trailer_bytes_max + b"\r\n".len();
    let mut lines = Vec::new();
    let mut at = 0;
    loop {
        let Some(length) = bytes[at..].iter().position(|byte| *byte == b'\n') else {
            return Err(if bytes.len() > section_max { End::Broken } else { End::Cut });
        };
        let line = bytes[at..at + length].strip_suffix(b"\r").ok_or(End::Broken)?;
        at += length + 1;
        if at > section_max || matches!(line, [b' ' | b'\t', ..]) {
            return Err(End::Broken);
        }
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    if lines.len() > limits.trailers_max {
        return Err(End::Broken);
    }
    let trailers: Option<Lines> = lines.into_iter().map(trailer).collect();
    let mut trailers = trailers.ok_or(End::Broken)?;
    trailers.retain(|(name, _)| trailer_is_allowed(name));
    trailers.sort_by(|one, other| one.0.cmp(&other.0));
    Ok((trailers, at))
}

fn trailer(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_valid = !name.is_empty()
        && name.iter().all(is_token)
        && value.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f);
    is_valid.then(|| (String::from_utf8_lossy(name).to_ascii_lowercase(), value.trim_ascii().to_vec()))
}

fuzz_target!(|bytes: &[u8]| {
    let Some(([kind, sizes @ ..], body)) = bytes.split_first_chunk::<5>() else { return };
    let sizes = sizes.map(usize::from);
    let mut limits = Limits::default();
    if kind & 4 != 0 {
        (limits.chunk_extension_bytes_max, limits.trailers_max, limits.trailer_bytes_max) = (8, 3, 24);
    }
    let mut sent = body.to_vec();
    if kind & 1 != 0 {
        sent.extend_from_slice(NEXT);
    }
    let input = [HEAD, &sent].concat();
    let reading = Reading::of(&sent, &limits);
    let rest = match reading.end {
        End::At(end) => Some(&sent[end..]),
        End::Broken | End::Cut => None,
    };

    if kind & 2 != 0 {
        // A body that nobody reads is skipped if all of it is there; otherwise it is the last that the connection brings.
        let whole = events(&input, &WHOLE, &limits, false);
        let then = rest.map(|rest| events(rest, &WHOLE, &limits, false)).unwrap_or_default();
        assert_eq!(whole[1..], then, "{:?}", reading.end);
        let pieces = events(&input, &sizes, &limits, false);
        assert!(!pieces.is_empty() && whole.starts_with(&pieces), "{whole:?}, in pieces {pieces:?}");
        return;
    }

    let mut events_read = events(&input, &sizes, &limits, true).into_iter();
    let Some(Event::Request { line, data, trailers, failed }) = events_read.next() else { panic!("no request") };
    assert!(line.starts_with("POST / "));
    assert_eq!(data, reading.data);
    match reading.end {
        End::At(_) => assert_eq!(failed, None),
        End::Broken => assert!(matches!(failed, Some(BodyError::Framing(_))), "{failed:?}"),
        End::Cut => assert_eq!(failed, Some(BodyError::Closed)),
    }
    assert_eq!(trailers, reading.trailers);
    for (name, _) in &trailers {
        let name = name.replace('_', "-");
        let never = ["host", "content-length", "transfer-encoding", "authorization", "cookie", "connection"];
        assert!(!never.contains(&&*name) && !name.starts_with("x-octelium-"), "trailer {name}");
    }
    // What comes next is what a connection would bring that begins there.
    let then: Vec<Event> = events_read.collect();
    let expected = rest.map(|rest| events(rest, &WHOLE, &limits, true)).unwrap_or_default();
    assert_eq!(then, expected, "{:?}", reading.end);
    if rest == Some(NEXT) {
        let is_next = |event: &Event| matches!(event, Event::Request { line, .. } if line.starts_with("GET /next "));
        assert!(then.len() == 1 && is_next(&then[0]), "{then:?}");
    }
});
