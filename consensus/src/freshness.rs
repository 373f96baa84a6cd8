//! How old this node's knowledge is: since when nobody has confirmed that a quorum stands behind what it follows.
//!
//! The time is monotonic and counts from before the question was asked, as an answer says nothing about what came after that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::MissedTickBehavior;

use crate::{error::Error, replica::Replica};

/// How often the replica is asked.
pub const ASK_EVERY: Duration = Duration::from_millis(500);

/// Clones share one reading. Reading it takes one atomic load and one look at the clock.
#[derive(Clone)]
pub struct Freshness(Arc<Inner>);

struct Inner {
    origin: Instant,
    /// Nanoseconds from `origin`, and one; 0 if nothing was ever confirmed.
    confirmed: AtomicU64,
    is_frozen: AtomicBool,
}

impl Default for Freshness {
    fn default() -> Self {
        Self(Arc::new(Inner {
            origin: Instant::now(),
            confirmed: AtomicU64::new(0),
            is_frozen: AtomicBool::new(false),
        }))
    }
}

impl Freshness {
    /// Since when nothing was confirmed; [`Duration::MAX`] if nothing ever was.
    pub fn age(&self) -> Duration {
        match self.0.confirmed.load(Ordering::Acquire).checked_sub(1) {
            Some(nanos) => self.0.origin.elapsed().saturating_sub(Duration::from_nanos(nanos)),
            None => Duration::MAX,
        }
    }

    /// A question asked at `asked` was answered by a quorum, or by a leader that had one since. An older answer changes nothing.
    pub fn confirmed(&self, asked: Instant) {
        if self.0.is_frozen.load(Ordering::Acquire) {
            return;
        }
        let nanos = asked.saturating_duration_since(self.0.origin).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX - 1);
        self.0.confirmed.fetch_max(nanos.saturating_add(1), Ordering::AcqRel);
    }

    /// Asks once.
    ///
    /// # Errors
    /// If there is no answer; what was known before grows older.
    pub async fn ask(&self, replica: &Replica) -> Result<(), Error> {
        let asked = Instant::now();
        replica.confirm_now().await?;
        self.confirmed(asked);
        Ok(())
    }

    /// Asks again and again until the replica is closed. A replica that doesn't answer isn't waited for by anybody who reads.
    pub async fn keep(self, replica: Replica) {
        let mut tick = tokio::time::interval(ASK_EVERY);
        // After a pause one answer is as good as many.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(Error::Closed) = self.ask(&replica).await {
                return;
            }
        }
    }

    /// Lets nothing be confirmed, as if every answer were lost: for tests of what depends on it.
    #[doc(hidden)]
    pub fn freeze(&self, is_frozen: bool) {
        self.0.is_frozen.store(is_frozen, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Options;

    #[test]
    fn what_was_never_confirmed_is_older_than_anything_and_what_was_ages() {
        let freshness = Freshness::default();
        assert_eq!(freshness.age(), Duration::MAX);
        let now = Instant::now();
        freshness.confirmed(now);
        assert!(freshness.age() <= now.elapsed());
        let before = freshness.age();
        while freshness.age() == before {}
        assert!(freshness.age() > before, "it ages by itself");
    }

    #[test]
    fn late_answers_do_not_make_it_older_and_count_from_their_question() {
        let freshness = Freshness::default();
        let asked = Instant::now();
        let later = asked + Duration::from_millis(5);
        while Instant::now() < later {}
        freshness.confirmed(asked);
        assert!(freshness.age() >= Duration::from_millis(5), "the answer took that long");
        freshness.confirmed(later);
        let age = freshness.age();
        freshness.confirmed(asked);
        assert!(freshness.age() < age + Duration::from_millis(5), "an older answer came last");
    }

    #[test]
    fn nothing_is_confirmed_while_it_is_frozen() {
        let freshness = Freshness::default();
        freshness.freeze(true);
        freshness.confirmed(Instant::now());
        assert_eq!(freshness.age(), Duration::MAX);
        freshness.freeze(false);
        freshness.confirmed(Instant::now());
        assert!(freshness.age() < Duration::MAX);
    }

    #[tokio::test]
    async fn a_group_of_one_is_fresh_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let replica = Replica::open(Options::new(directory.path())).await.unwrap();
        let freshness = Freshness::default();
        freshness.ask(&replica).await.unwrap();
        assert!(freshness.age() < Duration::from_secs(60));
        replica.clone().close().await.unwrap();
        assert!(freshness.ask(&replica).await.is_err());
        let age = freshness.age();
        freshness.clone().keep(replica).await;
        assert!(freshness.age() >= age, "a closed replica confirms nothing");
    }
}
