//! Datagrams between nodes, sealed: what isn't made with a key of the cluster, was changed on the way or was seen before is dropped.
//!
//! ```text
//! version 1 | key id 4 | sender 8 | incarnation 8 | counter 8 | AES-256-GCM(message) | tag 16
//! ```
//!
//! Numbers are big-endian. Each start of each node seals with a key of its own, derived (HKDF-SHA-256, RFC 5869) from that of the
//! cluster; the counter is the nonce, and so no nonce comes twice. The head and the cluster's id are authenticated too. A receiver keeps
//! a window of counters for each sender (as in RFC 4303 §3.4.3), and forgets a sender's former starts.

use std::collections::HashMap;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 29;
const TAG_BYTES: usize = 16;
/// The largest message: what a datagram of IPv4 can carry.
pub const MESSAGE_BYTES_MAX: usize = 65_507 - HEAD_BYTES - TAG_BYTES;
/// Counters that may come out of order.
const WINDOW: u64 = 64;
/// Starts of nodes that are remembered; a cluster has far fewer nodes.
const SENDERS_MAX: usize = 1_024;
/// Derived keys that are kept.
const DERIVED_MAX: usize = 2_048;

/// A key of the cluster.
#[derive(Clone)]
pub struct ClusterKey {
    /// Its number.
    pub id: u32,
    /// Its bytes.
    pub secret: zeroize::Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClusterKey({})", self.id)
    }
}

/// The keys that count: all of them open, one of them seals.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    /// All.
    pub keys: Vec<ClusterKey>,
    /// The number of the one to seal with.
    pub sealing: u32,
}

impl Keyring {
    fn get(&self, id: u32) -> Option<&ClusterKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    fn is_same(&self, other: &Self) -> bool {
        let ids = |ring: &Self| ring.keys.iter().map(|key| key.id).collect::<Vec<_>>();
        self.sealing == other.sealing && ids(self) == ids(other)
    }
}

/// Why a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Too short, too long, or of another form.
    Malformed,
    /// Sealed with a key that isn't one of the cluster's, or no more.
    UnknownKey,
    /// Not sealed by who it says, or changed.
    Forged,
    /// Seen before, too old to tell, or of a former start.
    Replayed,
    /// There are too many senders.
    Crowded,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Malformed, Self::UnknownKey, Self::Forged, Self::Replayed, Self::Crowded];

    /// For metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::Forged => "forged",
            Self::Replayed => "replayed",
            Self::Crowded => "crowded",
        }
    }
}

/// Seals what one start of one node sends.
pub struct Sealer {
    cluster: [u8; 16],
    sender: u64,
    incarnation: u64,
    counter: u64,
    ring: Keyring,
    key: Option<LessSafeKey>,
}

impl Sealer {
    /// `incarnation`: a number that is higher than that of each start of this node before.
    pub fn new(cluster: [u8; 16], sender: u64, incarnation: u64) -> Self {
        Self { cluster, sender, incarnation, counter: 0, ring: Keyring::default(), key: None }
    }

    /// Uses these keys from now on.
    pub fn rekey(&mut self, ring: &Keyring) {
        if self.ring.is_same(ring) {
            return;
        }
        self.key = ring.get(ring.sealing).and_then(|key| derive(key, &self.cluster, self.sender, self.incarnation));
        self.ring = ring.clone();
    }

    /// Seals a message; `None` if there is no key, or the message is too long.
    pub fn seal(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        if message.len() > MESSAGE_BYTES_MAX {
            return None;
        }
        let key = self.key.as_ref()?;
        self.counter += 1;
        let mut datagram = Vec::with_capacity(HEAD_BYTES + message.len() + TAG_BYTES);
        datagram.push(VERSION);
        datagram.extend_from_slice(&self.ring.sealing.to_be_bytes());
        datagram.extend_from_slice(&self.sender.to_be_bytes());
        datagram.extend_from_slice(&self.incarnation.to_be_bytes());
        datagram.extend_from_slice(&self.counter.to_be_bytes());
        let aad = aad(&datagram, &self.cluster);
        let mut sealed = message.to_vec();
        key.seal_in_place_append_tag(nonce(self.counter), Aad::from(aad), &mut sealed).ok()?;
        datagram.extend_from_slice(&sealed);
        Some(datagram)
    }
}

/// A message that was opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// Who sent it.
    pub sender: u64,
    /// The sender's start.
    pub incarnation: u64,
    /// What it says.
    pub message: Vec<u8>,
}

/// Opens what others sent.
pub struct Opener {
    cluster: [u8; 16],
    ring: Keyring,
    derived: HashMap<(u32, u64, u64), LessSafeKey>,
    senders: HashMap<u64, Seen>,
}

