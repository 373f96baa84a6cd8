//! What the state knows of nodes beside Raft's own list: their authority, tokens with which new ones join, who is drained.

use std::time::Duration;

use octelium_actors::membership::Peer;
use octelium_api::{
    Kind, Object,
    control::{Cluster, Node, node::Role},
};
use octelium_consensus::{Member, Status, Write, drained_key};
use subtle::ConstantTimeEq;
use tonic::Code;
use zeroize::Zeroizing;

use crate::{Control, Error, Inner, plan::Actor, refusal::Refusal, seal};

/// The key that signs the nodes' certificates, and what belongs to it.
pub const CA_KEY: &str = "nodes/ca-key";
/// See [`CA_KEY`].
pub const CA_CERTIFICATE: &str = "nodes/ca-certificate";
/// The id of the cluster, a UUID.
pub const CLUSTER_ID: &str = "nodes/cluster-id";
const JOIN_PREFIX: &str = "join/";
/// Tokens that wait to be used, at most.
const TOKENS_MAX: usize = 256;

/// Whether a key of the cluster belongs to this cluster's nodes alone, and so to no backup.
pub fn is_of_nodes(name: &str) -> bool {
    ["nodes/", JOIN_PREFIX, "drained/"].iter().any(|prefix| name.starts_with(prefix))
}

/// When a token ends, and the digest of its secret.
fn parse(stored: &[u8]) -> Option<(i64, &[u8])> {
    let (until, digest) = stored.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*until), digest))
}

fn actor(operation: &str) -> Actor {
    Actor { operation: operation.to_owned(), ..Actor::default() }
}

fn refused(refusal: Refusal) -> Error {
    Error::Refused(refusal.to_string())
}

impl Control {
    /// Keeps keys of the cluster, sealed, unless the first of them is there.
    ///
    /// # Errors
    /// If the change can't be committed.
    pub async fn keep_keys(&self, keys: &[(&str, Zeroizing<Vec<u8>>)]) -> Result<(), Error> {
        let store = &self.inner.store;
        let actor = actor("keepKeys");
        let done = store.change(&actor, |plan| {
            let is_there = keys.first().is_none_or(|(first, _)| plan.state().key(first).is_some());
            for (name, key) in keys.iter().filter(|_| !is_there) {
                plan.key(Write::PutKey { name: (*name).to_owned(), sealed: seal::seal_key(&store.sealing, name, key) });
            }
            Ok::<_, Refusal>(())
        });
        done.await.map(drop).map_err(refused)
    }

    /// Lets one node join that shows a secret with this digest within `ttl`.
    ///
    /// # Errors
    /// If there are too many tokens, or the change can't be committed.
    pub async fn add_join_token(&self, id: &str, digest: &[u8; 32], ttl: Duration) -> Result<(), Error> {
        let store = &self.inner.store;
        let key = format!("{JOIN_PREFIX}{id}");
        let actor = actor("createJoinToken");
        let done = store.change(&actor, |plan| {
            let now = plan.now().unix();
            let mut waiting = 0;
            let state = plan.state().clone();
            for (name, sealed) in state.keys().filter(|(name, _)| name.starts_with(JOIN_PREFIX)) {
                let opened = seal::open_key(&store.sealing, name, sealed);
                match opened.as_deref().and_then(|opened| parse(opened)) {
                    Some((until, _)) if until > now => waiting += 1,
                    _ => plan.key(Write::DeleteKey { name: name.to_owned() }),
                }
            }
            if waiting >= TOKENS_MAX {
                return Err(Refusal::new(Code::ResourceExhausted, format!("{TOKENS_MAX} join tokens wait to be used")));
            }
            let until = now.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
            let stored = Zeroizing::new([&until.to_be_bytes()[..], digest].concat());
            plan.key(Write::PutKey { name: key.clone(), sealed: seal::seal_key(&store.sealing, &key, &stored) });
            Ok(())
        });
        done.await.map(drop).map_err(refused)
    }

    /// Uses a token up.
    ///
    /// # Errors
    /// If it doesn't exist, was used, has expired or has another secret; or the change can't be committed.
    pub async fn take_join_token(&self, id: &str, digest: &[u8; 32]) -> Result<(), Error> {
        let store = &self.inner.store;
        let key = format!("{JOIN_PREFIX}{id}");
        let actor = actor("join");
        let done = store.change(&actor, |plan| {
            let refuse = |why: &str| Err(Refusal::new(Code::PermissionDenied, why));
            let opened = plan.state().key(&key).and_then(|sealed| seal::open_key(&store.sealing, &key, sealed));
            let Some((until, expected)) = opened.as_deref().and_then(|opened| parse(opened)) else {
                return refuse("the join token is unknown here or was used before: make a new one");
            };
            if !bool::from(expected.ct_eq(digest)) {
                return refuse("the join token is not the one that was made: copy it as a whole");
            }
            if plan.now().unix() >= until {
                return refuse("the join token has expired: make a new one");
            }
            plan.key(Write::TakeKey { name: key.clone() });
            Ok(())
        });
        done.await.map(drop).map_err(refused)
    }

