//! The scan and the parsers as pure functions: what arrives in pieces is judged as what arrives at once, and nothing
//! that bytes can say makes them panic.

use http::StatusCode;
use proptest::prelude::*;

use super::framing::decimal;
use super::request::RequestHead;
use super::{Fault, Scan, Scanned, host, request, response, trailers};
use crate::server::Refusal;

const LINE_MAX: usize = 64;
const HEAD_MAX: usize = 256;

const VALID: [&str; 6] = [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a?b=c HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: [::1]:8080\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET http://a/b HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\nExpect: 100-continue\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Text: \tb\x09c \r\n\r\n",
    "HEAD / HTTP/1.0\r\n\r\n",
];

/// Scans `bytes` as if they arrived in pieces of `step`, then parses.
fn judge(bytes: &[u8], step: usize) -> Result<Option<RequestHead>, Refusal> {
    let mut scan = Scan::default();
    let mut arrived = 0;
    while arrived < bytes.len() {
        arrived = (arrived + step).min(bytes.len());
        if let Scanned::Complete(length) = scan.step(&bytes[..arrived], LINE_MAX, HEAD_MAX)? {
            return request::parse(&bytes[..length], 16).map(Some);
        }
    }
    Ok(None)
}

/// What the judgement says, in a form that can be compared.
fn verdict(bytes: &[u8], step: usize) -> String {
    match judge(bytes, step) {
        Ok(None) => "partial".to_owned(),
        Ok(Some(head)) => format!("{head:?}"),
        Err(refusal) => format!("{refusal:?}"),
    }
}

#[test]
fn forbidden_trailers_are_sorted_for_the_search() {
    for name in ["accept-encoding", "content-length", "host", "transfer-encoding", "x-real-ip", "x_real_ip"] {
        assert!(!trailers::is_allowed(name), "{name}");
    }
    for name in ["x-octelium-user", "x_octelium_user", "x-forwarded-for", "authorization", "cookie", "set-cookie"] {
        assert!(!trailers::is_allowed(name), "{name}");
    }
    for name in ["grpc-status", "grpc-message", "x-checksum", "server-timing"] {
        assert!(trailers::is_allowed(name), "{name}");
    }
    assert!(trailers::FORBIDDEN.is_sorted());
}

#[test]
fn hosts_are_names_or_addresses_with_an_optional_port() {
    let good: [(&str, (&str, Option<u16>)); 6] = [
        ("a", ("a", None)),
        ("A.b-c_d~e", ("A.b-c_d~e", None)),
        ("a:0", ("a", Some(0))),
        ("1.2.3.4:65535", ("1.2.3.4", Some(65_535))),
        ("[::1]", ("[::1]", None)),
        ("[2001:db8::1]:443", ("[2001:db8::1]", Some(443))),
    ];
    for (text, expected) in good {
        assert_eq!(host::split(text.as_bytes()), Some(expected), "{text}");
    }
    let long = "a".repeat(256);
    let bad = [
        "", ":80", "a:", "a:x", "a:+1", "a:65536", "a:000001", "u@a", "u:p@a", "a b", "a/b", "a,b", "a%41", "[::1",
        "::1",
    ];
    for text in
        bad.into_iter().chain(["[1.2.3.4]", "[::1]x", "[::1%25eth0]", "a?b", "a#b", "a\\b", "ä", "a:1:2", &long])
    {
        assert_eq!(host::split(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn lengths_are_digits_that_fit() {
    assert_eq!(decimal(b"0"), Some(0));
    assert_eq!(decimal(b"007"), Some(7));
    assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
    for text in
        ["", " 1", "1 ", "+1", "-1", "0x1", "1,1", "1.0", "18446744073709551616", "99999999999999999999999", "١"]
    {
        assert_eq!(decimal(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn limits_count_exactly() {
    let line =
        |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length - "GET / HTTP/1.1".len()));
    assert!(judge(line(LINE_MAX).as_bytes(), 1).unwrap().is_some());
    assert_eq!(judge(line(LINE_MAX + 1).as_bytes(), 1).unwrap_err().status, StatusCode::URI_TOO_LONG);
    let frame = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n";
    let head = |length: usize| frame.replace("X: ", &format!("X: {}", "a".repeat(length - frame.len())));
    assert!(judge(head(HEAD_MAX).as_bytes(), 1).unwrap().is_some());
    let refused = judge(head(HEAD_MAX + 1).as_bytes(), 1).unwrap_err();
    assert_eq!(refused.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[test]
fn an_endless_line_is_refused_before_it_ends() {
    let mut scan = Scan::default();
    assert_eq!(scan.step(&[b'a'; LINE_MAX + 2], LINE_MAX, HEAD_MAX), Err(Fault::FirstLineTooLong));
    let mut scan = Scan::trailers();
    assert_eq!(scan.step(&[b'a'; HEAD_MAX + 1], LINE_MAX, HEAD_MAX), Err(Fault::TooLong));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_judged_alike_in_pieces(bytes in prop::collection::vec(any::<u8>(), 0..400), step in 1usize..50) {
        prop_assert_eq!(verdict(&bytes, usize::MAX / 2), verdict(&bytes, step));
    }

    #[test]
    fn mutated_heads_are_judged_alike_in_pieces(
        valid in prop::sample::select(&VALID[..]),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0u8..3, prop::sample::select(&b"\r\n\0\t :,;\x7f\x80aA1+-#@/*[]"[..])),
            0..4,
        ),
        step in 1usize..20,
    ) {
        let mut bytes = valid.as_bytes().to_vec();
        for (at, edit, byte) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        let whole = verdict(&bytes, usize::MAX / 2);
        prop_assert_eq!(&whole, &verdict(&bytes, step));
        if let Ok(Some(head)) = judge(&bytes, 1) {
            // Whatever is accepted has an end that can be read in one way only.
            prop_assert!(!(head.headers.contains_key("content-length") && head.headers.contains_key("transfer-encoding")));
            prop_assert!(head.headers.get_all("host").count() <= 1);
            prop_assert!(head.headers.get_all("content-length").count() <= 1);
            for (_, value) in head.headers.iter() {
                prop_assert!(value.iter().all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t'));
            }
        }
        // The response and trailer parsers meet the same bytes.
        let _ = response::parse(&bytes, 16);
        let _ = trailers::parse(&bytes, 16);
    }
}
