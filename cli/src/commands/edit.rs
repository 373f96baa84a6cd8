//! `edit`: a resource in an editor. What was written there is never lost, and never overwrites what somebody else wrote.

mod text;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use clap_complete::{ArgValueCandidates, ArgValueCompleter};
use octelium_api::{
    Kind, Object,
    control::{ApplyRequest, ApplyResponse, Change, change, result::Operation},
    manifest::{self, Document, Limits},
};
use tempfile::TempPath;

use super::apply::check;
use crate::{
    Usage, config, diff,
    exit::{self, Exit, Failure},
    kinds::{self, full_name},
    names,
    output::{self, plain},
    portable, prompt,
    refusal::{Refusal, change_of},
    session::Cluster,
};
use text::Complaint;

/// Where nothing says which editor.
const EDITOR: &str = "vi";
/// So long after the editor is closed, an interrupt is still taken for one of the editor's.
const INTERRUPTS_OVER: Duration = Duration::from_millis(20);

/// What to edit.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The kind, e.g. service, user, policy, clusterconfig
    #[arg(value_parser = kinds::parse, add = ArgValueCandidates::new(kinds::candidates))]
    kind: Kind,
    /// Its name; the ClusterConfig needs none
    #[arg(add = ArgValueCompleter::new(names::complete))]
    name: Option<String>,
}

/// Opens the resource in $VISUAL or $EDITOR, again and again until it can be applied or nothing is changed any more.
///
/// # Errors
/// If there is no such resource or no editor, somebody else changed it meanwhile, or the server refuses. The text stays.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    let kind = arguments.kind;
    let name = match &arguments.name {
        Some(_) if kind == Kind::ClusterConfig => {
            return Err(Usage("there is one ClusterConfig only; leave NAME out".into()).into());
        }
        None if kind != Kind::ClusterConfig => {
            return Err(Usage(format!("expected the name of a {kind}, found none")).into());
        }
        name => name.as_deref().map(|name| full_name(kind, name)).unwrap_or_default(),
    };
    if kind.is_read_only() {
        return Err(Usage(format!("a {kind} can't be edited: it is changed by the cluster alone")).into());
    }
    let editor = editor()?;
    let before = match cluster.core(async |core| kinds::get(core, kind, &name).await).await {
        Ok(before) => before,
        Err(error) => return Err(names::with_hint(cluster, kind, &name, error).await),
    };
    outlive_interrupts()?;
    let mut file = Draft::new(kind, before.name())?;
    match edit(cluster, &editor, &before, &mut file).await {
        Ok(sentence) => Ok(output::result(&sentence)?),
        Err(error) => Err(file.keep(error)),
    }
}

/// The sentence to end with.
async fn edit(cluster: &mut Cluster, editor: &str, before: &Object, file: &mut Draft) -> anyhow::Result<String> {
    let called = format!("{} {}", before.kind(), plain(before.name()));
    let mut body = portable::yaml(before);
    let mut complaints = Vec::new();
    loop {
        let header = text::header(before, &complaints);
        let offered = format!("{header}{body}");
        file.write(&offered)?;
        open(editor, &file.path)?;
        let text = file.read()?;
        let changed = text != offered;
        body = text::body(&text, &header).to_owned();
        match (changed, complaints.is_empty()) {
            _ if body.trim().is_empty() => return Ok(format!("{called} is as it was: the text is empty\n")),
            // Who made comments of everything may still want it.
            _ if text::is_all_comments(&body) => {
                return Err(
                    Failure::new(Exit::Failed, format!("{called} is as it was: the text is all comments")).into()
                );
            }
            (false, true) => return Ok(format!("{called} is as it was\n")),
            // Otherwise an editor that can't do better would be opened for ever.
            (false, false) => return Err(Failure::new(Exit::Failed, text::list(&complaints)).into()),
            (true, _) => {}
        }
        let after = match read(&body, before) {
            Ok(document) => document,
            Err(found) => {
                complaints = found;
                continue;
            }
        };
        // What was meant for the editor is over; from here on Ctrl-C is for this program.
        tokio::time::timeout(INTERRUPTS_OVER, tokio::signal::ctrl_c()).await.ok();
        let applied = tokio::select! {
            applied = apply(cluster, before, &after) => applied,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                let text = format!("interrupted; whether {called} was updated is not known");
                return Err(Failure::new(Exit::Failed, text).into());
            }
        };
        match applied {
            Ok(answer) => return report(&called, answer, before.kind()),
            Err(mut error) => match refused(&mut error, &after) {
                Some(found) => complaints = found,
                None => return Err(error),
            },
        }
    }
}

