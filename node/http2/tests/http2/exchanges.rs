//! Requests and responses between peers that follow the rules.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use octelium_http1::{Body, BodyError, Drain, Source};
use octelium_http2::{Limits, PREFACE, serve};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

use crate::support::{
    DATA, END_STREAM, HEADERS, Peer, RST_STREAM, SETTINGS, Server, WINDOW_UPDATE, act, client, collect, frame, full,
    get, post, reset, run, text,
};

fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("https://a.test{path}")).body(()).unwrap()
}

#[test]
fn a_request_reaches_the_handler_as_over_http1() {
    run(async {
        let handler = act(async |request| {
            let (parts, body) = request.into_parts();
            assert_eq!(parts.headers["host"], "a.test");
            assert_eq!(parts.version, http::Version::HTTP_2);
            let body = String::from_utf8(body.collect(1 << 20).await.unwrap().to_vec()).unwrap();
            text(Body::full(format!("{} {} {body}", parts.method, parts.uri)))
        });
        let mut client = client(handler, Limits::default()).await;
        let (response, _) = client.send_request(request("GET", "/x?y=1"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-length"], "11");
        assert!(response.headers().contains_key("date"));
        assert_eq!(collect(&mut response.into_body()).await.unwrap(), b"GET /x?y=1 ");
        let (response, mut body) = client.send_request(request("POST", "/up"), false).unwrap();
        body.send_data(Bytes::from_static(b"abc"), false).unwrap();
        body.send_data(Bytes::from_static(b"def"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(collect(&mut response.into_body()).await.unwrap(), b"POST /up abcdef");
    });
}

#[test]
fn streams_are_answered_in_the_order_that_they_are_ready() {
    run(async {
        let gate = Rc::new(tokio::sync::Notify::new());
        let handler = act({
            let gate = gate.clone();
            async move |request| {
                if request.uri().path() == "/slow" {
                    gate.notified().await;
                }
                text(full("done"))
            }
        });
        let mut client = client(handler, Limits::default()).await;
        let (slow, _) = client.send_request(request("GET", "/slow"), true).unwrap();
        let (fast, _) = client.send_request(request("GET", "/fast"), true).unwrap();
        assert_eq!(fast.await.unwrap().status(), 200);
        gate.notify_one();
        assert_eq!(slow.await.unwrap().status(), 200);
    });
}

/// Pieces of a body, and how many were taken.
struct Pieces {
    left: usize,
    size: usize,
    pulled: Rc<Cell<usize>>,
    trailers: Option<HeaderMap>,
    fails: bool,
}

impl Source for Pieces {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.left == 0 {
            return Poll::Ready(self.fails.then_some(Err(BodyError::Closed)));
        }
        self.left -= 1;
        self.pulled.set(self.pulled.get() + 1);
        Poll::Ready(Some(Ok(Bytes::from(vec![b'x'; self.size]))))
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }
}

#[test]
fn trailers_pass_both_ways_without_those_that_are_forbidden() {
    run(async {
        let handler = act(async |request: Request<Body>| {
            let mut body = request.into_body();
            while body.next().await.is_some() {}
            let trailers = body.take_trailers().unwrap();
            assert!(trailers.contains_key("x-sum") && !trailers.contains_key("authorization"), "{trailers:?}");
            let mut answer = HeaderMap::new();
            answer.insert("grpc-status", HeaderValue::from_static("0"));
            answer.insert("content-length", HeaderValue::from_static("9"));
            let pulled = Rc::default();
            text(Body::from_source(Pieces { left: 1, size: 3, pulled, trailers: Some(answer), fails: false }))
        });
        let mut client = client(handler, Limits::default()).await;
        let (response, mut body) = client.send_request(request("POST", "/"), false).unwrap();
        body.send_data(Bytes::from_static(b"abc"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        trailers.insert("authorization", HeaderValue::from_static("Bearer x"));
        body.send_trailers(trailers).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(collect(&mut body).await.unwrap(), b"xxx");
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers.len(), 1, "{trailers:?}");
        assert_eq!(trailers["grpc-status"], "0");
    });
}

#[test]
fn a_response_without_a_body_ends_with_its_head() {
    run(async {
        let handler = act(async |request: Request<Body>| {
            let status = request.uri().path()[1..].parse().unwrap();
            let mut response = text(full("never sent"));
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            response
        });
        let mut client = client(handler, Limits::default()).await;
        for (method, path, length) in [("HEAD", "/200", Some("10")), ("GET", "/204", None), ("GET", "/304", Some("10"))]
        {
            let (response, _) = client.send_request(request(method, path), true).unwrap();
            let response = response.await.unwrap();
            assert!(response.body().is_end_stream(), "{method} {path}");
            let found = response.headers().get("content-length").map(|length| length.to_str().unwrap());
            assert_eq!(found, length, "{method} {path}");
        }
    });
}

#[test]
fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    run(async {
        let handler = act(async |request: Request<Body>| match request.uri().path() {
            "/read" => text(Body::full(request.into_body().collect(100).await.unwrap())),
            _ => text(full("no")),
        });
        let mut client = client(handler, Limits::default()).await;
        let ask = |path| {
            let mut request = request("POST", path);
            request.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
            request
        };
        let (mut response, mut body) = client.send_request(ask("/read"), false).unwrap();
        let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(interim.status(), 100);
        body.send_data(Bytes::from_static(b"abc"), true).unwrap();
        let mut response = response.await.unwrap();
        assert_eq!(collect(response.body_mut()).await.unwrap(), b"abc");
        let (mut response, _body) = client.send_request(ask("/ignore"), false).unwrap();
        assert!(std::future::poll_fn(|cx| response.poll_informational(cx)).await.is_none(), "not asked for");
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

#[test]
fn a_body_is_pulled_only_as_far_as_its_client_gives_window() {
    run(async {
        let pulled = Rc::new(Cell::new(0));
        let handler = act({
            let pulled = pulled.clone();
            async move |_| {
                let pulled = pulled.clone();
                text(Body::from_source(Pieces { left: 100, size: 10_000, pulled, trailers: None, fails: false }))
            }
        });
        let mut peer = Peer::new(handler, Limits::default()).await;
        peer.send(&get(1)).await;
        assert_eq!(peer.expect(HEADERS).await.status(), 200);
        let mut got = 0;
        while got < 65_535 {
            got += peer.expect(DATA).await.payload.len();
        }
        tokio::task::yield_now().await;
        assert_eq!(got, 65_535, "the window that a client begins with");
        assert_eq!(pulled.get(), 7, "seven pieces of 10 000 bytes fill it");
        let more = 10_000_u32.to_be_bytes();
        peer.send(&frame(WINDOW_UPDATE, 0, 0, &more)).await;
        peer.send(&frame(WINDOW_UPDATE, 0, 1, &more)).await;
        while got < 75_535 {
            got += peer.expect(DATA).await.payload.len();
        }
        assert_eq!(pulled.get(), 8);
    });
}

#[test]
fn window_is_given_back_only_for_what_the_handler_took() {
    run(async {
        let gate = Rc::new(tokio::sync::Notify::new());
        let handler = act({
            let gate = gate.clone();
            async move |request: Request<Body>| {
                let mut body = request.into_body();
                gate.notified().await;
                let mut bytes = 0;
                while let Some(Ok(piece)) = body.next().await {
                    bytes += piece.len();
                }
                text(Body::full(bytes.to_string()))
            }
        });
        let mut peer = Peer::new(handler, Limits::default()).await;
        peer.send(&post(1)).await;
        for _ in 0..4 {
            peer.send(&frame(DATA, 0, 1, &[0; 16_000])).await;
        }
        // A ping comes back after everything that the frames before it caused.
        peer.send(&frame(6, 0, 0, &[1; 8])).await;
        loop {
            let frame = peer.any().await.unwrap();
            assert!(frame.kind != WINDOW_UPDATE || frame.stream == 0, "no window for what nobody took: {frame:?}");
            if frame.kind == 6 {
                break;
            }
        }
        gate.notify_one();
        while peer.expect(WINDOW_UPDATE).await.stream != 1 {}
        peer.send(&frame(DATA, END_STREAM, 1, &[])).await;
        assert_eq!(peer.expect(HEADERS).await.status(), 200);
        assert_eq!(peer.expect(DATA).await.payload, b"64000");
    });
}

#[test]
fn what_a_handler_leaves_unread_does_not_hold_up_the_connection() {
    run(async {
        let handler = act(async |_| text(full("no thanks")));
        let mut client = client(handler, Limits::default()).await;
        // In all far more than the connection's window.
        for _ in 0..40 {
            let (response, mut body) = client.send_request(request("POST", "/"), false).unwrap();
            body.send_data(Bytes::from(vec![0; 60_000]), false).unwrap();
            let mut response = response.await.unwrap();
            assert_eq!(collect(response.body_mut()).await.unwrap(), b"no thanks");
        }
    });
}

#[test]
fn a_stream_that_its_client_gives_up_ends_its_handler() {
    run(async {
        struct Gone(Rc<Cell<bool>>);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let gone = Rc::new(Cell::new(false));
        let handler = act({
            let gone = gone.clone();
            async move |request: Request<Body>| {
                if request.method() == "POST" {
                    let _gone = Gone(gone.clone());
                    std::future::pending::<()>().await;
                }
                text(full("ok"))
            }
        });
        let mut peer = Peer::new(handler, Limits::default()).await;
        peer.send(&[post(1), get(3)].concat()).await;
        assert_eq!(peer.expect(HEADERS).await.stream, 3);
        peer.send(&[reset(1), get(5)].concat()).await;
        assert_eq!(peer.expect(HEADERS).await.stream, 5);
        assert!(gone.get());
    });
}

#[test]
fn what_its_client_gave_up_at_once_is_never_begun() {
    run(async {
        let begun = Rc::new(Cell::new(0));
        let handler = act({
            let begun = begun.clone();
            async move |_: Request<Body>| {
                begun.set(begun.get() + 1);
                text(full("ok"))
            }
        });
        let mut peer = Peer::new(handler.clone(), Limits::default()).await;
        // In one go, so that the server sees both together.
        peer.send(&[post(1), reset(1), get(3), reset(3), get(5)].concat()).await;
        assert_eq!(peer.expect(HEADERS).await.stream, 5);
        assert_eq!((begun.get(), handler.given_up.get()), (1, 2));
    });
}

#[test]
fn a_body_that_fails_resets_its_stream_and_no_other() {
    run(async {
        let handler = act(async |request: Request<Body>| {
            let mut response = match request.method().as_str() {
                "POST" => text(Body::from_source(Pieces {
                    left: 1,
                    size: 3,
                    pulled: Rc::default(),
                    trailers: None,
                    fails: true,
                })),
                _ => text(full("ok")),
            };
            response.headers_mut().insert("x", HeaderValue::from_static("y"));
            response
        });
        let mut peer = Peer::new(handler, Limits::default()).await;
        peer.send(&[post(1), get(3)].concat()).await;
        let mut ended = Vec::new();
        while ended.len() < 2 {
            let frame = peer.next().await.unwrap();
            if frame.kind == RST_STREAM || frame.flags & END_STREAM != 0 && frame.kind != SETTINGS {
                ended.push((frame.stream, frame.kind == RST_STREAM));
            }
        }
        ended.sort();
        assert_eq!(ended, [(1, true), (3, false)]);
    });
}

#[test]
fn a_length_that_is_wrong_is_not_told() {
    run(async {
        let handler = act(async |_| {
            let pulled = Rc::default();
            let body = Body::from_source(Pieces { left: 2, size: 5, pulled, trailers: None, fails: false });
            Response::builder().header("content-length", "3").body(body).unwrap()
        });
        let mut client = client(handler, Limits::default()).await;
        let (response, _) = client.send_request(request("GET", "/"), true).unwrap();
        let mut response = response.await.unwrap();
        assert!(!response.headers().contains_key("content-length"));
        assert_eq!(collect(response.body_mut()).await.unwrap().len(), 10);
    });
}

/// Counts what is written at once.
struct Counted(DuplexStream, Rc<Cell<usize>>);

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.1.set(self.1.get() + 1);
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[test]
fn what_is_answered_in_one_turn_is_written_at_once() {
    run(async {
        let (near, far) = duplex(256 << 10);
        let writes = Rc::new(Cell::new(0));
        let io = Counted(far, writes.clone());
        let handler = act(async |_| text(Body::full(vec![b'x'; 1024])));
        let drain = Drain::new();
        let served = tokio::task::spawn_local({
            let drain = drain.clone();
            async move { serve(io, &Limits::default(), &*handler, &drain).await }
        });
        let mut peer = Peer { server: Server { io: near, drain, ended: served } };
        peer.send(&[&PREFACE[..], &frame(SETTINGS, 0, 0, &[])].concat()).await;
        while peer.expect(SETTINGS).await.flags == 0 {}
        let before = writes.get();
        let requests: Vec<u8> = (0..20).flat_map(|at| get(2 * at + 1)).collect();
        peer.send(&requests).await;
        for _ in 0..20 {
            assert_eq!(peer.expect(DATA).await.payload.len(), 1024);
        }
        assert_eq!(writes.get() - before, 1, "twenty heads and bodies");
    });
}
