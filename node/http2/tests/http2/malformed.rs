//! Messages that a gateway must not let through, as raw frames.

use http::Request;
use octelium_http1::Body;
use octelium_http2::{Limits, ServeError};

use crate::support::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, Frame, GET, GOAWAY, HEADERS, NO_ERROR, PING, POST,
    PROTOCOL_ERROR, Peer, RST_STREAM, SETTINGS, WINDOW_UPDATE, act, block, frame, full, get, post, run, text, with,
};

/// What the server made of it.
#[derive(Debug, PartialEq, Eq)]
enum Made {
    Status(u16),
    Reset(u32),
    /// With some error; `h2` says PROTOCOL_ERROR for most.
    Goaway,
}

fn made(frame: &Frame) -> Made {
    match frame.kind {
        HEADERS => Made::Status(frame.status()),
        RST_STREAM => Made::Reset(frame.code()),
        GOAWAY if frame.code() != NO_ERROR => Made::Goaway,
        _ => panic!("{frame:?}"),
    }
}

fn request(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields))
}

#[test]
fn a_malformed_head_never_reaches_the_handler() {
    const M: (&str, &str) = (":method", "GET");
    const S: (&str, &str) = (":scheme", "https");
    const A: (&str, &str) = (":authority", "a.test");
    const P: (&str, &str) = (":path", "/");
    let raw = |name: &[u8], value: &[u8]| {
        let mut block = block(&GET);
        block.push(0);
        crate::support::string(&mut block, name);
        crate::support::string(&mut block, value);
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)
    };
    let malformed = Made::Reset(PROTOCOL_ERROR);
    let cases: Vec<(&str, Vec<u8>, Made)> = vec![
        ("no method", request(&[S, A, P]), Made::Reset(PROTOCOL_ERROR)),
        ("no scheme", request(&[M, A, P]), Made::Reset(PROTOCOL_ERROR)),
        ("no path", request(&[M, S, A]), Made::Reset(PROTOCOL_ERROR)),
        ("an empty path", request(&[M, S, A, (":path", "")]), Made::Reset(PROTOCOL_ERROR)),
        ("two methods", request(&[M, M, S, A, P]), Made::Reset(PROTOCOL_ERROR)),
        ("two paths", request(&[M, S, A, P, (":path", "/b")]), Made::Reset(PROTOCOL_ERROR)),
        ("two authorities", request(&[M, S, A, (":authority", "b.test"), P]), Made::Reset(PROTOCOL_ERROR)),
        ("a status", request(&[M, S, A, P, (":status", "200")]), Made::Reset(PROTOCOL_ERROR)),
        ("an extended CONNECT", request(&[(":method", "CONNECT"), (":protocol", "websocket"), S, A, P]), malformed),
        ("a pseudo-header field at the end", request(&[M, S, A, ("x", "y"), P]), Made::Reset(PROTOCOL_ERROR)),
        ("connection", request(&[M, S, A, P, ("connection", "close")]), Made::Reset(PROTOCOL_ERROR)),
        ("keep-alive", request(&[M, S, A, P, ("keep-alive", "1")]), Made::Reset(PROTOCOL_ERROR)),
        ("proxy-connection", request(&[M, S, A, P, ("proxy-connection", "close")]), Made::Reset(PROTOCOL_ERROR)),
        ("transfer-encoding", request(&[M, S, A, P, ("transfer-encoding", "chunked")]), Made::Reset(PROTOCOL_ERROR)),
        ("upgrade", request(&[M, S, A, P, ("upgrade", "h2c")]), Made::Reset(PROTOCOL_ERROR)),
        ("te", request(&[M, S, A, P, ("te", "chunked")]), Made::Reset(PROTOCOL_ERROR)),
        ("no end of the length", request(&[M, S, A, P, ("content-length", "1")]), Made::Reset(PROTOCOL_ERROR)),
        ("two lengths", request(&[M, S, A, P, ("content-length", "0"), ("content-length", "0")]), Made::Status(400)),
        ("no host", request(&[M, S, P]), Made::Status(400)),
        ("two hosts", request(&[M, S, A, P, ("host", "b.test")]), Made::Status(400)),
        ("userinfo", request(&[M, S, (":authority", "u:p@a.test"), P]), Made::Status(400)),
        ("a path without slash", request(&[M, S, A, (":path", "a")]), Made::Reset(PROTOCOL_ERROR)),
        ("an asterisk", request(&[M, S, A, (":path", "*")]), Made::Status(400)),
        ("another scheme", request(&[M, (":scheme", "ftp"), A, P]), Made::Status(400)),
        ("a padded value", raw(b"x", b" y"), Made::Status(400)),
        ("CONNECT", request(&[(":method", "CONNECT"), (":authority", "a.test:443")]), Made::Status(501)),
        ("a long path", request(&[M, S, A, (":path", &format!("/{}", "a".repeat(9000)))]), Made::Status(414)),
        ("many fields", request(&[&GET[..], &vec![("x", "y"); 120]].concat()), Made::Status(431)),
        ("a long value", request(&[M, S, A, P, ("x", &"y".repeat(16_300))]), Made::Status(431)),
        (
            "a value that is far too long",
            [
                frame(HEADERS, END_STREAM, 1, &block(&[M, S, A, P, ("x", &"y".repeat(16_000))])),
                frame(CONTINUATION, END_HEADERS, 1, &block(&[("x", &"y".repeat(16_000)), ("x", &"y".repeat(300))])),
            ]
            .concat(),
            Made::Status(431),
        ),
        ("a name in upper case", raw(b"X-Upper", b"y"), Made::Goaway),
        ("a name with a space", raw(b"x y", b"z"), Made::Goaway),
        ("an unknown pseudo-header field", raw(b":secret", b"z"), Made::Goaway),
        ("NUL", raw(b"x", b"a\0b"), Made::Goaway),
        ("CR", raw(b"x", b"a\rb"), Made::Goaway),
        ("LF", raw(b"x", b"a\nb"), Made::Goaway),
        (
            "an index that isn't in the table",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff, 0xff, 0x0f]),
            Made::Goaway,
        ),
    ];
    for (what, bytes, expected) in cases {
        run(async {
            let handler = act(async |request: Request<Body>| panic!("{request:?} reached the handler"));
            let mut peer = Peer::new(handler.clone(), Limits::default()).await;
            peer.send(&bytes).await;
            let made = made(&peer.next().await.unwrap());
            assert_eq!(made, expected, "{what}");
            peer.ended().await.ok();
            assert_eq!(handler.refused.borrow().len(), 1, "{what}: {:?}", handler.refused.borrow());
        });
    }
}

