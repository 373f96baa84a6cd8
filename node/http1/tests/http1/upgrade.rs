//! WebSocket upgrades through `serve` and `Pool::send`, and interim responses on their way to the client.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderName, HeaderValue, StatusCode};
use octelium_http1::{Drain, Limits, Observe, Pool, PoolLimits, Request, Response, SendError, ServeError, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{JoinHandle, spawn_local};

use crate::support::{Upstream, act, read_head, read_rest, run, run_paused, upstream};

const UPGRADE_REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A gateway between a client and `upstream`; the hop-by-hop headers are removed as a proxy must.
fn gateway(upstream: Upstream, limits: Limits) -> (DuplexStream, JoinHandle<Result<(), ServeError>>) {
    let (near, far) = duplex(64 * 1024);
    let ended = spawn_local(async move {
        let pool = Pool::new(PoolLimits::default());
        let handler = act(async |mut request: Request| {
            request.headers.remove(CONNECTION);
            request.headers.remove(UPGRADE);
            match pool.send("a", &upstream, request).await {
                Ok(response) => response,
                Err(SendError::Framing(_)) => Response::new(StatusCode::BAD_GATEWAY),
                Err(error) => panic!("{error}"),
            }
        });
        serve(far, &limits, &handler, &Drain::new()).await
    });
    (near, ended)
}

/// Reads an upgrade request and answers with `answer`.
async fn answer(stream: &mut DuplexStream, answer: &[u8]) {
    let head = read_head(stream).await;
    assert!(head.starts_with("GET /chat HTTP/1.1\r\nhost: a\r\nsec-websocket-key: "), "{head}");
    assert!(head.ends_with("connection: Upgrade\r\nupgrade: websocket\r\n\r\n"), "{head}");
    stream.write_all(answer).await.unwrap();
}

#[test]
fn bytes_pass_both_ways_after_an_upgrade_until_both_sides_have_closed() {
    run(async {
        let upstream = upstream(|_, mut stream| async move {
            answer(&mut stream, &[SWITCH, b"at once"].concat()).await;
            let mut bytes = [0; 5];
            stream.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"early");
            let mut large = vec![0; 300_000];
            stream.read_exact(&mut large).await.unwrap();
            stream.write_all(&large).await.unwrap();
            assert_eq!(read_rest(&mut stream).await, "last words");
            stream.write_all(b"answer to them").await.unwrap();
        });
        let (mut near, ended) = gateway(upstream, Limits::default());
        // The client needn't wait for the 101.
        near.write_all(format!("{UPGRADE_REQUEST}early").as_bytes()).await.unwrap();
        let head = read_head(&mut near).await;
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: s3pP"), "{head}");
        assert!(head.ends_with("connection: Upgrade\r\nupgrade: websocket\r\n\r\n"), "{head}");
        let mut bytes = [0; 7];
        near.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"at once");
        let large: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        let (mut read, mut write) = tokio::io::split(near);
        let mut back = vec![0; large.len()];
        let (wrote, got) = tokio::join!(write.write_all(&large), read.read_exact(&mut back));
        wrote.unwrap();
        got.unwrap();
        assert!(back == large);
        write.write_all(b"last words").await.unwrap();
        write.shutdown().await.unwrap();
        assert_eq!(read_rest(&mut read).await, "answer to them");
        ended.await.unwrap().unwrap();
    });
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    run(async {
        let upstream = upstream(|_, mut stream| async move {
            answer(&mut stream, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        });
        let (mut near, _ended) = gateway(upstream, Limits::default());
        near.write_all(UPGRADE_REQUEST.as_bytes()).await.unwrap();
        assert!(read_head(&mut near).await.starts_with("HTTP/1.1 403 Forbidden\r\n"));
        assert_eq!(near.read_u16().await.unwrap(), u16::from_be_bytes(*b"no"));
        near.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(read_head(&mut near).await.starts_with("HTTP/1.1 204 "));
    });
}

