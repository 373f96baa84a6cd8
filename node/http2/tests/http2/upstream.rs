//! The upstream side: requests as streams, and upstreams that follow the rules or don't.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use octelium_http1::{Body, BodyError, Connect, PoolLimits, SendError, Source};
use octelium_http2::{Limits, PREFACE, Pool};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::support::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, SETTINGS, act, block, frame, full, run, text,
};

/// Dials upstreams that `make` starts on the far end.
struct Dial<F> {
    make: F,
    dialed: Cell<usize>,
}

impl<F: Fn(DuplexStream)> Dial<F> {
    fn new(make: F) -> Self {
        Self { make, dialed: Cell::new(0) }
    }
}

impl<F: Fn(DuplexStream)> Connect for Dial<F> {
    type Io = DuplexStream;

    async fn connect(&self) -> io::Result<DuplexStream> {
        let (near, far) = duplex(64 << 10);
        self.dialed.set(self.dialed.get() + 1);
        (self.make)(far);
        Ok(near)
    }
}

/// An upstream that follows the rules: our own server.
fn good<F>(limits: Limits, answer: F) -> Dial<impl Fn(DuplexStream)>
where
    F: AsyncFn(Request<Body>) -> Response<Body> + 'static,
{
    let handler = act(answer);
    Dial::new(move |io| {
        let (handler, limits) = (handler.clone(), limits.clone());
        tokio::task::spawn_local(async move {
            let drain = octelium_http1::Drain::new();
            octelium_http2::serve(io, &limits, &*handler, &drain).await.ok();
        });
    })
}

/// An upstream that, once it has a request, sends these frames, on each connection the next.
fn raw(frames: Vec<Vec<u8>>) -> Dial<impl Fn(DuplexStream)> {
    let frames = Rc::new(RefCell::new(frames.into_iter()));
    Dial::new(move |mut io| {
        let frames = frames.clone();
        tokio::task::spawn_local(async move {
            let mut preface = [0; PREFACE.len()];
            io.read_exact(&mut preface).await.unwrap();
            assert_eq!(&preface, PREFACE);
            io.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
            loop {
                let mut head = [0; 9];
                if io.read_exact(&mut head).await.is_err() {
                    return;
                }
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; length as usize];
                io.read_exact(&mut payload).await.unwrap();
                if head[3] == HEADERS {
                    let next = frames.borrow_mut().next().unwrap_or_default();
                    io.write_all(&next).await.ok();
                }
            }
        });
    })
}

fn request(method: &str, path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder().method(method).uri(path).header("host", "a.test").body(body.into()).unwrap()
}

async fn all(response: Response<Body>) -> Result<Vec<u8>, String> {
    response.into_body().collect(1 << 20).await.map(|body| body.to_vec()).map_err(|error| error.to_string())
}

/// A body in pieces that can't be sent twice.
struct Pieces {
    left: usize,
    end: Result<Option<HeaderMap>, BodyError>,
}

impl Source for Pieces {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.left == 0 {
            return Poll::Ready(self.end.as_ref().err().map(|error| Err(*error)));
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Bytes::from_static(&[b'x'; 10_000]))))
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.end.as_mut().ok()?.take()
    }
}

#[test]
fn requests_share_a_connection() {
    run(async {
        let dial = good(Limits::default(), async |request: Request<Body>| {
            let (parts, body) = request.into_parts();
            assert_eq!(
                (&parts.headers["host"], parts.headers.contains_key("connection")),
                (&"a.test".parse().unwrap(), false)
            );
            let length =
                parts.headers.get("content-length").map_or("none", |length| length.to_str().unwrap()).to_owned();
            let bytes = body.collect(1 << 20).await.unwrap().len();
            text(Body::full(format!("{} {} {length} {bytes}", parts.method, parts.uri)))
        });
        let pool = Pool::new(PoolLimits::default());
        let mut hop = request("GET", "/a?b", Body::empty());
        hop.headers_mut().insert("connection", "close".parse().unwrap());
        hop.headers_mut().insert("te", "gzip, trailers".parse().unwrap());
        let cases = [
            (hop, "GET /a?b none 0"),
            (request("POST", "/", Body::empty()), "POST / 0 0"),
            (request("POST", "/", full("abc")), "POST / 3 3"),
            (request("PUT", "/", Body::from_source(Pieces { left: 30, end: Ok(None) })), "PUT / none 300000"),
        ];
        let sent = cases.map(|(request, expected)| async {
            assert_eq!(all(pool.send("k", &dial, request).await.unwrap()).await.unwrap(), expected.as_bytes());
        });
        futures_util::future::join_all(sent).await;
        assert_eq!((dial.dialed.get(), pool.connections()), (1, 1), "those who came while it was made waited for it");
    });
}

