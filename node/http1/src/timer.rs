//! A deadline that costs nothing while bytes flow: it is set only when somebody has to wait, and the runtime's timer is
//! re-armed lazily, so that a later deadline doesn't touch the timer wheel.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::clock;

/// See the module; one deadline at a time.
#[derive(Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    due: Option<Instant>,
    /// Who is woken by `sleep`.
    waker: Option<Waker>,
}

impl Timer {
    /// Forgets the deadline; the armed timer stays and at worst wakes the task once for nothing.
    pub fn clear(&mut self) {
        self.due = None;
    }

    /// Sets the deadline unless one is running, and is ready when it has passed.
    pub fn poll_after(&mut self, after: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let due = *self.due.get_or_insert_with(|| clock::now() + after);
        let is_known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_known && self.sleep.as_ref().is_some_and(|sleep| sleep.deadline() <= due && !sleep.is_elapsed()) {
            // Armed, and early enough.
            return Poll::Pending;
        }
        if !coop::has_budget_remaining() {
            // The runtime's timer would do nothing; this one would then pass for armed.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() > due {
            sleep.as_mut().reset(due);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
        if !is_known {
            self.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_set_when_the_task_has_done_its_share_still_rings() {
        let start = Instant::now();
        let mut timer = Timer::default();
        poll_fn(|cx| {
            while timer.due.is_none() && coop::has_budget_remaining() {
                let _used = pin!(coop::consume_budget()).poll(cx);
            }
            timer.poll_after(Duration::from_secs(5), cx)
        })
        .await;
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}
