//! `edit`, with editors that are shell scripts.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use octelium_api::{Kind, Object, core};

use crate::{SERVICE, log_in, make_private, manifest, server::Server};

/// An editor that runs `script`, in which `$1` is the file.
fn editor(server: &Server, script: &str) -> String {
    let path = manifest(server, "editor.sh", script);
    make_private(&path);
    format!("sh {path}")
}

fn edit(server: &Server, script: &str) -> crate::server::Run {
    let (editor, temporary) = (editor(server, script), server.home().display().to_string());
    server.run_with(&["edit", "svc", "api"], &[("EDITOR", &editor), ("TMPDIR", &temporary)], b"")
}

fn port(server: &Server) -> u32 {
    match server.object(Kind::Service, "api.default") {
        Some(Object::Service(service)) => service.spec.unwrap().port,
        other => panic!("{other:?}"),
    }
}

fn start() -> Server {
    let server = Server::start();
    log_in(&server);
    let path = manifest(&server, "api.yaml", SERVICE);
    assert_eq!(server.run(&["apply", &path]).code, 0);
    server
}

/// The file that is named at the end of an error, and its text.
fn kept(error: &str) -> String {
    let path = error.rsplit("What you wrote is in ").next().unwrap().lines().next().unwrap();
    fs::read_to_string(Path::new(path)).unwrap()
}

/// How many texts were left behind.
fn left(server: &Server) -> usize {
    let is_draft = |name: std::ffi::OsString| name.as_encoded_bytes().starts_with(b"octeliumctl-");
    fs::read_dir(server.home()).unwrap().filter(|entry| is_draft(entry.as_ref().unwrap().file_name())).count()
}

#[test]
fn what_was_written_is_applied() {
    let server = start();
    let run = edit(
        &server,
        "stat -c %a \"$1\" > \"$1.mode\"; mv \"$1.mode\" \"$(dirname \"$1\")/mode\"; sed -i 's/8080/8081/' \"$1\"\n",
    );
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.starts_with("Service api.default updated\n") && run.out.contains("+  port: 8081\n"), "{}", run.out);
    assert_eq!(port(&server), 8081);
    assert_eq!(fs::read_to_string(server.home().join("mode")).unwrap(), "600\n");
    assert_eq!(left(&server), 0, "nothing is left behind");
}

#[test]
fn an_interrupt_after_the_editor_keeps_the_text() {
    let server = start();
    let script = editor(&server, "sed -i 's/8080/8084/' \"$1\"; touch \"$(dirname \"$1\")/edited\"\n");
    let gate = format!("{script} \"$1\"; while [ ! -e {}/go ]; do sleep 0.01; done; :", server.home().display());
    let temporary = server.home().display().to_string();
    let child = server.spawn(&["edit", "svc", "api"], &[("EDITOR", &gate), ("TMPDIR", &temporary)]);
    wait_until(|| server.home().join("edited").exists());
    server.unavailable(100);
    fs::write(server.home().join("go"), "").unwrap();
    // The first was made by `apply`.
    wait_until(|| server.count("Apply") > 1);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("interrupted; whether Service api.default was updated is not known"), "{error}");
    assert!(kept(&error).contains("port: 8084"));
    assert_eq!(port(&server), 8080);
}

fn wait_until(condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(30), "nothing happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_interrupt_is_for_the_editor() {
    let server = start();
    let script = editor(&server, "kill -INT $PPID; sed -i 's/8080/8083/' \"$1\"\n");
    let run = server.run_with(&["edit", "svc", "api"], &[("EDITOR", &format!("exec {script}"))], b"");
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(port(&server), 8083);
}

#[test]
fn no_change_and_no_text_change_nothing() {
    let server = start();
    assert_eq!(edit(&server, "true\n").out, "Service api.default is as it was\n");
    assert_eq!(edit(&server, ": > \"$1\"\n").out, "Service api.default is as it was: the text is empty\n");
    let run = edit(&server, "exit 3\n");
    assert_eq!((run.code, run.err.contains("ended with")), (1, true), "{}", run.err);
    assert!(!run.err.contains("What you wrote is in"), "nothing was written: {}", run.err);
    assert_eq!(left(&server), 0);
    let run = edit(&server, "sed -i 's/8080/8081/' \"$1\"; exit 3\n");
    assert!(kept(&run.err).contains("port: 8081"), "{}", run.err);
    let run = edit(&server, "sed -i 's/^/# /' \"$1\"\n");
    assert_eq!((run.code, run.err.contains("the text is all comments")), (1, true), "{}", run.err);
    assert!(kept(&run.err).contains("#   port: 8080"));
    let run = server.run(&["edit", "svc", "api"]);
    assert_eq!((run.code, run.err.contains("VISUAL or EDITOR")), (2, true), "{}", run.err);
    assert_eq!(server.run_with(&["edit", "svc", "apy"], &[("EDITOR", "true")], b"").code, 3);
    assert_eq!(server.count("Apply"), 1);
}

