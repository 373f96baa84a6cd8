//! `octeliumctl`: administers a cluster by its control API.

#![allow(clippy::disallowed_methods, reason = "a command reads the clock; nothing here decides about access")]

mod commands;
mod config;
mod connect;
mod diff;
mod exit;
mod files;
mod input;
mod jsonpath;
mod kinds;
mod names;
mod output;
mod pages;
mod portable;
mod progress;
mod prompt;
mod refusal;
mod selector;
mod session;
mod state;
mod suggest;
mod time;

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::CompleteEnv;

/// The arguments ask for what can't be; answered with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

fn main() -> ExitCode {
    // Where a shell asks what could come next, the answer is all that is printed.
    CompleteEnv::with_factory(commands::Arguments::command).complete();
    let arguments = commands::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(mut error) => {
            let text = format!("{error:#}");
            if let Some(refusal) = error.downcast_mut::<refusal::Refusal>() {
                // What the sentence says already needs no line of its own.
                refusal
                    .take_violations()
                    .iter()
                    .filter(|violation| !text.contains(&violation.description))
                    .for_each(|violation| output::place(&violation.to_string()));
            }
            output::error(&text);
            ExitCode::from(exit::of(&error) as u8)
        }
    }
}

fn run(arguments: commands::Arguments) -> anyhow::Result<()> {
    // Fails only if a provider is installed already, which then is this one.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(commands::run(arguments))
}
