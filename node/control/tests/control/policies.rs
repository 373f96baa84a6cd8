//! Policies: parents, expressions, what keeps one from being deleted.

use octelium_api::{
    Kind,
    core::{Namespace, namespace},
};
use tonic::Code;

use crate::support::{Cluster, code, deletion, fields, named, new_policy};

/// E-09, E-12.
#[tokio::test]
async fn a_policy_needs_its_parent() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    assert_eq!(fields(&core.create_policy(new_policy("child.base", "true")).await.unwrap_err()), ["metadata.name"]);
    core.create_policy(new_policy("base", "true")).await.unwrap();
    let child = core.create_policy(new_policy("child.base", "true")).await.unwrap().into_inner();
    assert_eq!(child.status.unwrap().parent_policy_ref.unwrap().name, "base");
    let status = core.delete_policy(deletion("base")).await.unwrap_err();
    assert!(status.message().contains("Policy `child.base`"), "{status:?}");
    core.delete_policy(deletion("child.base")).await.unwrap();
    core.delete_policy(deletion("base")).await.unwrap();
}

/// E-10, E-11.
#[tokio::test]
async fn parents_are_six_labels_deep_at_most() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    let mut name = "p1".to_owned();
    core.create_policy(new_policy(&name, "true")).await.unwrap();
    for label in 2..=6 {
        let parent = name;
        name = format!("p{label}.{parent}");
        let policy = core.create_policy(new_policy(&name, "true")).await.unwrap().into_inner();
        assert_eq!(policy.status.unwrap().parent_policy_ref.unwrap().name, parent);
    }
    let status = core.create_policy(new_policy(&format!("p7.{name}"), "true")).await.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec!["metadata.name".to_owned()]));
}

#[tokio::test]
async fn an_attached_policy_stays() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_policy(new_policy("rule-one", "true")).await.unwrap();
    let authorization = namespace::spec::Authorization { policies: vec!["rule-one".to_owned()], ..Default::default() };
    let spec = namespace::Spec { authorization: Some(authorization), ..Default::default() };
    core.create_namespace(Namespace { metadata: named("prod"), spec: Some(spec), ..Default::default() }).await.unwrap();
    let status = core.delete_policy(deletion("rule-one")).await.unwrap_err();
    assert!(status.message().contains("Namespace `prod`"), "{status:?}");
    core.delete_namespace(deletion("prod")).await.unwrap();
    core.delete_policy(deletion("rule-one")).await.unwrap();
}

#[tokio::test]
async fn what_does_not_compile_is_not_stored() {
    let cluster = Cluster::start().await;
    let before = cluster.replica.state().index();
    for bad in ["!!!!", "", "ctx.nothing == 1", "1 + 1", "ctx.user.spec.type = 'HUMAN'"] {
        let status = cluster.core().create_policy(new_policy("rule-one", bad)).await.expect_err(bad);
        assert!(fields(&status)[0].starts_with("spec.rules[0].condition"), "{bad}: {status:?}");
    }
    assert_eq!(cluster.replica.state().index(), before);
    assert!(cluster.replica.state().by_name(Kind::Policy, "rule-one").is_none());
    cluster.core().create_policy(new_policy("rule-one", "ctx.user.spec.type == 'HUMAN'")).await.unwrap();
    let status = cluster.core().update_policy(new_policy("rule-one", "!!!!")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(code(cluster.core().delete_policy(deletion("nothing")).await), Code::NotFound);
}