#[test]
fn own_comments_above_stay_while_mistakes_are_corrected() {
    let server = start();
    let run = edit(
        &server,
        "if grep -q 'could not be applied' \"$1\"; then exit 3; fi; \
         sed -i 's/^apiVersion:/# my own\\n&/; s/^  port: 8080/  prot: 8082/' \"$1\"\n",
    );
    let text = kept(&run.err);
    assert!(text.contains("\n#\n# my own\napiVersion:"), "{text}");
    let line = 1 + text.lines().position(|line| line.starts_with("  prot:")).unwrap();
    assert!(text.contains(&format!("# - line {line}: spec.prot: ")), "{text}");
    assert!(!run.err.contains("secret data"), "{}", run.err);
}

#[test]
fn mistakes_are_shown_in_the_editor_again() {
    let server = start();
    let run = edit(
        &server,
        "if grep -q 'could not be applied' \"$1\"; then grep '^# - ' \"$1\" > \"$(dirname \"$1\")/told\"; \
         sed -i 's/^  prot:/  port:/' \"$1\"; else sed -i 's/^  port: 8080/  prot: 8082/' \"$1\"; fi\n",
    );
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(port(&server), 8082);
    let told = fs::read_to_string(server.home().join("told")).unwrap();
    assert!(told.contains("spec.prot: ") && told.contains("# - line "), "{told}");
    // The server's complaints come back in the same way; who doesn't heed them doesn't get in a circle.
    let run = edit(&server, "sed -i 's/127.0.0.1/forbidden.test/' \"$1\"\n");
    assert_eq!((run.code, run.out.as_str()), (1, ""), "{}", run.err);
    assert!(run.err.contains("spec.config.upstream.url: may not be used"), "{}", run.err);
    assert!(kept(&run.err).contains("forbidden.test"));
    let run = edit(&server, "sed -i 's/name: api.default/name: other/' \"$1\"\n");
    assert!(run.err.contains("expected Service `api.default`, found Service `other`"), "{}", run.err);
}

#[test]
fn what_somebody_else_wrote_is_not_overwritten() {
    let server = start();
    let binary = env!("CARGO_BIN_EXE_octeliumctl");
    let other = manifest(&server, "api.yaml", &SERVICE.replace("8080", "9999"));
    let run = edit(&server, &format!("{binary} apply {other} >/dev/null; sed -i 's/8080/8081/' \"$1\"\n"));
    assert_eq!((run.code, run.out.as_str()), (6, ""), "{}", run.err);
    assert!(run.err.contains("was changed by somebody else"), "{}", run.err);
    assert!(kept(&run.err).contains("port: 8081"));
    assert_eq!(port(&server), 9999);
}

#[test]
fn data_that_is_not_shown_stays() {
    let server = Server::start();
    log_in(&server);
    assert_eq!(server.run(&["create", "secret", "key", "--value", "hunter2"]).code, 0);
    let script =
        editor(&server, "grep -q hunter2 \"$1\" && exit 1; sed -i 's/^metadata:/&\\n  displayName: Key/' \"$1\"\n");
    let run = server.run_with(&["edit", "secret", "key"], &[("VISUAL", &script)], b"");
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(server.secret("key"), b"hunter2");
    let Some(Object::Secret(core::Secret { metadata, .. })) = server.object(Kind::Secret, "key") else { panic!() };
    assert_eq!(metadata.unwrap().display_name, "Key");
    let temporary = server.home().display().to_string();
    let script = editor(&server, "printf 'data: {value: x}\\n' >> \"$1\"; exit 3\n");
    let run = server.run_with(&["edit", "secret", "key"], &[("VISUAL", &script), ("TMPDIR", &temporary)], b"");
    assert!(run.err.contains("It may hold secret data: remove it"), "{}", run.err);
    assert!(kept(&run.err).contains("octeliumctl update secret key --file -"));
}
