//! Users and Groups.

use octelium_api::{
    Kind,
    core::{Group, InlinePolicy, User, group, session::spec::State, user},
    meta::{Duration, duration},
};
use tonic::Code;

use crate::support::{Cluster, by_name, code, deletion, fields, human, named, policy_spec, workload};

fn new_group(name: &str) -> Group {
    Group { metadata: named(name), spec: Some(group::Spec::default()), ..Group::default() }
}

fn spec(user: &mut User) -> &mut user::Spec {
    user.spec.as_mut().unwrap()
}

type Case = (&'static str, fn(&mut User), &'static str);

#[tokio::test]
async fn bad_users_are_refused() {
    let cluster = Cluster::start().await;
    let cases: &[Case] = &[
        ("U-01 no spec", |user| user.spec = None, "spec"),
        ("U-01 no name", |user| user.metadata = named(""), "metadata.name"),
        ("U-01 no metadata", |user| user.metadata = None, "metadata"),
        ("U-01 no type", |user| spec(user).r#type = 0, "spec.type"),
        ("U-01 unknown type", |user| spec(user).r#type = 9, "spec.type"),
        ("U-03 bad e-mail", |user| spec(user).email = "alice".to_owned(), "spec.email"),
        ("U-03 upper case", |user| spec(user).email = "Alice@example.com".to_owned(), "spec.email"),
        ("U-03 long", |user| spec(user).email = format!("{}@example.com", "a".repeat(150)), "spec.email"),
        ("U-03 not ASCII", |user| spec(user).email = "älice@example.com".to_owned(), "spec.email"),
        ("U-06", |user| spec(user).info.get_or_insert_default().phone = "1".repeat(257), "spec.info.phone"),
        (
            "U-07 sessions",
            |user| spec(user).session.get_or_insert_default().max_per_user = 10_001,
            "spec.session.maxPerUser",
        ),
        (
            "U-07 duration",
            |user| {
                let zero = Duration { r#type: Some(duration::Type::Hours(0)) };
                spec(user).session.get_or_insert_default().client_duration = Some(zero);
            },
            "spec.session.clientDuration",
        ),
        (
            "U-07 state",
            |user| spec(user).session.get_or_insert_default().default_state = State::Rejected.into(),
            "spec.session.defaultState",
        ),
        ("U-13 unknown group", |user| spec(user).groups = vec!["nobody".to_owned()], "spec.groups[0]"),
        ("U-13 bad group", |user| spec(user).groups = vec!["No Group".to_owned()], "spec.groups[0]"),
        (
            "U-13 unknown policy",
            |user| spec(user).authorization.get_or_insert_default().policies = vec!["nothing".to_owned()],
            "spec.authorization.policies[0]",
        ),
        (
            "U-13 bad expression",
            |user| {
                let inline = InlinePolicy { name: String::new(), spec: Some(policy_spec("!!!!")) };
                spec(user).authorization.get_or_insert_default().inline_policies = vec![inline];
            },
            "spec.authorization.inlinePolicies[0].spec.rules[0].condition.match",
        ),
    ];
    let mut core = cluster.core();
    for (id, spoil, field) in cases {
        let mut user = human("alice");
        spoil(&mut user);
        let status = core.create_user(user).await.expect_err(id);
        assert!(fields(&status).iter().any(|named| named == field), "{id}: {status:?}");
    }
    // U-03: a workload has no e-mail; U-09, U-12: what isn't served yet is refused, not ignored.
    let mut user = workload("alice");
    spec(&mut user).email = "alice@example.com".to_owned();
    assert!(fields(&core.create_user(user).await.unwrap_err()).contains(&"spec.email".to_owned()));
    let mut user = human("alice");
    spec(&mut user).authentication.get_or_insert_default().identities.push(user::spec::authentication::Identity {
        identity_provider: "github".to_owned(),
        identifier: "alice".to_owned(),
    });
    assert_eq!(code(core.create_user(user).await), Code::InvalidArgument);
    assert_eq!(cluster.replica.state().count(Kind::User), 2, "nothing but the first two is there");
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once() {
    let cluster = Cluster::start().await;
    let mut user = human("alice");
    spec(&mut user).groups = vec!["nobody".to_owned()];
    spec(&mut user).email = "x".to_owned();
    spec(&mut user).authorization.get_or_insert_default().policies = vec!["nothing".to_owned()];
    let status = cluster.core().create_user(user).await.unwrap_err();
    let mut named = fields(&status);
    named.sort();
    assert_eq!(named, ["spec.authorization.policies[0]", "spec.email", "spec.groups[0]"]);
    assert!(status.message().contains("spec.groups[0]: there is no Group `nobody`"), "{status:?}");
}

#[tokio::test]
async fn good_users_are_stored_as_sent() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    let hours = |count| Some(Duration { r#type: Some(duration::Type::Hours(count)) });
    for (name, session) in [
        (
            "u-08-full",
            user::spec::Session {
                client_duration: hours(8),
                clientless_duration: hours(4),
                access_token_duration: hours(1),
                refresh_token_duration: hours(24),
                max_per_user: 10_000,
                default_state: State::Active.into(),
            },
        ),
        (
            "u-08-small",
            user::spec::Session { max_per_user: 1, default_state: State::Pending.into(), ..Default::default() },
        ),
        ("u-08-empty", user::spec::Session::default()),
    ] {
        let mut user = human(name);
        spec(&mut user).session = Some(session);
        let made = core.create_user(user.clone()).await.unwrap().into_inner();
        assert_eq!(made.spec, user.spec, "{name}");
        let metadata = made.metadata.unwrap();
        assert_eq!(metadata.actor_operation, "octelium.api.main.core.v1.MainService/CreateUser");
        assert_eq!(metadata.actor_ref.unwrap().name, "admin-abc123");
        assert!(metadata.created_at.is_some() && metadata.updated_at.is_none());
        assert_eq!(uuid::Uuid::parse_str(&metadata.uid).unwrap().get_version_num(), 4);
        assert_eq!(uuid::Uuid::parse_str(&metadata.resource_version).unwrap().get_version_num(), 7);
    }
}

#[tokio::test]
async fn u_02_names_are_unique() {
    let cluster = Cluster::start().await;
    cluster.core().create_user(human("alice")).await.unwrap();
    assert_eq!(code(cluster.core().create_user(workload("alice")).await), Code::AlreadyExists);
}

#[tokio::test]
async fn u_04_u_05_addresses_are_unique() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    let with_email = |name: &str, email: &str| {
        let mut user = human(name);
        spec(&mut user).email = email.to_owned();
        user
    };
    let alice = core.create_user(with_email("alice", "a.b@example.com")).await.unwrap().into_inner();
    assert!(alice.metadata.unwrap().spec_labels.contains_key("email"));
    assert_eq!(fields(&core.create_user(with_email("bob", "a.b@example.com")).await.unwrap_err()), ["spec.email"]);
    core.create_user(with_email("carol", "a-b@example.com")).await.expect("only the address itself counts");
    core.create_user(human("bob")).await.unwrap();
    assert_eq!(fields(&core.update_user(with_email("bob", "a.b@example.com")).await.unwrap_err()), ["spec.email"]);
    let cleared = core.update_user(human("alice")).await.unwrap().into_inner();
    assert!(!cleared.metadata.unwrap().spec_labels.contains_key("email"), "U-05");
    core.update_user(with_email("bob", "a.b@example.com")).await.expect("the address is free again");
    core.delete_user(deletion("bob")).await.unwrap();
    core.create_user(with_email("dave", "a.b@example.com")).await.unwrap();
}

#[tokio::test]
async fn updates_replace_and_equal_ones_change_nothing() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    let mut user = human("alice");
    user.metadata.as_mut().unwrap().description = "first".to_owned();
    let made = core.create_user(user.clone()).await.unwrap().into_inner();
    let index = cluster.replica.state().index();
    assert_eq!(core.update_user(user.clone()).await.unwrap().into_inner(), made, "the very same");
    assert_eq!(cluster.replica.state().index(), index, "nothing was proposed");

    // What only the server sets is ignored, the client's version included.
    let metadata = user.metadata.as_mut().unwrap();
    metadata.description.clear();
    metadata.is_system = true;
    metadata.resource_version = "old".to_owned();
    spec(&mut user).is_disabled = true;
    let updated = core.update_user(user).await.unwrap().into_inner();
    let (before, after) = (made.metadata.unwrap(), updated.metadata.unwrap());
    assert_eq!((after.description.as_str(), after.is_system), ("", false));
    assert_eq!((&after.uid, &after.created_at), (&before.uid, &before.created_at));
    assert_eq!(after.last_resource_version, before.resource_version);
    assert!(after.resource_version > before.resource_version && after.updated_at.is_some());
    assert!(after.actor_operation.ends_with("/UpdateUser"));
    assert_eq!(code(core.update_user(human("nobody")).await), Code::NotFound);
}

#[tokio::test]
async fn u_14_u_15_what_is_not_there() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    let made = core.create_user(human("alice")).await.unwrap().into_inner();
    let uid = made.metadata.unwrap().uid;
    let get = |uid: &str, name: &str| octelium_api::meta::GetOptions { uid: uid.to_owned(), name: name.to_owned() };
    for (uid, name, expected) in [
        ("", "", Code::InvalidArgument),
        ("", "nobody", Code::NotFound),
        ("", "No Name", Code::InvalidArgument),
        ("abc", "", Code::InvalidArgument),
        ("7d444840-9dc0-11d1-b245-5ffdce74fad2", "", Code::InvalidArgument),
        ("7d444840-9dc0-41d1-b245-5ffdce74fad2", "", Code::NotFound),
        (&uid, "", Code::Ok),
        ("7d444840-9dc0-41d1-b245-5ffdce74fad2", "alice", Code::Ok),
    ] {
        assert_eq!(code(core.get_user(get(uid, name)).await), expected, "{uid:?} {name:?}");
    }
    core.delete_user(deletion("alice")).await.unwrap();
    assert_eq!(code(core.delete_user(deletion("alice")).await), Code::NotFound);
}

#[tokio::test]
async fn u_16_deleting_a_user_takes_its_sessions_and_credentials() {
    let cluster = Cluster::start().await;
    let auth_token = octelium_api::core::credential::spec::Type::AuthToken;
    let (_, gone) = cluster.credential("alice", auth_token).await;
    let (_, kept) = cluster.credential("bob", auth_token).await;
    let alice = cluster.log_in(&gone).await.unwrap();
    let bob = cluster.log_in(&kept).await.unwrap();
    cluster.core().delete_user(deletion("alice")).await.unwrap();
    assert!(cluster.session_of(&alice.access_token).is_none(), "at once");
    assert!(cluster.session_of(&bob.access_token).is_some());
    assert_eq!(code(cluster.log_in(&gone).await), Code::Unauthenticated);
    let state = cluster.replica.state();
    assert_eq!((state.count(Kind::Session), state.count(Kind::Credential)), (1, 2));
}

#[tokio::test]
async fn u_17_a_group_in_use_stays() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_group(new_group("staff")).await.unwrap();
    let mut user = human("alice");
    spec(&mut user).groups = vec!["staff".to_owned()];
    core.create_user(user).await.unwrap();
    let status = core.delete_group(deletion("staff")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("User `alice`"), "{status:?}");
    core.update_user(human("alice")).await.unwrap();
    core.delete_group(deletion("staff")).await.unwrap();
}

#[tokio::test]
async fn nobody_locks_itself_out() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    let made = core.create_user(human("alice")).await.unwrap().into_inner();
    let caller = octelium_control::Caller { user_uid: made.metadata.unwrap().uid, ..cluster.admin() };
    let mut own = cluster.core_as(caller);
    let mut disabled = human("alice");
    spec(&mut disabled).is_disabled = true;
    assert_eq!(code(own.update_user(disabled.clone()).await), Code::PermissionDenied);
    assert_eq!(code(own.delete_user(deletion("alice")).await), Code::PermissionDenied);
    core.update_user(disabled).await.expect("others may");
    assert!(core.get_user(by_name("alice")).await.unwrap().into_inner().spec.unwrap().is_disabled);
    core.delete_user(deletion("alice")).await.unwrap();
}
