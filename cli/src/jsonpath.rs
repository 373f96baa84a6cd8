//! JSONPath (RFC 9535), and the templates around it that scripts write for kubectl.
//!
//! `$.items[*].metadata.name` prints each value on a line of its own. With braces it is a template: text stays, `{.expression}`
//! becomes its values with a blank between them, `{"\n"}` is text, `{range .items[*]}…{end}` repeats.

use serde_json::Value;
use serde_json_path::JsonPath;

/// Ranges are not nested deeper than this.
const DEPTH_MAX: usize = 8;

/// What to print of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Form);

#[derive(Debug, Clone, PartialEq)]
enum Form {
    Lines(JsonPath),
    Parts(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Values(JsonPath),
    Range(JsonPath, Vec<Part>),
}

impl Template {
    /// Reads an expression or a template.
    ///
    /// # Errors
    /// What was found and where, counted in characters from 1.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("expected an expression such as jsonpath={.items[*].metadata.name}, found nothing".to_owned());
        }
        if !text.contains('{') {
            return Ok(Self(Form::Lines(path(text, 0, text)?)));
        }
        let mut reader = Reader { text, at: 0 };
        let parts = reader.parts(0)?;
        Ok(Self(Form::Parts(parts)))
    }

    /// What the template makes of `value`, ending with a line break unless it is empty.
    pub fn render(&self, value: &Value) -> String {
        let mut out = String::new();
        match &self.0 {
            Form::Lines(path) => {
                for found in path.query(value).iter() {
                    out.push_str(&shown(found));
                    out.push('\n');
                }
            }
            Form::Parts(parts) => {
                render(parts, value, &mut out);
                if !out.is_empty() && !out.ends_with('\n') {
                    out.push('\n');
                }
            }
        }
        out
    }
}

fn render(parts: &[Part], value: &Value, out: &mut String) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Values(path) => {
                let found: Vec<_> = path.query(value).iter().map(|found| shown(found)).collect();
                out.push_str(&found.join(" "));
            }
            Part::Range(path, parts) => path.query(value).iter().for_each(|found| render(parts, found, out)),
        }
    }
}

