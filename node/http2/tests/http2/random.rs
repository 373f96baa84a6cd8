//! Frames as nobody would send them: the server may refuse, reset, close, but never panic or hang.

use std::time::Duration;

use http::Request;
use octelium_http1::Body;
use octelium_http2::Limits;
use proptest::prelude::*;

use crate::support::{END_HEADERS, GET, HEADERS, POST, Peer, act, block, frame, run, text, with};

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        Just(block(&GET)),
        Just(with(&POST, &[("content-length", "5")])),
        Just(block(&[("x-trailer", "y")])),
        Just(vec![0, 0, 0, 1]),
        Just(vec![0; 8]),
    ];
    prop_oneof![
        8 => (0_u8..12, any::<u8>(), 0_u32..8, payload.clone()).prop_map(|(kind, flags, stream, payload)| {
            frame(kind, flags, stream, &payload)
        }),
        3 => (any::<bool>(), 0_u32..8, payload).prop_map(|(ends, stream, payload)| {
            frame(HEADERS, END_HEADERS | u8::from(ends), stream | 1, &payload)
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..30),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_sequence_of_frames_panics_or_hangs(
        frames in proptest::collection::vec(any_frame(), 0..30),
        piece in 1_usize..200,
    ) {
        run(async {
            let handler = act(async |request: Request<Body>| match request.into_body().collect(1000).await {
                Ok(body) => text(Body::full(body)),
                Err(error) => text(Body::full(error.to_string())),
            });
            let mut peer = Peer::new(handler, Limits::default()).await;
            let bytes = frames.concat();
            for piece in bytes.chunks(piece) {
                if !peer.send(piece).await {
                    break;
                }
            }
            // Longer than all timeouts together.
            tokio::time::timeout(Duration::from_secs(600), peer.rest()).await.unwrap();
            // How it ended doesn't matter, that it did does.
            let _ = peer.ended().await;
        });
    }
}
