//! What gossip needs of the node: a socket beside the door for other nodes, the number of this start, and what the node says of itself.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::{SystemTime, UNIX_EPOCH},
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
use crate::{node::write, proxy::Now, telemetry::metrics::Sources};

/// Starts of the actor within one start of the node have numbers of their own.
const ACTOR_BITS: u32 = 16;

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
            let mut found = tokio::net::lookup_host(&node.address)
                .await
                .with_context(|| format!("clusterAddress: looking up `{}`", node.address))?;
            found.next().with_context(|| format!("clusterAddress: `{}` has no address", node.address))?
        }
    };
    let start = next_start(&node.data_dir.join("cluster").join("starts"))?;
    let control = control.clone();
    Ok(membership::Args {
        node: sources.replica.node_id(),
        cluster: node.gossip.cluster.into_bytes(),
        incarnation: Arc::new(AtomicU64::new(start << ACTOR_BITS)),
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

/// The number of this start, higher than all before it, whatever the wall clock says. A directory that lost its number goes on from
/// the clock: others know the node by an older number.
fn next_start(file: &Path) -> Result<u64> {
    let last = match fs::read_to_string(file) {
        Ok(text) => text.trim().parse().with_context(|| format!("{} is damaged: remove it", file.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => seconds_now(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
    };
    let next: u64 = last + 1;
    write(file, next.to_string().as_bytes(), 0o600)?;
    Ok(next)
}

#[allow(clippy::disallowed_methods, reason = "a number to begin with, from which on the clock doesn't count")]
fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_a_higher_number_than_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("starts");
        let first = next_start(&file).unwrap();
        assert_eq!(next_start(&file).unwrap(), first + 1);
        fs::write(&file, "99999999999\n").unwrap();
        assert_eq!(next_start(&file).unwrap(), 100_000_000_000, "whatever the clock says");
        fs::write(&file, "x").unwrap();
        assert!(next_start(&file).unwrap_err().to_string().contains("is damaged"));
    }
}
