//! JSON Schemas, compiled.
//!
//! The library recurses, over the schema and the value at once, and keeps what it finds. So what a schema may have is bounded when
//! it is compiled, and a value is only asked whether it fits: all reasons why not can be exponentially many.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Weak},
    thread,
};

use jsonschema::{PatternOptions, Validator};
use parking_lot::Mutex;
use serde_json::Value;

/// A regular expression of a schema takes no more memory than this.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// So many regular expressions a schema may have.
const PATTERNS_MAX: usize = 64;
/// So many keywords that apply another schema to the same value; each may be gone through at each level of a value.
const HOPS_MAX: usize = 512;
/// Values are checked that nest no deeper.
const DEPTH_MAX: usize = 64;
/// Hops times levels that the stack of any thread bears; with more there is a thread with a large one.
const SMALL: usize = 512;
/// A hop takes less than 1 KiB: this is twice what it takes at most.
const STACK_BYTES: usize = 2 * HOPS_MAX * DEPTH_MAX * 1024;
/// Characters of the library's sentences that are shown.
const SHOWN_MAX: usize = 200;

const SAME_VALUE: [&str; 12] = [
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "dependencies",
];

/// A schema of the draft that its `$schema` names, 2020-12 without one. It refers to nothing outside itself.
pub struct Schema {
    validator: Validator,
    hops: usize,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

/// Schemas in use, by their texts: configurations that inherit one share it.
static IN_USE: LazyLock<Mutex<HashMap<String, Weak<Schema>>>> = LazyLock::new(Mutex::default);

impl Schema {
    /// Compiles the text of a schema, or finds it among those in use.
    ///
    /// # Errors
    /// A sentence, if it isn't JSON, is no schema, refers to another document, has a pattern that can't be searched for in linear
    /// time, or is more than the bounds of this module allow.
    pub fn of(text: &str) -> Result<Arc<Self>, String> {
        if let Some(schema) = IN_USE.lock().get(text).and_then(Weak::upgrade) {
            return Ok(schema);
        }
        let schema = Arc::new(Self::compile(text)?);
        let mut in_use = IN_USE.lock();
        in_use.retain(|_, schema| schema.strong_count() > 0);
        in_use.insert(text.to_owned(), Arc::downgrade(&schema));
        Ok(schema)
    }

    fn compile(text: &str) -> Result<Self, String> {
        let schema: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        if !(schema.is_object() || schema.is_boolean()) {
            return Err("not a JSON Schema: it must be an object".to_owned());
        }
        // In draft 4 the keyword had no `$`; in others `id` is anything, and often stands in examples.
        let is_draft_4 = schema["$schema"].as_str().is_some_and(|draft| draft.contains("draft-04"));
        let mut found = Found { is_draft_4, ..Found::default() };
        found.look(&schema, true)?;
        // Without look-around and back-references, which can take exponential time.
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        let build = || {
            jsonschema::options().with_pattern_options(patterns).build(&schema).map_err(|error| {
                let place = cut(error.instance_path().as_str());
                let place = if place.is_empty() { String::new() } else { format!(" at `{place}`") };
                format!("not a JSON Schema{place}: {}", cut(&error.to_string()))
            })
        };
        Ok(Self { validator: on_a_large_stack(build)??, hops: found.hops })
    }

    /// Whether a value fits, which nests `depth` deep.
    ///
    /// # Errors
    /// A sentence, if it doesn't. Nothing of the value is in it.
    pub fn check(&self, value: &Value, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("the body nests deeper than {DEPTH_MAX}"));
        }
        let fits = match (self.hops + 1) * (depth + 1) <= SMALL {
            true => self.validator.is_valid(value),
            false => on_a_large_stack(|| self.validator.is_valid(value))?,
        };
        if fits { Ok(()) } else { Err("the body doesn't fit its schema".to_owned()) }
    }
}

/// What makes a schema costly.
#[derive(Default)]
struct Found {
    is_draft_4: bool,
    hops: usize,
    patterns: usize,
}

