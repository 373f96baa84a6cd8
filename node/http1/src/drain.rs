//! The signal that a thread's connections are to finish what they do and take nothing new.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

/// A signal for all connections of one thread; clones share it.
///
/// Once fired, idle connections close at once and busy ones answer with `Connection: close` and end.
#[derive(Clone, Default)]
pub struct Drain(Rc<State>);

#[derive(Default)]
struct State {
    fired: Cell<bool>,
    waiting: RefCell<Waiting>,
}

#[derive(Default)]
struct Waiting {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Drain {
    /// A signal that hasn't fired.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fires the signal, for good.
    pub fn fire(&self) {
        self.0.fired.set(true);
        let wakers: Vec<Waker> = self.0.waiting.borrow_mut().wakers.iter_mut().filter_map(Option::take).collect();
        for waker in wakers {
            waker.wake();
        }
    }

    /// Whether the signal has fired.
    pub fn is_fired(&self) -> bool {
        self.0.fired.get()
    }

    /// Resolves once the signal has fired.
    pub async fn fired(&self) {
        let mut watch = self.watch();
        std::future::poll_fn(|cx| if watch.poll(cx) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending })
            .await;
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch { drain: self.clone(), slot: None }
    }
}

/// One connection's place among those to be woken.
pub(crate) struct Watch {
    drain: Drain,
    slot: Option<usize>,
}

impl Watch {
    pub(crate) fn is_fired(&self) -> bool {
        self.drain.is_fired()
    }

    /// Whether the signal has fired; if not, the task is woken when it does.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_fired() {
            return true;
        }
        let waiting = &mut *self.drain.0.waiting.borrow_mut();
        let slot = *self.slot.get_or_insert_with(|| {
            waiting.free.pop().unwrap_or_else(|| {
                waiting.wakers.push(None);
                waiting.wakers.len() - 1
            })
        });
        let place = &mut waiting.wakers[slot];
        if !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *place = Some(cx.waker().clone());
        }
        false
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let waiting = &mut *self.drain.0.waiting.borrow_mut();
            waiting.wakers[slot] = None;
            waiting.free.push(slot);
        }
    }
}
