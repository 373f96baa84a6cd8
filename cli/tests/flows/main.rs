//! The real binary against a server in this process: what it sends, prints and exits with.

#![allow(clippy::disallowed_methods, reason = "tests are the edge of their program")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on may stop; clippy.toml exempts only the test functions")]

mod auth;
mod backup;
mod cluster;
mod clusters;
mod completion;
mod edit;
mod export;
mod prune;
mod rate_limit;
mod server;
mod update;
mod watch;

use std::{fs, path::Path};

use octelium_api::{Kind, core, meta};
use serde_json::{Value, json};

use crate::server::{DOMAIN, Server, TOKEN};

const SERVICE: &str = "\
kind: Service
metadata:
  name: api
spec:
  port: 8080
  mode: HTTP
  config:
    upstream:
      url: http://127.0.0.1:9000
";

/// Writes a manifest beside the configuration and answers its path.
fn manifest(server: &Server, name: &str, text: &str) -> String {
    let path = server.home().join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn log_in(server: &Server) {
    let run = server.run(&["login", "--auth-token", TOKEN]);
    assert_eq!((run.code, run.out.as_str()), (0, "Logged in to test.example as root\n"), "{}", run.err);
}

#[test]
fn a_session_serves_from_login_to_logout() {
    let server = Server::start();
    log_in(&server);
    let path = manifest(&server, "api.yaml", SERVICE);

    let run = server.run(&["apply", &path]);
    assert_eq!((run.code, run.out.as_str()), (0, "Service api.default created\n1 created\n"), "{}", run.err);
    let run = server.run(&["apply", &path]);
    assert_eq!((run.code, run.out.as_str()), (0, "Service api.default unchanged\nno changes (1 unchanged)\n"));
    manifest(&server, "api.yaml", &SERVICE.replace("8080", "8081"));
    let run = server.run(&["apply", &path]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.starts_with("Service api.default updated\n  @@ "), "{}", run.out);
    assert!(run.out.contains("-  port: 8080\n") && run.out.contains("+  port: 8081\n"), "{}", run.out);
    assert!(run.out.ends_with("1 updated\n"), "{}", run.out);

    let run = server.run(&["get", "svc", "api", "-o", "json"]);
    let value: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((&value["kind"], &value["spec"]["port"]), (&json!("Service"), &json!(8081)));
    let run = server.run(&["get", "service"]);
    assert!(run.out.contains("NAME") && run.out.contains("api.default") && run.out.contains("8081"), "{}", run.out);

    let run = server.run(&["rm", "svc", "api"]);
    assert_eq!((run.code, run.out.as_str()), (0, "Service api.default deleted\n"));
    let run = server.run(&["del", "svc", "api"]);
    assert_eq!((run.code, run.out.as_str()), (3, ""));
    assert!(run.err.contains("Service api.default: not found"), "{}", run.err);

    let run = server.run(&["logout"]);
    assert_eq!((run.code, run.out.as_str()), (0, "Logged out of test.example\n"), "{}", run.err);
    assert_eq!(server.sessions(), 0);
    let run = server.run(&["get", "svc"]);
    assert_eq!(run.code, 4);
    assert!(run.err.contains("not logged in to test.example: run `octeliumctl login"), "{}", run.err);
    assert_eq!(server.count("AuthenticateWithAuthenticationToken"), 1, "one Session served all commands");
    assert_eq!(server.run(&["logout"]).out, "Not logged in to test.example\n");
}

#[test]
fn a_wrong_manifest_sends_nothing() {
    let server = Server::start();
    fs::create_dir(server.home().join("all")).unwrap();
    manifest(&server, "all/1.yaml", SERVICE);
    let unknown =
        manifest(&server, "all/2.yaml", &SERVICE.replace("name: api", "name: other").replace("mode:", "mdoe:"));
    let wrong = manifest(&server, "all/3.yaml", "kind: User\nmetadata:\n  name: NotAName\nspec:\n  type: HUMAN\n");
    let run = server.run(&["apply", &server.home().join("all").display().to_string()]);
    assert_eq!((run.code, run.out.as_str()), (1, ""));
    assert!(run.err.contains(&format!("{unknown}:6:3: spec.mdoe: ")), "{}", run.err);
    assert!(run.err.contains(&format!("{wrong}:3:")), "{}", run.err);
    assert!(run.err.contains("error: ") && run.err.contains("nothing was sent"), "{}", run.err);
    assert_eq!(server.calls(), Vec::<String>::new(), "not even a login");
}

#[test]
fn a_refused_change_is_told_at_its_place() {
    let server = Server::start();
    log_in(&server);
    let text =
        format!("{SERVICE}---\n{}", SERVICE.replace("name: api", "name: bad").replace("127.0.0.1", "forbidden.test"));
    let path = manifest(&server, "two.yaml", &text);
    let run = server.run(&["apply", &path]);
    assert_eq!((run.code, run.out.as_str()), (1, ""));
    assert!(run.err.contains(&format!("{path}:19:12: spec.config.upstream.url: may not be used\n")), "{}", run.err);
    assert!(run.err.contains("error: refused; nothing was changed: invalid argument: "), "{}", run.err);
    assert_eq!(server.object(Kind::Service, "api.default"), None);
}

#[test]
fn a_dry_run_changes_nothing() {
    let server = Server::start();
    log_in(&server);
    let run = server.run_with(&["apply", "-", "--dry-run"], &[], SERVICE.as_bytes());
    assert_eq!(run.out, "Service api.default would be created\ndry run: 1 created\n", "{}", run.err);
    assert_eq!(server.object(Kind::Service, "api.default"), None);
    let run = server.run_with(&["apply", "-", "--dry-run", "-o", "json"], &[], SERVICE.as_bytes());
    let value: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((&value["dryRun"], &value["results"][0]["operation"]), (&json!(true), &json!("created")));
    assert_eq!(value["results"][0]["at"], json!("stdin:1:1"));
}

#[test]
fn wrong_arguments_exit_with_two() {
    let server = Server::start();
    for arguments in [
        &["frobnicate"][..],
        &["get"],
        &["get", "pod"],
        &["get", "svc", "-o", "toml"],
        &["get", "cc", "default"],
        &["get", "user", "--namespace", "prod"],
        &["delete", "svc"],
        &["delete", "cc", "default"],
        &["apply"],
        &["apply", "-", "--prune"],
        &["apply", ".", "--prune"],
        &["apply", "-", "--yes"],
        &["apply", "-", "--prune", "-l", "!team"],
        &["version", "--logout"],
        &["config", "view", "--logout"],
        &["completion", "bash", "--logout"],
        &["explain", "service", "--logout"],
        &["create", "credential", "ci", "--user", "bot", "--end-sessions"],
        &["apply", "x", "--include", "Pod"],
        &["get", "svc", "-o", "jsonpath={.items["],
        &["get", "svc", "-l", "no label"],
        &["delete", "region", "default"],
        &["lock", "service", "api"],
        &["edit", "user"],
        &["edit", "gateway", "x"],
        &["export", "session"],
        &["create", "config", "settings"],
        &["update", "secret", "key"],
        &["update", "device", "x", "--approve", "--reject"],
        &["backup", "-"],
        &["backup", "file"],
        &["config", "view", "--homedir", "mem"],
        &["create", "secret", "key"],
        &["create", "credential"],
        &["login", "--web"],
        &["login"],
        &["--domain", "not a domain", "get", "svc"],
    ] {
        let run = server.run(arguments);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{arguments:?}: {}", run.err);
        assert!(!run.err.is_empty());
    }
    assert_eq!(server.calls(), Vec::<String>::new());
}

#[test]
fn all_pages_are_listed_unless_one_is_named() {
    let server = Server::start();
    for name in ["ann", "bob", "cid", "dan", "eve"] {
        server.put(core::User { metadata: Some(named(name)), ..Default::default() }.into());
    }
    log_in(&server);
    assert_eq!(server.run(&["get", "users", "-o", "name"]).out, "ann\nbob\ncid\ndan\neve\n");
    assert_eq!(server.count("ListUser"), 3);
    assert_eq!(server.run(&["get", "users", "-o", "name", "--page", "3"]).out, "eve\n");
    assert_eq!(
        server.run(&["get", "users", "-o", "name", "--order-by-name", "--order-reverse"]).out,
        "eve\ndan\ncid\nbob\nann\n"
    );
    let run = server.run(&["get", "groups", "-o", "json"]);
    let value: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((&value["kind"], &value["items"]), (&json!("GroupList"), &json!([])));
    assert_eq!(server.run(&["get", "groups"]).out, "no Group found\n");
    let run = server.run(&["get", "user", "nobody"]);
    assert_eq!((run.code, run.out.as_str()), (3, ""));
    let run = server.run(&["get", "user", "bbo"]);
    assert_eq!((run.code, run.err.contains("did you mean `bob`?")), (3, true), "{}", run.err);
}

#[test]
fn the_cluster_configuration_is_one_object() {
    let server = Server::start();
    log_in(&server);
    let run = server.run(&["get", "clusterconfig"]);
    assert!(run.out.contains("kind: ClusterConfig\n"), "{}{}", run.out, run.err);
}

#[test]
fn a_secret_is_stored_byte_by_byte_and_not_shown() {
    let server = Server::start();
    log_in(&server);
    let run = server.run_with(&["create", "secret", "key", "-f", "-"], &[], b"hunter2\n\xff");
    assert_eq!((run.code, run.out.as_str()), (0, "Secret `key` successfully created\n"), "{}", run.err);
    assert_eq!(server.secret("key"), b"hunter2\n\xff");
    let run = server.run(&["create", "secret", "other", "--value", "hunter2", "-o", "yaml"]);
    assert!(run.out.contains("name: other\n") && !run.out.contains("hunter2"), "{}", run.out);
    let path =
        manifest(&server, "secret.yaml", "kind: Secret\nmetadata:\n  name: key\nspec: {}\ndata:\n  value: swordfish\n");
    let run = server.run(&["apply", &path]);
    assert_eq!((run.code, run.out.as_str()), (0, "Secret key updated\n  (new data)\n1 updated\n"), "{}", run.err);
    assert_eq!(server.secret("key"), b"swordfish");
    let run = server.run_with(&["create", "secret", "empty", "-f", "-"], &[], b"");
    assert_eq!(run.code, 1);
    assert!(run.err.contains("is empty"), "{}", run.err);
}

#[test]
fn a_certificate_and_its_key_are_kept_apart() {
    let server = Server::start();
    log_in(&server);
    let (cert, key) = (manifest(&server, "a.crt", "the chain"), manifest(&server, "a.key", "the key"));
    let run = server.run(&["create", "secret", "crt", "--cert", &cert, "--cert-key", &key, "-o", "json"]);
    assert!(run.out.contains("the chain") && !run.out.contains("the key"), "{}{}", run.out, run.err);
    assert_eq!(server.secret("crt"), b"the key");
}

#[test]
fn a_namespace_is_created_once() {
    let server = Server::start();
    log_in(&server);
    assert_eq!(server.run(&["create", "ns", "prod"]).out, "Namespace `prod` successfully created\n");
    let run = server.run(&["create", "ns", "prod"]);
    assert_eq!(run.code, 6);
    assert!(run.err.contains("already exists"), "{}", run.err);
}

#[test]
fn a_credential_comes_with_its_token() {
    let server = Server::start();
    log_in(&server);
    let run = server.run(&["create", "cred", "ci", "--user", "bot", "--expire-in", "30days"]);
    assert_eq!(run.out, "Credential `ci` successfully created\nAuthentication token: token-of-ci-1\n", "{}", run.err);
    let run = server.run(&["create", "cred", "ci", "--rotate", "-o", "json"]);
    let value: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(value, json!({ "authenticationToken": { "authenticationToken": "token-of-ci-2" } }));
    assert_eq!(server.replaced_with_sessions(), 0);
    assert_eq!(server.run(&["create", "cred", "ci", "--rotate", "--end-sessions"]).code, 0);
    assert_eq!(server.replaced_with_sessions(), 1);
    assert_eq!((server.count("CreateCredential"), server.count("GenerateCredentialToken")), (1, 3));
}

#[test]
fn an_ended_session_is_renewed_from_the_token_file() {
    let server = Server::start();
    let token = manifest(&server, "root.token", &format!("{TOKEN}\n"));
    server.configure("authTokenFile: root.token");
    make_private(&token);
    assert_eq!(server.run(&["get", "svc"]).code, 0);
    assert_eq!(server.run(&["get", "svc"]).code, 0);
    assert_eq!(server.count("AuthenticateWithAuthenticationToken"), 1);
    server.end_sessions();
    let run = server.run(&["get", "svc"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(
        (server.count("AuthenticateWithRefreshToken"), server.count("AuthenticateWithAuthenticationToken")),
        (1, 2)
    );
}

#[test]
fn a_rejected_access_token_is_refreshed() {
    let server = Server::start();
    log_in(&server);
    server.end_access_tokens();
    let run = server.run(&["get", "svc"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(
        (server.count("AuthenticateWithRefreshToken"), server.count("AuthenticateWithAuthenticationToken")),
        (1, 1)
    );
}

#[cfg(unix)]
fn make_private(path: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[cfg(unix)]
#[test]
fn a_token_file_that_others_may_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start();
    let token = manifest(&server, "root.token", TOKEN);
    server.configure("authTokenFile: root.token");
    fs::set_permissions(token, fs::Permissions::from_mode(0o644)).unwrap();
    let run = server.run(&["get", "svc"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("0644"), "{}", run.err);
    assert_eq!(server.calls(), Vec::<String>::new());
}

#[test]
fn a_given_access_token_is_used_as_it_is() {
    let server = Server::start();
    log_in(&server);
    for (arguments, environment) in [
        (&["logout"][..], &[("OCTELIUM_ACCESS_TOKEN", "access-1")][..]),
        (&["get", "svc", "--logout"], &[("OCTELIUM_ACCESS_TOKEN", "access-1")]),
        (&["get", "svc"], &[("OCTELIUM_ACCESS_TOKEN", "access-1"), ("OCTELIUM_LOGOUT", "true")]),
    ] {
        let run = server.run_with(arguments, environment, b"");
        assert_eq!((run.code, server.sessions()), (2, 1), "another Session would end: {}", run.err);
        assert!(run.err.contains("with OCTELIUM_ACCESS_TOKEN"), "{}", run.err);
    }
    fs::remove_file(server.home().join("octelium.db")).unwrap();
    let run = server.run_with(&["get", "svc"], &[("OCTELIUM_ACCESS_TOKEN", "access-1")], b"");
    assert_eq!(run.code, 0, "{}", run.err);
    let run = server.run_with(&["get", "svc"], &[("OCTELIUM_ACCESS_TOKEN", "access-7")], b"");
    assert_eq!(run.code, 4);
    assert!(run.err.contains("unauthenticated"), "{}", run.err);
    assert_eq!(server.count("Authenticate"), 1, "only the login");
    assert!(!server.home().join("octelium.db").exists());
}

#[test]
fn nothing_stays_after_logout_or_in_memory() {
    let server = Server::start();
    let environment = [("OCTELIUM_AUTH_TOKEN", TOKEN)];
    let run = server.run_with(&["get", "svc", "--logout"], &environment, b"");
    assert_eq!((run.code, server.sessions()), (0, 0), "{}", run.err);
    let ca = server.home().join("ca.pem").display().to_string();
    let address = server.address();
    let arguments = ["--homedir", "mem", "--domain", DOMAIN, "--address", &address, "--ca-file", &ca, "get", "svc"];
    let run = server.run_with(&arguments, &environment, b"");
    assert_eq!((run.code, server.sessions()), (0, 1), "{}", run.err);
    assert_eq!(server.run(&["logout"]).out, "Not logged in to test.example\n");
}

#[test]
fn scopes_narrow_the_session_and_a_second_login_ends_the_first() {
    let server = Server::start();
    log_in(&server);
    let run = server.run_with(
        &["login", "--auth-token", "-", "--scope", "api:core", "--scope", "api:user"],
        &[],
        TOKEN.as_bytes(),
    );
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!((server.sessions(), server.scopes()), (1, vec!["api:core".to_owned(), "api:user".to_owned()]));
    let run = server.run(&["login", "--auth-token", "wrong"]);
    assert_eq!(run.code, 4);
    assert!(run.err.contains("cannot log in: unauthenticated"), "{}", run.err);
    assert_eq!(server.sessions(), 1, "a failed login leaves the Session alone");
}

#[test]
fn a_server_without_a_leader_is_tried_again() {
    let server = Server::start();
    log_in(&server);
    server.unavailable(2);
    let path = manifest(&server, "api.yaml", SERVICE);
    let run = server.run(&["apply", &path]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(server.request_ids().len(), 1, "each attempt is the same request");
    assert_eq!(server.count("Apply"), 3);
}

#[test]
fn an_untrusted_server_gets_no_token() {
    let server = Server::start();
    let other = Server::start();
    fs::copy(other.home().join("ca.pem"), server.home().join("ca.pem")).unwrap();
    let run = server.run(&["login", "--auth-token", TOKEN]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("no trusted connection to octelium-api.test.example"), "{}", run.err);
    let run = server.run_with(&["login", "--auth-token", TOKEN], &[("OCTELIUM_INSECURE_TLS", "true")], b"");
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.err.contains("warning: OCTELIUM_INSECURE_TLS"), "{}", run.err);
    let run = server.run_with(&["get", "svc"], &[("OCTELIUM_INSECURE_TLS", "yes")], b"");
    assert_eq!(run.code, 2);
}

#[test]
fn who_is_logged_in_is_told() {
    let server = Server::start();
    let run = server.run(&["whoami"]);
    assert_eq!((run.code, run.out.as_str()), (4, ""));
    log_in(&server);
    assert_eq!(server.run(&["whoami"]).out, "Domain:    test.example\nUser:      root\n");
    let value: Value = serde_json::from_str(&server.run(&["whoami", "-o", "json"]).out).unwrap();
    assert_eq!(value["user"]["metadata"]["name"], json!("root"));
}

#[test]
fn every_kind_is_listed_by_every_name() {
    let server = Server::start();
    log_in(&server);
    for kind in [
        "cc",
        "clusterconfig",
        "service",
        "svc",
        "policy",
        "pol",
        "user",
        "usr",
        "session",
        "sess",
        "gateway",
        "gw",
        "secret",
        "sec",
        "credential",
        "cred",
        "group",
        "grp",
        "namespace",
        "ns",
        "device",
        "dev",
        "identityprovider",
        "idp",
        "region",
        "rgn",
        "config",
        "cfg",
        "conf",
        "authn",
    ] {
        let run = server.run(&["get", kind]);
        assert_eq!(run.code, 0, "{kind}: {}", run.err);
        let run = server.run(&["get", kind, "-o", "json"]);
        assert!(
            run.err.is_empty() && serde_json::from_str::<Value>(&run.out).is_ok(),
            "{kind}: {}{}",
            run.out,
            run.err
        );
    }
}

#[test]
fn labels_and_expressions_choose_what_is_shown() {
    let server = Server::start();
    log_in(&server);
    for (name, team) in [("ann", "red"), ("bob", "blue"), ("cid", "red")] {
        let labels = [("team".to_owned(), team.to_owned())].into();
        server
            .put(core::User { metadata: Some(meta::Metadata { labels, ..named(name) }), ..Default::default() }.into());
    }
    assert_eq!(server.run(&["get", "user", "-l", "team=red", "-o", "name"]).out, "ann\ncid\n");
    assert_eq!(server.run(&["get", "user", "-l", "team=green"]).out, "no User found\n");
    let run = server.run(&["get", "user", "-l", "team!=red", "-o", "json"]);
    let value: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(value["listResponseMeta"]["totalCount"], json!(1));
    assert_eq!(server.run(&["get", "user", "-o", "jsonpath={.items[*].metadata.name}"]).out, "ann bob cid\n");
    assert_eq!(server.run(&["get", "user", "ann", "-o", "jsonpath=$.metadata.labels.team"]).out, "red\n");
    let run = server.run(&["get", "user", "-o", "wide"]);
    assert!(run.out.contains("LABELS") && run.out.contains("team=blue"), "{}", run.out);
    let run = server.run(&["get", "user", "-o", "jsonpath={.items[}"]);
    assert!(run.err.contains("character"), "{}", run.err);
}

#[test]
fn what_is_locked_is_told_once() {
    let server = Server::start();
    log_in(&server);
    server.put(core::User { metadata: Some(named("ann")), ..Default::default() }.into());
    assert_eq!(server.run(&["lock", "user", "ann"]).out, "User ann locked\n");
    assert_eq!(server.run(&["lock", "user", "ann"]).out, "User ann is locked already\n");
    assert_eq!(server.run(&["unlock", "user", "ann"]).out, "User ann unlocked\n");
    assert_eq!(server.run(&["unlock", "user", "ann"]).out, "User ann is not locked\n");
    let run = server.run(&["lock", "user", "anne"]);
    assert_eq!((run.code, run.err.contains("did you mean `ann`?")), (3, true), "{}", run.err);
}

#[test]
fn a_session_is_ended_and_the_wait_is_told() {
    let server = Server::start();
    log_in(&server);
    server.put(core::Session { metadata: Some(named("ann-1")), ..Default::default() }.into());
    let run = server.run(&["session", "lock", "ann-1"]);
    assert_eq!(run.out, "Session ann-1 locked\n", "{}", run.err);
    let run = server.run(&["session", "unlock", "ann-1"]);
    assert_eq!(run.out, "Session ann-1 unlocked\n", "{}", run.err);
    let run = server.run(&["session", "revoke", "ann-1", "--wait"]);
    assert!(
        run.out.starts_with("Session ann-1 revoked; refused by every node that can be reached after "),
        "{}{}",
        run.out,
        run.err
    );
    assert!(server.object(Kind::Session, "ann-1").is_none());
    for verb in ["revoke", "lock"] {
        let run = server.run(&["session", verb, "ann-1"]);
        assert_eq!(run.code, 3, "{}", run.err);
    }
}

#[cfg(unix)]
#[test]
fn a_local_process_may_call_for_us() {
    let server = Server::start();
    let socket = server.socket();
    let environment = [("OCTELIUM_AUTH_PROXY_SOCKET", socket.as_str())];
    let run = server.run_with(&["get", "cc"], &environment, b"");
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(server.calls(), ["GetClusterConfig"], "no log-in of our own");
    for arguments in
        [&["login", "--auth-token", TOKEN][..], &["logout"], &["auth", "get", "authn"], &["get", "cc", "--logout"]]
    {
        let run = server.run_with(arguments, &environment, b"");
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{arguments:?}: {}", run.err);
        assert!(run.err.contains("OCTELIUM_AUTH_PROXY_SOCKET"), "{}", run.err);
    }
    let gone = [("OCTELIUM_AUTH_PROXY_SOCKET", "/nowhere/proxy.sock")];
    let run = server.run_with(&["get", "cc"], &gone, b"");
    assert_eq!(run.code, 7, "{}", run.err);
}

#[test]
fn an_assertion_is_refused_in_words() {
    let server = Server::start();
    let environment = [("OCTELIUM_AUTH_ASSERTION", "k8s")];
    let run = server.run_with(&["get", "svc"], &environment, b"");
    assert_eq!((run.code, run.err.contains("no log-in by assertion")), (4, true), "{}", run.err);
    let run = server.run_with(&["login"], &environment, b"");
    assert_eq!((run.code, run.err.contains("no log-in by assertion")), (2, true), "{}", run.err);
    let run = server.run_with(&["login", "--auth-token", TOKEN], &environment, b"");
    assert_eq!(run.code, 0, "a token given by hand counts first: {}", run.err);
}

#[test]
fn a_server_that_is_away_has_its_code() {
    let server = Server::start();
    log_in(&server);
    server.unavailable(100);
    let run = server.run(&["get", "svc"]);
    assert_eq!((run.code, run.out.as_str()), (7, ""), "{}", run.err);
}

#[test]
fn nothing_is_coloured_in_a_pipe() {
    let server = Server::start();
    for environment in [&[][..], &[("NO_COLOR", "1")], &[("TERM", "xterm-256color")]] {
        for arguments in [&["--help"][..], &["get", "pod"], &["get", "svc"], &["config", "get-clusters"]] {
            let run = server.run_with(arguments, environment, b"");
            assert!(
                !run.out.contains('\u{1b}') && !run.err.contains('\u{1b}'),
                "{arguments:?}: {}{}",
                run.out,
                run.err
            );
        }
    }
    assert!(server.run(&["--help"]).out.contains("Exit codes:"));
}

#[test]
fn some_commands_need_no_cluster() {
    let server = Server::start();
    fs::remove_file(server.home().join("config.yaml")).unwrap();
    let run = server.run(&["version", "-o", "json"]);
    let value: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(value["apiVersion"], json!("core/v1"));
    assert_eq!(value["releaseVersion"], json!(env!("CARGO_PKG_VERSION")));
    assert!(server.run(&["version"]).out.contains("apiVersion: core/v1\n"));
    let run = server.run(&["version", "--check"]);
    assert_eq!((run.code, run.err.contains("is not known")), (1, true), "{}", run.err);
    assert!(server.run(&["completion", "bash"]).out.contains("octeliumctl"));
    let run = server.run(&["get", "svc"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("no cluster is chosen"), "{}", run.err);
    assert!(!Path::new(&server.home().join("octelium.db.lock")).exists());
}

fn named(name: &str) -> meta::Metadata {
    meta::Metadata { name: name.into(), ..Default::default() }
}
