//! `get --watch`, until it is interrupted.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command},
};

use octelium_api::core;
use serde_json::{Value, json};

use crate::{log_in, named, server::Server};

fn watch(server: &Server, arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut child = server.spawn(arguments, &[]);
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

fn line(out: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    line
}

fn interrupt(mut child: Child) -> i32 {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    child.wait().unwrap().code().unwrap()
}

fn put(server: &Server, name: &str) {
    server.put(core::User { metadata: Some(named(name)), ..Default::default() }.into());
}

#[test]
fn each_change_is_a_line_until_it_is_interrupted() {
    let server = Server::start();
    log_in(&server);
    put(&server, "ann");
    let (child, mut out) = watch(&server, &["get", "users", "--watch"]);
    assert!(line(&mut out).starts_with("EVENT  NAME  GROUPS"));
    assert!(line(&mut out).starts_with("ADDED  ann"));
    assert_eq!(server.run(&["delete", "user", "ann"]).code, 0);
    assert!(line(&mut out).starts_with("DELETED  ann"));
    assert_eq!(interrupt(child), 0);
}

#[test]
fn each_change_is_a_document_for_programs() {
    let server = Server::start();
    log_in(&server);
    let (child, mut out) = watch(&server, &["get", "user", "-w", "-o", "json"]);
    put(&server, "bob");
    let value: Value = serde_json::from_str(&line(&mut out)).unwrap();
    assert_eq!((&value["event"], &value["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("bob")));
    assert_eq!(interrupt(child), 0);
}

#[test]
fn nobody_reads_and_it_ends() {
    let server = Server::start();
    log_in(&server);
    put(&server, "ann");
    let (mut child, mut out) = watch(&server, &["get", "user", "ann", "--watch", "-o", "name"]);
    assert_eq!(line(&mut out), "ADDED ann\n");
    drop(out);
    assert_eq!(server.run(&["delete", "user", "ann"]).code, 0);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