#[test]
fn trailers_pass_both_ways() {
    run(async {
        let dial = good(Limits::default(), async |request: Request<Body>| {
            let mut body = request.into_body();
            while body.next().await.is_some() {}
            text(Body::from_source(Pieces { left: 1, end: Ok(body.take_trailers()) }))
        });
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert("host", "b.test".parse().unwrap());
        let body = Body::from_source(Pieces { left: 2, end: Ok(Some(trailers)) });
        let pool = Pool::new(PoolLimits::default());
        let mut body = pool.send("k", &dial, request("POST", "/", body)).await.unwrap().into_body();
        while body.next().await.is_some() {}
        let trailers = body.take_trailers().unwrap();
        assert_eq!((trailers.len(), &trailers["grpc-status"]), (1, &"0".parse().unwrap()));
    });
}

#[test]
fn an_upstream_that_takes_few_streams_gets_more_connections() {
    run(async {
        let gate = Rc::new(tokio::sync::Semaphore::new(0));
        let limits = Limits { streams_max: 2, ..Limits::default() };
        let dial = good(limits, {
            let gate = gate.clone();
            async move |request: Request<Body>| {
                if request.uri().path() == "/wait" {
                    gate.acquire().await.unwrap().forget();
                }
                text(full("ok"))
            }
        });
        let pool = Pool::new(PoolLimits::default());
        // The first answer brings the settings with it.
        pool.send("k", &dial, request("GET", "/", Body::empty())).await.unwrap();
        let waiting = (0..5).map(|_| pool.send("k", &dial, request("GET", "/wait", Body::empty())));
        let release = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(pool.connections(), 3, "two streams on each");
            gate.add_permits(5);
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(waiting), release);
        for answer in answers {
            assert_eq!(all(answer.unwrap()).await.unwrap(), b"ok");
        }
        assert_eq!(dial.dialed.get(), 3);
        tokio::time::advance(Duration::from_secs(91)).await;
        pool.sweep();
        assert_eq!(pool.connections(), 0, "nobody used them");
    });
}

#[test]
fn one_answer_that_nobody_reads_does_not_hold_up_others() {
    run(async {
        let dial = good(Limits::default(), async |_: Request<Body>| {
            text(Body::from_source(Pieces { left: 20, end: Ok(None) }))
        });
        let pool = Pool::new(PoolLimits::default());
        let mut unread = Vec::new();
        for _ in 0..50 {
            unread.push(pool.send("k", &dial, request("GET", "/", Body::empty())).await.unwrap());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let read = pool.send("k", &dial, request("GET", "/", Body::empty())).await.unwrap();
        assert_eq!(all(read).await.unwrap().len(), 200_000);
        assert_eq!(dial.dialed.get(), 1);
    });
}

fn ok(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[(":status", "200")]))
}

#[test]
fn a_request_that_the_upstream_refused_untouched_is_sent_once_more() {
    let refused = frame(RST_STREAM, 0, 1, &7_u32.to_be_bytes());
    let other = frame(RST_STREAM, 0, 1, &2_u32.to_be_bytes());
    let streamed = || Body::from_source(Pieces { left: 1, end: Ok(None) });
    let again = ok(3);
    let cases: [(&str, Vec<Vec<u8>>, Body, bool); 5] = [
        ("refused", vec![refused.clone(), again.clone()], full("abc"), true),
        ("refused, without a body", vec![refused.clone(), again.clone()], Body::empty(), true),
        ("refused twice", vec![refused.clone(), frame(RST_STREAM, 0, 3, &7_u32.to_be_bytes())], Body::empty(), false),
        ("a body that is gone", vec![refused, again.clone()], streamed(), false),
        ("another error", vec![other, again], Body::empty(), false),
    ];
    for (what, frames, body, succeeds) in cases {
        run(async {
            let dial = raw(frames);
            let sent = Pool::new(PoolLimits::default()).send("k", &dial, request("POST", "/", body)).await;
            match sent {
                Ok(response) => assert!(succeeds && response.status() == 200, "{what}"),
                Err(error) => assert!(!succeeds && matches!(error, SendError::Closed), "{what}: {error}"),
            }
        });
    }
}

#[test]
fn a_connection_that_goes_away_finishes_and_is_used_no_more() {
    run(async {
        let goaway = frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
        let head = frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "200")]));
        let body = frame(DATA, END_STREAM, 1, b"finished");
        let dial = raw(vec![[goaway, head, body].concat(), ok(1)]);
        let pool = Pool::new(PoolLimits::default());
        let first = pool.send("k", &dial, request("GET", "/", Body::empty())).await.unwrap();
        assert_eq!(all(first).await.unwrap(), b"finished");
        let second = pool.send("k", &dial, request("GET", "/", Body::empty())).await.unwrap();
        assert_eq!((second.status().as_u16(), dial.dialed.get()), (200, 2));
    });
}

