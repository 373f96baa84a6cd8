//! Backups: the configuration in one file, and back.

use octelium_api::{
    Kind,
    control::{
        CreateBackupRequest, RestoreBackupRequest, RestoreBackupResponse,
        restore_backup_request::{Begin, Part},
    },
    core::credential::spec::Type,
};
use tonic::{Code, Status};

use crate::support::{Cluster, by_name, code, deletion, new_policy, new_secret, user_credential};

const PASSPHRASE: &[u8] = b"correct horse battery staple";

async fn backup(cluster: &Cluster) -> Vec<u8> {
    let request = CreateBackupRequest { passphrase: PASSPHRASE.to_vec() };
    let mut parts = cluster.extra().create_backup(request).await.unwrap().into_inner();
    let mut file = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        file.extend_from_slice(&part.data);
    }
    file
}

async fn restore(cluster: &Cluster, file: &[u8], begin: Begin) -> Result<RestoreBackupResponse, Status> {
    let begin = RestoreBackupRequest { part: Some(Part::Begin(begin)) };
    let data = file.chunks(100_000).map(|data| RestoreBackupRequest { part: Some(Part::Data(data.to_vec())) });
    let parts: Vec<_> = std::iter::once(begin).chain(data).collect();
    cluster.extra().restore_backup(tokio_stream::iter(parts)).await.map(tonic::Response::into_inner)
}

fn begin() -> Begin {
    Begin { passphrase: PASSPHRASE.to_vec(), ..Begin::default() }
}

const CONFIGURATION: &str = r#"
kind: Policy
metadata: {name: outer}
spec: {rules: [{effect: DENY, condition: {match: "ctx.user.metadata.name == 'mallory'"}}]}
---
kind: Policy
metadata: {name: inner.outer}
spec: {rules: [{effect: ALLOW, condition: {matchAny: true}}]}
---
kind: Secret
metadata: {name: key}
spec: {}
data: {value: the-upstreams-key}
---
kind: Config
metadata: {name: settings}
spec: {}
data: {attrs: {levels: 3}}
---
kind: Group
metadata: {name: staff}
spec: {}
---
kind: User
metadata: {name: carol}
spec: {type: HUMAN, groups: [staff], email: carol@example.com}
---
kind: Service
metadata: {name: api}
spec:
  mode: HTTP
  isPublic: true
  config: {upstream: {url: 'https://example.com'}, http: {auth: {bearer: {fromSecret: key}}}}
  authorization: {policies: [inner.outer]}
"#;

#[tokio::test]
async fn a_new_cluster_becomes_what_the_old_one_was() {
    let old = Cluster::start().await;
    old.apply_yaml(CONFIGURATION).await.unwrap();
    let (_, token) = old.credential("alice", Type::AuthToken).await;
    let kept = old.log_in(&token).await.unwrap();
    let file = backup(&old).await;
    for secret in ["the-upstreams-key", token.as_str(), "carol"] {
        assert!(!file.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret} is in the open");
    }

    let new = Cluster::start().await;
    let dry = restore(&new, &file, Begin { dry_run: true, ..begin() }).await.unwrap();
    assert_eq!((dry.index, dry.domain.as_str()), (0, crate::support::DOMAIN));
    assert!(dry.created >= 9, "{dry:?}");
    assert_eq!(code(new.core().get_service(by_name("api")).await), Code::NotFound);
    let done = restore(&new, &file, begin()).await.unwrap();
    assert_eq!((done.created, done.deleted), (dry.created, 0));
    assert!(done.index > 0);

    let (before, after) = (old.replica.state(), new.replica.state());
    for (kind, name) in [(Kind::Service, "api.default"), (Kind::User, "carol"), (Kind::Policy, "inner.outer")] {
        let (before, after) = (before.by_name(kind, name).unwrap(), after.by_name(kind, name).unwrap());
        assert_eq!(before.object.uid(), after.object.uid(), "{kind}");
        let without_metadata = |stored: &octelium_consensus::Stored| {
            let mut object = stored.object.clone();
            object.clear_status();
            *object.metadata_mut() = Default::default();
            object
        };
        assert_eq!(without_metadata(before), without_metadata(after), "{kind}");
    }
    for (kind, name) in [(Kind::Secret, "key"), (Kind::Config, "settings")] {
        let open = |cluster: &Cluster, state: &octelium_consensus::State| {
            octelium_control::seal::open_data(cluster.sealing(), state.by_name(kind, name).unwrap()).unwrap().to_vec()
        };
        assert_eq!(open(&old, &before), open(&new, &after), "{kind}");
    }
    new.log_in(&token).await.expect("tokens of Credentials go on");
    assert!(new.session_of(&kept.access_token).is_none(), "Sessions don't");

    let again = restore(&new, &file, begin()).await.unwrap();
    assert_eq!((again.created, again.updated, again.deleted), (0, 0, 0), "{again:?}");
}

