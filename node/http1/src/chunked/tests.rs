//! Chunked bodies: what is refused, and that what we write is what we read.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::{Decoder, Step};
use crate::body::{Body, BodyError, Source};
use crate::limits::Limits;
use crate::outbox::Outbox;
use crate::sending::{Framing, Sending};

/// Data, trailers, and what is left behind the body.
type Decoded = (Vec<u8>, HeaderMap, Vec<u8>);

/// Decodes `bytes` arriving in pieces of `step`; `None` if the body has no end.
fn decode(bytes: &[u8], step: usize) -> Result<Option<Decoded>, &'static str> {
    let mut decoder = Decoder::chunked(Limits::default().chunks());
    let mut buffer = BytesMut::new();
    let mut data = Vec::new();
    let mut pieces = bytes.chunks(step);
    loop {
        match decoder.step(&mut buffer)? {
            Step::Data(piece) => data.extend_from_slice(&piece),
            Step::End => {
                let rest = [&buffer[..], &pieces.collect::<Vec<_>>().concat()].concat();
                return Ok(Some((data, decoder.take_trailers().unwrap_or_default(), rest)));
            }
            Step::More => match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => return Ok(None),
            },
        }
    }
}

#[test]
fn strict_chunks_are_read() {
    let long_extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(255));
    let cases: [(&str, &str, usize); 8] = [
        ("0\r\n\r\n", "", 0),
        ("3\r\nabc\r\n0\r\n\r\n", "abc", 0),
        ("0003\r\nabc\r\nA\r\n0123456789\r\n000\r\n\r\n", "abc0123456789", 0),
        ("a\r\n0123456789\r\n0\r\n\r\n", "0123456789", 0),
        ("1;x=\"y z\";\tq\r\na\r\n0;last\r\n\r\n", "a", 0),
        (&long_extension, "a", 0),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", 0),
        (
            "1\r\na\r\n0\r\nGrpc-Status: 0\r\nX-Sum: 1\r\nCookie: a\r\nX_Octelium_User: b\r\nContent-Length: 9\r\n\r\n",
            "a",
            2,
        ),
    ];
    for (bytes, data, trailers) in cases {
        for step in [1, 2, 3, 1000] {
            let followed = [bytes.as_bytes(), b"GET / "].concat();
            let (decoded, found, rest) = decode(&followed, step).unwrap().unwrap();
            assert_eq!(decoded, data.as_bytes(), "{bytes:?}");
            assert_eq!(found.len(), trailers, "{bytes:?}");
            assert_eq!(rest, b"GET / ", "{bytes:?}");
        }
    }
}

#[test]
fn loose_chunks_are_refused() {
    let long_extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(256));
    let many_trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(33));
    let long_trailers = format!("0\r\na: {}\r\n\r\n", "b".repeat(8 * 1024));
    let endless_trailer = format!("0\r\na: {}", "b".repeat(9 * 1024));
    let cases = [
        "\r\n",
        "\n",
        ";x\r\n",
        "g\r\n",
        "+1\r\na\r\n",
        "-1\r\n",
        " 1\r\na\r\n",
        "1 \r\na\r\n",
        "1\t\r\na\r\n",
        "0x1\r\na\r\n",
        "1_0\r\n",
        "1\na\r\n",
        "1\r\ra",
        "1\rx",
        "00000000000000001\r\na\r\n",
        "fffffffffffffffff\r\n",
        "1;a\nb\r\n",
        "1;\0\r\n",
        "1;\r\r\n",
        "1\r\nab",
        "1\r\na\n0\r\n\r\n",
        "1\r\na\r0\r\n\r\n",
        "1\r\na\r\n\r\n",
        "0\r\n\n",
        "0\r\na: b\n\r\n",
        "0\r\n a: b\r\n\r\n",
        "0\r\na: b\r\n c\r\n\r\n",
        "0\r\na : b\r\n\r\n",
        "0\r\n: b\r\n\r\n",
        "0\r\na\r\n\r\n",
        "0\r\na: b\0\r\n\r\n",
        "0\r\na: b\rc\r\n\r\n",
        &long_extension,
        &many_trailers,
        &long_trailers,
        &endless_trailer,
    ];
    for bytes in cases {
        let whole = decode(bytes.as_bytes(), usize::MAX);
        assert!(whole.is_err(), "{bytes:?} gave {whole:?}");
        assert_eq!(whole, decode(bytes.as_bytes(), 1), "{bytes:?}");
    }
}

#[test]
fn an_unfinished_body_has_no_end() {
    let whole = "3\r\nabc\r\n0\r\na: b\r\n\r\n";
    for length in 0..whole.len() {
        assert_eq!(decode(&whole.as_bytes()[..length], 2), Ok(None), "{length}");
    }
}

#[test]
fn a_failed_decoder_stays_failed() {
    let mut decoder = Decoder::chunked(Limits::default().chunks());
    assert!(decoder.step(&mut BytesMut::from("x")).is_err());
    assert!(decoder.step(&mut BytesMut::from("0\r\n\r\n")).is_err());
}

struct Pieces {
    pieces: std::vec::IntoIter<Vec<u8>>,
    trailers: Option<HeaderMap>,
}

impl Source for Pieces {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        Poll::Ready(self.pieces.next().map(|piece| Ok(piece.into())))
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }
}

/// What `Sending` writes of a body, onto a stream that takes everything.
fn encode(body: Body) -> Vec<u8> {
    let mut wrote = Vec::new();
    let mut sending = Sending::new(Outbox::default(), body, Framing::Chunked);
    let mut cx = Context::from_waker(Waker::noop());
    let polled = sending.poll(&mut cx, |out, cx| {
        loop {
            match out.poll_write(&mut Pin::new(&mut wrote), cx) {
                Poll::Ready(Ok(true)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    assert!(matches!(polled, Poll::Ready(Ok(()))));
    wrote
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chunks_written_are_chunks_read(
        // All of it is less than what one turn may move.
        pieces in prop::collection::vec(
            prop_oneof![4 => prop::collection::vec(any::<u8>(), 0..50), 1 => prop::collection::vec(any::<u8>(), 8_000..9_000)],
            0..8,
        ),
        step in 1usize..10_000,
        with_trailer in any::<bool>(),
    ) {
        let mut trailers = HeaderMap::new();
        if with_trailer {
            trailers.insert("x-sum", HeaderValue::from_static("1"));
        }
        let body = Body::from_source(Pieces { pieces: pieces.clone().into_iter(), trailers: Some(trailers.clone()) });
        prop_assert_eq!(decode(&encode(body), step), Ok(Some((pieces.concat(), trailers, Vec::new()))));
    }

    #[test]
    fn random_bytes_are_decoded_alike_in_pieces(
        bytes in prop::collection::vec(prop::sample::select(&b"0123aF;\r\n: x\0"[..]), 0..60),
        step in 1usize..10,
    ) {
        prop_assert_eq!(decode(&bytes, usize::MAX), decode(&bytes, step));
    }
}
