//! Runs the real node beside nginx and prints CPU microseconds per request.
//!
//! The gateways share core 0, one worker each; load and upstream share core 1. Windows are interleaved, and what counts is the
//! gateway processes' own CPU time as the scheduler accounts it, so that a drifting clock speed hits all alike.

#![allow(clippy::disallowed_methods, reason = "a measurement ends with its process, and so do its tasks")]

mod floods;
mod gateways;
mod load;
mod process;
mod soak;
mod upstream;
mod varied;

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Parser;

use gateways::Gateway;

/// CPU µs per request of the node and of nginx, on this machine.
#[derive(Parser)]
struct Options {
    /// Rounds; each has one window for each gateway
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Length of a window in milliseconds
    #[arg(long, default_value_t = 2000)]
    window_ms: u64,
    /// Connections of the load generator
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Instead of comparing: mixed load for so many minutes, and what must hold of the node meanwhile
    #[arg(long, value_name = "MINUTES")]
    soak: Option<f64>,
    /// Instead of comparing: floods, while honest callers go on; with a text only those whose name begins with it
    #[arg(long, conflicts_with = "soak", value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    floods: Option<String>,
    /// Length of each flood
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Set when the process has pinned itself
    #[arg(long, hide = true)]
    pinned: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if !options.pinned {
        return pin();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(only) = &options.floods {
        return runtime.block_on(floods::run(Duration::from_secs_f64(options.seconds), only));
    }
    match options.soak {
        Some(minutes) => runtime.block_on(soak::run(Duration::from_secs_f64(minutes * 60.0))),
        None => runtime.block_on(run(&options)),
    }
}

/// Starts itself again on core 1.
fn pin() -> Result<()> {
    let status = Command::new("taskset")
        .args(["-c", "1"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg("--pinned")
        .status()
        .context("taskset (package util-linux) is needed")?;
    if status.success() { Ok(()) } else { bail!("the bench failed: {status}") }
}

async fn run(options: &Options) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let upstream = upstream::start().await?;
    let gateways = gateways::start(directory.path(), upstream).await?;
    for gateway in &gateways {
        load::check(gateway).await.with_context(|| gateway.name.to_owned())?;
    }
    let window = Duration::from_millis(options.window_ms);
    let mut figures: Vec<Vec<f64>> = vec![Vec::new(); gateways.len()];
    for round in 0..=options.rounds {
        let mut order: Vec<usize> = (0..gateways.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let figure = measure(&gateways[index], options.connections, window).await?;
            if round > 0 {
                figures[index].push(figure); // the first round warms up
            }
        }
    }
    report(&gateways, &figures);
    Ok(())
}

async fn measure(gateway: &Gateway, connections: usize, window: Duration) -> Result<f64> {
    let before = gateway.process.cpu()?;
    let requests = load::run(gateway, connections, window).await?;
    let used = gateway.process.cpu()? - before;
    if requests == 0 {
        bail!("{}: no request was answered", gateway.name);
    }
    Ok(used.as_nanos() as f64 / 1000.0 / requests as f64)
}

fn report(gateways: &[Gateway], figures: &[Vec<f64>]) {
    println!("| gateway | CPU µs per request, median | min – max | ratio to nginx by round, median |");
    println!("|---|---|---|---|");
    for (gateway, of_gateway) in gateways.iter().zip(figures) {
        let ratios: Vec<f64> = of_gateway.iter().zip(&figures[0]).map(|(one, nginx)| one / nginx).collect();
        let (low, high) =
            of_gateway.iter().fold((f64::MAX, 0.0_f64), |(low, high), one| (low.min(*one), high.max(*one)));
        println!("| {} | {:.1} | {low:.1} – {high:.1} | {:.2} |", gateway.name, median(of_gateway), median(&ratios));
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
