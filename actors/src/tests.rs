//! The actors over a real log: what is applied is seen, what is revoked is gone, and a failed actor comes back the same.

use std::sync::Arc;

use octelium_api::{
    Kind, Object,
    core::{
        self,
        policy::spec::{Rule, rule},
        service, session, user,
    },
    meta::{Metadata, ObjectReference},
};
use octelium_consensus::{Command, Expected, Options, Outcome, Replica, State, Stored, Write};
use octelium_policy::{Origin, PathIndex, Policy, Reads};
use uuid::Uuid;

use crate::{
    Views, policies,
    router::{self, Route},
    subject::Resource,
    supervisor::Supervisor,
};

const DOMAIN: &str = "example.com";

struct Cluster {
    replica: Replica,
    views: Views,
    supervisor: Supervisor,
    _directory: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let replica = Replica::open(Options::new(directory.path())).await.expect("an empty log opens");
        let views = Views::new(DOMAIN);
        let supervisor = Supervisor::start(views.clone(), &replica).await.expect("the actors start");
        Self { replica, views, supervisor, _directory: directory }
    }

    async fn write(&self, writes: Vec<Write>) {
        match self.replica.propose(Command::new(1, writes)).await.expect("the log takes it") {
            Outcome::Applied { index } => self.views.reached(index).await,
            conflict @ Outcome::Conflict { .. } => panic!("{conflict:?}"),
        }
    }

    async fn put(&self, object: Object) {
        let known = self
            .replica
            .state()
            .get(object.kind(), object.uid())
            .map(|stored| stored.object.resource_version().to_owned());
        let expected = known.map_or(Expected::Absent, Expected::Version);
        self.write(vec![Write::Put { object, expected, sealed: None }]).await;
    }
}

fn metadata(name: &str) -> Option<Metadata> {
    let fresh = || Uuid::new_v4().to_string();
    Some(Metadata { uid: fresh(), name: name.to_owned(), resource_version: fresh(), ..Metadata::default() })
}

