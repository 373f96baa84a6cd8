//! Policies wherever they are attached, and what the access log says of them (spec: identity §10.1 P, §10.2 E, §10.7 G).

use octelium_api::core::{self, credential_token::Type};
use serde_json::{Value, json};

use crate::support::{
    api::deletion,
    cluster::Cluster,
    http::{Answer, get},
    manifest::{at, inline, merge, only, resource, rule, service, workload},
    upstream::Upstream,
};

fn allow() -> Value {
    rule("ALLOW", "true")
}

fn deny() -> Value {
    rule("DENY", "true")
}

/// What is attached where.
#[derive(Default)]
struct Attached {
    service: Vec<Value>,
    namespace: Vec<Value>,
    user: Vec<Value>,
    group: Vec<Value>,
    credential: Vec<Value>,
    cluster: Vec<Value>,
}

/// `svc.ns` behind a caller `alice` in the Group `staff`.
struct World {
    cluster: Cluster,
    upstream: Upstream,
}

impl World {
    async fn new() -> Self {
        Self { cluster: Cluster::start().await, upstream: Upstream::ok().await }
    }

    /// Makes everything anew and calls once. The answer, and why it is what it is.
    async fn call(&self, attached: Attached) -> (Answer, Value) {
        let authorization =
            |rules: &[Value]| if rules.is_empty() { json!({}) } else { json!({ "authorization": inline(rules) }) };
        let mut user = authorization(&attached.user);
        merge(&mut user, json!({ "type": "WORKLOAD", "groups": ["staff"] }));
        let mut credential = authorization(&attached.credential);
        merge(&mut credential, json!({ "type": "ACCESS_TOKEN", "user": "alice" }));
        let mut svc = service("svc.ns", &self.upstream.url(), json!({ "authorization": null }));
        merge(&mut svc["spec"], authorization(&attached.service));
        let api = &self.cluster.api;
        // A Session keeps what its Credential said when it was made: there is none the first time.
        api.core().delete_credential(deletion("alice-key")).await.ok();
        api.apply(&[
            resource("Namespace", "ns", authorization(&attached.namespace)),
            resource("Group", "staff", authorization(&attached.group)),
            resource("User", "alice", user),
            resource("Credential", "alice-key", credential),
            svc,
            json!({ "kind": "ClusterConfig", "spec": authorization(&attached.cluster) }),
        ])
        .await;
        let Type::AccessToken(token) = api.generate("alice-key").await else { panic!("an access token") };
        let path = format!("/{}", uuid::Uuid::new_v4());
        let answer = self.cluster.call(&get("svc.ns", &path).token(&token.access_token)).await;
        let record = self
            .cluster
            .record(&path, |record| record["entry"]["info"]["http"]["request"]["path"] == path.as_str())
            .await;
        (answer, record["entry"]["common"]["reason"].clone())
    }
}

