//! Spellings of the public documentation that stand for others: `ratelimit`, and members of `config.http` directly under `config`.

use std::rc::Rc;

use super::tree::{Content, Entry, Fault, Node};

/// Members of `config.http` that may stand directly under `config`.
const HTTP_MEMBERS: [&str; 5] = ["plugins", "auth", "header", "path", "cors"];

/// What became of the members of a message.
pub(super) struct Normalised<'t> {
    pub entries: Vec<Entry<'t>>,
    /// Where an alias stood, and what it means.
    pub notes: Vec<(super::places::Mark, String)>,
    pub faults: Vec<Fault>,
}

/// Whether `key` is one of the short spellings of `config`'s members.
pub(super) fn is_http_member(key: &str) -> bool {
    HTTP_MEMBERS.contains(&key)
}

/// Moves members of `config` that belong to `config.http` there. Faults have paths relative to the config.
pub(super) fn config<'t>(at: super::places::Mark, entries: &[Entry<'t>]) -> Normalised<'t> {
    let mut out = Normalised { entries: Vec::new(), notes: Vec::new(), faults: Vec::new() };
    let (short, mut rest): (Vec<_>, Vec<_>) = entries.iter().cloned().partition(|entry| is_http_member(&entry.key));
    let Some(first) = short.first() else {
        out.entries = rest;
        return out;
    };
    let given = rest.iter().position(|entry| entry.key == "http");
    let mut members = match given.map(|index| &rest[index].value.content) {
        Some(Content::Mapping(members)) => members.clone(),
        _ => Vec::new(),
    };
    for entry in &short {
        match members.iter().find(|member| member.key == entry.key) {
            Some(member) => out.faults.push(Fault {
                at: entry.at,
                path: entry.key.to_string(),
                message: format!(
                    "given here and, in its full spelling, as `http.{}` at {}:{}; keep one",
                    entry.key, member.at.0, member.at.1
                ),
            }),
            None => {
                out.notes.push((entry.at, format!("`{}` directly under a config is read as `http.{0}`", entry.key)));
                members.push(entry.clone());
            }
        }
    }
    match given {
        // Anything but a mapping is left to be refused where it stands.
        Some(index) if matches!(rest[index].value.content, Content::Mapping(_)) => {
            let node = &rest[index].value;
            rest[index].value = Rc::new(Node::mapping(node.at, members));
        }
        Some(_) => {}
        None => {
            let at = if first.at.0 == 0 { at } else { first.at };
            rest.push(Entry { key: "http".into(), at, value: Rc::new(Node::mapping(at, members)) });
        }
    }
    out.entries = rest;
    out
}

/// Renames `ratelimit` of a plugin.
pub(super) fn plugin<'t>(entries: &[Entry<'t>]) -> Normalised<'t> {
    let mut out = Normalised { entries: entries.to_vec(), notes: Vec::new(), faults: Vec::new() };
    let full = entries.iter().find(|entry| entry.key == "rateLimit").map(|entry| entry.at);
    let Some(index) = entries.iter().position(|entry| entry.key == "ratelimit") else { return out };
    let at = entries[index].at;
    match full {
        Some((line, column)) => {
            out.entries.remove(index);
            out.faults.push(Fault {
                at,
                path: "ratelimit".to_owned(),
                message: format!("given here and, in its full spelling, as `rateLimit` at {line}:{column}; keep one"),
            });
        }
        None => {
            out.entries[index].key = "rateLimit".into();
            out.notes.push((at, "`ratelimit` is read as `rateLimit`".to_owned()));
        }
    }
    out
}
