//! The published read copy of an actor's state: one atomic pointer and the log index that it reflects.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

/// A value that its owner replaces and everybody reads. Reading takes no lock.
pub struct View<T> {
    current: ArcSwap<T>,
    index: Published,
}

impl<T> View<T> {
    /// A view of `value` at log index 0.
    pub fn new(value: T) -> Self {
        Self { current: ArcSwap::from_pointee(value), index: Published::default() }
    }

    /// The newest value, cheaply, for the length of one request.
    pub fn load(&self) -> Guard<Arc<T>> {
        self.current.load()
    }

    /// The newest value, to keep.
    pub fn load_full(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Replaces the value. Views never go backwards: an older index is kept out of [`View::reached`].
    pub fn publish(&self, value: Arc<T>, index: u64) {
        self.current.store(value);
        self.index.advance(index);
    }

    /// Waits until the view reflects the log up to `index`.
    pub async fn reached(&self, index: u64) {
        self.index.reached(index).await;
    }

    /// The log index that the view reflects.
    pub fn index(&self) -> u64 {
        self.index.current()
    }

    /// Each index from now on.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.index.follow()
    }
}

/// The log index up to which something was published.
pub struct Published(watch::Sender<u64>);

impl Default for Published {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Published {
    /// Moves on to `index`, never back.
    pub fn advance(&self, index: u64) {
        self.0.send_if_modified(|current| {
            let moved = index > *current;
            *current = index.max(*current);
            moved
        });
    }

    /// Waits for `index`.
    pub async fn reached(&self, index: u64) {
        let mut follower = self.0.subscribe();
        follower.wait_for(|current| *current >= index).await.expect("the sender lives as long as this call borrows it");
    }

    /// Each index from now on; a slow reader sees the newest, not all.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    /// Where it stands.
    pub fn current(&self) -> u64 {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[allow(clippy::disallowed_methods, reason = "the test waits for its task")]
    async fn a_reader_waits_for_the_index_and_the_index_never_falls() {
        let view = Arc::new(View::new("old"));
        let waiting = {
            let view = view.clone();
            tokio::spawn(async move {
                view.reached(3).await;
                *view.load_full()
            })
        };
        view.publish(Arc::new("new"), 3);
        view.publish(Arc::new("replayed"), 2);
        assert_eq!(view.index(), 3);
        assert!(["new", "replayed"].contains(&waiting.await.expect("the reader ends")));
    }
}
