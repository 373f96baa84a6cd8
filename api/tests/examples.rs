//! The thirteen examples of the project: all are read; what is served passes every rule, the rest is refused by name.

use std::time::{Duration, UNIX_EPOCH};

use octelium_api::{
    Kind, Object,
    manifest::{self, Limits},
    validate,
};

const EXAMPLES: [(&str, &str, &[&str]); 13] = [
    ("01-simple", include_str!("examples/01-simple.yaml"), &[]),
    (
        "02-connected-session",
        include_str!("examples/02-connected-session.yaml"),
        &["12:13: spec.config.upstream.user: upstreams behind NAT (tunnels) are not supported yet"],
    ),
    ("03-secretless-saas", include_str!("examples/03-secretless-saas.yaml"), &[]),
    ("03b-secretless-saas-short", include_str!("examples/03b-secretless-saas-short.yaml"), &[]),
    (
        "04-managed-container",
        include_str!("examples/04-managed-container.yaml"),
        &["10:7: spec.config.upstream.container: managed containers are not supported yet"],
    ),
    ("05-dynamic-path", include_str!("examples/05-dynamic-path.yaml"), &[]),
    ("06-dynamic-identity", include_str!("examples/06-dynamic-identity.yaml"), &[]),
    ("07-dynamic-secretless", include_str!("examples/07-dynamic-secretless.yaml"), &[]),
    (
        "08-dynamic-containers",
        include_str!("examples/08-dynamic-containers.yaml"),
        &[
            "12:9: spec.dynamicConfig.configs[0].upstream.container: managed containers are not supported yet",
            "26:9: spec.dynamicConfig.configs[1].upstream.container: managed containers are not supported yet",
        ],
    ),
    ("09-abac", include_str!("examples/09-abac.yaml"), &[]),
    (
        "10-lua",
        include_str!("examples/10-lua.yaml"),
        &["16:9: spec.config.http.plugins[0].lua: Lua plugins are not supported yet"],
    ),
    (
        "10b-lua-short",
        include_str!("examples/10b-lua-short.yaml"),
        &["15:7: spec.config.http.plugins[0].lua: Lua plugins are not supported yet"],
    ),
    ("11-plugins", include_str!("examples/11-plugins.yaml"), &[]),
];

fn read(name: &str, text: &str) -> manifest::Document {
    let mut documents =
        manifest::parse(name, text, &Limits::default()).unwrap_or_else(|errors| panic!("{name}: {errors:#?}"));
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0)
}

#[test]
fn examples_are_read_and_pass_the_rules() {
    for (name, text, _) in EXAMPLES {
        let document = read(name, text);
        assert_eq!(document.object.kind(), Kind::Service, "{name}");
        assert_eq!(validate::check(&document.object, UNIX_EPOCH + Duration::from_secs(1_769_860_800)), [], "{name}");
    }
}

#[test]
fn what_is_not_served_is_refused_by_name_and_place() {
    for (name, text, expected) in EXAMPLES {
        let document = read(name, text);
        let refused: Vec<_> = validate::unsupported(&document.object)
            .iter()
            .map(|violation| format!("{}: {violation}", document.locate(&violation.path)))
            .collect();
        let expected: Vec<_> = expected.iter().map(|line| format!("{name}:{line}")).collect();
        assert_eq!(refused, expected, "{name}");
    }
}

#[test]
fn short_spellings_mean_the_long_ones() {
    let long = read("03", EXAMPLES[2].1);
    let short = read("03b", EXAMPLES[3].1);
    assert_eq!(long.object, short.object);
    assert_eq!((long.notes.len(), short.notes.len()), (0, 1));
    assert_eq!(read("11", EXAMPLES[12].1).notes.len(), 3);
}

#[test]
fn references_are_found() {
    let references = |index: usize| -> Vec<String> {
        validate::references(&read("x", EXAMPLES[index].1).object)
            .iter()
            .map(|reference| format!("{} {} {}", reference.path, reference.kind, reference.name))
            .collect()
    };
    assert_eq!(
        references(2),
        ["metadata.name Namespace default", "spec.config.http.auth.bearer.fromSecret Secret gemini-api-key"]
    );
    assert_eq!(references(1)[1], "spec.config.upstream.user User eu-central-2");
    assert_eq!(
        references(7)[1..],
        [
            "spec.dynamicConfig.configs[0].http.auth.bearer.fromSecret Secret access-token-1",
            "spec.dynamicConfig.configs[1].http.auth.bearer.fromSecret Secret access-token-2"
        ]
    );
}

#[test]
fn written_examples_read_the_same() {
    for (name, text, _) in EXAMPLES {
        let object = read(name, text).object;
        let yaml = manifest::to_yaml(&object);
        assert_eq!(read(name, &yaml).object, object, "{name}\n{yaml}");
        assert_eq!(manifest::from_json(object.kind(), &manifest::to_json(&object)), Ok(object), "{name}");
    }
}

#[test]
fn yaml_reads_well() {
    let Object::Service(_) = read("01", EXAMPLES[0].1).object else { panic!("a Service") };
    assert_eq!(
        manifest::to_yaml(&read("01", EXAMPLES[0].1).object),
        "kind: Service\nmetadata:\n  name: my-api\nspec:\n  port: 80\n  mode: HTTP\n  config:\n    upstream:\n      \
         url: http://my-api.default.svc:8080\n  isPublic: true\n"
    );
    let lua = manifest::to_yaml(&read("10b", EXAMPLES[11].1).object);
    assert!(lua.contains("inline: |\n            function onResponse(ctx)\n              octelium.req"), "{lua}");
    let abac = manifest::to_yaml(&read("09", EXAMPLES[9].1).object);
    assert!(abac.contains("- match: 'ctx.request.http.method in [\"POST\", \"PUT\"]'\n"), "{abac}");
}
