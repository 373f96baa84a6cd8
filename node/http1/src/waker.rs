//! Wakers that are kept from one poll to the next.

use std::task::{Context, Waker};

/// Keeps the waker of the task that polls; the same one isn't cloned again.
pub(crate) fn keep(kept: &mut Option<Waker>, cx: &Context<'_>) {
    if !kept.as_ref().is_some_and(|kept| kept.will_wake(cx.waker())) {
        *kept = Some(cx.waker().clone());
    }
}
