//! No request fails at a node that nothing is wrong with.

/// When something was wrong with a node: from, to, in nanoseconds.
pub type Excuse = (usize, u64, u64);

/// A request that got no answer, or one of the gateway's own failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    pub node: usize,
    pub sent: u64,
    pub ended: u64,
    pub why: String,
}

/// Those that nothing excuses.
pub fn unexcused<'a>(failed: &'a [Failed], excuses: &[Excuse]) -> Vec<&'a Failed> {
    let is_excused = |failed: &&Failed| {
        let overlaps = |(node, from, to): &Excuse| *node == failed.node && *from <= failed.ended && failed.sent <= *to;
        !excuses.iter().any(overlaps)
    };
    failed.iter().filter(is_excused).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fault_of_that_node_at_that_time_excuses() {
        let failed = |node, sent, ended| Failed { node, sent, ended, why: String::new() };
        let all = [failed(0, 5, 15), failed(1, 5, 15), failed(0, 21, 30), failed(0, 1, 9)];
        let left: Vec<_> = unexcused(&all, &[(0, 10, 20)]).into_iter().cloned().collect();
        assert_eq!(left, [failed(1, 5, 15), failed(0, 21, 30), failed(0, 1, 9)]);
    }
}
