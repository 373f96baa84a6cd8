//! What the tests share: a cluster of one node, its callers, its administrators and its upstreams.

pub mod api;
pub mod cluster;
pub mod http;
pub mod manifest;
pub mod process;
pub mod upstream;

use std::time::{Duration, Instant};

/// Longer than anything here takes, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until there is something; fails the test if there never is.
pub async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Fails the test where `future` doesn't end in time.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
