//! What a cluster costs and how fast it is: nodes as processes on loopback, their disks those of this machine, fsync on.

mod limits;
mod redis;

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use octelium_api::{control::SetLockRequest, meta::ObjectReference};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    real::{
        client::{Api, Caller, get_once},
        history::History,
        load::World,
        network::Network,
        nodes::{DOMAIN, HTTP, Nodes},
    },
    sim::Random,
};

/// What is measured.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Sizes of clusters, one after the other
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3, 5], value_parser = clap::value_parser!(u8).range(1..=7))]
    nodes: Vec<u8>,
    /// What to measure [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Figure>,
    /// The program of a node; build it with `cargo build --profile dist -p octelium-node`
    #[arg(long, value_name = "FILE")]
    node_binary: PathBuf,
    /// Where data goes, a directory on the disk that is meant [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Figure {
    /// Changes through the control API: latency and throughput
    Commit,
    /// From a change to its effect on all nodes
    Effect,
    /// From the loss of the leader to the next acknowledged change
    Failover,
    /// From locking a User to the last request that is let in, on loaded nodes
    Revocation,
    /// CPU of a request with and without a strict limit
    Limits,
    /// The same decision by a script in Redis (needs redis-server)
    Redis,
}

const CHANGES: u64 = 300;
const AT_ONCE: usize = 32;
const ROUNDS: u64 = 30;
const PATIENT: Duration = Duration::from_secs(20);

/// Measures and prints.
///
/// # Errors
/// If something can't be measured.
pub fn run(options: &Options) -> Result<ExitCode> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok(); // it is there already, if not
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let wants = |figure: Figure| options.only.is_empty() || options.only.contains(&figure);
        for count in &options.nodes {
            let mut cluster = Cluster::start(options, usize::from(*count)).await?;
            println!("\n{count} node(s)");
            if wants(Figure::Commit) {
                cluster.commit().await?;
            }
            if wants(Figure::Effect) {
                cluster.effect().await?;
            }
            if wants(Figure::Revocation) {
                cluster.revocation().await?;
            }
            if wants(Figure::Limits) {
                limits::measure(&cluster).await?;
            }
            if wants(Figure::Failover) && *count >= 3 {
                cluster.failover().await?;
            }
            // The next one has the same addresses.
            cluster.nodes.kill_all().await?;
        }
        if wants(Figure::Redis) {
            println!("\nRedis");
            redis::measure().await?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// A running cluster and its administrator.
struct Cluster {
    nodes: Nodes,
    world: World,
    directory: PathBuf,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The processes are killed right after this; what they still write is in files that are gone.
        fs::remove_dir_all(&self.directory).ok();
    }
}

