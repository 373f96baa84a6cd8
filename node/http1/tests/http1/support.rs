//! What the tests share: a runtime, handlers made of closures, and peers that speak plain bytes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, StatusCode};
use octelium_http1::{
    Body, BodyError, Connect, Drain, Handler, Limits, Refusal, Request, Response, ServeError, Source, departures, serve,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

/// Runs on one thread with real time.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, leaving_together(future))
}

/// Runs on one thread with time that passes only while everybody waits.
pub fn run_paused<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, leaving_together(future))
}

/// As a node's threads do it.
async fn leaving_together<T>(future: impl Future<Output = T>) -> T {
    let runner = tokio::task::spawn_local(departures::run());
    tokio::task::yield_now().await;
    let result = future.await;
    runner.abort();
    result
}

/// A handler made of a closure; refusals are written down.
pub struct Act<F> {
    act: F,
    pub refused: RefCell<Vec<(Refusal, Vec<u8>)>>,
}

pub fn act<F: AsyncFn(Request) -> Response>(act: F) -> Act<F> {
    Act { act, refused: RefCell::default() }
}

impl<F: AsyncFn(Request) -> Response> Handler for Act<F> {
    async fn handle(&self, request: Request) -> Response {
        (self.act)(request).await
    }

    fn refused(&self, refusal: &Refusal, head: &[u8]) {
        self.refused.borrow_mut().push((*refusal, head.to_vec()));
    }
}

pub fn text(body: impl Into<Body>) -> Response {
    let mut response = Response::new(StatusCode::OK);
    response.body = body.into();
    response
}

pub fn full(bytes: &'static str) -> Body {
    Body::full(bytes)
}

/// Sends `input` through a stream that holds `room` bytes, then half-closes; gives what came back and how it ended.
pub async fn converse<H: Handler>(
    handler: &H,
    limits: &Limits,
    input: &[u8],
    room: usize,
) -> (String, Result<(), ServeError>) {
    let (near, far) = duplex(room);
    let (mut read, mut write) = tokio::io::split(near);
    let mut output = Vec::new();
    let drain = Drain::new();
    let (ended, (), read) = tokio::join!(
        serve(far, limits, handler, &drain),
        async {
            // A server that has refused may be gone already.
            let _ = write.write_all(input).await;
            let _ = write.shutdown().await;
        },
        read.read_to_end(&mut output),
    );
    read.unwrap();
    (undated(&String::from_utf8(output).unwrap()), ended)
}

/// The text without its `date` lines.
pub fn undated(text: &str) -> String {
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

/// Reads until the text so far satisfies `enough`, and gives it.
pub async fn read_until(stream: &mut (impl AsyncRead + Unpin), enough: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    while !enough(&text) {
        let mut byte = [0; 1];
        let read = stream.read(&mut byte).await.unwrap();
        assert_eq!(read, 1, "closed after {text:?}");
        text.push(byte[0] as char);
    }
    text
}

/// Reads one head (to its empty line), without the date.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    undated(&read_until(stream, |text| text.ends_with("\r\n\r\n")).await)
}

/// Reads until the peer closes.
pub async fn read_rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    String::from_utf8(rest).unwrap()
}

/// A body of given pieces; counts what was pulled and can wait for a signal before it goes on.
pub struct Pieces {
    pub pieces: VecDeque<Result<Bytes, BodyError>>,
    pub trailers: Option<HeaderMap>,
    pub pulled: Rc<Cell<usize>>,
    pub length: Option<u64>,
}

impl Pieces {
    pub fn new(pieces: impl IntoIterator<Item = &'static str>) -> Self {
        let pieces = pieces.into_iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        Self { pieces, trailers: None, pulled: Rc::default(), length: None }
    }

    pub fn then(mut self, error: BodyError) -> Self {
        self.pieces.push_back(Err(error));
        self
    }

    pub fn length(self, length: u64) -> Self {
        Self { length: Some(length), ..self }
    }

    pub fn body(self) -> Body {
        Body::from_source(self)
    }
}

impl Source for Pieces {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let piece = self.pieces.pop_front();
        if let Some(Ok(piece)) = &piece {
            self.pulled.set(self.pulled.get() + piece.len());
            self.length = self.length.map(|length| length.saturating_sub(piece.len() as u64));
        }
        Poll::Ready(piece)
    }

    fn length(&self) -> Option<u64> {
        self.length
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }
}

/// A body that never has anything to give.
pub struct Never;

impl Source for Never {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        Poll::Pending
    }
}

/// Counts writes.
pub struct Counted {
    pub stream: DuplexStream,
    pub vectored: bool,
    pub writes: Rc<Cell<usize>>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.set(self.writes.get() + 1);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        assert!(self.vectored);
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.poll_write(cx, &all)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Says when it is dropped.
pub struct OnDrop(pub Rc<Cell<bool>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

type Script = Box<dyn Fn(usize, DuplexStream) -> LocalBoxFuture<'static, ()>>;

/// An upstream made of a closure: it gets each connection with its number, from 0.
pub struct Upstream {
    script: Script,
    pub room: usize,
    pub dialled: Cell<usize>,
}

pub fn upstream<F: Future<Output = ()> + 'static>(script: impl Fn(usize, DuplexStream) -> F + 'static) -> Upstream {
    let script: Script = Box::new(move |number, stream| Box::pin(script(number, stream)));
    Upstream { script, room: 64 * 1024, dialled: Cell::new(0) }
}

impl Connect for Upstream {
    type Io = DuplexStream;

    async fn connect(&self) -> io::Result<DuplexStream> {
        let (near, far) = duplex(self.room);
        let number = self.dialled.replace(self.dialled.get() + 1);
        tokio::task::spawn_local((self.script)(number, far));
        Ok(near)
    }
}

/// An upstream whose every connection answers every head it reads with the same bytes.
pub fn answering(bytes: impl Into<Vec<u8>>) -> Upstream {
    let bytes: Rc<[u8]> = bytes.into().into();
    upstream(move |_, mut stream| {
        let bytes = bytes.clone();
        async move {
            let mut request = Vec::new();
            loop {
                match stream.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => return,
                }
                if request.ends_with(b"\r\n\r\n") {
                    request.clear();
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            }
        }
    })
}
