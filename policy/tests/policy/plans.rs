//! A plan decides as plain evaluation does: same effect, same reason, same failure, same point where the budget ends.

use std::sync::Arc;

use octelium_api::core;
use octelium_policy::{
    Budget, Condition, Context, Decision, Effect, EvalError, Failure, Origin, Plan, Policy, Reason, Value, decide,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::support::{World, generated, yaml};

/// A policy in the form in which it is written, and compiled.
struct Written {
    name: String,
    spec: core::policy::Spec,
    /// Each condition for itself.
    rules: Vec<Condition>,
    enforcement: Vec<Condition>,
    compiled: Arc<Policy>,
}

fn alone(condition: &Option<core::Condition>) -> Condition {
    Condition::compile(&condition.clone().unwrap_or_default(), "").unwrap()
}

fn written(index: usize, spec: &Json) -> Written {
    let spec = generated::<core::policy::Spec>(spec);
    let name = format!("p{index}");
    let compiled = Policy::compile(&spec, Origin::BuiltIn(name.clone()), "spec");
    let rules = spec.rules.iter().map(|rule| alone(&rule.condition)).collect();
    let enforcement = spec.enforcement_rules.iter().map(|rule| alone(&rule.condition)).collect();
    Written {
        name,
        spec,
        rules,
        enforcement,
        compiled: Arc::new(compiled.unwrap_or_else(|errors| panic!("{errors:?}"))),
    }
}

/// A decision in words.
#[derive(Debug, PartialEq)]
struct Told {
    effect: Effect,
    /// Policy, rule, priority, error.
    by: Option<(String, String, i32, Option<EvalError>)>,
    failure: Option<(String, String, i32, EvalError)>,
}

fn told(decision: &Decision) -> Told {
    let policy = |origin: &Origin| match origin {
        Origin::BuiltIn(name) => name.clone(),
        _ => unreachable!("no such policies here"),
    };
    let by = match &decision.reason {
        Reason::NoPolicyMatch => None,
        Reason::PolicyMatch { rule, error } => Some((policy(&rule.origin), rule.name.clone(), rule.priority, *error)),
        Reason::BudgetExceeded { origin, rule } => {
            let rule = rule.as_ref().map(|rule| rule.name.clone()).unwrap_or_default();
            Some((policy(origin), rule, i32::MAX, Some(EvalError::Budget)))
        }
    };
    let failure = decision
        .failure
        .as_ref()
        .map(|Failure { rule, error }| (policy(&rule.origin), rule.name.clone(), rule.priority, *error));
    Told { effect: decision.effect, by, failure }
}

/// The rules of §4 of the specification, written down again without any of the compiled policies.
fn plainly(policies: &[Written], ctx: &Context<'_>) -> Told {
    use core::policy::spec::{enforcement_rule, rule};
    let mut budget = Budget::new();
    let mut failure = None;
    let mut enforced: Vec<Option<bool>> = policies.iter().map(|_| None).collect();
    for priority in -4..=4 {
        for effect in [rule::Effect::Deny, rule::Effect::Allow] {
            for (policy, enforced) in policies.iter().zip(&mut enforced) {
                let attrs = Value::from_struct(&policy.spec.attrs.clone().unwrap_or_default());
                let mut holds = |condition: &Condition| condition.evaluate(ctx, Some(&attrs), &mut budget);
                let exceeded = |name: &str, failure| Told {
                    effect: Effect::Deny,
                    by: Some((policy.name.clone(), name.to_owned(), i32::MAX, Some(EvalError::Budget))),
                    failure,
                };
                let rules = policy.spec.rules.iter().zip(&policy.rules);
                let rules: Vec<_> =
                    rules.filter(|(rule, _)| rule.effect() == effect && rule.priority == priority).collect();
                if rules.is_empty() || policy.spec.is_disabled {
                    continue;
                }
                if enforced.is_none() {
                    let (mut enforce, mut ignore) = (false, false);
                    for (rule, condition) in policy.spec.enforcement_rules.iter().zip(&policy.enforcement) {
                        let enforces = rule.effect() == enforcement_rule::Effect::Enforce;
                        if enforce || ignore && !enforces {
                            continue;
                        }
                        match holds(condition) {
                            Err(EvalError::Budget) => return exceeded("", failure),
                            Ok(true) if enforces => enforce = true,
                            Ok(true) => ignore = true,
                            Ok(false) => {}
                            Err(_) => enforce |= enforces,
                        }
                    }
                    *enforced = Some(enforce || !ignore);
                }
                if *enforced == Some(false) {
                    continue;
                }
                for (rule, condition) in rules {
                    let error = match holds(condition) {
                        Ok(false) => continue,
                        Ok(true) => None,
                        Err(EvalError::Budget) => return exceeded(&rule.name, failure),
                        Err(error) => Some(error),
                    };
                    match (effect, error) {
                        (rule::Effect::Allow, Some(error)) => {
                            failure.get_or_insert((policy.name.clone(), rule.name.clone(), priority, error));
                        }
                        (effect, error) => {
                            let effect = if effect == rule::Effect::Deny { Effect::Deny } else { Effect::Allow };
                            let by = Some((policy.name.clone(), rule.name.clone(), priority, error));
                            return Told { effect, by, failure };
                        }
                    }
                }
            }
        }
    }
    Told { effect: Effect::Deny, by: None, failure }
}

/// Expressions about the caller, the Service, the request, the time, the policy and nothing; some fail, some are dear.
const EXPRESSIONS: &[&str] = &[
    "true",
    "1 > 2",
    "1 / 0 == 1",
    r#""dev" in ctx.user.spec.groups"#,
    r#""nobody" in ctx.user.spec.groups"#,
    r#"ctx.user.spec.type == "HUMAN""#,
    "ctx.user.spec.attrs.level > 4",
    "ctx.user.spec.attrs.none == 1",
    "ctx.user.spec.attrs.level.x",
    "has(ctx.device)",
    "ctx.device.status.isLocked",
    "ctx.session.status.isBrowser",
    r#"ctx.groups.exists(g, g.metadata.name == "g2")"#,
    r#"ctx.service.spec.mode == "HTTP" && ctx.namespace.metadata.name == "default""#,
    "attrs.flag",
    "attrs.n / 0 == 1",
    r#"ctx.request.http.method == "GET""#,
    r#"ctx.request.http.path.startsWith("/api") && "dev" in ctx.user.spec.groups"#,
    r#"ctx.request.http.path.startsWith("/api") && "nobody" in ctx.user.spec.groups"#,
    r#"ctx.request.http.path.startsWith("/api") || ctx.user.spec.isDisabled"#,
    r#"ctx.request.http.headers["x-custom-header"] == "this-value""#,
    r#"ctx.request.http.headers["x-none"] == "1""#,
    "ctx.request.http.bodyMap.age > 18",
    "int(ctx.request.http.queryParams.id) / 0 == 1",
    "ctx.request.grpc.method == 'Get'",
    r#"now() < timestamp("2026-01-02T04:00:00Z")"#,
    r#"timestamp(ctx.session.spec.expiresAt) > now()"#,
    "json.marshal(ctx).size() > 10",
    "cel.bind(l, attrs.list, l.all(a, l.all(b, l.all(c, a + b + c > 0.0))))",
    "cel.bind(l, attrs.list, l.all(a, l.all(b, l.all(c, a + b + c > 0.0 || ctx.request.ip == ''))))",
];

fn condition() -> impl Strategy<Value = Json> {
    let text = prop::sample::select(EXPRESSIONS);
    let leaf = prop_oneof![
        6 => text.clone().prop_map(|text| json!({"match": text})),
        2 => text.prop_map(|text| json!({"not": text})),
        1 => any::<bool>().prop_map(|any| json!({"matchAny": any})),
        1 => Just(json!({})),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        (prop::sample::select(&["all", "any", "none"][..]), prop::collection::vec(inner, 0..3))
            .prop_map(|(kind, of)| json!({kind: {"of": of}}))
    })
}

