//! Messages that leave in a row at the end of a round.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{HeaderName, HeaderValue, Method};
use octelium_http1::{Body, Connect, Drain, Limits, Pool, PoolLimits, Request, SendError, departures, serve};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local, yield_now};

use crate::support::{act, answering, full, read_head, read_rest, run, text, upstream};

/// What happened, in its order.
type Notes = Rc<RefCell<Vec<String>>>;

/// Notes its writes.
struct Noted {
    stream: DuplexStream,
    name: &'static str,
    notes: Notes,
}

impl AsyncRead for Noted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.notes.borrow_mut().push(format!("{} written", self.name));
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Dials streams whose writes are noted; the other ends stay open.
struct Dialer {
    name: &'static str,
    notes: Notes,
    ends: RefCell<Vec<DuplexStream>>,
}

impl Dialer {
    fn new(name: &'static str, notes: &Notes) -> Self {
        Self { name, notes: notes.clone(), ends: RefCell::default() }
    }
}

impl Connect for Dialer {
    type Io = Noted;

    async fn connect(&self) -> io::Result<Noted> {
        let (stream, end) = duplex(1024);
        self.ends.borrow_mut().push(end);
        Ok(Noted { stream, name: self.name, notes: self.notes.clone() })
    }
}

fn pool() -> Pool {
    Pool::new(PoolLimits::default())
}

fn request() -> Request {
    let mut request = Request::new(Method::GET, "/");
    request.headers.append(HeaderName::from_static("host"), &HeaderValue::from_static("a"));
    request
}

/// As many rounds of the scheduler as anything here takes.
async fn rounds() {
    for _ in 0..20 {
        yield_now().await;
    }
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[test]
fn requests_of_one_round_leave_after_all_of_them_were_made() {
    run(async {
        let (pool, notes) = (pool(), Notes::default());
        for name in ["a", "b", "c"] {
            let (pool, notes) = (pool.clone(), notes.clone());
            spawn_local(async move {
                notes.borrow_mut().push(format!("{name} made"));
                pool.send(name, &Dialer::new(name, &notes), request()).await
            });
        }
        rounds().await;
        assert_eq!(*notes.borrow(), ["a made", "b made", "c made", "a written", "b written", "c written"]);
    });
}

#[test]
fn a_long_request_waits_for_nobody() {
    run(async {
        let notes = Notes::default();
        let dialer = Dialer::new("long", &notes);
        let body = Body::full(vec![0; 20 * 1024]);
        let pool = pool();
        let mut sending = std::pin::pin!(pool.send("a", &dialer, Request { body, ..request() }));
        assert!(poll_once(sending.as_mut()).await.is_pending());
        assert!(!notes.borrow().is_empty());
    });
}

#[test]
fn a_request_that_is_given_up_before_it_leaves_does_not_leave() {
    run(async {
        let (pool, notes) = (pool(), Notes::default());
        let dialer = Dialer::new("a", &notes);
        let mut sending = Box::pin(pool.send("a", &dialer, request()));
        assert!(poll_once(sending.as_mut()).await.is_pending());
        drop(sending);
        rounds().await;
        assert!(notes.borrow().is_empty(), "{:?}", notes.borrow());
        assert_eq!(read_rest(&mut dialer.ends.borrow_mut()[0]).await, "", "and its connection is closed");
        assert_eq!(pool.idle(), 0);
    });
}

#[test]
fn a_stream_that_takes_little_gets_the_rest() {
    run(async {
        let mut slow = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        slow.room = 3;
        let pool = pool();
        for _ in 0..2 {
            pool.send("a", &slow, request()).await.unwrap();
        }
        assert_eq!(slow.dialled.get(), 1, "the connection is kept");
    });
}

#[test]
fn a_request_that_can_not_be_written_fails_or_is_sent_again() {
    run(async {
        let pool = pool();
        let closing = upstream(|number, mut stream| async move {
            if number == 0 {
                read_head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            } else if number == 1 {
                read_head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                read_rest(&mut stream).await;
            }
        });
        pool.send("a", &closing, request()).await.unwrap();
        // It is closed between the look at it and the write.
        let mut sending = std::pin::pin!(pool.send("a", &closing, request()));
        assert!(poll_once(sending.as_mut()).await.is_pending());
        assert_eq!(sending.await.unwrap().status, 201);

        let gone = upstream(|_, stream| async move { drop(stream) });
        assert!(matches!(pool.send("b", &gone, request()).await, Err(SendError::Closed | SendError::Io(_))));
    });
}

#[test]
fn without_a_runner_and_after_its_end_messages_leave_too() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let upstream = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let pool = pool();
        pool.send("a", &upstream, request()).await.unwrap();

        let runner = spawn_local(departures::run());
        yield_now().await;
        let notes = Notes::default();
        let dialer = Dialer::new("queued", &notes);
        let mut sending = std::pin::pin!(pool.send("b", &dialer, request()));
        runner.abort();
        assert!(poll_once(sending.as_mut()).await.is_pending());
        assert!(notes.borrow().is_empty());
        runner.await.unwrap_err();
        assert_eq!(*notes.borrow(), ["queued written"]);
        pool.send("a", &upstream, request()).await.unwrap();
    });
}

