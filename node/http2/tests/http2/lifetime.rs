//! How long a connection lives: idle, slow, stuck, draining.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use octelium_http1::{Body, BodyError, Source};
use octelium_http2::{Limits, PREFACE, ServeError};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::support::{
    ACK, CANCEL, DATA, END_STREAM, GET, GOAWAY, HEADERS, NO_ERROR, PING, Peer, RST_STREAM, SETTINGS, act, block, frame,
    full, get, post, run, server, text,
};

/// Bytes without an end.
struct Endless(Rc<Cell<usize>>);

impl Source for Endless {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.0.set(self.0.get() + 1000);
        Poll::Ready(Some(Ok(Bytes::from_static(&[b'x'; 1000]))))
    }
}

#[test]
fn a_connection_without_streams_is_closed_after_a_while() {
    run(async {
        let mut peer = Peer::new(act(async |_: Request<Body>| text(full(""))), Limits::default()).await;
        peer.send(&get(1)).await;
        peer.expect(HEADERS).await;
        let since = Instant::now();
        // Pings don't count as use.
        tokio::time::sleep(Duration::from_secs(30)).await;
        peer.send(&frame(PING, 0, 0, &[0; 8])).await;
        let goaway = peer.expect(GOAWAY).await;
        assert_eq!(goaway.code(), NO_ERROR);
        assert_eq!(since.elapsed().as_secs(), 60);
        peer.rest().await;
        assert!(since.elapsed() < Duration::from_secs(70), "a client that doesn't leave is left");
        peer.ended().await.unwrap();
    });
}

#[test]
fn a_connection_that_is_used_stays() {
    run(async {
        let mut peer = Peer::new(act(async |_: Request<Body>| text(full(""))), Limits::default()).await;
        for round in 0..10 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            // Answered within the turn that it begins in.
            peer.send(&get(2 * round + 1)).await;
            assert_eq!(peer.next().await.unwrap().kind, HEADERS);
        }
        peer.ended().await.unwrap();
    });
}

#[test]
fn frames_that_end_are_not_taken_for_one_that_does_not() {
    run(async {
        let mut peer = Peer::new(act(async |_: Request<Body>| text(full(""))), Limits::default()).await;
        // Whenever the server looks, it has the beginning of a frame.
        peer.send(&get(1)[..20]).await;
        for round in 0..40 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            peer.send(&[&get(2 * round + 1)[20..], &get(2 * round + 3)[..20]].concat()).await;
            assert_eq!(peer.next().await.unwrap().kind, HEADERS);
        }
        peer.ended().await.ok();
    });
}

#[test]
fn a_preface_and_a_header_block_must_come_in_time() {
    let cases: [(&str, Vec<u8>, &str); 3] = [
        ("no preface", PREFACE[..10].to_vec(), "preface"),
        (
            "half a header block",
            [&PREFACE[..], &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, END_STREAM, 1, &block(&GET))].concat(),
            "end of a frame",
        ),
        ("half a frame", [&PREFACE[..], &frame(SETTINGS, 0, 0, &[]), &get(1)[..12]].concat(), "end of a frame"),
    ];
    for (what, bytes, missing) in cases {
        run(async {
            let since = Instant::now();
            let mut server = server(act(async |_: Request<Body>| text(full(""))), Limits::default());
            server.io.write_all(&bytes).await.unwrap();
            let ended = server.ended.await.unwrap();
            assert!(matches!(ended, Err(ServeError::Silent(found)) if found == missing), "{what}: {ended:?}");
            assert!((10..15).contains(&since.elapsed().as_secs()), "{what}: {:?}", since.elapsed());
        });
    }
}

#[test]
fn a_body_that_stops_is_given_up() {
    run(async {
        let handler = act(async |request: Request<Body>| {
            assert_eq!(request.into_body().collect(100).await.unwrap_err().to_string(), BodyError::Timeout.to_string());
            text(full("late"))
        });
        let mut peer = Peer::new(handler, Limits::default()).await;
        peer.send(&[post(1), frame(DATA, 0, 1, b"abc")].concat()).await;
        let since = Instant::now();
        assert_eq!(peer.expect(HEADERS).await.status(), 200);
        assert_eq!(since.elapsed().as_secs(), 60);
    });
}

