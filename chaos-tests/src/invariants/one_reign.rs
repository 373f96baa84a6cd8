//! A reign (a term and the node that leads in it) is led by one start of that node: who forgot that it led leads anew.

use std::collections::BTreeMap;

use super::Broken;

#[derive(Default)]
pub struct OneReign {
    starts: BTreeMap<(u64, u64), u64>,
    pub broken: Broken,
}

impl OneReign {
    /// The node was seen to lead in this term, in its `start`-th start.
    pub fn leads(&mut self, term: u64, node: u64, start: u64) {
        let known = *self.starts.entry((term, node)).or_insert(start);
        if known != start {
            self.broken
                .add(|| format!("one reign: node {node:016x} leads in term {term} after starts {known} and {start}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reign_that_goes_on_after_a_start_is_seen() {
        let mut reigns = OneReign::default();
        for (term, node, start) in [(1, 7, 1), (1, 7, 1), (2, 7, 2), (2, 8, 1)] {
            reigns.leads(term, node, start);
        }
        assert!(reigns.broken.0.is_empty());
        reigns.leads(2, 7, 3);
        assert_eq!(reigns.broken.0.len(), 1);
    }
}
