//! `octeliumctl` and a real node, as an administrator meets them. `cargo test --workspace` builds both; where only the node was
//! built, these tests say so and pass.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{io::AsyncWriteExt, process::Command};

use crate::support::{
    cluster::{Cluster, DOMAIN},
    soon,
};

const MANIFEST: &str = "
kind: Group
metadata: {name: staff}
spec: {}
---
kind: User
metadata: {name: alice, labels: {team: x}}
spec: {type: WORKLOAD, groups: [staff]}
---
kind: Secret
metadata: {name: api-key}
spec: {}
data: {value: not-for-anybody}
---
kind: Service
metadata: {name: api}
spec: {mode: HTTP, isPublic: true, config: {upstream: {url: 'http://127.0.0.1:9'}, http: {auth: {bearer: {fromSecret: api-key}}}}}
";

/// The binary beside the node's.
fn binary() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_octelium-node")).with_file_name("octeliumctl");
    if !path.exists() {
        println!("skipped: {} isn't built", path.display());
    }
    path.exists().then_some(path)
}

/// Somebody at a terminal's prompt, without the terminal.
struct Shell<'a> {
    cluster: &'a Cluster,
    binary: PathBuf,
    home: tempfile::TempDir,
}

#[derive(Debug)]
struct Run {
    code: i32,
    out: String,
    errors: String,
}

impl Run {
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.errors);
        self.out
    }
}

impl Shell<'_> {
    fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    async fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, &[], "").await
    }

    async fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Run {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env_clear().env("NO_COLOR", "1").env("PATH", "/usr/bin:/bin");
        command.env("OCTELIUM_DOMAIN", DOMAIN).env("OCTELIUM_HOME", self.home.path().join("home"));
        command.env("OCTELIUM_ADDRESS", self.cluster.https.to_string());
        command.env("OCTELIUM_CA_FILE", &self.cluster.node.ca_file).envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that doesn't read its input may have closed it already.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        let output = soon("the end of octeliumctl", child.wait_with_output()).await.unwrap();
        Run {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Logged in as root, with the manifest in a file; `None` where there is no `octeliumctl`.
async fn shell(cluster: &Cluster) -> Option<Shell<'_>> {
    let shell = Shell { cluster, binary: binary()?, home: tempfile::tempdir().unwrap() };
    let token = cluster.node.root_token.clone().unwrap();
    shell.run_with(&["login", "--auth-token", "-"], &[], &token).await.ok();
    fs::write(shell.home.path().join("all.yaml"), MANIFEST).unwrap();
    Some(shell)
}

#[tokio::test]
async fn what_is_applied_is_there_and_what_is_pruned_is_gone() {
    let cluster = Cluster::start().await;
    let Some(shell) = shell(&cluster).await else { return };
    let file = shell.path("all.yaml");
    let owned = ["apply", &file, "--owner", "team-x", "--prune", "--wait"];
    assert!(shell.run(&owned).await.ok().contains("4 created"));
    assert!(shell.run(&owned).await.ok().contains("no changes (4 unchanged)"));
    assert_eq!(shell.run(&["get", "svc", "api", "-o", "jsonpath={.spec.mode}"]).await.ok().trim(), "HTTP");
    assert_eq!(shell.run(&["get", "users", "-l", "team=x", "-o", "name"]).await.ok().trim(), "alice");
    assert!(shell.run(&["whoami"]).await.ok().contains("root"));

    fs::write(&file, MANIFEST.replace(", groups: [staff]", "")).unwrap();
    shell.run(&["apply", &file, "--owner", "team-x", "--prune"]).await.ok();
    let without_group = MANIFEST.replace(", groups: [staff]", "").split_once("---").unwrap().1.to_owned();
    fs::write(&file, without_group).unwrap();
    let asked = shell.run(&["apply", &file, "--owner", "team-x", "--prune"]).await;
    assert_eq!(asked.code, 2, "nobody can be asked: {asked:?}");
    assert_eq!(shell.run(&["get", "group", "staff", "-o", "name"]).await.ok().trim(), "staff");
    assert!(shell.run(&["apply", &file, "--owner", "team-x", "--prune", "--yes"]).await.ok().contains("1 deleted"));
    assert_eq!(shell.run(&["get", "group", "staff"]).await.code, 3);
}

#[tokio::test]
async fn a_backup_brings_back_what_was_deleted() {
    let cluster = Cluster::start().await;
    let Some(shell) = shell(&cluster).await else { return };
    shell.run(&["apply", &shell.path("all.yaml")]).await.ok();
    let (file, environment) = (shell.path("saved"), [("OCTELIUM_BACKUP_PASSPHRASE", "correct horse battery")]);
    shell.run_with(&["backup", &file], &environment, "").await.ok();
    let again = shell.run_with(&["backup", &file], &environment, "").await;
    assert_ne!(again.code, 0, "it is there already: {again:?}");
    let saved = fs::read(&file).unwrap();
    assert!(!saved.windows(15).any(|part| part == b"not-for-anybody"));
    shell.run(&["delete", "service", "api"]).await.ok();
    let wrong = [("OCTELIUM_BACKUP_PASSPHRASE", "incorrect horse battery")];
    assert_ne!(shell.run_with(&["restore", &file, "--yes"], &wrong, "").await.code, 0);
    assert_eq!(shell.run(&["get", "svc", "api"]).await.code, 3);
    shell.run_with(&["restore", &file, "--yes"], &environment, "").await.ok();
    assert_eq!(shell.run(&["get", "svc", "api", "-o", "name"]).await.ok().trim(), "api.default");
}

#[tokio::test]
async fn what_is_exported_applies_unchanged() {
    let cluster = Cluster::start().await;
    let Some(shell) = shell(&cluster).await else { return };
    shell.run(&["apply", &shell.path("all.yaml")]).await.ok();
    let file = shell.path("exported.yaml");
    shell.run(&["export", "-o", &file]).await.ok();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("name: api.default") && !text.contains("not-for-anybody"), "{text}");
    let applied = shell.run(&["apply", &file]).await.ok();
    assert!(applied.contains("no changes"), "{applied}");
}

