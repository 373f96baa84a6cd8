//! Bytes of an upstream, as the answer to one request. Nothing may panic or hang, and a connection that is kept has said nothing
//! that nobody asked for.
//!
//! The first byte chooses the request: GET, HEAD, or one that asks for WebSocket.

#![no_main]

use std::{cell::Cell, io, time::Duration};

use libfuzzer_sys::fuzz_target;
use octelium_http1::{Connect, Pool, PoolLimits, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::Builder,
    task::LocalSet,
};

/// Dials an upstream that says `answer` to the first request of each connection.
struct Upstream<'a> {
    answer: &'a [u8],
    dialled: Cell<usize>,
}

impl Connect for Upstream<'_> {
    type Io = DuplexStream;

    async fn connect(&self) -> io::Result<DuplexStream> {
        self.dialled.set(self.dialled.get() + 1);
        let (near, mut far) = duplex(1 << 20);
        let answer = self.answer.to_vec();
        tokio::task::spawn_local(async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match far.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => return,
                }
            }
            far.write_all(&answer).await.ok();
            // Then it waits for the next one.
            far.read_u8().await.ok();
        });
        Ok(near)
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [kind, answer @ ..] = bytes else { return };
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let upstream = Upstream { answer, dialled: Cell::new(0) };
        let pool = Pool::new(PoolLimits::default());
        let method = if kind % 3 == 1 { http::Method::HEAD } else { http::Method::GET };
        let mut request = Request::new(method, "/");
        request.headers.append(&http::header::HOST, &http::HeaderValue::from_static("a"));
        request.wants_websocket = kind % 3 == 2;
        let sent = tokio::time::timeout(Duration::from_secs(3600), pool.send("a", &upstream, request));
        if let Ok(response) = sent.await.expect("it comes to an end") {
            assert!(response.upgrade.is_some() == (response.status == http::StatusCode::SWITCHING_PROTOCOLS));
            let body = tokio::time::timeout(Duration::from_secs(7200), response.body.collect(1 << 20));
            body.await.expect("it comes to an end").ok();
        }
        assert_eq!(upstream.dialled.get(), 1);
        assert!(pool.idle() <= 1);
    });
});
