//! No text brings the reader down, and what is written reads the same.

use std::time::{Duration, UNIX_EPOCH};

use octelium_api::{Kind, Object, core, manifest, manifest::Limits, meta, validate};
use proptest::{collection, prelude::*, sample};

const SEEDS: [&str; 5] = [
    include_str!("examples/05-dynamic-path.yaml"),
    include_str!("examples/04-managed-container.yaml"),
    include_str!("examples/09-abac.yaml"),
    include_str!("examples/10-lua.yaml"),
    include_str!("examples/11-plugins.yaml"),
];

/// Reads `text` and, if it is accepted, does all that can be done with it.
fn exercise(text: &str) {
    match manifest::parse("test", text, &Limits::default()) {
        Ok(documents) => {
            for document in documents {
                for violation in validate::check(&document.object, UNIX_EPOCH + Duration::from_secs(1_769_860_800)) {
                    let _ = document.locate(&violation.path).to_string();
                }
                validate::unsupported(&document.object);
                validate::references(&document.object);
                let yaml = manifest::to_yaml(&document.object);
                let again = manifest::parse("again", &yaml, &Limits::default())
                    .unwrap_or_else(|errors| panic!("{errors:#?}\n{yaml}"));
                assert_eq!(again[0].object, document.object, "{yaml}");
            }
        }
        Err(errors) => assert!(!errors.is_empty() && errors.iter().all(|error| !error.to_string().is_empty())),
    }
}

#[derive(Debug, Clone)]
enum Edit {
    DeleteByte,
    ReplaceByte(u8),
    InsertText(String),
    DuplicateLine,
    DeleteLine,
    SwapLine,
    Indent,
    Cut,
}

fn edit() -> impl Strategy<Value = Edit> {
    let words = sample::select(vec![
        "*a",
        "&a ",
        "!!str ",
        "!x ",
        "- ",
        "? ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "|",
        ">",
        "'",
        "\"",
        "#",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "null",
        "~",
        "true",
        "1e999",
        "-0",
        "0x",
        ".nan",
        "\t",
        "\r",
        "\u{feff}",
        "\u{2028}",
        "\0",
        "<<: ",
        "\\",
        "é",
        "😀",
    ]);
    prop_oneof![
        Just(Edit::DeleteByte),
        any::<u8>().prop_map(Edit::ReplaceByte),
        words.prop_map(|word| Edit::InsertText(word.to_owned())),
        Just(Edit::DuplicateLine),
        Just(Edit::DeleteLine),
        Just(Edit::SwapLine),
        Just(Edit::Indent),
        Just(Edit::Cut),
    ]
}

