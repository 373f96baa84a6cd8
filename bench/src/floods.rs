//! Floods, one after the other, while honest callers go on: what they notice of it, and what it costs the node.
//!
//! Honest requests are due at fixed times, and their latency counts from then on, so that a stall isn't left out. Attackers come
//! from other addresses (127.0.0.2 and up). They share core 1 with the honest and the upstream, which is why each flood has a bounded
//! pace and attackers run with the least priority: what the honest notice is the node's doing.

mod attacks;
mod frames;
mod honest;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    task::LocalSet,
    time::{sleep, timeout},
};

use crate::{
    gateways::Node,
    soak::{self, Sample},
    varied,
};

/// Honest requests wait no longer than this, but for one in a hundred.
const P99_MAX: Duration = Duration::from_millis(50);
/// What the node may have kept when all is over.
const GROWTH_MIB: f64 = 64.0;
/// Files that stay open beyond those of a quiet node: connections kept to upstreams.
const SPARE_FILES: usize = 60;
/// Attackers and the upstream that only they use come last.
const NICE: i32 = 19;
/// For attackers to say what became of them.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Time for the node to see that a flood is over.
const SETTLE: Duration = Duration::from_secs(2);

/// What attackers know, and what became of them.
pub struct Target {
    /// Where the node speaks plain HTTP.
    pub address: SocketAddr,
    /// The end of this flood.
    pub until: Instant,
    /// How often what happened to attackers.
    pub outcomes: RefCell<BTreeMap<String, u64>>,
}

impl Target {
    /// Counts what happened.
    pub fn note(&self, outcome: impl Into<String>) {
        *self.outcomes.borrow_mut().entry(outcome.into()).or_default() += 1;
    }

    /// Whether the flood is over.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

/// Runs every flood whose name begins with `only` for `length` and prints a table; an error if honest callers or the node came to
/// harm.
pub async fn run(length: Duration, only: &str) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (upstream, background) = (varied::start(0)?, varied::start(NICE)?);
    let node = Node::start(&directory.path().join("node"), upstream, false).await?;
    let file = directory.path().join("floods.yaml");
    fs::write(&file, include_str!("floods.yaml").replace("BACKGROUND", &background.to_string()))?;
    node.ctl(&["apply", &file.display().to_string()])?;
    let node = Rc::new(node);

    println!("| flood | answered | failed | p50 ms | p99 ms | max ms | node's CPU | memory, MiB | what became of it |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut faults = Vec::new();
    // The first calm warms up, and isn't shown.
    phase(&node, None, length, &mut Vec::new()).await?;
    let quiet = Sample::take(&node)?;
    println!("{}", phase(&node, None, length, &mut faults).await?);
    for attack in attacks::ALL.iter().filter(|attack| attack.name.starts_with(only)) {
        println!("{}", phase(&node, Some(attack), length, &mut faults).await?);
        sleep(SETTLE).await;
    }
    println!("{}", phase(&node, None, length, &mut faults).await?);
    sleep(soak::SETTLE).await;
    let after = Sample::take(&node)?;
    println!("\nbefore: {quiet}; after: {after}");
    if after.rss_mib > quiet.rss_mib + GROWTH_MIB {
        faults.push(format!("memory grew from {:.1} to {:.1} MiB", quiet.rss_mib, after.rss_mib));
    }
    if after.files > quiet.files + SPARE_FILES {
        faults.push(format!("{} files are still open, {} were before", after.files, quiet.files));
    }
    if faults.is_empty() { Ok(()) } else { bail!(faults.join("; ")) }
}

/// One row of the table.
async fn phase(
    node: &Rc<Node>,
    attack: Option<&attacks::Attack>,
    length: Duration,
    faults: &mut Vec<String>,
) -> Result<String> {
    let name = attack.map_or("none", |attack| attack.name);
    let until = Instant::now() + length;
    let cpu = node.cpu()?;
    let attacking = attack
        .map(|attack| (attack.start, node.address))
        .map(|(start, address)| thread::spawn(move || attack_until(until, address, start)));
    let local = LocalSet::new();
    let honest = local.spawn_local(honest::load(node.clone(), until));
    let mut rss: f64 = 0.0;
    local
        .run_until(async {
            while Instant::now() < until {
                sleep(Duration::from_millis(200)).await;
                rss = rss.max(Sample::take(node)?.rss_mib);
            }
            anyhow::Ok(())
        })
        .await?;
    let seen = local.run_until(honest).await??;
    let used = (node.cpu()? - cpu).as_secs_f64() / length.as_secs_f64();
    if seen.failed > 0 {
        faults.push(format!("{name}: {} honest requests failed ({})", seen.failed, seen.first_fault()));
    }
    if seen.quantile(0.99) > P99_MAX {
        faults.push(format!("{name}: one honest request of a hundred took {:?}", seen.quantile(0.99)));
    }
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let outcomes = match attacking {
        Some(attacking) => attacking.join().ok().context("an attacker panicked")??,
        None => BTreeMap::new(),
    };
    let outcomes: Vec<String> = outcomes.iter().map(|(outcome, count)| format!("{count} × {outcome}")).collect();
    Ok(format!(
        "| {name} | {} | {} | {:.1} | {:.1} | {:.1} | {:.0} % | {rss:.0} | {} |",
        seen.answered(),
        seen.failed,
        ms(seen.quantile(0.5)),
        ms(seen.quantile(0.99)),
        ms(seen.quantile(1.0)),
        used * 100.0,
        outcomes.join(", "),
    ))
}

/// What became of the attackers.
fn attack_until(until: Instant, address: SocketAddr, start: attacks::Start) -> Result<BTreeMap<String, u64>> {
    // Of this thread only.
    rustix::process::nice(NICE)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let target = Rc::new(Target { address, until, outcomes: RefCell::default() });
    let attack = async { timeout(until - Instant::now() + LAST_WORDS, start(target.clone())).await };
    // Those that still wait for something are dropped with the set.
    if LocalSet::new().block_on(&runtime, attack).is_err() {
        target.note("some never ended");
    }
    Ok(target.outcomes.take())
}
