//! Turns of large transfers. A thread's tasks run one after the other, and one that moves megabytes, or hundreds that move a
//! little each, would hold up every small request between them. So a transfer that has moved [`TURN_BYTES`] waits until the
//! thread's [`pump`] calls it, and the pump calls one in each round of the scheduler.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::waker;

/// Moved in one turn.
const TURN_BYTES: usize = 64 * 1024;

/// Those that wait, the first one first; no longer than the number of transfers.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Rc<Ticket>>,
    pump: Option<Waker>,
}

struct Ticket {
    waker: RefCell<Waker>,
    is_called: Cell<bool>,
}

thread_local! {
    static QUEUE: RefCell<Queue> = RefCell::default();
}

/// Calls waiting transfers, for as long as it runs; a thread needs one. Without it they only let other tasks pass.
pub async fn pump() {
    let _stop = Stop;
    poll_fn(|cx| {
        let called = QUEUE.with_borrow_mut(|queue| {
            waker::keep(&mut queue.pump, cx);
            queue.next()
        });
        if let Some(ticket) = called {
            ticket.call();
            // Behind the task that was just woken.
            cx.waker().wake_by_ref();
        }
        Poll::<()>::Pending
    })
    .await;
}

/// Nobody calls those that wait once the pump is gone.
struct Stop;

impl Drop for Stop {
    fn drop(&mut self) {
        let queue = QUEUE.take();
        queue.waiting.iter().for_each(|ticket| ticket.call());
    }
}

impl Queue {
    /// The first whose transfer still exists.
    fn next(&mut self) -> Option<Rc<Ticket>> {
        std::iter::from_fn(|| self.waiting.pop_front()).find(|ticket| Rc::strong_count(ticket) > 1)
    }
}

impl Ticket {
    fn call(&self) {
        self.is_called.set(true);
        self.waker.borrow().wake_by_ref();
    }
}

/// One transfer's turn.
#[derive(Default)]
pub struct Turn {
    moved: usize,
    ticket: Option<Rc<Ticket>>,
}

impl Turn {
    /// So many bytes were moved.
    pub fn moved(&mut self, bytes: usize) {
        self.moved += bytes;
    }

    /// Ready while the turn lasts; else the task is woken for its next one.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(ticket) = &self.ticket {
            if !ticket.is_called.get() {
                ticket.waker.borrow_mut().clone_from(cx.waker());
                return Poll::Pending;
            }
            self.ticket = None;
            self.moved = 0;
        }
        if self.moved < TURN_BYTES {
            return Poll::Ready(());
        }
        self.ticket = QUEUE.with_borrow_mut(|queue| {
            let pump = queue.pump.as_ref()?;
            let ticket = Rc::new(Ticket { waker: cx.waker().clone().into(), is_called: Cell::new(false) });
            queue.waiting.push_back(ticket.clone());
            if queue.waiting.len() == 1 {
                pump.wake_by_ref();
            }
            Some(ticket)
        });
        if self.ticket.is_none() {
            self.moved = 0;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets the tasks that are ready run first; the runtime's own `yield_now` waits for more.
    async fn pass() {
        let mut has_passed = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut has_passed, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Moves so many turns' worth, and notes each turn.
    async fn transfer(turns: usize, seen: Rc<RefCell<Vec<char>>>, name: char) {
        let mut turn = Turn::default();
        let mut left = turns;
        poll_fn(|cx| {
            while turn.poll(cx).is_ready() {
                if left == 0 {
                    return Poll::Ready(());
                }
                left -= 1;
                seen.borrow_mut().push(name);
                turn.moved(TURN_BYTES);
            }
            Poll::Pending
        })
        .await;
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn transfers_take_turns_with_and_without_a_pump() {
        for has_pump in [false, true] {
            run(async {
                let seen = Rc::new(RefCell::new(Vec::new()));
                let pump = has_pump.then(|| tokio::task::spawn_local(pump()));
                tokio::task::yield_now().await;
                let (a, b) = (transfer(3, seen.clone(), 'a'), transfer(3, seen.clone(), 'b'));
                let (a, b) = (tokio::task::spawn_local(a), tokio::task::spawn_local(b));
                a.await.unwrap();
                b.await.unwrap();
                assert_eq!(String::from_iter(&*seen.borrow()), "ababab", "with a pump: {has_pump}");
                pump.inspect(|pump| pump.abort());
            });
        }
    }

    #[test]
    fn small_tasks_run_between_the_turns_of_many_transfers() {
        run(async {
            let seen = Rc::new(RefCell::new(Vec::new()));
            let pump = tokio::task::spawn_local(pump());
            tokio::task::yield_now().await;
            let transfers: Vec<_> =
                (0..50).map(|_| tokio::task::spawn_local(transfer(10, seen.clone(), 'x'))).collect();
            let small = tokio::task::spawn_local({
                let seen = seen.clone();
                async move {
                    for _ in 0..5 {
                        let before = seen.borrow().len();
                        pass().await;
                        assert!(seen.borrow().len() - before <= 2, "a small task waited for all of them");
                    }
                }
            });
            small.await.unwrap();
            assert!(seen.borrow().len() < 100, "it was to be done long before them");
            for transfer in transfers {
                transfer.await.unwrap();
            }
            assert_eq!(seen.borrow().len(), 500);
            pump.abort();
        });
    }

    #[test]
    fn transfers_that_were_dropped_and_a_pump_that_stops_hold_nobody_up() {
        run(async {
            let seen = Rc::new(RefCell::new(Vec::new()));
            let pump = tokio::task::spawn_local(pump());
            tokio::task::yield_now().await;
            let dropped = tokio::task::spawn_local(transfer(1000, seen.clone(), 'd'));
            let goes_on = tokio::task::spawn_local(transfer(1000, seen.clone(), 'g'));
            tokio::task::yield_now().await;
            dropped.abort();
            tokio::task::yield_now().await;
            pump.abort();
            goes_on.await.unwrap();
            assert_eq!(seen.borrow().iter().filter(|name| **name == 'g').count(), 1000);
        });
    }
}
