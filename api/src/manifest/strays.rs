//! Members that were indented too far, and so became free data or a line of a text. Both may be meant, and nothing is refused for
//! it; but a rule that was lost this way would let everybody in without a word.

use prost_reflect::{FieldDescriptor, MessageDescriptor};

use super::{
    places::Mark,
    tree::{Content, Entry, Node},
};

/// Members that decide about access. Texts are searched for these alone: scripts have lines of all kinds.
const MEMBERS: [&str; 11] = [
    "authorization",
    "condition",
    "effect",
    "enforcementRules",
    "inlinePolicies",
    "isAnonymous",
    "isDisabled",
    "isPublic",
    "policies",
    "priority",
    "rules",
];

/// More keys of one free-form member are not told.
const FOUND_MAX: usize = 10;

/// Keys anywhere in `free`, the value of a free-form member of `owner`, that are members of `owner` and not among its `given` ones.
pub(super) fn in_free_form(owner: &MessageDescriptor, given: &[Entry<'_>], free: &Node<'_>) -> Vec<(Mark, String)> {
    let known: Vec<FieldDescriptor> = owner.fields().collect();
    let lost = |key: &str| known.iter().any(|field| field.name() == key) && !given.iter().any(|entry| entry.key == key);
    let mut found = Vec::new();
    search(free, &lost, &mut found);
    found
}

fn search(node: &Node<'_>, lost: &dyn Fn(&str) -> bool, found: &mut Vec<(Mark, String)>) {
    if found.len() >= FOUND_MAX {
        return;
    }
    // No deeper than the text may be nested.
    match &node.content {
        Content::Mapping(entries) => {
            for entry in entries {
                if lost(&entry.key) {
                    let text = format!("`{}` is free data here; if the member is meant, indent it less", entry.key);
                    found.push((entry.at, text));
                }
                search(&entry.value, lost, found);
            }
        }
        Content::List(items) => items.iter().for_each(|item| search(item, lost, found)),
        Content::Plain(_) | Content::Text(_) => {}
    }
}

/// The first line of a text of several that looks like a member that decides about access.
pub(super) fn in_text(node: &Node<'_>) -> Option<(Mark, String)> {
    let (Content::Text(text) | Content::Plain(text)) = &node.content else { return None };
    let mut lines = text.lines();
    // The first line stands where the text has to begin.
    lines.next()?;
    let key = lines.find_map(|line| {
        let line = line.trim_start().trim_start_matches("- ");
        let (key, rest) = line.split_once(':')?;
        (MEMBERS.contains(&key) && (rest.is_empty() || rest.starts_with(' '))).then_some(key)
    })?;
    Some((node.at, format!("a line of this text begins with `{key}:`; if the member is meant, indent it less")))
}