fn service(name: &str, policies: &[&str]) -> Object {
    let policies = policies.iter().map(|name| (*name).to_owned()).collect();
    let url = service::spec::config::upstream::Type::Url("http://127.0.0.1:1".to_owned());
    core::Service {
        metadata: metadata(name),
        spec: Some(service::Spec {
            mode: service::spec::Mode::Http.into(),
            is_public: true,
            authorization: Some(service::spec::Authorization { policies, ..Default::default() }),
            config: Some(service::spec::Config {
                upstream: Some(service::spec::config::Upstream { r#type: Some(url), ..Default::default() }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
    .into()
}

fn namespace(name: &str) -> Object {
    core::Namespace { metadata: metadata(name), spec: Some(core::namespace::Spec::default()), ..Default::default() }
        .into()
}

fn user(name: &str) -> Object {
    let spec = user::Spec { r#type: user::spec::Type::Workload.into(), ..Default::default() };
    core::User { metadata: metadata(name), spec: Some(spec), ..Default::default() }.into()
}

fn session(of: &Object, token: Uuid) -> Object {
    let authentication = session::status::Authentication {
        token_id: token.to_string(),
        set_at: Some(prost_types::Timestamp { seconds: 1_000, nanos: 0 }),
        access_token_duration: Some(octelium_api::meta::Duration {
            r#type: Some(octelium_api::meta::duration::Type::Seconds(100)),
        }),
        ..Default::default()
    };
    core::Session {
        metadata: metadata("s-000001"),
        spec: Some(session::Spec {
            state: session::spec::State::Active.into(),
            expires_at: Some(prost_types::Timestamp { seconds: 5_000, nanos: 0 }),
            ..Default::default()
        }),
        status: Some(session::Status {
            user_ref: Some(ObjectReference { uid: of.uid().to_owned(), ..Default::default() }),
            authentication: Some(authentication),
            ..Default::default()
        }),
        ..Default::default()
    }
    .into()
}

fn changed(object: &Object, change: impl FnOnce(&mut Object)) -> Object {
    let mut object = object.clone();
    change(&mut object);
    object.metadata_mut().resource_version = Uuid::new_v4().to_string();
    object
}

fn number(object: &Object) -> u128 {
    Uuid::parse_str(object.uid()).expect("a uid").as_u128()
}

/// A Route that allows everything.
pub(crate) fn route() -> Route {
    Route {
        reference: ObjectReference::default(),
        uid: "uid".into(),
        namespace: ObjectReference::default(),
        service: resource(core::Service::default()),
        namespace_subject: None,
        mode: service::spec::Mode::Http,
        fqdn: "api.example.com".into(),
        is_public: true,
        is_disabled: false,
        access: router::Access::AnonymousWithPolicy,
        policies: vec![rule_for_all(rule::Effect::Allow)],
        names_policies: false,
        reads: Reads::default(),
        body: router::Body { buffer: false, json: false, bytes_max: 0 },
        pre_auth: Box::default(),
        revision: 0,
        config: None,
        cors: None,
        rules: Box::default(),
        rule_index: PathIndex::default(),
        broken: None,
    }
}

/// A policy that denies everything.
pub(crate) fn deny_all() -> Arc<Policy> {
    rule_for_all(rule::Effect::Deny)
}

fn rule_for_all(effect: rule::Effect) -> Arc<Policy> {
    let condition = core::Condition { r#type: Some(core::condition::Type::MatchAny(true)) };
    let rule = Rule { condition: Some(condition), effect: effect.into(), ..Default::default() };
    let spec = core::policy::Spec { rules: vec![rule], ..Default::default() };
    Arc::new(Policy::compile(&spec, Origin::BuiltIn("a test".to_owned()), "spec").expect("`matchAny` compiles"))
}

fn resource(object: impl Into<Object>) -> Resource {
    Resource::new(Arc::new(Stored { object: object.into(), sealed: None, created_index: 1 }))
}

#[tokio::test]
async fn an_applied_service_answers_at_all_its_hosts_until_it_is_deleted() {
    let cluster = Cluster::start().await;
    let service = service("api.default", &[]);
    cluster.put(namespace("default")).await;
    cluster.put(service.clone()).await;
    let routes = cluster.views.routes.load_full();
    for host in ["api.example.com", "api.default.example.com", "api.local.example.com", "api.default.local.example.com"]
    {
        assert!(routes.route(host).is_some_and(|route| route.broken.is_none()), "{host}");
    }
    assert!(routes.route("api.example.org").is_none());

    let private = changed(&service, |object| {
        let Object::Service(service) = object else { return };
        service.spec.get_or_insert_default().is_public = false;
    });
    cluster.put(private.clone()).await;
    let routes = cluster.views.routes.load_full();
    assert!(routes.route("api.example.com").is_none(), "a private Service has no public name");
    assert!(routes.route("api.local.example.com").is_some());

    let expected = Expected::Version(private.resource_version().to_owned());
    cluster.write(vec![Write::Delete { kind: Kind::Service, uid: private.uid().to_owned(), expected }]).await;
    assert!(cluster.views.routes.load_full().hosts.is_empty());
}

#[tokio::test]
async fn a_policy_that_is_missing_denies() {
    let cluster = Cluster::start().await;
    cluster.put(namespace("default")).await;
    cluster.put(service("api.default", &["not-there"])).await;
    let routes = cluster.views.routes.load_full();
    let route = routes.route("api.example.com").expect("the Service is there");
    let decision = octelium_policy::decide(route.policies.iter().map(Arc::as_ref), &octelium_policy::Context::new(0));
    assert_eq!(decision.effect, octelium_policy::Effect::Deny);
    assert_eq!(route.policies.len(), 1, "it is not left out");
}

#[tokio::test]
async fn a_session_is_seen_at_once_and_goes_with_what_it_depends_on() {
    let cluster = Cluster::start().await;
    let user = user("bot");
    let token = Uuid::new_v4();
    let session = session(&user, token);
    cluster.put(user.clone()).await;
    cluster.put(session.clone()).await;
    let entry = cluster.views.sessions.get(number(&session)).expect("the Session is seen");
    assert!(entry.accepts(token.as_u128(), 1_099));
    assert!(!entry.accepts(token.as_u128(), 1_100), "the access token's life is over");
    assert!(!entry.accepts(Uuid::new_v4().as_u128(), 1_001), "another token");

    let disabled = changed(&user, |object| {
        let Object::User(user) = object else { return };
        user.spec.get_or_insert_default().is_disabled = true;
    });
    cluster.put(disabled.clone()).await;
    let entry = cluster.views.sessions.get(number(&session)).expect("the Session is still seen");
    assert!(entry.user.is_disabled, "the change of the User reaches the Session");

    let expected = Expected::Version(session.resource_version().to_owned());
    cluster.write(vec![Write::Delete { kind: Kind::Session, uid: session.uid().to_owned(), expected }]).await;
    assert!(cluster.views.sessions.get(number(&session)).is_none());
}

#[tokio::test]
async fn an_actor_that_fails_comes_back_with_the_same_view() {
    let cluster = Cluster::start().await;
    let user = user("bot");
    let session = session(&user, Uuid::new_v4());
    for object in [namespace("default"), service("api.default", &[]), user.clone(), session.clone()] {
        cluster.put(object).await;
    }
    cluster.supervisor.fail_all().await;
    // What is applied from now on is only seen if both follow again.
    cluster.put(service("later.default", &[])).await;
    let routes = cluster.views.routes.load_full();
    assert!(routes.route("api.example.com").is_some() && routes.route("later.example.com").is_some());
    assert!(cluster.views.sessions.get(number(&session)).is_some());
    assert_eq!(cluster.supervisor.report().await.sessions, 1);
}

#[tokio::test]
async fn actors_that_fail_again_and_again_are_given_up() {
    let cluster = Cluster::start().await;
    for _ in 0..6 {
        cluster.supervisor.fail_all().await;
    }
    assert!(cluster.supervisor.gave_up().await.contains("again and again"));
}

#[test]
fn header_rules_are_counted_with_those_of_parents() {
    let service = |configs: usize| {
        let add: Vec<_> = (0..250).map(|n| serde_json::json!({ "key": format!("X-{n}"), "value": "v" })).collect();
        let named = |n| serde_json::json!({ "name": format!("c{n}"), "parent": "default" });
        let value = serde_json::json!({
            "metadata": { "name": "svc" },
            "spec": {
                "mode": "HTTP",
                "config": { "upstream": { "url": "http://host" }, "http": { "header": { "addRequestHeaders": add } } },
                "dynamicConfig": { "configs": (0..configs).map(named).collect::<Vec<_>>() },
            },
        });
        match octelium_api::manifest::from_json(octelium_api::Kind::Service, &value).expect("a Service") {
            octelium_api::Object::Service(service) => service,
            other => panic!("{other:?}"),
        }
    };
    assert!(router::compile::check(&service(80)).is_ok());
    let problems = router::compile::check(&service(81)).expect_err("too many");
    assert_eq!(problems[0].path, "spec.dynamicConfig.configs[80]");
}

/// Changes come together where many are made: whichever of them is looked at first.
#[tokio::test]
async fn a_service_that_takes_the_place_of_a_deleted_one_has_its_hosts() {
    let cluster = Cluster::start().await;
    cluster.put(namespace("default")).await;
    for round in 0..16 {
        let mut writes = Vec::new();
        for stored in cluster.replica.state().list(Kind::Service) {
            let (uid, version) = (stored.object.uid().to_owned(), stored.object.resource_version().to_owned());
            writes.push(Write::Delete { kind: Kind::Service, uid, expected: Expected::Version(version) });
        }
        for number in 0..4 {
            let object = service(&format!("api{number}.default"), &[]);
            writes.push(Write::Put { object, expected: Expected::Absent, sealed: None });
        }
        cluster.write(writes).await;
        let routes = cluster.views.routes.load_full();
        for number in 0..4 {
            assert!(routes.route(&format!("api{number}.example.com")).is_some(), "api{number} in round {round}");
        }
    }
}

#[test]
fn services_in_front_of_one_server_share_what_is_known_of_it() {
    let mut upstreams = router::compile::Upstreams::default();
    let state = State::default();
    let library = policies::Library::default();
    let mut upstream = |name: &str, spec: serde_json::Value| {
        let document = serde_json::json!({ "kind": "Service", "metadata": { "name": name }, "spec": spec });
        let object = octelium_api::manifest::from_json(Kind::Service, &document).expect("a Service");
        let stored = Arc::new(Stored { object, sealed: None, created_index: 1 });
        let route = router::compile::route(&state, &library, &mut upstreams, "example.com", &stored).expect("a route");
        route.config.clone().and_then(|config| config.upstream.clone()).expect("an upstream")
    };
    let spec = |url: &str, skip: bool| {
        serde_json::json!({ "mode": "HTTP", "config": {
            "upstream": { "url": url }, "tls": { "insecureSkipVerify": skip } } })
    };
    let first = upstream("a.default", spec("https://server.test", false));
    assert!(Arc::ptr_eq(&first, &upstream("b.default", spec("https://server.test", false))));
    assert!(Arc::ptr_eq(&first, &upstream("c.default", spec("https://server.test:443", false))));
    for other in
        [spec("https://server.test", true), spec("https://server.test:444", false), spec("http://server.test", false)]
    {
        assert!(!Arc::ptr_eq(&first, &upstream("d.default", other)));
    }
}
