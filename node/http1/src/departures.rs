//! Messages that were made in one round of the scheduler leave in a row at its end: the first one wakes whoever receives them, who is
//! still awake for the others. Waking somebody costs more than a round of the scheduler.
//!
//! A message that is there as a whole is queued by its task and written by the thread's [`run`]. The task needn't be polled for it
//! again, unless the stream takes only a part or fails.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::waker;

/// How many leave before other tasks have their turn.
const ROW: usize = 64;
/// Longer messages are written by their own tasks: they would hold up those behind them.
pub(crate) const BYTES_MAX: usize = 16 * 1024;

thread_local! {
    static QUEUE: Queue = Queue::default();
}

#[derive(Default)]
struct Queue {
    /// Each connection once, or twice if it was used again in the same round.
    waiting: RefCell<VecDeque<Rc<dyn Depart>>>,
    runner: RefCell<Option<Waker>>,
}

/// A connection with a message to be written.
pub(crate) trait Depart {
    /// Writes what the stream takes. Whoever queued it may be gone.
    fn depart(self: Rc<Self>);
}

/// Writes what is queued, for as long as it runs; a thread needs one. Without it each task writes its own messages.
pub async fn run() {
    let _stop = Stop;
    poll_fn(|cx| {
        QUEUE.with(|queue| waker::keep(&mut queue.runner.borrow_mut(), cx));
        if depart_some() {
            cx.waker().wake_by_ref();
        }
        Poll::<()>::Pending
    })
    .await;
}

/// Once the runner is gone, nobody writes what is queued.
struct Stop;

impl Drop for Stop {
    fn drop(&mut self) {
        // A thread that ends has no queue any more.
        if QUEUE.try_with(|queue| queue.runner.take()).is_ok() {
            while depart_some() {}
        }
    }
}

/// Queues a connection; false if there is nobody to write its message.
pub(crate) fn queue(connection: Rc<dyn Depart>) -> bool {
    QUEUE.with(|queue| {
        let runner = queue.runner.borrow();
        let Some(runner) = &*runner else { return false };
        let waiting = &mut *queue.waiting.borrow_mut();
        if waiting.is_empty() {
            runner.wake_by_ref();
        }
        waiting.push_back(connection);
        true
    })
}

/// Writes some of what is queued; whether there is more.
fn depart_some() -> bool {
    let next = || QUEUE.with(|queue| queue.waiting.borrow_mut().pop_front());
    std::iter::from_fn(next).take(ROW).for_each(Depart::depart);
    QUEUE.with(|queue| !queue.waiting.borrow().is_empty())
}
