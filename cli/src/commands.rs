//! The commands, one file for each verb.

mod apply;
mod auth;
mod backup;
mod cluster;
mod clusters;
mod completion;
mod create;
mod delete;
mod edit;
mod explain;
mod export;
mod get;
mod lock;
mod login;
mod logout;
mod passphrase;
mod rate_limit;
mod restore;
mod session;
mod update;
mod version;
mod whoami;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, parser::ValueSource};
use clap_complete::ArgValueCandidates;

use crate::{
    Usage,
    config::{self, Choice, Settings},
    exit, names,
    session::Cluster,
};

/// What `octeliumctl` is asked to do.
#[derive(Debug, Parser)]
#[command(name = "octeliumctl", version, about = "Administers an Octelium cluster", propagate_version = true)]
#[command(after_help = exit::HELP, next_help_heading = "Global options")]
pub struct Arguments {
    /// The cluster's domain; default: currentDomain of <home>/config.yaml
    #[arg(long, env = "OCTELIUM_DOMAIN", global = true, add = ArgValueCandidates::new(names::domains))]
    domain: Option<String>,

    /// Where configuration and state are; `mem`: keep no state
    #[arg(long, env = "OCTELIUM_HOME", global = true, value_name = "PATH", value_hint = clap::ValueHint::DirPath)]
    homedir: Option<String>,

    /// Where to connect, instead of octelium-api.<domain>:443
    #[arg(long, env = "OCTELIUM_ADDRESS", global = true, value_name = "HOST[:PORT]")]
    address: Option<String>,

    /// PEM certificates of the authorities to trust, instead of the system's
    #[arg(long, env = "OCTELIUM_CA_FILE", global = true, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    ca_file: Option<String>,

    /// Log out after a successful command [env: OCTELIUM_LOGOUT=]
    #[arg(long, global = true)]
    logout: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create, update and, with --prune, delete resources by manifests, as one change
    Apply(apply::Arguments),
    /// Show one resource, or list those of a kind, once or with --watch as they change
    Get(get::Arguments),
    /// Change a resource in an editor
    Edit(edit::Arguments),
    /// Create a Secret, Config, Credential or Namespace
    Create(create::Arguments),
    /// Replace the data of a Secret or Config, or decide about a Device or Authenticator
    Update(update::Arguments),
    /// Delete resources
    #[command(visible_aliases = ["del", "rm"])]
    Delete(delete::Arguments),
    /// Suspend a User, Session, Credential, Device or IdentityProvider at once
    Lock(lock::Arguments),
    /// End a suspension
    Unlock(lock::Arguments),
    /// Write resources as manifests that `apply` takes back
    Export(export::Arguments),
    /// Save the whole configuration with its Secrets, sealed under a passphrase
    Backup(backup::Arguments),
    /// Make the configuration what a backup says: up to 12 MiB as one change, a larger one as several that can be made
    /// again
    Restore(restore::Arguments),
    /// Show what the members of a kind mean; needs no cluster
    Explain(explain::Arguments),
    /// Start a Session
    Login(login::Arguments),
    /// End the Session
    Logout,
    /// Show who is logged in
    Whoami(whoami::Arguments),
    /// End or suspend somebody's Session, and wait until no node lets it pass
    Session(session::Arguments),
    /// The cluster's nodes: how they are, and how they leave
    Cluster(cluster::Arguments),
    /// Who is near or over which strict rate limit, now
    #[command(name = "ratelimit")]
    RateLimit(rate_limit::Arguments),
    /// The Session's own Device and Authenticators
    Auth(auth::Arguments),
    /// The clusters that this program knows
    Config(clusters::Arguments),
    /// Show the version of this program
    Version(version::Arguments),
    /// Write a shell's completion script
    Completion(completion::Arguments),
}

impl Command {
    /// Whether it is about a cluster at all.
    fn needs_cluster(&self) -> bool {
        !matches!(self, Self::Version(_) | Self::Completion(_) | Self::Config(_) | Self::Explain(_))
    }
}

