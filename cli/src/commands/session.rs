//! `session`: ends or suspends somebody's Session, and waits until no node lets it pass.

use std::time::Duration;

use clap::Subcommand;
use octelium_api::{
    Kind,
    control::{ApplyRequest, Change, SetLockRequest, change},
};
use tokio::time::Instant;

use super::apply::wait;
use crate::{
    kinds, names,
    output::{self, plain},
    session::Cluster,
};

/// What to do.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// End a Session: its requests are refused and its open streams are cut
    Revoke(Which),
    /// Suspend a Session until it is unlocked
    Lock(Which),
    /// End a suspension
    Unlock(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The Session's name
    name: String,
    /// Wait until every node that can be reached goes by it, and say how long that took
    #[arg(long)]
    wait: bool,
    /// With --wait: at most so many seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// Does it.
///
/// # Errors
/// If there is no such Session, the server refuses, or the wait takes too long.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    let (which, done, effect) = match &arguments.command {
        Command::Revoke(which) => (which, "revoked", "refused"),
        Command::Lock(which) => (which, "locked", "refused"),
        Command::Unlock(which) => (which, "unlocked", "let pass"),
    };
    let began = Instant::now();
    let index = match &arguments.command {
        Command::Revoke(_) => revoke(cluster, &which.name).await?,
        Command::Lock(_) => set_lock(cluster, &which.name, true).await?,
        Command::Unlock(_) => set_lock(cluster, &which.name, false).await?,
    };
    let name = plain(&which.name);
    if !which.wait {
        return Ok(output::result(&format!("Session {name} {done}\n"))?);
    }
    wait::until(cluster, index, Duration::from_secs(which.timeout)).await?;
    let took = began.elapsed().as_millis();
    Ok(output::result(&format!("Session {name} {done}; {effect} by every node that can be reached after {took} ms\n"))?)
}

/// The log index of the change.
async fn revoke(cluster: &mut Cluster, name: &str) -> anyhow::Result<u64> {
    let session = cluster.core(async |core| kinds::get(core, Kind::Session, name).await).await;
    let session = match session {
        Ok(session) => session,
        Err(error) => return Err(names::with_hint(cluster, Kind::Session, name, error).await),
    };
    let change = Change {
        kind: Kind::Session.name().to_owned(),
        change: Some(change::Change::Delete(session.reference())),
        ..Change::default()
    };
    let request =
        ApplyRequest { request_id: uuid::Uuid::new_v4().to_string(), changes: vec![change], ..ApplyRequest::default() };
    Ok(cluster.control(async |control| control.apply(request.clone()).await).await?.index)
}

async fn set_lock(cluster: &mut Cluster, name: &str, is_locked: bool) -> anyhow::Result<u64> {
    let reference = octelium_api::meta::ObjectReference {
        kind: Kind::Session.name().to_owned(),
        name: name.to_owned(),
        ..octelium_api::meta::ObjectReference::default()
    };
    let request = SetLockRequest { kind: Kind::Session.name().to_owned(), r#ref: Some(reference), is_locked };
    match cluster.control(async |control| control.set_lock(request.clone()).await).await {
        Ok(answer) => Ok(answer.index),
        Err(error) => Err(names::with_hint(cluster, Kind::Session, name, error).await),
    }
}
