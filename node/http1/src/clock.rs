//! The time for timeouts, read from the system about once for each turn of the runtime instead of for each event.

use std::cell::Cell;

use tokio::time::Instant;

/// How often one reading counts at most: a runtime that never rests must see time pass.
const USES: u32 = 64;

thread_local! {
    static LAST: Cell<Option<Last>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Last {
    time: Option<Instant>,
    uses: u32,
}

/// Makes readings count for several events of this thread, until this is called again: each time that its runtime has rested.
/// Without it each event reads the clock.
pub fn turn() {
    LAST.set(Some(Last { time: None, uses: 0 }));
}

/// The time at which the events began that are handled now.
pub(crate) fn now() -> Instant {
    let Some(last) = LAST.get() else { return Instant::now() };
    match last.time {
        Some(time) if last.uses < USES => {
            LAST.set(Some(Last { uses: last.uses + 1, ..last }));
            time
        }
        _ => {
            let time = Instant::now();
            LAST.set(Some(Last { time: Some(time), uses: 0 }));
            time
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reading_counts_for_one_turn_and_not_for_ever() {
        let passes = || tokio::time::advance(Duration::from_millis(1));
        let start = now();
        passes().await;
        assert!(now() > start, "without turns each event reads the clock");
        turn();
        let first = now();
        passes().await;
        assert_eq!(now(), first);
        turn();
        assert!(now() > first);
        let second = now();
        passes().await;
        assert!((0..=USES).any(|_| now() > second), "a runtime that never rests sees time pass");
    }
}
