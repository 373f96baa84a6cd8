//! `create secret`: a value, or a certificate with its key.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use octelium_api::core::{
    Secret,
    secret::{Data, Spec, data, spec},
};

use super::{named, tell};
use crate::{Usage, input, output::Format, refusal::perhaps_done, session::Cluster};

/// The server takes no more, in bytes.
const VALUE_BYTES_MAX: u64 = 512 << 10;

/// The Secret to create.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Its name
    name: String,
    #[command(flatten)]
    content: Content,
    /// Print the Secret, without its value, instead of a sentence
    #[arg(short, long, visible_alias = "output", value_enum)]
    out: Option<Format>,
}

/// What a Secret is to hold.
#[derive(Debug, clap::Args)]
pub struct Content {
    #[command(flatten)]
    source: input::Source,
    /// What the Secret holds; default: cert where --cert is given, else value
    #[arg(long, value_enum)]
    r#type: Option<Type>,
    /// A file with a PEM certificate chain
    #[arg(long, value_name = "PATH", requires = "cert_key", conflicts_with_all = ["value", "file"])]
    cert: Option<PathBuf>,
    /// A file with the certificate's PEM private key
    #[arg(long, value_name = "PATH", requires = "cert")]
    cert_key: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Type {
    Value,
    Cert,
}

/// Creates the Secret.
///
/// # Errors
/// If the value can't be read, or the server refuses.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    let (public, data) = arguments.content.read(&arguments.name)?;
    let secret = Secret {
        metadata: Some(named(&arguments.name)),
        spec: Some(Spec { data: public }),
        data: Some(data),
        ..Default::default()
    };
    let created = cluster.core(async |core| core.create_secret(secret.clone()).await).await;
    tell(&created.map_err(perhaps_done)?.into(), arguments.out)
}

impl Content {
    /// The public part, which only a certificate has, and the secret one; typed at the terminal where no flag says it.
    ///
    /// # Errors
    /// If the flags contradict each other, or the value can't be read.
    pub fn read(&self, name: &str) -> anyhow::Result<(Option<spec::Data>, Data)> {
        let (public, data) = match (&self.cert, &self.cert_key) {
            (Some(_), Some(_)) if self.r#type == Some(Type::Value) => {
                return Err(Usage("--cert and --type value exclude each other".into()).into());
            }
            (Some(cert), Some(key)) => {
                // The chain is public and lies in `spec`; the key is not.
                let chain = spec::Data { r#type: Some(spec::data::Type::Value(text(cert)?)) };
                (Some(chain), data::Type::Value(text(key)?))
            }
            _ if self.r#type == Some(Type::Cert) => {
                return Err(Usage("--type cert needs --cert and --cert-key".into()).into());
            }
            _ => {
                let value = match self.source.read(VALUE_BYTES_MAX)? {
                    Some(value) => value,
                    None => input::typed(&format!("Value of Secret `{name}`: "), VALUE_BYTES_MAX)?,
                };
                (None, data::Type::ValueBytes(value))
            }
        };
        Ok((public, Data { r#type: Some(data) }))
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(input::read(path, VALUE_BYTES_MAX)?).with_context(|| format!("{} is not PEM", path.display()))
}
