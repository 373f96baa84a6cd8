//! YAML that reads back as the same tree under YAML 1.1 and 1.2 alike: whatever could be taken for something else is quoted.

use std::fmt::Write;

use super::write::Tree;

/// The tree as one document, with a line break at its end.
pub(super) fn document(tree: &Tree) -> String {
    let mut out = String::new();
    match tree {
        Tree::Mapping(members) if !members.is_empty() => mapping(&mut out, members, 0, false),
        Tree::List(items) if !items.is_empty() => list(&mut out, items, 0),
        scalar => {
            inline(&mut out, scalar, 0);
            out.push('\n');
        }
    }
    out
}

/// `first_inline`: the first member stands on a line that has begun, after a list's dash.
fn mapping(out: &mut String, members: &[(String, Tree)], indent: usize, first_inline: bool) {
    for (index, (name, value)) in members.iter().enumerate() {
        if index > 0 || !first_inline {
            pad(out, indent);
        }
        text(out, name, None);
        out.push(':');
        match value {
            Tree::Mapping(members) if !members.is_empty() => {
                out.push('\n');
                mapping(out, members, indent + 2, false);
            }
            Tree::List(items) if !items.is_empty() => {
                out.push('\n');
                list(out, items, indent);
            }
            scalar => {
                out.push(' ');
                inline(out, scalar, indent + 2);
                out.push('\n');
            }
        }
    }
}

fn list(out: &mut String, items: &[Tree], indent: usize) {
    for item in items {
        pad(out, indent);
        out.push('-');
        match item {
            Tree::Mapping(members) if !members.is_empty() => {
                out.push(' ');
                mapping(out, members, indent + 2, true);
            }
            Tree::List(items) if !items.is_empty() => {
                out.push('\n');
                list(out, items, indent + 2);
            }
            scalar => {
                out.push(' ');
                inline(out, scalar, indent + 2);
                out.push('\n');
            }
        }
    }
}

/// Scalars and empty collections. `indent`: of the lines that follow, where the text has several.
fn inline(out: &mut String, tree: &Tree, indent: usize) {
    // Writing to a String does not fail.
    match tree {
        Tree::Null => out.push_str("null"),
        Tree::Bool(value) => write!(out, "{value}").unwrap_or_default(),
        Tree::Integer(value) => write!(out, "{value}").unwrap_or_default(),
        Tree::Float(value) => write!(out, "{value:?}").unwrap_or_default(),
        Tree::Text(value) => text(out, value, Some(indent)),
        Tree::List(_) => out.push_str("[]"),
        Tree::Mapping(_) => out.push_str("{}"),
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// `block`: the indentation of a block of lines, if the text may be one.
fn text(out: &mut String, text: &str, block: Option<usize>) {
    if is_plain(text) {
        out.push_str(text);
    } else if let Some(indent) = block
        && is_block(text)
    {
        out.push_str(if text.ends_with('\n') { "|" } else { "|-" });
        for line in text.lines() {
            out.push('\n');
            if !line.is_empty() {
                pad(out, indent);
                out.push_str(line);
            }
        }
    } else if text.chars().all(is_printable) {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    } else {
        double_quoted(out, text);
    }
}

/// Letters first, nothing with a meaning anywhere, no word that some YAML takes for a boolean or nothing.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 11] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    text.starts_with(|first: char| first.is_ascii_alphabetic() || matches!(first, '/' | '_'))
        && text
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || matches!(char, ' ' | '_' | '-' | '.' | '/' | ':' | '+'))
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains("  ")
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

/// Several lines of ordinary characters, with at most one line break at the end.
fn is_block(text: &str) -> bool {
    text.contains('\n')
        && !text.ends_with("\n\n")
        && text.lines().next().is_some_and(|first| first.starts_with(|char: char| !char.is_whitespace()))
        && text.lines().all(|line| !line.ends_with([' ', '\t']))
        && text.chars().all(|char| matches!(char, '\n' | '\t') || is_printable(char))
}

fn is_printable(char: char) -> bool {
    matches!(char, ' '..='~') || (char >= '\u{a0}' && !special(char) && !char.is_whitespace())
}

/// Characters that YAML forbids, takes for line breaks, or that can't be seen.
fn special(char: char) -> bool {
    matches!(char, '\u{80}'..='\u{a0}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(char, '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..)
        || (char as u32) & 0xfffe == 0xfffe
}

fn double_quoted(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char if is_printable(char) => out.push(char),
            // Writing to a String does not fail.
            char if (char as u32) < 0x100 => write!(out, "\\x{:02x}", char as u32).unwrap_or_default(),
            char if (char as u32) < 0x10000 => write!(out, "\\u{:04x}", char as u32).unwrap_or_default(),
            char => write!(out, "\\U{:08x}", char as u32).unwrap_or_default(),
        }
    }
    out.push('"');
}
