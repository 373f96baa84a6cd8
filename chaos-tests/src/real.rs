//! Nodes as real processes under real faults: callers go on meanwhile, and afterwards it is judged what they saw.

pub(crate) mod client;
mod faults;
pub(crate) mod history;
pub(crate) mod load;
pub(crate) mod network;
pub(crate) mod nodes;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

use self::{history::History, load::World, network::Network, nodes::Nodes};
use crate::sim::Random;

/// So long all is quiet at the end, and then every node is asked.
const QUIET: Duration = Duration::from_secs(2);
/// After the last fault all nodes are as far as the others within this time.
const EQUAL_WITHIN: Duration = Duration::from_secs(30);

/// At the end each node answers within this time, by which callers may try again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What is run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How long faults are made, in minutes
    #[arg(long, default_value_t = 3.0, value_parser = minutes)]
    minutes: f64,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=7))]
    nodes: u8,
    /// Decides which faults come when; default: another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// The program of a node [default: octelium-node beside this program]
    #[arg(long, value_name = "FILE")]
    node_binary: Option<PathBuf>,
    /// Another version of that program: at first all nodes run it, then each takes turns between the two with each start
    #[arg(long, value_name = "FILE")]
    other_binary: Option<PathBuf>,
    /// All nodes on loopback, without namespaces: the network isn't cut
    #[arg(long)]
    loopback: bool,
    /// Keep logs and data also when nothing was broken
    #[arg(long)]
    keep: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    match minutes > 0.0 && minutes <= 1_440.0 {
        true => Ok(minutes),
        false => Err("it is not between 0 and 1440".to_owned()),
    }
}

/// Runs it; success if nothing was broken.
///
/// # Errors
/// If the run itself can't be made.
pub fn run(options: &Options) -> Result<ExitCode> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok(); // it is there already, if not
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let directory = std::env::temp_dir().join(format!("octelium-chaos-{}", std::process::id()));
    // Namespaces and disks have fixed names: a second run would take away those of the first.
    let lock = fs::File::create(std::env::temp_dir().join("octelium-chaos.lock"))?;
    if lock.try_lock().is_err() {
        bail!("another run is going on: wait until it has ended");
    }
    runtime.block_on(async {
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        // Whatever was made but files is taken away when the run is dropped.
        tokio::select! {
            done = run_here(options, &directory) => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted; what there is of logs is in {}", directory.display()),
            _ = terminated.recv() => bail!("told to stop; what there is of logs is in {}", directory.display()),
        }
    })
}

async fn run_here(options: &Options, directory: &Path) -> Result<ExitCode> {
    let program = match &options.node_binary {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("octelium-node"),
    };
    if !program.exists() {
        bail!(
            "there is no {}: build it with `cargo build -p octelium-node`, or say where it is with --node-binary",
            program.display()
        );
    }
    let programs = options.other_binary.iter().chain([&program]);
    let programs = programs.map(|program| program.canonicalize().with_context(|| program.display().to_string()));
    let programs = programs.collect::<Result<Vec<_>>>()?;
    let seed = options.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 % 1_000_000);
    fs::create_dir_all(directory)?;
    let count = usize::from(options.nodes);
    let network = Network::make(count, !options.loopback)?;
    nodes::unmount_left_behind();
    let mut nodes = Nodes::new(network, programs, directory.to_owned(), count);
    if let Err(error) = nodes.mount(count - 1) {
        println!("no disk of its own for a node: {error:#}");
    }
    let result = in_directory(options, &mut nodes, directory, seed).await;
    let is_kept = options.keep || !matches!(result, Ok(0));
    if is_kept && let Err(error) = nodes.keep_disks() {
        println!("what was on the disk of a node isn't kept: {error:#}");
    }
    drop(nodes);
    if is_kept {
        println!("logs and data: {}", directory.display());
    } else {
        fs::remove_dir_all(directory)?;
    }
    match result? {
        0 => Ok(ExitCode::SUCCESS),
        _ => {
            println!(
                "to run the same faults again: cargo run -p octelium-chaos-tests -- real --seed {seed} --nodes {count} --minutes {}",
                options.minutes
            );
            Ok(ExitCode::FAILURE)
        }
    }
}

/// How many promises were broken.
async fn in_directory(options: &Options, nodes: &mut Nodes, directory: &Path, seed: u64) -> Result<usize> {
    let count = nodes.len();
    nodes.found().await?;
    let history = Arc::new(History::new(load::REGISTERS));
    let addresses = (0..count).map(|node| nodes.network.address(node)).collect();
    let (ca, token) = (nodes.data(0).join("ca.pem"), fs::read_to_string(nodes.data(0).join("root.token"))?);
    let world = World::new(history.clone(), addresses, ca, token);
    world.prepare().await.context("making the resources")?;
    if nodes.healed(EQUAL_WITHIN, 0.0).await.is_none() {
        bail!("the nodes don't become one cluster");
    }
    let tools = faults::Tools::find(nodes);
    println!("{count} nodes, seed {seed}, {} minutes", options.minutes);
    for missing in &tools.missing {
        println!("left out: {missing}");
    }
    let mut callers = world.begin(seed);
    let until = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let made = faults::make(nodes, &history, &tools, &mut Random::new(seed), until).await;
    // Also if the run can't go on: it says what was seen until then.
    let counts = match made {
        Ok(counts) => counts,
        Err(error) => {
            callers.shutdown().await;
            fs::write(directory.join("history.txt"), history.text())?;
            return Err(error);
        }
    };

    tokio::time::sleep(QUIET).await;
    callers.shutdown().await;
    if nodes.healed(EQUAL_WITHIN, 0.0).await.is_none() {
        history.inner.lock().broken.push("heal: at the end the nodes don't agree on the state".to_owned());
    }
    for node in 0..count {
        for register in 0..load::REGISTERS {
            // A connection between nodes that a fault broke may be found broken only by the first who asks: like any caller, try again.
            let deadline = Instant::now() + ANSWER_WITHIN;
            while !world.read(node, register).await {
                if Instant::now() >= deadline {
                    let sentence = format!("heal: at the end node {node} doesn't answer within {ANSWER_WITHIN:?}");
                    history.inner.lock().broken.push(sentence);
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    let broken = history.judge(load::LIMIT, load::WINDOW, nodes::VIEW_AGE_MAX);
    let faults: Vec<_> = counts.iter().map(|(fault, count)| format!("{count} × {fault}")).collect();
    println!("\n{:<42}{}", "faults", faults.join(", "));
    let mut summary = history.summary(load::LIMIT, load::WINDOW);
    summary.push(("leaders of node 0's log", leaders(nodes).await));
    for (what, found) in summary {
        println!("{what:<42}{found}");
    }
    for sentence in &broken {
        println!("BROKEN  {sentence}");
    }
    println!("{}", if broken.is_empty() { "nothing was broken" } else { "promises were broken" });
    fs::write(directory.join("history.txt"), history.text())?;
    Ok(broken.len())
}

async fn leaders(nodes: &Nodes) -> String {
    let said = nodes.said(0).await.unwrap_or_default();
    format!("term {}", said.value("octelium_raft_term"))
}
