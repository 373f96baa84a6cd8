//! `octelium-node`: one node of the gateway.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use octelium_node::{
    cluster::{
        self,
        door::{self, Token as Created},
    },
    config::{Config, Settings, parse_duration},
    node::Node,
    quickstart,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A request makes some thirty short-lived allocations; figures in `docs/src/performance.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A node of the Octelium gateway: puts every API behind identity.
#[derive(Parser)]
#[command(version, about, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a node
    Start(WithFile),
    /// Check the settings and exit
    Check(WithFile),
    /// Make tokens with which other nodes join
    #[command(subcommand)]
    Token(Token),
    /// Begin anew with one data directory when most nodes of its cluster are lost for good
    Recover(Recover),
    /// Start a node with a demo upstream, for a first look: everything under ./octelium-data
    Quickstart(quickstart::Options),
}

#[derive(Subcommand)]
enum Token {
    /// Print what another node joins with: `octelium-node start --join …`. It is a secret, and good for one node
    Create(CreateToken),
}

#[derive(Args)]
struct CreateToken {
    /// How long it is good
    #[arg(long, default_value = "10m", value_name = "DURATION")]
    ttl: String,
    #[command(flatten)]
    file: WithFile,
}

#[derive(Args)]
struct Recover {
    /// The other nodes are stopped and won't start again with the data that they have
    #[arg(long)]
    others_are_gone: bool,
    #[command(flatten)]
    file: WithFile,
}

#[derive(Args)]
struct WithFile {
    /// YAML file with settings; environment variables and flags win over it
    #[arg(long, env = "OCTELIUM_NODE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl WithFile {
    fn check(self) -> Result<Config> {
        let file = self.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
        self.settings.over(file).check()
    }

    fn data_dir(self) -> Result<PathBuf> {
        let file = self.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
        Ok(self.settings.over(file).data_dir())
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where it can't be said, the exit code still tells.
            writeln!(std::io::stderr(), "octelium-node: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Check(with_file) => {
            let config = with_file.check()?;
            println!("the settings are valid: domain {}, {} worker(s)", config.domain, config.workers);
            Ok(())
        }
        Command::Start(with_file) => {
            let config = with_file.check()?;
            in_runtime(&config.log.clone(), async move {
                let mut signals = Signals::listen()?;
                // Boxed: it is large. A start can wait for other nodes, and so for ever.
                let node = tokio::select! {
                    node = Box::pin(Node::start(&config)) => node?,
                    () = signals.either() => return Ok(()),
                };
                until_stopped(signals, vec![node]).await
            })
        }
        Command::Token(Token::Create(create)) => create_token(create),
        Command::Recover(options) => recover(options),
        Command::Quickstart(options) => in_runtime(&options.log.clone(), async move {
            let signals = Signals::listen()?;
            quickstart::run(options, |nodes| until_stopped(signals, nodes)).await
        }),
    }
}

/// The control plane's runtime; workers have their own.
fn in_runtime(filter: &str, main: impl Future<Output = Result<()>>) -> Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok(); // fails only if it is installed already
    tracing_subscriber::fmt()
        // Raft tells much that only its authors can use, h2 a line for each fault of a peer; who wants it names it in the filter.
        .with_env_filter(tracing_subscriber::EnvFilter::try_new(format!(
            "openraft=error,h2=error,chitchat=error,{filter}"
        ))?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
        // A line that can't be written is lost; to tell of that at the same place would end the thread.
        .log_internal_errors(false)
        .with_target(false)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // Tasks still running at the end hold nothing that must be kept.
    let result = runtime.block_on(main);
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}

/// Heard from before the start: one that comes meanwhile is obeyed once the node can stop in order.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn either(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn create_token(create: CreateToken) -> Result<()> {
    let ttl = parse_duration(&create.ttl).filter(|ttl| ttl.as_secs() >= 1 && ttl.as_secs() <= 7 * 86_400);
    let ttl = ttl.with_context(|| format!("ttl: `{}` is not a duration from 1s to 168h, like 10m", create.ttl))?;
    let data_dir = create.file.data_dir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Created { token, address } = runtime.block_on(door::create_token(&data_dir, ttl))?;
    println!("{}@{address}", *token);
    eprintln!("Good for {} and for one node: octelium-node start --join TOKEN@{address} …", create.ttl);
    Ok(())
}

fn recover(options: Recover) -> Result<()> {
    let data_dir = options.file.data_dir()?;
    if !options.others_are_gone {
        bail!(
            "recover makes {} a cluster of its own, and what other nodes had beyond it is lost: as long as most of them can come \
             back, start them instead. If they can't: stop all of them, copy this directory, and say --others-are-gone",
            data_dir.display()
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let found = runtime.block_on(cluster::recover(&data_dir))?;
    println!(
        "Node {:016x} is a cluster of its own now, with all {} entries of its log; its cluster had {} nodes.",
        found.node, found.index, found.members
    );
    if found.undecided > 0 {
        println!("The last {} of them may not have been decided by the old cluster. They are kept.", found.undecided);
    }
    println!("Start it as usual, and let new nodes join: each with an empty data directory.");
    Ok(())
}

async fn until_stopped(signals: Signals, nodes: Vec<Node>) -> Result<()> {
    let Signals { mut interrupt, mut terminate } = signals;
    let failure = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        (failure, ..) = futures_util::future::select_all(nodes.iter().map(|node| Box::pin(node.failed()))) => Some(failure),
    };
    if let Some(failure) = failure {
        // The log can't be trusted to close: what was acknowledged is on disk already.
        return Err(failure);
    }
    tokio::select! {
        stopped = Node::stop_all(nodes) => stopped,
        _ = interrupt.recv() => Err(anyhow::anyhow!("stopped at once by a second signal")),
    }
}
