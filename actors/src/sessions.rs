//! Owns the view of Sessions: who they belong to, which access tokens count and which policies they bring.
//! Told by: the feed of the replicated state. Publishes: [`Sessions`].

pub mod entry;
pub mod scope;
pub mod table;

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use octelium_consensus::State;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::watch;

pub use entry::{SessionEntry, UserEntry};
use table::Table;

use crate::{StateFeed, policies::Library, view::Published};

/// Sessions are spread over this many maps, so that publishing costs as much as the change.
const SHARDS: usize = 1024;

type Shard = hashbrown::HashMap<u128, Arc<SessionEntry>>;
/// A Session's uid and its new entry; `None`: it is gone.
type Changed = (u128, Option<Arc<SessionEntry>>);

/// The published view: Session uid → entry.
pub struct Sessions {
    shards: Box<[OnceLock<ArcSwap<Shard>>]>,
    index: Published,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| OnceLock::new()).collect(), index: Published::default() }
    }
}

impl Sessions {
    /// The Session with this uid, if there is one.
    pub fn get(&self, uid: u128) -> Option<Arc<SessionEntry>> {
        self.shard(uid).get()?.load().get(&uid).cloned()
    }

    /// Waits until the view reflects the log up to `index`.
    pub async fn reached(&self, index: u64) {
        self.index.reached(index).await;
    }

    /// The log index that the view reflects.
    pub fn index(&self) -> u64 {
        self.index.current()
    }

    /// Each index from now on.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.index.follow()
    }

    fn shard(&self, uid: u128) -> &OnceLock<ArcSwap<Shard>> {
        // The uid is random (UUIDv4): any of its bits spread well, except version and variant.
        let bytes = uid.to_be_bytes();
        &self.shards[usize::from(u16::from_be_bytes([bytes[0], bytes[1]])) % SHARDS]
    }

    /// Replaces what changed; `None` removes. Only the owning actor calls this.
    fn publish(&self, changed: Vec<Changed>, index: u64) {
        let mut by_shard: HashMap<*const OnceLock<ArcSwap<Shard>>, Vec<Changed>> = HashMap::new();
        for (uid, entry) in changed {
            by_shard.entry(std::ptr::from_ref(self.shard(uid))).or_default().push((uid, entry));
        }
        for changes in by_shard.into_values() {
            let shard = self.shard(changes[0].0).get_or_init(ArcSwap::default);
            let mut copy = Shard::clone(&shard.load());
            for (uid, entry) in changes {
                match entry {
                    Some(entry) => copy.insert(uid, entry),
                    None => copy.remove(&uid),
                };
            }
            shard.store(Arc::new(copy));
        }
        self.index.advance(index);
    }

    /// All uids, for a restarted owner that must remove what is gone.
    fn uids(&self) -> Vec<u128> {
        let shards = self.shards.iter().filter_map(OnceLock::get);
        shards.flat_map(|shard| shard.load().keys().copied().collect::<Vec<_>>()).collect()
    }
}

/// What the actor is told.
pub enum Msg {
    /// The replicated state moved on; answers with the index now published.
    Follow(RpcReplyPort<u64>),
    /// How many Sessions and Users there are, for tests and inspection.
    Inspect(RpcReplyPort<Report>),
    /// Fails the actor, to test its supervision.
    #[cfg(test)]
    Fail,
}

/// See [`Msg::Inspect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The log index that the view reflects.
    pub index: u64,
    /// Sessions in the view.
    pub sessions: usize,
    /// Users in the view.
    pub users: usize,
}

/// What the actor needs.
#[derive(Clone)]
pub struct Args {
    /// Where the replicated state comes from.
    pub feed: StateFeed,
    /// Where to publish.
    pub view: Arc<Sessions>,
    /// Compiled policies.
    pub library: Arc<Library>,
}

/// The actor.
pub struct SessionsActor;

/// What the actor keeps: the state it last saw, and what it made of it.
pub struct OwnState {
    args: Args,
    seen: Arc<State>,
    table: Table,
}

impl Actor for SessionsActor {
    type Msg = Msg;
    type State = OwnState;
    type Arguments = Args;

    async fn pre_start(&self, _: ActorRef<Msg>, mut args: Args) -> Result<OwnState, ActorProcessingErr> {
        let seen = args.feed.borrow_and_update().clone();
        let mut table = Table::new(args.library.clone());
        let mut changed = table.rebuild(&seen);
        let gone = args.view.uids().into_iter().filter(|uid| table.get(*uid).is_none());
        changed.extend(gone.map(|uid| (uid, None)).collect::<Vec<_>>());
        args.view.publish(changed, seen.index());
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
                let changed = state.table.follow(&state.seen, &newer);
                state.args.view.publish(changed, newer.index());
                state.seen = newer;
                reply.send(state.seen.index()).ok(); // the follower may have stopped waiting; that is no failure
            }
            Msg::Inspect(reply) => {
                let (sessions, users) = state.table.counts();
                reply.send(Report { index: state.seen.index(), sessions, users }).ok(); // as above
            }
            #[cfg(test)]
            Msg::Fail => return Err("asked to fail".into()),
        }
        Ok(())
    }
}