/// P-01, P-02, P-07 to P-14, P-17, P-18, P-20 to P-24, G-15.
#[tokio::test]
async fn rules_of_all_sources_are_decided_by_priority_and_deny_comes_first() {
    let world = World::new().await;
    let default = Attached::default;
    for (id, attached, expected) in [
        ("P-01", default(), Err("NO_POLICY_MATCH")),
        ("P-02", Attached { service: vec![allow()], ..default() }, Ok("svc.ns")),
        ("P-07", Attached { service: vec![allow(), deny()], ..default() }, Err("svc.ns")),
        ("P-08", Attached { service: vec![deny()], group: vec![allow()], ..default() }, Err("svc.ns")),
        ("P-09", Attached { group: vec![allow()], ..default() }, Ok("staff")),
        ("P-11", Attached { group: vec![allow()], user: vec![deny()], ..default() }, Err("alice")),
        ("P-12", Attached { user: vec![allow()], ..default() }, Ok("alice")),
        ("P-13", Attached { namespace: vec![allow()], ..default() }, Ok("ns")),
        ("P-14", Attached { namespace: vec![deny()], service: vec![allow()], ..default() }, Err("ns")),
        ("P-17", Attached { credential: vec![allow()], ..default() }, Ok("alice-")),
        ("P-18", Attached { credential: vec![allow()], service: vec![deny()], ..default() }, Err("svc.ns")),
        ("P-20", Attached { service: vec![allow()], namespace: vec![deny()], ..default() }, Err("ns")),
        ("P-21", Attached { service: vec![deny()], user: vec![at(-1, allow())], ..default() }, Ok("alice")),
        (
            "P-22",
            Attached { service: vec![allow()], user: vec![at(-1, allow())], group: vec![at(-1, deny())], ..default() },
            Err("staff"),
        ),
        ("P-23", Attached { service: vec![at(2, allow())], group: vec![at(-1, deny())], ..default() }, Err("staff")),
        ("P-24", Attached { service: vec![at(-2, allow())], group: vec![at(-1, deny())], ..default() }, Ok("svc.ns")),
        ("G-15", Attached { service: vec![allow(), at(-1, deny())], ..default() }, Err("svc.ns")),
        (
            "L error in ALLOW",
            Attached { service: vec![rule("ALLOW", "1 / 0 == 1")], ..default() },
            Err("NO_POLICY_MATCH"),
        ),
        (
            "L error in DENY",
            Attached { service: vec![allow(), rule("DENY", "1 / 0 == 1")], ..default() },
            Err("svc.ns"),
        ),
    ] {
        let (answer, reason) = world.call(attached).await;
        let owner = match expected {
            Ok(owner) => {
                assert_eq!(answer.short(), (200, ""), "{id}: {reason}");
                owner
            }
            Err(owner) => {
                assert_eq!(answer.short(), (403, "DENIED"), "{id}: {reason}");
                assert_eq!(answer.header("x-octelium-unauthorized"), Some("true"), "{id}");
                owner
            }
        };
        if owner == "NO_POLICY_MATCH" {
            assert_eq!(reason["type"], "NO_POLICY_MATCH", "{id}");
            continue;
        }
        assert_eq!(reason["type"], "POLICY_MATCH", "{id}");
        let found = &reason["details"]["policyMatch"]["inlinePolicy"]["resourceRef"]["name"];
        // A Session's name is the server's choice.
        assert!(found.as_str().is_some_and(|found| found.starts_with(owner)), "{id}: {reason}");
    }
}

/// P-03, P-04, P-10, P-25: what a disabled policy, a Group without the caller, and a Policy that is attached twice contribute.
#[tokio::test]
async fn only_what_is_attached_and_enabled_counts() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let group = |rules: &[Value]| resource("Group", "staff", json!({ "authorization": inline(rules) }));
    let svc = |authorization: Value| {
        let none = json!({ "authorization": null });
        let mut svc = service("svc", &upstream.url(), none);
        merge(&mut svc["spec"], json!({ "authorization": authorization }));
        svc
    };
    let member = |groups: &[&str]| resource("User", "alice", json!({ "type": "WORKLOAD", "groups": groups }));
    let disabled = |is_disabled: bool| json!({ "inlinePolicies": [{ "spec": { "isDisabled": is_disabled, "rules": [allow()] } }] });
    cluster.api.apply(&[group(&[]), svc(json!({}))]).await;
    let token = cluster.api.caller("alice").await;
    let twice = resource("Policy", "twice", json!({ "rules": [allow()] }));
    for (id, documents, status) in [
        ("P-03", vec![svc(disabled(true))], 403),
        ("P-04", vec![svc(disabled(false))], 200),
        ("P-10", vec![svc(json!({})), group(&[allow()]), member(&[])], 403),
        ("P-09", vec![member(&["staff"])], 200),
        ("P-25", vec![twice, member(&[]), svc(json!({ "policies": ["twice"] })), group(&[])], 200),
        (
            "P-25",
            vec![resource("Group", "staff", json!({ "authorization": { "policies": ["twice"] } })), member(&["staff"])],
            200,
        ),
    ] {
        cluster.api.apply(&documents).await;
        let answer = cluster.call(&get("svc", "/").token(&token)).await;
        assert_eq!(answer.status, status, "{id}");
    }
}