#[test]
fn a_switch_that_nobody_asked_for_is_a_bad_gateway() {
    let plain = "GET /chat HTTP/1.1\r\nHost: a\r\n\r\n";
    let rows: [(&str, &[u8]); 5] = [
        (plain, SWITCH),
        (
            "POST /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx",
            SWITCH,
        ),
        ("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", SWITCH),
        (UPGRADE_REQUEST, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
        (UPGRADE_REQUEST, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
    ];
    run(async {
        for (request, switch) in rows {
            let upstream = upstream(move |_, mut stream| async move {
                read_head(&mut stream).await;
                stream.write_all(switch).await.unwrap();
                read_rest(&mut stream).await;
            });
            let (mut near, _ended) = gateway(upstream, Limits::default());
            near.write_all(request.as_bytes()).await.unwrap();
            let head = read_head(&mut near).await;
            assert!(head.starts_with("HTTP/1.1 502 "), "{request:?} gave {head:?}");
        }
    });
}

#[test]
fn a_silent_upgraded_connection_ends_after_its_idle_timeout() {
    run_paused(async {
        let upstream = upstream(|_, mut stream| async move {
            answer(&mut stream, SWITCH).await;
            read_rest(&mut stream).await;
        });
        let limits = Limits { upgraded_idle_timeout: Duration::from_secs(1800), ..Limits::default() };
        let (mut near, ended) = gateway(upstream, limits);
        near.write_all(UPGRADE_REQUEST.as_bytes()).await.unwrap();
        read_head(&mut near).await;
        let start = tokio::time::Instant::now();
        tokio::time::advance(Duration::from_secs(1000)).await;
        near.write_all(b"still here").await.unwrap();
        assert_eq!(read_rest(&mut near).await, "");
        assert!(start.elapsed() >= Duration::from_secs(2800), "{:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(2900), "{:?}", start.elapsed());
        assert!(
            matches!(ended.await.unwrap(), Err(ServeError::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut)
        );
    });
}

#[test]
fn a_side_that_does_not_read_does_not_make_us_buffer_without_end() {
    run_paused(async {
        let sent = Rc::new(Cell::new(0_usize));
        let counted = sent.clone();
        let upstream = upstream(move |_, mut stream| {
            let sent = counted.clone();
            async move {
                answer(&mut stream, SWITCH).await;
                // Until nobody takes any more.
                while let Ok(bytes) = stream.write(&[b'x'; 16 * 1024]).await {
                    sent.set(sent.get() + bytes);
                }
            }
        });
        let (mut near, ended) = gateway(upstream, Limits::default());
        near.write_all(UPGRADE_REQUEST.as_bytes()).await.unwrap();
        read_head(&mut near).await;
        // The client never reads again: the write timeout ends it.
        assert!(matches!(ended.await.unwrap(), Err(ServeError::Io(_))));
        assert!(sent.get() < 512 * 1024, "{}", sent.get());
    });
}

#[derive(Default)]
struct Counts {
    to_client: Cell<u64>,
    to_upstream: Cell<u64>,
    closed: Cell<bool>,
    dropped: Cell<bool>,
}

struct Counter(Rc<Counts>);

impl Observe for Counter {
    fn moved(&mut self, to_client: u64, to_upstream: u64) {
        self.0.to_client.set(self.0.to_client.get() + to_client);
        self.0.to_upstream.set(self.0.to_upstream.get() + to_upstream);
    }

    fn closed(&mut self) {
        self.0.closed.set(true);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.dropped.set(true);
    }
}

#[test]
fn an_observer_counts_every_byte() {
    run(async {
        let counts = Rc::new(Counts::default());
        let (mut near, far) = duplex(1024);
        let observed = counts.clone();
        let ended = spawn_local(async move {
            let upstream = upstream(|_, mut stream| async move {
                answer(&mut stream, SWITCH).await;
                stream.write_all(b"12345").await.unwrap();
                assert_eq!(read_rest(&mut stream).await, "123");
            });
            let pool = Pool::new(PoolLimits::default());
            let handler = act(async |mut request: Request| {
                request.headers.remove(CONNECTION);
                request.headers.remove(UPGRADE);
                let mut response = pool.send("a", &upstream, request).await.unwrap();
                response.upgrade.as_mut().unwrap().observe(Box::new(Counter(observed.clone())));
                response
            });
            serve(far, &Limits::default(), &handler, &Drain::new()).await
        });
        near.write_all(format!("{UPGRADE_REQUEST}123").as_bytes()).await.unwrap();
        read_head(&mut near).await;
        near.shutdown().await.unwrap();
        assert_eq!(read_rest(&mut near).await, "12345");
        ended.await.unwrap().unwrap();
        assert_eq!((counts.to_client.get(), counts.to_upstream.get()), (5, 3));
        assert!(counts.closed.get() && counts.dropped.get());
    });
}

#[test]
fn interim_responses_reach_the_client_before_the_final_one() {
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n";
    run(async {
        for (version, expected) in [("1.1", HINTS), ("1.0", "")] {
            let (go, went) = tokio::sync::oneshot::channel::<()>();
            let went = Cell::new(Some(went));
            let upstream = upstream(move |_, mut stream| {
                let went = went.take();
                async move {
                    read_head(&mut stream).await;
                    // A 100 isn't the client's: the gateway itself asks for bodies.
                    let hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nSet-Cookie: a=b\r\nConnection: x\r\n\r\n";
                    stream.write_all(hints).await.unwrap();
                    went.unwrap().await.unwrap();
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                    read_rest(&mut stream).await;
                }
            });
            let (mut near, _ended) = gateway(upstream, Limits::default());
            near.write_all(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
            if !expected.is_empty() {
                assert_eq!(read_head(&mut near).await, expected);
            }
            go.send(()).unwrap();
            assert!(read_head(&mut near).await.starts_with("HTTP/1.1 204 No Content\r\n"));
        }
    });
}

#[test]
fn interim_responses_are_dropped_above_a_bound() {
    run(async {
        let upstream = upstream(|_, mut stream| async move {
            read_head(&mut stream).await;
            let value = "x".repeat(6000);
            for _ in 0..8 {
                let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: {value}\r\n\r\n");
                stream.write_all(hint.as_bytes()).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            read_rest(&mut stream).await;
        });
        let (mut near, _ended) = gateway(upstream, Limits::default());
        near.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let all = read_rest(&mut near).await;
        assert_eq!(all.matches("103 Early Hints").count(), 3, "the rest is dropped");
        assert!(all.contains("HTTP/1.1 204 No Content\r\n"));
    });
}

#[test]
fn a_101_of_the_handler_for_a_plain_request_is_its_fault() {
    run(async {
        let (mut near, far) = duplex(1024);
        spawn_local(async move {
            let handler = act(async |_| {
                let mut response = Response::new(StatusCode::SWITCHING_PROTOCOLS);
                response.headers.append(HeaderName::from_static("x"), &HeaderValue::from_static("y"));
                response
            });
            serve(far, &Limits::default(), &handler, &Drain::new()).await
        });
        near.write_all(UPGRADE_REQUEST.as_bytes()).await.unwrap();
        assert!(read_head(&mut near).await.starts_with("HTTP/1.1 500 Internal Server Error\r\n"));
    });
}
