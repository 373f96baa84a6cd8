//! Runs clusters under faults, see `--help`.

use std::{ops::Range, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use octelium_chaos_tests::{
    bench, real,
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
    /// Strict rate limits on simulated nodes, clocks and networks
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
    #[arg(long, default_value_t = sim::STEPS)]
    steps: u64,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.filter(|range: &Range<u64>| !range.is_empty()).ok_or_else(|| "it is not a range such as 0..2000".to_owned())
}

fn main() -> ExitCode {
    match Cli::parse().command {
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
    let seeds = match (arguments.seed, arguments.seeds.clone()) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(seeds)) => seeds,
        (None, None) => 0..50,
    };
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
