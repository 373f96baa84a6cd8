//! What is counted of the group as it works, and how it stands: for a metrics endpoint.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use openraft::{ServerState, async_runtime::WatchReceiver};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::replica::Replica;

/// Clones share their counts.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Seconds from a proposal on this node to its answer: committed and applied.
    pub commit: Histogram,
    /// The same for asks of rate limits.
    pub ask: Histogram,
    leader_changes: Arc<AtomicU64>,
}

impl Default for Figures {
    fn default() -> Self {
        // From half a millisecond to 16 s.
        let seconds = || Histogram::new(exponential_buckets(0.000_5, 2.0, 16));
        Self { commit: seconds(), ask: seconds(), leader_changes: Arc::default() }
    }
}

impl Figures {
    /// How often an entry of another leader than that of the entry before was applied here.
    pub fn leader_changes(&self) -> u64 {
        self.leader_changes.load(Ordering::Relaxed)
    }

    pub(crate) fn leader_changed(&self) {
        self.leader_changes.fetch_add(1, Ordering::Relaxed);
    }
}

/// How the group stands, as this node knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The term.
    pub term: u64,
    /// Whether this node leads.
    pub is_leader: bool,
    /// Whether it knows a leader.
    pub has_leader: bool,
    /// The last entry of its log.
    pub last_log: u64,
    /// The last entry that it applied.
    pub applied: u64,
    /// Members that vote.
    pub voters: usize,
    /// Members that follow.
    pub learners: usize,
}

impl Replica {
    /// What was counted.
    pub fn figures(&self) -> &Figures {
        &self.inner.figures
    }

    /// How the group stands.
    pub fn standing(&self) -> Standing {
        let applied = self.state().index();
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.voter_ids().count();
        Standing {
            term: metrics.current_term,
            is_leader: metrics.state == ServerState::Leader,
            has_leader: metrics.current_leader.is_some(),
            // What is published of it may be older than what was applied.
            last_log: metrics.last_log_index.unwrap_or_default().max(applied),
            applied,
            voters,
            learners: metrics.membership_config.nodes().count().saturating_sub(voters),
        }
    }
}