fn apply(text: &str, edits: &[(Edit, sample::Index)]) -> String {
    let mut text = text.to_owned();
    for (edit, at) in edits {
        if text.is_empty() {
            break;
        }
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let line = at.index(lines.len().max(1));
        let mut bytes = text.clone().into_bytes();
        let byte = at.index(bytes.len());
        text = match edit {
            Edit::DeleteByte => {
                bytes.remove(byte);
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Edit::ReplaceByte(with) => {
                bytes[byte] = *with;
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Edit::InsertText(word) => {
                bytes.splice(byte..byte, word.bytes());
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Edit::Cut => String::from_utf8_lossy(&bytes[..byte]).into_owned(),
            _ if lines.is_empty() => text,
            Edit::DuplicateLine => {
                lines.insert(line, lines[line].clone());
                lines.join("\n")
            }
            Edit::DeleteLine => {
                lines.remove(line);
                lines.join("\n")
            }
            Edit::SwapLine => {
                let other = (line + 1) % lines.len();
                lines.swap(line, other);
                lines.join("\n")
            }
            Edit::Indent => {
                lines[line].insert_str(0, "  ");
                lines.join("\n")
            }
        };
    }
    text
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z0-9 .:#'\"\\n\\t|>-]{0,40}",
        sample::select(vec![
            "",
            " ",
            "null",
            "~",
            "yes",
            "No",
            "true",
            "1",
            "-1.5e3",
            "0x1",
            "0o7",
            "012",
            "2026-01-31",
            ".inf",
            "<<",
            "=",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "'",
            "\"",
            "\\",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "&a",
            "*a",
            "!a",
            "a\n",
            "a\nb",
            "a\n\n",
            "\na",
            " a\nb",
            "a\n b",
            "a \nb",
            "\ta\nb",
            "a\r\nb",
            "a\u{85}b",
            "\u{2028}",
            "\u{feff}a",
            "\u{7f}",
            "a\0b",
            "---",
            "...",
            "[a]",
            "{a: b}",
            "a:",
            "a ",
            " a",
            "e3",
            "é😀",
            "\u{fffe}",
            "\u{e000}",
            "-",
            "?",
            ":",
            "a\n---\nb",
            "a\n...\n",
            "a\n#b\n",
        ])
        .prop_map(str::to_owned),
    ]
}

fn metadata(name: &'static str) -> impl Strategy<Value = meta::Metadata> {
    (text(), text(), collection::btree_map(text(), text(), 0..3), collection::vec(text(), 0..3)).prop_map(
        move |(display_name, description, annotations, tags)| meta::Metadata {
            name: name.to_owned(),
            display_name,
            description,
            annotations,
            tags,
            created_at: Some(prost_types::Timestamp { seconds: 1_769_860_800, nanos: 123_000_000 }),
            ..Default::default()
        },
    )
}

/// The same content for every kind: envelope and metadata, and a spec from its fields by way of proto JSON where it has them.
fn object() -> impl Strategy<Value = Object> {
    (sample::select(Kind::ALL), metadata("default"), text(), text(), -1e9..1e9f64).prop_map(|(kind, metadata, a, b, number)| {
        let condition = serde_json::json!({"all": {"of": [{"match": a}, {"not": b}, {"matchAny": false}]}});
        let policy = serde_json::json!({"rules": [{"effect": "DENY", "priority": -4, "condition": condition}], "attrs": {"a": number, "b": [null, true, a, {}, []]}});
        let authorization = serde_json::json!({"policies": [a, b], "inlinePolicies": [{"name": a, "spec": policy}, {}]});
        let spec = match kind {
            Kind::Namespace | Kind::Group => serde_json::json!({"authorization": authorization, "attrs": {"x": {"y": b, "": number}}}),
            Kind::Service => serde_json::json!({"mode": "HTTP", "port": 80, "authorization": authorization, "config": {
                "upstream": {"url": a}, "http": {"plugins": [{"name": b, "rateLimit": {"limit": "9007199254740993"}}, {"direct": {"body": {"inlineBytes": "AQI="}}}],
                "retry": {"multiplier": 1.1, "statusCodes": [500, -1]}}}, "dynamicConfig": {"configs": [{}, {"name": a}], "rules": [{"condition": condition, "configName": b}]}}),
            Kind::User => serde_json::json!({"type": "HUMAN", "email": a, "info": {"phone": b}, "session": {"clientDuration": {"hours": 4}}}),
            Kind::Policy => policy,
            Kind::Credential => serde_json::json!({"type": "OAUTH2", "user": a, "expiresAt": "2026-01-31T12:00:00.000000001Z"}),
            Kind::Session => serde_json::json!({"state": "ACTIVE", "expiresAt": "0001-01-01T00:00:00Z"}),
            Kind::Secret => serde_json::json!({"data": {"value": a}}),
            Kind::Config | Kind::Region | Kind::Gateway => serde_json::json!({}),
            Kind::IdentityProvider => serde_json::json!({"displayName": a, "oidc": {"clientID": b, "scopes": [a, b]}}),
            Kind::Device => serde_json::json!({"state": "PENDING", "authorization": authorization}),
            Kind::Authenticator => serde_json::json!({"state": "ACTIVE", "displayName": a}),
            Kind::ClusterConfig => serde_json::json!({"session": {"human": {"maxPerUser": 5}}, "dns": {"fallbackZone": {"servers": [a, b]}}}),
        };
        let mut object = manifest::from_json(kind, &serde_json::json!({"spec": spec})).unwrap_or_else(|errors| panic!("{errors:#?}"));
        *object.metadata_mut() = metadata;
        object.set_envelope();
        if let Object::Secret(secret) = &mut object {
            secret.data = Some(core::secret::Data { r#type: Some(core::secret::data::Type::ValueBytes(b.into_bytes())) });
        }
        object
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_survived(text in any::<String>()) {
        exercise(&text);
    }

    #[test]
    fn arbitrary_yaml_is_survived(text in "[a-c0-9:\\-?,\\[\\]{}&*!|>'\"%#~ \\n\\t]{0,200}") {
        exercise(&text);
        exercise(&format!("kind: Group\nmetadata: {{name: g1}}\nspec:\n  attrs:\n{text}"));
    }

    #[test]
    fn edited_examples_are_survived(
        seed in sample::select(&SEEDS[..]),
        edits in collection::vec((edit(), any::<sample::Index>()), 1..8),
    ) {
        exercise(&apply(seed, &edits));
    }

    #[test]
    fn written_resources_read_the_same(object in object()) {
        let yaml = manifest::to_yaml(&object);
        let read = manifest::parse("test", &yaml, &Limits::default());
        let read = read.unwrap_or_else(|errors| panic!("{errors:#?}\n{yaml}"));
        prop_assert_eq!(&read[0].object, &object, "{}", yaml);
        let json = manifest::to_json(&object);
        prop_assert_eq!(manifest::from_json(object.kind(), &json).unwrap(), object.clone());
        // JSON text is read by the same reader, but for characters that YAML wants escaped.
        let printable = json.to_string().chars().all(|char| matches!(char, ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..));
        if !printable {
            return Ok(());
        }
        let read = manifest::parse("test", &json.to_string(), &Limits::default());
        let read = read.unwrap_or_else(|errors| panic!("{errors:#?}\n{json}"));
        prop_assert_eq!(&read[0].object, &object, "{}", json);
    }
}
