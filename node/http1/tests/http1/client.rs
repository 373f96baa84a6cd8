//! The upstream side: how requests are written, which responses are believed, and which connections are kept.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use octelium_http1::{Body, BodyError, CollectError, Connect, Pool, PoolLimits, Request, Response, SendError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::support::{Never, Pieces, answering, full, read_head, read_rest, read_until, run, run_paused, upstream};

fn pool() -> Pool {
    Pool::new(PoolLimits::default())
}

fn request(method: Method, body: Body) -> Request {
    let mut request = Request::new(method, "/a?b=c");
    request.body = body;
    header(&mut request, "x", "1");
    header(&mut request, "host", "a");
    request
}

fn header(request: &mut Request, name: &'static str, value: &'static str) {
    request.headers.append(HeaderName::from_static(name), &HeaderValue::from_static(value));
}

fn get() -> Request {
    request(Method::GET, Body::empty())
}

async fn collect(response: Response) -> Result<Bytes, CollectError> {
    response.body.collect(1 << 20).await
}

#[test]
fn requests_are_written_host_first_and_framed_by_the_engine() {
    const REST: &str = " /a?b=c HTTP/1.1\r\nhost: a\r\nx: 1\r\n";
    type Make = fn() -> Body;
    let rows: Vec<(Method, Make, String)> = vec![
        (Method::GET, Body::empty, format!("GET{REST}\r\n")),
        (Method::HEAD, Body::empty, format!("HEAD{REST}\r\n")),
        (Method::DELETE, Body::empty, format!("DELETE{REST}\r\n")),
        (Method::POST, Body::empty, format!("POST{REST}content-length: 0\r\n\r\n")),
        (Method::PUT, Body::empty, format!("PUT{REST}content-length: 0\r\n\r\n")),
        (Method::PATCH, Body::empty, format!("PATCH{REST}content-length: 0\r\n\r\n")),
        (Method::GET, || full("abc"), format!("GET{REST}content-length: 3\r\n\r\nabc")),
        (Method::POST, || full("abc"), format!("POST{REST}content-length: 3\r\n\r\nabc")),
        (Method::POST, || Pieces::new(["a", "bc"]).length(3).body(), format!("POST{REST}content-length: 3\r\n\r\nabc")),
        (
            Method::POST,
            || Pieces::new(["a", "", "bc"]).body(),
            format!("POST{REST}transfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
        ),
    ];
    run(async {
        for (method, body, expected) in rows {
            let mut request = request(method, body());
            let ours = ["content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "expect"];
            for name in ours.into_iter().chain(["proxy-connection"]) {
                header(&mut request, name, "9");
            }
            let wanted = expected.clone();
            let upstream = upstream(move |_, mut stream| {
                let wanted = wanted.clone();
                async move {
                    let mut got = vec![0; wanted.len()];
                    stream.read_exact(&mut got).await.unwrap();
                    assert_eq!(String::from_utf8(got).unwrap(), wanted);
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                    assert_eq!(read_rest(&mut stream).await, "");
                }
            });
            let pool = pool();
            let response = pool.send("a", &upstream, request).await.unwrap();
            assert_eq!(response.status, StatusCode::OK, "{expected}");
            assert_eq!(pool.idle(), 1, "{expected}");
        }
    });
}

#[test]
fn requests_that_cannot_be_written_are_refused() {
    run(async {
        let upstream = answering("");
        let mut two_hosts = get();
        header(&mut two_hosts, "host", "b");
        for request in [request(Method::CONNECT, Body::empty()), two_hosts] {
            let error = pool().send("a", &upstream, request).await.unwrap_err();
            assert!(matches!(error, SendError::Framing(_)), "{error}");
        }
    });
}

/// What one response to `method` gives: status, body, trailers, and how many connections are kept.
async fn outcome(method: Method, response: &str) -> Result<(u16, Result<String, BodyError>, usize, usize), SendError> {
    let pool = pool();
    let response = response.to_owned();
    let upstream = upstream(move |_, mut stream| {
        let response = response.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(response.as_bytes()).await.unwrap();
            // A response that is cut off or ends with the connection closes it; others leave it open.
            if response.contains("X-Close") {
                return;
            }
            read_rest(&mut stream).await;
        }
    });
    let mut response = pool.send("a", &upstream, request(method, Body::empty())).await?;
    let mut body = String::new();
    let ended = loop {
        match response.body.next().await {
            None => break Ok(()),
            Some(Ok(piece)) => body.push_str(std::str::from_utf8(&piece).unwrap()),
            Some(Err(error)) => break Err(error),
        }
    };
    let trailers = response.body.take_trailers().map_or(0, |trailers| trailers.len());
    Ok((response.status.as_u16(), ended.map(|()| body), trailers, pool.idle()))
}

#[test]
fn responses_end_where_they_say() {
    let many_interims = format!("{}HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", "HTTP/1.1 102 P\r\n\r\n".repeat(8));
    let get = Method::GET;
    // Method, response, status, body, trailers, kept.
    let rows: Vec<(Method, &str, u16, &str, usize, usize)> = vec![
        (get.clone(), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, "abc", 0, 1),
        (get.clone(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", 0, 1),
        (get.clone(), "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, "", 0, 1),
        (get.clone(), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", 200, "abc", 0, 0),
        (get.clone(), "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, "abc", 0, 0),
        (get.clone(), "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc", 200, "abc", 0, 1),
        (get.clone(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, "abc", 0, 1),
        (
            get.clone(),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: 1\r\nHost: b\r\n\r\n",
            200,
            "a",
            1,
            1,
        ),
        (get.clone(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200", 200, "", 0, 0),
        (get.clone(), "HTTP/1.1 200 OK\r\nX-Close: 1\r\n\r\nabc", 200, "abc", 0, 0),
        (get.clone(), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", 200, "abc", 0, 0),
        (get.clone(), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n", 200, "abc", 0, 0),
        (get.clone(), "HTTP/1.1 204 No Content\r\n\r\n", 204, "", 0, 1),
        (get.clone(), "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", 204, "", 0, 0),
        (get.clone(), "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204, "", 0, 0),
        (get.clone(), "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", 304, "", 0, 1),
        (get.clone(), "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc", 304, "", 0, 0),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", 200, "", 0, 1),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, "", 0, 1),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, "", 0, 0),
        (
            get.clone(),
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            200,
            "",
            0,
            1,
        ),
        (get.clone(), &many_interims, 200, "a", 0, 1),
        (get, "HTTP/1.1 599 Xä\r\nContent-Length: 0\r\n\r\n", 599, "", 0, 1),
    ];
    run(async {
        for (method, response, status, body, trailers, kept) in rows {
            let outcome = outcome(method, response).await.unwrap();
            assert_eq!(outcome, (status, Ok(body.to_owned()), trailers, kept), "{response:?}");
        }
    });
}

#[test]
fn responses_that_could_be_read_in_two_ways_are_refused() {
    let many_interims = "HTTP/1.1 102 P\r\n\r\n".repeat(9);
    let long_head = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(65 * 1024));
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: a\r\n".repeat(129));
    let rows = [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 099 X\r\n\r\n",
        "HTTP/1.1 600 X\r\n\r\n",
        "HTTP/1.1 20 X\r\n\r\n",
        "HTTP/1.1 2000 X\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "\x15\x03\x01\x00\x02\n\r\n\r\n",
        &many_interims,
        &long_head,
        &many_headers,
    ];
    run(async {
        for response in rows {
            let refused = outcome(Method::GET, response).await;
            assert!(matches!(refused, Err(SendError::Framing(_))), "{response:?} gave {refused:?}");
        }
    });
}

#[test]
fn responses_that_break_off_are_errors_and_not_kept() {
    run(async {
        for response in ["HTTP/1.1 200 OK\r\nX-Close: 1\r\n", "HTTP/1.1 100 Continue\r\nX-Close: 1\r\n\r\n"] {
            assert!(matches!(outcome(Method::GET, response).await, Err(SendError::Closed)), "{response:?}");
        }
        let rows = [
            ("Content-Length: 5\r\n\r\nabc", BodyError::Closed),
            ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", BodyError::Closed),
            ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", BodyError::Closed),
            ("Transfer-Encoding: chunked\r\n\r\n3\nabc", BodyError::Framing("chunk size is not hexadecimal")),
        ];
        for (rest, expected) in rows {
            let (status, body, _, kept) =
                outcome(Method::GET, &format!("HTTP/1.1 200 OK\r\nX-Close: 1\r\n{rest}")).await.unwrap();
            assert_eq!((status, body, kept), (200, Err(expected), 0), "{rest:?}");
        }
    });
}

#[test]
fn connections_are_used_again() {
    run(async {
        let pool = pool();
        let upstream = answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
        for _ in 0..5 {
            assert_eq!(collect(pool.send("a", &upstream, get()).await.unwrap()).await.unwrap(), "abc");
        }
        assert_eq!((upstream.dialled.get(), pool.idle()), (1, 1));
        collect(pool.send("b", &upstream, get()).await.unwrap()).await.unwrap();
        assert_eq!((upstream.dialled.get(), pool.idle()), (2, 2));
        pool.clear();
        assert_eq!(pool.idle(), 0);
        collect(pool.send("a", &upstream, get()).await.unwrap()).await.unwrap();
        assert_eq!((upstream.dialled.get(), pool.idle()), (3, 1));
    });
}

#[test]
fn a_connection_in_use_while_the_pool_is_cleared_is_not_kept() {
    run(async {
        let pool = pool();
        let upstream = answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n");
        let response = pool.send("a", &upstream, get()).await.unwrap();
        pool.clear();
        assert_eq!(collect(response).await.unwrap(), "a");
        assert_eq!(pool.idle(), 0);
    });
}

#[test]
fn an_unread_response_gives_up_its_connection() {
    run(async {
        let (pool, closed) = (pool(), Rc::new(Notify::new()));
        let told = closed.clone();
        let upstream = upstream(move |_, mut stream| {
            let told = told.clone();
            async move {
                read_head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
                assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
                told.notify_one();
            }
        });
        drop(pool.send("a", &upstream, get()).await.unwrap());
        closed.notified().await;
        assert_eq!(pool.idle(), 0);
    });
}

#[test]
fn a_kept_connection_that_was_closed_or_spoke_is_not_used() {
    run(async {
        for stray in ["", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"] {
            let (pool, done) = (pool(), Rc::new(Notify::new()));
            let told = done.clone();
            let upstream = upstream(move |_, mut stream| {
                let told = told.clone();
                async move {
                    read_head(&mut stream).await;
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                    tokio::task::yield_now().await;
                    stream.write_all(stray.as_bytes()).await.unwrap();
                    if stray.is_empty() {
                        drop(stream);
                        told.notify_one();
                    } else {
                        told.notify_one();
                        read_rest(&mut stream).await;
                    }
                }
            });
            for number in 1..=3 {
                // Dialled anew each time: what came unasked never becomes an answer.
                assert_eq!(collect(pool.send("a", &upstream, get()).await.unwrap()).await.unwrap(), "ok");
                assert_eq!(upstream.dialled.get(), number);
                done.notified().await;
            }
            assert_eq!(pool.idle(), 1);
            pool.sweep();
            assert_eq!(pool.idle(), 0);
        }
    });
}

/// Sends a request on a kept connection that the upstream closes when it arrives; gives the number of dialled
/// connections.
async fn on_stale(request: Request, partial: &'static str) -> (Result<(), SendError>, usize) {
    let pool = pool();
    let upstream = upstream(move |number, mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        if number == 0 {
            read_head(&mut stream).await;
            stream.write_all(partial.as_bytes()).await.unwrap();
        } else {
            read_rest(&mut stream).await;
        }
    });
    pool.send("a", &upstream, get()).await.unwrap();
    assert_eq!(pool.idle(), 1);
    let sent = pool.send("a", &upstream, request).await.map(drop);
    (sent, upstream.dialled.get())
}

#[test]
fn a_stale_connection_is_replaced_once_if_that_is_safe() {
    run(async {
        let safe = [get(), request(Method::PUT, full("abc")), request(Method::DELETE, Body::empty())];
        for request in safe {
            assert!(matches!(on_stale(request, "").await, (Ok(()), 2)));
        }
        // Not idempotent, not repeatable, or not silent.
        assert!(matches!(on_stale(request(Method::POST, full("abc")), "").await, (Err(SendError::Closed), 1)));
        let streamed = request(Method::PUT, Pieces::new(["abc"]).body());
        assert!(matches!(on_stale(streamed, "").await, (Err(SendError::Closed), 1)));
        assert!(matches!(on_stale(get(), "HTTP/1.1 2").await, (Err(SendError::Closed), 1)));
        assert!(matches!(on_stale(get(), "HTTP/1.1 100 Continue\r\n\r\n").await, (Err(SendError::Closed), 1)));
    });
}

#[test]
fn a_fresh_connection_that_closes_is_not_tried_again() {
    run(async {
        let upstream = upstream(|_, mut stream| async move {
            read_head(&mut stream).await;
        });
        assert!(matches!(pool().send("a", &upstream, get()).await, Err(SendError::Closed)));
        assert_eq!(upstream.dialled.get(), 1);
    });
}

#[test]
fn the_pool_is_bounded() {
    run(async {
        let limits = PoolLimits { idle_per_key_max: 2, idle_max: 5, ..PoolLimits::default() };
        let pool = Pool::new(limits);
        let upstream = answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n");
        for (keys, idle) in [(&["a", "a", "a"][..], 2), (&["b", "b"], 4), (&["c"], 5), (&["d"], 5), (&["e"], 5)] {
            let mut open = Vec::new();
            for key in keys {
                open.push(pool.send(key, &upstream, get()).await.unwrap());
            }
            for response in open {
                collect(response).await.unwrap();
            }
            assert_eq!(pool.idle(), idle, "{keys:?}");
        }
        // Both of "a" were the oldest and went first.
        let dialled = upstream.dialled.get();
        collect(pool.send("b", &upstream, get()).await.unwrap()).await.unwrap();
        assert_eq!(upstream.dialled.get(), dialled);
        collect(pool.send("a", &upstream, get()).await.unwrap()).await.unwrap();
        assert_eq!(upstream.dialled.get(), dialled + 1);

        let none = Pool::new(PoolLimits { idle_max: 0, ..PoolLimits::default() });
        collect(none.send("a", &upstream, get()).await.unwrap()).await.unwrap();
        assert_eq!(none.idle(), 0);
    });
}

#[test]
fn idle_connections_grow_old() {
    run_paused(async {
        let pool = pool();
        let upstream = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        pool.send("a", &upstream, get()).await.unwrap();
        tokio::time::advance(Duration::from_secs(89)).await;
        pool.send("a", &upstream, get()).await.unwrap();
        assert_eq!(upstream.dialled.get(), 1);
        tokio::time::advance(Duration::from_secs(90)).await;
        pool.send("a", &upstream, get()).await.unwrap();
        assert_eq!((upstream.dialled.get(), pool.idle()), (2, 1));
        // Another key's traffic sweeps what nobody asks for any more.
        tokio::time::advance(Duration::from_secs(90)).await;
        pool.send("b", &upstream, get()).await.unwrap();
        assert_eq!(pool.idle(), 1);
    });
}

struct Hanging;

impl Connect for Hanging {
    type Io = TcpStream;

    async fn connect(&self) -> io::Result<TcpStream> {
        pending().await
    }
}

#[test]
fn an_upstream_that_hangs_times_out() {
    run_paused(async {
        let began = Instant::now();
        assert!(matches!(pool().send("a", &Hanging, get()).await, Err(SendError::ConnectTimeout)));
        assert_eq!(began.elapsed().as_secs(), 10);

        let silent = upstream(|_, mut stream| async move {
            read_rest(&mut stream).await;
        });
        let began = Instant::now();
        assert!(matches!(pool().send("a", &silent, get()).await, Err(SendError::HeadTimeout)));
        assert_eq!(began.elapsed().as_secs(), 60);

        let stuck = upstream(|_, stream| async move {
            let _stream = stream;
            pending().await
        });
        let began = Instant::now();
        let sent = pool().send("a", &stuck, request(Method::POST, Body::full(vec![0; 1 << 20]))).await;
        assert!(matches!(sent, Err(SendError::Io(error)) if error.kind() == io::ErrorKind::TimedOut));
        assert_eq!(began.elapsed().as_secs(), 60);

        let half = upstream(|_, mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc").await.unwrap();
            read_rest(&mut stream).await;
        });
        let began = Instant::now();
        let response = pool().send("a", &half, get()).await.unwrap();
        assert_eq!(collect(response).await, Err(BodyError::Timeout.into()));
        assert_eq!(began.elapsed().as_secs(), 60);
    });
}

#[test]
fn a_slow_request_body_does_not_count_against_the_upstream() {
    run_paused(async {
        let (pool, upstream) = (pool(), answering(""));
        let sent = tokio::time::timeout(
            Duration::from_secs(300),
            pool.send("a", &upstream, request(Method::POST, Body::from_source(Never))),
        );
        assert!(sent.await.is_err(), "the response's timeout ran while the request was being sent");
    });
}

#[test]
fn a_failing_request_body_is_the_downstreams_fault() {
    run(async {
        let upstream = upstream(|_, mut stream| async move {
            read_rest(&mut stream).await;
        });
        let rows = [
            (Pieces::new(["a"]).then(BodyError::Timeout), BodyError::Timeout),
            (Pieces::new(["a"]).length(2), BodyError::Framing("body is shorter than its length")),
            (Pieces::new(["abc"]).length(2), BodyError::Framing("body is longer than its length")),
        ];
        for (body, expected) in rows {
            let pool = pool();
            let sent = pool.send("a", &upstream, request(Method::POST, body.body())).await;
            assert!(matches!(sent, Err(SendError::RequestBody(error)) if error == expected), "{sent:?}");
            assert_eq!(pool.idle(), 0);
        }
    });
}

#[test]
fn a_response_that_comes_early_is_given_while_the_request_goes_on() {
    run(async {
        let upstream = upstream(|_, mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
            // Echoes each piece as a chunk of its own.
            for piece in ["one", "two", "three"] {
                read_until(&mut stream, |text| text.ends_with(&format!("{piece}\r\n"))).await;
                stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await.unwrap();
            }
            read_until(&mut stream, |text| text.ends_with("0\r\n\r\n")).await;
            stream.write_all(b"0\r\n\r\n").await.unwrap();
            read_rest(&mut stream).await;
        });
        let pool = pool();
        let (give, take) = tokio::sync::mpsc::channel(1);
        let body = Body::from_source(Channel(take));
        let mut response = pool.send("a", &upstream, request(Method::POST, body)).await.unwrap();
        for piece in ["one", "two", "three"] {
            give.send(Bytes::from(piece)).await.unwrap();
            assert_eq!(response.body.next().await.unwrap().unwrap(), piece);
        }
        assert_eq!(pool.idle(), 0);
        drop(give);
        assert!(response.body.next().await.is_none());
        assert_eq!(pool.idle(), 1);
    });
}

#[test]
fn a_final_answer_to_an_unfinished_request_closes_the_connection() {
    run(async {
        let upstream = upstream(|_, mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
            read_rest(&mut stream).await;
        });
        let pool = pool();
        let response = pool.send("a", &upstream, request(Method::POST, Body::from_source(Never))).await.unwrap();
        assert_eq!(response.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(collect(response).await.unwrap(), "no");
        assert_eq!(pool.idle(), 0);
    });
}

#[test]
fn an_upstream_that_stops_reading_may_still_answer() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dial = Dial(listener.local_addr().unwrap().port());
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
            stream.shutdown().await.unwrap();
            // Reads on until the other side has given up.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let pool = pool();
        let body = std::iter::repeat_n(Ok(Bytes::from(vec![0; 64 * 1024])), 1024).collect();
        let body = Pieces { pieces: body, trailers: None, pulled: Rc::default(), length: None };
        let (response, ()) = tokio::join!(
            async { collect(pool.send("a", &dial, request(Method::POST, body.body())).await.unwrap()).await },
            server
        );
        assert_eq!(response.unwrap(), "no");
        assert_eq!(pool.idle(), 0);
    });
}

struct Channel(tokio::sync::mpsc::Receiver<Bytes>);

impl octelium_http1::Source for Channel {
    fn poll_next(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Bytes, BodyError>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(Ok))
    }
}

/// Dials a real port.
pub struct Dial(pub u16);

impl Connect for Dial {
    type Io = TcpStream;

    async fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(("127.0.0.1", self.0)).await
    }
}

#[test]
fn real_sockets_refuse_and_reset() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dial = Dial(listener.local_addr().unwrap().port());
        let accepted = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Closing with unread bytes resets the connection.
            stream.read_exact(&mut [0; 1]).await.unwrap();
            drop(stream);
        };
        let pool = pool();
        let (reset, ()) = tokio::join!(pool.send("a", &dial, get()), accepted);
        assert!(matches!(reset, Err(SendError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset));

        drop(listener);
        let refused = pool.send("a", &dial, get()).await;
        assert!(matches!(refused, Err(SendError::Connect(error)) if error.kind() == io::ErrorKind::ConnectionRefused));
        assert_eq!(pool.idle(), 0);
    });
}

