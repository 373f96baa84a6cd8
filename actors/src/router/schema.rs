//! JSON Schemas, compiled.

use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// A regular expression of a schema takes no more memory than this.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Characters of a place that are shown.
const PLACE_CHARS_MAX: usize = 200;

/// A schema of the draft that its `$schema` names, 2020-12 without one. It refers to nothing outside itself.
pub struct Schema(Validator);

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

impl Schema {
    /// Compiles the text of a schema.
    ///
    /// # Errors
    /// A sentence, if it isn't JSON, is no schema, refers to another document, or has a pattern that can't be searched for in linear
    /// time.
    pub fn compile(text: &str) -> Result<Self, String> {
        let schema: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        if !(schema.is_object() || schema.is_boolean()) {
            return Err("not a JSON Schema: it must be an object".to_owned());
        }
        // Without look-around and back-references, which can take exponential time.
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        let options = jsonschema::options().with_pattern_options(patterns);
        let validator = options.build(&schema).map_err(|error| {
            let place = cut(error.instance_path().as_str());
            let place = if place.is_empty() { String::new() } else { format!(" at `{place}`") };
            format!("not a JSON Schema{place}: {}", cut(&error.to_string()))
        })?;
        Ok(Self(validator))
    }

    /// Whether a value fits.
    ///
    /// # Errors
    /// Where it doesn't, and which part of the schema says so; nothing of the value but the names of members.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.0.validate(value).map_err(|error| {
            let (place, rule) = (error.instance_path().as_str(), error.schema_path().as_str());
            let place = if place.is_empty() { "the body".to_owned() } else { format!("`{}`", cut(place)) };
            format!("{place} doesn't fit `{}`", cut(rule))
        })
    }
}

fn cut(text: &str) -> String {
    text.chars().take(PLACE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_fit_pass_and_others_are_told_where() {
        let schema =
            r#"{"type":"object","required":["name"],"properties":{"name":{"type":"string","pattern":"^[a-z]+$"}}}"#;
        let schema = Schema::compile(schema).unwrap();
        assert_eq!(schema.check(&json!({"name": "ann"})), Ok(()));
        for (value, place) in [
            (json!([]), "the body doesn't fit `/type`"),
            (json!({}), "the body doesn't fit `/required`"),
            (json!({"name": 7}), "`/name` doesn't fit `/properties/name/type`"),
            (json!({"name": "Secret"}), "`/name` doesn't fit `/properties/name/pattern`"),
        ] {
            assert_eq!(schema.check(&value), Err(place.to_owned()));
        }
    }

    #[test]
    fn a_draft_is_followed_that_is_named() {
        let tuple = |draft: &str| format!(r#"{{"$schema":"{draft}","items":[{{"type":"string"}}]}}"#);
        let draft_7 = Schema::compile(&tuple("http://json-schema.org/draft-07/schema#")).unwrap();
        assert!(draft_7.check(&json!(["a", 1])).is_ok() && draft_7.check(&json!([1])).is_err());
        assert!(
            Schema::compile(&tuple("https://json-schema.org/draft/2020-12/schema")).is_err(),
            "a list is no schema"
        );
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for (text, expected) in [
            ("{", "not JSON"),
            ("[]", "must be an object"),
            (r#"{"type":"strin"}"#, "/type"),
            (r#"{"$ref":"https://example.com/other.json"}"#, "example.com"),
            (r#"{"$ref":"file:///etc/passwd"}"#, "file"),
            (r##"{"$ref":"#/$defs/none"}"##, "none"),
            (r#"{"$schema":"https://example.com/dialect"}"#, "example.com"),
            (r#"{"pattern":"(?=a)b"}"#, "pattern"),
            (r#"{"pattern":"(a)\\1"}"#, "pattern"),
            (r#"{"pattern":"((a{1000}){1000}){1000}"}"#, "pattern"),
        ] {
            let error = Schema::compile(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
