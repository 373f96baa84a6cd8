//! `apply`: brings resources to the state that manifests describe, all of them as one change or none.

pub mod check;
mod prune;
mod report;
mod sources;
pub(super) mod wait;

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use octelium_api::{
    Kind,
    control::{ApplyRequest, Change, change},
    manifest::{self, Document, Limits},
};

use crate::{
    Usage, kinds,
    output::{self, Format},
    progress::Progress,
    refusal::{Refusal, Violation, change_of},
    selector::Selector,
    session::Cluster,
    time::parse_span,
};
use check::complaint;
use report::Target;

/// The server takes no more as one change.
const DOCUMENTS_MAX: usize = 10_000;
/// From so many on, a sign of life is shown.
const DOCUMENTS_MANY: usize = 20;
/// Which annotation says whose a resource is.
const OWNER: &str = "octelium-owner";
/// An annotation's value is no longer, in bytes.
const OWNER_BYTES_MAX: usize = 63;

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
    /// Also delete, in the same change, what was applied before and is in no manifest any more: what has the owner of
    /// --owner or the labels of --selector, one of which must be given
    #[arg(long)]
    prune: bool,
    /// With --prune: only delete, among the applied kinds, what has such labels: key=value, key!=value, key or !key
    #[arg(short = 'l', long, requires = "prune", value_name = "LABELS")]
    selector: Option<Selector>,
    /// Annotate what is applied with `octelium-owner: NAME`, by which --prune knows it again
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// With --prune: delete without asking; needed where nobody could answer
    #[arg(short, long, requires = "prune")]
    yes: bool,
    /// Apply only manifests of this kind; repeatable
    #[arg(long, value_name = "KIND", value_parser = kinds::parse)]
    include: Vec<Kind>,
    /// Leave manifests of this kind out; repeatable
    #[arg(long, value_name = "KIND", value_parser = kinds::parse)]
    exclude: Vec<Kind>,
    /// Apply Secrets too where --include doesn't name them; else they are applied anyway
    #[arg(long)]
    include_secret: bool,
    /// Wait until requests are decided by what was applied; exit code 8 if that takes longer
    #[arg(long, value_name = "TIMEOUT", value_parser = parse_span)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "60s")]
    wait: Option<Duration>,
}

impl Arguments {
    /// Whether manifests of this kind are applied.
    fn takes(&self, kind: Kind) -> bool {
        let included =
            self.include.is_empty() || self.include.contains(&kind) || (kind == Kind::Secret && self.include_secret);
        included && !self.exclude.contains(&kind)
    }

    /// Whose the applied resources are, if anybody's.
    ///
    /// # Errors
    /// If that can't be said by an annotation, or --prune doesn't say it.
    fn owner(&self) -> Result<Option<String>, Usage> {
        let Some(owner) = &self.owner else {
            // What labels choose needs no owner.
            if !self.prune || self.selector.is_some() {
                return Ok(None);
            }
            let text = "--prune must know what it may delete: give --owner NAME, the same each time, or --selector \
                        key=value";
            return Err(Usage(text.to_owned()));
        };
        match owner.len() {
            1..=OWNER_BYTES_MAX if !owner.chars().any(char::is_control) => Ok(Some(owner.clone())),
            length => Err(Usage(format!(
                "--owner `{owner}` ({length} bytes) can't be an owner: expected 1 to {OWNER_BYTES_MAX} bytes"
            ))),
        }
    }
}

/// Reads all manifests and judges them as far as that needs no server.
///
/// # Errors
/// If anything is wrong with any of them; every complaint was printed then.
pub fn read(arguments: &Arguments) -> anyhow::Result<Vec<Document>> {
    let owner = arguments.owner()?;
    if arguments.selector.as_ref().is_some_and(|selector| !selector.asks_for_a_label()) {
        return Err(Usage("--prune needs a selector that asks for a label, such as key=value or key".into()).into());
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
    let found = documents.len();
    documents.retain(|document| arguments.takes(document.object.kind()));
    if documents.len() < found {
        output::note(&format!("{} left out by --include or --exclude", count(found - documents.len(), "manifest")));
    }
    if let Some(owner) = owner {
        for document in &mut documents {
            document.object.metadata_mut().annotations.insert(OWNER.to_owned(), owner.clone());
        }
    }
    complaints.extend(check::judge(&documents, SystemTime::now()));
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

/// Sends the documents as one change and tells what became of each.
///
/// # Errors
/// If the server refuses; nothing is changed then. If it can't be reached.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments, documents: Vec<Document>) -> anyhow::Result<()> {
    if documents.is_empty() && arguments.prune {
        let text =
            "no manifest describes anything, so that --prune would delete everything; if that is meant, use `delete`";
        return Err(Usage(text.into()).into());
    }
    if documents.is_empty() {
        return Ok(output::result(&report::nothing(arguments.dry_run, arguments.out)?)?);
    }
    cluster.authenticated().await?;
    let mut targets: Vec<_> = documents.iter().map(Target::from).collect();
    let mut changes: Vec<_> = documents.iter().map(put).collect();
    if arguments.prune {
        let pruned = prune::find(cluster, arguments, &documents).await?;
        if documents.len() + pruned.len() > DOCUMENTS_MAX {
            bail!("{} and {} to delete are too many at once", count(documents.len(), "resource"), pruned.len());
        }
        prune::agree(arguments, &pruned)?;
        targets.extend(pruned.iter().map(Target::from));
        changes.extend(pruned.iter().map(prune::change));
    }
    let request = ApplyRequest {
        // Repeated attempts at an unavailable server have one effect.
        request_id: uuid::Uuid::new_v4().to_string(),
        dry_run: arguments.dry_run,
        changes,
    };
    let progress = (targets.len() >= DOCUMENTS_MANY)
        .then(|| Progress::start(format!("applying {}", count(targets.len(), "resource"))));
    let answer = cluster.control(async |control| control.apply(request.clone()).await).await;
    drop(progress);
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Err(explain(error, &documents, &targets)),
    };
    let index = answer.index;
    for result in &answer.results {
        for warning in &result.warnings {
            output::warning(&format!("{} {}: {warning}", result.kind, result.name));
        }
    }
    let report = report::Report::new(targets, answer, arguments.dry_run)
        .context("the change was accepted, but the server's answer makes no sense")?;
    let text = match arguments.out {
        Some(format) => report.document(format)?,
        None => report.text(output::coloured()),
    };
    output::result(&text)?;
    match arguments.wait {
        Some(timeout) if index > 0 => wait::until(cluster, index, timeout).await,
        _ => Ok(()),
    }
}

