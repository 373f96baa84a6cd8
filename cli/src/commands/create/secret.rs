//! `create secret`: a value, or a certificate with its key.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use octelium_api::core::{
    Secret,
    secret::{self, Data, Spec, data, spec},
};

use super::{named, tell};
use crate::{Usage, output::Format, session::Cluster};

/// The server takes no more, in bytes.
const VALUE_BYTES_MAX: u64 = 512 << 10;

/// The Secret to create.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Its name
    name: String,
    /// The value; others on this machine can see it while the command runs, so better use --file or the prompt
    #[arg(long, allow_hyphen_values = true)]
    value: Option<String>,
    /// A file with the value, or `-` for stdin; its bytes are stored as they are
    #[arg(short, long, value_name = "PATH|-")]
    file: Option<PathBuf>,
    /// What the Secret holds; default: cert where --cert is given, else value
    #[arg(long, value_enum)]
    r#type: Option<Type>,
    /// A file with a PEM certificate chain
    #[arg(long, value_name = "PATH", requires = "cert_key", conflicts_with_all = ["value", "file"])]
    cert: Option<PathBuf>,
    /// A file with the certificate's PEM private key
    #[arg(long, value_name = "PATH", requires = "cert")]
    cert_key: Option<PathBuf>,
    /// Print the Secret, without its value, instead of a sentence
    #[arg(short, long, visible_alias = "output", value_enum)]
    out: Option<Format>,
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
    let (spec, data) = match (&arguments.cert, &arguments.cert_key) {
        (Some(_), Some(_)) if arguments.r#type == Some(Type::Value) => {
            return Err(Usage("--cert and --type value exclude each other".into()).into());
        }
        (Some(cert), Some(key)) => certificate(cert, key)?,
        _ if arguments.r#type == Some(Type::Cert) => {
            return Err(Usage("--type cert needs --cert and --cert-key".into()).into());
        }
        _ => (Spec::default(), data::Type::ValueBytes(value(arguments)?)),
    };
    let secret = Secret {
        metadata: Some(named(&arguments.name)),
        spec: Some(spec),
        data: Some(Data { r#type: Some(data) }),
        ..Default::default()
    };
    let created = cluster.core(async |core| core.create_secret(secret.clone()).await).await?;
    tell(&created.into(), arguments.out)
}

/// The chain is public and lies in `spec`; the key is not.
fn certificate(cert: &Path, key: &Path) -> anyhow::Result<(Spec, secret::data::Type)> {
    let text = |path: &Path| -> anyhow::Result<String> {
        String::from_utf8(read(path)?).with_context(|| format!("{} is not PEM", path.display()))
    };
    let spec = Spec { data: Some(spec::Data { r#type: Some(spec::data::Type::Value(text(cert)?)) }) };
    Ok((spec, data::Type::Value(text(key)?)))
}

/// The file's bytes, else the value given, else what is typed.
fn value(arguments: &Arguments) -> anyhow::Result<Vec<u8>> {
    let value = if let Some(path) = &arguments.file {
        return read(path);
    } else if let Some(value) = &arguments.value {
        value.clone()
    } else if io::stdin().is_terminal() {
        rpassword::prompt_password(format!("Value of Secret `{}`: ", arguments.name))?
    } else {
        return Err(Usage("no value: give --value, --file PATH, or --file - for stdin".into()).into());
    };
    checked(value.into_bytes()).context("the value")
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let shown = || path.display().to_string();
    if path == Path::new("-") {
        io::stdin().lock().take(VALUE_BYTES_MAX + 1).read_to_end(&mut bytes).context("stdin")?;
        return checked(bytes).context("stdin");
    }
    File::open(path).with_context(shown)?.take(VALUE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(shown)?;
    checked(bytes).with_context(shown)
}

fn checked(bytes: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    match bytes.len() as u64 {
        0 => bail!("is empty"),
        1..=VALUE_BYTES_MAX => Ok(bytes),
        _ => bail!("is larger than {VALUE_BYTES_MAX} bytes"),
    }
}