/// The edited resource, or all that is wrong with it.
fn read(body: &str, before: &Object) -> Result<Document, Vec<Complaint>> {
    let mut documents = manifest::parse("", body, &Limits::default()).map_err(|errors| {
        errors.into_iter().map(|error| Complaint::new(error.at.line, &error.path, &error.message)).collect::<Vec<_>>()
    })?;
    if documents.len() != 1 {
        return Err(vec![Complaint::new(0, "", &format!("expected one resource, found {}", documents.len()))]);
    }
    let document = documents.remove(0);
    let (kind, name) = (before.kind(), before.name());
    let mut complaints: Vec<_> = check::violations(&document.object, SystemTime::now())
        .map(|violation| Complaint::new(document.locate(&violation.path).line, &violation.path, &violation.message))
        .collect();
    if document.object.kind() != kind || full_name(kind, document.object.name()) != name {
        let line = document.locate("metadata.name").line;
        let found = format!("{} `{}`", document.object.kind(), document.object.name());
        let text = format!("expected {kind} `{name}`, found {found}: kind and name can't be changed");
        complaints.push(Complaint::new(line, "metadata.name", &text));
    }
    if complaints.is_empty() { Ok(document) } else { Err(complaints) }
}

/// Only if the resource is still what was shown.
async fn apply(cluster: &mut Cluster, before: &Object, after: &Document) -> anyhow::Result<ApplyResponse> {
    let change = Change {
        kind: before.kind().name().to_owned(),
        change: Some(change::Change::Put(after.object.encode())),
        expected_version: before.resource_version().to_owned(),
    };
    let request = ApplyRequest { request_id: uuid::Uuid::new_v4().to_string(), dry_run: false, changes: vec![change] };
    match cluster.control(async |control| control.apply(request.clone()).await).await {
        Err(error) if exit::of(&error) == Exit::Conflict => {
            let text = format!("{} {} was changed by somebody else meanwhile", before.kind(), before.name());
            Err(error.context(text))
        }
        other => other,
    }
}

/// What the server doesn't like about the text; `None` where another text would make no difference.
fn refused(error: &mut anyhow::Error, document: &Document) -> Option<Vec<Complaint>> {
    if !matches!(exit::of(error), Exit::Failed | Exit::NotFound) {
        return None;
    }
    let refusal = error.downcast_mut::<Refusal>().filter(|refusal| refusal.code() == tonic::Code::InvalidArgument)?;
    let violations = refusal.take_violations();
    if violations.is_empty() {
        return Some(vec![Complaint::new(0, "", &refusal.to_string())]);
    }
    let complaint = |violation: crate::refusal::Violation| match change_of(&violation.field) {
        Some((_, path)) => Complaint::new(document.locate(path).line, path, &violation.description),
        None => Complaint::new(0, &violation.field, &violation.description),
    };
    Some(violations.into_iter().map(complaint).collect())
}

fn report(called: &str, answer: ApplyResponse, kind: Kind) -> anyhow::Result<String> {
    let Some(result) = answer.results.into_iter().next() else { bail!("the server answered without a result") };
    if result.operation() == Operation::Unchanged {
        return Ok(format!("{called} is as it was\n"));
    }
    let changes = match (kind.decode(&result.before), kind.decode(&result.after)) {
        (Ok(before), Ok(after)) if !result.before.is_empty() => diff::objects(&before, &after, output::coloured()),
        _ => String::new(),
    };
    Ok(format!("{called} updated\n{changes}"))
}

/// What to run, as a shell would read it.
fn editor() -> Result<String, Usage> {
    match config::variable("VISUAL").or_else(|| config::variable("EDITOR")) {
        Some(editor) => Ok(editor),
        None if prompt::possible() => Ok(EDITOR.to_owned()),
        None => Err(Usage("no editor: set VISUAL or EDITOR".into())),
    }
}

