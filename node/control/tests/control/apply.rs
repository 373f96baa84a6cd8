//! Many resources as one change.

use octelium_api::{
    Kind, Object,
    control::{ApplyRequest, ApplyResponse, Change, change, result::Operation},
    core::ListUserOptions,
    meta::ObjectReference,
};
use tonic::Code;

use crate::support::{
    Cluster, by_name, code, delete, fields, human, new_credential, new_namespace, new_policy, new_secret, new_service,
    put, reference, workload,
};

fn operations(answer: &ApplyResponse) -> Vec<Operation> {
    answer.results.iter().map(octelium_api::control::Result::operation).collect()
}

/// A Service whose Secret, Policy and Namespace come after it.
const TOGETHER: &str = r#"
kind: Service
metadata: {name: web.prod}
spec:
  mode: HTTP
  isPublic: true
  authorization: {policies: [child.base]}
  config:
    upstream: {url: "http://127.0.0.1:8000"}
    http: {auth: {bearer: {fromSecret: api-key}}}
---
kind: Policy
metadata: {name: child.base}
spec: {rules: [{condition: {matchAny: true}, effect: ALLOW}]}
---
kind: Credential
metadata: {name: alice-cred}
spec: {type: AUTH_TOKEN, user: alice}
---
kind: User
metadata: {name: alice}
spec: {type: HUMAN, groups: [staff]}
---
kind: Group
metadata: {name: staff}
spec: {}
---
kind: Policy
metadata: {name: base}
spec: {rules: [{condition: {match: "ctx.user.spec.type == 'HUMAN'"}, effect: ALLOW}]}
---
kind: Secret
metadata: {name: api-key}
spec: {}
data: {value: hunter2}
---
kind: Namespace
metadata: {name: prod}
spec: {}
"#;

#[tokio::test]
async fn documents_may_refer_to_each_other_in_any_order() {
    let cluster = Cluster::start().await;
    let answer = cluster.apply_yaml(TOGETHER).await.unwrap();
    assert_eq!(operations(&answer), [Operation::Created; 8]);
    assert_eq!(answer.results[0].name, "web.prod");
    assert!(
        answer.index > 0 && answer.results.iter().all(|result| result.before.is_empty() && !result.after.is_empty())
    );
    let service = cluster.core().get_service(by_name("web.prod")).await.unwrap().into_inner();
    let namespace = cluster.core().get_namespace(by_name("prod")).await.unwrap().into_inner();
    assert_eq!(service.status.unwrap().namespace_ref.unwrap().uid, namespace.metadata.unwrap().uid);
    let policy = cluster.core().get_policy(by_name("child.base")).await.unwrap().into_inner();
    assert_eq!(policy.status.unwrap().parent_policy_ref.unwrap().name, "base");
    let credential = cluster.core().get_credential(by_name("alice-cred")).await.unwrap().into_inner();
    assert_eq!(credential.status.unwrap().user_ref.unwrap().name, "alice");
    let routes = cluster.views.routes.load();
    assert_eq!(routes.route("web.prod.octelium.localhost").unwrap().broken, None);
    assert_eq!(service.metadata.unwrap().actor_operation, "octelium.control.v1.ControlService/Apply");

    let again = cluster.apply_yaml(TOGETHER).await.unwrap();
    assert_eq!((operations(&again), again.index), (vec![Operation::Unchanged; 8], 0));
    let edited = cluster.apply_yaml(&TOGETHER.replace("8000", "9000").replace("hunter2", "hunter3")).await.unwrap();
    let mut expected = vec![Operation::Unchanged; 8];
    (expected[0], expected[6]) = (Operation::Updated, Operation::Updated);
    assert_eq!(operations(&edited), expected);
    let before = Kind::Service.decode(&edited.results[0].before).unwrap();
    assert_eq!(before, Kind::Service.decode(&again.results[0].after).unwrap());
}

