//! What an apply deletes: resources of the same owner or with the same labels that no manifest describes any more.

use std::collections::BTreeSet;

use octelium_api::{
    Kind, Object,
    control::{Change, change},
    manifest::Document,
};

use super::{Arguments, OWNER, count};
use crate::{
    Usage,
    exit::{Exit, Failure},
    kinds::full_name,
    output, pages,
    progress::Progress,
    prompt,
    session::Cluster,
};

/// What manifests make, and what may therefore go when they do.
const PRUNABLE: [Kind; 9] = [
    Kind::Service,
    Kind::Credential,
    Kind::User,
    Kind::Group,
    Kind::Policy,
    Kind::Namespace,
    Kind::IdentityProvider,
    Kind::Secret,
    Kind::Config,
];

/// The resources to delete.
///
/// # Errors
/// If any kind can't be listed: half a prune is none.
pub async fn find(cluster: &mut Cluster, arguments: &Arguments, documents: &[Document]) -> anyhow::Result<Vec<Object>> {
    let owner = arguments.owner()?;
    let described: BTreeSet<_> =
        documents.iter().map(|document| id(document.object.kind(), document.object.name())).collect();
    let progress = Progress::start("looking for what to delete".to_owned());
    let mut found = Vec::new();
    for kind in PRUNABLE {
        // Labels are anybody's, so they choose among the kinds that are applied; an owner's resources are all its own.
        let is_applied = documents.iter().any(|document| document.object.kind() == kind);
        if !arguments.takes(kind) || (owner.is_none() && !is_applied) {
            continue;
        }
        progress.say(format!("looking for what to delete: {kind}"));
        let Some(mut objects) = pages::every(cluster, kind).await? else { continue };
        objects.retain(|object| {
            !described.contains(&id(kind, object.name()))
                && !object.metadata().is_some_and(|metadata| metadata.is_system)
                && owner.as_deref().is_none_or(|owner| is_owned(object, owner))
                && arguments.selector.as_ref().is_none_or(|selector| selector.matches(object))
        });
        found.extend(objects);
    }
    Ok(found)
}

fn id(kind: Kind, name: &str) -> (Kind, String) {
    (kind, full_name(kind, name))
}

fn is_owned(object: &Object, owner: &str) -> bool {
    object.metadata().and_then(|metadata| metadata.annotations.get(OWNER)).is_some_and(|found| found == owner)
}

/// Deletes exactly what was found: if somebody changes it meanwhile, nothing of the whole change is made.
pub fn change(object: &Object) -> Change {
    Change {
        kind: object.kind().name().to_owned(),
        change: Some(change::Change::Delete(octelium_api::meta::ObjectReference {
            // The version is asked for beside it.
            resource_version: String::new(),
            ..object.reference()
        })),
        expected_version: object.resource_version().to_owned(),
    }
}

/// Asks whoever is there before anything is deleted; who isn't there must have said so beforehand.
///
/// # Errors
/// If the answer is no, or nobody could give one.
pub fn agree(arguments: &Arguments, pruned: &[Object]) -> anyhow::Result<()> {
    if pruned.is_empty() || arguments.dry_run || arguments.yes {
        return Ok(());
    }
    for object in pruned {
        output::warning(&format!("{} {} would be deleted", object.kind(), object.name()));
    }
    if !prompt::possible() {
        let resources = count(pruned.len(), "resource");
        let text = format!("{resources} would be deleted and nobody can be asked: give --yes; nothing was changed");
        return Err(Usage(text).into());
    }
    match prompt::confirmed(&format!("Delete {}?", count(pruned.len(), "resource")))? {
        true => Ok(()),
        false => Err(Failure::new(Exit::Failed, "nothing was changed").into()),
    }
}
