//! The keys that gossip is sealed with: made by the cluster, replaced after a while, known to all its nodes.

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use octelium_consensus::Write;
use zeroize::Zeroizing;

use crate::{Control, Error, plan::Actor, refusal::Refusal, seal};

/// In the state: this, and the number of the key with eight hexadecimal digits.
const PREFIX: &str = "nodes/gossip/";
/// A key is replaced after so long.
const REPLACED_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A new key is used to seal after so long, when all nodes have it.
const USED_AFTER: Duration = Duration::from_secs(60);
/// Clocks differ by less, in seconds.
const SKEW: i64 = 3_600;
/// The newest keys that are kept: what was sealed with one before is opened still.
const KEPT: usize = 2;

/// One of them.
#[derive(Debug, Clone)]
pub struct GossipKey {
    /// Its number; newer ones are higher.
    pub id: u32,
    /// When it was made, in seconds since 1970.
    pub made_unix: i64,
    /// Its bytes.
    pub secret: Zeroizing<[u8; 32]>,
}

/// What is to be done with the keys.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    /// The number of a new one.
    make: Option<u32>,
    remove: Vec<u32>,
}

/// Decides by numbers and times of making, oldest first.
fn due(keys: &[(u32, i64)], now_unix: i64) -> Due {
    let seconds = i64::try_from(REPLACED_AFTER.as_secs()).unwrap_or(i64::MAX);
    let make = match keys.last() {
        None => Some(1),
        // One from the future was made by a node whose clock was wrong: it would never be used.
        Some((id, made)) if now_unix.saturating_sub(*made) >= seconds || made.saturating_sub(now_unix) > SKEW => {
            Some(id.wrapping_add(1))
        }
        Some(_) => None,
    };
    let kept = KEPT - usize::from(make.is_some()).min(KEPT);
    let remove = keys[..keys.len().saturating_sub(kept.max(1))].iter().map(|(id, _)| *id).collect();
    Due { make, remove }
}

/// The number of the key to seal with: the newest that all nodes have surely.
pub fn sealing(keys: &[GossipKey], now_unix: i64) -> Option<u32> {
    let seconds = i64::try_from(USED_AFTER.as_secs()).unwrap_or(i64::MAX);
    let known = keys.iter().rev().find(|key| now_unix.saturating_sub(key.made_unix) >= seconds);
    known.or(keys.first()).map(|key| key.id)
}

impl Control {
    /// The keys of the cluster's gossip, oldest first; what can't be opened is left out.
    pub fn gossip_keys(&self) -> Vec<GossipKey> {
        let store = &self.inner.store;
        let state = store.replica.state();
        let of_gossip = state.keys().filter_map(|(name, sealed)| Some((name, name.strip_prefix(PREFIX)?, sealed)));
        let keys = of_gossip.filter_map(|(name, id, sealed)| {
            let opened = seal::open_key(&store.sealing, name, sealed)?;
            let (made, secret) = opened.split_first_chunk::<8>()?;
            let secret = Zeroizing::new(<[u8; 32]>::try_from(secret).ok()?);
            Some(GossipKey { id: u32::from_str_radix(id, 16).ok()?, made_unix: i64::from_be_bytes(*made), secret })
        });
        keys.collect()
    }

    /// Makes the first key, or a new one when its time has come, and removes old ones. One node does it.
    ///
    /// # Errors
    /// If the change can't be committed.
    pub async fn renew_gossip_keys(&self) -> Result<(), Error> {
        let known: Vec<_> = self.gossip_keys().iter().map(|key| (key.id, key.made_unix)).collect();
        let now = self.inner.store.now().unix();
        let Due { make, remove } = due(&known, now);
        if make.is_none() && remove.is_empty() {
            return Ok(());
        }
        let mut secret = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut *secret).map_err(|_| Error::Random)?;
        let store = &self.inner.store;
        let actor = Actor { operation: "renewGossipKeys".to_owned(), ..Actor::default() };
        let done = store.change(&actor, |plan| {
            if let Some(id) = make {
                let name = format!("{PREFIX}{id:08x}");
                // Two nodes may have the thought at once; the first one's key counts.
                if plan.state().key(&name).is_none() {
                    let made = plan.now().unix().to_be_bytes();
                    let stored = Zeroizing::new([&made[..], &secret[..]].concat());
                    plan.key(Write::PutKey { sealed: seal::seal_key(&store.sealing, &name, &stored), name });
                }
            }
            for id in &remove {
                plan.key(Write::DeleteKey { name: format!("{PREFIX}{id:08x}") });
            }
            Ok::<_, Refusal>(())
        });
        done.await.map(drop).map_err(|refusal| Error::Refused(refusal.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: i64 = 7 * 24 * 60 * 60;

    #[test]
    fn a_key_is_replaced_after_a_week_and_the_one_before_stays_a_while() {
        let due = |keys: &[(u32, i64)], now| {
            let Due { make, remove } = due(keys, now);
            (make, remove)
        };
        assert_eq!(due(&[], 0), (Some(1), vec![]));
        assert_eq!(due(&[(1, 0)], WEEK - 1), (None, vec![]));
        assert_eq!(due(&[(1, 0)], WEEK), (Some(2), vec![]));
        assert_eq!(due(&[(1, 0), (2, WEEK)], WEEK + 5), (None, vec![]));
        assert_eq!(due(&[(1, 0), (2, WEEK)], 2 * WEEK), (Some(3), vec![1]));
        assert_eq!(due(&[(1, 0), (2, WEEK), (3, 2 * WEEK)], 2 * WEEK + 1), (None, vec![1]));
        assert_eq!(due(&[(1, SKEW)], 0), (None, vec![]), "clocks differ a little");
        assert_eq!(due(&[(1, WEEK)], 0), (Some(2), vec![]), "made by a clock that was wrong");
    }

    #[test]
    fn a_new_key_is_used_when_all_have_it() {
        let key = |id, made_unix| GossipKey { id, made_unix, secret: [0; 32].into() };
        assert_eq!(sealing(&[], 0), None);
        assert_eq!(sealing(&[key(1, 100)], 100), Some(1), "there is no other");
        assert_eq!(sealing(&[key(1, 0), key(2, 100)], 159), Some(1));
        assert_eq!(sealing(&[key(1, 0), key(2, 100)], 160), Some(2));
    }
}