fn policy() -> impl Strategy<Value = Json> {
    let rule = (condition(), any::<bool>(), prop_oneof![3 => Just(0), 1 => -4..=4])
        .prop_map(|(condition, deny, priority)| (condition, if deny { "DENY" } else { "ALLOW" }, priority));
    let enforcement = (condition(), any::<bool>())
        .prop_map(|(of, enforce)| json!({"condition": of, "effect": if enforce { "ENFORCE" } else { "IGNORE" }}));
    let rules = prop::collection::vec(rule, 0..5);
    let enforcement = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(enforcement, 1..3)];
    (rules, enforcement, prop::bool::weighted(0.1), 1_usize..90).prop_map(|(rules, enforcement, disabled, length)| {
        let rules: Vec<Json> = rules
            .into_iter()
            .enumerate()
            .map(|(index, (condition, effect, priority))| {
                json!({"name": format!("r{index}"), "condition": condition, "effect": effect, "priority": priority})
            })
            .collect();
        json!({
            "rules": rules, "enforcementRules": enforcement, "isDisabled": disabled,
            "attrs": {"flag": true, "n": "text", "list": vec![1; length]},
        })
    })
}

/// Callers, and what they send.
fn worlds() -> Vec<World> {
    let usual: Json = yaml("world.yaml");
    let changed = |change: &dyn Fn(&mut Json)| {
        let mut world = usual.clone();
        change(&mut world);
        World::new(&world)
    };
    vec![
        World::new(&usual),
        changed(&|world| world["request"]["path"] = "/".into()),
        changed(&|world| world["request"]["method"] = "POST".into()),
        changed(&|world| world["now"] = "2026-01-02T05:00:00Z".into()),
        changed(&|world| drop(world["request"].as_object_mut().unwrap().remove("bodyMap"))),
        changed(&|world| world["request"]["grpc"] = json!({"service": "S", "method": "Get", "package": "p"})),
    ]
}

