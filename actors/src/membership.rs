//! Finds the other nodes by gossip, and keeps a view of how they say they are. Hints, never decisions: who may do what, who votes and
//! where requests go depends on nothing that stands here.
//!
//! Told by: a timer, once a second. Publishes: [`Peers`].

pub mod diff;
pub mod envelope;
pub mod transport;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState, spawn_chitchat};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{task::JoinSet, time::Instant};

use diff::Event;
use envelope::Keyring;
use transport::{Counts, SealedTransport};

/// Each node speaks to a few others this often.
const GOSSIP_EVERY: Duration = Duration::from_millis(500);
/// Own facts are told, and those of others looked at, this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Members that aren't heard are spoken to this often, in looks.
const CALL_EVERY: u64 = 3;
/// Seeds are spoken to this often, in looks, once somebody is heard.
const SEEDS_EVERY: u64 = 60;
/// A look that comes so late says more of this node than of the others: they are suspected only after a while.
const LATE: Duration = Duration::from_secs(3);
const SUSPECT_AFTER: Duration = Duration::from_secs(6);
/// A node that isn't heard is forgotten after twice this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);
/// Names are looked up within this time, all of them.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);
/// So many addresses of one name are spoken to.
const OF_NAME_MAX: usize = 16;
/// No value that others tell is longer.
const VALUE_BYTES_MAX: usize = 300;

/// What a node says of itself, and whether it is heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its start: later ones are higher.
    pub incarnation: u64,
    /// Where other nodes reach it.
    pub address: String,
    /// It is heard.
    pub is_live: bool,
    /// It says that callers may be sent to it.
    pub is_ready: bool,
    /// The last log entry that it applied.
    pub applied: u64,
    /// Its requests under way.
    pub load: u64,
    /// Of its program.
    pub version: String,
}

/// The other nodes, by their ids; replaced as a whole.
#[derive(Debug, Default)]
pub struct Peers {
    map: ArcSwap<BTreeMap<u64, Peer>>,
    counts: Counts,
}

impl Peers {
    /// How they are now, as far as is heard here.
    pub fn all(&self) -> Arc<BTreeMap<u64, Peer>> {
        self.map.load_full()
    }

    /// What became of datagrams.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// What this node says of itself.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Callers may be sent here.
    pub is_ready: bool,
    /// The last log entry that was applied.
    pub applied: u64,
    /// Requests under way.
    pub load: u64,
    /// Where the cluster's members are, as Raft knows: the addresses to find them at.
    pub members: Vec<String>,
}

/// What the actor needs.
#[derive(Clone)]
pub struct Args {
    /// This node.
    pub node: u64,
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// Counts the starts of this node and of this actor; never falls.
    pub incarnation: Arc<AtomicU64>,
    /// Bound, not blocking.
    pub socket: Arc<std::net::UdpSocket>,
    /// Where others reach it: text for people, and what it is now.
    pub address: String,
    /// See `address`.
    pub advertised: SocketAddr,
    /// Where to look for others beside the members: addresses or names.
    pub seeds: Vec<String>,
    /// Asked once a second.
    pub facts: Arc<dyn Fn() -> Facts + Send + Sync>,
    /// The keys of the cluster; asked once a second.
    pub keys: Arc<dyn Fn() -> Keyring + Send + Sync>,
    /// What is published.
    pub peers: Arc<Peers>,
}

/// What the actor is told.
pub enum Msg {
    /// A second has passed.
    Look,
    /// Others may be found there.
    Found(Vec<SocketAddr>),
}

/// The actor.
pub struct MembershipActor;

/// What the actor keeps.
pub struct OwnState {
    args: Args,
    handle: ChitchatHandle,
    ring: Arc<ArcSwap<Keyring>>,
    looked_at: Instant,
    looks: u64,
    /// Until then nobody is said to be gone.
    trusts_until: Instant,
    /// At most one: looks for names of members that aren't heard.
    looking_up: JoinSet<()>,
}

impl Actor for MembershipActor {
    type Msg = Msg;
    type State = OwnState;
    type Arguments = Args;

    async fn pre_start(&self, _: ActorRef<Msg>, args: Args) -> Result<OwnState, ActorProcessingErr> {
        // Also a restarted actor seals with other keys than the one before, whose counters it doesn't know.
        let incarnation = args.incarnation.fetch_add(1, Ordering::Relaxed) + 1;
        let ring = Arc::new(ArcSwap::from_pointee((args.keys)()));
        let transport = SealedTransport {
            socket: args.socket.try_clone()?,
            cluster: args.cluster,
            node: args.node,
            incarnation,
            ring: ring.clone(),
            counts: args.peers.counts.clone(),
        };
        let config = ChitchatConfig {
            chitchat_id: ChitchatId::new(format!("{:016x}", args.node), incarnation, args.advertised),
            cluster_id: uuid::Uuid::from_bytes(args.cluster).to_string(),
            gossip_interval: GOSSIP_EVERY,
            listen_addr: args.advertised,
            // It would look names up before it begins, and wait for that.
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: 8.0,
                sampling_window_size: 256,
                max_interval: Duration::from_secs(5),
                initial_interval: GOSSIP_EVERY,
                dead_node_grace_period: FORGOTTEN_AFTER,
            },
            marked_for_deletion_grace_period: FORGOTTEN_AFTER,
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let handle = spawn_chitchat(config, told(&args, &(args.facts)()), &transport).await?;
        let now = Instant::now();
        let looking_up = JoinSet::new();
        Ok(OwnState { args, handle, ring, looked_at: now, looks: 0, trusts_until: now, looking_up })
    }

