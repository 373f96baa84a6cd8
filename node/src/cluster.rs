//! This node among others: its certificate, the door for other nodes, the way to them, and how new ones join.
//!
//! Whatever passes between nodes is TLS 1.3 with certificates of the cluster's own authority on both sides. A certificate names
//! one node of one cluster, so that a connection is to the node that was meant, and a request is from the node that says so.

pub mod authority;
pub mod door;
pub mod files;
pub mod gossip;
pub mod join;
pub mod link;
pub mod server;
pub mod start;
pub mod tls;
pub mod token;
mod wiped;

use std::{
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use octelium_actors::membership;
use octelium_consensus::{Options, Peers, Recovered, Replica};
use octelium_control::Control;
use parking_lot::Mutex;
use uuid::Uuid;

use self::{authority::Identity, door::Door, join::Joins, link::TlsLink, server::Server, start::Start};
use crate::{
    config::{Clustered, Config},
    node::{make_directory, write},
    telemetry::metrics::Sources,
};

/// A certificate is made anew at each start, and this often: it is good for a month.
const RENEW_EVERY: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// So long a node that stops tries to have another one lead.
const STEP_DOWN_WITHIN: Duration = Duration::from_secs(8);

/// Why a node ends whose data another process has too.
pub const DOUBLED: &str = "other nodes hear another process with this node's id, or know a later start of it: a data directory belongs to one machine, \
     and neither a copy of it nor one from a backup can be used: give this node an empty one and let it join anew";
/// What this node has before its replica is there.
pub struct Entering {
    settings: Clustered,
    data_dir: PathBuf,
    listener: TcpListener,
    datagrams: UdpSocket,
    address: String,
    link: TlsLink,
    identity: Option<Identity>,
    /// What a new data directory begins with.
    start: octelium_consensus::Start,
    own: Start,
}

/// This node's part in the cluster; dropping it closes its doors.
pub struct Membership {
    /// Where other nodes reach this one.
    pub address: String,
    link: TlsLink,
    server: Server,
    data_dir: PathBuf,
    has_joined: bool,
    /// When the certificate was made.
    renewed: Mutex<tokio::time::Instant>,
    start: Start,
    gossip: Gossip,
    _door: Door,
}

/// What gossip begins with.
struct Gossip {
    cluster: Uuid,
    datagrams: UdpSocket,
    seeds: Vec<String>,
}

impl Entering {
    /// Takes the address, and joins if that was asked for; `None` if this node is to stay alone.
    ///
    /// # Errors
    /// If the address is taken, the data directory belongs to another cluster, or the cluster doesn't take this node in.
    pub async fn begin(config: &Config) -> Result<Option<Self>> {
        let Some(settings) = config.cluster.clone() else { return Ok(None) };
        let listener = TcpListener::bind(settings.listen)
            .with_context(|| format!("clusterListen: listening on {}", settings.listen))?;
        let datagrams = gossip::bind(listener.local_addr()?)?;
        let address = settings.address.clone().map_or_else(|| listener.local_addr().map(|at| at.to_string()), Ok)?;
        let data_dir = config.data_dir.clone();
        if let Some(mark) = Start::refused(&data_dir) {
            bail!(
                "{DOUBLED}. If it is certain that no other process has or had this node's data, remove {} and start again",
                mark.display()
            );
        }
        let raft = data_dir.join("raft");
        make_directory(&raft)?;
        let (node, has_log) = octelium_consensus::peek(&raft)?;
        let known = files::load(&data_dir, node)?;
        let identity = match (known, &settings.join) {
            (Some(identity), Some(_)) => {
                tracing::info!("this node is a member already; the join token is not used");
                Some(identity)
            }
            (Some(identity), None) => Some(identity),
            (None, None) => None,
            (None, Some(_)) if has_log => bail!(
                "join: {} holds a cluster of its own: give this node another dataDir, or start it without join",
                data_dir.display()
            ),
            (None, Some(invitation)) => {
                let joined = join::ask(invitation, node, &address, &config.domain).await?;
                write(&data_dir.join("sealing.key"), joined.sealing_key.as_bytes(), 0o600)?;
                files::save(&data_dir, &joined.identity)?;
                tracing::info!(cluster = %joined.identity.cluster, node = %format!("{node:016x}"), "joined");
                Some(joined.identity)
            }
        };
        let start = match (&identity, has_log) {
            (Some(_), false) => octelium_consensus::Start::Join,
            _ => octelium_consensus::Start::Found,
        };
        let own = Start::next(&data_dir)?;
        let link = TlsLink::new(own);
        if let Some(identity) = &identity {
            link.open(identity)?;
        }
        Ok(Some(Self { settings, data_dir, listener, datagrams, address, link, identity, start, own }))
    }

    /// Whether this node came to a cluster that was there.
    pub fn has_joined(&self) -> bool {
        self.identity.as_ref().is_some_and(|identity| identity.has_joined)
    }

    /// Tells the replica how to reach others.
    pub fn prepare(&self, options: &mut Options) {
        options.start = self.start;
        options.peers = Some(Peers {
            link: Arc::new(self.link.clone()),
            address: self.address.clone(),
            seats: self.settings.voters_max,
            voter_grace: self.settings.voter_grace,
        });
    }

    /// Resolves if others hear another process with this node's id.
    pub async fn doubled(&self) {
        self.link.doubled().await;
        self.own.mark_refused(&self.data_dir);
    }

    /// Opens the door for other nodes, if this one can prove already who it is: without the others it gets no quorum.
    ///
    /// # Errors
    /// If the listener can't be used.
    pub fn open(&self, replica: &Replica) -> Result<Option<Server>> {
        let Some(identity) = &self.identity else { return Ok(None) };
        Server::start(self.listener.try_clone()?, identity, replica.clone()).map(Some)
    }

    /// Makes this node a full member: with a fresh certificate, and ready to take others in. The replica is ready.
    ///
    /// # Errors
    /// If the cluster's keys can't be made or opened.
    pub async fn complete(self, server: Option<Server>, replica: &Replica, control: &Control) -> Result<Membership> {
        let node = replica.node_id();
        if join::from_state(control, node)?.is_none() {
            control.keep_keys(&authority::generate()?).await?;
        }
        let has_joined = self.has_joined();
        let identity = fresh(control, node, has_joined)?;
        files::save(&self.data_dir, &identity)?;
        self.link.open(&identity)?;
        let server = match server {
            Some(server) => {
                server.renew(&identity)?;
                server
            }
            None => Server::start(self.listener, &identity, replica.clone())?,
        };
        // It may have moved since it was last here.
        replica.add_member(node, &self.address).await.context("telling the cluster where this node is")?;
        let joins = || Joins { control: control.clone(), key_file: self.data_dir.join("sealing.key") };
        server.take_in(joins());
        let cluster = identity.cluster;
        // The leader makes them anew later on; without the first ones there is no gossip yet, which is no reason not to serve.
        if control.gossip_keys().is_empty()
            && let Err(error) = control.renew_gossip_keys().await
        {
            tracing::warn!(%error, "the keys of gossip can't be made now");
        }
        let door = door::open(&self.data_dir, joins(), Arc::new(identity), self.address.clone())?;
        Ok(Membership {
            address: self.address,
            link: self.link,
            server,
            data_dir: self.data_dir,
            has_joined,
            renewed: Mutex::new(tokio::time::Instant::now()),
            start: self.own,
            gossip: Gossip { cluster, datagrams: self.datagrams, seeds: self.settings.gossip_seeds },
            _door: door,
        })
    }
}

impl Membership {
    /// Resolves if others hear another process with this node's id.
    pub async fn doubled(&self) {
        self.link.doubled().await;
        self.start.mark_refused(&self.data_dir);
    }

    /// What the node's gossip needs.
    ///
    /// # Errors
    /// If the number of this start can't be kept, or the own address isn't known.
    pub async fn gossip(&self, control: &Control, sources: Sources) -> Result<membership::Args> {
        gossip::arguments(self, control, sources).await
    }

    /// Makes the certificate anew if it is time.
    ///
    /// # Errors
    /// If it can't be made; the old one goes on.
    pub fn renew(&self, control: &Control, node: u64) -> Result<()> {
        if self.renewed.lock().elapsed() < RENEW_EVERY {
            return Ok(());
        }
        let identity = fresh(control, node, self.has_joined)?;
        files::save(&self.data_dir, &identity)?;
        self.link.open(&identity)?;
        self.server.renew(&identity)?;
        *self.renewed.lock() = tokio::time::Instant::now();
        Ok(())
    }
}

fn fresh(control: &Control, node: u64, has_joined: bool) -> Result<Identity> {
    let identity = join::from_state(control, node)?.context("the keys of the cluster's nodes can't be opened")?;
    Ok(Identity { has_joined, ..identity })
}

/// Makes one data directory, of whose cluster a majority is lost for good, a cluster of its own. Nodes of the old cluster that
/// come back are strangers to it.
///
/// # Errors
/// If the directory is in use or damaged.
pub async fn recover(data_dir: &Path) -> Result<Recovered> {
    let options = Options::new(data_dir.join("raft"));
    let recovered = octelium_consensus::recover(&options, octelium_control::nodes::is_of_nodes).await?;
    match std::fs::remove_dir_all(data_dir.join("cluster")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("removing the old certificate")
        }
        _ => Ok(recovered),
    }
}

/// Lets another node lead before this one stops, if there is one that can.
pub async fn step_down(replica: &Replica) {
    if replica.known_members().iter().filter(|member| member.is_voter).count() < 2 {
        return;
    }
    match tokio::time::timeout(STEP_DOWN_WITHIN, replica.step_down()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "no other node takes over before this one stops"),
        Err(_) => tracing::warn!("no other node takes over in time"),
    }
}
