//! Bytes of a caller, as one connection. Nothing may panic or hang, and what is handed on as a request has one reading.
//!
//! First byte even: the rest is all that the caller sends. Odd: it is the body of a chunked request. The second byte is how many
//! bytes arrive at a time.

#![no_main]

use std::{cell::RefCell, time::Duration};

use libfuzzer_sys::fuzz_target;
use octelium_http1::{Body, Drain, Handler, Limits, Refusal, Request, Response, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::Builder,
    task::LocalSet,
};

const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What was handed on, and what became of the bodies.
#[derive(Default)]
struct Seen(RefCell<Vec<(String, Option<Vec<u8>>)>>);

impl Handler for Seen {
    async fn handle(&self, request: Request) -> Response {
        assert!(request.target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
        assert!(request.target.starts_with('/') || request.target == "*");
        for name in ["host", "content-length", "transfer-encoding"] {
            assert!(request.headers.get_all(name).count() <= 1, "several {name}");
        }
        assert!(request.headers.get("content-length").is_none() || request.headers.get("transfer-encoding").is_none());
        for (name, value) in request.headers.iter() {
            assert!(name.iter().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
            assert!(value.iter().all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t'));
        }
        let line = format!("{} {} {:?}", request.method, request.target, request.headers);
        let body = request.body.collect(1 << 20).await.ok();
        self.0.borrow_mut().push((line, body.map(|body| body.to_vec())));
        let mut response = Response::new(http::StatusCode::OK);
        response.body = Body::full("ok");
        response
    }

    fn refused(&self, refusal: &Refusal, _: &[u8]) {
        assert!(refusal.status.is_client_error() || refusal.status.is_server_error());
    }
}

fn answer(input: &[u8], step: usize) -> Vec<(String, Option<Vec<u8>>)> {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let seen = Seen::default();
        let (mut near, far) = duplex(1 << 20);
        let (limits, drain) = (Limits::default(), Drain::new());
        let caller = async {
            for piece in input.chunks(step) {
                near.write_all(piece).await.ok();
                tokio::task::yield_now().await;
            }
            near.shutdown().await.ok();
            let mut output = Vec::new();
            near.read_to_end(&mut output).await.ok();
        };
        let both = async { tokio::join!(serve(far, &limits, &seen, &drain), caller) };
        tokio::time::timeout(Duration::from_secs(3600), both).await.expect("it comes to an end").0.ok();
        seen.0.into_inner()
    })
}

fuzz_target!(|bytes: &[u8]| {
    let [kind, step, rest @ ..] = bytes else { return };
    let input = if kind % 2 == 0 { rest.to_vec() } else { [CHUNKED, rest].concat() };
    let whole = answer(&input, usize::MAX);
    let pieces = answer(&input, usize::from(*step).max(1));
    assert_eq!(whole, pieces, "how bytes arrive changes nothing");
});
