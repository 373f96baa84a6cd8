//! What became of each resource, for people and for programs.

use anyhow::{Context, bail};
use octelium_api::{
    Kind, Object,
    control::{ApplyResponse, result::Operation},
    manifest::Document,
};
use serde_json::{Value, json};

use crate::{
    diff,
    output::{self, Colour, Format, paint, plain},
};

/// What the server answered, beside where it was asked for.
pub struct Report {
    dry_run: bool,
    index: u64,
    lines: Vec<Line>,
}

/// One resource that a change is about.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its kind.
    pub kind: Kind,
    /// Its name, as far as it is known before the server answers.
    pub name: String,
    /// Where it is described; what is to be deleted stands nowhere.
    pub at: Option<String>,
}

impl From<&Document> for Target {
    fn from(document: &Document) -> Self {
        let object = &document.object;
        Self { kind: object.kind(), name: object.name().to_owned(), at: Some(document.at.to_string()) }
    }
}

impl From<&Object> for Target {
    fn from(object: &Object) -> Self {
        Self { kind: object.kind(), name: object.name().to_owned(), at: None }
    }
}

/// One resource and what became of it.
struct Line {
    target: Target,
    operation: Operation,
    before: Option<Object>,
    after: Option<Object>,
}

impl Report {
    /// Matches the answer with what was asked for.
    ///
    /// # Errors
    /// If the two don't fit.
    pub fn new(targets: Vec<Target>, answer: ApplyResponse, dry_run: bool) -> anyhow::Result<Self> {
        if answer.results.len() != targets.len() {
            bail!("{} results for {} resources", answer.results.len(), targets.len());
        }
        let line = |(mut target, result): (Target, octelium_api::control::Result)| -> anyhow::Result<Line> {
            let kind = target.kind;
            let object = |bytes: &[u8]| match bytes {
                [] => Ok(None),
                bytes => kind.decode(bytes).map(Some).with_context(|| format!("{kind} {}", result.name)),
            };
            let (before, after) = (object(&result.before)?, object(&result.after)?);
            let operation = result.operation();
            if !result.name.is_empty() {
                target.name = result.name;
            }
            Ok(Line { target, operation, before, after })
        };
        let lines = targets.into_iter().zip(answer.results).map(line).collect::<Result<_, _>>()?;
        Ok(Self { dry_run, index: answer.index, lines })
    }

    /// A line for each resource, below updated ones what changed, and a summary.
    pub fn text(&self, coloured: bool) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let (word, colour) = word(line.operation);
            let would = if self.dry_run { "would be " } else { "" };
            let word = colour.map_or_else(|| word.to_owned(), |colour| paint(word, colour, coloured));
            text.push_str(&format!("{} {} {would}{word}\n", line.target.kind, plain(&line.target.name)));
            if let (Operation::Updated, Some(before), Some(after)) = (line.operation, &line.before, &line.after) {
                match diff::objects(before, after, coloured) {
                    // Only its data, which isn't shown.
                    none if none.is_empty() && after.kind().has_data() => text.push_str("  (new data)\n"),
                    changes => text.push_str(&changes),
                }
            }
        }
        text.push_str(&summary(self.lines.iter().map(|line| line.operation), self.dry_run));
        text
    }

    /// The same as one document.
    ///
    /// # Errors
    /// If it can't be written in that form.
    pub fn document(&self, format: Format) -> anyhow::Result<String> {
        let result = |line: &Line| {
            let mut value = json!({
                "kind": line.target.kind.name(),
                "name": line.target.name,
                "operation": word(line.operation).0,
            });
            if let Some(at) = &line.target.at {
                value["at"] = at.clone().into();
            }
            for (name, object) in [("before", &line.before), ("after", &line.after)] {
                if let Some(object) = object {
                    value[name] = output::object(object);
                }
            }
            value
        };
        output::document(&document(self.dry_run, self.index, self.lines.iter().map(result).collect()), format)
    }
}

/// What is said where there are no resources at all.
///
/// # Errors
/// See [`Report::document`].
pub fn nothing(dry_run: bool, out: Option<Format>) -> anyhow::Result<String> {
    match out {
        Some(format) => output::document(&document(dry_run, 0, Vec::new()), format),
        None => Ok(summary([].into_iter(), dry_run)),
    }
}

fn document(dry_run: bool, index: u64, results: Vec<Value>) -> Value {
    json!({ "dryRun": dry_run, "index": index, "results": results })
}

fn word(operation: Operation) -> (&'static str, Option<Colour>) {
    match operation {
        Operation::Created => ("created", Some(Colour::Green)),
        Operation::Updated => ("updated", Some(Colour::Yellow)),
        Operation::Deleted => ("deleted", Some(Colour::Red)),
        Operation::Unchanged => ("unchanged", None),
        Operation::Unset => ("accepted", None),
    }
}

