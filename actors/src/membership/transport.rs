//! Carries gossip in sealed datagrams. Nothing that arrives stops it, and no flood gets more than its share of this thread.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use chitchat::{
    ChitchatMessage, Deserializable, Serializable,
    transport::{Socket, Transport},
};
use tokio::{net::UdpSocket, time::Instant};

use super::envelope::{Dropped, Keyring, Opener, Sealer};

/// So many datagrams are looked at in [`SLOT`]; what comes above that waits, and is lost if there is too much of it.
const DATAGRAMS_PER_SLOT: u32 = 2_000;
const SLOT: Duration = Duration::from_millis(100);
/// After an error of the socket.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// What became of datagrams. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Counts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    accepted: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    sent: AtomicU64,
    unsent: AtomicU64,
}

impl Counts {
    /// Datagrams that were opened.
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Relaxed)
    }

    /// Datagrams that were dropped for this reason.
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.0.dropped[why as usize].load(Relaxed)
    }

    /// Datagrams that were sent.
    pub fn sent(&self) -> u64 {
        self.0.sent.load(Relaxed)
    }

    /// Datagrams that could not be sent.
    pub fn unsent(&self) -> u64 {
        self.0.unsent.load(Relaxed)
    }

    fn drop(&self, why: Dropped) {
        self.0.dropped[why as usize].fetch_add(1, Relaxed);
    }
}

/// Opens a socket that is there already.
pub struct SealedTransport {
    /// Bound, not blocking.
    pub socket: std::net::UdpSocket,
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// This node.
    pub node: u64,
    /// This start of it.
    pub incarnation: u64,
    /// The keys of the moment.
    pub ring: Arc<ArcSwap<Keyring>>,
    /// What is counted.
    pub counts: Counts,
}

#[async_trait]
impl Transport for SealedTransport {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let socket = self.socket.try_clone().context("the gossip socket")?;
        Ok(Box::new(SealedSocket {
            socket: UdpSocket::from_std(socket).context("the gossip socket")?,
            sealer: Sealer::new(self.cluster, self.node, self.incarnation),
            opener: Opener::new(self.cluster),
            ring: self.ring.clone(),
            counts: self.counts.clone(),
            buffer: vec![0; DATAGRAM_BYTES_MAX],
            slot: (Instant::now(), 0),
        }))
    }
}

struct SealedSocket {
    socket: UdpSocket,
    sealer: Sealer,
    opener: Opener,
    ring: Arc<ArcSwap<Keyring>>,
    counts: Counts,
    buffer: Vec<u8>,
    /// When it began, and what was looked at since.
    slot: (Instant, u32),
}

#[async_trait]
impl Socket for SealedSocket {
    /// What can't be sent is lost, as what is sent can be.
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        self.sealer.rekey(&self.ring.load());
        let sent = match self.sealer.seal(&message.serialize_to_vec()) {
            Some(datagram) => self.socket.send_to(&datagram, to).await.ok(),
            None => None,
        };
        match sent {
            Some(_) => self.counts.0.sent.fetch_add(1, Relaxed),
            None => self.counts.0.unsent.fetch_add(1, Relaxed),
        };
        Ok(())
    }

    /// Can be cancelled: nothing is lost by that but time.
    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            self.pause().await;
            let (length, from) = match self.socket.recv_from(&mut self.buffer).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "the gossip socket");
                    tokio::time::sleep(AGAIN_AFTER).await;
                    continue;
                }
            };
            self.slot.1 += 1;
            self.opener.rekey(&self.ring.load());
            let opened = match self.opener.open(&self.buffer[..length]) {
                Ok(opened) => opened,
                Err(why) => {
                    self.counts.drop(why);
                    continue;
                }
            };
            match ChitchatMessage::deserialize(&mut &opened.message[..]) {
                Ok(message) => {
                    self.counts.0.accepted.fetch_add(1, Relaxed);
                    return Ok((from, message));
                }
                // Of a node with another version of the protocol.
                Err(_) => self.counts.drop(Dropped::Malformed),
            }
        }
    }
}

impl SealedSocket {
    /// Waits for the next slot if this one is used up.
    async fn pause(&mut self) {
        let (began, looked_at) = self.slot;
        if began.elapsed() >= SLOT {
            self.slot = (Instant::now(), 0);
        } else if looked_at >= DATAGRAMS_PER_SLOT {
            tokio::time::sleep_until(began + SLOT).await;
            self.slot = (Instant::now(), 0);
        }
    }
}
