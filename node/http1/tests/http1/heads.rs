//! Which request heads are refused, with which status, and which are accepted: each at once and byte by byte.

use std::cell::RefCell;

use octelium_http1::{Body, Limits, Request, Response};

use crate::support::{act, converse, run, text};

/// A head with one more header line after `Host`.
fn with(header: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n").into_bytes()
}

/// A head with this request line.
fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: a\r\n\r\n").into_bytes()
}

/// A head with this host header's value.
fn host(value: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n").into_bytes()
}

fn refused() -> Vec<(u16, Vec<u8>)> {
    let mut rows = vec![
        // The length can be read in two ways.
        (400, with("Content-Length: 3\r\nTransfer-Encoding: chunked")),
        (400, with("Transfer-Encoding: chunked\r\nContent-Length: 3")),
        (400, with("Transfer-Encoding: chunked\r\nContent-Length: 0")),
        (400, with("Content-Length: 3\r\nContent-Length: 4")),
        (400, with("Content-Length: 3\r\nContent-Length: 3")),
        (400, with("Content-Length: 3, 3")),
        (400, with("Content-Length: 3,")),
        (400, with("Content-Length:")),
        (400, with("Content-Length: +3")),
        (400, with("Content-Length: -3")),
        (400, with("Content-Length: 0x3")),
        (400, with("Content-Length: 3 4")),
        (400, with("Content-Length: 3.0")),
        (400, with("Content-Length: 18446744073709551616")),
        (400, with("Content-Length: 99999999999999999999999999")),
        (400, with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
        (400, with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")),
        (400, with("Transfer-Encoding: chunked, chunked")),
        (400, with("Transfer-Encoding: gzip, chunked")),
        (400, with("Transfer-Encoding: chunked, gzip")),
        (400, with("Transfer-Encoding: ,chunked")),
        (400, with("Transfer-Encoding: chunked,")),
        (400, with("Transfer-Encoding: xchunked")),
        (400, with("Transfer-Encoding: chunked;q=1")),
        (400, with("Transfer-Encoding: \"chunked\"")),
        (400, with("Transfer-Encoding:")),
        (400, with("Transfer-Encoding: \u{b}chunked")),
        (501, with("Transfer-Encoding: gzip")),
        (501, with("Transfer-Encoding: identity")),
        (400, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        // Header lines that others may read differently.
        (400, with("Transfer-Encoding : chunked")),
        (400, with("Transfer-Encoding\t: chunked")),
        (400, with(" Transfer-Encoding: chunked")),
        (400, with("X: a\r\n b")),
        (400, with("X: a\r\n\tb")),
        (400, with("X: a\r\n \r\nY: b")),
        (400, with("X: a\nY: b")),
        (400, with("X: a\rY: b")),
        (400, with("X: a\r\r\nY: b")),
        (400, with("X: a\n\r\nY: b")),
        (400, with("X: a\0b")),
        (400, with("X\0: a")),
        (400, with("X: a\u{1}b")),
        (400, with("X: a\u{7f}b")),
        (400, with("X: a\u{8}")),
        (400, with(": a")),
        (400, with("X")),
        (400, with("X Y: a")),
        (400, with("X\"Y: a")),
        (400, with("X(: a")),
        (400, with("Hällo: a")),
        (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\n\tX: a\r\nHost: a\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\nHost: a\n\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: a\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\n\n".to_vec()),
        (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\rHost: a\r\n\r\n".to_vec()),
        // Which host?
        (400, b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nX-Host: a\r\n\r\n".to_vec()),
        (400, with("Host: b")),
        (400, with("Host: a")),
        (400, with("host: b")),
        (400, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".to_vec()),
        (400, host("")),
        (400, host("user@a")),
        (400, host("user:pass@a")),
        (400, host("a b")),
        (400, host("a/b")),
        (400, host("a?b")),
        (400, host("a#b")),
        (400, host("a\\b")),
        (400, host("a, b")),
        (400, host("a:b")),
        (400, host("a:")),
        (400, host("a:70000")),
        (400, host("a:80:80")),
        (400, host("a%2eb")),
        (400, host("[::1")),
        (400, host("::1")),
        (400, host("[::1]a")),
        (400, host("http://a")),
        (400, host("ä")),
        (400, b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (400, b"GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (400, b"GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (400, b"GET http://a/ HTTP/1.1\r\n\r\n".to_vec()),
        // Request lines.
        (400, line("")),
        (400, line("\r\n")),
        (400, line("GET")),
        (400, line("GET /")),
        (400, line("GET  / HTTP/1.1")),
        (400, line("GET /  HTTP/1.1")),
        (400, line("GET / HTTP/1.1 ")),
        (400, line(" GET / HTTP/1.1")),
        (400, line("GET\t/\tHTTP/1.1")),
        (400, line("GET / a HTTP/1.1")),
        (400, line("GET /\ta HTTP/1.1")),
        (400, line("GET /ä HTTP/1.1")),
        (400, line("GET /\0 HTTP/1.1")),
        (400, line("GET /\u{7f} HTTP/1.1")),
        (400, line("GET /#a HTTP/1.1")),
        (400, line("GET a HTTP/1.1")),
        (400, line("GET ?a HTTP/1.1")),
        (400, line("GET * HTTP/1.1")),
        (400, line("GET a:80 HTTP/1.1")),
        (400, line("GET ftp://a/ HTTP/1.1")),
        (400, line("GET http:/a HTTP/1.1")),
        (400, line("GET http:///a HTTP/1.1")),
        (400, line("G(T / HTTP/1.1")),
        (400, line("G\u{1}T / HTTP/1.1")),
        (400, line("GÄT / HTTP/1.1")),
        (400, line("GET / HTTP/1.10")),
        (400, line("GET / HTTP/1")),
        (400, line("GET / http/1.1")),
        (400, line("GET / HTTPS/1.1")),
        (400, line("GET / ")),
        (505, line("GET / HTTP/2.0")),
        (505, line("GET / HTTP/1.2")),
        (505, line("GET / HTTP/0.9")),
        (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        (501, line("CONNECT a:443 HTTP/1.1")),
        (501, line("CONNECT / HTTP/1.1")),
        // Limits and expectations.
        (414, line(&format!("GET /{} HTTP/1.1", "a".repeat(8 * 1024)))),
        (414, format!("GET /{}", "a".repeat(9 * 1024)).into_bytes()),
        (431, with(&format!("X: {}", "a".repeat(32 * 1024)))),
        (431, with(&"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(700))),
        (431, with(&vec!["X: a"; 100].join("\r\n"))),
        (417, with("Content-Length: 1\r\nExpect: 200-ok")),
        (417, with("Content-Length: 1\r\nExpect: 100-continue, x")),
        (417, with("Content-Length: 1\r\nExpect: 100-continue\r\nExpect: 100-continue")),
        // Cut off within the head.
        (400, b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec()),
        (400, b"G".to_vec()),
        // TLS, spoken to a plain port.
        (400, vec![0x16, 3, 1, 0, b'\n', 1, 0, 1, 0xfc, 3, 3]),
    ];
    // Raw bytes that aren't text.
    rows.push((400, [b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n".as_slice()].concat()));
    rows.push((400, [b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n".as_slice()].concat()));
    rows.push((400, [b"GET / HTTP/1.1\r\nHost: a\r\nX\xff: a\r\n\r\n".as_slice()].concat()));
    rows
}

#[test]
fn bad_heads_are_refused_and_never_handled() {
    let rows = refused();
    assert!(rows.len() >= 60);
    run(async {
        for (status, head) in rows {
            let shown = String::from_utf8_lossy(&head[..head.len().min(80)]).into_owned();
            // Behind the bad head stands a good one, which must not be taken for a request.
            let smuggled = [&head[..], b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            let input = if head.ends_with(b"\n") { &smuggled } else { &head };
            let mut outputs = Vec::new();
            for room in [64 * 1024, 1] {
                let handler = act(async |request: Request| panic!("{request:?} was handled"));
                let (output, ended) = converse(&handler, &Limits::default(), input, room).await;
                ended.unwrap();
                assert!(output.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?} gave {output:?}");
                assert!(
                    output.ends_with("\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
                    "{shown:?} gave {output:?}"
                );
                assert_eq!(output.matches("HTTP/1.1").count(), 1, "{shown:?}");
                let refused = handler.refused.borrow();
                assert_eq!(refused.len(), 1, "{shown:?}");
                assert_eq!(refused[0].0.status, status, "{shown:?}");
                assert!(refused[0].1.len() <= 1024);
                outputs.push((output, refused[0].0));
            }
            assert_eq!(outputs[0], outputs[1], "{shown:?} is judged differently byte by byte");
        }
    });
}

#[test]
fn good_heads_are_handled() {
    let long_line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(8 * 1024 - 14));
    let many_headers = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: a\r\n".repeat(99));
    let long_body = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n{}", "b".repeat(40_000));
    let long_line_seen = format!("GET /{} a: ", "a".repeat(8 * 1024 - 14));
    let long_body_seen = format!("POST / a: {}", "b".repeat(40_000));
    let (long_line_seen, long_body_seen) = ([long_line_seen.as_str()], [long_body_seen.as_str()]);
    let rows: Vec<(&str, &[&str])> = vec![
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &["GET / a: "]),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &["GET / a: "]),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", &["GET / a: ", "GET /2 a: "]),
        ("GET / HTTP/1.0\r\n\r\n", &["GET / -: "]),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", &["GET / a: "]),
        ("GET /a//b/../%2e?c=d&e=%00 HTTP/1.1\r\nHost: a\r\n\r\n", &["GET /a//b/../%2e?c=d&e=%00 a: "]),
        ("GET //a HTTP/1.1\r\nHost: a\r\n\r\n", &["GET //a a: "]),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &["OPTIONS * a: "]),
        ("GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n", &["GET /b a: "]),
        ("GET HTTP://A:80/b HTTP/1.1\r\nHost: a\r\n\r\n", &["GET /b a: "]),
        ("GET https://a?b HTTP/1.1\r\nHost: a:443\r\n\r\n", &["GET /?b a:443: "]),
        ("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", &["GET / a: "]),
        ("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", &["GET / [::1]:8080: "]),
        ("get / HTTP/1.1\r\nhOST:a \t\r\n\r\n", &["get / a: "]),
        ("M-SEARCH / HTTP/1.1\r\nHost: a\r\nX: \tb\tc \r\nY:\r\n\r\n", &["M-SEARCH / a: "]),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", &["POST / a: abc"]),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc", &["POST / a: abc"]),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", &["POST / a: "]),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", &["GET / a: abc"]),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", &["POST / a: abc"]),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked \r\n\r\n1\r\na\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\n",
            &["POST / a: a", "GET /2 b: "],
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\nabc", &["POST / a: abc"]),
        ("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\nExpect: anything\r\n\r\nabc", &["POST / a: abc"]),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", &["GET / a: "]),
        (&long_line, &long_line_seen),
        (&many_headers, &["GET / a: "]),
        (&long_body, &long_body_seen),
    ];
    run(async {
        for (input, expected) in &rows {
            for room in [64 * 1024, 1] {
                let seen = RefCell::new(Vec::new());
                let handler = act(async |request: Request| -> Response {
                    let Request { method, target, headers, body, .. } = request;
                    let body = body.collect(100_000).await.unwrap();
                    let host = headers.get("host").map_or("-", |host| std::str::from_utf8(host).unwrap());
                    let body = std::str::from_utf8(&body).unwrap();
                    seen.borrow_mut().push(format!("{method} {target} {host}: {body}"));
                    text(Body::empty())
                });
                let (output, ended) = converse(&handler, &Limits::default(), input.as_bytes(), room).await;
                ended.unwrap();
                assert_eq!(seen.borrow().as_slice(), *expected, "{input:?}");
                assert_eq!(output.matches("HTTP/1.1 200 OK\r\n").count(), expected.len(), "{input:?} gave {output:?}");
                assert!(handler.refused.borrow().is_empty());
            }
        }
    });
}

#[test]
fn a_refusal_after_a_good_request_ends_the_connection() {
    run(async {
        let handler = act(async |_| text(Body::empty()));
        let input = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\n\r\n";
        let (output, ended) = converse(&handler, &Limits::default(), input, 4096).await;
        ended.unwrap();
        let expected = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n\
                        HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        assert_eq!(output, expected);
    });
}
