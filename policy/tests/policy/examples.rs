//! The expressions of the published examples.

use octelium_api::core;
use octelium_policy::Condition;

use crate::support::{World, generated, yaml};

const EXPRESSIONS: &[&str] = &[
    r#"ctx.request.http.path.startsWith("/v1")"#,
    r#"ctx.request.http.path.startsWith("/v2")"#,
    r#""prod" in ctx.user.spec.groups"#,
    r#""dev" in ctx.user.spec.groups"#,
    r#"ctx.user.spec.groups.hasAll("dev", "ops")"#,
    r#"ctx.request.http.method in ["POST", "PUT"]"#,
    r#"ctx.request.http.path.startsWith("/users")"#,
    r#"ctx.request.http.headers["x-custom-header"] == "this-value""#,
    r#"ctx.request.http.bodyMap.age > 18 && ctx.request.http.bodyMap.email.endsWith("@example.com")"#,
    r#"ctx.request.http.path.startsWith("/sensitive")"#,
    r#"ctx.request.http.path == "/users" && ctx.request.http.method in ["POST", "PUT"]"#,
    r#"ctx.request.http.path == "/groups" && ctx.request.http.method in ["POST", "PUT"]"#,
    r#"ctx.request.http.path.toLower().endsWith(".php")"#,
];

#[test]
fn every_example_compiles() {
    for text in EXPRESSIONS {
        let condition = generated::<core::Condition>(&serde_json::json!({"match": text}));
        let errors = Condition::compile(&condition, "match").err().unwrap_or_default();
        assert!(errors.is_empty(), "{text}: {errors:?}");
    }
}

#[test]
fn the_example_of_attributes_allows_whom_it_names() {
    let of: Vec<serde_json::Value> = EXPRESSIONS[4..9].iter().map(|text| serde_json::json!({"match": text})).collect();
    let condition = generated::<core::Condition>(&serde_json::json!({"all": {"of": of}}));
    let condition = Condition::compile(&condition, "condition").unwrap();
    let mut context: serde_json::Value = yaml("world.yaml");
    context["user"]["spec"]["groups"] = serde_json::json!(["dev", "ops"]);
    context["request"]["method"] = "POST".into();
    context["request"]["path"] = "/users/1".into();
    let holds = |context: &serde_json::Value| {
        let mut budget = octelium_policy::Budget::new();
        condition.evaluate(&World::new(context).context(), None, &mut budget).unwrap()
    };
    assert!(holds(&context));
    for (pointer, wrong) in [("/user/spec/groups", serde_json::json!(["dev"])), ("/request/method", "GET".into())] {
        let mut context = context.clone();
        *context.pointer_mut(pointer).unwrap() = wrong;
        assert!(!holds(&context), "{pointer}");
    }
    context["request"].as_object_mut().unwrap().remove("bodyMap");
    assert!(!holds(&context), "without a body");
}
