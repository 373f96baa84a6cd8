//! Which resources a call names, and pages of lists.

use std::sync::Arc;

use octelium_api::{
    Kind, Object,
    meta::{
        CommonListOptions, ListResponseMeta, ObjectReference,
        common_list_options::order_by::{Mode, Type},
    },
    name,
};
use octelium_consensus::{State, Stored};
use tonic::Code;
use uuid::Uuid;

use crate::refusal::{Refusal, Violation};

const PAGE_MAX: u32 = 10_000;
const ITEMS_DEFAULT: u32 = 200;
const ITEMS_MAX: u32 = 1000;

/// The resource with this name or, where that is empty, this uid.
///
/// # Errors
/// INVALID_ARGUMENT if neither is given or one has a wrong form, NOT_FOUND if there is none.
pub fn find<'s>(state: &'s State, kind: Kind, uid: &str, given: &str, path: &str) -> Result<&'s Arc<Stored>, Refusal> {
    if uid.is_empty() && given.is_empty() {
        return Err(Refusal::at(path, "needs a name or a uid"));
    }
    let canonical = Uuid::try_parse(uid).is_ok_and(|parsed| parsed.get_version_num() == 4 && parsed.to_string() == uid);
    if !uid.is_empty() && !canonical {
        return Err(Refusal::at(path, "the uid isn't a UUID of version 4"));
    }
    let found = match given {
        "" => state.get(kind, uid),
        given if !is_name(kind, given) => {
            return Err(Refusal::at(path, format!("`{given}` can't be the name of a {kind}")));
        }
        given if kind == Kind::Service => state.by_name(kind, &name::canonical_service(given)),
        given => state.by_name(kind, given),
    };
    found.ok_or_else(|| {
        let which = if given.is_empty() { uid } else { given };
        Violation::coded(Code::NotFound, path, format!("there is no {kind} `{which}`")).into()
    })
}

fn is_name(kind: Kind, given: &str) -> bool {
    match kind {
        Kind::Service => name::is_service(given),
        Kind::Policy => name::is_policy(given),
        Kind::Session => name::is_session(given),
        Kind::Region | Kind::Gateway => name::is_loose(given),
        _ => name::is_plain(given),
    }
}

/// The uid of what a list is filtered by; `None` if it isn't.
///
/// # Errors
/// As [`find`].
pub fn filter(state: &State, kind: Kind, by: Option<&ObjectReference>, path: &str) -> Result<Option<String>, Refusal> {
    let Some(by) = by else { return Ok(None) };
    find(state, kind, &by.uid, &by.name, path).map(|stored| Some(stored.object.uid().to_owned()))
}

/// One page of the resources of a kind that belong to all `owners` (uids); hidden ones don't exist here.
///
/// # Errors
/// INVALID_ARGUMENT for a page out of range, NOT_FOUND for one behind the last.
pub fn page(
    state: &State,
    kind: Kind,
    options: Option<&CommonListOptions>,
    owners: &[String],
) -> Result<(Vec<Object>, ListResponseMeta), Refusal> {
    let all: Vec<&Arc<Stored>> = match owners {
        [] => state.list(kind).filter(|stored| !is_hidden(&stored.object)).collect(),
        [first, others @ ..] => {
            let of_all = |object: &Object| others.iter().all(|uid| object.owners().any(|owner| owner == uid));
            let owned = state.owned_by(kind, first);
            owned.filter(|stored| !is_hidden(&stored.object) && of_all(&stored.object)).collect()
        }
    };
    let (items, meta) = paginate(all, options)?;
    Ok((items.into_iter().map(|stored| stored.object.clone()).collect(), meta))
}

/// One page of `all`, which is in the order of creation.
///
/// # Errors
/// As [`page`].
pub fn paginate<'s>(
    mut all: Vec<&'s Arc<Stored>>,
    options: Option<&CommonListOptions>,
) -> Result<(Vec<&'s Arc<Stored>>, ListResponseMeta), Refusal> {
    let options = options.copied().unwrap_or_default();
    if options.page > PAGE_MAX {
        return Err(Refusal::at("common.page", format!("at most {PAGE_MAX}")));
    }
    let per_page = match options.items_per_page {
        0 => ITEMS_DEFAULT,
        count => count.min(ITEMS_MAX),
    };
    let order = options.order_by.unwrap_or_default();
    match order.r#type() {
        Type::Unset => {}
        Type::Name => all.sort_by(|a, b| a.object.name().cmp(b.object.name())),
        Type::CreatedAt => all.sort_by_key(|stored| created_at(&stored.object)),
    }
    if order.r#type() != Type::Unset && order.mode() == Mode::Desc {
        all.reverse();
    }
    let total = all.len();
    let from = options.page as usize * per_page as usize;
    if options.page > 0 && from >= total {
        return Err(Refusal::new(Code::NotFound, format!("page {} is behind the last one", options.page)));
    }
    let items = all.into_iter().skip(from).take(per_page as usize).collect();
    let meta = ListResponseMeta {
        page: options.page,
        items_per_page: per_page,
        total_count: u32::try_from(total).unwrap_or(u32::MAX),
        has_more: total > from + per_page as usize,
    };
    Ok((items, meta))
}

/// Whether nobody but the cluster sees it.
pub fn is_hidden(object: &Object) -> bool {
    object.metadata().is_some_and(|metadata| metadata.is_system_hidden)
}

fn created_at(object: &Object) -> (i64, i32) {
    let at = object.metadata().and_then(|metadata| metadata.created_at.as_ref());
    at.map_or((0, 0), |at| (at.seconds, at.nanos))
}
