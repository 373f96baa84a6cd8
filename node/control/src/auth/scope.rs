//! Scopes as callers write them: what a Session may reach at most.

use std::collections::HashSet;

use octelium_api::{
    core::{Scope, scope},
    name,
};

const SCOPES_MAX: usize = 128;
const SCOPE_BYTES_MAX: usize = 256;
const PACKAGE_BYTES_MAX: usize = 64;

/// Reads a list of scopes; an empty list restricts nothing.
///
/// # Errors
/// A sentence about the first scope that is wrong.
pub fn parse_all(texts: &[String]) -> Result<Vec<Scope>, String> {
    if texts.len() > SCOPES_MAX {
        return Err(format!("{} scopes; at most {SCOPES_MAX}", texts.len()));
    }
    let mut seen = HashSet::new();
    let mut scopes = Vec::with_capacity(texts.len());
    for text in texts {
        if !seen.insert(text) {
            return Err(format!("scope `{text}` is given twice"));
        }
        scopes.push(parse(text).ok_or_else(|| format!("`{}` is no scope", text.escape_default()))?);
    }
    Ok(scopes)
}

/// How callers write a scope.
pub fn text(of: &Scope) -> Option<String> {
    Some(match of.r#type.as_ref()? {
        scope::Type::Service(of) => match of.r#type.as_ref()? {
            scope::service::Type::All(_) => "service:*".to_owned(),
            scope::service::Type::Filter(filter) => match (filter.names.first(), filter.namespaces.first()) {
                (Some(name), Some(namespace)) => format!("service:{name}.{namespace}"),
                (None, Some(namespace)) => format!("service:{namespace}/*"),
                _ => return None,
            },
        },
        scope::Type::Api(of) => match of.r#type.as_ref()? {
            scope::api::Type::All(_) => "api:*".to_owned(),
            scope::api::Type::Filter(filter) => {
                let package = filter.packages.first()?.strip_prefix("octelium.api.main.")?.strip_suffix(".v1")?;
                match (filter.services.first(), filter.methods.first()) {
                    (None, _) => format!("api:{package}"),
                    (Some(service), None) => format!("api:{package}.{service}"),
                    (Some(service), Some(method)) => format!("api:{package}.{service}/{method}"),
                }
            }
        },
    })
}

fn parse(text: &str) -> Option<Scope> {
    if text.len() > SCOPE_BYTES_MAX {
        return None;
    }
    let r#type = match text.split_once(':')? {
        ("service", what) => scope::Type::Service(scope::Service { r#type: Some(service(what)?) }),
        ("api", what) => scope::Type::Api(scope::Api { r#type: Some(api(what)?) }),
        _ => return None,
    };
    Some(Scope { r#type: Some(r#type) })
}

fn service(what: &str) -> Option<scope::service::Type> {
    use scope::service::{All, Filter, Type};
    if what == "*" {
        return Some(Type::All(All {}));
    }
    let (service, namespace) = match what.strip_suffix("/*") {
        Some(namespace) => (None, namespace),
        None => {
            let (service, namespace) = name::split_service(what);
            (Some(service), namespace)
        }
    };
    let valid = name::is_plain(namespace) && service.is_none_or(name::is_plain);
    valid.then(|| {
        Type::Filter(Filter {
            names: service.map(str::to_owned).into_iter().collect(),
            namespaces: vec![namespace.to_owned()],
        })
    })
}

fn api(what: &str) -> Option<scope::api::Type> {
    use scope::api::{All, Filter, Type};
    if what == "*" {
        return Some(Type::All(All {}));
    }
    let (package, rest) = what.split_once('.').map_or((what, None), |(package, rest)| (package, Some(rest)));
    let (service, method) = match rest.map(|rest| rest.split_once('/').map_or((rest, None), |(s, m)| (s, Some(m)))) {
        Some((service, method)) => (Some(service), method),
        None => (None, None),
    };
    let is_package = |text: &str| {
        (1..=PACKAGE_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let is_identifier = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let valid = is_package(package) && service.is_none_or(is_identifier) && method.is_none_or(is_identifier);
    valid.then(|| {
        Type::Filter(Filter {
            packages: vec![format!("octelium.api.main.{package}.v1")],
            services: service.map(str::to_owned).into_iter().collect(),
            methods: method.map(str::to_owned).into_iter().collect(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Scope> {
        parse_all(&[text.to_owned()]).ok().and_then(|scopes| scopes.into_iter().next())
    }

    fn service_filter(names: &[&str], namespaces: &[&str]) -> Option<Scope> {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let filter = scope::service::Filter { names: owned(names), namespaces: owned(namespaces) };
        Some(Scope {
            r#type: Some(scope::Type::Service(scope::Service { r#type: Some(scope::service::Type::Filter(filter)) })),
        })
    }

    fn api_filter(package: &str, service: &[&str], method: &[&str]) -> Option<Scope> {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let filter =
            scope::api::Filter { packages: owned(&[package]), services: owned(service), methods: owned(method) };
        Some(Scope { r#type: Some(scope::Type::Api(scope::Api { r#type: Some(scope::api::Type::Filter(filter)) })) })
    }

    #[test]
    fn s_01_scopes_of_services() {
        assert_eq!(parsed("service:svc1"), service_filter(&["svc1"], &["default"]));
        assert_eq!(parsed("service:svc1.ns1"), service_filter(&["svc1"], &["ns1"]));
        assert_eq!(parsed("service:ns1/*"), service_filter(&[], &["ns1"]));
        assert!(parsed("service:*").is_some());
        let longest = "s".repeat(40);
        assert!(parsed(&format!("service:{longest}.{longest}")).is_some(), "labels are as long as names");
    }

    #[test]
    fn s_02_scopes_of_the_api() {
        let package = "octelium.api.main.core.v1";
        assert_eq!(parsed("api:core"), api_filter(package, &[], &[]));
        assert_eq!(parsed("api:core.SomeService"), api_filter(package, &["SomeService"], &[]));
        let cluster = "octelium.api.main.cluster.v1";
        assert_eq!(
            parsed("api:cluster.SomeService/DoSomething"),
            api_filter(cluster, &["SomeService"], &["DoSomething"])
        );
        assert!(parsed("api:*").is_some());
    }

    #[test]
    fn s_03_what_is_no_scope() {
        for text in [
            "",
            "*",
            ":",
            "::",
            "a:a",
            "api2:*",
            "service:**",
            "service:Svc1",
            "service:svc.Ns1",
            "service:ns2/",
            "service:Ns2/*",
            "service:*/*",
            "api:cluster/",
            "api:cluster/*",
            "api:cluster.MainService.",
            "api:cluster.MainService/",
            "api:coRe",
            " api:core",
            "api:core ",
            "service:a.b.c",
            "service:",
        ] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }

    #[test]
    fn s_04_limits_of_the_list() {
        let many = |count: usize| (0..count).map(|n| format!("service:svc{n}")).collect::<Vec<_>>();
        assert_eq!(parse_all(&many(128)).map(|scopes| scopes.len()), Ok(128));
        assert!(parse_all(&many(129)).is_err());
        assert!(parse_all(&["api:core".to_owned(), "api:core".to_owned()]).is_err());
        assert!(parse_all(&[format!("api:core.{}", "A".repeat(248))]).is_err());
        assert_eq!(parse_all(&[]), Ok(Vec::new()));
    }
}
