//! `explain`: what a kind's members mean, from the model that this program was built with.

use comfy_table::Table;
use octelium_api::explain::{Choice, Explained, Member, explain};
use serde_json::{Map, Value, json};

use crate::{
    Usage, kinds,
    output::{self, Colour, Format, paint},
};

/// Longer lines are hard to read.
const COLUMNS_MAX: usize = 100;
const NOT_SUPPORTED: &str = "not supported yet by this version";

/// What to explain, and how.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A kind, or one of its members, e.g. service.spec.config.upstream
    #[arg(value_name = "KIND[.MEMBER…]")]
    path: String,
    /// Show the members' members too, down to the last
    #[arg(short, long)]
    recursive: bool,
    /// Output form; default: text
    #[arg(short, long, visible_alias = "output", value_enum)]
    out: Option<Format>,
}

/// Explains; needs no cluster.
///
/// # Errors
/// If there is no such kind or member.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let explained = find(&arguments.path)?;
    let text = match arguments.out {
        Some(format) => output::document(&value(&explained, arguments.recursive), format)?,
        None => {
            // The table knows how wide the terminal is.
            let columns = Table::new().width().map_or(COLUMNS_MAX, usize::from).clamp(40, COLUMNS_MAX);
            text(&explained, arguments.recursive, columns, output::coloured())
        }
    };
    Ok(output::result(&text)?)
}

fn find(path: &str) -> Result<Explained, Usage> {
    let (kind, members) = path.split_once('.').map_or((path, None), |(kind, members)| (kind, Some(members)));
    let kind = kinds::parse(kind).map_err(|error| Usage(format!("`{kind}`: {error}")))?;
    let path = members.map_or_else(|| kind.name().to_owned(), |members| format!("{kind}.{members}"));
    explain(&path).map_err(Usage)
}

/// The members of `member`, if they are to be shown below it.
fn below(path: &str, member: &Member) -> Option<Explained> {
    member.opens.then(|| explain(&format!("{path}.{}", member.name)).ok()).flatten()
}

