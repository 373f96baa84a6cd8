//! Keys that sign tokens: they are renewed, and kept as long as a token needs them.

use std::time::Duration;

use octelium_api::core::credential::spec::Type;
use prost_types::Timestamp;

use crate::support::{Cluster, code, deletion, new_credential, user_credential, workload};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn keys(cluster: &Cluster) -> Vec<String> {
    let state = cluster.replica.state();
    state.keys().filter(|(name, _)| name.starts_with("token-mac/")).map(|(name, _)| name.to_owned()).collect()
}

#[tokio::test]
async fn k_12_k_13_a_key_is_renewed_once_a_month() {
    let cluster = Cluster::start().await;
    let first = keys(&cluster);
    cluster.control.sweep().await.unwrap();
    assert_eq!(keys(&cluster), first, "K-12: a fresh key stays");
    cluster.later(60 * DAY);
    cluster.control.sweep().await.unwrap();
    let second = keys(&cluster);
    assert_eq!((second.len(), &second[0]), (2, &first[0]), "K-13: a second key, and the first is kept");
    cluster.control.sweep().await.unwrap();
    assert_eq!(keys(&cluster), second, "K-13: once");
}

#[tokio::test]
async fn k_06_tokens_of_both_keys_are_good() {
    let cluster = Cluster::start().await;
    let (_, token) = cluster.credential("alice", Type::AuthToken).await;
    let old = cluster.log_in(&token).await.unwrap();
    cluster.later(31 * DAY);
    cluster.control.sweep().await.unwrap();
    assert_eq!(keys(&cluster).len(), 2);
    let new = cluster.log_in(&token).await.unwrap();
    assert!(cluster.session_of(&new.access_token).is_some());
    let id = |token: &str| token[token.len() - 60..].to_owned();
    assert_ne!(id(&old.access_token), id(&new.access_token));
    let cluster = cluster.restart().await;
    assert!(cluster.session_of(&new.access_token).is_some());
    assert!(cluster.log_in(&token).await.is_ok(), "the first key still opens what it signed");
}

#[tokio::test]
async fn k_14_k_15_a_key_goes_when_no_token_needs_it() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    // The first start's own Credential lives 180 days; another one has no end.
    let (_, endless) = cluster.credential("alice", Type::AuthToken).await;
    cluster.later(60 * DAY);
    cluster.control.sweep().await.unwrap();
    let first = keys(&cluster)[0].clone();
    cluster.later(13 * 30 * DAY);
    cluster.control.sweep().await.unwrap();
    assert!(keys(&cluster).contains(&first), "K-15: alice's token needs it");
    cluster.log_in(&endless).await.unwrap();

    core.delete_credential(deletion("alice-cred")).await.unwrap();
    cluster.control.sweep().await.unwrap();
    assert!(!keys(&cluster).contains(&first), "K-14: nothing needs it any more");
    assert_eq!(code(cluster.log_in(&endless).await), tonic::Code::Unauthenticated);
}

#[tokio::test]
async fn a_credential_with_an_end_keeps_its_key_until_then() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_user(workload("bob")).await.unwrap();
    let mut credential = new_credential("bob-cred", "bob", Type::AuthToken);
    let ends = cluster.now_unix() + 400 * 86_400;
    credential.spec.as_mut().unwrap().expires_at = Some(Timestamp { seconds: ends, nanos: 0 });
    core.create_credential(credential).await.unwrap();
    let token = crate::support::token_text(&cluster.generate(user_credential("bob")).await.unwrap());
    let first = keys(&cluster)[0].clone();
    for (days, is_kept) in [(31, true), (350, true), (25, false)] {
        cluster.later(days * DAY);
        cluster.control.sweep().await.unwrap();
        assert_eq!(keys(&cluster).contains(&first), is_kept, "after {days} more days");
        assert_eq!(cluster.log_in(&token).await.is_ok(), is_kept);
    }
}
