//! Whether a Session's scopes reach a Service or a method of the control API. They only narrow; policies still decide.

use octelium_api::core::{Scope, scope};
use octelium_policy::Grpc;

/// The Namespace of the control API.
const API_NAMESPACE: &str = "octelium-api";

/// `service` is the stored name `svc.ns`; `grpc` is the called method where there is one.
pub fn reaches(scopes: &[Scope], service: &str, grpc: Option<Grpc<'_>>) -> bool {
    scopes.is_empty() || scopes.iter().any(|scope| one(scope, service, grpc))
}

fn one(scope: &Scope, service: &str, grpc: Option<Grpc<'_>>) -> bool {
    let Some((name, namespace)) = service.split_once('.') else { return false };
    let any = |list: &[String], value: &str| list.is_empty() || list.iter().any(|item| item == value);
    match &scope.r#type {
        Some(scope::Type::Service(scope)) => match &scope.r#type {
            Some(scope::service::Type::All(_)) => true,
            Some(scope::service::Type::Filter(filter)) => {
                !(filter.names.is_empty() && filter.namespaces.is_empty())
                    && any(&filter.names, name)
                    && any(&filter.namespaces, namespace)
            }
            None => false,
        },
        Some(scope::Type::Api(scope)) => match (&scope.r#type, grpc) {
            _ if namespace != API_NAMESPACE => false,
            (Some(scope::api::Type::All(_)), Some(_)) => true,
            (Some(scope::api::Type::Filter(filter)), Some(grpc)) => {
                !(filter.packages.is_empty() && filter.services.is_empty() && filter.methods.is_empty())
                    && any(&filter.packages, grpc.package)
                    && any(&filter.services, grpc.service)
                    && any(&filter.methods, grpc.method)
            }
            _ => false,
        },
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(names: &[&str], namespaces: &[&str]) -> Scope {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        let filter = scope::service::Filter { names: owned(names), namespaces: owned(namespaces) };
        let r#type = Some(scope::service::Type::Filter(filter));
        Scope { r#type: Some(scope::Type::Service(scope::Service { r#type })) }
    }

    #[test]
    fn scopes_narrow() {
        let api = Scope {
            r#type: Some(scope::Type::Api(scope::Api { r#type: Some(scope::api::Type::All(scope::api::All {})) })),
        };
        let call =
            Grpc { service: "MainService", service_full_name: "p.MainService", method: "ListUser", package: "p" };
        for (scopes, name, grpc, expected) in [
            (vec![], "svc1.ns1", None, true),
            (vec![service(&["svc1"], &["ns1"])], "svc1.ns1", None, true),
            (vec![service(&["svc1"], &["ns1"])], "svc1.ns2", None, false),
            (vec![service(&[], &["ns1"])], "any.ns1", None, true),
            (vec![service(&[], &["ns1"])], "any.ns2", None, false),
            (vec![service(&[], &[])], "any.ns2", None, false),
            (vec![api.clone()], "svc1.ns1", None, false),
            (vec![api.clone()], "svc1.ns1", Some(call), false),
            (vec![api], "default.octelium-api", Some(call), true),
            (vec![Scope::default()], "svc1.ns1", None, false),
        ] {
            assert_eq!(reaches(&scopes, name, grpc), expected, "{scopes:?} {name}");
        }
    }
}
