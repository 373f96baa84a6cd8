//! The same bytes for this engine and for hyper: what this engine takes for a request, hyper must take for the same one.
//!
//! hyper is the more lenient of the two, so it may accept what is refused here. The other way round, or two readings of
//! one message, is how requests are smuggled.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use octelium_http1::{Body, Drain, Limits, Request, serve};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::support::{act, run_paused, text};

/// What a server took a request for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

fn sorted(headers: impl Iterator<Item = (String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let mut headers: Vec<_> = headers.collect();
    headers.sort();
    headers
}

/// The first request that this engine reads.
async fn ours(input: &[u8]) -> Option<Taken> {
    let taken: RefCell<Vec<Taken>> = RefCell::default();
    let handler = act(async |request: Request| {
        let Request { method, target, headers, body, .. } = request;
        let headers =
            sorted(headers.iter().map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec())));
        let body = body.collect(1 << 20).await.ok().map(|body| body.to_vec());
        taken.borrow_mut().push(Taken { method: method.to_string(), target, headers, body });
        text(Body::empty())
    });
    let (mut near, far) = duplex(1 << 16);
    near.write_all(input).await.unwrap();
    near.shutdown().await.unwrap();
    let (limits, drain) = (Limits::default(), Drain::new());
    let mut rest = Vec::new();
    let (_ended, read) = tokio::join!(serve(far, &limits, &handler, &drain), near.read_to_end(&mut rest));
    read.unwrap();
    taken.into_inner().into_iter().next()
}

/// The first request that hyper reads.
async fn hypers(input: &[u8]) -> Option<Taken> {
    let taken: Rc<RefCell<Vec<Taken>>> = Rc::default();
    let seen = taken.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let (head, body) = request.into_parts();
            let headers =
                head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
            let target = head.uri.path_and_query().map_or_else(|| head.uri.path().to_owned(), ToString::to_string);
            let headers = sorted(headers);
            let body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
            seen.borrow_mut().push(Taken { method: head.method.to_string(), target, headers, body });
            Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    let (mut near, far) = duplex(1 << 16);
    near.write_all(input).await.unwrap();
    near.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let serving = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(far), service);
    let (_ended, _read) = tokio::join!(serving, near.read_to_end(&mut rest));
    Rc::try_unwrap(taken).ok()?.into_inner().into_iter().next()
}

const VALID: [&str; 7] = [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a?b=c HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: [::1]:8080\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n",
    "PUT http://a/b HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\nContent-Length: 1\r\n\r\nz",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Text: \tb\x09c \r\n\r\n",
    "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "\r\nDELETE /%41 HTTP/1.1\r\nHost: a\r\nCookie: x=1\r\nCookie: y=2\r\nTE: trailers\r\n\r\n",
];
const PIECES: [&str; 22] = [
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    "\0",
    ":",
    ";",
    ",",
    "chunked",
    "Transfer-Encoding: chunked\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Host: b\r\n",
    "0\r\n\r\n",
    "5\r\n",
    "+3",
    "0x3",
    "HTTP/1.0",
    "\x0b",
    "\u{7f}",
    "Upgrade: websocket\r\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_has_one_reading(
        valid in prop::sample::select(&VALID[..]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..3, prop::sample::select(&PIECES[..])), 0..5),
    ) {
        let mut bytes = valid.as_bytes().to_vec();
        for (at, edit, piece) in edits {
            let at = at.index(bytes.len() + 1);
            match edit {
                0 => drop(bytes.splice(at..at, piece.bytes())),
                1 => drop(bytes.splice(at..(at + piece.len()).min(bytes.len()), piece.bytes())),
                _ => drop(bytes.drain(at..(at + 1).min(bytes.len()))),
            }
        }
        run_paused(async {
            if let Some(ours) = ours(&bytes).await {
                let hypers = hypers(&bytes).await;
                // A body that is broken is an error on both sides, wherever it was noticed.
                let same = match &hypers {
                    Some(theirs) if ours.body.is_none() => Taken { body: None, ..theirs.clone() } == ours,
                    Some(theirs) => *theirs == ours,
                    None => false,
                };
                assert!(same, "{:?}\nours   {ours:?}\nhyper's {hypers:?}", String::from_utf8_lossy(&bytes));
            }
        });
    }
}
