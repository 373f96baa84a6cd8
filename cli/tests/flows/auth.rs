//! `auth`: the Session's own Device and Authenticators.

use serde_json::Value;

use crate::{log_in, server::Server};

#[test]
fn a_server_without_these_calls_says_so() {
    let server = Server::start();
    log_in(&server);
    for arguments in [
        &["auth", "device"][..],
        &["auth", "dev", "register"],
        &["auth", "authn", "totp-a1"],
        &["auth", "create", "authenticator", "--type", "totp"],
        &["auth", "get", "authenticator"],
        &["auth", "delete", "authenticator", "totp-a1"],
    ] {
        let run = server.run(arguments);
        assert_eq!((run.code, run.out.as_str()), (1, ""), "{arguments:?}: {}", run.err);
        assert!(run.err.contains("not implemented by the server"), "{}", run.err);
    }
    assert_eq!(server.run(&["auth", "create", "authn", "--type", "fido"]).code, 2);
}

#[test]
fn authenticators_are_made_passed_and_deleted() {
    let server = Server::start();
    server.serve_authenticators();
    let run = server.run(&["auth", "get", "authn"]);
    assert_eq!(run.code, 4, "{}", run.err);
    log_in(&server);
    assert_eq!(server.run(&["auth", "get", "authn"]).out, "no Authenticator found\n");
    let value: Value = serde_json::from_str(&server.run(&["auth", "get", "authn", "-o", "json"]).out).unwrap();
    assert_eq!(value["items"], Value::Array(Vec::new()));
    let run = server.run(&["auth", "create", "authn", "--type", "totp", "--display-name", "Phone"]);
    assert_eq!(run.out, "Authenticator `totp-a1b2c3` successfully created\n", "{}", run.err);
    assert!(run.err.contains("once it is registered"), "{}", run.err);
    let run = server.run(&["auth", "get", "authenticator"]);
    assert!(run.out.contains("DISPLAY NAME") && run.out.contains("Phone") && run.out.contains("TOTP"), "{}", run.out);

    let run = server.run_with(&["auth", "authn", "totp-a1b2c3"], &[], b"12a456\n");
    assert_eq!((run.code, run.err.contains("expected the digits")), (1, true), "{}", run.err);
    let run = server.run_with(&["auth", "authn", "totp-a1b2c3"], &[], b"123456\n");
    assert_eq!((run.code, run.out.as_str()), (0, "Passed Authenticator totp-a1b2c3\n"), "{}", run.err);
    assert_eq!(server.run(&["get", "svc"]).code, 0, "the new tokens are kept");

    assert_eq!(server.run(&["auth", "delete", "authn", "totp-a1b2c3"]).out, "Authenticator totp-a1b2c3 deleted\n");
    assert_eq!(server.run(&["auth", "delete", "authn", "totp-a1b2c3"]).code, 3);
}

#[test]
fn this_machine_becomes_a_device() {
    let server = Server::start();
    server.serve_authenticators();
    log_in(&server);
    let run = server.run(&["auth", "device"]);
    assert_eq!((run.code, run.out.as_str()), (0, "This machine is registered as a Device\n"), "{}", run.err);
    assert_eq!(server.count("RegisterDevice"), 2);
}
