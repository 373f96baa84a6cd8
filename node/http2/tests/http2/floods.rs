//! Clients that make work: each is told to calm down and cut off, and pays before we do.

use std::time::Duration;

use http::Request;
use octelium_http1::Body;
use octelium_http2::{Flood, Limits, ServeError};

use crate::support::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GET, GOAWAY, HEADERS, PING, PRIORITY, Peer,
    SETTINGS, WINDOW_UPDATE, act, block, frame, full, get, post, reset, run, text,
};

fn repeat(count: usize, make: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(make).collect()
}

#[test]
fn a_flood_ends_its_connection() {
    let cases: Vec<(&str, Vec<u8>, Flood)> = vec![
        ("SETTINGS", repeat(150, |_| frame(SETTINGS, 0, 0, &[])), Flood::Control),
        ("PING", repeat(150, |_| frame(PING, 0, 0, &[0; 8])), Flood::Control),
        ("answers to pings", repeat(150, |_| frame(PING, ACK, 0, &[0; 8])), Flood::Control),
        ("PRIORITY", repeat(150, |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9])), Flood::Empty),
        ("unknown types", repeat(150, |_| frame(0xfa, 0, 0, b"grease")), Flood::Empty),
        ("empty DATA", [post(1), repeat(150, |_| frame(DATA, 0, 1, &[]))].concat(), Flood::Empty),
        (
            "window, a byte at a time",
            [post(1), repeat(1100, |_| frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]))].concat(),
            Flood::WindowUpdates,
        ),
        (
            "CONTINUATION",
            [
                frame(HEADERS, END_STREAM, 1, &block(&GET)),
                repeat(40, |_| frame(CONTINUATION, 0, 1, &block(&[("x", "y")]))),
            ]
            .concat(),
            Flood::Engine,
        ),
        (
            "long CONTINUATION",
            [
                frame(HEADERS, END_STREAM, 1, &block(&GET)),
                repeat(3, |_| frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(12_000))]))),
            ]
            .concat(),
            Flood::HeaderBlock,
        ),
        (
            "streams given up at once",
            repeat(1200, |at| [post(2 * at as u32 + 1), reset(2 * at as u32 + 1)].concat()),
            Flood::Resets,
        ),
        // Each field is one byte on the wire and 4 KiB in the list: a static table can't hold them, the dynamic one can.
        ("an HPACK bomb", bomb(), Flood::Engine),
    ];
    for (what, bytes, flood) in cases {
        run(async {
            let handler = act(async |_: Request<Body>| std::future::pending().await);
            let mut peer = Peer::new(handler, Limits::default()).await;
            // In portions, so that the server has its turns.
            for portion in bytes.chunks(2000) {
                peer.send(portion).await;
                tokio::task::yield_now().await;
            }
            let goaway = peer.expect(GOAWAY).await;
            assert_eq!(goaway.code(), ENHANCE_YOUR_CALM, "{what}");
            let ended = peer.ended().await;
            let Err(ServeError::Flood(found)) = ended else { panic!("{what}: {ended:?}") };
            // Streams that were given up before anybody looked at them are counted by both.
            assert!(found == flood || (flood == Flood::Resets && found == Flood::Engine), "{what}: {found:?}");
        });
    }
}

fn bomb() -> Vec<u8> {
    let mut first = block(&GET);
    first.push(0x40); // with incremental indexing: entry 62 from now on
    crate::support::string(&mut first, b"x");
    crate::support::string(&mut first, &[b'y'; 3900]);
    let mut second = block(&GET);
    second.extend([0xbe; 10_000]); // entry 62, again and again
    [frame(HEADERS, END_STREAM | END_HEADERS, 1, &first), frame(HEADERS, END_STREAM | END_HEADERS, 3, &second)].concat()
}

#[test]
fn what_an_eager_client_does_is_no_flood() {
    run(async {
        let handler = act(async |_: Request<Body>| text(Body::full(vec![b'x'; 3000])));
        let mut peer = Peer::new(handler, Limits::default()).await;
        for round in 0..600_u32 {
            let stream = 2 * round + 1;
            // A priority with each request, a ping after each answer, window for each piece.
            peer.send(&[get(stream), frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 9])].concat()).await;
            let mut got = 0;
            while got < 3000 {
                got += peer.expect(DATA).await.payload.len();
            }
            peer.send(&frame(WINDOW_UPDATE, 0, 0, &3000_u32.to_be_bytes())).await;
            peer.send(&frame(PING, 0, 0, &[0; 8])).await;
            peer.expect(PING).await;
        }
        peer.ended().await.unwrap();
    });
}

#[test]
fn slow_settings_and_pings_are_no_flood() {
    run(async {
        let handler = act(async |_: Request<Body>| text(full("")));
        let mut peer = Peer::new(handler, Limits::default()).await;
        for _ in 0..500 {
            peer.send(&frame(PING, 0, 0, &[0; 8])).await;
            peer.expect(PING).await;
            tokio::time::advance(Duration::from_millis(11)).await;
        }
        peer.ended().await.unwrap();
    });
}

#[test]
fn what_may_be_given_up_comes_back_with_time() {
    run(async {
        let handler = act(async |_: Request<Body>| std::future::pending().await);
        let limits = Limits { resets_max: 10, ..Limits::default() };
        let mut peer = Peer::new(handler, limits).await;
        let mut stream = 1;
        for allowed in [10, 5] {
            for _ in 0..allowed {
                peer.send(&[post(stream), reset(stream)].concat()).await;
                stream += 2;
            }
            peer.send(&frame(PING, 0, 0, &[7; 8])).await;
            peer.expect(PING).await;
            tokio::time::advance(std::time::Duration::from_secs(30)).await;
        }
        for _ in 0..20 {
            peer.send(&[post(stream), reset(stream)].concat()).await;
            stream += 2;
        }
        assert_eq!(peer.expect(GOAWAY).await.code(), ENHANCE_YOUR_CALM);
    });
}

#[test]
fn there_are_never_more_streams_than_allowed() {
    run(async {
        let handler = act(async |_: Request<Body>| std::future::pending().await);
        let mut peer = Peer::new(handler, Limits { streams_max: 10, ..Limits::default() }).await;
        peer.send(&repeat(15, |at| post(2 * at as u32 + 1))).await;
        for expected in [21, 23, 25, 27, 29] {
            let refused = peer.next().await.unwrap();
            assert_eq!((refused.stream, refused.code()), (expected, 7), "REFUSED_STREAM");
        }
    });
}
