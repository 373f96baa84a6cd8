//! What the state knows of nodes beside Raft's own list: their authority, tokens with which new ones join, who is drained.

use std::time::Duration;

use octelium_consensus::{Write, drained_key};
use subtle::ConstantTimeEq;
use tonic::Code;
use zeroize::Zeroizing;

use crate::{Control, Error, plan::Actor, refusal::Refusal, seal};

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
pub(crate) fn is_of_nodes(name: &str) -> bool {
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
    Error::Refused(format!("{refusal:?}"))
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

    /// Notes whether a node is to finish its work and take no new one.
    ///
    /// # Errors
    /// If the change can't be committed.
    pub async fn set_drained(&self, node: u64, is_drained: bool) -> Result<(), Error> {
        let store = &self.inner.store;
        let key = drained_key(node);
        let actor = actor("drain");
        let done = store.change(&actor, |plan| {
            match (plan.state().key(&key).is_some(), is_drained) {
                (false, true) => {
                    plan.key(Write::PutKey { name: key.clone(), sealed: seal::seal_key(&store.sealing, &key, b"") })
                }
                (true, false) => plan.key(Write::DeleteKey { name: key.clone() }),
                _ => {}
            }
            Ok::<_, Refusal>(())
        });
        done.await.map(drop).map_err(refused)
    }

    /// The cluster's domain.
    pub fn domain(&self) -> &str {
        &self.inner.store.domain
    }
}
