//! The rules for each kind, as cases: a resource, and the paths and messages that `check` answers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use octelium_api::{
    manifest::{self, Limits},
    validate,
};

/// 2026-01-31T12:00:00Z.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_769_860_800)
}

fn check(text: &str) -> Vec<String> {
    let documents =
        manifest::parse("case", text, &Limits::default()).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
    validate::check(&documents[0].object, now()).iter().map(ToString::to_string).collect()
}

/// `tests/cases/validate.txt`: documents after lines of `===`, each followed by `---8<---` and the expected violations.
#[test]
fn rules_hold() {
    let mut cases = 0;
    for case in include_str!("cases/validate.txt").split("\n=== ").skip(1) {
        let (title, rest) = case.split_once('\n').expect("a title");
        let (text, expected) = rest.split_once("---8<---\n").unwrap_or_else(|| panic!("{title}: no expectation"));
        let expected: Vec<_> = expected.trim_end().lines().collect();
        assert_eq!(check(text), expected, "{title}");
        cases += 1;
    }
    assert!(cases > 60, "{cases}");
}

fn rules(condition: &str) -> String {
    format!("kind: Policy\nmetadata: {{name: p1}}\nspec:\n  rules:\n  - {{effect: ALLOW, condition: {condition}}}\n")
}

#[test]
fn conditions_are_bounded() {
    let nested =
        |depth: usize| rules(&format!("{}{{match: a}}{}", "{all: {of: [".repeat(depth - 1), "]}}".repeat(depth - 1)));
    assert_eq!(check(&nested(16)), Vec::<String>::new());
    let violations = check(&nested(17));
    assert_eq!(violations.len(), 1);
    assert!(violations[0].ends_with(".all.of: conditions nest deeper than 16 levels"), "{violations:?}");
    let wide = |count: usize| rules(&format!("{{any: {{of: [{}]}}}}", vec!["{matchAny: true}"; count].join(", ")));
    assert_eq!(check(&wide(100)), Vec::<String>::new());
    assert_eq!(check(&wide(101)), ["spec.rules[0].condition.any.of: has 101 entries; at most 100"]);
    let long = |bytes: usize| rules(&format!("{{not: {}}}", "a".repeat(bytes)));
    assert_eq!(check(&long(10_000)), Vec::<String>::new());
    assert_eq!(check(&long(10_001)), ["spec.rules[0].condition.not: has 10001 bytes; at most 10000"]);
}

#[test]
fn sizes_are_bounded() {
    let policy =
        rules(&format!("{{all: {{of: [{}]}}}}", vec![format!("{{match: {}}}", "a".repeat(9000)); 12].join(", ")));
    assert!(check(&policy)[0].starts_with("spec: takes 108"), "{:?}", check(&policy));
    let secret = |bytes: usize| {
        format!("kind: Secret\nmetadata: {{name: s1}}\nspec: {{}}\ndata: {{value: {}}}\n", "a".repeat(bytes))
    };
    assert_eq!(check(&secret(512 * 1024)), Vec::<String>::new());
    assert_eq!(check(&secret(512 * 1024 + 1)), ["data.value: has 524289 bytes; at most 524288"]);
    let group =
        |bytes: usize| format!("kind: Group\nmetadata: {{name: g1}}\nspec: {{attrs: {{a: {}}}}}\n", "a".repeat(bytes));
    assert_eq!(check(&group(19_900)), Vec::<String>::new());
    assert!(check(&group(20_000))[0].starts_with("spec.attrs: takes 200"), "{:?}", check(&group(20_000)));
    let description = |bytes: usize| {
        format!("kind: Group\nmetadata: {{name: g1, description: {}}}\nspec: {{}}\n", "é".repeat(bytes / 2))
    };
    assert_eq!(check(&description(1024)), Vec::<String>::new());
    assert_eq!(check(&description(1026)), ["metadata.description: has 1026 bytes; at most 1024"]);
    let labels = |count: usize| {
        let labels: Vec<_> = (0..count).map(|index| format!("l{index}: v")).collect();
        format!("kind: Group\nmetadata: {{name: g1, labels: {{{}}}}}\nspec: {{}}\n", labels.join(", "))
    };
    assert_eq!(check(&labels(64)), Vec::<String>::new());
    assert_eq!(check(&labels(65)), ["metadata.labels: has 65 entries; at most 64"]);
    let policies = |count: usize| {
        format!(
            "kind: Group\nmetadata: {{name: g1}}\nspec: {{authorization: {{policies: [{}]}}}}\n",
            vec!["p1"; count].join(", ")
        )
    };
    assert_eq!(check(&policies(100)), Vec::<String>::new());
    assert_eq!(check(&policies(101)), ["spec.authorization.policies: has 101 entries; at most 100"]);
}

