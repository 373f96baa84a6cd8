//! The names of resources that exist: for shells that complete, and for who mistyped one.

use std::{env, ffi::OsStr, time::Duration};

use clap_complete::CompletionCandidate;
use octelium_api::{Kind, meta::CommonListOptions};
use tonic::Code;

use crate::{
    config::{self, Choice, Home, Settings},
    exit::{Exit, Failure},
    kinds, output, pages,
    refusal::Refusal,
    session::Cluster,
    suggest::did_you_mean,
};

/// Nobody waits longer for a suggestion.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// So many names are looked at.
const NAMES_MAX: u32 = 1_000;

/// Adds the name that may have been meant to the answer that there is no such resource.
pub async fn with_hint(cluster: &mut Cluster, kind: Kind, name: &str, error: anyhow::Error) -> anyhow::Error {
    let code = error.downcast_ref::<Refusal>().map(Refusal::code);
    if code != Some(Code::NotFound) || kind == Kind::ClusterConfig {
        return error;
    }
    // Whoever may not list learns nothing more.
    let known = tokio::time::timeout(LOOKUP_TIMEOUT, list(cluster, kind)).await;
    let known = known.ok().and_then(Result::ok).unwrap_or_default();
    match did_you_mean(name, known.iter().map(String::as_str)) {
        hint if hint.is_empty() => error,
        hint => Failure::new(Exit::NotFound, format!("{error:#}{hint}")).into(),
    }
}

async fn list(cluster: &mut Cluster, kind: Kind) -> anyhow::Result<Vec<String>> {
    if kind == Kind::ClusterConfig {
        return Ok(Vec::new());
    }
    let common = CommonListOptions { items_per_page: NAMES_MAX, ..Default::default() };
    let page = pages::fetch(cluster, kind, common, None).await?;
    Ok(page.items.iter().map(|object| object.name().to_owned()).collect())
}

/// The names of resources that begin with `current`, of the kind that the line before the cursor says.
///
/// A lookup that fails or takes too long suggests nothing: nobody asked for an error here.
pub fn complete(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    output::hush();
    let words: Vec<_> = env::args_os().filter_map(|word| word.into_string().ok()).collect();
    let line = Line::read(&words);
    let Some(kind) = line.kind else { return Vec::new() };
    let found = lookup(kind, &line.choice).unwrap_or_default();
    found.into_iter().filter(|name| name.starts_with(current)).map(CompletionCandidate::new).collect()
}

/// The domains that config.yaml knows.
pub fn domains() -> Vec<CompletionCandidate> {
    let known = match config::home(config::variable("OCTELIUM_HOME").as_deref()) {
        Ok(Home::Directory(home)) => config::read(&home.join("config.yaml")).unwrap_or_default(),
        _ => Default::default(),
    };
    known.clusters.into_iter().map(|cluster| CompletionCandidate::new(cluster.domain)).collect()
}

/// A key pressed for a suggestion neither renews a Session nor begins one.
fn lookup(kind: Kind, choice: &Choice) -> anyhow::Result<Vec<String>> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::timeout(LOOKUP_TIMEOUT, async {
            let mut cluster = Cluster::new(Settings::resolve(choice)?)?;
            match cluster.settle_for_what_is_here()? {
                true => list(&mut cluster, kind).await,
                false => Ok(Vec::new()),
            }
        })
        .await?
    })
}

/// What of the line matters here.
#[derive(Debug, Default)]
struct Line {
    kind: Option<Kind>,
    choice: Choice,
}

impl Line {
    /// Reads the words that the shell hands over: all of them after `--`.
    fn read(words: &[String]) -> Self {
        let begin = words.iter().position(|word| word == "--").map_or(words.len(), |at| at + 2);
        let mut choice = Choice {
            home: config::variable("OCTELIUM_HOME"),
            domain: config::variable("OCTELIUM_DOMAIN"),
            address: config::variable("OCTELIUM_ADDRESS"),
            ca_file: config::variable("OCTELIUM_CA_FILE").map(Into::into),
        };
        let mut kind = None;
        let mut seen_verb = false;
        let mut words = words.get(begin..).unwrap_or_default().iter();
        while let Some(word) = words.next() {
            let (flag, value) = match word.split_once('=') {
                Some((flag, value)) if word.starts_with("--") => (flag, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            let mut value = || value.clone().or_else(|| words.next().cloned());
            match flag {
                "--homedir" => choice.home = value(),
                "--domain" => choice.domain = value(),
                "--address" => choice.address = value(),
                "--ca-file" => choice.ca_file = value().map(Into::into),
                flag if flag.starts_with('-') => {}
                // The first word that is no flag is the verb, and the first after it that names a kind is the kind.
                _ if !seen_verb => seen_verb = true,
                word if kind.is_none() => kind = kinds::parse(word).ok(),
                _ => {}
            }
        }
        Self { kind, choice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        Line::read(&words)
    }

    #[test]
    fn the_kind_is_read_from_the_line() {
        for (text, kind) in [
            ("octeliumctl -- octeliumctl get svc ap", Some(Kind::Service)),
            ("octeliumctl -- octeliumctl --domain x.org get -o yaml users", Some(Kind::User)),
            ("octeliumctl -- octeliumctl config use-cluster", None),
            ("octeliumctl -- octeliumctl get", None),
            ("octeliumctl", None),
        ] {
            assert_eq!(line(text).kind, kind, "{text}");
        }
    }

    #[test]
    fn the_cluster_is_read_from_the_line() {
        let choice = line("octeliumctl -- octeliumctl --domain x.org --homedir=/h get svc").choice;
        assert_eq!((choice.domain.as_deref(), choice.home.as_deref()), (Some("x.org"), Some("/h")));
    }
}