#[test]
fn a_client_that_gives_no_window_holds_a_response_only_so_long() {
    run(async {
        let pulled = Rc::new(Cell::new(0));
        let handler = act({
            let pulled = pulled.clone();
            async move |_: Request<Body>| text(Body::from_source(Endless(pulled.clone())))
        });
        let mut peer = Peer::new(handler, Limits::default()).await;
        // Windows of one byte for a hundred streams.
        peer.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1])).await;
        for stream in 0..100 {
            peer.send(&get(2 * stream + 1)).await;
        }
        let since = Instant::now();
        let mut resets = 0;
        while resets < 100 {
            let frame = peer.any().await.unwrap();
            if frame.kind == RST_STREAM {
                assert_eq!(frame.code(), CANCEL);
                resets += 1;
            }
            if frame.kind == PING && frame.flags & ACK == 0 {
                peer.send(&crate::support::frame(PING, ACK, 0, &frame.payload)).await;
            }
        }
        assert!((60..62).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
        assert_eq!(pulled.get(), 100_000, "one piece for each stream");
    });
}

#[test]
fn a_client_that_reads_nothing_is_cut_off() {
    run(async {
        let handler = act(async |_: Request<Body>| text(Body::from_source(Endless(Rc::default()))));
        let mut peer = Peer::new(handler, Limits::default()).await;
        // Window for 2 GiB.
        peer.send(&frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff])).await;
        peer.send(&frame(8, 0, 0, &[0x7f, 0xfe, 0, 0])).await;
        peer.send(&get(1)).await;
        let since = Instant::now();
        let ended = (&mut peer.server.ended).await.unwrap();
        assert!(
            matches!(&ended, Err(ServeError::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut),
            "{ended:?}"
        );
        assert!((60..65).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
    });
}

#[test]
fn a_silent_client_with_open_streams_is_asked_whether_it_lives() {
    run(async {
        let handler = act(async |_: Request<Body>| std::future::pending().await);
        let mut peer = Peer::new(handler, Limits::default()).await;
        peer.send(&get(1)).await;
        for _ in 0..5 {
            let ping = peer.expect(PING).await;
            peer.send(&frame(PING, ACK, 0, &ping.payload)).await;
        }
        peer.expect(PING).await;
        let since = Instant::now();
        let ended = (&mut peer.server.ended).await.unwrap();
        assert!(matches!(ended, Err(ServeError::Silent("answer to a ping"))), "{ended:?}");
        assert!((60..65).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
    });
}

#[test]
fn a_drained_connection_finishes_its_streams_and_takes_no_new_ones() {
    run(async {
        let gate = Rc::new(tokio::sync::Notify::new());
        let handler = act({
            let gate = gate.clone();
            async move |_: Request<Body>| {
                gate.notified().await;
                text(full("done"))
            }
        });
        let mut peer = Peer::new(handler, Limits::default()).await;
        peer.send(&get(1)).await;
        peer.send(&frame(PING, 0, 0, &[7; 8])).await;
        peer.expect(PING).await;
        peer.server.drain.fire();
        let first = peer.expect(GOAWAY).await;
        assert_eq!((first.code(), &first.payload[..4]), (NO_ERROR, &[0x7f, 0xff, 0xff, 0xff][..]));
        let ping = peer.expect(PING).await;
        peer.send(&frame(PING, ACK, 0, &ping.payload)).await;
        let last = peer.expect(GOAWAY).await;
        assert_eq!((last.code(), &last.payload[..4]), (NO_ERROR, &[0, 0, 0, 1][..]));
        peer.send(&get(3)).await;
        gate.notify_one();
        gate.notify_one();
        assert_eq!(peer.expect(HEADERS).await.stream, 1);
        assert_eq!(peer.expect(DATA).await.payload, b"done");
        assert!(peer.rest().await.is_empty(), "the stream that came too late isn't answered");
        peer.ended().await.unwrap();
    });
}

#[test]
fn an_idle_connection_drains_at_once_even_if_its_client_does_not_answer() {
    run(async {
        let mut peer = Peer::new(act(async |_: Request<Body>| text(full(""))), Limits::default()).await;
        peer.expect(SETTINGS).await;
        peer.server.drain.fire();
        let since = Instant::now();
        let frames = peer.rest().await;
        assert_eq!(frames.last().unwrap().kind, GOAWAY);
        assert!(since.elapsed() <= Duration::from_secs(5), "{:?}", since.elapsed());
        peer.ended().await.unwrap();
    });
}
