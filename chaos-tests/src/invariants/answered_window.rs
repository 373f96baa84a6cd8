//! The promise of strict limits as a caller can judge it, who only knows when a request was sent and when its answer came: no span of
//! one window holds more admitted requests from their sending to their answers than the limit says.

/// An admitted request: when it was sent and when it was answered, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub sent: u64,
    pub answered: u64,
}

/// The most that lies within one window.
pub fn fullest(admitted: &[Span], window: u64) -> u64 {
    let mut by_sent = admitted.to_vec();
    by_sent.sort_unstable_by_key(|span| span.sent);
    // A fullest window can be moved to the right until it begins with a request.
    let within = |first: usize| {
        let end = by_sent[first].sent.saturating_add(window);
        let in_reach = by_sent[first..].iter().take_while(|span| span.sent < end);
        in_reach.filter(|span| span.answered < end).count() as u64
    };
    (0..by_sent.len()).map(within).max().unwrap_or_default()
}

/// What was broken, if anything.
pub fn broken(admitted: &[Span], window: u64, limit: u64) -> Option<String> {
    let most = fullest(admitted, window);
    (most > limit).then(|| {
        format!("window: {most} requests were sent and admitted within {} ms, of limit {limit}", window / 1_000_000)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(times: &[(u64, u64)]) -> Vec<Span> {
        times.iter().map(|(sent, answered)| Span { sent: *sent, answered: *answered }).collect()
    }

    #[test]
    fn one_too_many_is_seen_and_what_could_lie_outside_is_not_held_against_anybody() {
        let window = 100;
        assert_eq!(broken(&spans(&[(0, 1), (50, 51), (100, 101)]), window, 2), None, "the first has left the window");
        assert!(broken(&spans(&[(0, 1), (50, 51), (98, 99)]), window, 2).is_some());
        assert_eq!(broken(&spans(&[(0, 1), (50, 51), (98, 150)]), window, 2), None, "admitted at 120, perhaps");
        assert_eq!(fullest(&spans(&[(60, 61), (0, 1), (90, 91), (150, 155)]), window), 3);
        assert_eq!(fullest(&[], window), 0);
    }
}
