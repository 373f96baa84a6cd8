//! The workspace as `docs/src/architecture.md` draws it, and the pages that must not fall behind the code.

#![allow(clippy::unwrap_used, reason = "a test that can't go on may stop; clippy.toml exempts only the test functions")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use octelium_node::{config::Settings, quickstart::Options};
use serde_json::Value;

/// Each package's place, and the packages of the workspace that it may know, its tests included.
/// A new arrow is a decision: it is drawn in `docs/src/architecture.md` and entered here.
const ROOMS: [(&str, &[&str]); 11] = [
    ("actors", &["api", "consensus", "policy"]),
    ("api", &[]),
    // Runs whole processes and links none of them.
    ("bench", &[]),
    ("chaos-tests", &["actors", "api", "consensus"]),
    ("cli", &["api"]),
    ("consensus", &["api"]),
    ("node", &["actors", "api", "consensus", "control", "http1", "http2", "policy"]),
    ("node/control", &["actors", "api", "consensus", "policy"]),
    ("node/http1", &[]),
    ("node/http2", &["http1"]),
    ("policy", &["api"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the room lies in the workspace").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn packages() -> Vec<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| env!("CARGO").to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    metadata["packages"].as_array().expect("there are packages").clone()
}

#[test]
fn packages_are_named_after_their_rooms_and_know_only_whom_they_may() {
    let allowed: BTreeMap<_, _> = ROOMS.into_iter().collect();
    let mut seen = BTreeSet::new();
    for package in packages() {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
        let place = manifest.parent().and_then(|place| place.strip_prefix(root()).ok()).expect("below the root");
        let place = place.to_str().expect("a plain name");
        let room = place.rsplit('/').next().unwrap_or(place);
        assert_eq!(package["name"], format!("octelium-{room}"), "the package in {place}/");
        let Some(allowed) = allowed.get(place) else { panic!("{place}/ is a new room: enter it with its arrows") };
        // Of every sort: what only tests or a build script know is an arrow too.
        for dependency in package["dependencies"].as_array().expect("a list") {
            let name = dependency["name"].as_str().expect("a name");
            if let Some(known) = name.strip_prefix("octelium-") {
                assert!(allowed.contains(&known), "{place} may not know {known}");
            }
        }
        seen.insert(place.to_owned());
    }
    assert!(
        seen.iter().map(String::as_str).eq(allowed.keys().copied()),
        "rooms that are gone: {allowed:?}, not {seen:?}"
    );
}

/// `(name in a file, environment, flag)`, where there are such.
fn settings<A: Args>() -> Vec<[String; 3]> {
    let command = A::augment_args(clap::Command::new("settings"));
    let setting = |argument: &clap::Arg| {
        let flag = argument.get_long().expect("every setting has a flag");
        let env = argument.get_env().and_then(|env| env.to_str()).expect("every setting has a variable");
        let mut words = flag.split('-');
        let first = words.next().unwrap_or_default().to_owned();
        let name = words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..]);
        [name, env.to_owned(), format!("--{flag}")]
    };
    command.get_arguments().map(setting).collect()
}

#[test]
fn every_setting_has_its_row_and_every_row_its_setting() {
    let page = read("docs/src/configuration.md");
    let rows: Vec<&str> =
        page.lines().filter(|line| line.starts_with("| `") && line.contains("OCTELIUM_NODE_")).collect();
    let of_file = settings::<Settings>();
    let of_quickstart = settings::<Options>();
    for [name, env, flag] in &of_file {
        let row = format!("| `{name}` | `{env}` | `{flag}` |");
        assert_eq!(rows.iter().filter(|line| line.starts_with(&row)).count(), 1, "no row begins with {row}");
    }
    for [_, env, flag] in &of_quickstart {
        let row = format!("| `{flag}` | `{env}` |");
        assert_eq!(rows.iter().filter(|line| line.starts_with(&row)).count(), 1, "no row begins with {row}");
    }
    assert_eq!(rows.len(), of_file.len() + of_quickstart.len(), "a row has no setting");
}

#[test]
fn the_examples_of_settings_are_valid() {
    for page in ["README.md", "docs/src/configuration.md"] {
        let text = read(page);
        let blocks: Vec<&str> = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(!blocks.is_empty(), "{page} shows no settings");
        for block in blocks {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("node.yaml");
            fs::write(&file, block).unwrap();
            let checked = Settings::read(&file).and_then(Settings::check);
            assert!(checked.is_ok(), "{page}: {:#}\n{block}", checked.unwrap_err());
        }
    }
}

/// Paths of all pages below `docs/src`, relative to it.
fn pages(below: &Path, into: &mut BTreeSet<PathBuf>) {
    let top = root().join("docs/src");
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            into.insert(path.strip_prefix(&top).unwrap().to_owned());
        }
    }
}

/// Targets of the links in `text` that lead to files.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .map(|target| target.split('#').next().unwrap_or(target))
        .filter(|target| !target.is_empty() && !target.contains("://"))
}

#[test]
fn every_page_is_in_the_summary_and_every_link_leads_somewhere() {
    let top = root().join("docs/src");
    let mut all = BTreeSet::new();
    pages(&top, &mut all);
    let summary = read("docs/src/SUMMARY.md");
    let listed: BTreeSet<PathBuf> = links(&summary).map(PathBuf::from).collect();
    let expected: BTreeSet<PathBuf> = all.iter().filter(|page| **page != Path::new("SUMMARY.md")).cloned().collect();
    assert_eq!(listed, expected);
    let readme = root().join("README.md");
    for page in all.iter().map(|page| top.join(page)).chain([readme]) {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            let target = page.parent().unwrap().join(link);
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
        }
    }
}
