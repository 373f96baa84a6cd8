//! `export`, and that `apply` takes it back.

use std::fs;

use octelium_api::{core, meta};

use crate::{SERVICE, log_in, manifest, named, server::Server};

fn start() -> Server {
    let server = Server::start();
    log_in(&server);
    let more = "kind: User\nmetadata:\n  name: ann\n  labels: {team: red}\nspec:\n  type: HUMAN\n";
    let path = manifest(&server, "all.yaml", &format!("{SERVICE}---\n{more}"));
    assert_eq!(server.run(&["apply", &path]).code, 0);
    assert_eq!(server.run(&["create", "secret", "key", "--value", "hunter2"]).code, 0);
    assert_eq!(server.run(&["create", "config", "settings", "--value", "swordfish"]).code, 0);
    let metadata = meta::Metadata { is_system: true, ..named("octelium") };
    server.put(core::Group { metadata: Some(metadata), spec: Some(Default::default()), ..Default::default() }.into());
    server
}

#[test]
fn an_export_applied_changes_nothing() {
    let server = start();
    let run = server.run(&["export"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    for absent in ["hunter2", "swordfish", "uid:", "resourceVersion", "status:", "name: octelium"] {
        assert!(!run.out.contains(absent), "{absent}: {}", run.out);
    }
    assert!(run.out.starts_with("# Its data is not exported."), "{}", run.out);
    let kinds: Vec<_> = run.out.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
    assert_eq!(kinds, ["Secret", "Config", "User", "Service", "ClusterConfig"]);
    let path = manifest(&server, "export.yaml", &run.out);
    let run = server.run(&["apply", &path]);
    assert!(run.out.ends_with("no changes (5 unchanged)\n"), "{}{}", run.out, run.err);
    assert_eq!(server.secret("key"), b"hunter2");
}

#[test]
fn files_are_written_once() {
    let server = start();
    let file = server.home().join("one.yaml").display().to_string();
    let run = server.run(&["export", "user", "svc", "-o", &file]);
    assert_eq!(run.out, format!("2 resources written to {file}\n"), "{}", run.err);
    let run = server.run(&["export", "user", "-o", &file]);
    assert_eq!((run.code, run.err.contains("--force")), (1, true), "{}", run.err);
    assert_eq!(server.run(&["export", "user", "-o", &file, "--force"]).code, 0);
    assert!(!fs::read_to_string(&file).unwrap().contains("kind: Service"));

    let directory = server.home().join("all");
    let run = server.run(&["export", "--include-system", "-o", &format!("{}/", directory.display())]);
    assert_eq!(run.code, 0, "{}", run.err);
    let mut names: Vec<_> =
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected = ["clusterconfig", "config", "group", "secret", "service", "user"];
    assert_eq!(names, expected.map(|name| format!("{name}.yaml")));
    let directory = directory.display().to_string();
    let run = server.run(&["apply", &directory]);
    assert!(run.out.ends_with("no changes (6 unchanged)\n"), "{}{}", run.out, run.err);

    assert_eq!(server.run(&["delete", "svc", "api"]).code, 0);
    let run = server.run(&["export", "user", "group", "svc", "-o", &directory, "--force"]);
    assert_eq!(run.code, 0, "{}", run.err);
    for kind in ["group", "service"] {
        assert!(run.err.contains(&format!("warning: {directory}/{kind}.yaml was not written now")), "{}", run.err);
    }
    assert_eq!(run.err.lines().count(), 2, "{}", run.err);
}

#[test]
fn nothing_to_export_is_an_empty_text() {
    let server = Server::start();
    log_in(&server);
    let run = server.run(&["export", "user"]);
    assert_eq!((run.code, run.out.as_str()), (0, ""), "{}", run.err);
    let credential = core::Credential {
        metadata: Some(named("old")),
        spec: Some(core::credential::Spec {
            r#type: core::credential::spec::Type::AuthToken.into(),
            user: "ann".into(),
            expires_at: Some(prost_types::Timestamp { seconds: 1_000, nanos: 0 }),
            ..Default::default()
        }),
        ..Default::default()
    };
    server.put(credential.into());
    let run = server.run(&["export", "cred"]);
    assert_eq!((run.code, run.out.as_str()), (0, ""));
    assert!(run.err.contains("warning: Credential old is left out"), "{}", run.err);
}