#[tokio::test]
async fn a_restore_undoes_what_was_changed_since_but_brings_no_token_back() {
    let cluster = Cluster::start().await;
    cluster.apply_yaml(CONFIGURATION).await.unwrap();
    let (_, withdrawn) = cluster.credential("alice", Type::AuthToken).await;
    let file = backup(&cluster).await;
    let token = crate::support::token_text(&cluster.generate(user_credential("alice")).await.unwrap());
    let mut core = cluster.core();
    core.update_secret(new_secret("key", "another")).await.unwrap();
    core.delete_service(deletion("api")).await.unwrap();
    core.create_policy(new_policy("later", "true")).await.unwrap();
    let (_, gone) = cluster.credential("bob", Type::AuthToken).await;
    let file = {
        // Bob's Credential is in the backup too.
        let with_bob = backup(&cluster).await;
        core.delete_credential(deletion("bob-cred")).await.unwrap();
        let done = restore(&cluster, &with_bob, begin()).await.unwrap();
        assert_eq!((done.created, done.updated), (1, 0), "{done:?}");
        assert_eq!(
            code(cluster.log_in(&gone).await),
            Code::Unauthenticated,
            "a Credential that was deleted has no token"
        );
        cluster.generate(user_credential("bob")).await.unwrap();
        core.delete_user(deletion("bob")).await.unwrap();
        file
    };

    let done = restore(&cluster, &file, begin()).await.unwrap();
    assert_eq!((done.created, done.updated, done.deleted), (1, 1, 0), "{done:?}");
    core.get_policy(by_name("later")).await.unwrap();
    let done = restore(&cluster, &file, Begin { prune: true, ..begin() }).await.unwrap();
    assert_eq!((done.created, done.updated, done.deleted), (0, 0, 1), "{done:?}");
    assert_eq!(code(core.get_policy(by_name("later")).await), Code::NotFound);
    assert_eq!(code(cluster.log_in(&withdrawn).await), Code::Unauthenticated);
    cluster.log_in(&token).await.unwrap();
}

#[tokio::test]
async fn what_is_no_backup_changes_nothing() {
    let cluster = Cluster::start().await;
    let file = backup(&cluster).await;
    let index = cluster.replica.state().index();
    let mut damaged = file.clone();
    damaged[100] ^= 1;
    for (what, file, begin) in [
        ("another passphrase", &file[..], Begin { passphrase: b"incorrect horse battery".to_vec(), ..begin() }),
        ("a short one", &file[..], Begin { passphrase: b"short".to_vec(), ..begin() }),
        ("damaged", &damaged[..], begin()),
        ("cut off", &file[..file.len() - 1], begin()),
        ("empty", &[][..], begin()),
        ("something else", b"kind: Service", begin()),
    ] {
        assert_eq!(code(restore(&cluster, file, begin).await), Code::InvalidArgument, "{what}");
    }
    let parts = vec![RestoreBackupRequest { part: Some(Part::Data(file)) }];
    assert_eq!(code(cluster.extra().restore_backup(tokio_stream::iter(parts)).await), Code::InvalidArgument);
    let short = CreateBackupRequest { passphrase: b"short".to_vec() };
    assert_eq!(code(cluster.extra().create_backup(short).await.map(|_| ())), Code::InvalidArgument);
    assert_eq!(cluster.replica.state().index(), index);
}

#[tokio::test]
async fn a_large_backup_takes_several_changes() {
    let old = Cluster::start().await;
    for n in 0..30 {
        let value = format!("{n:02}").repeat(230_000);
        old.core().create_secret(new_secret(&format!("key-{n}"), &value)).await.unwrap();
    }
    let (_, token) = old.credential("alice", Type::AuthToken).await;
    let file = backup(&old).await;
    assert!(file.len() > 13 << 20, "{}", file.len());
    let new = Cluster::start().await;
    new.core().create_policy(new_policy("extra", "true")).await.unwrap();
    let before = new.replica.state().index();
    let done = restore(&new, &file, Begin { prune: true, ..begin() }).await.unwrap();
    assert_eq!((done.created, done.deleted), (32, 1), "{done:?}");
    assert!(done.index > before + 2, "more than one change");
    new.log_in(&token).await.unwrap();
    let again = restore(&new, &file, Begin { prune: true, ..begin() }).await.unwrap();
    assert_eq!((again.created, again.updated, again.deleted), (0, 0, 0), "{again:?}");
}

/// Keys of two clusters, made at other times than their tokens suggest.
#[tokio::test]
async fn restored_keys_stay_as_long_as_anything_of_before_needs_them() {
    const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
    let old = Cluster::start().await;
    old.later(15 * DAY);
    let (_, of_old) = old.credential("alice", Type::AuthToken).await;
    let file = backup(&old).await;
    let new = Cluster::start().await;
    let (_, of_new) = new.credential("bob", Type::AuthToken).await;
    new.later(16 * DAY);
    restore(&new, &file, begin()).await.unwrap();
    for _ in 0..4 {
        new.later(40 * DAY);
        new.control.sweep().await.unwrap();
    }
    new.log_in(&of_old).await.unwrap();
    new.log_in(&of_new).await.unwrap();
}
