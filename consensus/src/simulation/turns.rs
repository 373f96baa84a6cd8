//! The order in which tasks of a machine run: of those that were woken at once, the oldest goes first.
//!
//! Tokio wakes who waits for a watched value in an order that it draws at random, and its seed can't be set.

use std::{
    collections::{BTreeMap, BTreeSet},
    task::{Context, Poll, Waker},
};

/// Who waits for a turn, and who has one.
#[derive(Default)]
pub struct Turns {
    numbers: u64,
    waiting: BTreeMap<u64, Waker>,
    given: BTreeSet<u64>,
    giver: Option<Waker>,
}

impl Turns {
    /// The number of a new task.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Whether it is this task's turn; else it is woken when it is.
    pub fn has(&mut self, number: u64, waker: &Waker) -> bool {
        if self.given.remove(&number) {
            return true;
        }
        self.waiting.insert(number, waker.clone());
        if let Some(giver) = self.giver.take() {
            giver.wake();
        }
        false
    }

    /// Gives all that wait their turns, in order. Never ends.
    pub fn give(&mut self, context: &Context<'_>) -> Poll<()> {
        self.giver = Some(context.waker().clone());
        for (number, waker) in std::mem::take(&mut self.waiting) {
            self.given.insert(number);
            waker.wake();
        }
        Poll::Pending
    }
}
