//! `restore`: makes the configuration what a backup says, as one change or, a large one, as several.

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
    refusal::Refusal,
    session::Cluster,
    time::age,
};

/// A message carries so many bytes of the file.
const PART_BYTES: usize = 256 << 10;
/// A file of at most this size is surely restored as one change. The server makes such of up to 12 MiB, in which each
/// resource is larger than in the file.
const ONE_CHANGE_BYTES: u64 = 6 << 20;

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
/// If the file can't be read, nobody agreed, or the server refuses the check; nothing is changed then. If it fails later.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    let path = &arguments.file;
    let shown = || path.display().to_string();
    let bytes = std::fs::metadata(path).with_context(shown)?;
    if !bytes.is_file() {
        return Err(Usage(format!("{} is not a file", shown())).into());
    }
    let bytes = bytes.len();
    if !arguments.yes && !arguments.dry_run && !prompt::possible() {
        let text = "restoring changes the whole configuration and nobody can be asked: give --yes";
        return Err(Usage(text.into()).into());
    }
    let passphrase = arguments.passphrase.read(false)?;
    cluster.authenticated().await?;
    let begin = Begin { passphrase: passphrase.to_vec(), dry_run: true, prune: arguments.prune };
    // What can be refused is refused here, and what is agreed to is known.
    let checked = upload(cluster, path, bytes, &begin).await?;
    if let Some(warning) = foreign(&checked, cluster.domain()) {
        output::warning(&warning);
    }
    if arguments.dry_run {
        return Ok(output::result(&report(&checked, true))?);
    }
    if !arguments.yes && !prompt::confirmed(&question(&checked, path, cluster.domain(), arguments.prune))? {
        return Err(Failure::new(Exit::Failed, "nothing was changed").into());
    }
    let begin = Begin { dry_run: false, ..begin };
    let answer = upload(cluster, path, bytes, &begin).await.map_err(|error| midway(error, bytes))?;
    Ok(output::result(&report(&answer, false))?)
}

/// Sends the whole file.
async fn upload(
    cluster: &mut Cluster,
    path: &Path,
    bytes: u64,
    begin: &Begin,
) -> anyhow::Result<RestoreBackupResponse> {
    let text = if begin.dry_run { "checking the backup" } else { "restoring the backup" };
    let unread = RefCell::new(None);
    let answer = cluster
        .control_patiently(async |control| {
            let progress = Progress::bytes(text.to_owned(), bytes);
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
        return Err(error).with_context(|| path.display().to_string());
    }
    answer
}

/// What is asked before anything is changed.
fn question(checked: &RestoreBackupResponse, path: &Path, domain: &str, prune: bool) -> String {
    let pruned = if prune { ", and delete what it doesn't have" } else { "" };
    let what = format!("{}{}", counts(checked), origin(checked));
    format!("Overwrite the configuration of {domain} with what {} says{pruned} ({what})?", path.display())
}

/// Warns of a backup that was made elsewhere.
fn foreign(checked: &RestoreBackupResponse, domain: &str) -> Option<String> {
    let is_foreign = !checked.domain.is_empty() && !checked.domain.eq_ignore_ascii_case(domain);
    is_foreign.then(|| format!("the backup is of another cluster: {}, and this one is {domain}", checked.domain))
}

/// Says what is left of a restore that failed after its check was passed.
fn midway(error: anyhow::Error, bytes: u64) -> anyhow::Error {
    let perhaps = error
        .downcast_ref::<Refusal>()
        .is_some_and(|refusal| !refusal.is_unsent() && (!refusal.is_settled() || bytes > ONE_CHANGE_BYTES));
    if perhaps { error.context("part of it may be restored; run it again") } else { error }
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
    let prefix = if dry_run { "dry run: " } else { "" };
    format!("{prefix}{}{}\n", counts(answer), origin(answer))
}

fn counts(answer: &RestoreBackupResponse) -> String {
    let counts = [
        (answer.created, "created"),
        (answer.updated, "updated"),
        (answer.deleted, "deleted"),
        (answer.unchanged, "unchanged"),
    ];
    let counts: Vec<_> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if counts.is_empty() { "no changes".to_owned() } else { counts.join(", ") }
}

/// ` from a backup of x.org made at …`, as far as it is known.
fn origin(answer: &RestoreBackupResponse) -> String {
    let mut origin = String::new();
    if !answer.domain.is_empty() {
        origin.push_str(&format!(" of {}", plain(&answer.domain)));
    }
    if let Some(at) = &answer.created_at {
        origin.push_str(&format!(" made at {at}, {} ago", age(Some(at), SystemTime::now())));
    }
    if origin.is_empty() { origin } else { format!(" from a backup{origin}") }
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

    #[test]
    fn the_question_says_what_would_change_and_where_it_comes_from() {
        let created_at = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 });
        let checked =
            RestoreBackupResponse { updated: 3, deleted: 1, domain: "x.org".into(), created_at, ..Default::default() };
        let asked = question(&checked, Path::new("a.backup"), "x.org", true);
        let begin = "Overwrite the configuration of x.org with what a.backup says, and delete what it doesn't have \
                     (3 updated, 1 deleted from a backup of x.org made at 2023-11-14T22:13:20Z, ";
        assert!(asked.starts_with(begin) && asked.ends_with(" ago)?"), "{asked}");
        assert_eq!(foreign(&checked, "X.org"), None);
        assert!(foreign(&checked, "y.org").unwrap().contains("another cluster: x.org, and this one is y.org"));
    }

    #[test]
    fn what_may_be_half_done_is_told() {
        let told = |status: Status, bytes| midway(Refusal::from(status).into(), bytes).to_string();
        let half = "part of it may be restored; run it again";
        assert_eq!(told(Status::unavailable("lost"), 1_000), half);
        assert_eq!(told(Status::out_of_range("changed"), ONE_CHANGE_BYTES + 1), half);
        assert_eq!(told(Status::out_of_range("changed"), 1_000), "out of range: changed");
        assert_eq!(midway(anyhow::anyhow!("no token"), u64::MAX).to_string(), "no token");
    }
}
