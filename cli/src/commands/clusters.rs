//! `config`: the clusters that this program knows, in `<home>/config.yaml`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use serde_json::json;

use crate::{
    Usage,
    config::{self, ClusterEntry, Document, Home},
    exit::{Exit, Failure},
    files::Private,
    output::{self, Format, plain},
    state,
    suggest::did_you_mean,
};

/// What to do with them.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the whole file
    View {
        /// Output form
        #[arg(short, long, visible_alias = "output", value_enum, default_value = "yaml")]
        out: Format,
    },
    /// List the clusters
    GetClusters {
        /// Output form; default: a table
        #[arg(short, long, visible_alias = "output", value_enum)]
        out: Option<Format>,
    },
    /// Add a cluster, or change what is known of it
    SetCluster(SetCluster),
    /// Choose the cluster that is meant where nothing else says so
    UseCluster {
        /// Its name or domain
        name: String,
    },
    /// Forget a cluster and its stored Session
    DeleteCluster {
        /// Its name or domain
        name: String,
    },
    /// Show the name of the chosen cluster
    Current,
}

/// One cluster. The root's --domain, --address and --ca-file say the rest.
#[derive(Debug, clap::Args)]
struct SetCluster {
    /// What to call it; without --domain also its domain
    name: String,
    /// A file with an authentication token for it, which only you may read
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    auth_token_file: Option<PathBuf>,
}

/// Does it, without any cluster.
///
/// # Errors
/// If the file can't be read or written, or there is no such cluster.
pub async fn run(choice: &config::Choice, arguments: &Arguments) -> anyhow::Result<()> {
    let Home::Directory(home) = config::home(choice.home.as_deref())? else {
        return Err(Usage("there is no config.yaml with --homedir mem".into()).into());
    };
    let path = home.join("config.yaml");
    let mut document = config::read(&path)?;
    let text = match &arguments.what {
        What::View { out } => output::document(&serde_json::to_value(&document)?, *out)?,
        What::GetClusters { out } => list(&document, *out)?,
        What::Current => {
            let current = document.current_domain.as_deref().ok_or_else(|| {
                Failure::new(Exit::NotFound, "no cluster is chosen; `octeliumctl config use-cluster NAME` does that")
            })?;
            let name = document.clusters.iter().find(|cluster| is_current(&document, cluster));
            format!("{}\n", plain(name.map_or(current, ClusterEntry::name)))
        }
        What::SetCluster(set) => {
            let (name, word) = set_cluster(&mut document, choice, set)?;
            save(&home, &path, &document)?;
            format!("Cluster {} {word}\n", plain(&name))
        }
        What::UseCluster { name } => {
            let domain = document.clusters[find(&document, name)?].domain.clone();
            document.current_domain = Some(domain);
            save(&home, &path, &document)?;
            format!("Cluster {} is chosen\n", plain(name))
        }
        What::DeleteCluster { name } => {
            let cluster = document.clusters.remove(find(&document, name)?);
            // First, since a Session of no cluster that is known would stay for ever.
            forget_session(&home, &cluster.domain).await?;
            if is_current(&document, &cluster) {
                document.current_domain = None;
                output::note("it was the chosen cluster; now none is");
            }
            save(&home, &path, &document)?;
            format!("Cluster {} is forgotten\n", plain(cluster.name()))
        }
    };
    Ok(output::result(&text)?)
}

fn is_current(document: &Document, cluster: &ClusterEntry) -> bool {
    document.current_domain.as_deref().is_some_and(|current| current.eq_ignore_ascii_case(&cluster.domain))
}

/// The place of the cluster that is called `name` or has this domain.
fn find(document: &Document, name: &str) -> Result<usize, Failure> {
    let clusters = &document.clusters;
    let by_name = clusters.iter().position(|cluster| cluster.name() == name);
    by_name.or_else(|| clusters.iter().position(|cluster| cluster.domain.eq_ignore_ascii_case(name))).ok_or_else(|| {
        let hint = did_you_mean(name, clusters.iter().flat_map(|cluster| [cluster.name(), cluster.domain.as_str()]));
        Failure::new(Exit::NotFound, format!("there is no cluster `{name}` in config.yaml{hint}"))
    })
}

fn list(document: &Document, out: Option<Format>) -> anyhow::Result<String> {
    if let Some(format) = out {
        let cluster = |cluster: &ClusterEntry| -> anyhow::Result<_> {
            let mut value = serde_json::to_value(cluster)?;
            value["name"] = cluster.name().into();
            value["isCurrent"] = is_current(document, cluster).into();
            Ok(value)
        };
        let clusters: Vec<_> = document.clusters.iter().map(cluster).collect::<Result<_, _>>()?;
        return output::document(&json!({ "clusters": clusters }), format);
    }
    if document.clusters.is_empty() {
        return Ok("no cluster found\n".to_owned());
    }
    let row = |cluster: &ClusterEntry| {
        let path = |path: &Option<PathBuf>| path.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
        vec![
            if is_current(document, cluster) { "*".to_owned() } else { String::new() },
            cluster.name().to_owned(),
            cluster.domain.clone(),
            cluster.address.clone().unwrap_or_default(),
            path(&cluster.ca_file),
        ]
    };
    Ok(output::table(&["Current", "Name", "Domain", "Address", "CA File"], document.clusters.iter().map(row).collect()))
}

