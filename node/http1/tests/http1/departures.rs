//! Messages that leave in a row at the end of a round.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use octelium_http1::{
    Body, BodyError, Connect, Drain, Limits, Pool, PoolLimits, Request, SendError, ServeError, departures, serve,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::{Instant, Sleep, sleep};

use crate::support::{Pieces, act, answering, full, read_head, read_rest, run, run_paused, text, undated, upstream};

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

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
    /// The other end of the connection that was dialled last.
    fn end(&self) -> DuplexStream {
        self.ends.borrow_mut().pop().unwrap()
    }

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
        assert_eq!(read_rest(&mut dialer.end()).await, "", "and its connection is closed");
        assert_eq!(pool.idle(), 0);
    });
}

#[test]
fn a_stream_that_takes_little_gets_the_rest() {
    run(async {
        let mut slow = answering(EMPTY);
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
                stream.write_all(EMPTY.as_bytes()).await.unwrap();
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
        let upstream = answering(EMPTY);
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
            client.write_all(GET.as_bytes()).await.unwrap();
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
            client.write_all(GET.repeat(requests).as_bytes()).await.unwrap();
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
        client.write_all(GET.as_bytes()).await.unwrap();
        assert!(poll_once(serving.as_mut()).await.is_pending());
        rounds().await;
        client.write_all(GET.as_bytes()).await.unwrap();
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

/// Takes nothing before a moment.
struct Gate {
    stream: DuplexStream,
    opens: Pin<Box<Sleep>>,
}

impl AsyncRead for Gate {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Gate {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.opens.is_elapsed() {
            ready!(self.opens.as_mut().poll(cx));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Answers after a time; takes nothing for another time before.
struct Late {
    takes_after: Duration,
    answers_after: Duration,
}

impl Connect for Late {
    type Io = Gate;

    async fn connect(&self) -> io::Result<Gate> {
        let (stream, mut end) = duplex(1024);
        let answers_after = self.answers_after;
        spawn_local(async move {
            read_head(&mut end).await;
            sleep(answers_after).await;
            end.write_all(EMPTY.as_bytes()).await.unwrap();
            read_rest(&mut end).await;
        });
        Ok(Gate { stream, opens: Box::pin(sleep(self.takes_after)) })
    }
}

#[test]
fn the_time_for_the_answer_begins_when_the_request_is_out() {
    let (short, long) = (Duration::from_secs(2), Duration::from_secs(3));
    let limits =
        || PoolLimits { response_head_timeout: short, write_timeout: Duration::from_secs(10), ..PoolLimits::default() };
    run_paused(async {
        let pool = Pool::new(limits());
        let late = Late { takes_after: long, answers_after: Duration::from_secs(1) };
        assert!(pool.send("a", &late, request()).await.is_ok());
        let late = Late { takes_after: long, answers_after: long };
        let start = Instant::now();
        assert!(matches!(pool.send("b", &late, request()).await, Err(SendError::HeadTimeout)));
        assert_eq!((Instant::now() - start).as_secs(), (long + short).as_secs());
    });
    run_paused(async {
        let late = Late { takes_after: Duration::from_secs(20), answers_after: Duration::ZERO };
        let sent = Pool::new(limits()).send("a", &late, request()).await;
        assert!(matches!(sent, Err(SendError::Io(error)) if error.kind() == io::ErrorKind::TimedOut));
    });
}

#[test]
fn what_an_upstream_says_before_the_request_is_out_is_no_answer_to_it() {
    run(async {
        let (pool, notes) = (pool(), Notes::default());
        let dialer = Dialer::new("a", &notes);
        let mut first = std::pin::pin!(pool.send("a", &dialer, request()));
        assert!(poll_once(first.as_mut()).await.is_pending());
        let mut first_end = dialer.end();
        read_head(&mut first_end).await;
        first_end.write_all(EMPTY.as_bytes()).await.unwrap();
        first.await.unwrap();
        assert_eq!((pool.idle(), notes.borrow().len()), (1, 1));

        let mut second = std::pin::pin!(pool.send("a", &dialer, request()));
        assert!(poll_once(second.as_mut()).await.is_pending());
        first_end.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        assert!(poll_once(second.as_mut()).await.is_pending());
        let mut second_end = dialer.end();
        read_head(&mut second_end).await;
        second_end.write_all(EMPTY.as_bytes()).await.unwrap();
        assert_eq!(second.await.unwrap().status, 200);
        assert_eq!(notes.borrow().len(), 2, "nothing was sent over the first connection");
    });
}

#[test]
fn answers_reach_a_client_that_half_closes_while_its_next_request_waits_or_fails() {
    for fails in [false, true] {
        run(async move {
            let (mut client, stream) = duplex(1024);
            client.write_all(GET.repeat(2).as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            let serving = spawn_local(async move {
                let requests = Cell::new(0);
                let handler = act(async |_| {
                    requests.set(requests.get() + 1);
                    match requests.get() {
                        1 => text(full("first")),
                        _ if fails => panic!("the handler fails"),
                        _ => pending().await,
                    }
                });
                serve(stream, &Limits::default(), &handler, &Drain::new()).await
            });
            assert_eq!(read_rest(&mut client).await.matches("first").count(), 1, "fails: {fails}");
            match serving.await {
                Ok(served) => assert!(matches!(served, Err(ServeError::Aborted))),
                Err(error) => assert!(fails && error.is_panic()),
            }
        });
    }
}

#[test]
fn an_answer_that_fails_does_not_take_earlier_ones_with_it() {
    run(async {
        let requests = Cell::new(0);
        let handler = act(async |_| {
            requests.set(requests.get() + 1);
            match requests.get() {
                1 => text(full("first")),
                _ => text(Pieces::new(["second"]).then(BodyError::Closed).body()),
            }
        });
        let (mut input, requests_end) = duplex(1024);
        let (answers_end, mut output) = duplex(16);
        input.write_all(GET.repeat(2).as_bytes()).await.unwrap();
        let stream = tokio::io::join(requests_end, answers_end);
        let (limits, drain) = (Limits::default(), Drain::new());
        let (served, answers) = tokio::join!(serve(stream, &limits, &handler, &drain), read_rest(&mut output));
        assert!(matches!(served, Err(ServeError::Body(BodyError::Closed))));
        assert!(undated(&answers).starts_with("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst"), "{answers}");
    });
}

#[test]
fn a_flood_of_pipelined_requests_lets_others_work() {
    run(async {
        let handled = Rc::new(Cell::new(0));
        let (mut client, stream) = duplex(1 << 22);
        client.write_all(GET.repeat(2000).as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let serving = spawn_local({
            let handled = handled.clone();
            async move {
                let handler = act(async |_| {
                    handled.set(handled.get() + 1);
                    text(Body::empty())
                });
                serve(stream, &Limits::default(), &handler, &Drain::new()).await
            }
        });
        while !serving.is_finished() {
            let before = handled.get();
            yield_now().await;
            assert!(handled.get() - before <= 200, "{} at once", handled.get() - before);
        }
        assert_eq!(handled.get(), 2000);
    });
}
