//! Start and stop order of a node, in one place.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use octelium_actors::{Views, supervisor::Supervisor};
use octelium_api::{Kind, Object};
use octelium_consensus::{Freshness, Options, Replica, SealingKey, State};
use octelium_control::Control;
use socket2::Socket;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};

use crate::{
    cluster::{self, Entering, Membership},
    config::{Config, Listen},
    identity::{self, Certificates},
    listener::{
        accept::{Connections, bind, listen, probe},
        tls::Tls,
        worker::{self, Door, Parts},
    },
    proxy::view_age::ViewAge,
    telemetry::{access_log::Writer, metrics},
};

/// In the data directory: the root User's first authentication token.
pub const ROOT_TOKEN: &str = "root.token";

/// A running node.
pub struct Node {
    /// Where it listens, ports filled in.
    pub addresses: Vec<Listen>,
    /// The control plane.
    pub control: Control,
    /// The root User's first token: given once, when the cluster is made.
    pub root_token: Option<String>,
    /// When this node last heard a leader.
    pub freshness: Freshness,
    /// The certificate that clients trust.
    pub ca_file: PathBuf,
    /// Where other nodes reach this one, if it is to have others.
    pub cluster_address: Option<String>,
    replica: Replica,
    supervisor: Supervisor,
    workers: Vec<JoinHandle<std::io::Result<()>>>,
    worker_ended: Arc<Notify>,
    leaving: watch::Sender<bool>,
    drain_delay: Duration,
    draining: watch::Sender<bool>,
    writer: Writer,
    sweeper: tokio::task::JoinHandle<()>,
    keeper: tokio::task::JoinHandle<()>,
    greeter: Option<tokio::task::JoinHandle<()>>,
    membership: Option<Arc<Membership>>,
    /// Metrics and health, if they are told.
    pub metrics: Option<metrics::server::Server>,
}

/// Expiry is enforced at use; this only clears away what has expired.
const SWEEP_EVERY: Duration = Duration::from_secs(300);

async fn sweep(control: Control, membership: Option<Arc<Membership>>, replica: Replica) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    tick.tick().await; // the first one is immediate
    loop {
        tick.tick().await;
        // One node is enough.
        if replica.is_leader() {
            match control.sweep().await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "expired Sessions and Credentials were removed"),
                Err(error) => tracing::warn!(%error, "what has expired can't be removed now"),
            }
            if membership.is_some()
                && let Err(error) = control.renew_gossip_keys().await
            {
                tracing::warn!(%error, "the keys of gossip can't be made anew now");
            }
        }
        if let Some(Err(error)) = membership.as_ref().map(|membership| membership.renew(&control, replica.node_id())) {
            tracing::error!(error = %format!("{error:#}"), "this node's certificate can't be made anew");
        }
    }
}

