//! Services and Namespaces.

use octelium_api::{
    Kind,
    core::{
        ListServiceOptions, Service,
        service::{self, spec::Mode},
    },
    meta::ObjectReference,
};
use tonic::Code;

use crate::support::{Cluster, by_name, code, deletion, fields, new_namespace, new_secret, new_service, reference};

fn spec(service: &mut Service) -> &mut service::Spec {
    service.spec.as_mut().unwrap()
}

#[tokio::test]
async fn a_service_gets_its_name_port_and_hosts() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_namespace(new_namespace("prod")).await.unwrap();
    let cases: [(&str, &str, u32, &str, &[&str]); 4] = [
        ("web", "http://127.0.0.1:8000", 8000, "web", &["web.default"]),
        ("web.prod", "https://example.com", 80, "web.prod", &[]),
        ("default.prod", "http://127.0.0.1", 80, "prod", &["default.prod"]),
        ("default", "https://example.com:8443", 8443, "", &["default.default"]),
    ];
    for (name, url, port, primary, additional) in cases {
        let made = core.create_service(new_service(name, url)).await.unwrap().into_inner();
        let full = if name.contains('.') { name.to_owned() } else { format!("{name}.default") };
        assert_eq!(made.metadata.unwrap().name, full);
        let status = made.status.unwrap();
        assert_eq!((status.port, status.primary_hostname.as_str()), (port, primary), "{name}");
        assert_eq!(status.additional_hostnames, additional, "{name}");
        assert_eq!(status.namespace_ref.unwrap().name, full.split_once('.').unwrap().1);
        assert_eq!(core.get_service(by_name(name)).await.unwrap().into_inner().status.unwrap().port, port);
    }
    let routes = cluster.views.routes.load();
    for host in
        ["web.octelium.localhost", "web.prod.octelium.localhost", "prod.octelium.localhost", "octelium.localhost"]
    {
        assert!(routes.route(host).is_some_and(|route| route.broken.is_none()), "{host}");
    }
}

#[tokio::test]
async fn ports_are_given_or_follow_from_the_mode() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    for port in [49_094, 49_095] {
        let mut service = new_service("web", "http://127.0.0.1:8000");
        spec(&mut service).port = port;
        assert_eq!(fields(&core.create_service(service).await.unwrap_err()), ["spec.port"]);
        let service = new_service("web", &format!("http://127.0.0.1:{port}"));
        assert_eq!(fields(&core.create_service(service).await.unwrap_err()), ["spec.port"]);
    }
    let mut service = new_service("web", "http://127.0.0.1:8000");
    spec(&mut service).config.as_mut().unwrap().upstream = None;
    spec(&mut service).mode = Mode::Grpc.into();
    let status = core.create_service(service.clone()).await.unwrap_err();
    assert!(fields(&status).contains(&"spec.port".to_owned()), "{status:?}");
}

#[tokio::test]
async fn names_that_would_share_a_host_are_refused() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_namespace(new_namespace("prod")).await.unwrap();
    core.create_service(new_service("web", "http://127.0.0.1:8000")).await.unwrap();
    let status = core.create_service(new_service("prod", "http://127.0.0.1:8000")).await.unwrap_err();
    assert_eq!(fields(&status), ["metadata.name"]);
    assert_eq!(fields(&core.create_namespace(new_namespace("web")).await.unwrap_err()), ["metadata.name"]);
    assert_eq!(code(core.create_service(new_service("web.default", "http://x:1")).await), Code::AlreadyExists);
    assert_eq!(code(core.create_namespace(new_namespace("prod")).await), Code::AlreadyExists);
    for reserved in ["octelium-x", "local", "locality", "cordium"] {
        assert_eq!(fields(&core.create_namespace(new_namespace(reserved)).await.unwrap_err()), ["metadata.name"]);
    }
    for (name, field) in [("web.nowhere", "metadata.name"), ("aa.bb.cc", "metadata.name"), ("Web", "metadata.name")] {
        let status = core.create_service(new_service(name, "http://127.0.0.1:8000")).await.unwrap_err();
        assert!(fields(&status).contains(&field.to_owned()), "{name}: {status:?}");
    }
}

#[tokio::test]
async fn a_namespace_with_services_stays() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_namespace(new_namespace("prod")).await.unwrap();
    core.create_service(new_service("web.prod", "http://127.0.0.1:8000")).await.unwrap();
    let status = core.delete_namespace(deletion("prod")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("Service `web.prod`"), "{status:?}");
    core.delete_service(deletion("web.prod")).await.unwrap();
    core.delete_namespace(deletion("prod")).await.unwrap();
    assert!(cluster.views.routes.load().route("web.prod.octelium.localhost").is_none());
}

