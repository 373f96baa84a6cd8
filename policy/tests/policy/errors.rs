//! Errors say where and what.

use octelium_api::core;
use octelium_policy::{Error, Origin, Policy};

use crate::support::generated;

fn errors(spec: serde_json::Value) -> Vec<String> {
    let spec = generated::<core::policy::Spec>(&spec);
    let errors: Vec<Error> = Policy::compile(&spec, Origin::BuiltIn(String::new()), "spec").unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn every_error_of_a_policy_is_reported_at_its_place() {
    let spec = serde_json::json!({
        "rules": [
            {"effect": "ALLOW", "condition": {"match": "1 == 1 && ctxx.y && ctx.usr"}},
            {"effect": "DENY", "condition": {"all": {"of": [{"matchAny": true}, {"not": "ctx.user.spec.email > 5"}]}}}
        ],
        "enforcementRules": [{"effect": "IGNORE", "condition": {"match": "size()"}}]
    });
    assert_eq!(
        errors(spec),
        [
            "spec.rules[0].condition.match:1:11: undeclared reference to `ctxx`; did you mean `ctx`?",
            "spec.rules[0].condition.match:1:25: `ctx` has no field `usr`; did you mean `user`?",
            "spec.rules[1].condition.all.of[1].not:1:21: `>` is not defined for string and int",
            "spec.enforcementRules[0].condition.match:1:1: `size` takes 1 arguments, not 0",
        ]
    );
}

/// Effect, kind of condition, expression → warnings.
#[test]
fn what_may_be_absent_is_warned_of_where_that_would_open() {
    let allow_not = |path: &str, question: &str| {
        let message = format!("`{path}` may be absent: the expression is false then, and so the rule matches");
        Some(format!("{message}; did you mean `match` with `{question} && !(…)`?"))
    };
    let deny = |path: &str, question: &str| {
        let message = format!("`{path}` may be absent: the expression is false then, and the rule does not match");
        Some(format!("{message}; did you mean `!{question} || …`?"))
    };
    let device = ("ctx.device", "has(ctx.device)");
    let header = (r#"ctx.request.http.headers["x-role"]"#, r#"("x-role" in ctx.request.http.headers)"#);
    for (effect, kind, text, column, warning) in [
        ("ALLOW", "not", "ctx.device.status.isLocked", 5, allow_not(device.0, device.1)),
        ("ALLOW", "not", "has(ctx.device) && ctx.device.status.isLocked", 0, None),
        ("ALLOW", "match", "!ctx.device.status.isLocked", 0, None),
        ("DENY", "not", "ctx.device.status.isLocked", 0, None),
        ("DENY", "match", "ctx.device.status.isLocked", 0, None),
        ("DENY", "match", "!ctx.device.status.isLocked", 6, deny(device.0, device.1)),
        ("DENY", "match", r#"ctx.request.http.headers["x-role"] != "admin""#, 26, deny(header.0, header.1)),
        (
            "DENY",
            "match",
            r#"!("x-role" in ctx.request.http.headers) || ctx.request.http.headers["x-role"] != "a""#,
            0,
            None,
        ),
        (
            "ALLOW",
            "not",
            "ctx.user.spec.attrs.level == 5",
            21,
            allow_not("ctx.user.spec.attrs.level", "has(ctx.user.spec.attrs.level)"),
        ),
        ("ALLOW", "not", "ctx.user.spec.isDisabled", 0, None),
        ("ALLOW", "not", "ctx.user.metadata.name == 'a'", 0, None),
        ("ALLOW", "not", "attrs.x.y == 1", 7, allow_not("attrs.x", "has(attrs.x)")),
        ("ALLOW", "not", "has(attrs.x.y) && attrs.x.y == 1", 0, None),
        (
            "ALLOW",
            "not",
            "ctx.request.http.bodyMap.a == 1",
            18,
            allow_not("ctx.request.http.bodyMap", "has(ctx.request.http.bodyMap)"),
        ),
    ] {
        let spec = serde_json::json!({"rules": [{"effect": effect, "condition": {kind: text}}]});
        let spec = generated::<core::policy::Spec>(&spec);
        let policy = Policy::compile(&spec, Origin::BuiltIn(String::new()), "spec").unwrap();
        let found: Vec<String> = policy.warnings().iter().map(ToString::to_string).collect();
        let place = format!("spec.rules[0].condition.{kind}:1:{column}");
        let expected: Vec<String> = warning.into_iter().map(|warning| format!("{place}: {warning}")).collect();
        assert_eq!(found, expected, "{effect} {kind} {text}");
    }
    // `none` turns around what is in it, and `not` in it turns it back.
    for (leaf, count) in [("match", 1), ("not", 0)] {
        let condition = serde_json::json!({"none": {"of": [{leaf: "attrs.x == 1"}]}});
        let spec = serde_json::json!({"rules": [{"effect": "ALLOW", "condition": condition}]});
        let spec = generated::<core::policy::Spec>(&spec);
        let policy = Policy::compile(&spec, Origin::BuiltIn(String::new()), "spec").unwrap();
        assert_eq!(policy.warnings().len(), count, "{leaf}: {:?}", policy.warnings());
    }
}

#[test]
fn a_syntax_error_has_its_line_and_column() {
    let error = errors(serde_json::json!({"rules": [{"effect": "DENY", "condition": {"match": "1 ==\n  == 2"}}]}));
    assert!(error[0].starts_with("spec.rules[0].condition.match:2:3: "), "{error:?}");
}

#[test]
fn more_than_a_hundred_rules_are_refused() {
    let rules = |count: usize| vec![serde_json::json!({"effect": "DENY", "condition": {"matchAny": false}}); count];
    assert_eq!(errors(serde_json::json!({"rules": rules(101)})), ["spec.rules: more than 100 rules"]);
    let spec = generated::<core::policy::Spec>(&serde_json::json!({"rules": rules(100)}));
    assert!(Policy::compile(&spec, Origin::BuiltIn(String::new()), "spec").is_ok());
}
