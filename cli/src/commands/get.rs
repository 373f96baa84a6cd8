//! `get`: shows one resource, or lists those of a kind.

use std::time::SystemTime;

use clap::{ValueEnum, builder::RangedU64ValueParser};
use octelium_api::{
    API_VERSION, Kind, Object,
    meta::{
        CommonListOptions, ListResponseMeta, ObjectReference,
        common_list_options::{
            OrderBy,
            order_by::{Mode, Type},
        },
    },
};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    Usage,
    kinds::{self, Page, full_name},
    output::{self, Format, plain},
    refusal::Refusal,
    session::Cluster,
};

/// Pages are numbered from 1 here and from 0 on the wire, where this is the last.
const PAGE_MAX: u64 = 10_000;

/// What to show, and how.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The kind, e.g. service, user, policy, clusterconfig
    #[arg(value_parser = kinds::parse)]
    kind: Kind,
    /// One resource's name; a Service without a Namespace is in `default`
    name: Option<String>,
    /// Output form; default: a table, or YAML with NAME
    #[arg(short, long, visible_alias = "output", value_enum)]
    out: Option<Out>,
    /// One page, from 1; default: all
    #[arg(long, value_parser = RangedU64ValueParser::<u32>::new().range(1..=PAGE_MAX + 1), conflicts_with = "name")]
    page: Option<u32>,
    /// Resources on a page; 0: what the server sees fit
    #[arg(long, default_value = "0", conflicts_with = "name", hide_default_value = true)]
    items_per_page: u32,
    /// Order by name; default: by creation
    #[arg(long, conflicts_with = "name")]
    order_by_name: bool,
    /// Reverse the order
    #[arg(long, conflicts_with = "name")]
    order_reverse: bool,
    /// Services of this Namespace
    #[arg(long, conflicts_with = "name")]
    namespace: Option<String>,
    /// Sessions and Credentials of this User
    #[arg(long, conflicts_with = "name")]
    user: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Out {
    Json,
    #[value(alias = "yml")]
    Yaml,
    /// Names, one on a line
    Name,
}

/// Shows what was asked for.
///
/// # Errors
/// If there is no such resource, or a [`Refusal`].
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    let kind = arguments.kind;
    let reference = reference(arguments)?;
    if kind == Kind::ClusterConfig && arguments.name.is_some() {
        return Err(Usage("there is one ClusterConfig only; leave NAME out".into()).into());
    }
    if kind == Kind::ClusterConfig || arguments.name.is_some() {
        let name = arguments.name.as_deref().map(|name| full_name(kind, name)).unwrap_or_default();
        let object = cluster.core(async |core| kinds::get(core, kind, &name).await).await?;
        return Ok(output::result(&one(&object, arguments.out)?)?);
    }
    let page = match arguments.page {
        Some(page) => fetch(cluster, arguments, page - 1, reference).await?,
        None => fetch_all(cluster, arguments, reference).await?,
    };
    Ok(output::result(&many(kind, &page, arguments.out)?)?)
}

/// The resource that the list's resources must belong to.
fn reference(arguments: &Arguments) -> Result<Option<ObjectReference>, Usage> {
    let kind = arguments.kind;
    if arguments.namespace.is_some() && kind != Kind::Service {
        return Err(Usage(format!("--namespace does not apply to kind {kind}")));
    }
    if arguments.user.is_some() && !matches!(kind, Kind::Session | Kind::Credential) {
        return Err(Usage(format!("--user does not apply to kind {kind}")));
    }
    let name = arguments.namespace.clone().or_else(|| arguments.user.clone());
    Ok(name.map(|name| ObjectReference { name, ..Default::default() }))
}

