//! Who may call which method, as one golden file. A method without a row fails.
//!
//! A difference that is meant is accepted with `UPDATE=1 cargo test -p octelium-node --test it access_matrix`.

use std::{env, fs};

use octelium_api::descriptor;
use octelium_control::{Token, TokenKind};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::support::{
    api::Api,
    cluster::Cluster,
    manifest::{merge, workload},
    soon,
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/access_matrix.txt");

const LEGEND: &str = "\
# Who may call which method of the control API: every method, called with an empty message.
#   login    refused until a valid access token is shown (UNAUTHENTICATED)
#   denied   refused by a policy, a scope or a gate (PERMISSION_DENIED)
#   allowed  reached, whatever the method itself answers
# Callers, all of them WORKLOAD Users:
#   anonymous             shows no token
#   expired, revoked      an access token that is over; one whose Session logged out
#   disabled              may do everything, and is disabled
#   no-policy             has no policy at all
#   read-only, full       octelium-api-read-only, octelium-api-full-access
#   allow-all, deny-all   the policies of these names
#   api:user, ListUser, service:*
#                         may do everything, in a Session with the scope `api:user`, `api:core.MainService/ListUser`, `service:*`
";

/// The kinds of callers, in the order of the columns; each is somebody else.
async fn callers(cluster: &Cluster) -> Vec<(&'static str, Api)> {
    let api = &cluster.api;
    let anonymous = Api::anonymous(cluster.https, &cluster.node.ca_file, "octelium-api.octelium.test");
    let with_policy = async |name: &str, policy: &str| {
        let more = json!({ "authorization": { "policies": [policy] } });
        anonymous.with(&api.caller_of(name, more).await)
    };
    // All may do everything, but for their scopes.
    let with_scope = async |name: &str, scope: &str| {
        let may = json!({ "authorization": { "policies": ["allow-all"] } });
        anonymous.with(&api.login(name, may, &[scope]).await.access)
    };

    let disabled = with_policy("disabled", "allow-all").await;
    let mut off = workload("disabled");
    merge(&mut off["spec"], json!({ "isDisabled": true, "authorization": { "policies": ["allow-all"] } }));
    api.apply(&[off]).await;

    let may = json!({ "authorization": { "policies": ["allow-all"] } });
    let revoked = api.login("revoked", may.clone(), &[]).await;
    api.log_out(&revoked.refresh).await.unwrap();

    let keys = cluster.node.control.token_keys();
    let late = api.caller_of("expired", may).await;
    let said = keys.verify(&late, TokenKind::Access, 1).unwrap();
    let expired = keys.mint(&Token { expires_unix: 1_000_000_000, ..said });

    vec![
        ("anonymous", anonymous.clone()),
        ("expired", anonymous.with(&expired)),
        ("revoked", anonymous.with(&revoked.access)),
        ("disabled", disabled),
        ("no-policy", anonymous.with(&api.caller("no-policy").await)),
        ("read-only", with_policy("read-only", "octelium-api-read-only").await),
        ("full", with_policy("full", "octelium-api-full-access").await),
        ("allow-all", with_policy("allow-all", "allow-all").await),
        ("deny-all", with_policy("deny-all", "deny-all").await),
        ("api:user", with_scope("scope-user", "api:user").await),
        ("ListUser", with_scope("scope-list-user", "api:core.MainService/ListUser").await),
        ("service:*", with_scope("scope-service", "service:*").await),
    ]
}

/// `service/method` of everything that the API declares, sorted.
fn methods() -> Vec<(String, String)> {
    let services = descriptor::pool().services();
    let mut all: Vec<_> = services
        .flat_map(|service| {
            let methods: Vec<_> =
                service.methods().map(|method| (service.full_name().to_owned(), method.name().to_owned())).collect();
            methods
        })
        .collect();
    all.sort();
    all
}

fn outcome(result: Result<(), Status>) -> &'static str {
    let Err(status) = result else { return "allowed" };
    // The door marks its refusals; a method that has been reached may answer with the same codes.
    let at_the_door = status.metadata().get("x-octelium-unauthorized").is_some_and(|value| value == "true");
    match (at_the_door, status.code()) {
        (true, Code::Unauthenticated) => "login",
        (true, Code::PermissionDenied) => "denied",
        (true, code) => panic!("another refusal at the door: {code} {status:?}"),
        (false, Code::Unavailable | Code::Internal | Code::Unknown) => panic!("the call failed: {status:?}"),
        (false, _) => "allowed",
    }
}

/// One column: the outcome of each method.
async fn column(api: Api, methods: Vec<(String, String)>) -> Vec<&'static str> {
    let mut calls = JoinSet::new();
    for (at, (service, method)) in methods.into_iter().enumerate() {
        let api = api.clone();
        calls.spawn(async move {
            let path = format!("/{service}/{method}");
            (at, outcome(soon(&path, api.knock(path.clone())).await))
        });
    }
    let mut outcomes = calls.join_all().await;
    outcomes.sort_unstable();
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn row<'a>(first: &str, cells: impl IntoIterator<Item = &'a str>) -> String {
    let mut row = format!("{first:<38}");
    for cell in cells {
        row.push_str(&format!("{cell:<11}"));
    }
    row.trim_end().to_owned()
}

fn table(methods: &[(String, String)], columns: &[(&'static str, Vec<&'static str>)]) -> String {
    let mut text = format!("{LEGEND}\n{}\n", row("", columns.iter().map(|(caller, _)| *caller)));
    let mut section = "";
    for (at, (service, method)) in methods.iter().enumerate() {
        if service != section {
            section = service;
            text.push_str(&format!("\n{service}\n"));
        }
        text.push_str(&row(&format!("  {method}"), columns.iter().map(|(_, outcomes)| outcomes[at])));
        text.push('\n');
    }
    text
}

/// Lines that only one of two texts has, those of the first with `-`.
fn difference(golden: &str, now: &str) -> String {
    let lines = |text: &str, other: &str, sign: char| -> String {
        let others: Vec<_> = other.lines().collect();
        text.lines().filter(|line| !others.contains(line)).map(|line| format!("{sign}{line}\n")).collect()
    };
    lines(golden, now, '-') + &lines(now, golden, '+')
}

#[tokio::test]
async fn every_method_is_open_to_whom_the_table_says() {
    let cluster = Cluster::start().await;
    let callers = callers(&cluster).await;
    let before = cluster.api.versions().await;
    let methods = methods();
    let mut columns = Vec::new();
    for (caller, api) in callers {
        columns.push((caller, column(api, methods.clone()).await));
    }
    assert_eq!(cluster.api.versions().await, before, "empty messages change nothing");

    let now = table(&methods, &columns);
    if env::var_os("UPDATE").is_some() {
        fs::write(GOLDEN, &now).unwrap();
    }
    let golden = fs::read_to_string(GOLDEN).unwrap_or_default();
    assert!(
        golden == now,
        "the access matrix differs:\n{}\nIf that is meant: UPDATE=1 cargo test -p octelium-node --test it access_matrix",
        difference(&golden, &now)
    );
}