#[tokio::test]
async fn bad_services_are_refused() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    type Case = (&'static str, fn(&mut Service), &'static str);
    let cases: &[Case] = &[
        ("no mode", |service| spec(service).mode = 0, "spec.mode"),
        ("no TCP yet", |service| spec(service).mode = Mode::Tcp.into(), "spec.mode"),
        ("no config", |service| spec(service).config = None, ""),
        (
            "unknown secret",
            |service| {
                use service::spec::config::{
                    Http, Type,
                    http::{
                        Auth,
                        auth::{self, Bearer, bearer},
                    },
                };
                let bearer = Bearer { r#type: Some(bearer::Type::FromSecret("nothing".to_owned())) };
                let auth = Auth { r#type: Some(auth::Type::Bearer(bearer)) };
                let http = Http { auth: Some(auth), ..Http::default() };
                spec(service).config.as_mut().unwrap().r#type = Some(Type::Http(http));
            },
            "spec.config.http.auth.bearer.fromSecret",
        ),
        (
            "unknown named config",
            |service| {
                use service::spec::dynamic_config::{Rule, rule};
                let condition =
                    octelium_api::core::Condition { r#type: Some(octelium_api::core::condition::Type::MatchAny(true)) };
                let rule =
                    Rule { condition: Some(condition), r#type: Some(rule::Type::ConfigName("other".to_owned())) };
                let dynamic = service::spec::DynamicConfig { rules: vec![rule], ..Default::default() };
                spec(service).dynamic_config = Some(dynamic);
            },
            "spec.dynamicConfig.rules[0].configName",
        ),
        (
            "bad expression",
            |service| {
                use service::spec::dynamic_config::{Rule, rule};
                let condition = octelium_api::core::Condition {
                    r#type: Some(octelium_api::core::condition::Type::Match("ctx.nothing == 1".to_owned())),
                };
                let rule =
                    Rule { condition: Some(condition), r#type: Some(rule::Type::ConfigName("other".to_owned())) };
                let mut other = spec(service).config.clone().unwrap();
                other.name = "other".to_owned();
                let dynamic = service::spec::DynamicConfig { rules: vec![rule], configs: vec![other] };
                spec(service).dynamic_config = Some(dynamic);
            },
            "spec.dynamicConfig.rules[0].condition.match",
        ),
    ];
    for (what, spoil, field) in cases {
        let mut service = new_service("web", "http://127.0.0.1:8000");
        spoil(&mut service);
        let status = core.create_service(service).await.expect_err(what);
        let named = fields(&status);
        assert!(field.is_empty() || named.iter().any(|named| named == field), "{what}: {status:?}");
    }
    assert_eq!(cluster.replica.state().count(Kind::Service), 2);
}

#[tokio::test]
async fn a_secret_in_use_stays() {
    use service::spec::config::{
        Http, Type,
        http::{
            Auth,
            auth::{self, Bearer, bearer},
        },
    };
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_secret(new_secret("api-key", "hunter2")).await.unwrap();
    let mut service = new_service("web", "http://127.0.0.1:8000");
    let bearer = Bearer { r#type: Some(bearer::Type::FromSecret("api-key".to_owned())) };
    let http = Http { auth: Some(Auth { r#type: Some(auth::Type::Bearer(bearer)) }), ..Http::default() };
    spec(&mut service).config.as_mut().unwrap().r#type = Some(Type::Http(http));
    core.create_service(service).await.unwrap();
    let status = core.delete_secret(deletion("api-key")).await.unwrap_err();
    assert!(status.message().contains("Service `web.default`"), "{status:?}");
    core.delete_service(deletion("web")).await.unwrap();
    core.delete_secret(deletion("api-key")).await.unwrap();
}

#[tokio::test]
async fn services_by_namespace() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_namespace(new_namespace("prod")).await.unwrap();
    core.create_service(new_service("web", "http://127.0.0.1:8000")).await.unwrap();
    core.create_service(new_service("web.prod", "http://127.0.0.1:8000")).await.unwrap();
    let by = |namespace: ObjectReference| ListServiceOptions { namespace_ref: Some(namespace), ..Default::default() };
    let list = core.list_service(by(reference("prod"))).await.unwrap().into_inner();
    assert_eq!(list.items.len(), 1);
    assert_eq!(code(core.list_service(by(reference("nowhere"))).await), Code::NotFound);
    assert_eq!(code(core.list_service(by(ObjectReference::default())).await), Code::InvalidArgument);
}
