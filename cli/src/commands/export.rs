//! `export`: resources as manifests that `apply` takes back, and that then change nothing.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context;
use clap_complete::ArgValueCandidates;
use octelium_api::{Kind, Object};

use super::apply::check;
use crate::{Usage, files::Private, kinds, output, pages, portable, progress::Progress, session::Cluster};

/// In the order in which `apply` of other tools needs them. What the cluster or its users make themselves is left out.
const EXPORTED: [Kind; 10] = Kind::WRITTEN;

/// What to write, and where.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only these kinds; default: all that manifests describe
    #[arg(value_parser = kinds::parse, value_name = "KIND", add = ArgValueCandidates::new(kinds::candidates))]
    kinds: Vec<Kind>,
    /// A file, or a directory for a file of each kind; default: stdout
    #[arg(short, long, visible_alias = "output", value_name = "FILE|DIR", value_hint = clap::ValueHint::AnyPath)]
    out: Option<PathBuf>,
    /// Also what the system itself made, which `apply` takes back only unchanged
    #[arg(long)]
    include_system: bool,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// Writes the manifests.
///
/// # Errors
/// If a kind can't be exported or listed, or a file is there already.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(kind) = arguments.kinds.iter().find(|kind| !EXPORTED.contains(kind)) {
        let reason = kind.made_by().unwrap_or("no manifest describes it");
        return Err(Usage(format!("a {kind} can't be exported: {reason}")).into());
    }
    let chosen = |kind: &Kind| arguments.kinds.is_empty() || arguments.kinds.contains(kind);
    let progress = Progress::start("reading resources".to_owned());
    let (mut files, mut exported) = (Vec::new(), 0);
    for kind in EXPORTED.into_iter().filter(chosen) {
        progress.say(format!("reading resources: {kind}"));
        let Some(mut objects) = pages::every(cluster, kind).await? else {
            output::note(&format!("the server has no resources of kind {kind} yet"));
            continue;
        };
        objects.retain(|object| is_wanted(object, arguments.include_system));
        if !objects.is_empty() {
            exported += objects.len();
            files.push((kind, objects.iter().map(document).collect::<Vec<_>>().join("---\n")));
        }
    }
    drop(progress);
    let Some(path) = &arguments.out else {
        let texts: Vec<_> = files.into_iter().map(|(_, text)| text).collect();
        return Ok(output::result(&texts.join("---\n"))?);
    };
    let mut stale = Vec::new();
    let written = if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        std::fs::create_dir_all(path).with_context(|| path.display().to_string())?;
        let is_written = |kind: &Kind| files.iter().any(|(written, _)| written == kind);
        stale.extend(EXPORTED.into_iter().filter(|kind| chosen(kind) && !is_written(kind)));
        let named = |(kind, text): (Kind, String)| (path.join(file_name(kind)), text);
        files.into_iter().map(named).collect()
    } else {
        vec![(path.clone(), files.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("---\n"))]
    };
    write(&written, arguments.force)?;
    for file in stale.into_iter().map(|kind| path.join(file_name(kind))).filter(|file| file.exists()) {
        output::warning(&format!(
            "{} was not written now and may be of an earlier export: there is nothing of its kind to export any more, \
             and `apply` of the directory would bring back what it describes",
            file.display()
        ));
    }
    Ok(output::result(&format!("{} written to {}\n", super::apply::count(exported, "resource"), path.display()))?)
}

/// Whether `apply` would take it back; what it wouldn't is said.
fn is_wanted(object: &Object, include_system: bool) -> bool {
    let (kind, name) = (object.kind(), object.name());
    let is_system = object.metadata().is_some_and(|metadata| metadata.is_system) && kind != Kind::ClusterConfig;
    if is_system {
        return include_system;
    }
    match check::violations(&portable::object(object), SystemTime::now()).next() {
        // A Credential that expired, for example, can't be made again.
        Some(violation) => {
            output::warning(&format!("{kind} {name} is left out, since `apply` would refuse it: {violation}"));
            false
        }
        None => true,
    }
}

/// The manifest of one resource.
fn document(object: &Object) -> String {
    let comment = if object.kind().has_data() {
        "# Its data is not exported. As long as there is none here, `apply` keeps what is stored.\n"
    } else {
        ""
    };
    format!("{comment}{}", portable::yaml(object))
}

fn file_name(kind: Kind) -> String {
    format!("{}.yaml", kind.name().to_ascii_lowercase())
}

/// Writes all files, none of them before all can be.
fn write(files: &[(PathBuf, String)], force: bool) -> anyhow::Result<()> {
    let begin = |(path, text): &(PathBuf, String)| {
        let mut file = Private::begin(Path::new(path), force)?;
        file.write(text.as_bytes())?;
        Ok(file)
    };
    let begun: Vec<Private> = files.iter().map(begin).collect::<anyhow::Result<_>>()?;
    begun.into_iter().try_for_each(Private::finish)
}

#[cfg(test)]
mod tests {
    use octelium_api::{core, manifest, meta::Metadata};

    use super::*;

    fn secret(is_system: bool) -> Object {
        let metadata = Metadata {
            name: "key".into(),
            uid: "u".into(),
            resource_version: "v".into(),
            is_system,
            ..Default::default()
        };
        core::Secret { metadata: Some(metadata), spec: Some(core::secret::Spec::default()), ..Default::default() }
            .into()
    }

    #[test]
    fn a_document_is_read_back_and_has_no_data() {
        let text = document(&secret(false));
        assert!(text.starts_with("# Its data is not exported."), "{text}");
        let read = manifest::parse("key.yaml", &text, &manifest::Limits::default()).unwrap();
        assert_eq!(read[0].object, portable::object(&secret(false)));
        assert_eq!(check::judge(&read, SystemTime::now()), Vec::<String>::new());
    }

    #[test]
    fn what_the_system_made_is_left_out() {
        assert!(is_wanted(&secret(false), false));
        assert!(!is_wanted(&secret(true), false) && is_wanted(&secret(true), true));
    }
}
