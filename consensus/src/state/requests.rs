//! The memory of request ids: a retry gets the first outcome.

use std::sync::Arc;

use imbl::OrdMap;

use crate::command::Outcome;

/// So many request ids are remembered; the oldest is forgotten first.
pub const REMEMBERED_MAX: usize = 10_000;

/// The last request ids with their outcomes.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    /// By the log index that brought them.
    by_index: OrdMap<u64, Arc<Request>>,
    by_id: OrdMap<Arc<str>, Arc<Request>>,
}

#[derive(Debug)]
pub struct Request {
    pub id: Arc<str>,
    pub outcome: Outcome,
}

impl Requests {
    pub fn outcome(&self, id: &str) -> Option<&Outcome> {
        self.by_id.get(id).map(|request| &request.outcome)
    }

    pub fn remember(&mut self, index: u64, id: &str, outcome: Outcome) {
        let request = Arc::new(Request { id: id.into(), outcome });
        self.by_id.insert(Arc::clone(&request.id), Arc::clone(&request));
        self.by_index.insert(index, request);
        while self.by_index.len() > REMEMBERED_MAX {
            let Some((oldest, request)) = self.by_index.get_min().cloned() else { break };
            self.by_index.remove(&oldest);
            self.by_id.remove(&request.id);
        }
    }

    /// Oldest first, with the log index that brought them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Arc<Request>)> {
        self.by_index.iter().map(|(index, request)| (*index, request))
    }
}
