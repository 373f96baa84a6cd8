//! What a request is called: `X-Request-Id`, and its place in a trace (W3C Trace Context, levels 1 and 2).

use http::{HeaderName, HeaderValue};
use octelium_http1::Headers;

use super::{exchange::Id, hex, random::Random};

/// The name of a request that was given by a trusted hop or by us.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A request id has no more bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// W3C Trace Context §3.3.1.1.
const STATE_MEMBERS_MAX: usize = 32;
const SAMPLED: u8 = 0x01;
/// Level 2: the trace's id is random.
const RANDOM: u8 = 0x02;

/// Names of one request.
#[derive(Debug, Clone)]
pub struct Trace {
    /// As a trusted hop gave it; otherwise the exchange's own id counts.
    request_id: Option<Box<[u8]>>,
    /// Of the whole trace.
    pub trace_id: u128,
    /// Of this gateway's part of it.
    pub span_id: u64,
    /// Of the caller's part, if it named one.
    pub parent_id: Option<u64>,
    flags: u8,
    state: Option<HeaderValue>,
}

impl Trace {
    /// Continues what the caller began, or begins. `is_trusted`: the peer may name requests.
    pub fn of(headers: &Headers, is_trusted: bool, random: &Random) -> Self {
        let named = || headers.get_one(REQUEST_ID.as_str()).filter(|id| is_request_id(id));
        let request_id = if is_trusted { named().map(Box::from) } else { None };
        let span_id = random.next();
        match headers.get_one(TRACEPARENT.as_str()).and_then(Parent::parse) {
            Some(parent) => Self {
                request_id,
                trace_id: parent.trace_id,
                span_id,
                parent_id: Some(parent.span_id),
                flags: parent.flags,
                state: state(headers),
            },
            // Sampled: there is an access-log record of it. Without the flag, tracers behind us would record nothing.
            None => Self {
                request_id,
                trace_id: u128::from(random.next()) << 64 | u128::from(random.next()),
                span_id,
                parent_id: None,
                flags: SAMPLED | RANDOM,
                state: None,
            },
        }
    }

    /// What the request is called, if a trusted hop said so.
    pub fn given_request_id(&self) -> Option<&str> {
        self.request_id.as_ref().and_then(|id| std::str::from_utf8(id).ok())
    }

    /// Tells the upstream, in place of what the caller said.
    pub fn tell(&self, id: Id, headers: &mut Headers) {
        for name in [REQUEST_ID, TRACEPARENT, TRACESTATE] {
            headers.remove(name);
        }
        self.append_request_id(id, headers);
        headers.append_with(&TRACEPARENT, |value| value.extend_from_slice(&self.parent()));
        if let Some(state) = &self.state {
            headers.append(&TRACESTATE, state);
        }
    }

    /// Tells the caller what its request is called, unless the upstream did.
    pub fn answer(&self, id: Id, headers: &mut Headers) {
        if !headers.contains_key(REQUEST_ID) {
            self.append_request_id(id, headers);
        }
    }

    fn append_request_id(&self, id: Id, headers: &mut Headers) {
        headers.append_with(&REQUEST_ID, |value| match &self.request_id {
            Some(given) => value.extend_from_slice(given),
            None => {
                value.extend_from_slice(&hex::digits(id.0));
                value.extend_from_slice(&hex::digits(id.1));
            }
        });
    }

    /// The trace's id in two halves, the higher one first.
    #[allow(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
    pub fn trace_halves(&self) -> (u64, u64) {
        ((self.trace_id >> 64) as u64, self.trace_id as u64)
    }

    fn parent(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let (high, low) = self.trace_halves();
        text[3..19].copy_from_slice(&hex::digits(high));
        text[19..35].copy_from_slice(&hex::digits(low));
        text[36..52].copy_from_slice(&hex::digits(self.span_id));
        text[53..].copy_from_slice(&hex::digits(self.flags.into())[14..]);
        text
    }
}

