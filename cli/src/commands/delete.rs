//! `delete`: deletes resources by name.

use clap_complete::{ArgValueCandidates, ArgValueCompleter};
use octelium_api::Kind;

use crate::{
    Usage,
    exit::{self, Exit, Failure},
    kinds::{self, full_name},
    names,
    output::{self, plain},
    refusal::perhaps_done,
    session::Cluster,
};

/// What to delete.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The kind, e.g. service, user, policy
    #[arg(value_parser = kinds::parse, add = ArgValueCandidates::new(kinds::candidates))]
    kind: Kind,
    /// Names; a Service without a Namespace is in `default`
    #[arg(required = true, value_name = "NAME", add = ArgValueCompleter::new(names::complete))]
    names: Vec<String>,
}

/// Deletes one after the other; one that can't be deleted doesn't keep the others.
///
/// # Errors
/// If any couldn't be deleted.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    let kind = arguments.kind;
    if kind == Kind::ClusterConfig || kind.is_read_only() {
        return Err(Usage(format!("a {kind} cannot be deleted")).into());
    }
    let mut failures = Vec::new();
    for name in &arguments.names {
        let name = full_name(kind, name);
        match cluster.core(async |core| kinds::delete(core, kind, &name).await).await {
            Ok(()) => output::result(&format!("{kind} {} deleted\n", plain(&name)))?,
            Err(error) => {
                let error = names::with_hint(cluster, kind, &name, perhaps_done(error)).await;
                failures.push(exit::of(&error));
                output::error(&format!("{kind} {name}: {error:#}"));
            }
        }
    }
    let Some(first) = failures.first() else { return Ok(()) };
    // Different reasons have no code in common.
    let exit = if failures.iter().all(|exit| exit == first) { *first } else { Exit::Failed };
    Err(Failure::new(exit, format!("{} of {} not deleted", failures.len(), arguments.names.len())).into())
}
