//! Runs clusters under faults, see `--help`.

use std::{ops::Range, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use octelium_chaos_tests::{
    bench, raft, real,
    sim::{self, Report},
};

#[derive(Parser)]
#[command(about = "Runs clusters under faults and tells which promises were broken")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Strict rate limits, or Raft, on simulated nodes, clocks, disks and networks
    Sim(Sim),
    /// Real nodes: killed, paused, cut off, with full disks and failing fsync, while callers go on
    Real(real::Options),
    /// How fast a cluster is, and what it costs
    Bench(bench::Options),
}

#[derive(Args)]
struct Sim {
    /// One seed: the same seed always gives the same run
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Many seeds, `A..B` without B
    #[arg(long, value_parser = range)]
    seeds: Option<Range<u64>>,
    /// How long each run is, in events
    #[arg(long, default_value_t = sim::STEPS, conflicts_with = "raft")]
    steps: u64,
    /// Raft itself and its disks, instead of rate limits
    #[arg(long)]
    raft: bool,
    /// How long each run with --raft is, in simulated seconds, before everything is healed
    #[arg(long, default_value_t = raft::SECONDS, requires = "raft")]
    seconds: u64,
    /// Prints what happened in a run with --raft
    #[arg(long, requires = "raft")]
    trace: bool,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.filter(|range: &Range<u64>| !range.is_empty()).ok_or_else(|| "it is not a range such as 0..2000".to_owned())
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Sim(arguments) if arguments.raft => simulate_raft(&arguments).unwrap_or_else(|error| failed(&error)),
        Command::Sim(arguments) => simulate(&arguments),
        Command::Real(options) => real::run(&options).unwrap_or_else(|error| failed(&error)),
        Command::Bench(options) => bench::run(&options).unwrap_or_else(|error| failed(&error)),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(2)
}

fn simulate(arguments: &Sim) -> ExitCode {
    let seeds = arguments.chosen();
    let one = seeds.end - seeds.start == 1;
    let (mut broken, mut admitted, mut refused, mut entries) = (0_u64, 0_u64, 0_u64, 0_u64);
    for seed in seeds.clone() {
        let report = sim::run(seed, arguments.steps, None);
        admitted += report.admitted;
        refused += report.refused;
        entries += report.entries;
        if one || !report.broken.is_empty() {
            tell(seed, &report);
        }
        if !report.broken.is_empty() {
            broken += 1;
            println!(
                "  to see it again: cargo run -p octelium-chaos-tests -- sim --seed {seed} --steps {}",
                arguments.steps
            );
        }
    }
    let runs = seeds.end - seeds.start;
    println!(
        "{runs} runs, {broken} broke a promise; {admitted} admitted, {refused} refused, {entries} entries in the log"
    );
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Sim {
    fn chosen(&self) -> Range<u64> {
        match (self.seed, self.seeds.clone()) {
            (Some(seed), _) => seed..seed + 1,
            (None, Some(seeds)) => seeds,
            (None, None) => 0..50,
        }
    }
}

fn simulate_raft(arguments: &Sim) -> anyhow::Result<ExitCode> {
    let seeds = arguments.chosen();
    let runs = seeds.end - seeds.start;
    let (mut broken, mut writes, mut reads, mut lost) = (0_u64, 0_u64, 0_u64, 0_u64);
    for seed in seeds {
        let report = raft::run(seed, arguments.seconds, None)?;
        (writes, reads, lost) = (writes + report.writes, reads + report.reads, lost + report.lost);
        if arguments.trace {
            report.lines.iter().for_each(|line| println!("{line}"));
        }
        if runs == 1 || !report.broken.is_empty() {
            println!(
                "seed {seed}: {} nodes, {} writes, {} reads, {} messages, {} entries, {} faults, {} changes of disks lost, trace {:016x}",
                report.nodes,
                report.writes,
                report.reads,
                report.messages,
                report.entries,
                report.faults,
                report.lost,
                report.trace
            );
            report.broken.iter().for_each(|broken| println!("  {broken}"));
        }
        if !report.broken.is_empty() {
            broken += 1;
            println!(
                "  to see it again: cargo run -p octelium-chaos-tests -- sim --raft --seed {seed} --seconds {} --trace",
                arguments.seconds
            );
        }
    }
    println!("{runs} runs, {broken} broke a promise; {writes} writes, {reads} reads, {lost} changes of disks lost");
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(seed: u64, report: &Report) {
    println!(
        "seed {seed}: {:?}, {} nodes, {:.1} s, {} admitted, {} refused, {} entries, {} leaders, {} faults, trace {:016x}",
        report.scenario,
        report.nodes,
        report.seconds,
        report.admitted,
        report.refused,
        report.entries,
        report.leaders,
        report.faults,
        report.trace
    );
    for broken in &report.broken {
        println!("  {broken}");
    }
}
