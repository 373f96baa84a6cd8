//! `delete`: deletes resources by name.

use anyhow::bail;
use octelium_api::Kind;

use crate::{
    Usage,
    kinds::{self, full_name},
    output::{self, plain},
    session::Cluster,
};

/// What to delete.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The kind, e.g. service, user, policy
    #[arg(value_parser = kinds::parse)]
    kind: Kind,
    /// Names; a Service without a Namespace is in `default`
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Deletes one after the other; one that can't be deleted doesn't keep the others.
///
/// # Errors
/// If any couldn't be deleted.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    let kind = arguments.kind;
    if kind == Kind::ClusterConfig {
        return Err(Usage("the ClusterConfig cannot be deleted".into()).into());
    }
    let mut failed = 0;
    for name in &arguments.names {
        let name = full_name(kind, name);
        match cluster.core(async |core| kinds::delete(core, kind, &name).await).await {
            Ok(()) => output::result(&format!("{kind} {} deleted\n", plain(&name)))?,
            Err(error) => {
                failed += 1;
                output::error(&format!("{kind} {name}: {error:#}"));
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} not deleted", arguments.names.len());
    }
    Ok(())
}