impl Node {
    /// Starts everything, in this order; returns once requests are served.
    ///
    /// # Errors
    /// What can't be opened, bound or recovered, and what to do.
    pub async fn start(config: &Config) -> Result<Self> {
        // 1. What must be there before anything else: the directory, the key, the ports.
        make_directory(&config.data_dir)?;
        let key_file = config.data_dir.join("sealing.key");
        let entering = Entering::begin(config).await?;
        let sealing = Arc::new(SealingKey::load_or_create(&key_file)?);
        let (addresses, mut sockets) = take_addresses(config)?;
        let metrics = match config.metrics_listen {
            None => None,
            Some(address) => {
                let server = metrics::server::Server::start(address).await;
                let server = server.with_context(|| format!("metricsListen: listening on {address}"))?;
                tracing::info!(address = %server.address, "metrics and health are told");
                Some(server)
            }
        };
        let writer = Writer::start(&config.access_log).context("opening the access log")?;

        // 2. The replicated state, and those who follow it.
        let mut options = Options::new(config.data_dir.join("raft"));
        if let Some(entering) = &entering {
            entering.prepare(&mut options);
        }
        let replica = Replica::create(options).await?;
        let server = entering.as_ref().map(|entering| entering.open(&replica)).transpose()?.flatten();
        let doubled = async {
            match &entering {
                Some(entering) => entering.doubled().await,
                None => std::future::pending().await,
            }
        };
        let ready = tokio::select! {
            ready = replica.ready() => ready.map_err(anyhow::Error::from),
            () = doubled => Err(anyhow!(cluster::DOUBLED)),
        };
        if let Err(error) = ready {
            replica.close().await?;
            return Err(error);
        }
        if let Err(error) = same_domain(&replica.state(), &config.domain) {
            replica.close().await?;
            return Err(error);
        }
        let views = Views::new(&config.domain);
        let supervisor = Supervisor::start(views.clone(), &replica).await?;

        // 3. The control plane; the first start makes the cluster's identity.
        let control = Control::new(replica.clone(), views.clone(), sealing.clone(), &config.domain, &config.public_url);
        let root_token = control.bootstrap(identity::generate(&config.domain)?).await?;
        let has_joined = entering.as_ref().is_some_and(Entering::has_joined);
        let membership = match entering {
            Some(entering) => Some(Arc::new(entering.complete(server, &replica, &control).await?)),
            None => None,
        };
        let ips: BTreeSet<_> =
            addresses.iter().map(|listen| listen.address.ip()).filter(|ip| !ip.is_unspecified()).collect();
        if let Err(error) = control.announce(replica.node_id(), &ips.into_iter().collect::<Vec<_>>()).await {
            tracing::warn!(%error, "this node's Gateway can't be written now");
        }
        let token_file = config.data_dir.join(ROOT_TOKEN);
        // Who founded the cluster keeps the token; who joined has none of it.
        let unused = || control.unused_root_token().filter(|_| !has_joined && !token_file.exists());
        let root_token = root_token.or_else(unused);
        if let Some(token) = &root_token {
            // Before anybody can connect: whoever waits for the ports finds the token.
            write(&token_file, token.as_bytes(), 0o600)?;
            let file = token_file.display();
            tracing::info!(%file, "the root User's authentication token was written; move it to a safe place");
        }
        let key = control.open_key(identity::CA_KEY).ok_or_else(|| lost(&key_file))?;
        let certificate = control.open_key(identity::CA_CERTIFICATE).ok_or_else(|| lost(&key_file))?;
        let ca_file = config.data_dir.join("ca.pem");
        write(&ca_file, &certificate, 0o644)?;
        let own = config.tls.as_ref().map(|(chain, key)| (chain.as_path(), key.as_path()));
        let certificates = Certificates::open(&key, &certificate, own, views.routes.clone())?;

        // 4. The workers open the doors. Requests that need a Session are refused until a quorum has been heard.
        let freshness = Freshness::default();
        if let Err(error) = freshness.ask(&replica).await {
            tracing::warn!(%error, "no leader is heard now; whatever needs a Session is refused until one is");
        }
        let (draining, drained) = watch::channel(false);
        let (leaving, left) = watch::channel(false);
        let connections = Connections::new(config.places);
        let view_age = ViewAge { freshness: freshness.clone(), max: config.view_age_max };
        let sources = metrics::Sources {
            replica: replica.clone(),
            views: views.clone(),
            view_age: view_age.clone(),
            connections: connections.clone(),
            totals: writer.totals(),
            lost_records: writer.lost(),
            leaving: left,
        };
        let parts = Parts {
            views,
            local_limits: Arc::default(),
            rate_limit_wait: config.rate_limit_wait,
            view_age,
            sealing,
            control: control.clone(),
            control_runtime: Handle::current(),
            log: writer.handle(),
            tls: Tls::new(Arc::new(certificates), &config.domain, config.handshake_timeout),
            limits: config.limits.clone(),
            http2: config.http2.clone(),
            pool: config.pool.clone(),
            resolve: config.resolve.clone(),
            connections,
            handshake_timeout: config.handshake_timeout,
            balancers: Arc::new(config.proxy_protocol_from.clone()),
            hops: Arc::new(config.trusted_hops.clone()),
            drain_timeout: config.drain_timeout,
            request_timeout: config.request_timeout,
        };
        let worker_ended = Arc::new(Notify::new());
        let mut workers = Vec::new();
        for index in 0..config.workers {
            let doors = sockets.remove(0).into_iter().map(Taken::open);
            let doors = doors.collect::<std::io::Result<Vec<_>>>().context("listening")?;
            workers.push(worker::start(index, parts.clone(), doors, drained.clone(), worker_ended.clone())?);
        }
        if let Some(membership) = &membership {
            // Hints are all that is missing if it doesn't start.
            match membership.gossip(&control, sources.clone()).await {
                Ok(args) => {
                    if let Err(reason) = supervisor.gossip(args).await {
                        tracing::warn!(reason, "gossip doesn't start now, and is tried again");
                    }
                }
                Err(error) => {
                    let reason = format!("{error:#}");
                    tracing::warn!(reason, "this node goes on without gossip until its next start");
                }
            }
        }
        // Last: whoever is told that this node is ready finds its doors open.
        if let Some(metrics) = &metrics {
            metrics.tell(sources);
        }
        #[allow(clippy::disallowed_methods, reason = "ended in `stop`")]
        let sweeper = tokio::spawn(sweep(control.clone(), membership.clone(), replica.clone()));
        #[allow(clippy::disallowed_methods, reason = "ended in `stop`")]
        let keeper = tokio::spawn(freshness.clone().keep(replica.clone()));
        #[allow(clippy::disallowed_methods, reason = "ended in `stop`")]
        let greeter = membership.as_ref().map(|_| tokio::spawn(cluster::start::keep_heard(replica.clone())));
        tracing::info!(domain = config.domain, workers = config.workers, listen = ?addresses, "ready");
        Ok(Self {
            addresses,
            control,
            root_token,
            ca_file,
            cluster_address: membership.as_ref().map(|membership| membership.address.clone()),
            replica,
            supervisor,
            workers,
            worker_ended,
            leaving,
            drain_delay: config.drain_delay,
            draining,
            writer,
            sweeper,
            freshness,
            keeper,
            greeter,
            membership,
            metrics,
        })
    }

