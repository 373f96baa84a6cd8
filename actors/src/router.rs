//! Owns the view of routes: which host belongs to which Service, compiled.
//! Told by: the feed of the replicated state. Publishes: [`Routes`].

pub mod compile;
pub mod cors;
pub mod direct;
pub mod header_rules;
pub mod hosts;
pub mod plugins;
pub mod route;
pub mod schema;
pub mod table;

use std::sync::Arc;

use octelium_consensus::{State, Stored};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

pub use cors::Cors;
pub use direct::Direct;
pub use header_rules::HeaderRules;
pub use hosts::Hosts;
pub use plugins::Plugin;
pub use route::{
    Access, Body, Choice, ConfigRule, EffectiveConfig, PathRewrite, Route, Scheme, Tls, Upstream, UpstreamAuth,
};
use table::Table;

use crate::{StateFeed, policies::Library, view::View};

/// The published view.
#[derive(Clone)]
pub struct Routes {
    /// The log index that it reflects.
    pub index: u64,
    /// The cluster's domain.
    pub domain: Arc<str>,
    /// Host name (lower case, no port) → Service.
    pub hosts: Hosts,
    /// Secrets by name, sealed.
    pub secrets: imbl::HashMap<Arc<str>, Arc<Stored>>,
    /// The keys under which tokens are authenticated, by name, sealed.
    pub keys: Arc<[(String, Arc<[u8]>)]>,
    /// The Service that stands for the control API, whose policies decide who may call it.
    pub api: Option<Arc<Route>>,
}

impl Routes {
    /// No routes.
    pub fn empty(domain: &str) -> Self {
        Self {
            index: 0,
            domain: domain.into(),
            hosts: Hosts::default(),
            secrets: imbl::HashMap::new(),
            keys: Arc::new([]),
            api: None,
        }
    }

    /// The Service at `host`, which is lower case and has no port.
    pub fn route(&self, host: &str) -> Option<&Arc<Route>> {
        self.hosts.get(host)
    }
}

/// What the actor is told.
pub enum Msg {
    /// The replicated state moved on; answers with the index now published.
    Follow(RpcReplyPort<u64>),
    /// Names of the Services that can't be served as they are, with the reason.
    Broken(RpcReplyPort<Vec<(String, String)>>),
    /// Fails the actor, to test its supervision.
    #[cfg(test)]
    Fail,
}

/// What the actor needs.
#[derive(Clone)]
pub struct Args {
    /// Where the replicated state comes from.
    pub feed: StateFeed,
    /// Where to publish.
    pub view: Arc<View<Routes>>,
    /// Compiled policies.
    pub library: Arc<Library>,
}

/// The actor.
pub struct RouterActor;

/// What the actor keeps.
pub struct OwnState {
    args: Args,
    seen: Arc<State>,
    table: Table,
}

impl Actor for RouterActor {
    type Msg = Msg;
    type State = OwnState;
    type Arguments = Args;

    async fn pre_start(&self, _: ActorRef<Msg>, mut args: Args) -> Result<OwnState, ActorProcessingErr> {
        let seen = args.feed.borrow_and_update().clone();
        let domain = args.view.load().domain.clone();
        let table = Table::build(&domain, args.library.clone(), &seen);
        args.view.publish(table.view(), seen.index());
        Ok(OwnState { args, seen, table })
    }

    async fn post_start(&self, myself: ActorRef<Msg>, state: &mut OwnState) -> Result<(), ActorProcessingErr> {
        crate::supervisor::follow(myself, state.args.feed.clone(), Msg::Follow);
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Msg>, msg: Msg, state: &mut OwnState) -> Result<(), ActorProcessingErr> {
        match msg {
            Msg::Follow(reply) => {
                let newer = state.args.feed.borrow_and_update().clone();
                state.table.follow(&state.seen, &newer);
                state.args.view.publish(state.table.view(), newer.index());
                state.seen = newer;
                reply.send(state.seen.index()).ok(); // the follower may have stopped waiting; that is no failure
            }
            Msg::Broken(reply) => {
                reply.send(state.table.broken()).ok(); // as above
            }
            #[cfg(test)]
            Msg::Fail => return Err("asked to fail".into()),
        }
        Ok(())
    }
}
