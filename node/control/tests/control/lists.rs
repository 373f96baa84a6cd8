//! Pages of lists.

use octelium_api::{
    Kind, Object,
    core::{ListPolicyOptions, ListUserOptions},
    meta::{
        CommonListOptions,
        common_list_options::{
            OrderBy,
            order_by::{Mode, Type},
        },
    },
};
use tonic::Code;

use crate::support::{Cluster, by_name, code, put, workload};

fn common(page: u32, items_per_page: u32, order: Option<(Type, Mode)>) -> ListUserOptions {
    let order_by = order.map(|(r#type, mode)| OrderBy { r#type: r#type.into(), mode: mode.into() });
    ListUserOptions { common: Some(CommonListOptions { page, items_per_page, order_by }) }
}

async fn names(cluster: &Cluster, options: ListUserOptions) -> Vec<String> {
    let list = cluster.core().list_user(options).await.unwrap().into_inner();
    list.items.into_iter().map(|user| user.metadata.unwrap().name).collect()
}

#[tokio::test]
async fn pages_orders_and_totals() {
    let cluster = Cluster::start().await;
    for name in ["bb", "ab-c", "abc", "ab"] {
        cluster.core().create_user(workload(name)).await.unwrap();
    }
    assert_eq!(
        names(&cluster, common(0, 0, None)).await,
        ["octelium", "root", "bb", "ab-c", "abc", "ab"],
        "as created"
    );
    let by_name = |mode| Some((Type::Name, mode));
    assert_eq!(
        names(&cluster, common(0, 0, by_name(Mode::Asc))).await,
        ["ab", "ab-c", "abc", "bb", "octelium", "root"],
        "by bytes"
    );
    assert_eq!(names(&cluster, common(0, 2, by_name(Mode::Desc))).await, ["root", "octelium"]);
    assert_eq!(names(&cluster, common(2, 2, by_name(Mode::Desc))).await, ["ab-c", "ab"]);
    let newest = names(&cluster, common(0, 0, Some((Type::CreatedAt, Mode::Desc)))).await;
    assert_eq!(newest, ["ab", "abc", "ab-c", "bb", "root", "octelium"]);
    let ignored = common(0, 0, Some((Type::Unset, Mode::Desc)));
    assert_eq!(names(&cluster, ignored).await[0], "octelium", "a mode without a type is ignored");

    let meta = async |page, per_page| {
        let options = common(page, per_page, None);
        cluster.core().list_user(options).await.unwrap().into_inner().list_response_meta.unwrap()
    };
    let first = meta(0, 2).await;
    assert_eq!((first.total_count, first.has_more, first.items_per_page), (6, true, 2));
    assert!(!meta(2, 2).await.has_more);
    assert_eq!(meta(0, 0).await.items_per_page, 200);
    assert_eq!(meta(0, 5000).await.items_per_page, 1000);
    assert_eq!(code(cluster.core().list_user(common(3, 2, None)).await), Code::NotFound);
    assert_eq!(code(cluster.core().list_user(common(10_001, 2, None)).await), Code::InvalidArgument);
}

#[tokio::test]
async fn no_more_than_a_thousand_at_once() {
    let cluster = Cluster::start().await;
    let users = (0..1100).map(|n| put(workload(&format!("user-{n}")))).collect();
    cluster.apply(users).await.unwrap();
    let list = cluster.core().list_user(common(0, 5000, None)).await.unwrap().into_inner();
    assert_eq!((list.items.len(), list.list_response_meta.unwrap().total_count), (1000, 1102));
    assert_eq!(names(&cluster, common(1, 5000, None)).await.len(), 102);
    assert_eq!(names(&cluster, ListUserOptions::default()).await.len(), 200);
}

#[tokio::test]
async fn what_is_hidden_is_not_listed() {
    let cluster = Cluster::start().await;
    cluster.tamper(Kind::Policy, "deny-all", |object: &mut Object| object.metadata_mut().is_system_hidden = true).await;
    let list = cluster.core().list_policy(ListPolicyOptions::default()).await.unwrap().into_inner();
    assert_eq!((list.items.len(), list.list_response_meta.unwrap().total_count), (4, 4));
    assert_eq!((list.api_version.as_str(), list.kind.as_str()), ("core/v1", "PolicyList"));
    assert_eq!(code(cluster.core().get_policy(by_name("deny-all")).await), Code::PermissionDenied);
}