/// What was seen of a sender.
struct Seen {
    incarnation: u64,
    highest: u64,
    /// Bit n: `highest - n` was seen.
    window: u64,
}

impl Opener {
    /// Nothing seen yet.
    pub fn new(cluster: [u8; 16]) -> Self {
        Self { cluster, ring: Keyring::default(), derived: HashMap::new(), senders: HashMap::new() }
    }

    /// Uses these keys from now on.
    pub fn rekey(&mut self, ring: &Keyring) {
        if !self.ring.is_same(ring) {
            self.derived.clear();
            self.ring = ring.clone();
        }
    }

    /// Opens a datagram. What is cheap to see is looked at first.
    ///
    /// # Errors
    /// Why it is dropped; nothing is changed by it then.
    pub fn open(&mut self, datagram: &[u8]) -> Result<Opened, Dropped> {
        let (head, sealed) = datagram.split_at_checked(HEAD_BYTES).ok_or(Dropped::Malformed)?;
        if sealed.len() < TAG_BYTES || head[0] != VERSION {
            return Err(Dropped::Malformed);
        }
        let number = |at: usize| head[at..].first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let id = head[1..].first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let (sender, incarnation, counter) = (number(5), number(13), number(21));
        let cluster_key = self.ring.get(id).ok_or(Dropped::UnknownKey)?;
        self.is_fresh(sender, incarnation, counter)?;
        let derived;
        let key = match self.derived.get(&(id, sender, incarnation)) {
            Some(key) => key,
            None => {
                derived = derive(cluster_key, &self.cluster, sender, incarnation).ok_or(Dropped::UnknownKey)?;
                &derived
            }
        };
        let mut message = sealed.to_vec();
        let aad = Aad::from(aad(head, &self.cluster));
        let opened = key.open_in_place(nonce(counter), aad, &mut message).map_err(|_| Dropped::Forged)?;
        let length = opened.len();
        message.truncate(length);
        // Only now it is known that this sender exists.
        self.note(sender, incarnation, counter);
        if !self.derived.contains_key(&(id, sender, incarnation)) {
            if self.derived.len() >= DERIVED_MAX {
                self.derived.clear();
            }
            let cluster_key = self.ring.get(id).ok_or(Dropped::UnknownKey)?;
            let derived = derive(cluster_key, &self.cluster, sender, incarnation);
            self.derived.extend(derived.map(|key| ((id, sender, incarnation), key)));
        }
        Ok(Opened { sender, incarnation, message })
    }

    fn is_fresh(&self, sender: u64, incarnation: u64, counter: u64) -> Result<(), Dropped> {
        let Some(seen) = self.senders.get(&sender) else {
            return if self.senders.len() < SENDERS_MAX { Ok(()) } else { Err(Dropped::Crowded) };
        };
        let was_seen = || match seen.highest.checked_sub(counter) {
            None => false,
            Some(back) => back >= WINDOW || seen.window & (1 << back) != 0,
        };
        match incarnation.cmp(&seen.incarnation) {
            std::cmp::Ordering::Greater => Ok(()),
            std::cmp::Ordering::Equal if !was_seen() => Ok(()),
            _ => Err(Dropped::Replayed),
        }
    }