#[test]
fn violations_are_cut() {
    let groups = vec!["X"; 5000].join(", ");
    let violations = check(&format!("kind: User\nmetadata: {{name: u1}}\nspec: {{type: HUMAN, groups: [{groups}]}}\n"));
    assert_eq!(violations.len(), 101);
    assert_eq!(violations[100], "and more violations");
}

#[test]
fn certificates_must_be_pem() {
    let service = |pem: &str| {
        format!(
            "kind: Service\nmetadata: {{name: svc}}\nspec: {{mode: HTTP, config: {{upstream: {{url: \"https://h\"}}, tls: {{trustedCAs: [{}]}}}}}}\n",
            serde_json::Value::from(pem)
        )
    };
    let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert_eq!(check(&service(pem)), Vec::<String>::new());
    assert_eq!(check(&service(&pem.repeat(3))), Vec::<String>::new());
    let refused = ["spec.config.tls.trustedCAs[0]: not a certificate in PEM form (`-----BEGIN CERTIFICATE-----` …)"];
    for text in [
        "",
        "MAA=",
        &pem.replace("MAA=", "%%"),
        &pem.replace("CERTIFICATE", "PRIVATE KEY"),
        &format!("{pem}-----BEGIN CERTIFICATE-----\nMAA="),
    ] {
        assert_eq!(check(&service(text)), refused, "{text}");
    }
}

/// What Protocol Buffers let through and no manifest can hold.
#[test]
fn values_that_no_manifest_holds_are_refused() {
    use octelium_api::{Object, core, meta};
    use prost_types::{Struct, Timestamp, Value, value::Kind};
    let metadata = Some(meta::Metadata { name: "u1".into(), ..Default::default() });
    let spec = core::user::Spec {
        r#type: 77,
        attrs: Some(Struct { fields: [("a".to_owned(), Value { kind: Some(Kind::NumberValue(f64::NAN)) })].into() }),
        ..Default::default()
    };
    let user: Object = core::User { metadata: metadata.clone(), spec: Some(spec), ..Default::default() }.into();
    let shown: Vec<_> = validate::check(&user, now()).iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["spec.type: 77 is no Type", "spec.attrs: holds a number that is not finite"]);

    let spec = core::session::Spec {
        state: 1,
        expires_at: Some(Timestamp { seconds: i64::MAX, nanos: -1 }),
        ..Default::default()
    };
    let session: Object = core::Session { metadata: metadata.clone(), spec: Some(spec), ..Default::default() }.into();
    let shown: Vec<_> = validate::check(&session, now()).iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["spec.expiresAt: out of range; expected the years 1 to 9999"]);
    assert!(manifest::to_yaml(&session).contains("seconds: '9223372036854775807'"));

    let mut deep = Value { kind: Some(Kind::BoolValue(true)) };
    for _ in 0..25 {
        deep = Value { kind: Some(Kind::StructValue(Struct { fields: [("a".to_owned(), deep)].into() })) };
    }
    let spec =
        core::group::Spec { attrs: Some(Struct { fields: [("a".to_owned(), deep)].into() }), ..Default::default() };
    let group: Object = core::Group { metadata, spec: Some(spec), ..Default::default() }.into();
    let shown: Vec<_> = validate::check(&group, now()).iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["spec.attrs: nested deeper than 20 levels"]);
}

