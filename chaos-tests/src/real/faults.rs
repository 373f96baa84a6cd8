//! What is done to the nodes, by a seed: one fault after the other, and where a majority survives two of them, also two at once.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};

use super::{
    history::History,
    network::{Cut, run},
    nodes::Nodes,
};
use crate::sim::Random;

/// A fault has healed within this time after its end.
const HEAL_WITHIN: Duration = Duration::from_secs(30);
/// By then the room that a log has ahead is used up.
const DISK_FULL_WITHIN: Duration = Duration::from_secs(60);
/// So many log entries a node may be behind while load goes on.
const LAG_MAX: f64 = 50.0;
const CUTS: [Fault; 4] = [Fault::Cut(Cut::Both), Fault::Cut(Cut::Deaf), Fault::Cut(Cut::Mute), Fault::NoGossip];
/// With so many nodes a majority is left after two faults at once.
const NODES_FOR_TWO: usize = 5;
/// Where Debian has the libraries.
const LIBRARIES: [&str; 3] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];

/// What is done to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, and a start.
    Kill,
    /// `SIGSTOP`, and `SIGCONT` after a while.
    Pause,
    /// Other nodes aren't heard, or don't hear it.
    Cut(Cut),
    /// No gossip reaches or leaves it.
    NoGossip,
    /// What it sends to other nodes takes its time.
    Slow,
    /// Some packets between it and other nodes are lost.
    Lossy,
    /// `kill -9` of all nodes at once, and their starts.
    Power,
    /// `SIGTERM`, and a start.
    Restart,
    /// There is no room on its disk.
    DiskFull,
    /// `fsync` and `fdatasync` fail.
    Fsync,
    /// Its wall clock is off, from a start on.
    Clock,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill -9",
            Self::Pause => "SIGSTOP",
            Self::Cut(Cut::Both) => "cut off",
            Self::Cut(Cut::Deaf) => "deaf",
            Self::Cut(Cut::Mute) => "mute",
            Self::NoGossip => "no gossip",
            Self::Slow => "slow link",
            Self::Lossy => "lossy link",
            Self::Power => "all nodes killed",
            Self::Restart => "orderly restart",
            Self::DiskFull => "disk full",
            Self::Fsync => "fsync fails",
            Self::Clock => "wall clock off",
        })
    }
}

impl Fault {
    fn is_of_the_network(self) -> bool {
        matches!(self, Self::Cut(_) | Self::NoGossip | Self::Slow | Self::Lossy)
    }
}

/// Which faults can be made here, and what those need that can't.
pub struct Tools {
    pub faults: Vec<Fault>,
    pub missing: Vec<String>,
    fiu: Option<PathBuf>,
    faketime: Option<PathBuf>,
}