/// What is accepted and may open more than was meant is told with its place, in a dry run too.
#[tokio::test]
async fn a_rule_that_may_mean_something_else_is_warned_of() {
    const TEXT: &str = r#"
kind: Policy
metadata: {name: odd}
spec: {rules: [{effect: ALLOW, condition: {not: ctx.device.status.isLocked}}]}
---
kind: Group
metadata: {name: staff}
spec:
  authorization:
    inlinePolicies: [{spec: {rules: [{effect: DENY, condition: {match: 'ctx.request.http.headers["x-a"] != "1"'}}]}}]
---
kind: Policy
metadata: {name: fine}
spec: {rules: [{effect: ALLOW, condition: {match: has(ctx.device) && !ctx.device.status.isLocked}}]}
"#;
    let cluster = Cluster::start().await;
    let answer = cluster.apply_yaml(TEXT).await.unwrap();
    let warnings: Vec<_> = answer.results.iter().map(|result| result.warnings.clone()).collect();
    assert_eq!(
        warnings,
        [
            vec![
                "spec.rules[0].condition.not: line 1, column 5: `ctx.device` may be absent: the expression is false then, and so the \
                 rule matches; did you mean `match` with `has(ctx.device) && !(…)`?"
            ],
            vec![
                "spec.authorization.inlinePolicies[0].spec.rules[0].condition.match: line 1, column 26: \
                 `ctx.request.http.headers[\"x-a\"]` may be absent: the expression is false then, and the rule does not match; did \
                 you mean `!(\"x-a\" in ctx.request.http.headers) || …`?"
            ],
            vec![],
        ]
    );
}

#[tokio::test]
async fn one_bad_document_and_nothing_is_changed() {
    let cluster = Cluster::start().await;
    let before = cluster.replica.state().index();
    let mut changes: Vec<_> = (0..20).map(|n| put(workload(&format!("user-{n}")))).collect();
    changes[7] = put(new_policy("bad", "!!!!"));
    let mut unknown_group = human("alice");
    unknown_group.spec.as_mut().unwrap().groups = vec!["nobody".to_owned()];
    changes[11] = put(unknown_group);
    changes.push(delete(Kind::Policy, "nothing"));
    changes.push(Change { kind: "Nonsense".to_owned(), ..Change::default() });
    changes.push(Change { kind: "User".to_owned(), ..Change::default() });
    changes.push(Change {
        kind: "User".to_owned(),
        change: Some(change::Change::Put(vec![0xff])),
        ..Change::default()
    });
    let status = cluster.apply(changes).await.unwrap_err();
    let mut named = fields(&status);
    named.sort();
    let expected = [
        "changes[11].spec.groups[0]",
        "changes[20].delete",
        "changes[21].kind",
        "changes[22]",
        "changes[23].put",
        "changes[7].spec.rules[0].condition.match",
    ];
    assert_eq!(named, expected);
    assert_eq!(cluster.replica.state().index(), before, "nothing was proposed");
    assert_eq!(cluster.core().list_user(ListUserOptions::default()).await.unwrap().into_inner().items.len(), 2);
}

#[tokio::test]
async fn unknown_fields_are_refused() {
    let cluster = Cluster::start().await;
    let mut bytes = Object::from(workload("svc")).encode();
    bytes.extend([0xca, 0x3e, 0x01, 0x00]); // field 1001
    let change = Change { kind: "User".to_owned(), change: Some(change::Change::Put(bytes)), ..Change::default() };
    let status = cluster.apply(vec![change]).await.unwrap_err();
    assert_eq!(fields(&status), ["changes[0].put"]);
}

#[tokio::test]
async fn a_request_id_has_one_effect_and_one_answer() {
    let cluster = Cluster::start().await;
    let request = |id: &str, changes: Vec<Change>| ApplyRequest { request_id: id.to_owned(), changes, dry_run: false };
    let create = vec![put(workload("svc")), delete(Kind::Policy, "deny-all")];
    let first = cluster.apply_request(request("one", create.clone())).await.unwrap();
    assert_eq!(operations(&first), [Operation::Created, Operation::Deleted]);
    assert_eq!(cluster.apply_request(request("one", create.clone())).await.unwrap(), first);
    // Meanwhile somebody else changed it: the repeat doesn't undo that.
    cluster.apply(vec![delete(Kind::User, "svc")]).await.unwrap();
    assert_eq!(cluster.apply_request(request("one", create.clone())).await.unwrap(), first);
    assert_eq!(code(cluster.core().get_user(by_name("svc")).await), Code::NotFound);

    let cluster = cluster.restart().await;
    assert_eq!(cluster.apply_request(request("one", create.clone())).await.unwrap(), first, "after a restart too");
    assert_eq!(code(cluster.core().get_user(by_name("svc")).await), Code::NotFound);
    let other = cluster.apply_request(request("one", vec![put(workload("other"))])).await.unwrap_err();
    assert_eq!(fields(&other), ["requestID"]);
    let long = cluster.apply_request(request(&"x".repeat(65), create)).await.unwrap_err();
    assert_eq!(fields(&long), ["requestID"]);
}