    /// The cluster's domain.
    pub fn domain(&self) -> &str {
        &self.inner.store.domain
    }
}

/// The nodes of the cluster.
pub(crate) async fn cluster(inner: &Inner) -> Cluster {
    let statuses = inner.store.replica.statuses().await;
    let peers = inner.store.views.peers.all();
    let told = statuses.into_iter().map(|(member, status)| {
        let peer = peers.get(&member.id);
        node(member, status, peer)
    });
    let mut nodes: Vec<Node> = told.collect();
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    Cluster { nodes }
}

fn node(member: Member, status: Option<Status>, peer: Option<&Peer>) -> Node {
    let role = match &member {
        Member { is_leader: true, .. } => Role::Leader,
        Member { is_voter: true, .. } => Role::Voter,
        _ => Role::Learner,
    };
    let is_reachable = status.is_some();
    let status = status.unwrap_or(Status { version: String::new(), applied: 0, decided: 0, up: Duration::ZERO });
    Node {
        id: format!("{:016x}", member.id),
        address: member.address,
        role: role.into(),
        is_drained: member.is_drained,
        log_index: member.matched,
        lag: member.lag,
        silent_milliseconds: member.silent.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
        is_reachable,
        version: status.version,
        applied_index: status.applied,
        up_seconds: status.up.as_secs(),
        is_heard: peer.map(|peer| peer.is_live),
        is_ready: peer.is_some_and(|peer| peer.is_live && peer.is_ready),
        load: peer.map_or(0, |peer| peer.load),
    }
}

/// Notes whether a node is to have others lead and vote in its place.
///
/// # Errors
/// If there is no such node, or the change can't be committed.
pub(crate) async fn set_drained(inner: &Inner, actor: &Actor, id: &str, is_drained: bool) -> Result<(), Refusal> {
    let node = known(inner, id)?;
    let store = &inner.store;
    let key = drained_key(node);
    let done = store.change(actor, |plan| {
        match (plan.state().key(&key).is_some(), is_drained) {
            (false, true) => {
                plan.key(Write::PutKey { name: key.clone(), sealed: seal::seal_key(&store.sealing, &key, b"") });
            }
            (true, false) => plan.key(Write::DeleteKey { name: key.clone() }),
            _ => {}
        }
        Ok::<_, Refusal>(())
    });
    done.await.map(drop)
}

/// Takes a node out of the cluster.
///
/// # Errors
/// If there is no such node, it is the last one, or too few others could decide it.
pub(crate) async fn remove(inner: &Inner, actor: &Actor, id: &str) -> Result<(), Refusal> {
    let node = known(inner, id)?;
    tracing::info!(node = id, user = actor.user_uid, "a node is removed");
    inner.store.replica.remove_member(node).await.map_err(|error| match error {
        octelium_consensus::Error::Members { reason } => Refusal::new(Code::FailedPrecondition, reason),
        error => unavailable(error),
    })?;
    // Its id never comes back: what was noted of it goes too. If this node is the one, it has no say any more.
    let key = drained_key(node);
    let done = inner.store.change(actor, |plan| {
        if plan.state().key(&key).is_some() {
            plan.key(Write::DeleteKey { name: key.clone() });
        }
        let is_its = |object: &Object| match object {
            Object::Gateway(gateway) => gateway.status.as_ref().is_some_and(|status| status.id == id),
            _ => false,
        };
        let gateways: Vec<_> =
            plan.state().list(Kind::Gateway).filter(|stored| is_its(&stored.object)).cloned().collect();
        gateways.iter().for_each(|gateway| plan.drop(gateway));
        Ok::<_, Refusal>(())
    });
    if let Err(refusal) = done.await {
        tracing::debug!(?refusal, "the mark of a removed node stays");
    }
    Ok(())
}

fn known(inner: &Inner, id: &str) -> Result<u64, Refusal> {
    let members = inner.store.replica.known_members();
    let found = members.iter().map(|member| member.id).find(|member| format!("{member:016x}") == id);
    found.ok_or_else(|| {
        let known: Vec<_> = members.iter().map(|member| format!("{:016x}", member.id)).collect();
        let shown: String = id.chars().take(40).collect::<String>().escape_default().collect();
        Refusal::new(Code::NotFound, format!("there is no node `{shown}`; the nodes are {}", known.join(", ")))
    })
}

#[allow(clippy::needless_pass_by_value, reason = "it is the form that `map_err` wants")]
fn unavailable(error: octelium_consensus::Error) -> Refusal {
    Refusal::new(Code::Unavailable, error.to_string())
}
