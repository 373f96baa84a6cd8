//! A text is a scope or it isn't; none is read as a wider one, and a list with a wrong one is refused as a whole.
//!
//! Each line is a scope.

#![no_main]

use libfuzzer_sys::fuzz_target;
use octelium_api::core::{Scope, scope};

fuzz_target!(|text: &str| {
    let texts: Vec<String> = text.lines().map(str::to_owned).collect();
    let Ok(scopes) = octelium_control::parse_scopes(&texts) else { return };
    assert_eq!(scopes.len(), texts.len());
    for (scope, text) in scopes.iter().zip(&texts) {
        assert_eq!(shown(scope).as_deref(), Some(full(text).as_str()), "{text}");
    }
});

/// A Service without a Namespace is in `default`.
fn full(text: &str) -> String {
    match text.strip_prefix("service:") {
        Some(what) if what != "*" && !what.contains(['.', '/']) => format!("service:{what}.default"),
        _ => text.to_owned(),
    }
}

/// The text that means this scope; nothing for those that no text means.
fn shown(scope: &Scope) -> Option<String> {
    let one = |list: &[String]| match list {
        [] => Some(None),
        [one] => Some(Some(one.clone())),
        _ => None,
    };
    match scope.r#type.as_ref()? {
        scope::Type::Service(service) => match service.r#type.as_ref()? {
            scope::service::Type::All(_) => Some("service:*".to_owned()),
            scope::service::Type::Filter(filter) => match (one(&filter.names)?, one(&filter.namespaces)?) {
                (Some(name), Some(namespace)) => Some(format!("service:{name}.{namespace}")),
                (None, Some(namespace)) => Some(format!("service:{namespace}/*")),
                _ => None,
            },
        },
        scope::Type::Api(api) => match api.r#type.as_ref()? {
            scope::api::Type::All(_) => Some("api:*".to_owned()),
            scope::api::Type::Filter(filter) => {
                let package = one(&filter.packages)??;
                let package = package.strip_prefix("octelium.api.main.")?.strip_suffix(".v1")?;
                match (one(&filter.services)?, one(&filter.methods)?) {
                    (None, None) => Some(format!("api:{package}")),
                    (Some(service), None) => Some(format!("api:{package}.{service}")),
                    (Some(service), Some(method)) => Some(format!("api:{package}.{service}/{method}")),
                    _ => None,
                }
            }
        },
    }
}