fn callers() -> Vec<World> {
    let usual: Json = yaml("world.yaml");
    let mut other = usual.clone();
    other["user"]["spec"]["groups"] = json!(["nobody"]);
    other["user"]["spec"]["attrs"] = json!({"level": 1});
    other["session"]["status"]["isBrowser"] = true.into();
    let anonymous = json!({"service": usual["service"], "namespace": usual["namespace"]});
    vec![World::new(&usual), World::new(&other), World::new(&anonymous)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_decides_as_plain_evaluation_does(specs in prop::collection::vec(policy(), 0..5)) {
        let policies: Vec<Written> = specs.iter().enumerate().map(|(index, spec)| written(index, spec)).collect();
        for caller in callers() {
            let known = caller.context();
            let plan = Plan::new(policies.iter().map(|policy| &policy.compiled), &known);
            for world in worlds() {
                let sent = world.context();
                let ctx = Context { request: sent.request, now_unix_nanos: sent.now_unix_nanos, ..known };
                let expected = plainly(&policies, &ctx);
                let simple = decide(policies.iter().map(|policy| &*policy.compiled), &ctx);
                prop_assert_eq!(&told(&simple), &expected, "decide: {:?}", specs);
                prop_assert_eq!(&told(&plan.decide(&ctx)), &expected, "plan: {:?}", specs);
            }
        }
    }
}

fn plan_of(rules: &[(&str, &str)], world: &World) -> Plan {
    let rules: Vec<Json> =
        rules.iter().map(|(effect, text)| json!({"effect": effect, "condition": {"match": text}})).collect();
    Plan::new([&written(0, &json!({"rules": rules})).compiled].into_iter(), &world.context())
}

/// What a plan leaves to do.
#[test]
fn only_what_depends_on_the_request_or_the_time_is_left() {
    let world = World::new(&yaml("world.yaml"));
    for (rules, left) in [
        (&[("ALLOW", "true")][..], 1),
        (&[("ALLOW", "1 > 2")], 0),
        (&[("ALLOW", r#""nobody" in ctx.user.spec.groups"#)], 0),
        (&[("ALLOW", r#""dev" in ctx.user.spec.groups"#), ("ALLOW", "ctx.request.http.path == '/'")], 1),
        (&[("DENY", "ctx.request.http.path == '/'"), ("ALLOW", "true"), ("ALLOW", "ctx.request.ip == ''")], 2),
        (&[("ALLOW", r#"ctx.request.http.path == "/" && "nobody" in ctx.user.spec.groups"#)], 0),
        (&[("ALLOW", r#"ctx.request.http.path == "/" && "dev" in ctx.user.spec.groups"#)], 1),
        (&[("ALLOW", "now() > timestamp(0)")], 1),
        (&[("DENY", "json.marshal(ctx) == ''"), ("DENY", "has(ctx.device)")], 1),
    ] {
        assert_eq!(plan_of(rules, &world).steps(), left, "{rules:?}");
    }
}

/// Where the caller settles the matter there needn't be a request.
#[test]
fn a_settled_matter_needs_no_request() {
    let world = World::new(&yaml("world.yaml"));
    let plan = plan_of(&[("ALLOW", r#"ctx.request.http.path == "/" || "dev" in ctx.user.spec.groups"#)], &world);
    assert_eq!(plan.decide(&Context { request: None, ..world.context() }).effect, Effect::Allow);
}