impl Tools {
    pub fn find(nodes: &Nodes) -> Self {
        let library = |name: &str| LIBRARIES.iter().map(|at| Path::new(at).join(name)).find(|path| path.exists());
        let (fiu, faketime) = (library("fiu/fiu_posix_preload.so"), library("faketime/libfaketime.so.1"));
        let mut faults = vec![Fault::Kill, Fault::Kill, Fault::Pause, Fault::Pause, Fault::Restart, Fault::Power];
        let mut missing = Vec::new();
        let mut add = |can: bool, some: &[Fault], needs: &str| match can {
            true => faults.extend(some),
            false => missing
                .push(format!("{} ({needs})", some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
        };
        add(nodes.network.can_cut(), &CUTS, "it needs network namespaces, veth and iptables");
        add(nodes.network.can_slow(), &[Fault::Slow], "it needs tc with htb and u32");
        add(nodes.network.can_lose(), &[Fault::Lossy], "it needs iptables' statistic match");
        add((0..nodes.len()).any(|node| nodes.has_disk(node)), &[Fault::DiskFull], "it needs the right to mount");
        add(fiu.is_some(), &[Fault::Fsync], "it needs fiu-utils");
        add(faketime.is_some(), &[Fault::Clock], "it needs libfaketime");
        Self { faults, missing, fiu, faketime }
    }
}

/// Makes faults until the time is over. Returns how many there were of each.
///
/// # Errors
/// If a fault can't be made or undone: that says nothing about the nodes.
pub async fn make(
    nodes: &mut Nodes,
    history: &History,
    tools: &Tools,
    random: &mut Random,
    until: Instant,
) -> Result<Vec<(String, u64)>> {
    let mut counts: Vec<(String, u64)> = Vec::new();
    // Each sort comes once before any comes twice.
    let mut turns: Vec<Fault> = Vec::new();
    while Instant::now() < until {
        sleep(Duration::from_millis(1_500 + random.below(2_500))).await;
        if turns.is_empty() {
            turns = tools.faults.clone();
        }
        let fault = turns.swap_remove(random.below(turns.len() as u64) as usize);
        let node = match (fault, nodes.leader().await) {
            (Fault::DiskFull, _) => {
                (0..nodes.len()).find(|node| nodes.has_disk(*node)).context("a node with a disk")?
            }
            (_, Some(leader)) if random.chance(40) => leader,
            _ => random.below(nodes.len() as u64) as usize,
        };
        let beside = beside(nodes, tools, random, fault, node);
        let began = history.now();
        // Open-ended, until it is known when it ended.
        history.inner.lock().faults.push((began, u64::MAX));
        let felt = two(nodes, history, tools, random, (fault, node), beside).await.with_context(|| match beside {
            None => format!("{fault}, node {node}"),
            Some((other, its)) => format!("{fault}, node {node}, and {other}, node {its}"),
        })?;
        let ended = history.now();
        let healed = nodes.healed(HEAL_WITHIN, LAG_MAX).await;
        let now = history.now();
        let mut inner = history.inner.lock();
        if let Some(last) = inner.faults.last_mut() {
            last.1 = now;
        }
        inner.excuses.extend(felt.into_iter().map(|(node, from)| (node, from, now)));
        let (at, lasted) = (Duration::from_nanos(began), Duration::from_nanos(ended - began));
        let beside = beside.map(|(fault, node)| format!(", {fault} node {node}")).unwrap_or_default();
        let node = if fault == Fault::Power { String::new() } else { format!(" node {node}") };
        print!("{at:>8.1?}  {fault:<16}{node}{beside} for {lasted:>5.1?}, ");
        let Some(healed) = healed else {
            println!("not healed");
            let sentence =
                format!("heal: {HEAL_WITHIN:?} after `{fault}`{node}{beside} at {at:.1?} not all nodes were well");
            inner.broken.push(sentence);
            return Ok(counts);
        };
        println!("healed after {healed:.1?}");
        inner.healings.push(u64::try_from(healed.as_nanos()).unwrap_or(u64::MAX));
        drop(inner);
        let name = fault.to_string() + if beside.is_empty() { "" } else { " and another" };
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    Ok(counts)
}

/// What is wrong with the network of another node at the same time, if anything.
fn beside(nodes: &Nodes, tools: &Tools, random: &mut Random, fault: Fault, node: usize) -> Option<(Fault, usize)> {
    let of_the_network: Vec<Fault> = tools.faults.iter().copied().filter(|fault| fault.is_of_the_network()).collect();
    if nodes.len() < NODES_FOR_TWO || fault == Fault::Power || of_the_network.is_empty() || random.chance(50) {
        return None;
    }
    let other = (node + 1 + random.below(nodes.len() as u64 - 1) as usize) % nodes.len();
    Some((of_the_network[random.below(of_the_network.len() as u64) as usize], other))
}

/// Makes a fault, and another one of the network that lasts as long. Returns whose callers may feel it, from when on.
async fn two(
    nodes: &mut Nodes,
    history: &History,
    tools: &Tools,
    random: &mut Random,
    (fault, node): (Fault, usize),
    beside: Option<(Fault, usize)>,
) -> Result<Vec<(usize, u64)>> {
    if let Some((other, its)) = beside {
        disturb(nodes, other, its).with_context(|| format!("{other}, node {its}"))?;
    }
    let felt = one(nodes, history, tools, random, fault, node).await?;
    if let Some((_, its)) = beside {
        nodes.network.mend(its)?;
    }
    Ok(felt)
}

/// Begins a fault of the network, which callers of the node don't feel.
fn disturb(nodes: &Nodes, fault: Fault, node: usize) -> Result<()> {
    match fault {
        Fault::Cut(cut) => nodes.network.cut(node, cut),
        Fault::NoGossip => nodes.network.cut_gossip(node),
        Fault::Slow => nodes.network.slow(node),
        Fault::Lossy => nodes.network.lose(node),
        _ => bail!("it is none of the network"),
    }
}

/// Makes one fault and undoes it. Returns whose callers may feel it, from when on.
async fn one(
    nodes: &mut Nodes,
    history: &History,
    tools: &Tools,
    random: &mut Random,
    fault: Fault,
    node: usize,
) -> Result<Vec<(usize, u64)>> {
    let a_while = Duration::from_millis(500 + random.below(6_500));
    let mut since = history.now();
    match fault {
        Fault::Kill => {
            nodes.kill(node).await?;
            sleep(a_while / 4).await;
            nodes.start(node, None, &[])?;
            nodes.ready(node).await?;
        }
        Fault::Pause => {
            nodes.signal(node, "STOP")?;
            sleep(a_while).await;
            nodes.signal(node, "CONT")?;
        }
        Fault::Cut(_) | Fault::NoGossip | Fault::Slow | Fault::Lossy => {
            disturb(nodes, fault, node)?;
            sleep(a_while).await;
            nodes.network.mend(node)?;
            return Ok(Vec::new());
        }
        Fault::Power => {
            nodes.kill_all().await?;
            sleep(a_while / 4).await;
            for node in 0..nodes.len() {
                nodes.start(node, None, &[])?;
            }
            for node in 0..nodes.len() {
                nodes.ready(node).await?;
            }
            return Ok((0..nodes.len()).map(|node| (node, since)).collect());
        }
        Fault::Restart => {
            nodes.signal(node, "TERM")?;
            ended(nodes, node, Duration::from_secs(20)).await.context("after SIGTERM")?;
            nodes.kill(node).await?;
            nodes.start(node, None, &[])?;
            nodes.ready(node).await?;
        }
        Fault::DiskFull => {
            nodes.fill(node, true)?;
            // It can't go on without its log, and says so; but its log has some room ahead.
            if ended(nodes, node, DISK_FULL_WITHIN).await.is_err() {
                let sentence = format!("disk: node {node} went on for {DISK_FULL_WITHIN:?} although there is no room");
                history.inner.lock().broken.push(sentence);
            }
            nodes.fill(node, false)?;
            nodes.kill(node).await?;
            nodes.start(node, None, &[])?;
            nodes.ready(node).await?;
        }
        Fault::Fsync => {
            let posix = tools.fiu.as_ref().context("fiu")?;
            let runner = posix.with_file_name("fiu_run_preload.so");
            let control = nodes.data(node).with_extension("fiu");
            let preload = format!("{} {}", runner.display(), posix.display());
            let fifo = control.to_string_lossy().into_owned();
            nodes.kill(node).await?;
            nodes.start(node, None, &[("LD_PRELOAD", &preload), ("FIU_CTRL_FIFO", &fifo), ("FIU_ENABLE", "")])?;
            nodes.ready(node).await?;
            let id = nodes.process_id(node).context("the node has ended")?.to_string();
            run("fiu-ctrl", &["-f", &fifo, "-c", "enable name=posix/io/sync/*", &id])?;
            if ended(nodes, node, Duration::from_secs(20)).await.is_err() {
                let sentence = format!("disk: node {node} went on for 20 s although no fsync succeeds");
                history.inner.lock().broken.push(sentence);
            }
            nodes.kill(node).await?;
            nodes.start(node, None, &[])?;
            nodes.ready(node).await?;
        }
        Fault::Clock => {
            let library = tools.faketime.as_ref().context("faketime")?.to_string_lossy().into_owned();
            let off = ["-30s", "+30s", "-1h", "+1h"][random.below(4) as usize];
            nodes.kill(node).await?;
            let environment = [
                ("LD_PRELOAD", library.as_str()),
                ("FAKETIME", off),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ("DONT_FAKE_MONOTONIC", "1"),
            ];
            nodes.start(node, None, &environment)?;
            nodes.ready(node).await.with_context(|| format!("with the clock {off} off"))?;
            // A clock that is off is felt by nobody.
            history.inner.lock().excuses.push((node, since, history.now()));
            sleep(a_while).await;
            since = history.now();
            nodes.kill(node).await?;
            nodes.start(node, None, &[])?;
            nodes.ready(node).await?;
        }
    }
    Ok(vec![(node, since)])
}

/// Waits until a node has ended by itself.
async fn ended(nodes: &mut Nodes, node: usize, within: Duration) -> Result<()> {
    let deadline = Instant::now() + within;
    while !nodes.has_ended(node)? {
        if Instant::now() >= deadline {
            bail!("node {node} still runs after {within:?}");
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
