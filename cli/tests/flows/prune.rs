//! `apply --prune`, `--include`, `--exclude` and `--wait`.

use std::fs;

use octelium_api::{Kind, core, meta};
use serde_json::{Value, json};

use crate::{SERVICE, log_in, manifest, named, server::Server};

fn group(name: &str) -> String {
    format!("kind: Group\nmetadata:\n  name: {name}\nspec: {{}}\n")
}

fn start() -> (Server, String) {
    let server = Server::start();
    log_in(&server);
    fs::create_dir(server.home().join("team-a")).unwrap();
    let directory = server.home().join("team-a").display().to_string();
    (server, directory)
}

#[test]
fn what_a_directory_no_longer_describes_goes() {
    let (server, directory) = start();
    manifest(&server, "team-a/1.yaml", &format!("{}---\n{}", group("one"), group("two")));
    manifest(&server, "team-a/2.yaml", SERVICE);
    server.put(core::Group { metadata: Some(named("foreign")), ..Default::default() }.into());
    let annotations = [("octelium-owner".to_owned(), "team-a".to_owned())].into();
    let system = meta::Metadata { is_system: true, annotations, ..named("system") };
    server.put(core::Group { metadata: Some(system), ..Default::default() }.into());
    let apply = |more: &[&str]| {
        let fixed = ["apply", directory.as_str(), "--prune", "--owner", "team-a"];
        server.run(&[&fixed[..], more].concat())
    };
    let run = apply(&[]);
    assert!(run.out.ends_with("3 created\n"), "{}{}", run.out, run.err);
    let stored = server.object(Kind::Group, "one").unwrap();
    assert_eq!(stored.metadata().unwrap().annotations["octelium-owner"], "team-a");

    manifest(&server, "team-a/1.yaml", &group("one"));
    fs::remove_file(server.home().join("team-a/2.yaml")).unwrap();
    let run = apply(&["--dry-run"]);
    assert!(run.out.contains("Group two would be deleted\n"), "{}{}", run.out, run.err);
    assert!(run.out.ends_with("dry run: 2 deleted, 1 unchanged\n"), "{}", run.out);
    let run = apply(&[]);
    assert_eq!((run.code, run.out.as_str()), (2, ""), "{}", run.err);
    assert!(run.err.contains("warning: Group two would be deleted\n"), "{}", run.err);
    assert!(run.err.contains("nobody can be asked: give --yes; nothing was changed"), "{}", run.err);
    let run = apply(&["--exclude", "svc", "-o", "json", "--yes"]);
    let value: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((&value["results"][1]["name"], &value["results"][1]["operation"]), (&json!("two"), &json!("deleted")));
    assert_eq!(value["results"][1].get("at"), None);
    let run = apply(&["--yes"]);
    assert!(run.out.contains("Service api.default deleted\n"), "{}{}", run.out, run.err);
    for name in ["one", "foreign", "system"] {
        assert!(server.object(Kind::Group, name).is_some(), "{name} stays");
    }
    assert_eq!(server.request_ids().len(), 4, "each time one change");
}

#[test]
fn labels_choose_among_the_applied_kinds() {
    let (server, _) = start();
    let labelled = |name: &str, team: &str| meta::Metadata {
        labels: [("team".to_owned(), team.to_owned())].into(),
        ..named(name)
    };
    server.put(core::Group { metadata: Some(labelled("old", "a")), ..Default::default() }.into());
    server.put(core::Group { metadata: Some(labelled("other", "b")), ..Default::default() }.into());
    server.put(core::User { metadata: Some(labelled("ann", "a")), ..Default::default() }.into());
    let text = group("new").replace("  name: new\n", "  name: new\n  labels: {team: a}\n");
    let run = server.run_with(&["apply", "-", "--prune", "-l", "team=a", "--yes"], &[], text.as_bytes());
    assert_eq!(run.out, "Group new created\nGroup old deleted\n1 created, 1 deleted\n", "{}", run.err);
    assert!(server.object(Kind::Group, "other").is_some() && server.object(Kind::User, "ann").is_some());
    assert!(server.object(Kind::Group, "new").unwrap().metadata().unwrap().annotations.is_empty());
}

#[test]
fn an_empty_directory_deletes_nothing() {
    let (server, directory) = start();
    manifest(&server, "team-a/1.yaml", "# nothing yet\n");
    let run = server.run(&["apply", &directory, "--prune"]);
    assert_eq!((run.code, run.err.contains("give --owner NAME")), (2, true), "its name is nobody's: {}", run.err);
    let run = server.run(&["apply", &directory, "--prune", "--owner", "team-a"]);
    assert_eq!((run.code, run.err.contains("would delete everything")), (2, true), "{}", run.err);
    assert_eq!(server.run(&["apply", &directory]).out, "no changes\n");
}

#[test]
fn kinds_are_left_out_and_that_is_said() {
    let (server, _) = start();
    let text = format!(
        "{SERVICE}---\n{}---\nkind: Secret\nmetadata: {{name: key}}\nspec: {{}}\ndata: {{value: x}}\n",
        group("one")
    );
    let run = server.run_with(&["apply", "-", "--include", "Group", "--include-secret"], &[], text.as_bytes());
    assert!(run.out.ends_with("2 created\n"), "{}{}", run.out, run.err);
    assert!(run.err.contains("1 manifest left out"), "{}", run.err);
    let run = server.run_with(&["apply", "-", "--exclude", "group", "--exclude", "sec"], &[], text.as_bytes());
    assert!(run.out.contains("Service api.default created\n1 created\n"), "{}{}", run.out, run.err);
    let run = server.run_with(&["apply", "-", "--include", "Grop"], &[], text.as_bytes());
    assert_eq!((run.code, run.err.contains("did you mean `group`?")), (2, true), "{}", run.err);
}

#[test]
fn waiting_ends_when_the_change_is_in_effect_or_too_late() {
    let (server, _) = start();
    let run = server.run_with(&["apply", "-", "--wait"], &[], group("one").as_bytes());
    assert_eq!((run.code, server.count("WaitForIndex")), (0, 1), "{}", run.err);
    let run = server.run_with(&["apply", "-", "--wait"], &[], group("one").as_bytes());
    assert_eq!((run.code, server.count("WaitForIndex")), (0, 1), "nothing changed, nothing to wait for: {}", run.err);
    server.lag();
    let run = server.run_with(&["apply", "-", "--wait=1s"], &[], group("two").as_bytes());
    assert_eq!((run.code, run.out.as_str()), (8, "Group two created\n1 created\n"), "{}", run.err);
    assert!(run.err.contains("after 1 s"), "{}", run.err);
}