    async fn post_start(&self, myself: ActorRef<Msg>, _: &mut OwnState) -> Result<(), ActorProcessingErr> {
        myself.send_interval(LOOK_EVERY, || Msg::Look);
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<Msg>, msg: Msg, state: &mut OwnState) -> Result<(), ActorProcessingErr> {
        if let Msg::Found(addresses) = msg {
            for address in addresses {
                state.handle.gossip(address).map_err(|_| "gossip ended")?;
            }
            return Ok(());
        }
        state.ring.store(Arc::new((state.args.keys)()));
        let facts = (state.args.facts)();
        let told = told(&state.args, &facts);
        let heard = state
            .handle
            .with_chitchat(|chitchat| {
                let own = chitchat.self_node_state();
                told.iter().for_each(|(key, value)| own.set(key, value));
                let live: HashSet<_> = chitchat.live_nodes().cloned().collect();
                let states = chitchat.node_states().iter();
                states.map(|(id, state)| (id.clone(), peer(state, id, live.contains(id)))).collect::<Vec<_>>()
            })
            .await;
        state.publish(heard);
        if state.looks.is_multiple_of(CALL_EVERY) {
            state.call(&facts.members, myself);
        }
        state.looks += 1;
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Msg>, state: &mut OwnState) -> Result<(), ActorProcessingErr> {
        state.handle.abort();
        Ok(())
    }
}

impl OwnState {
    fn publish(&mut self, heard: Vec<(ChitchatId, Peer)>) {
        let now = Instant::now();
        if now.duration_since(self.looked_at) > LATE {
            self.trusts_until = now + SUSPECT_AFTER;
        }
        self.looked_at = now;
        let before = self.args.peers.all();
        let mut peers: BTreeMap<u64, Peer> = BTreeMap::new();
        for (id, mut peer) in heard {
            let Ok(node) = u64::from_str_radix(&id.node_id, 16) else { continue };
            if node == self.args.node {
                continue;
            }
            let known = before.get(&node);
            if known.is_some_and(|known| known.is_live && known.incarnation == peer.incarnation)
                && now < self.trusts_until
            {
                peer.is_live = true;
            }
            peers.entry(node).and_modify(|known| *known = diff::newer(known.clone(), peer.clone())).or_insert(peer);
        }
        for event in diff::events(&before, &peers) {
            let (node, what) = match event {
                Event::Joined(node) => (node, "heard"),
                Event::Changed(node) => (node, "changed"),
                Event::Left(node) => (node, "not heard any more"),
            };
            let is_ready = peers.get(&node).is_some_and(|peer| peer.is_ready);
            tracing::info!(node = %format!("{node:016x}"), is_ready, "gossip: {what}");
        }
        self.args.peers.map.store(Arc::new(peers));
    }

    /// Speaks to members that aren't heard: they may have come back, or this node is new. And to the seeds.
    fn call(&mut self, members: &[String], myself: ActorRef<Msg>) {
        while self.looking_up.try_join_next().is_some() {}
        if !self.looking_up.is_empty() {
            return;
        }
        let peers = self.args.peers.all();
        let heard: HashSet<&str> =
            peers.values().filter(|peer| peer.is_live).map(|peer| peer.address.as_str()).collect();
        let wants_seeds = heard.is_empty() || self.looks.is_multiple_of(SEEDS_EVERY);
        let seeds = self.args.seeds.iter().filter(|_| wants_seeds);
        let all: BTreeSet<&String> = members.iter().chain(seeds).collect();
        let silent = all.into_iter().filter(|name| **name != self.args.address && !heard.contains(name.as_str()));
        let names: Vec<String> = silent.cloned().collect();
        // From a socket of one family nobody of the other one is reached.
        let is_v4 = self.args.socket.local_addr().is_ok_and(|own| own.is_ipv4());
        self.looking_up.spawn(async move {
            let looking_up = names.iter().map(async |name| {
                let found = tokio::time::timeout(LOOK_UP_WITHIN, tokio::net::lookup_host(name)).await;
                let found = found.ok().and_then(Result::ok).into_iter().flatten();
                found.filter(|address| address.is_ipv4() == is_v4).take(OF_NAME_MAX).collect::<Vec<_>>()
            });
            let found: Vec<_> = futures_util::future::join_all(looking_up).await.into_iter().flatten().collect();
            if !found.is_empty() {
                myself.send_message(Msg::Found(found)).ok(); // the actor may have stopped
            }
        });
    }
}

/// Own facts, as they are told: well below a kilobyte.
fn told(args: &Args, facts: &Facts) -> Vec<(String, String)> {
    let of = |key: &str, value: String| (key.to_owned(), value);
    vec![
        of("address", args.address.clone()),
        of("ready", facts.is_ready.to_string()),
        of("applied", facts.applied.to_string()),
        of("load", facts.load.to_string()),
        of("version", env!("CARGO_PKG_VERSION").to_owned()),
    ]
}

fn peer(state: &NodeState, id: &ChitchatId, is_live: bool) -> Peer {
    let text = |key: &str| state.get(key).filter(|value| value.len() <= VALUE_BYTES_MAX).unwrap_or_default().to_owned();
    let number = |key: &str| state.get(key).and_then(|value| value.parse().ok()).unwrap_or_default();
    Peer {
        incarnation: id.generation_id,
        address: text("address"),
        is_live,
        is_ready: state.get("ready") == Some("true"),
        applied: number("applied"),
        load: number("load"),
        version: text("version"),
    }
}

#[cfg(test)]
mod tests;