    fn note(&mut self, sender: u64, incarnation: u64, counter: u64) {
        let seen = self.senders.entry(sender).or_insert(Seen { incarnation, highest: counter, window: 0 });
        if incarnation > seen.incarnation {
            *seen = Seen { incarnation, highest: counter, window: 0 };
        }
        if counter > seen.highest {
            let ahead = counter - seen.highest;
            seen.window = if ahead < WINDOW { seen.window << ahead } else { 0 };
            seen.highest = counter;
        }
        seen.window |= 1 << (seen.highest - counter).min(WINDOW - 1);
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn aad(head: &[u8], cluster: &[u8; 16]) -> Vec<u8> {
    [head, cluster].concat()
}

struct Key32;

impl KeyType for Key32 {
    fn len(&self) -> usize {
        32
    }
}

fn derive(key: &ClusterKey, cluster: &[u8; 16], sender: u64, incarnation: u64) -> Option<LessSafeKey> {
    let (sender, incarnation) = (sender.to_be_bytes(), incarnation.to_be_bytes());
    let info = [&b"octelium gossip 1"[..], &sender, &incarnation];
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    let pseudorandom = Salt::new(HKDF_SHA256, cluster).extract(&*key.secret);
    pseudorandom.expand(&info, Key32).ok()?.fill(&mut *bytes).ok()?;
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*bytes).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLUSTER: [u8; 16] = [7; 16];

    fn key(id: u32) -> ClusterKey {
        ClusterKey { id, secret: [u8::try_from(id).unwrap(); 32].into() }
    }

    fn ring(ids: &[u32], sealing: u32) -> Keyring {
        Keyring { keys: ids.iter().map(|id| key(*id)).collect(), sealing }
    }

    fn sealer(incarnation: u64) -> Sealer {
        let mut sealer = Sealer::new(CLUSTER, 11, incarnation);
        sealer.rekey(&ring(&[1], 1));
        sealer
    }

    fn opener() -> Opener {
        let mut opener = Opener::new(CLUSTER);
        opener.rekey(&ring(&[1], 1));
        opener
    }

    #[test]
    fn what_was_sealed_is_opened_once() {
        let (mut sealer, mut opener) = (sealer(5), opener());
        let datagram = sealer.seal(b"hello").unwrap();
        let opened = opener.open(&datagram).unwrap();
        assert_eq!(opened, Opened { sender: 11, incarnation: 5, message: b"hello".to_vec() });
        assert_eq!(opener.open(&datagram), Err(Dropped::Replayed));
        assert_eq!(sealer.seal(&vec![0; MESSAGE_BYTES_MAX + 1]), None);
        assert!(sealer.seal(&vec![0; MESSAGE_BYTES_MAX]).is_some_and(|datagram| opener.open(&datagram).is_ok()));
    }

    #[test]
    fn order_is_kept_within_a_window_and_former_starts_are_over() {
        let (mut first, mut opener) = (sealer(5), opener());
        let mut sent: Vec<_> = (0..200).map(|_| first.seal(b"x").unwrap()).collect();
        let late = sent.split_off(150);
        for datagram in sent[90..].iter().rev() {
            assert!(opener.open(datagram).is_ok());
        }
        assert_eq!(opener.open(&sent[60]), Err(Dropped::Replayed), "too old to tell");
        assert!(opener.open(&late[40]).is_ok());
        assert!(opener.open(&late[10]).is_ok());
        assert_eq!(opener.open(&late[10]), Err(Dropped::Replayed));
        let mut second = sealer(6);
        assert!(opener.open(&second.seal(b"again").unwrap()).is_ok());
        assert_eq!(opener.open(&late[45]), Err(Dropped::Replayed), "of a former start");
    }

    #[test]
    fn strangers_and_other_clusters_are_not_heard() {
        let mut opener = opener();
        let mut stranger = Sealer::new(CLUSTER, 11, 5);
        stranger.rekey(&Keyring { keys: vec![ClusterKey { id: 1, secret: [9; 32].into() }], sealing: 1 });
        assert_eq!(opener.open(&stranger.seal(b"x").unwrap()), Err(Dropped::Forged));
        let mut elsewhere = Sealer::new([8; 16], 11, 5);
        elsewhere.rekey(&ring(&[1], 1));
        assert_eq!(opener.open(&elsewhere.seal(b"x").unwrap()), Err(Dropped::Forged));
        let mut newer = Sealer::new(CLUSTER, 11, 5);
        newer.rekey(&ring(&[2], 2));
        let datagram = newer.seal(b"x").unwrap();
        assert_eq!(opener.open(&datagram), Err(Dropped::UnknownKey));
        // Nothing of it was noted: once the key is known, it is opened.
        opener.rekey(&ring(&[1, 2], 1));
        assert!(opener.open(&datagram).is_ok());
        opener.rekey(&ring(&[2], 2));
        assert_eq!(opener.open(&sealer(9).seal(b"x").unwrap()), Err(Dropped::UnknownKey), "the old key is gone");
        assert_eq!(Sealer::new(CLUSTER, 1, 1).seal(b"x"), None, "without a key nothing is sent");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_are_taken_for_a_message(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(opener().open(&bytes).is_err());
        }

        #[test]
        fn no_bit_can_be_changed(at in 0_usize..(HEAD_BYTES + 5 + TAG_BYTES), bit in 0_u32..8, cut in 0_usize..50) {
            let mut datagram = sealer(5).seal(b"hello").unwrap();
            let mut opener = opener();
            datagram[at] ^= 1 << bit;
            prop_assert!(opener.open(&datagram).is_err());
            datagram[at] ^= 1 << bit;
            let length = datagram.len();
            if cut > 0 {
                prop_assert!(opener.open(&datagram[..length.saturating_sub(cut)]).is_err());
            }
            prop_assert!(opener.open(&datagram).is_ok(), "what was dropped changed nothing");
        }
    }
}
