//! Lists that are longer than a page.

use octelium_api::{
    Kind, Object,
    meta::{CommonListOptions, ListResponseMeta, ObjectReference},
};
use tonic::Code;

use crate::{
    kinds::{self, Page},
    refusal::Refusal,
    session::Cluster,
};

/// Pages are numbered from 0 on the wire, where this is the last.
pub const PAGE_MAX: u32 = 10_000;
/// The most that a page has.
const ITEMS_PER_PAGE: u32 = 1_000;

/// One page.
///
/// # Errors
/// A [`Refusal`].
pub async fn fetch(
    cluster: &mut Cluster,
    kind: Kind,
    common: CommonListOptions,
    reference: Option<ObjectReference>,
) -> anyhow::Result<Page> {
    cluster.core(async |core| kinds::list(core, kind, common, reference.clone()).await).await
}

/// All pages. Resources that come or go meanwhile may be missed, as pages are no snapshot.
///
/// # Errors
/// A [`Refusal`].
pub async fn all(
    cluster: &mut Cluster,
    kind: Kind,
    common: CommonListOptions,
    reference: Option<ObjectReference>,
) -> anyhow::Result<Page> {
    let mut all = fetch(cluster, kind, CommonListOptions { page: 0, ..common }, reference.clone()).await?;
    let mut page = 0;
    while all.meta.has_more && page < PAGE_MAX {
        page += 1;
        match fetch(cluster, kind, CommonListOptions { page, ..common }, reference.clone()).await {
            Ok(next) => {
                all.items.extend(next.items);
                all.meta.has_more = next.meta.has_more;
            }
            // What was on this page is deleted by now.
            Err(error) if error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.code() == Code::NotFound) => {
                all.meta.has_more = false;
            }
            Err(error) => return Err(error),
        }
    }
    let total_count = u32::try_from(all.items.len())?;
    all.meta = ListResponseMeta { total_count, has_more: all.meta.has_more, ..Default::default() };
    Ok(all)
}

/// Every resource of a kind, in the server's order; the ClusterConfig is the only one of its kind. `None`: the server has no
/// such kind yet, and so no such resources either.
///
/// # Errors
/// A [`Refusal`].
pub async fn every(cluster: &mut Cluster, kind: Kind) -> anyhow::Result<Option<Vec<Object>>> {
    if kind == Kind::ClusterConfig {
        return Ok(Some(vec![cluster.core(async |core| kinds::get(core, kind, "").await).await?]));
    }
    let common = CommonListOptions { items_per_page: ITEMS_PER_PAGE, ..Default::default() };
    let page = match all(cluster, kind, common, None).await {
        Ok(page) => page,
        Err(error) if error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.code() == Code::Unimplemented) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // Half a list would make a half export, and a prune that misses what it should find.
    anyhow::ensure!(!page.meta.has_more, "there are more resources of kind {kind} than can be listed");
    Ok(Some(page.items))
}
