//! Which resources are meant, by their labels: `team=red,stage!=test,owner,!old`.

use std::{collections::BTreeMap, str::FromStr};

use octelium_api::{Object, name};

/// All terms must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    Lacks(String),
}

impl Selector {
    /// Whether the resource's labels are such.
    pub fn matches(&self, object: &Object) -> bool {
        let none = BTreeMap::new();
        let labels = object.metadata().map_or(&none, |metadata| &metadata.labels);
        self.0.iter().all(|term| match term {
            Term::Is(key, value) => labels.get(key) == Some(value),
            Term::IsNot(key, value) => labels.get(key) != Some(value),
            Term::Has(key) => labels.contains_key(key),
            Term::Lacks(key) => !labels.contains_key(key),
        })
    }

    /// Whether some label must be there: what doesn't ask for any is no reason to delete.
    pub fn asks_for_a_label(&self) -> bool {
        self.0.iter().any(|term| matches!(term, Term::Is(..) | Term::Has(_)))
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(term).collect::<Result<_, _>>().map(Self)
    }
}

fn term(text: &str) -> Result<Term, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("expected key=value, key!=value, key or !key, found nothing".to_owned());
    }
    let (term, key) = if let Some((key, value)) = text.split_once("!=") {
        (Term::IsNot(key.trim().to_owned(), value.trim().to_owned()), key)
    } else if let Some((key, value)) = text.split_once('=') {
        // Two signs mean the same as one, as elsewhere.
        let value = value.strip_prefix('=').unwrap_or(value);
        (Term::Is(key.trim().to_owned(), value.trim().to_owned()), key)
    } else if let Some(key) = text.strip_prefix('!') {
        (Term::Lacks(key.trim().to_owned()), key)
    } else {
        (Term::Has(text.to_owned()), text)
    };
    if !name::is_plain(key.trim()) {
        let key = key.trim();
        return Err(format!(
            "`{key}` is no label's key: 2 to 40 lower-case letters, digits and single hyphens, a letter first"
        ));
    }
    match &term {
        Term::Is(_, value) | Term::IsNot(_, value) if !is_value(value) => Err(format!(
            "`{value}` is no label's value: 1 to 32 lower-case letters, digits and hyphens, no hyphen first"
        )),
        _ => Ok(term),
    }
}

fn is_value(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use octelium_api::{core, meta::Metadata};

    use super::*;

    fn labelled(labels: &[(&str, &str)]) -> Object {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        core::User { metadata: Some(Metadata { labels, ..Default::default() }), ..Default::default() }.into()
    }

    #[test]
    fn all_terms_must_hold() {
        let object = labelled(&[("team", "red"), ("stage", "prod")]);
        for (text, expected) in [
            ("team=red", true),
            ("team==red", true),
            ("team=blue", false),
            ("team!=blue", true),
            ("team!=red", false),
            ("team", true),
            ("owner", false),
            ("!owner", true),
            ("!team", false),
            ("team=red, stage=prod", true),
            ("team=red,stage=test", false),
            ("owner!=ann", true),
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().matches(&object), expected, "{text}");
        }
        assert!(Selector::default().matches(&object));
    }

    #[test]
    fn what_no_label_can_be_is_refused() {
        for text in ["", "team=", "=red", "Team=red", "team=Red", "team=red,", "te am", "!", "a=b", "team=-x"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }

    #[test]
    fn absence_alone_is_no_reason_to_delete() {
        for (text, expected) in [("team", true), ("team=red", true), ("!team", false), ("team!=red", false)] {
            assert_eq!(text.parse::<Selector>().unwrap().asks_for_a_label(), expected, "{text}");
        }
    }
}
