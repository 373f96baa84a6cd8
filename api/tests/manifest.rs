//! Reading manifests: what is accepted, and where and how the rest is refused.

use std::time::{Duration, Instant};

use octelium_api::{
    Kind, Object,
    core::service::spec::config,
    manifest::{self, Document, Limits},
};

fn parse(text: &str) -> Vec<Document> {
    manifest::parse("test.yaml", text, &Limits::default()).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn errors(text: &str) -> Vec<String> {
    errors_within(text, &Limits::default())
}

fn errors_within(text: &str, limits: &Limits) -> Vec<String> {
    match manifest::parse("test.yaml", text, limits) {
        Ok(documents) => panic!("accepted: {documents:#?}"),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// `tests/cases/manifest-errors.txt`: documents between lines of `===`, each followed by `---8<---` and the expected errors.
#[test]
fn bad_input_is_refused_where_it_stands() {
    let mut cases = 0;
    for case in include_str!("cases/manifest-errors.txt").split("\n=== ").skip(1) {
        let (title, rest) = case.split_once('\n').expect("a title");
        let (text, expected) = rest.split_once("---8<---\n").unwrap_or_else(|| panic!("{title}: no errors"));
        let expected: Vec<_> = expected.trim_end().lines().map(|line| format!("test.yaml:{line}")).collect();
        assert_eq!(errors(text), expected, "{title}");
        cases += 1;
    }
    assert!(cases > 40, "{cases}");
}

#[test]
fn all_kinds_are_read() {
    for kind in Kind::ALL {
        let documents = parse(&format!("apiVersion: core/v1\nkind: {kind}\nmetadata: {{name: default}}\nspec: {{}}\n"));
        assert_eq!(documents[0].object.kind(), *kind);
        assert_eq!(documents[0].object.name(), "default");
    }
}

#[test]
fn json_is_read() {
    let documents =
        parse("{\"kind\":\"Service\",\"metadata\":{\"name\":\"my-api\"},\n\t\"spec\":{\"port\":80,\"isPublic\":true}}");
    let Object::Service(service) = &documents[0].object else { panic!("a Service") };
    let spec = service.spec.as_ref().unwrap();
    assert_eq!((spec.port, spec.is_public), (80, true));
    assert_eq!(documents[0].locate("spec.port").to_string(), "test.yaml:2:17");
}

#[test]
fn json_escapes_are_read() {
    let text = r#"{"kind": "Group", "metadata": {"name": "g1", "description": "\ud83d\ude00 \u00e9 \/ \b"}}"#;
    assert_eq!(parse(text)[0].object.metadata().unwrap().description, "😀 é / \u{8}");
}

#[test]
fn empty_documents_are_skipped() {
    assert!(parse("").is_empty());
    assert!(parse("# only a comment\n").is_empty());
    let group = "kind: Group\nmetadata: {name: dev}\nspec: {}\n";
    assert_eq!(parse(&format!("---\n---\n# nothing\n---\n{group}---\n~\n...\n")).len(), 1);
    assert_eq!(parse(&format!("\u{feff}{group}")).len(), 1);
    assert_eq!(parse(&group.replace('\n', "\r\n")).len(), 1);
}

#[test]
fn the_cluster_config_needs_no_name() {
    for text in ["kind: ClusterConfig\nspec: {}\n", "kind: ClusterConfig\nmetadata: {displayName: x}\nspec: {}\n"] {
        assert_eq!(parse(text)[0].object.name(), "default");
    }
}

#[test]
fn what_the_server_answers_is_read() {
    let documents = parse(
        "apiVersion: core/v1\nkind: Credential\nmetadata:\n  name: ci-token\n  uid: 5c1b1f4e-0a5e-4d39-9c7c-6b0c5f0f7a11\n  \
         createdAt: 2026-01-31T12:00:00.5+01:00\n  resourceVersion: abc\n  actorRef: {kind: Session, name: root-abc123}\n  \
         isSystem: false\n  specLabels: {a1: b}\nspec: {user: root, type: AUTH_TOKEN}\nstatus:\n  id: abcd-efgh\n  \
         totalRotations: 3\n  pkce: {codeChallenge: AQI=}\n",
    );
    let Object::Credential(credential) = &documents[0].object else { panic!("a Credential") };
    let created = credential.metadata.as_ref().unwrap().created_at.unwrap();
    assert_eq!((created.seconds, created.nanos), (1_769_857_200, 500_000_000));
    let status = credential.status.as_ref().unwrap();
    assert_eq!(status.total_rotations, 3);
    assert_eq!(status.pkce.as_ref().unwrap().code_challenge, [1, 2]);
}

#[test]
fn proto_json_spellings_are_read() {
    let text = "kind: Service\nmetadata: {name: svc}\nspec:\n  port: '80'\n  mode: 3\n  config:\n    http:\n      plugins:\n      \
                - {name: a1, rateLimit: {limit: '9007199254740993', statusCode: 4.29e2}}\n      \
                - {name: a2, direct: {body: {inlineBytes: -_8}}}\n      retry: {multiplier: 1.5}\n";
    let documents = parse(text);
    let json = manifest::to_json(&documents[0].object);
    assert_eq!(json["spec"]["port"], 80);
    assert_eq!(json["spec"]["mode"], "HTTP");
    let plugins = &json["spec"]["config"]["http"]["plugins"];
    assert_eq!(plugins[0]["rateLimit"]["limit"], "9007199254740993");
    assert_eq!(plugins[0]["rateLimit"]["statusCode"], 429);
    assert_eq!(plugins[1]["direct"]["body"]["inlineBytes"], "+/8=");
    assert_eq!(json["spec"]["config"]["http"]["retry"]["multiplier"], 1.5);
}

#[test]
fn anchors_and_tags_are_read() {
    let documents = parse(
        "kind: Policy\nmetadata: {name: p1}\nspec:\n  rules:\n  - &rule {effect: ALLOW, condition: &c {match: !!str 1}}\n  \
         - {effect: DENY, condition: *c}\n  - *rule\n",
    );
    let Object::Policy(policy) = &documents[0].object else { panic!("a Policy") };
    let rules = &policy.spec.as_ref().unwrap().rules;
    assert_eq!(rules[0], rules[2]);
    assert_eq!(rules[0].condition, rules[1].condition);
}

#[test]
fn free_form_objects_keep_their_types() {
    let documents = parse(
        "kind: Group\nmetadata: {name: dev}\nspec:\n  attrs: {a: 1, b: 1.5, c: true, d: null, e: 'x', f: [1, {g: h}], i: yes, j: {}}\n",
    );
    let attrs = manifest::to_json(&documents[0].object)["spec"]["attrs"].clone();
    let expected = serde_json::json!({"a":1,"b":1.5,"c":true,"d":null,"e":"x","f":[1,{"g":"h"}],"i":"yes","j":{}});
    assert_eq!(attrs, expected);
}

#[test]
fn a_false_member_of_a_oneof_is_kept() {
    let text = "kind: Policy\nmetadata: {name: p1}\nspec: {rules: [{effect: DENY, condition: {matchAny: false}}]}\n";
    let json = manifest::to_json(&parse(text)[0].object);
    assert_eq!(json["spec"]["rules"][0]["condition"], serde_json::json!({"matchAny": false}));
}

#[test]
fn short_spellings_are_normalised_and_noted() {
    let short = "kind: Service\nmetadata: {name: svc}\nspec:\n  mode: HTTP\n  config:\n    auth: {bearer: {fromSecret: key}}\n    \
                 http: {enableRequestBuffering: true}\n    path: {addPrefix: /v1}\n  dynamicConfig:\n    configs:\n    - name: v1\n      \
                 auth: {bearer: {fromSecret: key}}\n      plugins:\n      - ratelimit: {limit: 1}\n";
    let documents = parse(short);
    let notes: Vec<_> = documents[0].notes.iter().map(|note| format!("{} {}", note.at, note.text)).collect();
    assert_eq!(
        notes,
        [
            "test.yaml:6:5 `auth` directly under a config is read as `http.auth`",
            "test.yaml:8:5 `path` directly under a config is read as `http.path`",
            "test.yaml:12:7 `auth` directly under a config is read as `http.auth`",
            "test.yaml:13:7 `plugins` directly under a config is read as `http.plugins`",
            "test.yaml:14:9 `ratelimit` is read as `rateLimit`",
        ]
    );
    assert_eq!(documents[0].locate("spec.config.http.auth.bearer.fromSecret").to_string(), "test.yaml:6:33");
    let Object::Service(service) = &documents[0].object else { panic!("a Service") };
    let Some(config::Type::Http(http)) = service.spec.clone().unwrap().config.unwrap().r#type else { panic!("http") };
    assert!(http.enable_request_buffering && http.auth.is_some() && http.path.is_some());
}

#[test]
fn members_that_were_indented_too_far_are_noted() {
    let notes = |text: &str| -> Vec<String> {
        parse(text)[0].notes.iter().map(|note| format!("{} {}", note.at, note.text)).collect()
    };
    // What was a member of `spec` is free data now, and denies nothing.
    assert_eq!(
        notes("kind: Group\nmetadata: {name: g1}\nspec:\n  attrs:\n    a: 1\n    authorization: {policies: [p1]}\n"),
        ["test.yaml:6:5 `authorization` is free data here; if the member is meant, indent it less"]
    );
    assert_eq!(
        notes("kind: Policy\nmetadata: {name: p1}\nspec:\n  attrs:\n    a:\n      - isDisabled: true\n"),
        ["test.yaml:6:9 `isDisabled` is free data here; if the member is meant, indent it less"]
    );
    assert_eq!(
        notes(
            "kind: User\nmetadata:\n  name: u1\n  description: |\n    Text\n    spec: no\n      isDisabled: true\nspec: {type: HUMAN}\n"
        ),
        ["test.yaml:5:5 a line of this text begins with `isDisabled:`; if the member is meant, indent it less"]
    );
    // Other words are data, and so is one that stands at its place as well.
    for text in [
        "kind: User\nmetadata: {name: u1}\nspec:\n  type: HUMAN\n  attrs: {type: x, rules: [1], priority: 2}\n",
        "kind: Group\nmetadata: {name: g1, description: 'rules: none'}\nspec: {}\n",
        "kind: Group\nmetadata:\n  name: g1\n  description: |\n    Text\n    ruleset: x\n    see rules: y\n    rules:x\nspec: {}\n",
        "kind: Secret\nmetadata: {name: s1}\nspec: {}\ndata:\n  value: |\n    a\n    rules: x\n",
    ] {
        assert_eq!(notes(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn positions_are_found_or_their_ancestors() {
    let text = "# a comment\nkind: Policy\nmetadata:\n  name: p1\nspec:\n  rules:\n  - effect: ALLOW\n    condition:\n      all:\n        of:\n        - match: a\n        - not: b\n";
    let document = &parse(text)[0];
    for (path, at) in [
        ("", "2:1"),
        ("kind", "2:7"),
        ("metadata.name", "4:9"),
        ("metadata.uid", "3:1"),
        ("spec.rules", "6:3"),
        ("spec.rules[0]", "7:5"),
        ("spec.rules[0].condition.all.of[1].not", "12:16"),
        ("spec.rules[0].condition.all.of[7].not", "10:9"),
        ("spec.nothing[3].at.all", "5:1"),
        ("...[[]", "2:1"),
    ] {
        assert_eq!(document.locate(path).to_string(), format!("test.yaml:{at}"), "{path}");
    }
    assert_eq!(document.at.to_string(), "test.yaml:2:1");
}

#[test]
fn secret_values_are_not_repeated() {
    for text in [
        "data: {value: 123456}",
        "data: {valueBytes: {a: hunter2}}",
        "data: {value: [hunter2]}",
        "data: {valueBytes: hunter2!}",
        "data: hunter2",
    ] {
        let errors = errors(&format!("kind: Secret\nmetadata: {{name: s1}}\nspec: {{}}\n{text}\n")).join("\n");
        assert!(!errors.contains("123456") && !errors.contains("hunter2"), "{errors}");
    }
}

#[test]
fn errors_of_all_documents_come_at_once() {
    let errors = errors("kind: Group\nmetadata: {name: g1}\nspce: {}\n---\nkind: Nope\n---\nkind: User\nspec: [\n");
    assert_eq!(errors.len(), 3, "{errors:#?}");
    assert!(errors[0].starts_with("test.yaml:3:1: spce: unknown key; did you mean `spec`?"), "{errors:#?}");
    assert!(errors[1].starts_with("test.yaml:5:7: kind: unknown kind `Nope`"), "{errors:#?}");
    assert!(errors[2].starts_with("test.yaml:"), "{errors:#?}");
}

#[test]
fn many_errors_are_cut() {
    let bad: String = (0..5000).map(|index| format!("x{index}: 1\n")).collect();
    let found = errors(&format!("kind: Group\nmetadata: {{name: g1}}\n{bad}"));
    assert_eq!(found.len(), 101);
    assert_eq!(found[100], "test.yaml: and more errors");
}

fn quickly(what: &str, run: impl FnOnce()) {
    let start = Instant::now();
    run();
    assert!(start.elapsed() < Duration::from_secs(5), "{what} took {:?}", start.elapsed());
}

#[test]
fn bombs_are_defused() {
    let mut billion_laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..30 {
        let alias = vec![format!("*a{}", level - 1); 9].join(", ");
        billion_laughs += &format!("a{level}: &a{level} [{alias}]\n");
    }
    quickly("billion laughs", || {
        let errors = errors(&billion_laughs);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].contains("more than 2000000 values, aliases expanded"), "{errors:?}");
    });
    // Few nodes, much text.
    let long = "x".repeat(1 << 20);
    let quadratic = format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 1000].join(", "));
    quickly("quadratic", || assert!(errors(&quadratic)[0].contains("bytes, aliases expanded")));
    // Aliases that grow deeper, not wider.
    let mut deep = "a0: &a0 []\n".to_owned();
    for level in 1..1000 {
        deep += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }
    quickly("deep aliases", || assert!(errors(&deep)[0].contains("nested deeper than 64 levels")));
    assert!(errors("kind: &a [*a]")[0].contains("alias"), "{:?}", errors("kind: &a [*a]"));
}

#[test]
fn huge_texts_are_refused_unread() {
    let text = "a: b\n".repeat(20 << 20);
    assert_eq!(text.len(), 100 << 20);
    let start = Instant::now();
    let errors = errors(&text);
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    assert_eq!(errors, ["test.yaml: the text has 104857600 bytes; at most 16777216 are read at once"]);
}

#[test]
fn deep_texts_are_refused() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
        "[\n".repeat(100_000),
        "{a: [".repeat(50_000),
        (0..2000).map(|level| format!("{}a:\n", " ".repeat(level))).collect(),
        format!("kind: Group\nmetadata: {{name: g1}}\nspec: {{attrs: {}{}}}", "{a: ".repeat(62), "}".repeat(62)),
    ] {
        quickly("nesting", || {
            let errors = errors(&text);
            assert!(errors[0].contains("nested deeper than"), "{errors:?}");
        });
    }
}

#[test]
fn other_limits_hold() {
    let limits = Limits { documents_max: 3, nodes_max: 20, ..Limits::default() };
    assert_eq!(errors_within("---\n---\n---\n---\n", &limits), ["test.yaml:4:1: more than 3 documents"]);
    let long = format!("a: [{}]", "1, ".repeat(30));
    assert!(errors_within(&long, &limits)[0].contains("more than 20 values"));
    let many = "kind: Nope\n---\n".repeat(10_001);
    quickly("many documents", || assert_eq!(errors(&many).len(), 101));
}

/// What would be dear if anything here were quadratic.
#[test]
fn large_texts_are_read_in_time() {
    let labels: String = (0..20_000).map(|index| format!("    l{index}: v\n")).collect();
    let text = format!("kind: Group\nmetadata:\n  name: g1\n  labels:\n{labels}spec: {{}}\n");
    quickly("labels", || assert_eq!(parse(&text).len(), 1));
    let text = (0..2000)
        .map(|index| format!("---\nkind: Group\nmetadata: {{name: g{index}}}\nspec: {{}}\n"))
        .collect::<String>();
    quickly("documents", || assert_eq!(parse(&text).len(), 2000));
    let text = format!("kind: Group\nmetadata: {{name: g1}}\nspec: {{attrs: {{a: [{}]}}}}", "x, ".repeat(100_000));
    quickly("list", || assert_eq!(parse(&text).len(), 1));
    let text = format!("kind: Group\nmetadata: {{name: g1, description: \"{}\"}}", "x\\n".repeat(1 << 20));
    quickly("text", || assert_eq!(parse(&text).len(), 1));
    let text = format!("kind: Group\nmetadata: {{name: g1}}\n{}: 1\n", "k".repeat(1000));
    assert!(errors(&text)[0].contains("unknown key"));
}

#[test]
fn json_values_are_read() {
    let value = serde_json::json!({"metadata": {"name": "g1"}, "spec": {"attrs": {"a": [1, null, "x"]}}});
    let object = manifest::from_json(Kind::Group, &value).unwrap();
    assert_eq!(manifest::to_json(&object), value);
    let show = |kind, value| -> Vec<String> {
        manifest::from_json(kind, &value).unwrap_err().iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        show(Kind::Group, serde_json::json!({"kind": "User", "apiVersion": "v1", "spec": {"attr": {}}})),
        [
            "json: apiVersion: expected `core/v1`, found `v1`",
            "json: kind: expected `Group`, found `User`",
            "json: spec.attr: unknown key; did you mean `attrs`?",
        ]
    );
    assert_eq!(show(Kind::Group, serde_json::json!([])), ["json: expected a resource, found a list"]);
    let mut deep = serde_json::json!({});
    for _ in 0..120 {
        deep = serde_json::json!({ "attrs": deep });
    }
    assert_eq!(show(Kind::Group, deep), ["json: nested deeper than 64 levels"]);
}

#[test]
fn messages_are_shown() {
    let list = octelium_api::core::GroupList {
        kind: "GroupList".into(),
        items: vec![octelium_api::core::Group::default()],
        ..Default::default()
    };
    assert_eq!(manifest::message_to_json(&list), serde_json::json!({"kind": "GroupList", "items": [{}]}));
    assert_eq!(manifest::message_to_yaml(&list), "kind: GroupList\nitems:\n- {}\n");
}
