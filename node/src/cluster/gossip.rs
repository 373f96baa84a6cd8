//! What gossip needs of the node: a socket beside the door for other nodes, and what the node says of itself.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::{Context, Result};
use octelium_actors::membership::{
    self, Facts,
    envelope::{ClusterKey, Keyring},
};
use octelium_control::{
    Control,
    gossip_keys::{GossipKey, sealing},
};

use super::Membership;
use crate::{proxy::Now, telemetry::metrics::Sources};

/// Below the number of the start stand so many random bits, so that what a copy of a data directory seals, or one that was put back, is
/// sealed with other keys. Starts of the actor within one start of the node count on from there.
const RANDOM_BITS: u32 = 28;

/// The own name is looked up within this time.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(5);

/// Takes the address, with the number of the port that the door for other nodes has.
///
/// # Errors
/// If it is taken.
pub(super) fn bind(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address).with_context(|| format!("clusterListen: listening on {address}/UDP"))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

pub(super) async fn arguments(node: &Membership, control: &Control, sources: Sources) -> Result<membership::Args> {
    let advertised = match node.address.parse() {
        Ok(address) => address,
        Err(_) => {
            let looking_up = tokio::time::timeout(LOOK_UP_WITHIN, tokio::net::lookup_host(&node.address));
            let found = looking_up.await.map_err(std::io::Error::from).flatten();
            let found = found.with_context(|| format!("clusterAddress: looking up `{}`", node.address))?;
            let found: Vec<SocketAddr> = found.collect();
            let own = node.gossip.datagrams.local_addr()?;
            // One of the family that this node's datagrams have, if there is one.
            let fitting = found.iter().find(|address| address.is_ipv4() == own.is_ipv4());
            let address = fitting.or(found.first());
            *address.with_context(|| format!("clusterAddress: `{}` has no address", node.address))?
        }
    };
    let control = control.clone();
    Ok(membership::Args {
        node: sources.replica.node_id(),
        cluster: node.gossip.cluster.into_bytes(),
        incarnation: Arc::new(AtomicU64::new(
            node.start.number << RANDOM_BITS | node.start.random >> (64 - RANDOM_BITS),
        )),
        socket: Arc::new(node.gossip.datagrams.try_clone()?),
        address: node.address.clone(),
        advertised,
        seeds: node.gossip.seeds.clone(),
        keys: Arc::new(move || ring(control.gossip_keys(), Now::read().unix)),
        peers: sources.views.peers.clone(),
        facts: Arc::new(move || facts(&sources)),
    })
}

fn facts(sources: &Sources) -> Facts {
    Facts {
        is_ready: sources.unready().is_none(),
        applied: sources.replica.state().index(),
        load: sources.connections.under_way() as u64,
        members: sources.replica.known_members().into_iter().map(|member| member.address).collect(),
    }
}

fn ring(keys: Vec<GossipKey>, now_unix: i64) -> Keyring {
    let sealing = sealing(&keys, now_unix).unwrap_or_default();
    let keys = keys.into_iter().map(|key| ClusterKey { id: key.id, secret: key.secret });
    Keyring { keys: keys.collect(), sealing }
}
