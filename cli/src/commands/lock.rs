//! `lock` and `unlock`: suspends somebody or something at once, whatever its spec says, and ends that.

use clap_complete::{ArgValueCandidates, ArgValueCompleter};
use octelium_api::{Kind, control::SetLockRequest, meta::ObjectReference};

use crate::{
    Usage,
    kinds::{self, full_name},
    names,
    output::{self, plain},
    session::Cluster,
};

/// What can be suspended.
const LOCKABLE: [Kind; 5] = [Kind::User, Kind::Session, Kind::Credential, Kind::Device, Kind::IdentityProvider];

/// What to suspend.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The kind: user, session, credential, device or identityprovider
    #[arg(value_parser = kinds::parse, add = ArgValueCandidates::new(candidates))]
    kind: Kind,
    /// Its name
    #[arg(add = ArgValueCompleter::new(names::complete))]
    name: String,
}

fn candidates() -> Vec<clap_complete::CompletionCandidate> {
    LOCKABLE.iter().map(|kind| kind.name().to_ascii_lowercase().into()).collect()
}

/// Suspends it, or ends that.
///
/// # Errors
/// If there is no such resource, it can't be suspended, or the server refuses.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments, is_locked: bool) -> anyhow::Result<()> {
    let kind = arguments.kind;
    if !LOCKABLE.contains(&kind) {
        let lockable: Vec<_> = LOCKABLE.iter().map(|kind| kind.name()).collect();
        return Err(Usage(format!("a {kind} can't be locked; expected one of {}", lockable.join(", "))).into());
    }
    let name = full_name(kind, &arguments.name);
    let request = SetLockRequest {
        kind: kind.name().to_owned(),
        r#ref: Some(ObjectReference { kind: kind.name().to_owned(), name: name.clone(), ..Default::default() }),
        is_locked,
    };
    let answer = match cluster.control(async |control| control.set_lock(request.clone()).await).await {
        Ok(answer) => answer,
        Err(error) => return Err(names::with_hint(cluster, kind, &name, error).await),
    };
    let word = match (is_locked, answer.index) {
        (true, 0) => "is locked already",
        (true, _) => "locked",
        (false, 0) => "is not locked",
        (false, _) => "unlocked",
    };
    Ok(output::result(&format!("{kind} {} {word}\n", plain(&name)))?)
}
