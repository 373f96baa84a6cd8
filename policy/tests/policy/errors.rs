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