fn text(explained: &Explained, recursive: bool, columns: usize, coloured: bool) -> String {
    let mut out = format!("{} <{}>\n", paint(&explained.path, Colour::Cyan, coloured), explained.r#type);
    wrap(&mut out, &explained.text, 2, columns);
    if !explained.one_of.is_empty() {
        wrap(&mut out, &format!("Only one of {} can be set.", explained.one_of.join(", ")), 2, columns);
    }
    if explained.unsupported.is_some() {
        wrap(&mut out, &paint(&format!("It is {NOT_SUPPORTED}."), Colour::Yellow, coloured), 2, columns);
    }
    if !explained.values.is_empty() {
        out.push_str("\nVALUES\n");
    }
    for Choice { name, text, unsupported } in &explained.values {
        head(&mut out, name, None, unsupported.is_some(), 2, coloured);
        wrap(&mut out, text, 6, columns);
    }
    if !explained.members.is_empty() {
        out.push_str("\nMEMBERS\n");
    }
    if recursive {
        tree(&mut out, explained, 2, coloured);
        return out;
    }
    for member in &explained.members {
        head(&mut out, &member.name, Some(&member.r#type), member.unsupported.is_some(), 2, coloured);
        let rivals = match member.one_of.is_empty() {
            true => String::new(),
            false => format!(" Only one of {}.", member.one_of.join(", ")),
        };
        wrap(&mut out, &format!("{}{rivals}", member.text), 6, columns);
    }
    out
}

/// Names and types alone: texts would bury the shape.
fn tree(out: &mut String, explained: &Explained, indent: usize, coloured: bool) {
    for member in &explained.members {
        // What stands in something that isn't supported needs no mark of its own.
        let marked = member.unsupported.is_some() && explained.unsupported.is_none();
        head(out, &member.name, Some(&member.r#type), marked, indent, coloured);
        if let Some(below) = below(&explained.path, member) {
            tree(out, &below, indent + 2, coloured);
        }
    }
}

fn head(out: &mut String, name: &str, r#type: Option<&str>, unsupported: bool, indent: usize, coloured: bool) {
    out.extend(std::iter::repeat_n(' ', indent));
    out.push_str(&paint(name, Colour::Green, coloured));
    if let Some(r#type) = r#type {
        out.push_str(&format!(" <{type}>"));
    }
    if unsupported {
        out.push_str(&format!(" {}", paint(&format!("({NOT_SUPPORTED})"), Colour::Yellow, coloured)));
    }
    out.push('\n');
}

/// `text` in lines of at most `columns`, each after `indent` spaces. A word that is longer stands alone.
fn wrap(out: &mut String, text: &str, indent: usize, columns: usize) {
    let mut used = 0;
    for word in text.split_whitespace() {
        let chars = word.chars().count();
        if used > 0 && used + 1 + chars > columns {
            out.push('\n');
            used = 0;
        }
        if used == 0 {
            out.extend(std::iter::repeat_n(' ', indent));
            used = indent;
        } else {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += chars;
    }
    if used > 0 {
        out.push('\n');
    }
}

fn value(explained: &Explained, recursive: bool) -> Value {
    let mut value = json!({ "kind": explained.kind.name(), "path": explained.path, "type": explained.r#type });
    let Some(object) = value.as_object_mut() else { return value };
    facts(object, &explained.text, &explained.one_of, explained.unsupported.as_deref());
    if !explained.values.is_empty() {
        let values = explained.values.iter().map(|choice| {
            let mut value = Map::from_iter([("name".to_owned(), json!(choice.name))]);
            facts(&mut value, &choice.text, &[], choice.unsupported.as_deref());
            Value::Object(value)
        });
        object.insert("values".to_owned(), values.collect());
    }
    if !explained.members.is_empty() {
        object.insert("members".to_owned(), members(explained, recursive));
    }
    value
}

fn members(explained: &Explained, recursive: bool) -> Value {
    let members = explained.members.iter().map(|member| {
        let names = [("name".to_owned(), json!(member.name)), ("type".to_owned(), json!(member.r#type))];
        let mut value = Map::from_iter(names);
        facts(&mut value, &member.text, &member.one_of, member.unsupported.as_deref());
        if let Some(below) = recursive.then(|| below(&explained.path, member)).flatten() {
            value.insert("members".to_owned(), self::members(&below, recursive));
        }
        Value::Object(value)
    });
    members.collect()
}

/// What is there to be said; nothing where there is nothing.
fn facts(object: &mut Map<String, Value>, text: &str, one_of: &[String], unsupported: Option<&str>) {
    if !text.is_empty() {
        object.insert("text".to_owned(), json!(text));
    }
    if !one_of.is_empty() {
        object.insert("onlyOneOf".to_owned(), json!(one_of));
    }
    if let Some(unsupported) = unsupported {
        object.insert("unsupported".to_owned(), json!(unsupported));
    }
}

#[cfg(test)]
mod tests {
    use octelium_api::Kind;

    use super::*;

    fn shown(path: &str, recursive: bool) -> String {
        text(&find(path).unwrap(), recursive, COLUMNS_MAX, false)
    }

    #[test]
    fn a_member_is_shown_with_its_members() {
        let text = shown("svc.spec.config.upstream", false);
        assert!(text.starts_with("Service.spec.config.upstream <object>\n  Where requests go."), "{text}");
        assert!(
            text.contains("\nMEMBERS\n  user <string> (not supported yet by this version)\n      Name of"),
            "{text}"
        );
        assert!(text.contains("  url <string>\n      Scheme, host and port"), "{text}");
        assert!(text.contains("Only one of url, loadbalance, container."), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS_MAX), "{text}");
    }

    #[test]
    fn values_are_listed() {
        let text = shown("policy.spec.rules.effect", false);
        assert_eq!(
            text,
            "Policy.spec.rules.effect <enum>\n  What happens then. Required.\n\nVALUES\n  ALLOW\n      It is let through.\n  DENY\n      It is refused.\n"
        );
        assert!(shown("svc.spec.mode", false).contains("\n  SSH (not supported yet by this version)\n"));
        assert!(shown("svc.spec.region", false).ends_with("\n  It is not supported yet by this version.\n"));
    }

    #[test]
    fn the_whole_of_every_kind_is_shown() {
        for kind in Kind::ALL {
            let text = shown(kind.name(), true);
            assert!(text.contains("\n  metadata <Metadata>\n    uid <string>\n"), "{text}");
            let value = value(&find(kind.name()).unwrap(), true);
            assert_eq!(value["kind"], kind.name());
            assert!(value.to_string().len() > 1000, "{value}");
        }
        let text = shown("Policy", true);
        // A condition in a condition is the same again.
        assert_eq!(text.matches("matchAny <boolean>").count(), 2, "{text}");
    }

    #[test]
    fn programs_get_the_same() {
        let value = value(&find("SVC.spec.config.upstream.url").unwrap(), false);
        assert_eq!((&value["path"], &value["type"]), (&json!("Service.spec.config.upstream.url"), &json!("string")));
        assert_eq!(value["onlyOneOf"], json!(["url", "loadbalance", "container"]));
        assert_eq!((value.get("members"), value.get("values"), value.get("unsupported")), (None, None, None));
    }

    #[test]
    fn slips_are_told() {
        let error = |path: &str| find(path).unwrap_err().to_string();
        assert!(error("pod").starts_with("`pod`: no such kind; there are service, "), "{}", error("pod"));
        assert_eq!(error("svc.spec.isPublc"), "Service.spec has no member `isPublc`; did you mean `isPublic`?");
    }

    #[test]
    fn lines_are_broken_between_words() {
        let mut out = String::new();
        wrap(&mut out, "aa bb  cc dddddddddddd e", 2, 8);
        assert_eq!(out, "  aa bb\n  cc\n  dddddddddddd\n  e\n");
        out.clear();
        wrap(&mut out, "", 2, 8);
        assert_eq!(out, "");
    }
}