#[tokio::test]
async fn locks_edits_and_exit_codes() {
    let cluster = Cluster::start().await;
    let Some(shell) = shell(&cluster).await else { return };
    shell.run(&["apply", &shell.path("all.yaml")]).await.ok();
    shell.run(&["lock", "user", "alice"]).await.ok();
    assert!(shell.run(&["get", "user", "alice", "-o", "json"]).await.ok().contains("\"isLocked\": true"));
    shell.run(&["unlock", "user", "alice"]).await.ok();
    let editor = [("EDITOR", "sed -i s/WORKLOAD/HUMAN/")];
    shell.run_with(&["edit", "user", "alice"], &editor, "").await.ok();
    assert_eq!(shell.run(&["get", "user", "alice", "-o", "jsonpath={.spec.type}"]).await.ok().trim(), "HUMAN");

    let credential = ["create", "credential", "--user", "alice", "--type", "auth-token", "-o", "json", "hers"];
    let token: serde_json::Value = serde_json::from_str(&shell.run(&credential).await.ok()).unwrap();
    let token = token["authenticationToken"]["authenticationToken"].as_str().unwrap();
    for (arguments, environment, code) in [
        (&["get", "user", "nobody"][..], &[][..], 3),
        (&["get", "user"], &[("OCTELIUM_AUTH_TOKEN", "nonsense"), ("OCTELIUM_HOME", "mem")], 4),
        (&["get", "user"], &[("OCTELIUM_AUTH_TOKEN", token), ("OCTELIUM_HOME", "mem")], 5),
        (&["create", "namespace", "default"], &[], 6),
        (&["get", "user"], &[("OCTELIUM_ADDRESS", "127.0.0.1:1")], 7),
        (&["get", "gadget"], &[], 2),
    ] {
        let run = shell.run_with(arguments, environment, "").await;
        assert_eq!((run.code, run.out.as_str()), (code, ""), "{arguments:?}: {run:?}");
    }
}
