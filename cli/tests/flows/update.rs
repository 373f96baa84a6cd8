//! `create config` and `update`: one thing changes, all else stays.

use octelium_api::{Kind, Object, core, meta};

use crate::{log_in, manifest, named, server::Server};

#[test]
fn a_config_is_made_and_replaced_byte_by_byte() {
    let server = Server::start();
    log_in(&server);
    let run = server.run_with(&["create", "cfg", "settings", "-f", "-"], &[], b"a: 1\n\xff");
    assert_eq!((run.code, run.out.as_str()), (0, "Config `settings` successfully created\n"), "{}", run.err);
    assert_eq!(server.config("settings"), b"a: 1\n\xff");
    let run = server.run(&["update", "conf", "settings", "--value", "b: 2", "-o", "yaml"]);
    assert!(run.out.contains("name: settings\n") && !run.out.contains("b: 2"), "{}{}", run.out, run.err);
    assert_eq!(server.config("settings"), b"b: 2");
    let run = server.run(&["get", "cfg", "settings"]);
    assert_eq!((run.code, run.out.contains("b: 2")), (0, false), "{}", run.out);
    let run = server.run(&["update", "config", "setting", "--value", "x"]);
    assert_eq!((run.code, run.err.contains("did you mean `settings`?")), (3, true), "{}", run.err);
    assert_eq!(server.run(&["del", "cfg", "settings"]).code, 0);
    let run = server.run_with(&["create", "config", "empty", "-f", "-"], &[], b"");
    assert_eq!((run.code, run.err.contains("is empty")), (1, true), "{}", run.err);
}

#[test]
fn a_secret_keeps_all_but_its_data() {
    let server = Server::start();
    log_in(&server);
    let metadata = meta::Metadata { display_name: "The key".into(), ..named("key") };
    server.put(core::Secret { metadata: Some(metadata), spec: Some(Default::default()), ..Default::default() }.into());
    let run = server.run(&["update", "secret", "key", "--value", "hunter2"]);
    assert_eq!((run.code, run.out.as_str()), (0, "Secret `key` successfully updated\n"), "{}", run.err);
    assert_eq!(server.secret("key"), b"hunter2");
    assert_eq!(server.object(Kind::Secret, "key").unwrap().metadata().unwrap().display_name, "The key");
    let (cert, key) = (manifest(&server, "a.crt", "the chain"), manifest(&server, "a.key", "the key"));
    let run = server.run(&["update", "sec", "key", "--cert", &cert, "--cert-key", &key, "-o", "json"]);
    assert!(run.out.contains("the chain") && !run.out.contains("the key"), "{}{}", run.out, run.err);
    assert_eq!(server.secret("key"), b"the key");
    let run = server.run(&["update", "secret", "none", "--value", "x"]);
    assert_eq!((run.code, run.out.as_str()), (3, ""));
}

#[test]
fn devices_and_authenticators_are_approved_or_rejected() {
    let server = Server::start();
    log_in(&server);
    server.put(core::Device { metadata: Some(named("linux-a1")), ..Default::default() }.into());
    server.put(core::Authenticator { metadata: Some(named("totp-a1")), ..Default::default() }.into());
    let state = || match server.object(Kind::Device, "linux-a1") {
        Some(Object::Device(device)) => device.spec.unwrap_or_default().state(),
        other => panic!("{other:?}"),
    };
    let run = server.run(&["update", "dev", "linux-a1"]);
    assert_eq!((run.code, run.out.as_str(), server.count("UpdateDevice")), (0, "", 0));
    assert!(run.err.contains("--approve or --reject"), "{}", run.err);
    let run = server.run(&["update", "dev", "linux-a1", "--approve"]);
    assert_eq!(run.out, "Device `linux-a1` successfully updated\n", "{}", run.err);
    assert_eq!(state(), core::device::spec::State::Active);
    assert_eq!(server.run(&["update", "device", "linux-a1", "--reject"]).code, 0);
    assert_eq!(state(), core::device::spec::State::Rejected);
    let run = server.run(&["update", "authn", "totp-a1", "--approve", "-o", "json"]);
    assert!(run.out.contains("ACTIVE"), "{}{}", run.out, run.err);
}

#[test]
fn what_somebody_else_changed_is_not_overwritten() {
    let server = Server::start();
    log_in(&server);
    assert_eq!(server.run(&["create", "secret", "key", "--value", "old"]).code, 0);
    server.put(core::Device { metadata: Some(named("linux-a1")), ..Default::default() }.into());
    server.race();
    for (arguments, what) in [
        (&["update", "secret", "key", "--value", "new"][..], "Secret key"),
        (&["update", "device", "linux-a1", "--approve"], "Device linux-a1"),
    ] {
        let run = server.run(arguments);
        assert_eq!((run.code, run.out.as_str()), (6, ""), "{}", run.err);
        let sentence = format!("error: {what} was changed by somebody else meanwhile; nothing was updated: ");
        assert!(run.err.contains(&sentence), "{}", run.err);
    }
    assert_eq!(server.secret("key"), b"old");
}

#[test]
fn what_a_lost_answer_may_have_said_is_told() {
    let server = Server::start();
    log_in(&server);
    for (arguments, code) in [
        (&["create", "secret", "key", "--value", "old"][..], 6),
        (&["update", "secret", "key", "--value", "new"], 6),
        (&["create", "config", "settings", "--value", "x"], 6),
        (&["create", "namespace", "prod"], 6),
        (&["create", "credential", "ci", "--user", "bot"], 6),
        (&["delete", "secret", "key"], 3),
    ] {
        server.lose_answers(1);
        let run = server.run(arguments);
        assert_eq!((run.code, run.out.as_str()), (code, ""), "{arguments:?}: {}", run.err);
        assert!(run.err.contains("an earlier attempt may have done it: "), "{arguments:?}: {}", run.err);
    }
    let run = server.run(&["delete", "secret", "key"]);
    assert_eq!((run.code, run.err.contains("earlier attempt")), (3, false), "{}", run.err);
}