#[test]
fn a_malformed_response_is_not_passed_on() {
    let head = |fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS, 1, &block(fields));
    const S: (&str, &str) = (":status", "200");
    let ended = |fields: &[(&str, &str)], data: &[u8]| [head(fields), frame(DATA, END_STREAM, 1, data)].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no status", ended(&[("x", "y")], b"abc")),
        ("a status that is none", ended(&[(":status", "abc")], b"abc")),
        ("two statuses", ended(&[S, S], b"abc")),
        ("connection", ended(&[S, ("connection", "close")], b"abc")),
        ("transfer-encoding", ended(&[S, ("transfer-encoding", "chunked")], b"abc")),
        ("a padded value", ended(&[S, ("x", " y")], b"abc")),
        ("two lengths", ended(&[S, ("content-length", "3"), ("content-length", "3")], b"abc")),
        ("a longer body", ended(&[S, ("content-length", "2")], b"abc")),
        ("a shorter body", ended(&[S, ("content-length", "4")], b"abc")),
        ("many fields", ended(&[&[S][..], &vec![("x", "y"); 200]].concat(), b"abc")),
        ("switching protocols", head(&[(":status", "101")])),
        ("many interim responses", head(&[(":status", "103")]).repeat(9)),
        ("a push", frame(5, END_HEADERS, 1, &[0, 0, 0, 2])),
        ("DATA before the head", frame(DATA, END_STREAM, 1, b"abc")),
        ("a stream that isn't there", frame(DATA, END_STREAM, 7, b"abc")),
        ("HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
    ];
    for (what, frames) in cases {
        run(async {
            let (pool, dial) = (Pool::new(PoolLimits::default()), raw(vec![frames]));
            let sent = pool.send("k", &dial, request("GET", "/", Body::empty()));
            match sent.await {
                Err(error) => assert!(!matches!(error, SendError::HeadTimeout), "{what}: {error}"),
                Ok(response) => {
                    let body = all(response).await;
                    assert!(body.is_err(), "{what}: {body:?}");
                }
            }
        });
    }
}

#[test]
fn an_upstream_that_is_silent_is_given_up_and_gets_no_more_streams() {
    run(async {
        let dial = raw(vec![Vec::new(), ok(1)]);
        let pool = Pool::new(PoolLimits::default());
        let sent = pool.send("k", &dial, request("GET", "/", Body::empty())).await;
        assert!(matches!(sent, Err(SendError::HeadTimeout)), "{:?}", sent.map(|_| ()));
        let sent = pool.send("k", &dial, request("GET", "/", Body::empty())).await.unwrap();
        assert_eq!((sent.status().as_u16(), dial.dialed.get()), (200, 2));
        let nobody = Dial::new(drop);
        let sent = pool.send("other", &nobody, request("GET", "/", Body::empty())).await;
        assert!(matches!(sent, Err(SendError::Closed | SendError::Io(_))), "{:?}", sent.map(|_| ()));
    });
}

#[test]
fn a_request_whose_body_fails_is_the_callers_fault() {
    run(async {
        let dial = good(Limits::default(), async |request: Request<Body>| {
            assert!(request.into_body().collect(1 << 20).await.is_err());
            text(full("never"))
        });
        let body = Body::from_source(Pieces { left: 2, end: Err(BodyError::Closed) });
        let sent = Pool::new(PoolLimits::default()).send("k", &dial, request("POST", "/", body)).await;
        assert!(matches!(sent, Err(SendError::RequestBody(BodyError::Closed))), "{:?}", sent.map(|_| ()));
    });
}

#[test]
fn an_answer_that_comes_before_the_request_has_ended_goes_on_with_it() {
    run(async {
        // Echoes piece by piece: neither side can wait for the other's end.
        let dial = good(Limits::default(), async |request: Request<Body>| text(request.into_body()));
        let body = Body::from_source(Pieces { left: 50, end: Ok(None) });
        let response = Pool::new(PoolLimits::default()).send("k", &dial, request("POST", "/", body)).await.unwrap();
        assert_eq!(all(response).await.unwrap().len(), 500_000);
    });
}

#[test]
fn what_can_not_be_sent_is_refused_here() {
    let host = |host: &str| Request::builder().uri("/").header("host", host).body(Body::empty()).unwrap();
    let mut two = host("a.test");
    two.headers_mut().append("host", "b.test".parse().unwrap());
    let none = Request::builder().uri("/").body(Body::empty()).unwrap();
    let connect = Request::builder().method("CONNECT").uri("/").header("host", "a").body(Body::empty()).unwrap();
    for request in [two, none, connect, host("u@a.test"), host("a b")] {
        run(async {
            let dial = Dial::new(|_| panic!("nothing is dialed for this"));
            let sent = Pool::new(PoolLimits::default()).send("k", &dial, request).await;
            assert!(matches!(sent, Err(SendError::Framing(_))), "{:?}", sent.map(|_| ()));
        });
    }
}