/// Reads the command line; what can't be understood ends the process with code 2.
pub fn parse() -> Arguments {
    let matches = Arguments::command().get_matches();
    let mut arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if matches!(arguments.command, Command::Config(_)) {
        // What config.yaml is to say is said on the command line alone.
        let environment = |id: &str| matches.value_source(id) == Some(ValueSource::EnvVariable);
        for (id, value) in [
            ("domain", &mut arguments.domain),
            ("address", &mut arguments.address),
            ("ca_file", &mut arguments.ca_file),
        ] {
            if environment(id) {
                *value = None;
            }
        }
    }
    arguments
}

/// Runs the command; `Ok` only if everything asked for was done.
///
/// # Errors
/// What was refused or failed.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let choice = Choice {
        home: arguments.homedir,
        domain: arguments.domain,
        address: arguments.address,
        ca_file: arguments.ca_file.map(Into::into),
    };
    let open = || Cluster::new(Settings::resolve(&choice)?);
    if arguments.logout && !arguments.command.needs_cluster() {
        return Err(Usage("--logout: this command has no Session that could end".into()).into());
    }
    // These need no cluster, or end the Session themselves.
    match &arguments.command {
        Command::Version(arguments) => return version::run(arguments),
        Command::Completion(arguments) => return completion::run(arguments),
        Command::Config(arguments) => return clusters::run(&choice, arguments).await,
        Command::Explain(arguments) => return explain::run(arguments),
        Command::Logout => return logout::run(&mut open()?).await,
        _ => {}
    }
    // Manifests are judged without any cluster.
    let documents = match &arguments.command {
        Command::Apply(arguments) => apply::read(arguments)?,
        _ => Vec::new(),
    };
    let mut cluster = open()?;
    let logout = arguments.logout || config::flag("OCTELIUM_LOGOUT")?;
    if logout {
        cluster.needs_kept_session()?;
    }
    match &arguments.command {
        Command::Apply(arguments) => Box::pin(apply::run(&mut cluster, arguments, documents)).await?,
        Command::Get(arguments) => Box::pin(get::run(&mut cluster, arguments)).await?,
        Command::Edit(arguments) => Box::pin(edit::run(&mut cluster, arguments)).await?,
        Command::Create(arguments) => Box::pin(create::run(&mut cluster, arguments)).await?,
        Command::Update(arguments) => Box::pin(update::run(&mut cluster, arguments)).await?,
        Command::Delete(arguments) => Box::pin(delete::run(&mut cluster, arguments)).await?,
        Command::Lock(arguments) => Box::pin(lock::run(&mut cluster, arguments, true)).await?,
        Command::Unlock(arguments) => Box::pin(lock::run(&mut cluster, arguments, false)).await?,
        Command::Export(arguments) => Box::pin(export::run(&mut cluster, arguments)).await?,
        Command::Backup(arguments) => Box::pin(backup::run(&mut cluster, arguments)).await?,
        Command::Restore(arguments) => Box::pin(restore::run(&mut cluster, arguments)).await?,
        Command::Login(arguments) => Box::pin(login::run(&mut cluster, arguments)).await?,
        Command::Whoami(arguments) => Box::pin(whoami::run(&mut cluster, arguments)).await?,
        Command::Session(arguments) => Box::pin(session::run(&mut cluster, arguments)).await?,
        Command::Cluster(arguments) => Box::pin(cluster::run(&mut cluster, arguments)).await?,
        Command::RateLimit(arguments) => Box::pin(rate_limit::run(&mut cluster, arguments)).await?,
        Command::Auth(arguments) => Box::pin(auth::run(&mut cluster, arguments)).await?,
        Command::Logout | Command::Config(_) | Command::Version(_) | Command::Completion(_) | Command::Explain(_) => {}
    }
    if logout {
        cluster.logout().await.context("the command succeeded, but logging out did not")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