/// `2 created, 1 unchanged`, without what there is none of.
fn summary(operations: impl Iterator<Item = Operation>, dry_run: bool) -> String {
    let mut counts = [0; 5];
    for operation in operations {
        counts[operation as usize] += 1;
    }
    let order = [Operation::Created, Operation::Updated, Operation::Deleted, Operation::Unchanged, Operation::Unset];
    let parts: Vec<_> = order
        .into_iter()
        .filter(|operation| counts[*operation as usize] > 0)
        .map(|operation| format!("{} {}", counts[operation as usize], word(operation).0))
        .collect();
    let counted = parts.join(", ");
    let prefix = if dry_run { "dry run: " } else { "" };
    let changed = order[..3].iter().any(|operation| counts[*operation as usize] > 0);
    match (changed, counted.as_str()) {
        (true, counted) => format!("{prefix}{counted}\n"),
        (false, "") => format!("{prefix}no changes\n"),
        (false, counted) => format!("{prefix}no changes ({counted})\n"),
    }
}

#[cfg(test)]
mod tests {
    use octelium_api::{
        control, core,
        manifest::{Limits, parse},
        meta,
    };

    use super::*;

    fn user(email: &str) -> Object {
        let metadata = Some(meta::Metadata { name: "ann".into(), ..Default::default() });
        let spec = Some(core::user::Spec { email: email.into(), ..Default::default() });
        core::User { metadata, spec, ..Default::default() }.into()
    }

    fn secret() -> Object {
        let data = core::secret::Data { r#type: Some(core::secret::data::Type::Value("hunter2".into())) };
        let metadata = Some(meta::Metadata { name: "key".into(), ..Default::default() });
        core::Secret { metadata, data: Some(data), ..Default::default() }.into()
    }

    fn report(dry_run: bool) -> Report {
        let text = "kind: User\nmetadata: {name: ann}\nspec: {type: HUMAN}\n---\n\
                    kind: Secret\nmetadata: {name: key}\ndata: {value: hunter2}\n---\n\
                    kind: Group\nmetadata: {name: team}\nspec: {}\n";
        let documents = parse("all.yaml", text, &Limits::default()).unwrap();
        let result = |kind: &str, name: &str, operation: Operation, before: Vec<u8>, after: Vec<u8>| control::Result {
            kind: kind.into(),
            name: name.into(),
            operation: operation.into(),
            before,
            after,
            warnings: Vec::new(),
        };
        let results = vec![
            result("User", "ann", Operation::Updated, user("a@x.io").encode(), user("b@x.io").encode()),
            result("Secret", "key", Operation::Updated, secret().encode(), secret().encode()),
            result("Group", "team", Operation::Unchanged, Vec::new(), Vec::new()),
        ];
        Report::new(documents.iter().map(Target::from).collect(), ApplyResponse { results, index: 7 }, dry_run).unwrap()
    }

    #[test]
    fn each_resource_has_a_line_and_updates_a_diff() {
        let text = report(false).text(false);
        assert!(text.starts_with("User ann updated\n  @@ "), "{text}");
        assert!(text.contains("-  email: 'a@x.io'\n") && text.contains("+  email: 'b@x.io'\n"), "{text}");
        assert!(
            text.contains("Secret key updated\n  (new data)\nGroup team unchanged\n2 updated, 1 unchanged\n"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!text.contains('\u{1b}') && report(false).text(true).contains("\u{1b}[33mupdated\u{1b}[0m"));
    }

    #[test]
    fn a_dry_run_says_would_be() {
        let text = report(true).text(false);
        assert!(text.contains("User ann would be updated\n"), "{text}");
        assert!(text.ends_with("dry run: 2 updated, 1 unchanged\n"), "{text}");
    }

    #[test]
    fn programs_get_one_document() {
        let value: Value = serde_json::from_str(&report(false).document(Format::Json).unwrap()).unwrap();
        assert_eq!((&value["dryRun"], &value["index"]), (&json!(false), &json!(7)));
        let first = &value["results"][0];
        assert_eq!((&first["kind"], &first["operation"]), (&json!("User"), &json!("updated")));
        assert_eq!(first["at"], json!("all.yaml:1:1"));
        assert_eq!(first["after"]["spec"]["email"], json!("b@x.io"));
        assert!(!value.to_string().contains("hunter2"));
        let empty: Value = serde_json::from_str(&nothing(true, Some(Format::Json)).unwrap()).unwrap();
        assert_eq!(empty["results"], json!([]));
    }

    #[test]
    fn nothing_changed_is_said_so() {
        assert_eq!(summary([Operation::Unchanged; 2].into_iter(), false), "no changes (2 unchanged)\n");
        assert_eq!(nothing(true, None).unwrap(), "dry run: no changes\n");
        assert_eq!(summary([Operation::Created, Operation::Deleted].into_iter(), false), "1 created, 1 deleted\n");
    }

    #[test]
    fn an_answer_of_another_length_is_refused() {
        let documents = parse("a.yaml", "kind: Group\nmetadata: {name: team}\nspec: {}\n", &Limits::default()).unwrap();
        assert!(Report::new(documents.iter().map(Target::from).collect(), ApplyResponse::default(), false).is_err());
    }
}