fn order(arguments: &Arguments) -> Option<OrderBy> {
    let r#type = match (arguments.order_by_name, arguments.order_reverse) {
        (true, _) => Type::Name,
        (false, true) => Type::CreatedAt,
        (false, false) => return None,
    };
    let mode = if arguments.order_reverse { Mode::Desc } else { Mode::Asc };
    Some(OrderBy { r#type: r#type.into(), mode: mode.into() })
}

async fn fetch(
    cluster: &mut Cluster,
    arguments: &Arguments,
    page: u32,
    reference: Option<ObjectReference>,
) -> anyhow::Result<Page> {
    let common = CommonListOptions { page, items_per_page: arguments.items_per_page, order_by: order(arguments) };
    cluster.core(async |core| kinds::list(core, arguments.kind, common, reference.clone()).await).await
}

/// All pages. Resources that come or go meanwhile may be missed, as pages are no snapshot.
async fn fetch_all(
    cluster: &mut Cluster,
    arguments: &Arguments,
    reference: Option<ObjectReference>,
) -> anyhow::Result<Page> {
    let mut all = fetch(cluster, arguments, 0, reference.clone()).await?;
    let mut page = 0;
    while all.meta.has_more && u64::from(page) < PAGE_MAX {
        page += 1;
        match fetch(cluster, arguments, page, reference.clone()).await {
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

fn one(object: &Object, out: Option<Out>) -> anyhow::Result<String> {
    match out {
        Some(Out::Json) => output::resource(object, Format::Json),
        Some(Out::Yaml) | None => output::resource(object, Format::Yaml),
        Some(Out::Name) => Ok(format!("{}\n", plain(object.name()))),
    }
}

fn many(kind: Kind, page: &Page, out: Option<Out>) -> anyhow::Result<String> {
    match out {
        Some(Out::Json) => output::document(&list(kind, page), Format::Json),
        Some(Out::Yaml) => output::document(&list(kind, page), Format::Yaml),
        Some(Out::Name) => Ok(page.items.iter().map(|object| format!("{}\n", plain(object.name()))).collect()),
        None if page.items.is_empty() => Ok(format!("no {kind} found\n")),
        None => {
            let now = SystemTime::now();
            let rows = page.items.iter().map(|object| kinds::row(object, now)).collect();
            Ok(output::table(kinds::columns(kind), rows))
        }
    }
}

/// `<kind>List`, with `items` even where there are none.
fn list(kind: Kind, page: &Page) -> Value {
    let items: Vec<_> = page.items.iter().map(output::object).collect();
    json!({
        "apiVersion": API_VERSION,
        "kind": format!("{kind}List"),
        "items": items,
        "listResponseMeta": {
            "page": page.meta.page,
            "itemsPerPage": page.meta.items_per_page,
            "totalCount": page.meta.total_count,
            "hasMore": page.meta.has_more,
        },
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use octelium_api::{core, meta};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        get: Arguments,
    }

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Line::try_parse_from(["get"].into_iter().chain(line.split_whitespace())).map(|line| line.get)
    }

    #[test]
    fn the_reverse_of_no_order_is_newest_first() {
        let order = |line| order(&parse(line).unwrap()).map(|order| (order.r#type(), order.mode()));
        assert_eq!(order("svc"), None);
        assert_eq!(order("svc --order-by-name"), Some((Type::Name, Mode::Asc)));
        assert_eq!(order("svc --order-by-name --order-reverse"), Some((Type::Name, Mode::Desc)));
        assert_eq!(order("svc --order-reverse"), Some((Type::CreatedAt, Mode::Desc)));
    }

    #[test]
    fn filters_belong_to_kinds() {
        let named = |line| reference(&parse(line).unwrap()).map(|found| found.map(|found| found.name));
        assert_eq!(named("svc --namespace prod").unwrap().as_deref(), Some("prod"));
        assert_eq!(named("sess --user ann").unwrap().as_deref(), Some("ann"));
        assert_eq!(named("cred --user ann").unwrap().as_deref(), Some("ann"));
        assert!(named("svc --user ann").is_err());
        assert!(named("user --namespace prod").is_err());
        assert!(parse("svc api --page 2").is_err());
        assert!(parse("svc --page 0").is_err());
        assert!(parse("svc -o toml").is_err());
    }

    #[test]
    fn no_items_are_an_empty_list_for_programs() {
        let empty = Page { items: Vec::new(), meta: ListResponseMeta::default() };
        assert_eq!(many(Kind::User, &empty, None).unwrap(), "no User found\n");
        assert_eq!(many(Kind::User, &empty, Some(Out::Name)).unwrap(), "");
        let json: Value = serde_json::from_str(&many(Kind::User, &empty, Some(Out::Json)).unwrap()).unwrap();
        assert_eq!((&json["kind"], &json["items"]), (&json!("UserList"), &json!([])));
    }

    #[test]
    fn names_stand_alone_on_their_lines() {
        let user = |name: &str| -> Object {
            let metadata = Some(meta::Metadata { name: name.into(), ..Default::default() });
            core::User { metadata, ..Default::default() }.into()
        };
        let page = Page { items: vec![user("ann"), user("bob")], meta: ListResponseMeta::default() };
        assert_eq!(many(Kind::User, &page, Some(Out::Name)).unwrap(), "ann\nbob\n");
    }
}
