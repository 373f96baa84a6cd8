//! Waiting until requests are decided by what was applied.

use std::time::Duration;

use anyhow::Context;
use octelium_api::control::WaitForIndexRequest;
use tokio::time::Instant;

use crate::{
    exit::{Exit, Failure},
    progress::Progress,
    session::Cluster,
};

/// The server waits no longer at a time.
const PERIOD_MAX: Duration = Duration::from_secs(30);

/// Waits until the state at `index` is in effect, for at most `timeout`.
///
/// # Errors
/// If it isn't in time, with a code of its own, or the server can't tell.
pub async fn until(cluster: &mut Cluster, index: u64, timeout: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    let _progress = Progress::start("waiting until the change is in effect".to_owned());
    let mut reached = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let text = format!(
                "the change was made (index {index}), but after {} s the gateway still decides by index {reached}",
                timeout.as_secs()
            );
            return Err(Failure::new(Exit::Timeout, text).into());
        }
        let period = u32::try_from(left.min(PERIOD_MAX).as_millis()).unwrap_or(u32::MAX).max(1);
        let request = WaitForIndexRequest { index, timeout_milliseconds: period };
        let answer = cluster
            .control(async |control| control.wait_for_index(request).await)
            .await
            .context("the change was made, but whether it is in effect is not known")?;
        if answer.reached {
            return Ok(());
        }
        reached = answer.index;
    }
}
