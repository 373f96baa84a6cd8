//! What the tests share: a runtime, handlers made of closures, and a peer that speaks plain frames.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use octelium_http1::{Body, Drain, Handler, Refusal};
use octelium_http2::{Limits, PREFACE, ServeError, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Builder;
use tokio::task::{JoinHandle, LocalSet};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// Runs on one thread with time that passes only while everybody waits.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, future)
}

/// A handler made of a closure; refusals are written down, and requests given up before it saw them are counted.
pub struct Act<F> {
    act: F,
    pub refused: RefCell<Vec<Refusal>>,
    pub given_up: Cell<usize>,
}

pub fn act<F: AsyncFn(Request<Body>) -> Response<Body>>(act: F) -> Rc<Act<F>> {
    Rc::new(Act { act, refused: RefCell::default(), given_up: Cell::default() })
}

impl<F: AsyncFn(Request<Body>) -> Response<Body>> Handler for Act<F> {
    async fn handle(&self, request: octelium_http1::Request) -> octelium_http1::Response {
        let mut seen = Request::new(request.body);
        *seen.method_mut() = request.method;
        *seen.uri_mut() = request.target.parse().unwrap();
        *seen.version_mut() = request.version;
        *seen.headers_mut() = request.headers.to_map();
        (self.act)(seen).await.into()
    }

    fn refused(&self, refusal: &Refusal, _head: &[u8]) {
        self.refused.borrow_mut().push(*refusal);
    }

    fn given_up(&self, _request: octelium_http1::Request) {
        self.given_up.set(self.given_up.get() + 1);
    }
}

pub fn text(body: impl Into<Body>) -> Response<Body> {
    Response::new(body.into())
}

pub fn full(bytes: &'static str) -> Body {
    Body::full(bytes)
}

/// A server on one end of a stream.
pub struct Server {
    pub io: DuplexStream,
    pub drain: Drain,
    pub ended: JoinHandle<Result<(), ServeError>>,
}

pub fn server<H: Handler + 'static>(handler: Rc<H>, limits: Limits) -> Server {
    let (io, far) = duplex(64 << 10);
    let drain = Drain::new();
    let ended = tokio::task::spawn_local({
        let drain = drain.clone();
        async move { serve(far, &limits, &*handler, &drain).await }
    });
    Server { io, drain, ended }
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block of literal fields that are new and stay out of the table.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name.as_bytes());
        string(&mut block, value.as_bytes());
    }
    block
}

/// A string's length in a 7-bit prefix (RFC 7541 §5.1), and its bytes.
pub fn string(block: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() < 127 {
        block.push(bytes.len() as u8);
    } else {
        block.push(127);
        let mut rest = bytes.len() - 127;
        while rest >= 128 {
            block.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        block.push(rest as u8);
    }
    block.extend_from_slice(bytes);
}

pub const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/")];
pub const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "https"), (":authority", "a.test"), (":path", "/")];

/// `fields`, and `more` after them.
pub fn with<'a>(fields: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<u8> {
    block(&[fields, more].concat())
}

pub fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&GET))
}

pub fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&POST))
}

pub fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// A client that sends frames as it likes.
pub struct Peer {
    pub server: Server,
}

impl Peer {
    pub async fn new<H: Handler + 'static>(handler: Rc<H>, limits: Limits) -> Self {
        let mut peer = Self { server: server(handler, limits) };
        peer.send(PREFACE).await;
        peer.send(&frame(SETTINGS, 0, 0, &[])).await;
        peer
    }

    /// What a server that has refused isn't there to read is lost.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.server.io.write_all(bytes).await.is_ok()
    }

    /// The next frame, whatever it is; `None` at the end.
    pub async fn any(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.server.io.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.server.io.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]), payload })
    }

    /// The next frame that isn't about settings or windows.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.any().await?;
            if !matches!(frame.kind, SETTINGS | WINDOW_UPDATE) {
                return Some(frame);
            }
        }
    }

    /// The next frame of this kind; fails if there is none.
    pub async fn expect(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.any().await.unwrap_or_else(|| panic!("the connection ended before a frame {kind}"));
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Frames until the connection ends.
    pub async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    /// How the server saw the end.
    pub async fn ended(self) -> Result<(), ServeError> {
        drop(self.server.io);
        self.server.ended.await.unwrap()
    }
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of a HEADERS frame: the first field of its block (RFC 7541 appendix A and B).
    pub fn status(&self) -> u16 {
        assert_eq!(self.kind, HEADERS, "{self:?}");
        let known = [200, 204, 206, 304, 400, 404, 500];
        match self.payload[0] {
            indexed @ 0x88..=0x8e => known[usize::from(indexed - 0x88)],
            0x48 => digits(&self.payload[2..], self.payload[1]),
            _ => panic!("not a status: {self:?}"),
        }
    }
}

fn digits(bytes: &[u8], length: u8) -> u16 {
    if length & 0x80 == 0 {
        return std::str::from_utf8(&bytes[..usize::from(length)]).unwrap().parse().unwrap();
    }
    let mut bits =
        bytes[..usize::from(length & 0x7f)].iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let mut number = 0;
    for _ in 0..3 {
        let mut code = 0;
        for _ in 0..5 {
            code = code << 1 | u16::from(bits.next().unwrap());
        }
        // 0, 1 and 2 have five bits, the others six.
        let digit = if code <= 2 { code } else { (code << 1 | u16::from(bits.next().unwrap())) - 0b01_1001 + 3 };
        number = number * 10 + digit;
    }
    number
}

/// A client that follows the rules.
pub async fn client<H: Handler + 'static>(handler: Rc<H>, limits: Limits) -> h2::client::SendRequest<Bytes> {
    client_of(server(handler, limits).io).await
}

pub async fn client_of(io: DuplexStream) -> h2::client::SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::task::spawn_local(async move { connection.await.ok() });
    client.ready().await.unwrap()
}

/// All of a body, window given back as it is read.
pub async fn collect(body: &mut h2::RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len()).unwrap();
        all.extend_from_slice(&piece);
    }
    Ok(all)
}
