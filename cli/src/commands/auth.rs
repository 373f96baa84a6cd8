//! `auth`: the Device and the Authenticators of the Session's own User.

mod authenticator;
mod device;

use clap::{Subcommand, ValueEnum};
use octelium_api::auth::authenticator::status::Type;

use crate::{
    output::{self, Format, plain},
    session::Cluster,
};

/// What to do.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Register this machine as a Device of the Session's User
    #[command(visible_alias = "dev")]
    Device(Device),
    /// Pass an Authenticator now, as a second factor of this Session
    #[command(visible_alias = "authn")]
    Authenticator {
        /// Its name
        name: String,
    },
    /// Create an Authenticator
    Create(Create),
    /// Show the Authenticators
    Get(Get),
    /// Delete an Authenticator
    #[command(visible_aliases = ["del", "rm"])]
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
struct Device {
    #[command(subcommand)]
    what: Option<DeviceWhat>,
}

#[derive(Debug, Subcommand)]
enum DeviceWhat {
    /// Register this machine; also without this word
    Register,
}

#[derive(Debug, clap::Args)]
struct Create {
    #[command(subcommand)]
    what: CreateWhat,
}

#[derive(Debug, Subcommand)]
enum CreateWhat {
    /// Create an Authenticator
    #[command(visible_alias = "authn")]
    Authenticator {
        /// What it is
        #[arg(long, value_enum)]
        r#type: Factor,
        /// What people call it
        #[arg(long, default_value = "", hide_default_value = true)]
        display_name: String,
        /// Print it instead of a sentence
        #[arg(short, long, visible_alias = "output", value_enum)]
        out: Option<Format>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Factor {
    Totp,
    Tpm,
}

#[derive(Debug, clap::Args)]
struct Get {
    #[command(subcommand)]
    what: GetWhat,
}

#[derive(Debug, Subcommand)]
enum GetWhat {
    /// Show the Authenticators, or one of them
    #[command(visible_aliases = ["authn", "authen", "authenticators"])]
    Authenticator {
        /// One Authenticator's name
        name: Option<String>,
        /// Output form; default: a table, or YAML with NAME
        #[arg(short, long, visible_alias = "output", value_enum)]
        out: Option<Format>,
    },
}

#[derive(Debug, clap::Args)]
struct Delete {
    #[command(subcommand)]
    what: DeleteWhat,
}

#[derive(Debug, Subcommand)]
enum DeleteWhat {
    /// Delete an Authenticator
    #[command(visible_aliases = ["authn", "authen"])]
    Authenticator {
        /// Its name
        name: String,
    },
}

/// Does it.
///
/// # Errors
/// If there is no Session of our own, or the server refuses.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.what {
        What::Device(Device { what: None | Some(DeviceWhat::Register) }) => device::register(cluster).await,
        What::Authenticator { name } => authenticator::pass(cluster, name).await,
        What::Create(Create { what: CreateWhat::Authenticator { r#type, display_name, out } }) => {
            let r#type = match r#type {
                Factor::Totp => Type::Totp,
                Factor::Tpm => Type::Tpm,
            };
            authenticator::create(cluster, r#type, display_name, *out).await
        }
        What::Get(Get { what: GetWhat::Authenticator { name: Some(name), out } }) => {
            authenticator::show(cluster, name, out.unwrap_or(Format::Yaml)).await
        }
        What::Get(Get { what: GetWhat::Authenticator { name: None, out } }) => authenticator::list(cluster, *out).await,
        What::Delete(Delete { what: DeleteWhat::Authenticator { name } }) => {
            authenticator::delete(cluster, name).await?;
            Ok(output::result(&format!("Authenticator {} deleted\n", plain(name)))?)
        }
    }
}
