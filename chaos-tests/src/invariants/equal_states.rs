//! Nodes that applied the same log have the same state, to the byte.

use std::collections::BTreeMap;

use octelium_consensus::State;

use super::Broken;

/// A digest reads the whole state: only each so many entries.
const EVERY: usize = 32;

pub struct EqualStates {
    nodes: usize,
    every: usize,
    /// By index: the digest, and how many nodes had it.
    digests: BTreeMap<usize, ([u8; 32], usize)>,
    pub broken: Broken,
}

impl EqualStates {
    pub fn new(nodes: usize) -> Self {
        Self::with_every(nodes, EVERY)
    }

    /// With a look at each so many entries.
    pub fn with_every(nodes: usize, every: usize) -> Self {
        Self { nodes, every, digests: BTreeMap::new(), broken: Broken::default() }
    }

    pub fn applied(&mut self, node: usize, index: usize, state: &State) {
        if !index.is_multiple_of(self.every) {
            return;
        }
        // The index of the last entry that brought something differs from node to node only if their logs do.
        let digest = state.hash();
        let (known, had) = self.digests.entry(index).or_insert((digest, 0));
        *had += 1;
        if *known != digest {
            self.broken.add(|| format!("equal states: node {node} differs after entry {index}"));
        }
        if *had == self.nodes {
            self.digests.remove(&index);
        }
    }
}
