//! `restore`: makes the configuration what a backup says, as one change.

use std::{
    cell::RefCell,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context;
use octelium_api::control::{
    RestoreBackupRequest, RestoreBackupResponse,
    restore_backup_request::{Begin, Part},
};
use tokio::{
    fs::File,
    io::AsyncReadExt,
    sync::mpsc::{Sender, channel},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::passphrase::Passphrase;
use crate::{
    Usage,
    exit::{Exit, Failure},
    output::{self, plain},
    progress::Progress,
    prompt,
    session::Cluster,
    time::age,
};

/// A message carries so many bytes of the file.
const PART_BYTES: usize = 256 << 10;

/// What to restore, and how.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A file that `backup` wrote
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Check everything and count what would change, but change nothing
    #[arg(long)]
    dry_run: bool,
    /// Also delete what the backup doesn't have; system resources and Sessions stay
    #[arg(long)]
    prune: bool,
    /// Don't ask; needed where nobody could answer
    #[arg(short, long)]
    yes: bool,
}

/// Sends the backup and tells what it changed.
///
/// # Errors
/// If the file can't be read, nobody agreed, or the server refuses; nothing is changed then.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    let path = &arguments.file;
    let shown = || path.display().to_string();
    let bytes = std::fs::metadata(path).with_context(shown)?;
    if !bytes.is_file() {
        return Err(Usage(format!("{} is not a file", shown())).into());
    }
    let bytes = bytes.len();
    let passphrase = arguments.passphrase.read(false)?;
    agree(arguments, cluster.domain())?;
    cluster.authenticated().await?;
    let begin = Begin { passphrase: passphrase.to_vec(), dry_run: arguments.dry_run, prune: arguments.prune };
    let unread = RefCell::new(None);
    let answer = cluster
        .control_patiently(async |control| {
            let progress = Progress::bytes("sending the backup".to_owned(), bytes);
            let (sender, receiver) = channel(4);
            let read = send(path, begin.clone(), sender, &progress);
            let call = control.restore_backup(ReceiverStream::new(receiver));
            let read = async {
                read.await.map_err(|(error, sender)| {
                    *unread.borrow_mut() = Some(error);
                    // The stream must not end as if the file did, so its end is held until the call is given up.
                    (Status::cancelled("the file can't be read"), Some(sender))
                })
            };
            let call = async { call.await.map_err(|status| (status, None)) };
            tokio::try_join!(call, read).map(|(answer, ())| answer).map_err(|(status, _)| status)
        })
        .await;
    if let Some(error) = unread.into_inner() {
        return Err(error).with_context(shown);
    }
    Ok(output::result(&report(&answer?, arguments.dry_run))?)
}

/// Asks whoever is there; who isn't there must have said so beforehand.
fn agree(arguments: &Arguments, domain: &str) -> anyhow::Result<()> {
    if arguments.yes || arguments.dry_run {
        return Ok(());
    }
    if !prompt::possible() {
        return Err(
            Usage("restoring changes the whole configuration and nobody can be asked: give --yes".into()).into()
        );
    }
    let pruned = if arguments.prune { ", and delete what it doesn't have" } else { "" };
    let question =
        format!("Overwrite the configuration of {domain} with what {} says{pruned}?", arguments.file.display());
    match prompt::confirmed(&question)? {
        true => Ok(()),
        false => Err(Failure::new(Exit::Failed, "nothing was changed").into()),
    }
}

/// Sends the file in parts. On failure the sender comes back.
async fn send(
    path: &Path,
    begin: Begin,
    sender: Sender<RestoreBackupRequest>,
    progress: &Progress,
) -> Result<(), (io::Error, Sender<RestoreBackupRequest>)> {
    let mut file = match File::open(path).await {
        Ok(file) => file,
        Err(error) => return Err((error, sender)),
    };
    let mut part = Part::Begin(begin);
    loop {
        // A server that has heard enough answers, and that answer counts.
        if sender.send(RestoreBackupRequest { part: Some(part) }).await.is_err() {
            return Ok(());
        }
        let mut data = Vec::with_capacity(PART_BYTES);
        while data.len() < PART_BYTES {
            let room = (PART_BYTES - data.len()) as u64;
            match (&mut file).take(room).read_to_end(&mut data).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err((error, sender)),
            }
        }
        if data.is_empty() {
            return Ok(());
        }
        progress.advance(data.len() as u64);
        part = Part::Data(data);
    }
}

/// `2 created, 1 deleted`, and of what the backup was made.
fn report(answer: &RestoreBackupResponse, dry_run: bool) -> String {
    let counts = [
        (answer.created, "created"),
        (answer.updated, "updated"),
        (answer.deleted, "deleted"),
        (answer.unchanged, "unchanged"),
    ];
    let counts: Vec<_> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let counts = if counts.is_empty() { "no changes".to_owned() } else { counts.join(", ") };
    let prefix = if dry_run { "dry run: " } else { "" };
    let mut origin = String::new();
    if !answer.domain.is_empty() {
        origin.push_str(&format!(" of {}", plain(&answer.domain)));
    }
    if let Some(at) = &answer.created_at {
        origin.push_str(&format!(" made at {at}, {} ago", age(Some(at), SystemTime::now())));
    }
    let origin = if origin.is_empty() { origin } else { format!(" from a backup{origin}") };
    format!("{prefix}{counts}{origin}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_without_what_there_is_none_of() {
        let answer = RestoreBackupResponse { created: 2, deleted: 1, domain: "x.org".into(), ..Default::default() };
        assert_eq!(report(&answer, false), "2 created, 1 deleted from a backup of x.org\n");
        assert_eq!(report(&RestoreBackupResponse::default(), true), "dry run: no changes\n");
    }
}
