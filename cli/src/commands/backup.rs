//! `backup`: the whole configuration with its Secrets in one file, which nothing but its passphrase opens.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use octelium_api::control::CreateBackupRequest;

use super::passphrase::Passphrase;
use crate::{
    Usage,
    exit::{Exit, Failure},
    files::{self, Private},
    output,
    progress::Progress,
    refusal::Refusal,
    session::Cluster,
};

/// Where to write it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The file to write; only you may read it
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

/// Writes the backup; the file is there only once it is complete.
///
/// # Errors
/// If the file is there already, there is no passphrase, or the server refuses.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    let path = &arguments.file;
    if path == Path::new("-") {
        return Err(Usage("a backup is written to a file, not to stdout".into()).into());
    }
    files::check_free(path, arguments.force)?;
    let passphrase = arguments.passphrase.read(true)?;
    cluster.authenticated().await?;
    let bytes = tokio::select! {
        saved = save(cluster, path, arguments.force, &passphrase) => saved?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            return Err(Failure::new(Exit::Failed, "interrupted; nothing was written").into());
        }
    };
    Ok(output::result(&format!("Saved to {} ({bytes} bytes)\n", path.display()))?)
}

/// The length of the file.
async fn save(cluster: &mut Cluster, path: &Path, force: bool, passphrase: &[u8]) -> anyhow::Result<u64> {
    let mut file = Private::begin(path, force)?;
    let progress = Progress::start("saving the configuration".to_owned());
    let mut parts = cluster
        .control_patiently(async |control| {
            control.create_backup(CreateBackupRequest { passphrase: passphrase.to_vec() }).await
        })
        .await?;
    let mut bytes = 0;
    while let Some(part) = parts.message().await.map_err(Refusal::from).context("the backup broke off")? {
        bytes += part.data.len() as u64;
        file.write(&part.data)?;
        progress.say(format!("saving the configuration ({bytes} bytes)"));
    }
    drop(progress);
    if bytes == 0 {
        bail!("the server sent an empty backup; nothing was written");
    }
    file.finish()?;
    Ok(bytes)
}
