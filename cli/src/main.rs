//! `octeliumctl`: administers a cluster by its control API.

#![allow(clippy::disallowed_methods, reason = "a command reads the clock; nothing here decides about access")]

mod commands;
mod config;
mod connect;
mod diff;
mod kinds;
mod output;
mod refusal;
mod session;
mod state;
mod time;

use std::process::ExitCode;

use clap::Parser;

/// The arguments ask for what can't be; answered with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

fn main() -> ExitCode {
    let arguments = commands::Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&format!("{error:#}"));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn run(arguments: commands::Arguments) -> anyhow::Result<()> {
    // Fails only if a provider is installed already, which then is this one.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(commands::run(arguments))
}