/// L-21, L-24: whoever reads the record of a refused request learns which rule failed, and how.
#[tokio::test]
async fn a_failing_rule_is_named_in_the_log() {
    let world = World::new().await;
    let lists = "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32]";
    let dear = format!("{lists}.all(a, {lists}.all(b, {lists}.all(c, {lists}.all(d, a + b + c + d > 0))))");
    for (effect, expression, r#type, details, error) in [
        ("ALLOW", "1 / 0 == 1", "NO_POLICY_MATCH", "policyFailure", "division by zero"),
        ("DENY", "1 / 0 == 1", "POLICY_MATCH", "policyMatch", "division by zero"),
        ("ALLOW", &dear, "POLICY_BUDGET", "policyFailure", "the expression costs too much"),
    ] {
        let mut rule = rule(effect, expression);
        rule["name"] = json!("main");
        let (answer, reason) = world.call(Attached { service: vec![rule], ..Attached::default() }).await;
        assert_eq!(answer.short(), (403, "DENIED"), "{effect} {error}");
        assert_eq!(reason["type"], r#type, "{reason}");
        let details = &reason["details"][details];
        assert_eq!((&details["ruleName"], &details["error"]), (&json!("main"), &json!(error)), "{reason}");
        assert_eq!(details["inlinePolicy"]["resourceRef"]["name"], "svc.ns", "{reason}");
    }
}

/// The body of a call of the control API is not shown to rules: one that reads it fails, and so denies.
#[tokio::test]
async fn a_rule_that_reads_the_body_of_a_call_to_the_api_denies() {
    let cluster = Cluster::start().await;
    let guard = rule("DENY", r#"ctx.request.grpc.method == "ListUser" && has(ctx.request.grpc.http.body)"#);
    cluster.api.core().list_user(core::ListUserOptions::default()).await.expect("an administrator may list Users");
    let config = json!({ "kind": "ClusterConfig", "spec": { "authorization": inline(&[at(-4, guard)]) } });
    cluster.api.apply(&[config]).await;
    let status = cluster.api.core().list_user(core::ListUserOptions::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status:?}");
    cluster.api.core().list_group(core::ListGroupOptions::default()).await.expect("the rule is about other calls");
}

/// The ClusterConfig's policies are pooled with all others.
#[tokio::test]
async fn the_clusters_own_policies_hold_for_every_service() {
    let world = World::new().await;
    let https_only = rule("DENY", r#"ctx.request.http.scheme == "http" && ctx.service.metadata.name == "svc.ns""#);
    let (answer, reason) =
        world.call(Attached { service: vec![allow()], cluster: vec![https_only], ..Attached::default() }).await;
    assert_eq!(answer.short(), (403, "DENIED"));
    assert_eq!(reason["details"]["policyMatch"]["inlinePolicy"]["resourceRef"]["kind"], "ClusterConfig", "{reason}");
}

/// P-15, P-16, P-27, E-01, and a changed Policy at the next request.
#[tokio::test]
async fn named_policies_are_followed_and_named_in_the_log() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let policy = |name: &str, rules: Value| resource("Policy", name, json!({ "rules": rules }));
    let named = |effect: &str, expression: &str, priority: i32| {
        let mut rule = at(priority, rule(effect, expression));
        rule["name"] = json!("main");
        rule
    };
    cluster
        .api
        .apply(&[
            policy("parent", json!([named("ALLOW", r#"ctx.request.http.path == "/parent""#, -1)])),
            policy("child.parent", json!([named("ALLOW", r#"ctx.request.http.path == "/child""#, 0)])),
            service("svc", &upstream.url(), json!({ "authorization": { "policies": ["child.parent"] } })),
        ])
        .await;
    let token = cluster.api.caller("alice").await;
    let mut connection = cluster.connect().await;
    for (path, status, policy, priority) in [("/parent", 200, "parent", -1), ("/child", 200, "child.parent", 0)] {
        assert_eq!(connection.call(&get("svc", path).token(&token)).await.status, status, "{path}");
        let record = cluster.record(path, |record| record["entry"]["info"]["http"]["request"]["path"] == path).await;
        let reason = &record["entry"]["common"]["reason"];
        assert_eq!(reason["type"], "POLICY_MATCH");
        let details = &reason["details"]["policyMatch"];
        assert_eq!(details["policy"]["policyRef"]["name"], policy);
        assert_eq!((&details["ruleName"], &details["priority"]), (&json!("main"), &json!(priority)));
    }
    let other = connection.call(&get("svc", "/other").token(&token)).await;
    assert_eq!(cluster.reason_of(&other).await, "NO_POLICY_MATCH");

    cluster.api.apply(&[policy("parent", json!([named("DENY", "true", -1)]))]).await;
    let answer = connection.call(&get("svc", "/child").token(&token)).await;
    assert_eq!(answer.short(), (403, "DENIED"));
    let disabled = resource("Policy", "parent", json!({ "rules": [rule("DENY", "true")], "isDisabled": true }));
    cluster.api.apply(&[disabled]).await;
    assert_eq!(connection.call(&get("svc", "/child").token(&token)).await.status, 200);

    // In use, it stays.
    for name in ["child.parent", "parent"] {
        let status = cluster.api.core().delete_policy(deletion(name)).await.unwrap_err();
        assert!(status.message().contains(name), "{status:?}");
    }
    assert_eq!(connection.call(&get("svc", "/child").token(&token)).await.status, 200);
}

/// G-14.
#[tokio::test]
async fn joining_and_leaving_a_group_counts_at_the_next_request() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let member = |group: &str| rule("ALLOW", &format!(r#""{group}" in ctx.user.spec.groups"#));
    let groups = |names: &[&str]| {
        let mut user = workload("alice");
        user["spec"]["groups"] = json!(names);
        user
    };
    cluster
        .api
        .apply(&[
            resource("Group", "one", json!({})),
            resource("Group", "two", json!({})),
            service("svc", &upstream.url(), only(&[member("one")])),
        ])
        .await;
    let token = cluster.api.caller("alice").await;
    let mut connection = cluster.connect().await;
    let call = get("svc", "/").token(&token);
    assert_eq!(connection.call(&call).await.status, 403);
    cluster.api.apply(&[groups(&["one"])]).await;
    assert_eq!(connection.call(&call).await.status, 200);
    cluster.api.apply(&[groups(&["two"])]).await;
    assert_eq!(connection.call(&call).await.status, 403);
    cluster.api.apply(&[service("svc", &upstream.url(), only(&[member("one"), member("two")]))]).await;
    assert_eq!(connection.call(&call).await.status, 200);
    cluster.api.apply(&[groups(&[])]).await;
    assert_eq!(connection.call(&call).await.status, 403);
}

/// What a rule can see of a request is what was sent.
#[tokio::test]
async fn rules_see_the_request() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let token = cluster.api.caller("alice").await;
    for expression in [
        r#"ctx.request.http.path == "/a b/c""#,
        r#"ctx.request.http.uri == "/a%20b/c?x=1&y=2&x=3""#,
        r#"ctx.request.http.method == "GET""#,
        r#"ctx.request.http.host == "svc.octelium.test""#,
        r#"ctx.request.http.scheme == "http""#,
        r#"ctx.request.http.headers["x-custom"] == "this-value""#,
        r#"ctx.request.http.queryParams["x"] == "1" && ctx.request.http.queryParams["y"] == "2""#,
        r#"ctx.request.ip == "127.0.0.1""#,
        r#"ctx.user.metadata.name == "alice" && ctx.user.spec.type == "WORKLOAD""#,
        r#"ctx.session.status.type == "CLIENTLESS""#,
        r#"ctx.service.metadata.name == "svc.default" && ctx.namespace.metadata.name == "default""#,
        r#"!("x-none" in ctx.request.http.headers)"#,
    ] {
        cluster.api.apply(&[service("svc", &upstream.url(), only(&[rule("ALLOW", expression)]))]).await;
        let call = get("svc", "/a%20b/c?x=1&y=2&x=3").header("X-Custom", "this-value").token(&token);
        assert_eq!(cluster.call(&call).await.status, 200, "{expression}");
        let negated = only(&[rule("ALLOW", &format!("!({expression})"))]);
        cluster.api.apply(&[service("svc", &upstream.url(), negated)]).await;
        assert_eq!(cluster.call(&call).await.status, 403, "not {expression}");
    }
}

/// Copied at log-in, kept afterwards.
#[tokio::test]
async fn a_credentials_policies_stay_with_its_sessions() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    cluster.api.apply(&[service("svc", &upstream.url(), json!({ "authorization": null }))]).await;
    let only_reads = json!({ "authorization": inline(&[rule("ALLOW", r#"ctx.request.http.path == "/read""#)]) });
    let login = cluster.api.login("alice", only_reads, &[]).await;
    let bare = resource("Credential", &login.credential, json!({ "type": "AUTH_TOKEN", "user": "alice" }));
    cluster.api.apply(&[bare]).await;
    assert_eq!(cluster.call(&get("svc", "/read").token(&login.access)).await.status, 200);
    assert_eq!(cluster.call(&get("svc", "/write").token(&login.access)).await.status, 403);
    let later = cluster.api.try_log_in(&login.shown, &[]).await.unwrap().access_token;
    assert_eq!(cluster.call(&get("svc", "/read").token(&later)).await.status, 403, "a new Session has the new ones");
}
