//! `get`: shows one resource, or lists those of a kind, once or as they change.

mod form;
mod watch;

use clap::builder::RangedU64ValueParser;
use clap_complete::{ArgValueCandidates, ArgValueCompleter};
use octelium_api::{
    Kind,
    meta::{
        CommonListOptions, ObjectReference,
        common_list_options::{
            OrderBy,
            order_by::{Mode, Type},
        },
    },
};

use crate::{
    Usage,
    kinds::{self, Page, full_name},
    names, output, pages,
    selector::Selector,
    session::Cluster,
};
use form::Out;

/// What to show, and how.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The kind, e.g. service, user, policy, clusterconfig
    #[arg(value_parser = kinds::parse, add = ArgValueCandidates::new(kinds::candidates))]
    kind: Kind,
    /// One resource's name; a Service without a Namespace is in `default`
    #[arg(add = ArgValueCompleter::new(names::complete))]
    name: Option<String>,
    /// Output form: name, wide, json, yaml or jsonpath=EXPRESSION; default: a table, or YAML with NAME
    #[arg(short, long, visible_alias = "output", value_parser = form::parse, add = ArgValueCandidates::new(form::candidates))]
    out: Option<Out>,
    /// One page, from 1; default: all
    #[arg(long, value_parser = RangedU64ValueParser::<u32>::new().range(1..=u64::from(pages::PAGE_MAX) + 1))]
    #[arg(conflicts_with_all = ["name", "selector", "watch"])]
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
    /// Sessions, Credentials, Devices and Authenticators of this User
    #[arg(long, conflicts_with = "name")]
    user: Option<String>,
    /// Only those with such labels: key=value, key!=value, key or !key, with commas between
    #[arg(short = 'l', long, conflicts_with = "name", value_name = "LABELS")]
    selector: Option<Selector>,
    /// Show what changes, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

/// Shows what was asked for.
///
/// # Errors
/// If there is no such resource, or a [`Refusal`](crate::refusal::Refusal).
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    let kind = arguments.kind;
    reference(arguments)?;
    if kind == Kind::ClusterConfig && arguments.name.is_some() {
        return Err(Usage("there is one ClusterConfig only; leave NAME out".into()).into());
    }
    if arguments.watch {
        return watch::run(cluster, arguments).await;
    }
    if kind == Kind::ClusterConfig || arguments.name.is_some() {
        let name = arguments.name.as_deref().map(|name| full_name(kind, name)).unwrap_or_default();
        return match cluster.core(async |core| kinds::get(core, kind, &name).await).await {
            Ok(object) => Ok(output::result(&form::one(&object, arguments.out.as_ref())?)?),
            Err(error) => Err(names::with_hint(cluster, kind, &name, error).await),
        };
    }
    let page = list(cluster, arguments).await?;
    Ok(output::result(&form::many(kind, &page, arguments.out.as_ref())?)?)
}

/// The page asked for, or all of them without what the selector leaves out.
async fn list(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<Page> {
    let reference = reference(arguments)?;
    let common = CommonListOptions { page: 0, items_per_page: arguments.items_per_page, order_by: order(arguments) };
    if let Some(page) = arguments.page {
        let common = CommonListOptions { page: page - 1, ..common };
        return pages::fetch(cluster, arguments.kind, common, reference).await;
    }
    let mut all = pages::all(cluster, arguments.kind, common, reference).await?;
    if let Some(selector) = &arguments.selector {
        all.items.retain(|object| selector.matches(object));
        all.meta.total_count = u32::try_from(all.items.len())?;
    }
    Ok(all)
}

/// The resource that the list's resources must belong to.
fn reference(arguments: &Arguments) -> Result<Option<ObjectReference>, Usage> {
    let kind = arguments.kind;
    if arguments.namespace.is_some() && kind != Kind::Service {
        return Err(Usage(format!("--namespace does not apply to kind {kind}")));
    }
    let owned = matches!(kind, Kind::Session | Kind::Credential | Kind::Device | Kind::Authenticator);
    if arguments.user.is_some() && !owned {
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

#[cfg(test)]
mod tests {
    use clap::Parser;

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
        let named = |line: &str| reference(&parse(line).unwrap()).map(|found| found.map(|found| found.name));
        assert_eq!(named("svc --namespace prod").unwrap().as_deref(), Some("prod"));
        for kind in ["sess", "cred", "dev", "authn"] {
            assert_eq!(named(&format!("{kind} --user ann")).unwrap().as_deref(), Some("ann"));
        }
        assert!(named("svc --user ann").is_err());
        assert!(named("user --namespace prod").is_err());
    }

    #[test]
    fn contradictions_are_usage_errors() {
        for line in [
            "svc api --page 2",
            "svc --page 0",
            "svc -o toml",
            "svc -l",
            "svc -l Team=x",
            "svc --page 1 -l team=red",
            "svc api -l team=red",
            "svc --page 1 --watch",
            "svc -o jsonpath=",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