#[tokio::test]
async fn only_the_last_answers_are_kept() {
    let cluster = Cluster::start().await;
    for n in 0..70 {
        let request = ApplyRequest {
            request_id: format!("request-{n}"),
            changes: vec![put(workload(&format!("user-{n}")))],
            dry_run: false,
        };
        cluster.later(std::time::Duration::from_secs(1));
        cluster.apply_request(request).await.unwrap();
    }
    let state = cluster.replica.state();
    let kept: Vec<_> = state.keys().filter(|(name, _)| name.starts_with("answer/")).map(|(name, _)| name).collect();
    assert_eq!(kept.len(), 64);
    assert!(kept.contains(&"answer/request-69") && !kept.contains(&"answer/request-5"));
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_says_the_same() {
    let cluster = Cluster::start().await;
    cluster.core().create_user(workload("svc")).await.unwrap();
    let index = cluster.replica.state().index();
    let mut changed = workload("svc");
    changed.metadata.as_mut().unwrap().description = "mine".to_owned();
    let changes = vec![put(workload("new-one")), put(changed), put(workload("root")), delete(Kind::Policy, "deny-all")];
    let dry = ApplyRequest { request_id: "one".to_owned(), dry_run: true, changes: changes.clone() };
    let answer = cluster.apply_request(dry.clone()).await.unwrap();
    let expected = [Operation::Created, Operation::Updated, Operation::Unchanged, Operation::Deleted];
    assert_eq!((operations(&answer), answer.index), (expected.to_vec(), 0));
    assert_eq!(cluster.replica.state().index(), index);
    let created = Kind::User.decode(&answer.results[0].after).unwrap();
    assert_eq!((created.uid(), created.resource_version()), ("", ""), "no ids that nobody will ever see");
    let (before, after) = (&answer.results[1].before, &answer.results[1].after);
    let (before, after) = (Kind::User.decode(before).unwrap(), Kind::User.decode(after).unwrap());
    assert_eq!(before.resource_version(), after.resource_version());
    let real = cluster.apply_request(ApplyRequest { dry_run: false, ..dry }).await.unwrap();
    assert_eq!(operations(&real), expected);
    let bad = ApplyRequest { dry_run: true, changes: vec![put(new_policy("bad", "!!!!"))], request_id: String::new() };
    assert_eq!(code(cluster.apply_request(bad).await), Code::InvalidArgument);
}

#[tokio::test]
async fn nothing_is_changed_twice() {
    let cluster = Cluster::start().await;
    cluster.core().create_service(new_service("web", "http://127.0.0.1:8000")).await.unwrap();
    for (what, changes) in [
        ("two new ones", vec![put(workload("svc")), put(workload("svc"))]),
        ("two spellings", vec![put(new_service("web", "http://x:1")), put(new_service("web.default", "http://x:1"))]),
        ("put and delete", vec![put(workload("root")), delete(Kind::User, "root")]),
        ("delete and put", vec![delete(Kind::Service, "web"), put(new_service("web", "http://x:1"))]),
        ("two deletes", vec![delete(Kind::User, "root"), delete(Kind::User, "root")]),
    ] {
        let status = cluster.apply(changes).await.expect_err(what);
        assert!(status.message().contains("is changed twice"), "{what}: {status:?}");
        assert!(fields(&status)[0].starts_with("changes[1]."), "{what}: {status:?}");
    }
}

#[tokio::test]
async fn deletions_see_what_the_same_change_does() {
    let cluster = Cluster::start().await;
    cluster.apply_yaml(TOGETHER).await.unwrap();
    let status =
        cluster.apply(vec![delete(Kind::Namespace, "prod"), delete(Kind::Secret, "api-key")]).await.unwrap_err();
    assert_eq!(fields(&status), ["changes[0].delete", "changes[1].delete"]);
    assert!(status.message().contains("Service `web.prod`"));
    // A User goes with its Credentials, here in the same change as what refers to it.
    let all = [
        (Kind::Namespace, "prod"),
        (Kind::Secret, "api-key"),
        (Kind::Policy, "base"),
        (Kind::Policy, "child.base"),
        (Kind::Group, "staff"),
        (Kind::User, "alice"),
        (Kind::Service, "web.prod"),
    ];
    let answer = cluster.apply(all.iter().map(|(kind, name)| delete(*kind, name)).collect()).await.unwrap();
    assert_eq!(operations(&answer), [Operation::Deleted; 7]);
    assert!(cluster.replica.state().by_name(Kind::Credential, "alice-cred").is_none());
    let credential = new_credential("alice-cred", "alice", octelium_api::core::credential::spec::Type::AuthToken);
    let status = cluster.apply(vec![delete(Kind::User, "alice"), put(credential)]).await.unwrap_err();
    let mut named = fields(&status);
    named.sort();
    assert_eq!(named, ["changes[0].delete", "changes[1].spec.user"], "bad input outweighs what isn't there");
}

#[tokio::test]
async fn a_document_that_needs_what_goes_is_refused() {
    let cluster = Cluster::start().await;
    cluster.apply_yaml(TOGETHER).await.unwrap();
    let mut user = human("alice");
    user.spec.as_mut().unwrap().groups = vec!["staff".to_owned()];
    user.metadata.as_mut().unwrap().description = "mine".to_owned();
    let status = cluster.apply(vec![delete(Kind::Group, "staff"), put(user)]).await.unwrap_err();
    let mut named = fields(&status);
    named.sort();
    assert_eq!(named, ["changes[0].delete", "changes[1].spec.groups[0]"]);
    // Without the reference both go through.
    cluster.apply(vec![delete(Kind::Group, "staff"), put(human("alice"))]).await.unwrap();
}

#[tokio::test]
async fn what_apply_may_not_touch() {
    let cluster = Cluster::start().await;
    let mut system = new_namespace("octelium");
    let unchanged = cluster.apply(vec![put(system.clone())]).await.unwrap();
    assert_eq!(operations(&unchanged), [Operation::Unchanged], "a written copy of a system object may be applied");
    system.metadata.as_mut().unwrap().description = "mine".to_owned();
    assert_eq!(code(cluster.apply(vec![put(system)]).await), Code::PermissionDenied);
    assert_eq!(code(cluster.apply(vec![delete(Kind::Namespace, "default")]).await), Code::PermissionDenied);
    assert_eq!(code(cluster.apply(vec![delete(Kind::ClusterConfig, "default")]).await), Code::InvalidArgument);
    assert_eq!(code(cluster.apply(vec![delete(Kind::User, "nobody")]).await), Code::NotFound);
    let session = octelium_api::core::Session {
        metadata: crate::support::named("root-abc123"),
        spec: Some(octelium_api::core::session::Spec {
            state: 1,
            expires_at: Some(prost_types::Timestamp { seconds: cluster.now_unix() + 60, nanos: 0 }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let status = cluster.apply(vec![put(session)]).await.unwrap_err();
    assert!(status.message().contains("made by logging in"), "{status:?}");
    let foreign = ObjectReference { kind: "Group".to_owned(), ..reference("root") };
    let change = Change { kind: "User".to_owned(), change: Some(change::Change::Delete(foreign)), ..Change::default() };
    assert_eq!(fields(&cluster.apply(vec![change]).await.unwrap_err()), ["changes[0].delete"]);
}

#[tokio::test]
async fn addresses_stay_unique_within_one_change() {
    let cluster = Cluster::start().await;
    let with_email = |name: &str| {
        let mut user = human(name);
        user.spec.as_mut().unwrap().email = "a@example.com".to_owned();
        put(user)
    };
    let status = cluster.apply(vec![with_email("alice"), with_email("bob")]).await.unwrap_err();
    assert_eq!(fields(&status), ["changes[0].spec.email", "changes[1].spec.email"]);
    cluster.apply(vec![with_email("alice")]).await.unwrap();
    cluster.apply(vec![put(human("alice")), with_email("bob")]).await.expect("it moves from one to the other");
}

#[tokio::test]
async fn size_limits() {
    let cluster = Cluster::start().await;
    let many: Vec<_> = (0..10_001).map(|n| put(workload(&format!("user-{n}")))).collect();
    assert_eq!(fields(&cluster.apply(many).await.unwrap_err()), ["changes"]);
    let large: Vec<_> = (0..40).map(|n| put(new_secret(&format!("secret-{n}"), &"x".repeat(500 * 1024)))).collect();
    assert_eq!(code(cluster.apply(large).await), Code::OutOfRange, "more than 16 MiB aren't read");
    assert_eq!(operations(&cluster.apply(Vec::new()).await.unwrap()), []);
}