#[test]
fn a_response_is_read_only_as_fast_as_it_is_taken() {
    run(async {
        const LENGTH: usize = 16 * 1024 * 1024;
        let wrote = Rc::new(Cell::new(0));
        let count = wrote.clone();
        let mut upstream = upstream(move |_, mut stream| {
            let count = count.clone();
            async move {
                read_head(&mut stream).await;
                stream
                    .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").as_bytes())
                    .await
                    .unwrap();
                let piece = [b'x'; 1024];
                while count.get() < LENGTH {
                    count.set(
                        count.get() + stream.write(&piece[..piece.len().min(LENGTH - count.get())]).await.unwrap(),
                    );
                }
                read_rest(&mut stream).await;
            }
        });
        upstream.room = 1024;
        let pool = pool();
        let mut response = pool.send("a", &upstream, get()).await.unwrap();
        assert_eq!(response.body.length(), Some(LENGTH as u64));
        let (mut read, most_ahead) = (0, RefCell::new(0));
        while let Some(piece) = response.body.next().await {
            // Give the upstream every chance to run ahead.
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            read += piece.unwrap().len();
            let ahead = wrote.get() - read;
            most_ahead.replace_with(|most| ahead.max(*most));
        }
        assert_eq!(read, LENGTH);
        assert!(*most_ahead.borrow() <= 4 * 1024, "{most_ahead:?} bytes ahead");
        assert_eq!(pool.idle(), 1);
    });
}
