//! What can happen, and in which order.

use std::cmp::Ordering;

use octelium_consensus::{Ask, Reign};

/// One thing that happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// A request for one of the limits arrives at a node.
    Request { node: usize, limit: usize },
    /// The hopping client's next request.
    Hop { turn: u64 },
    /// A request has waited for as long as it may.
    WaitEnds { node: usize, waiter: u64 },
    /// A node's alarm that was set for this moment.
    Tick { node: usize, at: u64 },
    /// An ask reaches a node.
    AskArrives { node: usize, ask: Ask, hops: u8 },
    /// A node learns what became of its ask.
    Answer { node: usize, incarnation: u64, sequence: u64, applied: bool },
    /// A node stops waiting for that.
    AskTimesOut { node: usize, incarnation: u64, sequence: u64 },
    /// What a leader appended may have reached a quorum.
    Commit { node: usize, reign: Reign },
    /// A node learns what is committed.
    Deliver { node: usize },
    /// The leader tells all what is committed.
    Heartbeat,
    /// Followers look whether there is a leader.
    Elect,
    /// Something breaks.
    Fault,
    /// The network is whole again.
    Heal,
    /// A node starts again.
    Restart { node: usize },
}

impl Event {
    /// The node that must be awake for it.
    pub fn node(&self) -> Option<usize> {
        match self {
            Self::Request { node, .. }
            | Self::WaitEnds { node, .. }
            | Self::Tick { node, .. }
            | Self::AskArrives { node, .. }
            | Self::Answer { node, .. }
            | Self::AskTimesOut { node, .. }
            | Self::Commit { node, .. }
            | Self::Deliver { node } => Some(*node),
            Self::Hop { .. } | Self::Heartbeat | Self::Elect | Self::Fault | Self::Heal | Self::Restart { .. } => None,
        }
    }
}

/// An event with its time; of two at one time the one that was scheduled first comes first.
#[derive(Debug)]
pub struct Scheduled {
    pub at: u64,
    pub number: u64,
    pub event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        // A heap gives its greatest first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}