    /// Resolves with the reason when the node can't go on.
    pub async fn failed(&self) -> anyhow::Error {
        let reason = tokio::select! {
            reason = self.replica.failed() => reason,
            reason = self.supervisor.gave_up() => reason,
            () = self.worker_ended.notified() => "a worker thread ended".to_owned(),
            () = self.doubled() => cluster::DOUBLED.to_owned(),
        };
        anyhow!("the node can't go on: {reason}")
    }

    async fn doubled(&self) {
        match &self.membership {
            Some(membership) => membership.doubled().await,
            None => std::future::pending().await,
        }
    }

    /// Finishes what is under way, takes nothing new, and closes the log.
    ///
    /// # Errors
    /// If a worker failed or the log can't be closed.
    pub async fn stop(self) -> Result<()> {
        tracing::info!("draining");
        self.leaving.send_replace(true);
        let step_down = async {
            if self.membership.is_some() {
                cluster::step_down(&self.replica).await;
            }
        };
        // Whoever sends callers here needs time to learn that they should go elsewhere.
        tokio::join!(Box::pin(step_down), tokio::time::sleep(self.drain_delay));
        self.close().await
    }

    /// The same for all nodes of this process, none of which takes over from another.
    ///
    /// # Errors
    /// Those of the first that fails.
    pub async fn stop_all(mut nodes: Vec<Self>) -> Result<()> {
        match (nodes.pop(), nodes.is_empty()) {
            (None, _) => Ok(()),
            (Some(node), true) => node.stop().await,
            (Some(node), false) => {
                nodes.push(node);
                let closing = futures_util::future::join_all(nodes.into_iter().map(|node| Box::pin(node.close())));
                closing.await.into_iter().collect()
            }
        }
    }

    async fn close(self) -> Result<()> {
        self.draining.send_replace(true);
        let workers = self.workers;
        let ended = tokio::task::spawn_blocking(move || workers.into_iter().map(JoinHandle::join).collect::<Vec<_>>());
        for worker in ended.await.context("waiting for the workers")? {
            worker.map_err(|_| anyhow!("a worker panicked"))??;
        }
        self.writer.finish();
        if self.membership.is_some() {
            self.supervisor.give_back_leases().await;
        }
        drop(self.metrics);
        self.sweeper.abort();
        self.keeper.abort();
        if let Some(greeter) = self.greeter {
            greeter.abort();
        }
        self.supervisor.stop().await;
        drop(self.control);
        drop(self.membership);
        self.replica.close().await?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Certificates, host names and tokens' audience follow from the domain: data that was made for another one doesn't fit.
fn same_domain(state: &State, domain: &str) -> Result<()> {
    let of_data = state.list(Kind::ClusterConfig).next().and_then(|stored| match &stored.object {
        Object::ClusterConfig(config) => config.status.as_ref().map(|status| status.domain.clone()),
        _ => None,
    });
    match of_data {
        Some(of_data) if of_data != domain => {
            bail!(
                "domain: this data directory belongs to the cluster of `{of_data}`, not `{domain}`: set that domain or another dataDir"
            )
        }
        _ => Ok(()),
    }
}

fn lost(key_file: &Path) -> anyhow::Error {
    anyhow!(
        "the cluster's keys can't be opened with {}: put back the key that this data directory was made with",
        key_file.display()
    )
}

/// An address that was taken for a worker, before callers can connect to it.
struct Taken {
    socket: Socket,
    listen: Listen,
}

impl Taken {
    fn open(self) -> std::io::Result<Door> {
        Ok(Door { listener: listen(self.socket)?, listen: self.listen })
    }
}

/// One set of sockets for each worker, all on the same addresses.
fn take_addresses(config: &Config) -> Result<(Vec<Listen>, Vec<Vec<Taken>>)> {
    let mut addresses = Vec::new();
    let mut doors: Vec<Vec<Taken>> = (0..config.workers).map(|_| Vec::new()).collect();
    for listen in &config.listen {
        let mut address: SocketAddr = listen.address;
        // Workers share a port, and so another process could share it too and take a part of the connections.
        if address.port() != 0 {
            probe(address).with_context(|| format!("listening on {address}"))?;
        }
        for of_worker in &mut doors {
            let socket = bind(address).with_context(|| format!("listening on {address}"))?;
            let taken = socket.local_addr()?.as_socket(); // port 0: the others take the one that was found
            address = taken.context("a TCP socket has an address")?;
            of_worker.push(Taken { socket, listen: *listen });
        }
        addresses.push(Listen { address, ..*listen });
    }
    Ok((addresses, doors))
}

pub(crate) fn make_directory(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("making the data directory {}", path.display()))
}

/// Replaces a file as a whole.
pub(crate) fn write(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    use std::io::Write;
    let temporary = path.with_extension("new");
    // A leftover of an interrupted start may have another mode.
    fs::remove_file(&temporary).ok();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .with_context(|| format!("writing {}", temporary.display()))?;
    file.write_all(contents)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("writing {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("writing {}", path.display()))
}
