//! `apply`: brings resources to the state that manifests describe, all of them as one change or none.

mod report;
mod sources;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::PathBuf,
    time::SystemTime,
};

use anyhow::{Context, bail};
use octelium_api::{
    control::{ApplyRequest, Change, change},
    manifest::{self, Document, Limits},
    validate,
};
use tonic::Code;

use crate::{
    Usage,
    kinds::full_name,
    output::{self, Format},
    refusal::{Refusal, Violation, change_of},
    session::Cluster,
};

/// The server takes no more as one change.
const DOCUMENTS_MAX: usize = 10_000;

/// What to apply, and how.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A file, a directory (all .yaml, .yml and .json files in it), or `-` for stdin
    #[arg(value_name = "FILE|DIR|-")]
    path: PathBuf,
    /// Check everything and show what would change, but change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the results in this form
    #[arg(short, long, visible_alias = "output", value_enum)]
    out: Option<Format>,
    /// Delete what no manifest describes (not supported yet)
    #[arg(long)]
    prune: bool,
}

/// Reads all manifests and judges them as far as that needs no server.
///
/// # Errors
/// If anything is wrong with any of them; every complaint was printed then.
pub fn read(arguments: &Arguments) -> anyhow::Result<Vec<Document>> {
    if arguments.prune {
        return Err(Usage("--prune is not supported yet; nothing was changed".into()).into());
    }
    let limits = Limits::default();
    let sources = sources::read(&arguments.path, limits.bytes_max)?;
    let mut complaints = Vec::new();
    let mut documents = Vec::new();
    for source in sources {
        match manifest::parse(&source.name, &source.text, &limits) {
            Ok(read) => documents.extend(read),
            Err(errors) => complaints.extend(errors.iter().map(ToString::to_string)),
        }
    }
    for document in &documents {
        for note in &document.notes {
            output::note(&format!("{}: {}", note.at, note.text));
        }
    }
    complaints.extend(judge(&documents, SystemTime::now()));
    if documents.len() > DOCUMENTS_MAX {
        complaints
            .push(format!("{} resources are too many: at most {DOCUMENTS_MAX} are applied at once", documents.len()));
    }
    if complaints.is_empty() {
        return Ok(documents);
    }
    for complaint in &complaints {
        output::place(complaint);
    }
    bail!("{}; nothing was sent", count(complaints.len(), "error"))
}

/// What the documents' own rules, and they together, forbid.
fn judge(documents: &[Document], now: SystemTime) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut known = BTreeMap::new();
    for document in documents {
        let violations =
            validate::check(&document.object, now).into_iter().chain(validate::unsupported(&document.object));
        complaints.extend(violations.map(|violation| complaint(document, &violation.path, &violation.message)));
        let kind = document.object.kind();
        match known.entry((kind, full_name(kind, document.object.name()))) {
            Entry::Vacant(free) => {
                free.insert(document);
            }
            Entry::Occupied(taken) => {
                let text = format!("{kind} `{}` is already described at {}", taken.key().1, taken.get().at);
                complaints.push(complaint(document, "metadata.name", &text));
            }
        }
    }
    complaints
}

/// `file:line:column: path: what`
fn complaint(document: &Document, path: &str, what: &str) -> String {
    match path {
        "" => format!("{}: {what}", document.at),
        path => format!("{}: {path}: {what}", document.locate(path)),
    }
}

/// Sends the documents as one change and tells what became of each.
///
/// # Errors
/// If the server refuses; nothing is changed then. If it can't be reached.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments, documents: Vec<Document>) -> anyhow::Result<()> {
    if documents.is_empty() {
        return Ok(output::result(&report::nothing(arguments.dry_run, arguments.out)?)?);
    }
    let change = |document: &Document| Change {
        kind: document.object.kind().name().to_owned(),
        change: Some(change::Change::Put(document.object.encode())),
        ..Change::default()
    };
    let request = ApplyRequest {
        // Repeated attempts at an unavailable server have one effect.
        request_id: uuid::Uuid::new_v4().to_string(),
        dry_run: arguments.dry_run,
        changes: documents.iter().map(change).collect(),
    };
    cluster.authenticated().await?;
    let answer = match cluster.control(async |control| control.apply(request.clone()).await).await {
        Ok(answer) => answer,
        Err(error) => return Err(explain(error, &documents)),
    };
    let report = report::Report::new(&documents, answer, arguments.dry_run)
        .context("the change was accepted, but the server's answer makes no sense")?;
    let text = match arguments.out {
        Some(format) => report.document(format)?,
        None => report.text(output::coloured()),
    };
    Ok(output::result(&text)?)
}

/// Prints each violation at its place, and says what that means for the whole.
fn explain(error: anyhow::Error, documents: &[Document]) -> anyhow::Error {
    let Some(refusal) = error.downcast_ref::<Refusal>() else { return error };
    let violations = refusal.violations();
    for violation in &violations {
        output::place(&locate(violation, documents));
    }
    let settled = matches!(
        refusal.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::ResourceExhausted
            | Code::Unimplemented
            | Code::Unauthenticated
    );
    if refusal.is_unsent() {
        error.context("nothing was sent")
    } else if settled {
        error.context("refused; nothing was changed")
    } else {
        error.context("no answer tells whether the change took effect; it is safe to apply it again")
    }
}

/// The server's complaint at its place in the manifests, as far as it names one.
fn locate(violation: &Violation, documents: &[Document]) -> String {
    let found = change_of(&violation.field).and_then(|(index, path)| Some((documents.get(index)?, path)));
    match (found, violation.field.as_str()) {
        (Some((document, path)), _) => complaint(document, path, &violation.description),
        (None, "") => violation.description.clone(),
        (None, field) => format!("{field}: {}", violation.description),
    }
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "\
kind: Namespace
metadata:
  name: prod
spec: {}
---
kind: Service
metadata:
  name: api.prod
spec:
  port: 8080
  mode: HTTP
  config:
    upstream:
      url: http://127.0.0.1:9000
";

    fn documents(source: &str, text: &str) -> Vec<Document> {
        manifest::parse(source, text, &Limits::default()).unwrap()
    }

    #[test]
    fn refusals_are_told_at_their_place_in_the_manifest() {
        let documents = documents("two.yaml", TWO);
        let told = |field: &str| locate(&Violation { field: field.into(), description: "no".into() }, &documents);
        for (field, text) in [
            ("changes[1].spec.config.upstream.url", "two.yaml:14:12: spec.config.upstream.url: no"),
            ("changes[1].metadata.name", "two.yaml:8:9: metadata.name: no"),
            ("changes[0]", "two.yaml:1:1: no"),
            ("changes[7].spec", "changes[7].spec: no"),
            ("requestID", "requestID: no"),
            ("", "no"),
        ] {
            assert_eq!(told(field), text);
        }
    }

    #[test]
    fn one_resource_is_described_once() {
        let mut all = documents("a.yaml", TWO);
        assert_eq!(judge(&all, SystemTime::now()), Vec::<String>::new());
        all.extend(documents("b.yaml", "kind: Namespace\nmetadata: {name: prod}\nspec: {}\n"));
        let complaints = judge(&all, SystemTime::now());
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].starts_with("b.yaml:2:"), "{complaints:?}");
        assert!(complaints[0].contains("already described at a.yaml:1:1"), "{complaints:?}");
    }
}