fn is_request_id(bytes: &[u8]) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(byte))
}

#[derive(Debug, PartialEq, Eq)]
struct Parent {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl Parent {
    /// `version-trace_id-span_id-flags` in lower-case hexadecimal; later versions may have more after it.
    fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_at_checked(55)?;
        let dashes = [2, 35, 52].iter().all(|at| head[*at] == b'-');
        let version = number(&head[..2])?;
        let is_whole = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest[0] == b'-' };
        let (trace_id, span_id) = (number(&head[3..35])?, u64::try_from(number(&head[36..52])?).ok()?);
        let flags = u8::try_from(number(&head[53..])?).ok()?;
        if !dashes || version == 0xff || !is_whole || trace_id == 0 || span_id == 0 {
            return None;
        }
        // What the other flags mean isn't known, so they aren't passed on.
        Some(Self { trace_id, span_id, flags: flags & (SAMPLED | RANDOM) })
    }
}

fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// All `tracestate` headers as one; `None` if one member is wrong, as nobody could tell what was meant.
fn state(headers: &Headers) -> Option<HeaderValue> {
    let mut joined = String::new();
    for value in headers.get_all(TRACESTATE.as_str()) {
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(std::str::from_utf8(value).ok()?);
    }
    if is_state(&joined) { HeaderValue::from_str(&joined).ok() } else { None }
}

fn is_state(text: &str) -> bool {
    let members = text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty());
    let mut keys: Vec<&str> = Vec::new();
    for member in members {
        let Some((key, value)) = member.split_once('=') else { return false };
        if !is_key(key) || !is_value(value) || keys.contains(&key) || keys.len() == STATE_MEMBERS_MAX {
            return false;
        }
        keys.push(key);
    }
    !keys.is_empty()
}

fn is_key(key: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= 256
        && key.bytes().next().is_some_and(is_first)
        && key.bytes().all(|byte| is_first(byte) || b"_-*/@".contains(&byte))
}

fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && !value.ends_with(' ')
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn headers(lines: &[(&'static str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), &HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn text<'h>(headers: &'h Headers, name: &str) -> &'h str {
        std::str::from_utf8(headers.get_one(name).expect("one value")).expect("text")
    }

    #[test]
    fn a_parent_has_one_form() {
        let good = |version: &str, flags: &str, rest: &str| format!("{version}-{TRACE}-{SPAN}-{flags}{rest}");
        for (text, flags) in [
            (good("00", "01", ""), Some(1)),
            (good("00", "00", ""), Some(0)),
            (good("00", "03", ""), Some(3)),
            (good("00", "ff", ""), Some(3)),
            (good("01", "01", ""), Some(1)),
            (good("cc", "01", "-what-comes-later"), Some(1)),
            (good("cc", "01", "."), None),
            (good("00", "01", "-more"), None),
            (good("00", "01", " "), None),
            (good("ff", "01", ""), None),
            (good("0", "01", ""), None),
            (good("00", "1", ""), None),
            (good("00", "0x", ""), None),
            (good("00", "01", "").to_uppercase(), None),
            (good("00", "01", "").replace('-', "_"), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-{}-{SPAN}-01", &TRACE[1..]), None),
            (String::new(), None),
        ] {
            let parent = Parent::parse(text.as_bytes());
            assert_eq!(parent.as_ref().map(|parent| parent.flags), flags, "{text}");
            if let Some(parent) = parent {
                assert_eq!(format!("{:032x} {:016x}", parent.trace_id, parent.span_id), format!("{TRACE} {SPAN}"));
            }
        }
    }

    #[test]
    fn a_state_is_kept_whole_or_not_at_all() {
        let many = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        for (text, is_kept) in [
            ("congo=t61rcWkgMzE".to_owned(), true),
            ("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7".to_owned(), true),
            ("a=1 , , b=2".to_owned(), true),
            ("fw529a3039@dt=x".to_owned(), true),
            ("1a=x".to_owned(), true),
            (many(32), true),
            (many(33), false),
            ("a=1,a=2".to_owned(), false),
            ("A=1".to_owned(), false),
            ("a".to_owned(), false),
            ("a=".to_owned(), false),
            ("=1".to_owned(), false),
            ("a=b=c".to_owned(), false),
            ("a b=c".to_owned(), false),
            (format!("{}=1", "a".repeat(257)), false),
            (format!("a={}", "b".repeat(257)), false),
            (",".to_owned(), false),
        ] {
            assert_eq!(is_state(&text), is_kept, "{text}");
        }
        let several = headers(&[("tracestate", "a=1"), ("tracestate", "b=2")]);
        assert_eq!(state(&several).expect("a state"), "a=1,b=2");
        assert_eq!(state(&headers(&[("tracestate", "a=1"), ("tracestate", "a=2")])), None);
    }

    #[test]
    fn a_trace_is_continued_with_a_span_of_its_own() {
        let random = Random::default();
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let received = headers(&[("traceparent", &parent), ("tracestate", "a=1"), ("x-request-id", "theirs")]);
        let trace = Trace::of(&received, false, &random);
        let mut sent = received.clone();
        trace.tell(Id(1, 2), &mut sent);
        assert_eq!(text(&sent, "traceparent"), format!("00-{TRACE}-{:016x}-01", trace.span_id));
        assert_eq!((text(&sent, "tracestate"), trace.parent_id), ("a=1", Some(0x00f0_67aa_0ba9_02b7)));
        assert_eq!(text(&sent, "x-request-id"), Id(1, 2).to_string());
        assert_eq!(Trace::of(&received, true, &random).given_request_id(), Some("theirs"));

        for received in [
            headers(&[("tracestate", "a=1")]),
            headers(&[("traceparent", &parent), ("traceparent", &parent), ("tracestate", "a=1")]),
        ] {
            let mut sent = received.clone();
            let trace = Trace::of(&received, true, &random);
            trace.tell(Id(1, 2), &mut sent);
            assert_eq!(text(&sent, "traceparent"), format!("00-{:032x}-{:016x}-03", trace.trace_id, trace.span_id));
            assert!(trace.trace_id != 0 && sent.get("tracestate").is_none());
        }
    }

    proptest::proptest! {
        /// What is sent on can be read again, whatever was received.
        #[test]
        fn anything_is_survived(parent in "[0-9a-f-]{50,60}|.{0,80}", state in "[a-z=, ]{0,40}|.{0,80}", id in ".{0,140}") {
            let mut received = Headers::new();
            for (name, text) in [(TRACEPARENT, &parent), (TRACESTATE, &state), (REQUEST_ID, &id)] {
                if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                    received.append(&name, &value);
                }
            }
            let trace = Trace::of(&received, true, &Random::default());
            trace.tell(Id(1, 2), &mut received);
            let again = Trace::of(&received, true, &Random::default());
            proptest::prop_assert_eq!((again.trace_id, again.parent_id), (trace.trace_id, Some(trace.span_id)));
            proptest::prop_assert_eq!(again.state, trace.state);
        }
    }

    #[test]
    fn a_request_id_is_short_and_plain() {
        for (text, is_taken) in [
            ("0af7651916cd43dd", true),
            ("a/b:c_d.e+f=@~-", true),
            ("", false),
            ("a b", false),
            ("a,b", false),
            ("\"a\"", false),
            (&"a".repeat(129), false),
        ] {
            let received = headers(&[("x-request-id", text)]);
            let trace = Trace::of(&received, true, &Random::default());
            assert_eq!(trace.given_request_id().is_some(), is_taken, "{text}");
        }
        let twice = headers(&[("x-request-id", "a"), ("x-request-id", "b")]);
        assert_eq!(Trace::of(&twice, true, &Random::default()).given_request_id(), None);
    }
}
