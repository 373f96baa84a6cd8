//! Completion, as a shell asks for it.

use octelium_api::core;

use crate::{
    log_in, make_private, manifest, named,
    server::{Server, TOKEN},
};

/// What is suggested for the last word.
fn suggested(server: &Server, words: &[&str]) -> Vec<String> {
    let index = words.len().to_string();
    let mut arguments = vec!["--", "octeliumctl"];
    arguments.extend(words);
    let environment = [("COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", index.as_str()), ("_CLAP_IFS", "\n")];
    let run = server.run_with(&arguments, &environment, b"");
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    run.out.split('\n').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn kinds_and_names_are_suggested() {
    let server = Server::start();
    assert!(suggested(&server, &["get", "serv"]).contains(&"service".to_owned()));
    assert_eq!(suggested(&server, &["get", "user", "a"]), Vec::<String>::new(), "without a Session");
    assert_eq!(server.count("Authenticate"), 0);
    log_in(&server);
    for name in ["ann", "abe", "bob"] {
        server.put(core::User { metadata: Some(named(name)), ..Default::default() }.into());
    }
    for verb in ["get", "delete", "edit", "lock"] {
        assert_eq!(suggested(&server, &[verb, "usr", "a"]), ["abe", "ann"], "{verb}");
    }
    assert_eq!(suggested(&server, &["get", "user", "x"]), Vec::<String>::new());
}

#[test]
fn a_suggestion_neither_logs_in_nor_renews() {
    let server = Server::start();
    let token = manifest(&server, "root.token", TOKEN);
    make_private(&token);
    server.configure("authTokenFile: root.token");
    server.put(core::User { metadata: Some(named("ann")), ..Default::default() }.into());
    assert_eq!(suggested(&server, &["get", "user", "a"]), Vec::<String>::new());
    assert!(server.calls().is_empty() && !server.home().join("octelium.db.lock").exists());
    log_in(&server);
    assert_eq!(suggested(&server, &["get", "user", "a"]), ["ann"]);
    server.end_access_tokens();
    assert_eq!(suggested(&server, &["get", "user", "a"]), Vec::<String>::new());
    assert_eq!(server.count("Authenticate"), 1, "only the login");
}

#[test]
fn every_shell_has_its_script() {
    let server = Server::start();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let run = server.run(&["completion", shell]);
        assert!(
            run.code == 0 && run.out.contains("octeliumctl") && run.out.contains("COMPLETE"),
            "{shell}: {}",
            run.out
        );
    }
    assert_eq!(server.run(&["completion", "cmd"]).code, 2);
}