/// Forgets the Session at `domain`, if one is stored. Only `logout` ends it.
async fn forget_session(home: &Path, domain: &str) -> anyhow::Result<()> {
    let (home, domain) = (Home::Directory(home.to_owned()), domain.to_ascii_lowercase());
    if !state::peek(&home)?.domain_map.contains_key(&domain) {
        return Ok(());
    }
    state::hold(&home).await?.set(&domain, None)?;
    output::note(&format!(
        "its Session is forgotten too, but goes on at {domain} until it expires; `octeliumctl logout` beforehand ends it"
    ));
    Ok(())
}

/// Adds or changes the entry. Its name, and what was done.
fn set_cluster(
    document: &mut Document,
    choice: &config::Choice,
    set: &SetCluster,
) -> anyhow::Result<(String, &'static str)> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let absolute = |path: &PathBuf| std::path::absolute(path).with_context(|| path.display().to_string());
    let known = find(document, &set.name).ok();
    let domain = match (given(&choice.domain), known) {
        (Some(domain), _) => config::check_domain(&domain)?,
        (None, Some(at)) => document.clusters[at].domain.clone(),
        (None, None) => config::check_domain(&set.name)?,
    };
    let same_domain = document.clusters.iter().position(|cluster| cluster.domain.eq_ignore_ascii_case(&domain));
    if let Some(other) = same_domain.filter(|at| Some(*at) != known) {
        let other = document.clusters[other].name();
        return Err(
            Failure::new(Exit::Conflict, format!("the cluster `{other}` has the domain {domain} already")).into()
        );
    }
    if let Some(address) = given(&choice.address) {
        config::parse_address(&address)?;
    }
    // How one cluster is reached and believed says nothing of another.
    let same = known.map(|at| &document.clusters[at]).filter(|cluster| cluster.domain.eq_ignore_ascii_case(&domain));
    let mut entry = same.cloned().unwrap_or_default();
    entry.name = (set.name != domain).then(|| set.name.clone());
    entry.address = given(&choice.address).or(entry.address);
    // Relative paths in the file are relative to it, those given here to the working directory.
    if let Some(path) = choice.ca_file.as_ref().filter(|path| !path.as_os_str().is_empty()) {
        entry.ca_file = Some(absolute(path)?);
    }
    if let Some(path) = &set.auth_token_file {
        entry.auth_token_file = Some(absolute(path)?);
    }
    if known.is_some_and(|at| is_current(document, &document.clusters[at])) {
        document.current_domain = Some(domain.clone());
    }
    entry.domain = domain;
    match known {
        Some(at) => document.clusters[at] = entry,
        None => document.clusters.push(entry),
    }
    Ok((set.name.clone(), if known.is_some() { "changed" } else { "added" }))
}

/// Replaces the file as a whole.
fn save(home: &Path, path: &Path, document: &Document) -> anyhow::Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line.trim_start().starts_with('#'))) {
        output::note("the comments in config.yaml are not kept");
    }
    config::make_private_directory(home).with_context(|| home.display().to_string())?;
    // What a link leads to is replaced, not the link.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut file = Private::begin(&path, true)?;
    file.write(serde_saphyr::to_string(document)?.as_bytes())?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        let cluster = |name: Option<&str>, domain: &str| ClusterEntry {
            name: name.map(str::to_owned),
            domain: domain.to_owned(),
            ..Default::default()
        };
        Document {
            current_domain: Some("x.org".to_owned()),
            clusters: vec![cluster(None, "x.org"), cluster(Some("prod"), "y.org")],
        }
    }

    fn set(document: &mut Document, name: &str, domain: Option<&str>) -> anyhow::Result<(String, &'static str)> {
        let choice = config::Choice { domain: domain.map(str::to_owned), ..Default::default() };
        set_cluster(document, &choice, &SetCluster { name: name.to_owned(), auth_token_file: None })
    }

    #[test]
    fn a_cluster_is_found_by_name_and_by_domain() {
        let document = document();
        for (name, at) in [("x.org", Some(0)), ("X.org", Some(0)), ("prod", Some(1)), ("y.org", Some(1)), ("z", None)] {
            assert_eq!(find(&document, name).ok(), at, "{name}");
        }
        assert!(find(&document, "prd").unwrap_err().text.ends_with("did you mean `prod`?"));
    }

    #[test]
    fn an_entry_is_added_or_changed_but_never_twice() {
        let mut document = document();
        assert_eq!(set(&mut document, "test", Some("T.org")).unwrap().1, "added");
        assert_eq!((document.clusters[2].name(), document.clusters[2].domain.as_str()), ("test", "t.org"));
        assert_eq!(set(&mut document, "test", Some("u.org")).unwrap().1, "changed");
        assert_eq!(document.clusters[2].domain, "u.org");
        assert!(set(&mut document, "other", Some("y.org")).is_err());
        assert!(set(&mut document, "no domain", None).is_err());
        assert_eq!(set(&mut document, "z.org", None).unwrap().1, "added");
        assert_eq!(document.clusters.len(), 4);
    }

    #[test]
    fn the_choice_follows_a_changed_domain() {
        let mut document = document();
        set(&mut document, "x.org", Some("new.org")).unwrap();
        assert_eq!(document.current_domain.as_deref(), Some("new.org"));
        assert_eq!(document.clusters[0].name(), "x.org");
    }

    #[test]
    fn another_domain_begins_afresh() {
        let mut document = document();
        document.clusters[1].address = Some("10.0.0.1".to_owned());
        document.clusters[1].auth_token_file = Some("root.token".into());
        set(&mut document, "prod", Some("Y.org")).unwrap();
        assert_eq!(document.clusters[1].address.as_deref(), Some("10.0.0.1"), "it is the same");
        set(&mut document, "prod", Some("z.org")).unwrap();
        assert_eq!((&document.clusters[1].address, &document.clusters[1].auth_token_file), (&None, &None));
    }
}
