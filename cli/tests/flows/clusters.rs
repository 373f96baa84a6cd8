//! `config`: several clusters in one file.

use std::fs;

use serde_json::Value;

use crate::server::{DOMAIN, Server};

#[test]
fn clusters_are_added_chosen_and_forgotten() {
    let server = Server::start();
    assert_eq!(server.run(&["config", "current"]).out, format!("{DOMAIN}\n"));
    let run = server.run(&["config", "set-cluster", "prod", "--domain", "prod.example", "--address", "10.0.0.1:8443"]);
    assert_eq!((run.code, run.out.as_str()), (0, "Cluster prod added\n"), "{}", run.err);
    let run = server.run(&["config", "get-clusters"]);
    assert!(run.out.contains("prod.example") && run.out.contains("10.0.0.1:8443"), "{}", run.out);
    assert_eq!(server.run(&["config", "use-cluster", "prod"]).out, "Cluster prod is chosen\n");
    assert_eq!(server.run(&["config", "current"]).out, "prod\n");
    let run = server.run(&["config", "set-cluster", "prod", "--ca-file", "ca.pem"]);
    assert_eq!(run.out, "Cluster prod changed\n", "{}", run.err);
    let text = server.run(&["config", "view"]).out;
    assert!(text.contains("currentDomain: prod.example\n") && text.contains("address: 10.0.0.1:8443\n"), "{text}");
    let value: Value = serde_json::from_str(&server.run(&["config", "get-clusters", "-o", "json"]).out).unwrap();
    assert_eq!(value["clusters"][1]["isCurrent"], Value::Bool(true));

    let run = server.run(&["config", "delete-cluster", "prod"]);
    assert_eq!(run.out, "Cluster prod is forgotten\n");
    assert!(run.err.contains("it was the chosen cluster"), "{}", run.err);
    assert_eq!(server.run(&["config", "current"]).code, 3);
    assert_eq!(server.run(&["get", "svc"]).code, 2);
    assert_eq!(server.run(&["config", "use-cluster", DOMAIN]).code, 0);
    let run = server.run(&["login", "--auth-token", crate::TOKEN]);
    assert_eq!(run.code, 0, "the file still leads to the cluster: {}", run.err);
}

#[test]
fn mistakes_leave_the_file_alone() {
    let server = Server::start();
    let before = fs::read_to_string(server.home().join("config.yaml")).unwrap();
    for (arguments, code) in [
        (&["config", "use-cluster", "tset.example"][..], 3),
        (&["config", "delete-cluster", "none"], 3),
        (&["config", "set-cluster", "no domain"], 2),
        (&["config", "set-cluster", "other", "--domain", DOMAIN], 6),
        (&["config", "set-cluster", "other.example", "--address", "a b:1"], 2),
        (&["config", "frobnicate"], 2),
    ] {
        let run = server.run(arguments);
        assert_eq!((run.code, run.out.as_str()), (code, ""), "{arguments:?}: {}", run.err);
    }
    assert!(server.run(&["config", "use-cluster", "tset.example"]).err.contains("did you mean `test.example`?"));
    assert_eq!(fs::read_to_string(server.home().join("config.yaml")).unwrap(), before);
}

#[test]
fn a_forgotten_cluster_leaves_no_session() {
    let server = Server::start();
    crate::log_in(&server);
    let run = server.run(&["config", "delete-cluster", DOMAIN]);
    assert_eq!(run.out, format!("Cluster {DOMAIN} is forgotten\n"), "{}", run.err);
    assert!(run.err.contains("its Session is forgotten too") && run.err.contains("octeliumctl logout"), "{}", run.err);
    server.configure("");
    assert_eq!(server.run(&["get", "svc"]).code, 4);
    let run = server.run(&["config", "delete-cluster", DOMAIN]);
    assert!(!run.err.contains("Session"), "there is none: {}", run.err);
}

#[test]
fn another_domain_begins_afresh() {
    let server = Server::start();
    let run = server.run(&["config", "set-cluster", DOMAIN, "--domain", "other.example"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let text = fs::read_to_string(server.home().join("config.yaml")).unwrap();
    assert!(text.contains("domain: other.example") && !text.contains("address") && !text.contains("caFile"), "{text}");
}

#[test]
fn a_file_that_can_not_be_meant_has_its_code() {
    let server = Server::start();
    for more in [format!("colour: red\n- domain: {DOMAIN}"), format!("\n- domain: {DOMAIN}"), "[".to_owned()] {
        server.configure(&more);
        let run = server.run(&["get", "svc"]);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{more}: {}", run.err);
        assert!(run.err.contains("config.yaml"), "{}", run.err);
    }
}

#[test]
fn the_environment_does_not_get_into_the_file() {
    let server = Server::start();
    let environment = [("OCTELIUM_DOMAIN", "wrong.example"), ("OCTELIUM_ADDRESS", "10.9.9.9")];
    let run = server.run_with(&["config", "set-cluster", "right.example"], &environment, b"");
    assert_eq!(run.code, 0, "{}", run.err);
    let text = fs::read_to_string(server.home().join("config.yaml")).unwrap();
    assert!(text.contains("right.example") && !text.contains("wrong") && !text.contains("10.9.9.9"), "{text}");
}

#[test]
fn a_new_home_begins_empty() {
    let server = Server::start();
    let home = server.home().join("new").display().to_string();
    assert_eq!(server.run(&["--homedir", &home, "config", "get-clusters"]).out, "no cluster found\n");
    assert_eq!(server.run(&["--homedir", &home, "config", "current"]).code, 3);
    assert_eq!(server.run(&["--homedir", &home, "config", "set-cluster", "x.example"]).code, 0);
    assert_eq!(server.run(&["--homedir", &home, "config", "use-cluster", "x.example"]).code, 0);
    assert_eq!(server.run(&["--homedir", &home, "config", "current"]).out, "x.example\n");
}
