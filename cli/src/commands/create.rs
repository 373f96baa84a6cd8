//! `create`: what is created by a command rather than by a manifest.

pub mod config;
mod credential;
pub mod secret;

use clap::Subcommand;
use octelium_api::{Object, core, meta::Metadata};

use crate::{
    output::{self, Format, plain},
    refusal::perhaps_done,
    session::Cluster,
};

/// What to create.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Create a Namespace
    #[command(visible_alias = "ns")]
    Namespace(Namespace),
    /// Create a Secret
    #[command(visible_aliases = ["sec", "secrets"])]
    Secret(secret::Arguments),
    /// Create a Config
    #[command(visible_aliases = ["cfg", "conf"])]
    Config(config::Arguments),
    /// Create a Credential and its token
    #[command(visible_aliases = ["cred", "creds", "credentials"])]
    Credential(credential::Arguments),
}

#[derive(Debug, clap::Args)]
struct Namespace {
    /// Its name
    name: String,
    /// Print the Namespace instead of a sentence
    #[arg(short, long, visible_alias = "output", value_enum)]
    out: Option<Format>,
}

/// Creates it.
///
/// # Errors
/// If the input can't be read, or the server refuses.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.what {
        What::Namespace(arguments) => {
            let namespace = core::Namespace {
                metadata: Some(named(&arguments.name)),
                spec: Some(core::namespace::Spec::default()),
                ..Default::default()
            };
            let created = cluster.core(async |core| core.create_namespace(namespace.clone()).await).await;
            tell(&created.map_err(perhaps_done)?.into(), arguments.out)
        }
        What::Secret(arguments) => secret::run(cluster, arguments).await,
        What::Config(arguments) => config::run(cluster, arguments).await,
        What::Credential(arguments) => credential::run(cluster, arguments).await,
    }
}

fn named(name: &str) -> Metadata {
    Metadata { name: name.to_owned(), ..Default::default() }
}

/// Says that `object` was created, or shows it in the form asked for.
fn tell(object: &Object, out: Option<Format>) -> anyhow::Result<()> {
    let text = match out {
        Some(format) => output::resource(object, format)?,
        None => sentence(object),
    };
    Ok(output::result(&text)?)
}

fn sentence(object: &Object) -> String {
    format!("{} `{}` successfully created\n", object.kind(), plain(object.name()))
}