#[test]
fn answers_leave_after_all_requests_of_the_round_were_handled() {
    run(async {
        let notes = Notes::default();
        let mut clients = Vec::new();
        for name in ["a", "b"] {
            let (mut client, stream) = duplex(1024);
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            clients.push(client);
            let notes = notes.clone();
            spawn_local(async move {
                let handler = act(async |_| {
                    notes.borrow_mut().push(format!("{name} handled"));
                    text(full("hello"))
                });
                let stream = Noted { stream, name, notes: notes.clone() };
                serve(stream, &Limits::default(), &handler, &Drain::new()).await
            });
        }
        rounds().await;
        assert_eq!(*notes.borrow(), ["a handled", "b handled", "a written", "b written"]);
        for mut client in clients {
            assert_eq!(read_head(&mut client).await, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
        }
    });
}

#[test]
fn pipelined_answers_leave_in_one_write_and_no_more_are_gathered_than_fit() {
    for (requests, length, writes_at_most) in [(3, 10, 1), (100, 1000, 100_000 / (15 * 1024) + 1)] {
        run(async {
            let notes = Notes::default();
            let (mut client, stream) = duplex(1 << 20);
            client.write_all("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(requests).as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            let handler = act(async |_| text(Body::full(vec![b'x'; length])));
            let stream = Noted { stream, name: "all", notes: notes.clone() };
            serve(stream, &Limits::default(), &handler, &Drain::new()).await.unwrap();
            assert_eq!(read_rest(&mut client).await.matches("HTTP/1.1 200 OK").count(), requests);
            assert!(notes.borrow().len() <= writes_at_most, "{}", notes.borrow().len());
        });
    }
}

#[test]
fn a_client_that_does_not_read_is_not_served_on() {
    run(async {
        let handled = std::cell::Cell::new(0);
        let (mut client, stream) = duplex(64);
        let handler = act(async |_| {
            handled.set(handled.get() + 1);
            text(full("a body that doesn't fit with its head into what the stream holds"))
        });
        let limits = Limits::default();
        let drain = Drain::new();
        let mut serving = std::pin::pin!(serve(stream, &limits, &handler, &drain));
        let next = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(next).await.unwrap();
        assert!(poll_once(serving.as_mut()).await.is_pending());
        rounds().await;
        client.write_all(next).await.unwrap();
        for _ in 0..20 {
            assert!(poll_once(serving.as_mut()).await.is_pending());
            yield_now().await;
        }
        assert_eq!(handled.get(), 1);
        client.shutdown().await.unwrap();
        let (served, answers) = tokio::join!(serving, read_rest(&mut client));
        served.unwrap();
        assert_eq!((handled.get(), answers.matches("200 OK").count()), (2, 2));
    });
}