impl Found {
    /// The text of a schema nests no deeper than 128, so this may recurse.
    fn look(&mut self, value: &Value, is_root: bool) -> Result<(), String> {
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.look(item, false)),
            Value::Object(members) => {
                for (name, member) in members {
                    let names_another = matches!(name.as_str(), "$id" | "$schema") || name == "id" && self.is_draft_4;
                    if !is_root && names_another && member.is_string() {
                        return Err(format!("`{name}` can stand at the top only: a schema is one document"));
                    }
                    let alternatives = member.as_array().map_or(1, Vec::len);
                    self.hops += if SAME_VALUE.contains(&name.as_str()) { alternatives } else { 0 };
                    self.patterns += match (name.as_str(), member) {
                        ("pattern", Value::String(_)) => 1,
                        ("patternProperties", Value::Object(patterns)) => patterns.len(),
                        _ => 0,
                    };
                    self.look(member, false)?;
                }
                if self.hops > HOPS_MAX {
                    return Err(format!("it has more than {HOPS_MAX} references and alternatives"));
                }
                if self.patterns > PATTERNS_MAX {
                    return Err(format!("it has more than {PATTERNS_MAX} patterns"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Only what is touched of a stack takes memory.
fn on_a_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let failed = |error: &dyn fmt::Display| format!("no thread for a schema: {error}");
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("schema".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, work).map_err(|error| failed(&error))?;
        thread.join().map_err(|_| failed(&"it panicked"))
    })
}

fn cut(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn fits(schema: &str, value: &Value) -> bool {
        Schema::of(schema).unwrap().check(value, 3).is_ok()
    }

    #[test]
    fn values_that_fit_pass_and_others_do_not() {
        let schema =
            r#"{"type":"object","required":["name"],"properties":{"name":{"type":"string","pattern":"^[a-z]+$"}}}"#;
        assert!(fits(schema, &json!({"name": "ann"})));
        for value in [json!([]), json!({}), json!({"name": 7}), json!({"name": "Secret"})] {
            assert!(!fits(schema, &value), "{value}");
        }
    }

    #[test]
    fn a_draft_is_followed_that_is_named() {
        let tuple = |draft: &str| format!(r#"{{"$schema":"{draft}","items":[{{"type":"string"}}]}}"#);
        let draft_7 = tuple("http://json-schema.org/draft-07/schema#");
        assert!(fits(&draft_7, &json!(["a", 1])) && !fits(&draft_7, &json!([1])));
        assert!(Schema::of(&tuple("https://json-schema.org/draft/2020-12/schema")).is_err(), "a list is no schema");
    }

    #[test]
    fn what_is_no_schema_or_costs_too_much_is_refused() {
        let many = |what: &str| vec![what; 600].join(",");
        let patterns: Vec<String> = (0..65).map(|n| format!(r#"{{"pattern":"{n}"}}"#)).collect();
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
            (r#"{"$defs":{"a":{"$id":"urn:a"}}}"#, "at the top only"),
            (r#"{"not":{"$schema":"http://json-schema.org/draft-04/schema#"}}"#, "at the top only"),
            (r#"{"$schema":"http://json-schema.org/draft-04/schema#","not":{"id":"urn:a"}}"#, "at the top only"),
            (&format!(r#"{{"allOf":[{}]}}"#, many("{}")), "more than 512"),
            (&format!(r#"{{"allOf":[{}]}}"#, patterns.join(",")), "more than 64"),
        ] {
            let error = Schema::of(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(fits(r#"{"examples":[{"id":"42"}]}"#, &json!({"id": "43"})), "not a keyword");
        assert!(fits(r#"{"properties":{"$id":{"type":"string"}}}"#, &json!({"$id": "x"})), "a member of that name");
    }

    /// 500 references one after the other, at each of 60 levels; and two alternatives at each of them, which a body that fits
    /// neither could lead through 2^60 times.
    #[test]
    fn deep_ones_neither_overflow_a_stack_nor_take_for_ever() {
        let link = |n: usize| format!(r##""d{n}":{{"$ref":"#/$defs/d{}"}}"##, n + 1);
        let chain: Vec<String> = (0..500).map(link).collect();
        let last = r##""d500":{"properties":{"a":{"$ref":"#/$defs/d0"}}}"##;
        let long = format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{},{last}}}}}"##, chain.join(","));
        let both = r##"{"anyOf":[{"$ref":"#/$defs/n"},{"$ref":"#/$defs/n"}],"$defs":{"n":{"properties":
            {"a":{"anyOf":[{"$ref":"#/$defs/n"},{"$ref":"#/$defs/n"}]},"b":{"type":"string"}}}}}"##;
        let deep = |inner: Value| (0..60).fold(inner, |value, _| json!({ "a": value }));
        let began = Instant::now();
        let long = Schema::of(&long).unwrap();
        assert!(long.check(&deep(json!({})), 61).is_ok());
        assert!(long.check(&deep(json!({})), 65).is_err());
        let both = Schema::of(both).unwrap();
        assert!(both.check(&deep(json!({"b": "x"})), 61).is_ok());
        assert!(both.check(&deep(json!({"b": 1})), 61).is_err());
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }

    #[test]
    fn schemas_in_use_are_shared_and_others_forgotten() {
        let text = r#"{"const":"schemas_in_use_are_shared"}"#;
        let first = Schema::of(text).unwrap();
        assert!(Arc::ptr_eq(&first, &Schema::of(text).unwrap()));
        drop(first);
        Schema::of("true").unwrap();
        assert!(!IN_USE.lock().contains_key(text));
    }
}
