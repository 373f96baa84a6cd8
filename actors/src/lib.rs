//! Owners of changing state. Each follows the replicated state and publishes a view that requests read without waiting.

pub mod membership;
pub mod plans;
pub mod policies;
pub mod rate_limiter;
pub mod router;
pub mod sessions;
pub mod subject;
pub mod supervisor;
pub mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use octelium_consensus::State;
pub use subject::context_of;
use tokio::sync::watch;

/// The replicated state as it moves on; the newest value is always there.
pub type StateFeed = watch::Receiver<Arc<State>>;

/// What the request path reads.
#[derive(Clone)]
pub struct Views {
    /// Hosts and Services.
    pub routes: Arc<view::View<router::Routes>>,
    /// Sessions and their Users.
    pub sessions: Arc<sessions::Sessions>,
    /// Tokens of strict rate limits. No view of the log: what is spent here was granted before.
    pub limiter: rate_limiter::Limiter,
    /// What other nodes say of themselves. Hints: nothing is decided by them.
    pub peers: Arc<membership::Peers>,
}

impl Views {
    /// Empty views, before the actors have published any.
    pub fn new(domain: &str) -> Self {
        Self {
            routes: Arc::new(view::View::new(router::Routes::empty(domain))),
            sessions: Arc::new(sessions::Sessions::default()),
            limiter: rate_limiter::Limiter::default(),
            peers: Arc::default(),
        }
    }

    /// The log index that both views reflect.
    pub fn index(&self) -> u64 {
        self.routes.load().index.min(self.sessions.index())
    }

    /// To be told of what is published from now on.
    pub fn follow(&self) -> Follower {
        Follower { routes: self.routes.follow(), sessions: self.sessions.follow() }
    }

    /// Waits until both views reflect the log up to `index`.
    pub async fn reached(&self, index: u64) {
        self.routes.reached(index).await;
        self.sessions.reached(index).await;
    }
}

/// Waits for changes of the views.
pub struct Follower {
    routes: watch::Receiver<u64>,
    sessions: watch::Receiver<u64>,
}

impl Follower {
    /// Waits until one of the views was published anew; for ever if there are no views any more.
    pub async fn changed(&mut self) {
        let is_alive = tokio::select! {
            changed = self.routes.changed() => changed.is_ok(),
            changed = self.sessions.changed() => changed.is_ok(),
        };
        if !is_alive {
            std::future::pending().await
        }
    }
}
