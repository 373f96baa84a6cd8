//! Calls that wait, bounded: for a change to take effect, for the next change of a kind.

use std::{str::FromStr, time::Duration};

use octelium_api::{
    Kind,
    control::{WaitForChangeRequest, WaitForChangeResponse, WaitForIndexRequest, WaitForIndexResponse},
};

use crate::{Inner, refusal::Refusal};

/// No call waits longer. Whoever wants to know on asks again, and is authenticated and authorized again.
const WAIT_MAX: Duration = Duration::from_secs(30);

fn patience(milliseconds: u32) -> Duration {
    match milliseconds {
        0 => WAIT_MAX,
        some => Duration::from_millis(some.into()).min(WAIT_MAX),
    }
}

/// Waits until requests are decided by the state at the index: on this node, and on every other that can be reached.
pub async fn for_index(inner: &Inner, request: &WaitForIndexRequest) -> WaitForIndexResponse {
    let (views, replica) = (&inner.store.views, &inner.store.replica);
    let everywhere = async {
        views.reached(request.index).await;
        match replica.known_members().len() {
            0 | 1 => true,
            _ => replica.reached_everywhere(request.index).await.is_ok(),
        }
    };
    let reached = tokio::time::timeout(patience(request.timeout_milliseconds), everywhere).await;
    WaitForIndexResponse { reached: reached.unwrap_or(false), index: views.index() }
}

/// Waits until a resource of the kind has changed after the index.
pub async fn for_change(inner: &Inner, request: &WaitForChangeRequest) -> Result<WaitForChangeResponse, Refusal> {
    let kind = Kind::from_str(&request.kind)
        .map_err(|()| Refusal::at("kind", format!("this server has no kind `{}`", request.kind.escape_default())))?;
    let mut feed = inner.store.replica.watch();
    let mut wait = std::pin::pin!(tokio::time::sleep(patience(request.timeout_milliseconds)));
    loop {
        // Never 0, which would ask for an answer at once when it is sent back.
        let index = feed.borrow_and_update().changed_index(kind).max(1);
        if index > request.after {
            return Ok(WaitForChangeResponse { index });
        }
        tokio::select! {
            changed = feed.changed() => if changed.is_err() {
                return Ok(WaitForChangeResponse { index });
            },
            () = &mut wait => return Ok(WaitForChangeResponse { index }),
        }
    }
}
