//! A caller's connection, for the targets that look at what the engine hands on.

use std::time::Duration;

use octelium_http1::{Drain, Handler, Limits, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::Builder,
    task::LocalSet,
};

/// Serves a connection on which `input` arrives in pieces of these sizes, which begin again after the last, until it ends.
pub fn served(input: &[u8], sizes: &[usize], limits: &Limits, handler: &impl Handler) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let (mut near, far) = duplex(1 << 20);
        let drain = Drain::new();
        let caller = async {
            let mut left = input;
            for size in sizes.iter().cycle() {
                if left.is_empty() {
                    break;
                }
                let (piece, rest) = left.split_at((*size).clamp(1, left.len()));
                near.write_all(piece).await.ok();
                tokio::task::yield_now().await;
                left = rest;
            }
            near.shutdown().await.ok();
            let mut output = Vec::new();
            near.read_to_end(&mut output).await.ok();
        };
        let both = async { tokio::join!(serve(far, limits, handler, &drain), caller) };
        tokio::time::timeout(Duration::from_secs(3600), both).await.expect("it comes to an end").0.ok();
    });
}