#[test]
fn references_of_every_kind() {
    let references = |text: &str| -> Vec<String> {
        let documents = manifest::parse("case", text, &Limits::default()).unwrap();
        validate::references(&documents[0].object)
            .iter()
            .map(|reference| format!("{} {} {}", reference.path, reference.kind, reference.name))
            .collect()
    };
    for (text, expected) in [
        (
            "kind: User\nmetadata: {name: u1}\nspec: {groups: [dev, ops], authorization: {policies: [p1.p2]}}\n",
            &["spec.authorization.policies[0] Policy p1.p2", "spec.groups[0] Group dev", "spec.groups[1] Group ops"][..],
        ),
        (
            "kind: Credential\nmetadata: {name: c1}\nspec: {user: root, authorization: {policies: [p1]}}\n",
            &["spec.authorization.policies[0] Policy p1", "spec.user User root"],
        ),
        ("kind: Policy\nmetadata: {name: aa.bb.cc}\nspec: {}\n", &["metadata.name Policy bb.cc"]),
        ("kind: Policy\nmetadata: {name: aa}\nspec: {}\n", &[]),
        ("kind: Service\nmetadata: {name: svc.prod}\nspec: {}\n", &["metadata.name Namespace prod"]),
        (
            "kind: Service\nmetadata: {name: svc}\nspec: {authorization: {policies: [p1]}, config: {http: {auth: {basic: {password: {fromSecret: s1}}}}}}\n",
            &[
                "metadata.name Namespace default",
                "spec.authorization.policies[0] Policy p1",
                "spec.config.http.auth.basic.password.fromSecret Secret s1",
            ],
        ),
        (
            "kind: ClusterConfig\nspec: {authorization: {policies: [p1, p2]}}\n",
            &["spec.authorization.policies[0] Policy p1", "spec.authorization.policies[1] Policy p2"],
        ),
        (
            "kind: Namespace\nmetadata: {name: n1}\nspec: {authorization: {policies: [p1]}}\n",
            &["spec.authorization.policies[0] Policy p1"],
        ),
        (
            "kind: Session\nmetadata: {name: s1}\nspec: {authorization: {policies: [p1]}}\n",
            &["spec.authorization.policies[0] Policy p1"],
        ),
        ("kind: Secret\nmetadata: {name: s1}\nspec: {}\ndata: {value: x}\n", &[]),
    ] {
        assert_eq!(references(text), expected, "{text}");
    }
}

#[test]
fn configurations_are_laid_over_their_parent() {
    use octelium_api::{Object, config, core::service::spec::config::Type};
    let text = "kind: Service\nmetadata: {name: svc}\nspec:\n  mode: HTTP\n  config:\n    upstream: {url: 'https://a'}\n    \
                tls: {trustedCAs: [x]}\n    http: {auth: {basic: {username: u1}}}\n  dynamicConfig:\n    configs:\n    \
                - name: v1\n      parent: default\n      tls: {trustedCAs: [y]}\n      http: {auth: {basic: {password: {fromSecret: s1}}}}\n    \
                - {name: v2, upstream: {url: 'https://b'}}\n";
    let Object::Service(service) = manifest::parse("case", text, &Limits::default()).unwrap().remove(0).object else {
        panic!("a Service")
    };
    let spec = service.spec.unwrap();
    let v1 = config::effective(&spec, "v1").unwrap();
    assert_eq!((v1.name.as_str(), v1.parent.as_str()), ("v1", "default"));
    assert_eq!(v1.upstream, spec.config.as_ref().unwrap().upstream);
    assert_eq!(v1.tls.as_ref().unwrap().trusted_c_as, ["x", "y"]);
    let Some(Type::Http(http)) = &v1.r#type else { panic!("http") };
    let json = format!("{:?}", http.auth);
    assert!(json.contains("u1") && json.contains("s1"), "{json}");
    assert_eq!(config::effective(&spec, "default"), spec.config);
    assert_eq!(config::effective(&spec, ""), spec.config);
    assert_eq!(config::effective(&spec, "v2").as_ref(), config::find(&spec, "v2"));
    assert_eq!(config::effective(&spec, "v3"), None);
}
