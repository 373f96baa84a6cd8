//! The node's figures in the text form of OpenMetrics, which Prometheus reads; all of them are read when somebody asks.
//!
//! No label takes its values from requests or resources, so that there are never more series than this file shows.

mod collect;
pub mod server;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use octelium_actors::Views;
use octelium_consensus::Replica;
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::sync::watch;

use super::counts::Totals;
use crate::{listener::accept::Connections, proxy::view_age::ViewAge};

/// Where the figures come from.
#[derive(Clone)]
pub struct Sources {
    /// Raft, and the replicated state.
    pub replica: Replica,
    /// Views and rate limits.
    pub views: Views,
    /// When a leader was last heard.
    pub view_age: ViewAge,
    /// Callers.
    pub connections: Arc<Connections>,
    /// How their requests ended.
    pub totals: Totals,
    /// Records of the access log that were lost.
    pub lost_records: Arc<AtomicU64>,
    /// Whether the node was told to stop.
    pub leaving: watch::Receiver<bool>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Sources {
    /// Why callers should be sent to other nodes; `None`: this one serves.
    pub fn unready(&self) -> Option<&'static str> {
        if *self.leaving.borrow() {
            return Some("stopping");
        }
        if self.replica.state().key(&octelium_consensus::drained_key(self.replica.node_id())).is_some() {
            return Some("drained: `octeliumctl cluster drain` took this node out of service");
        }
        self.view_age
            .is_too_old()
            .then_some("view too old: no leader was heard within viewAgeMax; requests with a Session are refused")
    }
}

/// What a scrape reads.
pub struct Metrics {
    registry: Registry,
    sources: Sources,
}

impl Metrics {
    /// Metrics of these sources.
    pub fn new(sources: Sources) -> Self {
        let mut registry = Registry::with_prefix("octelium");
        let figures = sources.replica.figures();
        registry.register(
            "raft_commit_seconds",
            "From a proposal on this node to its answer: committed by the cluster and applied",
            figures.commit.clone(),
        );
        registry.register("rate_limit_ask_seconds", "From an ask for leases to its answer", figures.ask.clone());
        registry.register_collector(Box::new(sources.clone()));
        Self { registry, sources }
    }

    /// The text.
    ///
    /// # Errors
    /// If a source can't be written as text.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 << 10);
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn lost(sources: &Sources) -> u64 {
    sources.lost_records.load(Ordering::Relaxed)
}
