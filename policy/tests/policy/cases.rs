//! Decisions as data: `tests/cases/decisions.yaml`.

use octelium_api::{core, meta::ObjectReference};
use octelium_policy::{Decision, Effect, Origin, Policy, Reason, decide};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::support::{World, generated, world, yaml};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Row of the specification, or a name.
    id: String,
    policies: Vec<Attached>,
    /// Instead of `world.yaml`.
    context: Option<Json>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attached {
    /// A named policy; else inline in `owner`.
    name: Option<String>,
    owner: Option<String>,
    spec: Json,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Expect {
    /// ALLOW, DENY or NONE (deny because nothing matched); absent if refused.
    effect: Option<String>,
    /// Name of the policy, or owner.
    by: Option<String>,
    rule: Option<String>,
    priority: Option<i32>,
    /// Part of why the DENY rule failed.
    error: Option<String>,
    /// Part of why an ALLOW rule was passed over.
    failure: Option<String>,
    /// Part of the error when compiled.
    refused: Option<String>,
}

fn origin(attached: &Attached) -> Origin {
    let named =
        |name: &str| ObjectReference { name: name.to_owned(), uid: format!("uid-{name}"), ..Default::default() };
    match (&attached.name, &attached.owner) {
        (Some(name), None) => Origin::Named(named(name)),
        (None, Some(owner)) => Origin::Inline { owner: named(owner), name: String::new() },
        _ => panic!("a policy has either a name or an owner"),
    }
}

fn label(origin: &Origin) -> &str {
    match origin {
        Origin::Named(of) => &of.name,
        Origin::Inline { owner, .. } => &owner.name,
        Origin::BuiltIn(name) => name,
    }
}

fn check(case: &Case) -> Result<(), String> {
    let compiled: Result<Vec<Policy>, _> = case
        .policies
        .iter()
        .map(|attached| Policy::compile(&generated::<core::policy::Spec>(&attached.spec), origin(attached), "spec"))
        .collect();
    let expect = &case.expect;
    let policies = match (compiled, &expect.refused) {
        (Ok(policies), None) => policies,
        (Err(errors), Some(refused)) => {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return if texts.iter().any(|text| text.contains(refused)) {
                Ok(())
            } else {
                Err(format!("refused: {texts:?}"))
            };
        }
        (Ok(_), Some(_)) => return Err("was not refused".into()),
        (Err(errors), None) => return Err(format!("does not compile: {errors:?}")),
    };
    let world = case.context.as_ref().map_or_else(world, World::new);
    let forward = decide(policies.iter(), &world.context());
    compare(&forward, expect)?;
    // The order of the sources has no influence on the effect.
    let backward = decide(policies.iter().rev(), &world.context());
    if forward.effect == backward.effect { Ok(()) } else { Err("depends on the order of policies".into()) }
}

fn compare(decision: &Decision, expect: &Expect) -> Result<(), String> {
    let wrong = || Err(format!("{decision:?}"));
    let effect = match (&decision.effect, &decision.reason) {
        (_, Reason::NoPolicyMatch) => "NONE",
        (Effect::Allow, _) => "ALLOW",
        (Effect::Deny, _) => "DENY",
    };
    if expect.effect.as_deref() != Some(effect) || decision.effect == Effect::Allow && effect != "ALLOW" {
        return wrong();
    }
    let (by, rule, priority, error) = match &decision.reason {
        Reason::NoPolicyMatch => (None, None, None, None),
        Reason::PolicyMatch { rule, error } => {
            (Some(label(&rule.origin)), Some(rule.name.as_str()), Some(rule.priority), *error)
        }
        Reason::BudgetExceeded { origin, rule } => {
            let rule = rule.as_ref().map(|rule| rule.name.as_str());
            (Some(label(origin)), rule, None, Some(octelium_policy::EvalError::Budget))
        }
    };
    let failure = decision.failure.as_ref().map(|failure| failure.error.to_string());
    let error = error.map(|error| error.to_string());
    let part = |whole: &Option<String>, part: &Option<String>| match (whole, part) {
        (Some(whole), Some(part)) => whole.contains(part),
        (None, None) => true,
        _ => false,
    };
    let same = (expect.by.is_none() || expect.by.as_deref() == by)
        && (expect.rule.is_none() || expect.rule.as_deref() == rule)
        && (expect.priority.is_none() || expect.priority == priority)
        && part(&error, &expect.error)
        && part(&failure, &expect.failure);
    if same { Ok(()) } else { wrong() }
}

#[test]
fn decisions_are_as_specified() {
    let cases: Vec<Case> = yaml("decisions.yaml");
    assert!(cases.len() > 50, "only {} cases", cases.len());
    let wrong: Vec<String> =
        cases.iter().filter_map(|case| check(case).err().map(|why| format!("{}: {why}", case.id))).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn nested(kind: usize, depth: usize) -> Json {
    let kinds = ["all", "any", "none"];
    (0..depth).fold(serde_json::json!({"matchAny": true}), |inner, level| {
        let name = kinds[if kind < 3 { kind } else { level % 3 }];
        serde_json::json!({name: {"of": [inner]}})
    })
}

/// C-13
#[test]
fn conditions_nest_sixteen_deep_and_no_deeper() {
    for kind in 0..4 {
        for (depth, accepted) in [(16, true), (17, false), (40, false)] {
            let condition = generated::<core::Condition>(&nested(kind, depth));
            let result = octelium_policy::Condition::compile(&condition, "condition");
            assert_eq!(result.is_ok(), accepted, "kind {kind}, depth {depth}");
        }
    }
}

/// C-14
#[test]
fn conditions_have_at_most_a_hundred_children() {
    for name in ["all", "any", "none"] {
        for (count, accepted) in [(100, true), (101, false)] {
            let children = vec![serde_json::json!({"matchAny": true}); count];
            let condition = generated::<core::Condition>(&serde_json::json!({name: {"of": children}}));
            assert_eq!(
                octelium_policy::Condition::compile(&condition, "condition").is_ok(),
                accepted,
                "{name} {count}"
            );
        }
    }
}

/// Beyond the number of policies that are remembered without allocating.
#[test]
fn hundreds_of_policies_keep_their_own_enforcement() {
    let spec = |index: usize| {
        let enforcement = if index == 299 { "ENFORCE" } else { "IGNORE" };
        let rules = serde_json::json!([{"effect": "ALLOW", "condition": {"matchAny": true}}]);
        let spec = serde_json::json!({
            "rules": rules, "enforcementRules": [{"effect": enforcement, "condition": {"matchAny": true}}]
        });
        let origin = Origin::BuiltIn(index.to_string());
        Policy::compile(&generated::<core::policy::Spec>(&spec), origin, "spec").unwrap()
    };
    let policies: Vec<Policy> = (0..300).map(spec).collect();
    let world = world();
    let decision = decide(policies.iter(), &world.context());
    assert_eq!(decision.effect, Effect::Allow);
    let Reason::PolicyMatch { rule, .. } = decision.reason else { panic!("{:?}", decision.reason) };
    assert_eq!(label(&rule.origin), "299");
    assert_eq!(decide(policies[..299].iter(), &world.context()).reason, Reason::NoPolicyMatch);
}