#[test]
fn a_body_is_as_long_as_it_says() {
    let head = |length: &str| frame(HEADERS, END_HEADERS, 1, &with(&POST, &[("content-length", length)]));
    let cases = [
        ("longer", [head("3"), frame(DATA, 0, 1, b"abcd")].concat()),
        ("longer at its end", [head("3"), frame(DATA, END_STREAM, 1, b"abcd")].concat()),
        ("shorter", [head("3"), frame(DATA, END_STREAM, 1, b"ab")].concat()),
        (
            "shorter before trailers",
            [head("3"), frame(DATA, 0, 1, b"ab"), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("x", "y")]))]
                .concat(),
        ),
    ];
    for (what, bytes) in cases {
        run(async {
            let handler = act(async |request: Request<Body>| {
                let collected = request.into_body().collect(100).await;
                assert!(collected.is_err(), "{collected:?}");
                text(full(""))
            });
            let mut peer = Peer::new(handler, Limits::default()).await;
            peer.send(&bytes).await;
            assert_eq!(made(&peer.next().await.unwrap()), Made::Reset(PROTOCOL_ERROR), "{what}");
        });
    }
}

#[test]
fn frames_that_break_the_rules_end_the_connection() {
    let long = vec![0; 16_385];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("an even stream", frame(HEADERS, END_STREAM | END_HEADERS, 2, &block(&GET))),
        ("a stream that went by", [get(5), get(3)].concat()),
        ("HEADERS of stream 0", frame(HEADERS, END_STREAM | END_HEADERS, 0, &block(&GET))),
        ("DATA of stream 0", frame(DATA, 0, 0, b"a")),
        ("DATA of a stream that isn't open", frame(DATA, 0, 7, b"a")),
        ("a frame that is too long", frame(DATA, 0, 1, &long)),
        ("SETTINGS of a stream", frame(SETTINGS, 0, 1, &[])),
        ("SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        ("a window that is too large", frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])),
        ("PING of nine bytes", frame(PING, 0, 0, &[0; 9])),
        ("no window for the connection", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("no window for a stream", [post(1), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat()),
        ("too much of it", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &block(&GET))),
        (
            "something within a header block",
            [frame(HEADERS, END_STREAM, 1, &block(&GET)), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        (
            "CONTINUATION of another stream",
            [frame(HEADERS, END_STREAM, 1, &block(&GET[..2])), frame(CONTINUATION, END_HEADERS, 3, &block(&GET[2..]))]
                .concat(),
        ),
        ("PUSH_PROMISE", frame(5, END_HEADERS, 1, &[0, 0, 0, 2])),
    ];
    for (what, bytes) in cases {
        run(async {
            let handler = act(async |request: Request<Body>| {
                let _body = request.into_body();
                std::future::pending().await
            });
            let mut peer = Peer::new(handler, Limits::default()).await;
            peer.send(&bytes).await;
            let frames = peer.rest().await;
            assert!(frames.iter().any(|frame| frame.kind == GOAWAY && frame.code() != NO_ERROR), "{what}: {frames:?}");
            let ended = peer.ended().await;
            assert!(matches!(ended, Err(ServeError::Protocol(_))), "{what}: {ended:?}");
        });
    }
}

#[test]
fn faults_of_one_stream_leave_the_others_alone() {
    let cases = [
        ("too much window", frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff]), FLOW_CONTROL_ERROR),
        (
            "more body than there is window",
            (0..5).flat_map(|_| frame(DATA, 0, 1, &[0; 16_000])).collect(),
            FLOW_CONTROL_ERROR,
        ),
        ("half a header block of trailers", frame(HEADERS, END_HEADERS, 1, &block(&[("x", "y")])), PROTOCOL_ERROR),
    ];
    for (what, bytes, code) in cases {
        run(async {
            let handler = act(async |request: Request<Body>| {
                if request.method() == "POST" {
                    std::future::pending::<()>().await;
                }
                text(full("ok"))
            });
            let mut peer = Peer::new(handler, Limits::default()).await;
            peer.send(&[post(1), bytes].concat()).await;
            assert_eq!(made(&peer.next().await.unwrap()), Made::Reset(code), "{what}");
            peer.send(&get(3)).await;
            assert_eq!(made(&peer.next().await.unwrap()), Made::Status(200), "{what}");
        });
    }
}

#[test]
fn what_is_not_http2_is_not_answered_as_if_it_were() {
    run(async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let handler = act(async |request: Request<Body>| panic!("{request:?}"));
        let mut server = crate::support::server(handler, Limits::default());
        server.io.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        server.io.read_to_end(&mut rest).await.unwrap();
        assert!(!rest.starts_with(b"HTTP/1"));
        assert!(server.ended.await.unwrap().is_err());
    });
}

#[test]
fn a_fault_after_the_answer_leaves_no_second_record() {
    run(async {
        let handler = act(async |_: Request<Body>| text(full("early")));
        let mut peer = Peer::new(handler.clone(), Limits::default()).await;
        let head = [&POST[..], &[("content-length", "1")]].concat();
        peer.send(&frame(HEADERS, END_HEADERS, 1, &block(&head))).await;
        peer.expect(DATA).await;
        // More than was announced.
        peer.send(&frame(DATA, END_STREAM, 1, b"much")).await;
        peer.send(&get(3)).await;
        while peer.expect(HEADERS).await.stream != 3 {}
        assert!(handler.refused.borrow().is_empty(), "{:?}", handler.refused.borrow());
    });
}