impl Cluster {
    async fn start(options: &Options, count: usize) -> Result<Self> {
        let program = options.node_binary.canonicalize().context("--node-binary")?;
        let parent = options.directory.clone().unwrap_or_else(std::env::temp_dir);
        let directory = parent.join(format!("octelium-cluster-bench-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let mut nodes = Nodes::new(Network::make(count, false)?, vec![program], directory.clone(), count);
        nodes.found().await?;
        let history = Arc::new(History::new(0));
        let addresses = (0..count).map(|node| nodes.network.address(node)).collect();
        let token = fs::read_to_string(nodes.data(0).join("root.token"))?;
        let world = World::new(history, addresses, nodes.data(0).join("ca.pem"), token);
        let this = Self { nodes, world, directory };
        this.api(0).await?.apply(&open("0")).await?;
        this.settled().await?;
        Ok(this)
    }

    async fn api(&self, node: usize) -> Result<Api> {
        self.world.api(node).await
    }

    /// Waits until all nodes have applied the same.
    async fn settled(&self) -> Result<()> {
        self.nodes.healed(PATIENT, 0.0).await.map(drop).context("the nodes don't settle")
    }

    async fn leader(&self) -> Result<usize> {
        let deadline = Instant::now() + PATIENT;
        loop {
            match self.nodes.leader().await {
                Some(leader) => return Ok(leader),
                None if Instant::now() >= deadline => bail!("there is no leader"),
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn commit(&self) -> Result<()> {
        let node = self.leader().await?;
        for at_once in [1, AT_ONCE] {
            let next = Arc::new(AtomicU64::new(0));
            let mut tasks = JoinSet::new();
            let began = Instant::now();
            for _ in 0..at_once {
                // A connection each, as many callers have.
                let (api, next) = (self.world.api(node).await?, next.clone());
                tasks.spawn(async move {
                    let mut took = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= CHANGES {
                            return Ok::<_, anyhow::Error>(took);
                        }
                        let began = Instant::now();
                        api.apply(&format!("kind: Group\nmetadata: {{name: g-{number}}}\nspec: {{}}\n")).await?;
                        took.push(began.elapsed());
                    }
                });
            }
            let mut took = Vec::new();
            while let Some(done) = tasks.join_next().await {
                took.extend(done??);
            }
            let rate = CHANGES as f64 / began.elapsed().as_secs_f64();
            println!("  changes, {at_once:>2} at once: {rate:>6.0} a second, {}", spread(took));
        }
        Ok(())
    }

    async fn effect(&self) -> Result<()> {
        let mut took = Vec::new();
        for round in 1..=ROUNDS {
            let api = self.api(usize::try_from(round)? % self.nodes.len()).await?;
            let began = Instant::now();
            let text = format!("{round}");
            let manifest = open(&text);
            let applying = api.apply(&manifest);
            let seen = futures_util::future::join_all((0..self.nodes.len()).map(async |node| {
                let address = (self.nodes.network.address(node), HTTP).into();
                let mut caller = Caller::new(address, &format!("open.{DOMAIN}"), None, PATIENT);
                while caller.ask().await?.body != text {
                    sleep(Duration::from_micros(500)).await;
                }
                Ok::<_, anyhow::Error>(began.elapsed())
            }));
            let (applied, seen) = tokio::join!(applying, seen);
            applied?;
            took.extend(seen.into_iter().collect::<Result<Vec<_>>>()?.into_iter().max());
        }
        println!("  from a change to its effect on all nodes: {}", spread(took));
        Ok(())
    }

    async fn failover(&mut self) -> Result<()> {
        let mut took = Vec::new();
        for round in 0..8 {
            self.settled().await?;
            let leader = self.leader().await?;
            let api = self.api((leader + 1) % self.nodes.len()).await?;
            let began = Instant::now();
            self.nodes.kill(leader).await?;
            while api.apply(&open(&format!("after {round}"))).await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
            took.push(began.elapsed());
            self.nodes.start(leader, None, &[])?;
            self.nodes.ready(leader).await?;
        }
        println!("  from `kill -9` of the leader to the next acknowledged change: {}", spread(took));
        Ok(())
    }

    /// Two callers at each node go on meanwhile.
    async fn revocation(&self) -> Result<()> {
        self.api(0).await?.apply(CLOSED).await?;
        let mut load = JoinSet::new();
        let answers = Arc::new(AtomicU64::new(0));
        for node in (0..self.nodes.len()).flat_map(|node| [node, node]) {
            let address = (self.nodes.network.address(node), HTTP).into();
            let (mut caller, answers) =
                (Caller::new(address, &format!("open.{DOMAIN}"), None, PATIENT), answers.clone());
            load.spawn(async move {
                loop {
                    if caller.ask().await.is_ok() {
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
        let (mut took, began) = (Vec::new(), Instant::now());
        let mut random = Random::new(1);
        for round in 0..ROUNDS {
            let token = self.world.visitor(&mut random, round).await?;
            took.push(self.lock_out(round, &token).await?);
        }
        let rate = answers.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        load.shutdown().await;
        println!(
            "  from the call that locks a User to the last request let in, at {rate:.0} requests a second: {}",
            spread(took)
        );
        Ok(())
    }

    async fn lock_out(&self, round: u64, token: &str) -> Result<Duration> {
        let address = |node| (self.nodes.network.address(node), HTTP).into();
        let host = format!("closed.{DOMAIN}");
        let mut callers: Vec<_> =
            (0..self.nodes.len()).map(|node| Caller::new(address(node), &host, Some(token), PATIENT)).collect();
        for caller in &mut callers {
            while caller.ask().await?.status != 200 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        let name = format!("visitor-{round}");
        let reference = ObjectReference { name, kind: "User".to_owned(), ..ObjectReference::default() };
        let request = SetLockRequest { kind: "User".to_owned(), r#ref: Some(reference), is_locked: true };
        let api = self.api(usize::try_from(round)? % self.nodes.len()).await?;
        let began = Instant::now();
        let mut control = api.control();
        let locking = control.set_lock(request);
        let refused = futures_util::future::join_all(callers.iter_mut().map(async |caller| {
            let mut last = Duration::ZERO;
            loop {
                let sent = began.elapsed();
                match caller.ask().await?.status {
                    200 => last = sent,
                    _ => return Ok::<_, anyhow::Error>(last),
                }
            }
        }));
        let (locked, refused) = tokio::join!(locking, refused);
        locked?;
        Ok(refused.into_iter().collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or_default())
    }
}

const CLOSED: &str = "
kind: Service
metadata: {name: closed}
spec:
  mode: HTTP
  isPublic: true
  authorization: {policies: [allow-all]}
  config: {http: {response: {direct: {inline: ok}}}}
";

fn open(text: &str) -> String {
    format!(
        "kind: Service\nmetadata: {{name: open}}\nspec: {{mode: HTTP, isPublic: true, isAnonymous: true, \
         config: {{http: {{response: {{direct: {{inline: \"{text}\"}}}}}}}}}}\n"
    )
}

/// Median, 99th percentile and maximum.
fn spread(mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
    let shown = |duration: Duration| format!("{:.1} ms", duration.as_secs_f64() * 1_000.0);
    format!("p50 {}, p99 {}, most {} ({} times)", shown(at(50)), shown(at(99)), shown(at(100)), took.len())
}

/// CPU time of all threads of a process so far.
fn cpu(process: u32) -> Result<Duration> {
    let mut total = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        total += text.split_whitespace().next().context("schedstat has no first field")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(total))
}

/// Whether a host answers already.
async fn answers(address: std::net::SocketAddr, host: &str) -> bool {
    get_once(address, host, "/", PATIENT).await.is_ok_and(|answer| answer.status == 200)
}