fn put(document: &Document) -> Change {
    Change {
        kind: document.object.kind().name().to_owned(),
        change: Some(change::Change::Put(document.object.encode())),
        ..Change::default()
    }
}

/// Prints each violation at its place, and says what that means for the whole.
fn explain(mut error: anyhow::Error, documents: &[Document], targets: &[Target]) -> anyhow::Error {
    let Some(refusal) = error.downcast_mut::<Refusal>() else { return error };
    for violation in &refusal.take_violations() {
        output::place(&locate(violation, documents, targets));
    }
    if refusal.is_unsent() {
        error.context("nothing was sent")
    } else if refusal.is_settled() {
        error.context("refused; nothing was changed")
    } else {
        error.context("no answer tells whether the change took effect; it is safe to apply it again")
    }
}

/// The server's complaint at its place in the manifests, as far as it names one.
fn locate(violation: &Violation, documents: &[Document], targets: &[Target]) -> String {
    let Some((index, path)) = change_of(&violation.field) else { return violation.to_string() };
    match (documents.get(index), targets.get(index)) {
        (Some(document), _) => complaint(document, path, &violation.description),
        // What is to be deleted stands in no manifest.
        (None, Some(target)) => format!("{} {}: {}", target.kind, target.name, violation.description),
        (None, None) => violation.to_string(),
    }
}

/// `1 error`, `2 errors`.
pub fn count(number: usize, what: &str) -> String {
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
        let told = |field: &str| {
            let mut targets: Vec<_> = documents.iter().map(Target::from).collect();
            targets.push(Target { kind: octelium_api::Kind::Group, name: "old".into(), at: None });
            locate(&Violation { field: field.into(), description: "no".into() }, &documents, &targets)
        };
        for (field, text) in [
            ("changes[1].spec.config.upstream.url", "two.yaml:14:12: spec.config.upstream.url: no"),
            ("changes[1].metadata.name", "two.yaml:8:9: metadata.name: no"),
            ("changes[0]", "two.yaml:1:1: no"),
            ("changes[2]", "Group old: no"),
            ("changes[7].spec", "changes[7].spec: no"),
            ("requestID", "requestID: no"),
            ("", "no"),
        ] {
            assert_eq!(told(field), text);
        }
    }

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        apply: Arguments,
    }

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        use clap::Parser;
        Line::try_parse_from(["apply"].into_iter().chain(line.split_whitespace())).map(|line| line.apply)
    }

    #[test]
    fn kinds_are_chosen_by_any_of_their_names() {
        let takes = |line: &str, kind| parse(line).unwrap().takes(kind);
        assert!(takes("x", Kind::Secret) && takes("x --include-secret", Kind::Secret));
        assert!(takes("x --include svc --include Policy", Kind::Policy));
        assert!(!takes("x --include svc", Kind::Secret) && takes("x --include svc --include-secret", Kind::Secret));
        assert!(!takes("x --exclude user", Kind::User) && takes("x --exclude user", Kind::Group));
        assert!(parse("x --include Pod").is_err());
    }

    #[test]
    fn what_is_pruned_belongs_to_somebody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display().to_string();
        let owner = |line: &str| parse(line).unwrap().owner();
        assert_eq!(owner(&path).unwrap(), None);
        let error = owner(&format!("{path} --prune")).unwrap_err().to_string();
        assert!(error.contains("--owner NAME") && error.contains("--selector"), "{error}");
        assert_eq!(owner("- --owner team-a").unwrap().as_deref(), Some("team-a"));
        assert_eq!(owner("- --prune --owner team-a").unwrap().as_deref(), Some("team-a"));
        assert_eq!(owner("- --prune -l team=a").unwrap(), None);
        assert!(owner("- --prune").is_err());
        assert!(owner(&format!("- --owner {}", "x".repeat(64))).is_err());
        assert!(parse("x -l team=a").is_err(), "a selector chooses what to prune");
        assert!(parse("x --yes").is_err() && parse("x --yes --prune").is_ok(), "nothing else is asked");
    }

    #[test]
    fn waiting_has_a_default_and_never_takes_the_path() {
        assert_eq!(parse("--wait x").unwrap().wait, Some(Duration::from_secs(60)));
        assert_eq!(parse("x --wait=5s").unwrap().wait, Some(Duration::from_secs(5)));
        assert_eq!(parse("x").unwrap().wait, None);
        assert!(parse("x --wait=0s").is_err() && parse("x --wait=soon").is_err());
    }
}
