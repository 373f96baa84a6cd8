//! A deadline that costs nothing while bytes flow: it is set only when somebody has to wait, and the runtime's timer is
//! re-armed lazily, so that a later deadline doesn't touch the timer wheel.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// See the module; one deadline at a time.
#[derive(Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    due: Option<Instant>,
}

impl Timer {
    /// Forgets the deadline; the armed timer stays and at worst wakes the task once for nothing.
    pub fn clear(&mut self) {
        self.due = None;
    }

    /// Sets the deadline unless one is running, and is ready when it has passed.
    pub fn poll_after(&mut self, after: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let due = *self.due.get_or_insert_with(|| Instant::now() + after);
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
        Poll::Pending
    }
}
