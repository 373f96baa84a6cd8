//! The downstream side: framing of responses, keep-alive, unread bodies, aborts, drain and timeouts.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use octelium_http1::{Body, BodyError, Drain, Limits, Request, Response, ServeError, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::support::{
    Counted, Never, OnDrop, Pieces, act, converse, full, read_head, read_rest, read_until, run, run_paused, text,
    undated,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn post(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
}

/// What one response to `request` looks like.
async fn answer(request: &str, respond: impl Fn() -> Response) -> (String, Result<(), ServeError>) {
    converse(&act(async |_| respond()), &Limits::default(), request.as_bytes(), 64 * 1024).await
}

fn with(status: u16, headers: &[(&'static str, &'static str)], body: Body) -> Response {
    let mut response = Response::new(StatusCode::from_u16(status).unwrap());
    response.body = body;
    for (name, value) in headers {
        response.headers.append(HeaderName::from_static(name), &HeaderValue::from_static(value));
    }
    response
}

#[test]
fn responses_are_framed_by_the_engine() {
    const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    const OLD: &str = "GET / HTTP/1.0\r\n\r\n";
    const OLD_KEPT: &str = "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
    const CLOSE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n";
    type Make = fn() -> Response;
    let stream: Make = || text(Pieces::new(["ab", "", "c"]).body());
    let framed: Make = || {
        let lies = [("content-length", "9"), ("transfer-encoding", "gzip"), ("connection", "x"), ("keep-alive", "y")];
        with(200, &lies, full("abc"))
    };
    let rows: Vec<(&str, Make, &str)> = vec![
        (GET, || text(full("abc")), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"),
        (GET, || text(Body::empty()), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        (GET, stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        (GET, || text(Pieces::new(["ab", "c"]).length(3).body()), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"),
        (GET, framed, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"),
        (
            GET,
            || with(299, &[("x", "1"), ("x", "2")], full("a")),
            "HTTP/1.1 299 \r\nx: 1\r\nx: 2\r\ncontent-length: 1\r\n\r\na",
        ),
        (GET, || with(204, &[("content-length", "3")], full("abc")), "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            GET,
            || with(304, &[("content-length", "3")], Body::empty()),
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n",
        ),
        (GET, || with(304, &[], Body::empty()), "HTTP/1.1 304 Not Modified\r\n\r\n"),
        (
            GET,
            || with(101, &[("upgrade", "x")], full("abc")),
            "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ),
        (HEAD, || with(200, &[("content-length", "7")], Body::empty()), "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"),
        (HEAD, || with(200, &[("content-length", "7, 7")], Body::empty()), "HTTP/1.1 200 OK\r\n\r\n"),
        (
            HEAD,
            || with(200, &[("transfer-encoding", "chunked")], full("abc")),
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n",
        ),
        (HEAD, stream, "HTTP/1.1 200 OK\r\n\r\n"),
        (OLD, || text(full("abc")), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc"),
        (OLD, stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"),
        (OLD_KEPT, || text(full("a")), "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\na"),
        (OLD_KEPT, stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"),
        (CLOSE, || text(full("a")), "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\na"),
    ];
    run(async {
        for (request, respond, expected) in rows {
            // A second request is answered exactly if the first response doesn't say that it is the last.
            let requests = format!("{request}{request}");
            let (output, ended) = answer(&requests, respond).await;
            ended.unwrap();
            let times = if expected.contains("connection: close") { 1 } else { 2 };
            assert_eq!(output, expected.repeat(times), "{request:?}");
        }
    });
}

#[test]
fn a_date_is_added_and_the_handlers_is_kept() {
    run(async {
        let (mut near, far) = duplex(4096);
        near.write_all(GET.repeat(2).as_bytes()).await.unwrap();
        near.shutdown().await.unwrap();
        let first = Cell::new(true);
        let handler = act(async |_| {
            let mut response = text(Body::empty());
            if first.replace(false) {
                response.headers.insert(&DATE, &HeaderValue::from_static("then"));
            }
            response
        });
        serve(far, &Limits::default(), &handler, &Drain::new()).await.unwrap();
        let output = read_rest(&mut near).await;
        let dates: Vec<_> = output.lines().filter_map(|line| line.strip_prefix("date: ")).collect();
        assert_eq!(dates.len(), 2);
        assert_eq!(dates[0], "then");
        assert!(dates[1].len() == 29 && dates[1].ends_with(" GMT"), "{dates:?}");
    });
}

#[test]
fn head_and_first_body_bytes_leave_in_one_write() {
    run(async {
        let large = Bytes::from(vec![b'x'; 32 * 1024]);
        let rows: [(Body, bool); 4] = [
            (full("abc"), false),
            (Pieces::new(["ab", "c"]).body(), false),
            (Body::full(large.clone()), true),
            (Pieces { pieces: [Ok(large)].into(), ..Pieces::new([]) }.body(), true),
        ];
        for (body, vectored) in rows {
            let (mut near, far) = duplex(64 * 1024);
            near.write_all(GET.as_bytes()).await.unwrap();
            near.shutdown().await.unwrap();
            let writes = Rc::new(Cell::new(0));
            let body = Cell::new(Some(body));
            let handler = act(async |_| text(body.take().unwrap()));
            let far = Counted { stream: far, vectored, writes: writes.clone() };
            serve(far, &Limits::default(), &handler, &Drain::new()).await.unwrap();
            assert!(read_rest(&mut near).await.starts_with("HTTP/1.1 200 OK\r\n"));
            assert_eq!(writes.get(), 1);
        }
    });
}

#[test]
fn a_waiting_connection_is_small() {
    let (_, far) = duplex(64);
    let handler = act(async |_| text(Body::full("x")));
    let (limits, drain) = (Limits::default(), Drain::new());
    let serving = serve(far, &limits, &handler, &drain);
    assert!(size_of_val(&serving) < 2 * 1024, "{} bytes", size_of_val(&serving));
}

#[test]
fn trailers_go_both_ways() {
    run(async {
        let handler = act(async |mut request: Request| {
            let mut data = Vec::new();
            while let Some(piece) = request.body.next().await {
                data.extend_from_slice(&piece.unwrap());
            }
            assert_eq!(data, b"abcde");
            let mut trailers = request.body.take_trailers().unwrap();
            assert_eq!(trailers.len(), 1);
            assert!(request.body.take_trailers().is_none());
            trailers.insert(CONTENT_LENGTH, HeaderValue::from_static("7"));
            let mut pieces = Pieces::new(["x"]);
            pieces.trailers = Some(trailers);
            text(pieces.body())
        });
        let input = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                     3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\nAuthorization: z\r\n\r\n";
        for room in [1, 4096] {
            let (output, ended) = converse(&handler, &Limits::default(), input.as_bytes(), room).await;
            ended.unwrap();
            let expected = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-sum: 5\r\n\r\n";
            assert_eq!(output, expected);
        }
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_and_one_at_a_time() {
    run(async {
        let (mut near, far) = duplex(4096);
        let requests: String =
            (0..3).map(|n| format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{n}{n}")).collect();
        near.write_all(requests.as_bytes()).await.unwrap();
        let begun = RefCell::new(Vec::new());
        let go = Notify::new();
        let handler = act(async |request: Request| {
            begun.borrow_mut().push(request.target);
            go.notified().await;
            text(request.body.collect(2).await.unwrap())
        });
        let client = async {
            for n in 0..3 {
                go.notify_one();
                let output = read_until(&mut near, |text| text.ends_with(&format!("\r\n\r\n{n}{n}"))).await;
                assert!(output.starts_with("HTTP/1.1 200 OK\r\n"));
                let path = format!("/{n}");
                assert!(begun.borrow().iter().position(|begun| *begun == path) == Some(n));
                // At most the next one has begun, never the one after.
                assert!(begun.borrow().len() <= n + 2);
            }
            near.shutdown().await.unwrap();
            assert_eq!(read_rest(&mut near).await, "");
        };
        let drain = Drain::new();
        let limits = Limits::default();
        let (ended, ()) = tokio::join!(serve(far, &limits, &handler, &drain), client);
        ended.unwrap();
    });
}

#[test]
fn a_body_hidden_as_a_request_is_never_a_request() {
    run(async {
        let hidden = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let chunked = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n",
            hidden.len()
        );
        for input in [format!("{}{hidden}{GET}", post(hidden.len())), format!("{chunked}{GET}")] {
            let handler = act(async |request: Request| {
                assert_eq!(request.target, "/");
                text(Body::empty())
            });
            for room in [1, 4096] {
                let (output, ended) = converse(&handler, &Limits::default(), input.as_bytes(), room).await;
                ended.unwrap();
                assert!(handler.refused.borrow().is_empty());
                // Either the body was read away, or the connection was closed after it.
                let answers = output.matches("HTTP/1.1 200 OK").count();
                assert!(answers == 2 || answers == 1 && output.contains("connection: close"), "{output:?}");
            }
        }
    });
}

#[test]
fn a_short_unread_body_is_read_away_and_a_long_one_closes() {
    run(async {
        for (length, answers) in [(10, 2), (64 * 1024, 2), (64 * 1024 + 1, 1), (200 * 1024, 1)] {
            let input = format!("{}{}{GET}", post(length), "x".repeat(length));
            let handler = act(async |_| text(Body::empty()));
            let (output, ended) = converse(&handler, &Limits::default(), input.as_bytes(), 1024).await;
            ended.unwrap();
            assert_eq!(output.matches("HTTP/1.1 200 OK").count(), answers, "{length}");
            assert_eq!(output.contains("connection: close"), answers == 1, "{length}");
        }
    });
}

#[test]
fn a_client_that_waits_to_be_asked_is_asked() {
    run(async {
        let (mut near, far) = duplex(4096);
        let handler = act(async |request: Request| text(request.body.collect(9).await.unwrap()));
        let client = async {
            near.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
                .await
                .unwrap();
            assert_eq!(read_head(&mut near).await, "HTTP/1.1 100 Continue\r\n\r\n");
            near.write_all(b"abc").await.unwrap();
            assert_eq!(read_head(&mut near).await, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
            near.shutdown().await.unwrap();
            assert_eq!(read_rest(&mut near).await, "abc");
        };
        let (limits, drain) = (Limits::default(), Drain::new());
        let (ended, ()) = tokio::join!(serve(far, &limits, &handler, &drain), client);
        ended.unwrap();
    });
}

#[test]
fn a_client_whose_body_is_not_wanted_is_not_asked() {
    run(async {
        let (mut near, far) = duplex(4096);
        let handler = act(async |_| with(403, &[], Body::empty()));
        let client = async {
            near.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
                .await
                .unwrap();
            let expected = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            assert_eq!(read_head(&mut near).await, expected);
            near.shutdown().await.unwrap();
            assert_eq!(read_rest(&mut near).await, "");
        };
        let (limits, drain) = (Limits::default(), Drain::new());
        let (ended, ()) = tokio::join!(serve(far, &limits, &handler, &drain), client);
        ended.unwrap();
    });
}

#[test]
fn a_bad_body_is_an_error_for_the_handler_and_the_end_of_the_connection() {
    run(async {
        let rows = [
            (
                "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
                BodyError::Framing("chunk is not followed by CRLF"),
            ),
            (
                "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
                BodyError::Framing("chunk size is not hexadecimal"),
            ),
            ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", BodyError::Closed),
            ("Content-Length: 5\r\n\r\nabc", BodyError::Closed),
        ];
        for (rest, expected) in rows {
            let seen = Cell::new(None);
            let handler = act(async |mut request: Request| {
                let error = loop {
                    match request.body.next().await {
                        Some(Ok(_)) => {}
                        Some(Err(error)) => break error,
                        None => panic!("the body ended well"),
                    }
                };
                seen.set(Some(error));
                assert!(request.body.next().await.is_none());
                with(400, &[], Body::empty())
            });
            let mut input = format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}");
            if matches!(expected, BodyError::Framing(_)) {
                input.push_str(GET);
            }
            let (output, ended) = converse(&handler, &Limits::default(), input.as_bytes(), 4096).await;
            ended.unwrap();
            assert_eq!(seen.get(), Some(expected));
            assert_eq!(output, "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
}

#[test]
fn a_body_that_outlives_its_exchange_has_ended() {
    run(async {
        let kept: RefCell<Option<Body>> = RefCell::new(None);
        let handler = act(async |request: Request| {
            if request.target == "/" {
                kept.replace(Some(request.body));
            } else {
                let mut kept = kept.take().unwrap();
                assert_eq!(kept.next().await, Some(Err(BodyError::Closed)));
            }
            text(Body::empty())
        });
        let input = format!("{}0123456789GET /2 HTTP/1.1\r\nHost: a\r\n\r\n", post(10));
        let (output, ended) = converse(&handler, &Limits::default(), input.as_bytes(), 4096).await;
        ended.unwrap();
        assert_eq!(output.matches("HTTP/1.1 200 OK").count(), 2);
    });
}

#[test]
fn a_failing_response_body_cuts_the_connection() {
    run(async {
        let chunked = || text(Pieces::new(["ab"]).then(BodyError::Closed).body());
        let (output, ended) = answer(&GET.repeat(2), chunked).await;
        assert_eq!(output, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n");
        assert!(matches!(ended, Err(ServeError::Body(BodyError::Closed))));

        let short = || text(Pieces::new(["ab"]).length(3).body());
        let (output, ended) = answer(&GET.repeat(2), short).await;
        assert_eq!(output, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab");
        assert!(matches!(ended, Err(ServeError::Body(BodyError::Framing(_)))));

        let long = || text(Pieces::new(["ab", "cd"]).length(3).body());
        let (output, ended) = answer(&GET.repeat(2), long).await;
        assert!(output.len() <= "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc".len());
        assert!(matches!(ended, Err(ServeError::Body(BodyError::Framing(_)))));
    });
}

/// Serves one end of a stream with a handler that waits forever, once it was called.
async fn abandoned(request: &str, leave: impl AsyncFnOnce(DuplexStream)) -> (bool, Result<(), ServeError>) {
    let (mut near, far) = duplex(4096);
    near.write_all(request.as_bytes()).await.unwrap();
    let dropped = Rc::new(Cell::new(false));
    let called = Notify::new();
    let handler = act(async |_| {
        let _guard = OnDrop(dropped.clone());
        called.notify_one();
        pending().await
    });
    let client = async {
        called.notified().await;
        assert!(!dropped.get());
        leave(near).await;
    };
    let (limits, drain) = (Limits::default(), Drain::new());
    let (ended, ()) = tokio::join!(serve(far, &limits, &handler, &drain), client);
    (dropped.get(), ended)
}

#[test]
fn a_client_that_leaves_takes_its_request_along() {
    run(async {
        let closed = abandoned(GET, async |near| drop(near)).await;
        assert!(matches!(closed, (true, Err(ServeError::Aborted))));
        let unread = format!("{}abc", post(3));
        let with_body = abandoned(&unread, async |near| drop(near)).await;
        assert!(matches!(with_body, (true, Err(ServeError::Aborted))));
        let half_closed = abandoned(GET, async |mut near| {
            near.shutdown().await.unwrap();
            assert_eq!(read_rest(&mut near).await, "");
        })
        .await;
        assert!(matches!(half_closed, (true, Err(ServeError::Aborted))));
    });
}

#[test]
fn a_client_that_leaves_a_stream_ends_it() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        near.write_all(GET.as_bytes()).await.unwrap();
        let handler = act(async |_| text(Body::from_source(Never)));
        let client = async {
            assert!(read_head(&mut near).await.contains("transfer-encoding: chunked"));
            drop(near);
        };
        let (limits, drain) = (Limits::default(), Drain::new());
        let (ended, ()) = tokio::join!(serve(far, &limits, &handler, &drain), client);
        assert!(matches!(ended, Err(ServeError::Aborted)));
    });
}

#[test]
fn a_slow_reader_holds_the_body_back() {
    const PIECE: usize = 64 * 1024;
    const PIECES: usize = 256;
    run(async {
        for length in [Some((PIECE * PIECES) as u64), None] {
            let (mut near, far) = duplex(1024);
            near.write_all(GET.as_bytes()).await.unwrap();
            let piece = Bytes::from(vec![b'x'; PIECE]);
            let pulled = Rc::new(Cell::new(0));
            let handler = act(async |_| {
                let pieces = std::iter::repeat_n(Ok(piece.clone()), PIECES).collect();
                text(Pieces { pieces, trailers: None, pulled: pulled.clone(), length }.body())
            });
            let client = async {
                read_head(&mut near).await;
                let (mut read, mut most_ahead) = (0, 0);
                let mut room = vec![0; 1024];
                while read < PIECE * PIECES {
                    read += near.read(&mut room).await.unwrap();
                    most_ahead = most_ahead.max(pulled.get().saturating_sub(read));
                }
                assert!(most_ahead <= 3 * PIECE, "{most_ahead} bytes were pulled ahead of the reader");
                drop(near);
            };
            let (limits, drain) = (Limits::default(), Drain::new());
            let (_, ()) = tokio::join!(serve(far, &limits, &handler, &drain), client);
            assert_eq!(pulled.get(), PIECE * PIECES);
        }
    });
}

#[test]
fn a_body_nobody_reads_stays_with_the_client() {
    run(async {
        const LENGTH: usize = 16 * 1024 * 1024;
        let (mut near, far) = duplex(1024);
        let (first, rest) = (Notify::new(), Notify::new());
        let handler = act(async |mut request: Request| {
            let got = request.body.next().await.unwrap().unwrap().len();
            assert_eq!(request.body.length(), Some((LENGTH - got) as u64));
            first.notify_one();
            rest.notified().await;
            let mut all = got;
            while let Some(piece) = request.body.next().await {
                all += piece.unwrap().len();
            }
            assert_eq!(all, LENGTH);
            text(Body::empty())
        });
        let client = async {
            near.write_all(post(LENGTH).as_bytes()).await.unwrap();
            let piece = [b'x'; 1024];
            let mut sent = 0;
            // The stream holds 1 KiB; when the handler stops reading, writing stops soon after.
            tokio::select! {
                biased;
                () = async { while sent < LENGTH { sent += near.write(&piece).await.unwrap(); } } => panic!("all was read"),
                () = async { first.notified().await; for _ in 0..1000 { tokio::task::yield_now().await; } } => {}
            }
            assert!(sent <= 128 * 1024, "{sent} bytes were read ahead");
            rest.notify_one();
            while sent < LENGTH {
                sent += near.write(&piece[..piece.len().min(LENGTH - sent)]).await.unwrap();
            }
            let output = read_until(&mut near, |text| text.ends_with("\r\n\r\n")).await;
            assert!(output.starts_with("HTTP/1.1 200 OK"), "{output}");
            drop(near);
        };
        let (limits, drain) = (Limits { body_idle_timeout: Duration::from_secs(5), ..Limits::default() }, Drain::new());
        let (_, ()) = tokio::join!(serve(far, &limits, &handler, &drain), client);
    });
}

#[test]
fn a_response_before_the_end_of_the_body_is_sent_at_once() {
    run(async {
        let (mut near, far) = duplex(4096);
        let handler = act(async |_| with(413, &[], full("no")));
        let client = async {
            near.write_all(post(1_000_000).as_bytes()).await.unwrap();
            let head = read_head(&mut near).await;
            assert_eq!(head, "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\n");
            assert_eq!(read_rest(&mut near).await, "no");
            // It goes on sending for a while, which is read away: a reset could destroy the answer on its way.
            near.write_all(&[b'x'; 100 * 1024]).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let (limits, drain) = (Limits::default(), Drain::new());
        let (ended, ()) = tokio::join!(serve(far, &limits, &handler, &drain), client);
        ended.unwrap();
    });
}

#[test]
fn requests_per_connection_are_counted() {
    run(async {
        let limits = Limits { requests_per_connection_max: Some(2), ..Limits::default() };
        let handler = act(async |_| text(Body::empty()));
        let (output, ended) = converse(&handler, &limits, GET.repeat(5).as_bytes(), 4096).await;
        ended.unwrap();
        let expected = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n\
                        HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        assert_eq!(output, expected);
    });
}

#[test]
fn drain_closes_idle_connections_and_lets_busy_ones_answer() {
    run(async {
        let (drain, limits) = (Drain::new(), Limits::default());
        let (mut idle, idle_far) = duplex(4096);
        let (mut busy, busy_far) = duplex(4096);
        let (mut half, half_far) = duplex(4096);
        busy.write_all(GET.as_bytes()).await.unwrap();
        half.write_all(b"GET /half HTTP/1.1\r\n").await.unwrap();
        let (called, go) = (Notify::new(), Notify::new());
        let handler = act(async |request: Request| {
            if request.target == "/" {
                called.notify_one();
                go.notified().await;
            }
            text(full("x"))
        });
        let client = async {
            called.notified().await;
            drain.fire();
            assert!(drain.is_fired());
            assert_eq!(read_rest(&mut idle).await, "");
            go.notify_one();
            let last = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx";
            assert_eq!(undated(&read_rest(&mut busy).await), last);
            half.write_all(b"Host: a\r\n\r\n").await.unwrap();
            assert_eq!(undated(&read_rest(&mut half).await), last);
        };
        let (first, second, third, ()) = tokio::join!(
            serve(idle_far, &limits, &handler, &drain),
            serve(busy_far, &limits, &handler, &drain),
            serve(half_far, &limits, &handler, &drain),
            client,
        );
        first.and(second).and(third).unwrap();

        let (mut late, late_far) = duplex(4096);
        serve(late_far, &limits, &handler, &drain).await.unwrap();
        assert_eq!(read_rest(&mut late).await, "");
    });
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    run_paused(async {
        let (mut near, far) = duplex(4096);
        near.write_all(GET.as_bytes()).await.unwrap();
        let handler = act(async |_| text(Body::empty()));
        let began = Instant::now();
        serve(far, &Limits::default(), &handler, &Drain::new()).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 60);
        assert_eq!(undated(&read_rest(&mut near).await), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert!(handler.refused.borrow().is_empty());
    });
}

#[test]
fn a_head_that_trickles_is_refused_in_time() {
    run_paused(async {
        let (mut near, far) = duplex(4096);
        let handler = act(async |_| panic!("handled"));
        let began = Instant::now();
        let client = async {
            // Idle first: only the first byte starts the clock.
            tokio::time::advance(Duration::from_secs(30)).await;
            let mut sent = 0;
            let output = loop {
                if near.write_all(b"G").await.is_err() {
                    break read_rest(&mut near).await;
                }
                sent += 1;
                let mut output = [0; 1024];
                match tokio::time::timeout(Duration::from_secs(1), near.read(&mut output)).await {
                    Ok(read) => break String::from_utf8(output[..read.unwrap()].to_vec()).unwrap(),
                    Err(_) => assert!(sent < 20),
                }
            };
            assert!(output.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{output}");
            assert_eq!(began.elapsed().as_secs(), 40);
            drop(near);
        };
        let (limits, drain) = (Limits::default(), Drain::new());
        let (ended, ()) = tokio::join!(serve(far, &limits, &handler, &drain), client);
        ended.unwrap();
        assert_eq!(handler.refused.borrow()[0].0.status, StatusCode::REQUEST_TIMEOUT);
    });
}

#[test]
fn a_body_that_stops_and_a_reader_that_stops_time_out() {
    run_paused(async {
        let (mut near, far) = duplex(4096);
        near.write_all(post(10).as_bytes()).await.unwrap();
        let handler = act(async |request: Request| {
            assert_eq!(request.body.collect(10).await, Err(BodyError::Timeout.into()));
            with(408, &[], Body::empty())
        });
        let began = Instant::now();
        serve(far, &Limits::default(), &handler, &Drain::new()).await.unwrap();
        assert!((60..=62).contains(&began.elapsed().as_secs()));
        assert!(read_rest(&mut near).await.starts_with("HTTP/1.1 408 Request Timeout\r\n"));

        let (mut near, far) = duplex(64);
        near.write_all(GET.as_bytes()).await.unwrap();
        let handler = act(async |_| text(Body::full(vec![0; 100_000])));
        let began = Instant::now();
        let ended = serve(far, &Limits::default(), &handler, &Drain::new()).await;
        assert!(matches!(ended, Err(ServeError::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut));
        assert_eq!(began.elapsed().as_secs(), 60);
    });
}

#[test]
fn a_body_and_a_reader_that_are_only_slow_do_not_time_out() {
    run_paused(async {
        let (mut near, far) = duplex(4);
        let handler = act(async |request: Request| text(request.body.collect(10).await.unwrap()));
        let began = Instant::now();
        let client = async {
            near.write_all(post(4).as_bytes()).await.unwrap();
            for byte in b"abcd" {
                tokio::time::advance(Duration::from_secs(40)).await;
                near.write_all(&[*byte]).await.unwrap();
            }
            let mut output = Vec::new();
            while !output.ends_with(b"abcd") {
                tokio::time::advance(Duration::from_secs(40)).await;
                let mut piece = [0; 4];
                let read = near.read(&mut piece).await.unwrap();
                output.extend_from_slice(&piece[..read]);
            }
            drop(near);
        };
        let (limits, drain) = (Limits::default(), Drain::new());
        let (ended, ()) = tokio::join!(serve(far, &limits, &handler, &drain), client);
        ended.unwrap();
        assert!(began.elapsed().as_secs() > 600);
    });
}

#[test]
fn collecting_is_bounded() {
    run(async {
        let large = |length| octelium_http1::CollectError::TooLarge == length;
        assert_eq!(full("abc").collect(3).await, Ok(Bytes::from("abc")));
        assert!(large(full("abc").collect(2).await.unwrap_err()));
        assert_eq!(Pieces::new(["a", "bc", "", "d"]).body().collect(4).await, Ok(Bytes::from("abcd")));
        assert!(large(Pieces::new(["a", "bc", "d"]).body().collect(3).await.unwrap_err()));
        assert_eq!(Body::empty().collect(0).await, Ok(Bytes::new()));
        let failing = Pieces::new(["a"]).then(BodyError::Closed).body();
        assert_eq!(failing.collect(9).await, Err(BodyError::Closed.into()));
        assert!(Body::default().is_end() && !full("a").is_end() && !Body::from_source(Never).is_end());
    });
}

#[test]
fn framing_headers_are_never_copied_into_trailers_or_heads() {
    run(async {
        let mut trailers = HeaderMap::new();
        for name in [TRANSFER_ENCODING, CONTENT_LENGTH, CONNECTION] {
            trailers.insert(name, HeaderValue::from_static("1"));
        }
        let trailers = Rc::new(trailers);
        let (output, ended) = answer(GET, || {
            let mut pieces = Pieces::new(["x"]);
            pieces.trailers = Some((*trailers).clone());
            text(pieces.body())
        })
        .await;
        ended.unwrap();
        assert!(output.ends_with("\r\n\r\n1\r\nx\r\n0\r\n\r\n"), "{output}");
    });
}
