//! The commands, one file for each verb.

mod apply;
mod completion;
mod create;
mod delete;
mod explain;
mod get;
mod login;
mod logout;
mod version;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::{
    config::{self, Choice, Settings},
    session::Cluster,
};

/// What `octeliumctl` is asked to do.
#[derive(Debug, Parser)]
#[command(name = "octeliumctl", version, about = "Administers an Octelium cluster", propagate_version = true)]
pub struct Arguments {
    /// The cluster's domain; default: currentDomain of <home>/config.yaml
    #[arg(long, env = "OCTELIUM_DOMAIN", global = true)]
    domain: Option<String>,

    /// Where configuration and state are; `mem`: keep no state
    #[arg(long, env = "OCTELIUM_HOME", global = true, value_name = "PATH")]
    homedir: Option<String>,

    /// Where to connect, instead of octelium-api.<domain>:443
    #[arg(long, env = "OCTELIUM_ADDRESS", global = true, value_name = "HOST[:PORT]")]
    address: Option<String>,

    /// PEM certificates of the authorities to trust, instead of the system's
    #[arg(long, env = "OCTELIUM_CA_FILE", global = true, value_name = "PATH")]
    ca_file: Option<String>,

    /// Log out after a successful command [env: OCTELIUM_LOGOUT=]
    #[arg(long, global = true)]
    logout: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create and update resources from manifests, as one change
    Apply(apply::Arguments),
    /// Create a Secret, Credential or Namespace
    Create(create::Arguments),
    /// Delete resources
    #[command(visible_aliases = ["del", "rm"])]
    Delete(delete::Arguments),
    /// Show what the members of a kind mean; needs no cluster
    Explain(explain::Arguments),
    /// Show one resource, or list those of a kind
    Get(get::Arguments),
    /// Start a Session
    Login(login::Arguments),
    /// End the Session
    Logout,
    /// Show the version of this program
    Version(version::Arguments),
    /// Write a shell's completion script
    Completion(completion::Arguments),
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
    let mut cluster = match arguments.command {
        Command::Version(arguments) => return version::run(&arguments),
        Command::Completion(arguments) => return completion::run(&arguments),
        Command::Explain(arguments) => return explain::run(&arguments),
        Command::Logout => return logout::run(&mut open()?).await,
        Command::Apply(arguments) => {
            // Manifests are judged without any cluster.
            let documents = apply::read(&arguments)?;
            let mut cluster = open()?;
            apply::run(&mut cluster, &arguments, documents).await?;
            cluster
        }
        Command::Create(arguments) => with(open()?, async |cluster| create::run(cluster, &arguments).await).await?,
        Command::Delete(arguments) => with(open()?, async |cluster| delete::run(cluster, &arguments).await).await?,
        Command::Get(arguments) => with(open()?, async |cluster| get::run(cluster, &arguments).await).await?,
        Command::Login(arguments) => with(open()?, async |cluster| login::run(cluster, &arguments).await).await?,
    };
    if arguments.logout || config::flag("OCTELIUM_LOGOUT")? {
        cluster.logout().await.context("the command succeeded, but logging out did not")?;
    }
    Ok(())
}

/// Hands the cluster back once the command is done with it.
async fn with(
    mut cluster: Cluster,
    command: impl AsyncFnOnce(&mut Cluster) -> anyhow::Result<()>,
) -> anyhow::Result<Cluster> {
    command(&mut cluster).await?;
    Ok(cluster)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
