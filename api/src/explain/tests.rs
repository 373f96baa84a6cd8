use super::*;

fn explained(path: &str) -> Explained {
    explain(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_kind_says_what_it_is_for() {
    let kind = explained("Service");
    assert_eq!((kind.kind, kind.path.as_str(), kind.r#type.as_str()), (Kind::Service, "Service", "object"));
    assert!(kind.text.starts_with("An upstream that is reached through the gateway"), "{}", kind.text);
    let names: Vec<_> = kind.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["apiVersion", "kind", "metadata", "spec", "status"]);
    assert!(kind.members.iter().all(|member| member.unsupported.is_none()), "{:?}", kind.members);
}

#[test]
fn types_are_told_as_they_are_written() {
    for (path, r#type) in [
        ("Service.spec.port", "integer"),
        ("Service.spec.isPublic", "boolean"),
        ("Service.spec.mode", "enum"),
        ("Service.spec.attrs", "object (free-form)"),
        ("Service.spec.config", "object"),
        ("Service.spec.dynamicConfig.configs", "list of object"),
        ("Service.spec.config.http.retry.multiplier", "number"),
        ("Policy.spec.rules", "list of object"),
        ("Policy.spec.rules.condition", "Condition"),
        ("Policy.spec.rules.condition.all.of", "list of Condition"),
        ("User.spec.groups", "list of string"),
        ("User.spec.session.clientDuration", "Duration"),
        ("User.status.ext", "map of object (free-form)"),
        ("Session.spec.expiresAt", "time (RFC 3339)"),
        ("Secret.data.valueBytes", "bytes (base64)"),
        ("Config.data.dataMap.map", "map of bytes (base64)"),
        ("Service.metadata.labels", "map of string"),
        ("Service.metadata", "Metadata"),
    ] {
        assert_eq!(explained(path).r#type, r#type, "{path}");
    }
}

#[test]
fn lists_are_passed_through() {
    let rule = explained("Policy.spec.rules[3].effect");
    assert_eq!(rule.path, "Policy.spec.rules.effect");
    assert_eq!(rule.values.iter().map(|value| value.name.as_str()).collect::<Vec<_>>(), ["ALLOW", "DENY"]);
    assert_eq!(rule.values[1].text, "It is refused.");
}

#[test]
fn rivals_are_named() {
    let upstream = ["url", "loadbalance", "container"];
    assert_eq!(explained("Service.spec.config.upstream.url").one_of, upstream);
    let members = explained("Service.spec.config.upstream").members;
    assert_eq!(members[1].one_of, upstream);
    assert!(members[0].one_of.is_empty(), "`user` goes with any of them");
    assert!(explained("Secret.spec").members[0].one_of.is_empty(), "there is no other");
    assert!(explained("Service.spec.config.http.auth.bearer.fromSecret").one_of.is_empty(), "there is no other");
    assert!(explained("Gateway.status.index").one_of.is_empty(), "a field that knows whether it is set has no rivals");
}

#[test]
fn what_is_not_served_is_said() {
    for (path, expected) in [
        ("Service.spec.config.http", None),
        ("Service.spec.config.upstream.container", Some("managed containers are not supported yet")),
        // Below what isn't served nothing is, also what would be elsewhere.
        ("Service.spec.config.mcp.auth.bearer", Some("MCP is not supported yet")),
        ("IdentityProvider.spec.displayName", Some("`displayName` is not supported yet")),
        ("Region.status.index", None),
        ("Service.spec", None),
        ("Service.metadata.name", None),
        ("Policy.spec.rules.condition.match", None),
        ("User.spec.session.clientDuration.hours", None),
    ] {
        assert_eq!(explained(path).unsupported.as_deref(), expected, "{path}");
    }
    let spec = explained("Service.spec");
    let refused = |name: &str| spec.members.iter().find(|member| member.name == name).unwrap().unsupported.clone();
    assert_eq!(refused("region").as_deref(), Some("regions are not supported yet"));
    assert_eq!(refused("port"), None);
    let modes = explained("Service.spec.mode").values;
    assert_eq!(modes.iter().find(|mode| mode.name == "HTTP").unwrap().unsupported, None);
    let ssh = modes.iter().find(|mode| mode.name == "SSH").unwrap().unsupported.as_deref();
    assert_eq!(ssh, Some("mode SSH is not supported yet; HTTP and WEB are"));
}

#[test]
fn slips_are_answered_with_a_guess() {
    for (path, error) in [
        ("Servce", "there is no kind `Servce`; did you mean `Service`?"),
        ("", "there is no kind ``"),
        ("Service.spec.isPublc", "Service.spec has no member `isPublc`; did you mean `isPublic`?"),
        ("Service.spec.xyzzy", "Service.spec has no member `xyzzy`"),
        ("Service.spec.port.x", "Service.spec.port has no members"),
        ("Service.spec.attrs.x", "Service.spec.attrs has no members"),
        ("Service.", "Service has no member ``"),
    ] {
        assert_eq!(explain(path).unwrap_err(), error);
    }
}

#[test]
fn what_contains_itself_is_not_opened_again() {
    let all = explained("Policy.spec.rules.condition.all");
    assert!(!all.members[0].opens, "a Condition stands in a Condition");
    assert!(explained("Policy.spec.rules").members.iter().any(|member| member.opens));
    assert!(explained("Policy.spec.rules.condition.all.of").members.iter().any(|member| member.name == "match"));
}

#[test]
fn sentences_end_where_they_end() {
    assert_eq!(first_sentence("One, e.g. `a`. Two."), "One, e.g. `a`.");
    assert_eq!(first_sentence("Only one"), "Only one");
    assert_eq!(first_sentence(""), "");
}

/// Everything that callers write and see has a comment, down to the values of enums.
#[test]
fn every_member_is_explained() {
    let mut count = 0;
    for kind in Kind::ALL {
        let mut paths = vec![kind.name().to_owned()];
        while let Some(path) = paths.pop() {
            let found = explained(&path);
            count += 1;
            assert!(!found.text.is_empty(), "{path} has no comment");
            for value in &found.values {
                assert!(!value.text.is_empty(), "{path}: {} has no comment", value.name);
            }
            for member in found.members {
                let path = format!("{path}.{}", member.name);
                assert!(!member.text.is_empty(), "{path} has no comment");
                // What contains itself is known by now.
                if member.opens || member.r#type.ends_with("enum") {
                    paths.push(path);
                }
            }
        }
    }
    assert!(count > 300, "{count}");
}