/// Text as it is, all else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A path in kubectl's spelling (`.items`, `items`, `@`, nothing) in that of the RFC. `at` is where it stands in `whole`.
fn path(text: &str, at: usize, whole: &str) -> Result<JsonPath, String> {
    let trimmed = text.trim();
    let start = at + (text.len() - text.trim_start().len());
    let (translated, shift) = match trimmed {
        "" | "." | "@" => ("$".to_owned(), 0),
        path if path.starts_with('$') => (path.to_owned(), 0),
        path if path.starts_with('@') => (format!("${}", &path[1..]), 0),
        path if path.starts_with(['.', '[']) => (format!("${path}"), 1),
        path => (format!("$.{path}"), 2),
    };
    JsonPath::parse(&translated).map_err(|error| {
        // The position is one of bytes in the translated text, from 1.
        let byte = (start + error.position().saturating_sub(1).saturating_sub(shift)).min(whole.len());
        let character = 1 + whole.char_indices().take_while(|(index, _)| *index < byte).count();
        format!("`{whole}`, character {character}: {}", error.message())
    })
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    /// Parts up to the end, or up to `{end}` inside of a range.
    fn parts(&mut self, depth: usize) -> Result<Vec<Part>, String> {
        if depth > DEPTH_MAX {
            return Err(self.wrong(self.at, &format!("ranges are nested deeper than {DEPTH_MAX}")));
        }
        let mut parts = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(open) = rest.find('{') else {
                if depth > 0 {
                    return Err(self.wrong(self.text.len(), "expected {end}, found the end of the template"));
                }
                if let Some(close) = rest.find('}') {
                    return Err(self.wrong(self.at + close, "this `}` closes nothing"));
                }
                if !rest.is_empty() {
                    parts.push(Part::Text(rest.to_owned()));
                }
                self.at = self.text.len();
                return Ok(parts);
            };
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            let begin = self.at + open + 1;
            let inner = self.braced(begin)?;
            match inner.trim() {
                "end" if depth > 0 => return Ok(parts),
                "end" => return Err(self.wrong(begin, "{end} without a {range …} before it")),
                trimmed if trimmed.starts_with('"') => {
                    let text = serde_json::from_str::<String>(trimmed)
                        .map_err(|_| self.wrong(begin, "expected text in double quotes, as in JSON"))?;
                    parts.push(Part::Text(text));
                }
                trimmed if trimmed.strip_prefix("range").is_some_and(|rest| rest.starts_with(' ')) => {
                    let after = inner.len() - inner.trim_start().len() + "range".len();
                    let over = path(&inner[after..], begin + after, self.text)?;
                    parts.push(Part::Range(over, self.parts(depth + 1)?));
                }
                _ => parts.push(Part::Values(path(inner, begin, self.text)?)),
            }
        }
    }

    /// What stands before the brace that closes the one before `begin`; braces in quotes don't count.
    fn braced(&mut self, begin: usize) -> Result<&'t str, String> {
        let mut quote = None;
        let mut escaped = false;
        for (index, c) in self.text[begin..].char_indices() {
            match (quote, c) {
                _ if escaped => escaped = false,
                (Some(_), '\\') => escaped = true,
                (Some(open), c) if c == open => quote = None,
                (None, '"' | '\'') => quote = Some(c),
                (None, '{') => return Err(self.wrong(begin + index, "a `{` inside of braces")),
                (None, '}') => {
                    self.at = begin + index + 1;
                    return Ok(&self.text[begin..begin + index]);
                }
                _ => {}
            }
        }
        Err(self.wrong(begin.saturating_sub(1), "this `{` is never closed"))
    }

    fn wrong(&self, byte: usize, what: &str) -> String {
        let character = 1 + self.text.char_indices().take_while(|(index, _)| *index < byte).count();
        format!("`{}`, character {character}: {what}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list() -> Value {
        json!({"kind": "UserList", "items": [
            {"metadata": {"name": "ann", "labels": {"team": "red"}}, "spec": {"groups": ["a", "b"], "isDisabled": true}},
            {"metadata": {"name": "bob"}, "spec": {"email": "b{}@x.io"}},
        ]})
    }

    #[test]
    fn expressions_and_templates_print_what_they_find() {
        for (text, expected) in [
            ("$.items[*].metadata.name", "ann\nbob\n"),
            (".items[*].metadata.name", "ann\nbob\n"),
            ("items[0].metadata.name", "ann\n"),
            ("$..name", "ann\nbob\n"),
            ("{.items[*].metadata.name}", "ann bob\n"),
            ("{items[*].metadata.name}", "ann bob\n"),
            ("{$.items[0].spec.groups}", "[\"a\",\"b\"]\n"),
            ("{.items[0].spec.isDisabled}", "true\n"),
            ("{.items[?(@.metadata.name==\"bob\")].spec.email}", "b{}@x.io\n"),
            ("{.items[?(@.spec.email=='b{}@x.io')].metadata.name}", "bob\n"),
            ("first: {.items[0].metadata.name}!", "first: ann!\n"),
            ("{range .items[*]}{.metadata.name}{\"\\t\"}{.metadata.labels.team}{\"\\n\"}{end}", "ann\tred\nbob\t\n"),
            ("{range .items[*]}{range .spec.groups[*]}<{@}>{end}{end}", "<a><b>\n"),
            ("{.none}", ""),
            ("$.none", ""),
        ] {
            assert_eq!(Template::parse(text).unwrap().render(&list()), expected, "{text}");
        }
        assert!(Template::parse("{.}").unwrap().render(&list()).starts_with("{\"items\""));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, place, what) in [
            ("", "", "found nothing"),
            ("{.items[}", "character", ""),
            ("{.items", "character 1:", "never closed"),
            ("a{.b}c}", "character 7:", "closes nothing"),
            ("{range .items[*]}{.name}", "character 25:", "expected {end}"),
            ("{end}", "character 2:", "without a {range"),
            ("{\"a}", "character 1:", "never closed"),
            ("{.a{.b}}", "character 4:", "inside of braces"),
            ("$.items[", "character", ""),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(place) && error.contains(what), "{text}: {error}");
        }
        let deep = "{range .a}".repeat(DEPTH_MAX + 2);
        assert!(Template::parse(&deep).unwrap_err().contains("nested deeper"));
    }
}
