//! Changes that ask for a version, and those that don't.

use octelium_api::{
    Kind,
    core::Group,
    meta::{DeleteOptions, Metadata},
};
use tonic::{Code, Request, metadata::MetadataValue};

use crate::support::{Cluster, by_name, code, delete, deletion, named, put};

fn group(description: &str) -> Group {
    let metadata = Metadata { description: description.to_owned(), ..named("g1").unwrap() };
    Group { metadata: Some(metadata), spec: Some(Default::default()), ..Group::default() }
}

fn matching<T>(message: T, version: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("if-match", MetadataValue::try_from(version).unwrap());
    request
}

#[tokio::test]
async fn an_update_that_asks_for_a_version_doesnt_overwrite_another() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    let first = core.create_group(group("")).await.unwrap().into_inner().metadata.unwrap().resource_version;
    let second = core.update_group(matching(group("b"), &first)).await.unwrap().into_inner().metadata.unwrap();
    assert_eq!(second.last_resource_version, first);
    assert_eq!(code(core.update_group(matching(group("c"), &first)).await), Code::OutOfRange);
    // Clients send back what they read without meaning anything by it: the last writer wins.
    let mut stale = group("d");
    stale.metadata.as_mut().unwrap().resource_version.clone_from(&first);
    core.update_group(stale).await.unwrap();
    let now = core.get_group(by_name("g1")).await.unwrap().into_inner().metadata.unwrap();
    assert_eq!(now.description, "d");
    let quoted = format!("\"{}\"", now.resource_version);
    assert_eq!(code(core.delete_group(matching(deletion("g1"), &first)).await), Code::OutOfRange);
    core.delete_group(matching(deletion("g1"), &quoted)).await.unwrap();
}

#[tokio::test]
async fn a_precondition_that_makes_no_sense_is_refused() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    assert_eq!(code(core.create_group(matching(group(""), "*")).await), Code::InvalidArgument);
    core.create_group(group("")).await.unwrap();
    assert_eq!(code(core.update_group(matching(group("b"), "v1, v2")).await), Code::InvalidArgument);
    assert_eq!(code(core.delete_group(matching(DeleteOptions::default(), "*")).await), Code::InvalidArgument);
    core.update_group(matching(group("b"), "*")).await.unwrap();
}

#[tokio::test]
async fn a_change_of_many_is_made_with_the_expected_versions_or_not_at_all() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    let version = core.create_group(group("")).await.unwrap().into_inner().metadata.unwrap().resource_version;
    let expecting = |change: octelium_api::control::Change, version: &str| octelium_api::control::Change {
        expected_version: version.to_owned(),
        ..change
    };
    let other = Group { metadata: named("g2"), spec: Some(Default::default()), ..Group::default() };
    let wrong = [
        vec![expecting(put(other.clone()), "-"), expecting(put(group("b")), "-")],
        vec![expecting(put(other.clone()), &version)],
        vec![put(other.clone()), expecting(delete(Kind::Group, "g1"), "0190f000-0000-7000-8000-000000000000")],
    ];
    for changes in wrong {
        assert_eq!(code(cluster.apply(changes).await), Code::OutOfRange);
    }
    assert_eq!(code(core.get_group(by_name("g2")).await), Code::NotFound, "nothing was changed");
    let right = vec![expecting(put(other), "-"), expecting(put(group("b")), &version)];
    assert_eq!(cluster.apply(right).await.unwrap().results.len(), 2);
}
