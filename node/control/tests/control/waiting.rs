//! Calls that wait.

use std::time::{Duration, Instant};

use octelium_api::control::{WaitForChangeRequest, WaitForChangeResponse, WaitForIndexRequest};
use tonic::Code;

use crate::support::{Cluster, code, human, workload};

async fn next(cluster: &Cluster, kind: &str, after: u64, milliseconds: u32) -> WaitForChangeResponse {
    let request = WaitForChangeRequest { kind: kind.to_owned(), after, timeout_milliseconds: milliseconds };
    cluster.extra().wait_for_change(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn the_next_change_of_a_kind_is_told() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_user(human("alice")).await.unwrap();
    let now = next(&cluster, "User", 0, 0).await.index;
    let waits = tokio::spawn({
        let mut extra = cluster.extra();
        let request = WaitForChangeRequest { kind: "User".to_owned(), after: now, timeout_milliseconds: 20_000 };
        async move { extra.wait_for_change(request).await.unwrap().into_inner().index }
    });
    cluster.apply_yaml("kind: Group\nmetadata: {name: g1}\nspec: {}").await.unwrap();
    assert_eq!(next(&cluster, "User", now, 1).await.index, now, "another kind's change doesn't count");
    core.create_user(workload("robot")).await.unwrap();
    assert!(waits.await.unwrap() > now);
}

#[tokio::test]
async fn waiting_ends_by_itself() {
    let cluster = Cluster::start().await;
    let began = Instant::now();
    let never = next(&cluster, "Device", 0, 10).await.index;
    assert_eq!(next(&cluster, "Device", never, 10).await.index, never);
    let request = WaitForIndexRequest { index: u64::MAX, timeout_milliseconds: 10 };
    let answer = cluster.extra().wait_for_index(request).await.unwrap().into_inner();
    assert!(!answer.reached && answer.index > 0);
    let request = WaitForIndexRequest { index: answer.index, timeout_milliseconds: 0 };
    assert!(cluster.extra().wait_for_index(request).await.unwrap().into_inner().reached);
    assert!(began.elapsed() < Duration::from_secs(20));
    let unknown = WaitForChangeRequest { kind: "Pod".to_owned(), ..WaitForChangeRequest::default() };
    assert_eq!(code(cluster.extra().wait_for_change(unknown).await), Code::InvalidArgument);
}