/// Ctrl-C is for the editor: it must not end this program, which would forget the text.
#[cfg(unix)]
fn outlive_interrupts() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    // From the first registration on, the signal no longer ends the process.
    signal(SignalKind::interrupt()).map(drop)
}

#[cfg(not(unix))]
fn outlive_interrupts() -> std::io::Result<()> {
    Ok(())
}

/// Waits until the editor is closed.
fn open(editor: &str, path: &Path) -> anyhow::Result<()> {
    let mut command = if cfg!(unix) {
        // The variable may hold arguments, and is read as everywhere else.
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{editor} \"$1\"")).arg("sh");
        shell
    } else {
        Command::new(editor)
    };
    let status = command.arg(path).status().with_context(|| format!("editor `{editor}`"))?;
    if !status.success() {
        bail!("the editor `{editor}` ended with {status}; nothing was changed");
    }
    Ok(())
}

/// The text that is edited, in a file that only its owner may read.
struct Draft {
    path: PathBuf,
    holds_data: bool,
    /// What was written first.
    offered: Option<String>,
    /// Removes the file at the end.
    file: TempPath,
}

impl Draft {
    fn new(kind: Kind, name: &str) -> anyhow::Result<Self> {
        let prefix = format!("octeliumctl-{}-{}-", kind.name().to_ascii_lowercase(), safe(name));
        // Such files are made with mode 0600.
        let file = tempfile::Builder::new().prefix(&prefix).suffix(".yaml").tempfile().context("temporary file")?;
        let path = file.path().to_owned();
        Ok(Self { path, holds_data: kind.has_data(), offered: None, file: file.into_temp_path() })
    }

    fn write(&mut self, text: &str) -> anyhow::Result<()> {
        // Into the same file, whose mode stays; an editor that replaced it chose the mode itself.
        let mut file = fs::File::create(&self.path).with_context(|| self.path.display().to_string())?;
        file.write_all(text.as_bytes()).with_context(|| self.path.display().to_string())?;
        self.offered.get_or_insert_with(|| text.to_owned());
        Ok(())
    }

    fn read(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.path).with_context(|| self.path.display().to_string())
    }

    /// Leaves the file where it is, and says where, if anything was written there by hand.
    fn keep(self, error: anyhow::Error) -> anyhow::Error {
        // What can't be read as text isn't what was offered either.
        let text = self.read().ok();
        if self.offered.is_none() || text == self.offered {
            return error;
        }
        // Fails only where the file is gone already.
        self.file.keep().ok();
        let exit = exit::of(&error);
        let mut text = format!("{error:#}\nWhat you wrote is in {}", self.path.display());
        if self.holds_data {
            text.push_str("\nIt may hold secret data: remove it once you don't need it any more");
        }
        Failure::new(exit, text).into()
    }
}

/// A name without what means something in paths.
fn safe(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use octelium_api::{core, meta::Metadata};

    use super::*;

    fn group() -> Object {
        let metadata = Metadata { name: "team".into(), ..Default::default() };
        let spec = Some(core::group::Spec::default());
        core::Group { metadata: Some(metadata), spec, ..Default::default() }.into()
    }

    fn lines(body: &str) -> Vec<String> {
        match read(body, &group()) {
            Ok(_) => Vec::new(),
            Err(complaints) => complaints.iter().map(|complaint| complaint.shown(10)).collect(),
        }
    }

    #[test]
    fn what_is_wrong_is_told_at_its_line() {
        assert_eq!(lines(&portable::yaml(&group())), Vec::<String>::new());
        assert_eq!(lines("a: [\n").len(), 1);
        assert!(lines("kind: Group\nmetadata:\n  name: team\nspce: {}\n")[0].starts_with("line 14: spce: unknown key"));
        let other = "kind: Group\nmetadata:\n  name: other\nspec: {}\n";
        assert!(lines(other)[0].starts_with("line 13: metadata.name: expected Group `team`, found Group `other`"));
        let two = format!("{}---\n{other}", portable::yaml(&group()));
        assert_eq!(lines(&two), ["expected one resource, found 2"]);
    }
}
