//! How the control plane bears many resources: `cargo bench -p octelium-node --bench scale`. Numbers of resources come from
//! the environment: SERVICES, USERS, SESSIONS. Prints figures; asserts nothing about time.
#![allow(clippy::unwrap_used, reason = "a measurement that can't go on may stop")]
#![allow(clippy::disallowed_methods, clippy::large_futures, dead_code, reason = "this is the edge of its program")]

mod support;

use std::{
    env, fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use octelium_api::{
    core::{ListServiceOptions, ListSessionOptions, ListUserOptions},
    meta::{CommonListOptions, ObjectReference},
};
use serde_json::{Value, json};
use support::{
    api::Api,
    cluster::DOMAIN,
    http::{Connection, get},
    manifest::{resource, service, workload},
    process::Process,
};

/// Users that have all the Sessions.
const OWNERS: usize = 1_000;
/// Documents of one change.
const AT_ONCE: usize = 2_500;
/// Log-ins under way.
const LOG_INS: usize = 32;

fn count(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Resident memory of the node, in KiB.
fn memory(process: &Process) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn report(what: &str, figure: impl std::fmt::Display) {
    println!("| {what} | {figure} |");
}

fn seconds(since: Instant) -> String {
    format!("{:.2} s", since.elapsed().as_secs_f64())
}

/// Applies documents in changes of bearable size.
async fn load(api: &Api, what: &str, documents: impl Iterator<Item = Value>) {
    let documents: Vec<_> = documents.collect();
    let began = Instant::now();
    for part in documents.chunks(AT_ONCE) {
        api.apply(part).await;
    }
    report(&format!("apply {} {what}, {AT_ONCE} in one change", documents.len()), seconds(began));
}

/// Median and worst of some durations, in milliseconds.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let milliseconds = |time: &Duration| time.as_secs_f64() * 1e3;
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    format!("median {:.1} ms, worst of {} {:.1} ms", milliseconds(&median), times.len(), milliseconds(&worst))
}

/// Sessions by authentication tokens of some Users, several at once.
async fn log_in_all(api: &Api, anonymous: &Api, sessions: usize) {
    let owners = OWNERS.min(sessions);
    let credentials = (0..owners).map(|n| {
        resource("Credential", &format!("owner-{n}"), json!({"type": "AUTH_TOKEN", "user": format!("user-{n}")}))
    });
    load(api, "Credentials", credentials).await;
    let mut tokens = Vec::with_capacity(owners);
    for n in 0..owners {
        match api.generate(&format!("owner-{n}")).await {
            octelium_api::core::credential_token::Type::AuthenticationToken(token) => {
                tokens.push(token.authentication_token)
            }
            other => panic!("{other:?}"),
        }
    }
    let began = Instant::now();
    let (tokens, next) = (Arc::new(tokens), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..LOG_INS)
        .map(|_| {
            let (tokens, next, anonymous) = (tokens.clone(), next.clone(), anonymous.clone());
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= sessions {
                        return;
                    }
                    anonymous.try_log_in(&tokens[n % tokens.len()], &[]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let rate = sessions as f64 / began.elapsed().as_secs_f64();
    report(&format!("{sessions} log-ins, {LOG_INS} at once"), format!("{} ({rate:.0}/s)", seconds(began)));
}

async fn list_all(api: &Api) {
    macro_rules! pages {
        ($what:literal, $list:ident($options:ident)) => {
            let began = Instant::now();
            let (mut page, mut items) = (0, 0);
            loop {
                let common = Some(CommonListOptions { page, items_per_page: 1000, ..CommonListOptions::default() });
                #[allow(clippy::needless_update, reason = "some kinds have more options than others")]
                let options = $options { common, ..$options::default() };
                let list = api.core().$list(options).await.unwrap().into_inner();
                items += list.items.len();
                page += 1;
                if !list.list_response_meta.unwrap().has_more {
                    break;
                }
            }
            report(&format!("list {items} {}, 1000 a page", $what), seconds(began));
        };
    }
    pages!("Services", list_service(ListServiceOptions));
    pages!("Users", list_user(ListUserOptions));
    pages!("Sessions", list_session(ListSessionOptions));
    let began = Instant::now();
    let user_ref = Some(ObjectReference { name: "user-7".to_owned(), ..ObjectReference::default() });
    let of_one = api.core().list_session(ListSessionOptions { user_ref, ..ListSessionOptions::default() }).await;
    let of_one = of_one.unwrap().into_inner().items.len();
    report(
        &format!("list the {of_one} Sessions of one User"),
        format!("{:.1} ms", began.elapsed().as_secs_f64() * 1e3),
    );
}

/// From the call until a request is decided by the change.
async fn change_one(api: &Api, process: &Process, services: usize) {
    let mut connection = Connection::plain(process.http).await;
    let (mut answered, mut in_effect) = (Vec::new(), Vec::new());
    for n in 0..100 {
        let name = format!("svc-{}", (n * 97) % services);
        let expected = if n % 2 == 0 { 503 } else { 401 };
        let document = service(&name, "http://127.0.0.1:9", json!({"isDisabled": n % 2 == 0}));
        let began = Instant::now();
        api.apply(&[document]).await;
        answered.push(began.elapsed());
        while connection.call(&get(&name, "/")).await.status != expected {}
        in_effect.push(began.elapsed());
    }
    report(&format!("apply one of {services} Services: answered"), spread(answered));
    report("… and a request is decided by it", spread(in_effect));
}

async fn delete_some(api: &Api) {
    let mut times = Vec::new();
    for n in 0..20 {
        let name = format!("gone-{n}");
        api.apply(&[workload(&name)]).await;
        let began = Instant::now();
        api.core().delete_user(support::api::deletion(&name)).await.unwrap();
        times.push(began.elapsed());
    }
    report("delete one User (references are searched for)", spread(times));
}

async fn measure(directory: &Path) {
    let (services, users, sessions) = (count("SERVICES", 10_000), count("USERS", 50_000), count("SESSIONS", 100_000));
    let process = Process::start(directory, &[], &[]).await.unwrap();
    let api = process.api().await;
    let anonymous = Api::anonymous(process.https, &process.ca_file(), &format!("octelium-api.{DOMAIN}"));
    println!("| what | figure |\n|---|---|");
    let empty = memory(&process);
    report("memory when empty", format!("{} MiB", empty >> 10));
    load(&api, "Services", (0..services).map(|n| service(&format!("svc-{n}"), "http://127.0.0.1:9", json!({})))).await;
    let with_services = memory(&process);
    report(
        "memory for each Service",
        format!("{:.1} KiB", (with_services.saturating_sub(empty)) as f64 / services as f64),
    );
    load(&api, "Users", (0..users).map(|n| workload(&format!("user-{n}")))).await;
    let with_users = memory(&process);
    report(
        "memory for each User",
        format!("{:.1} KiB", with_users.saturating_sub(with_services) as f64 / users as f64),
    );
    log_in_all(&api, &anonymous, sessions).await;
    let with_sessions = memory(&process);
    let each = with_sessions.saturating_sub(with_users) as f64 / sessions as f64;
    report("memory for each Session (growth)", format!("{each:.2} KiB"));
    list_all(&api).await;
    change_one(&api, &process, services).await;
    delete_some(&api).await;
    report("memory with all of it", format!("{} MiB", memory(&process) >> 10));

    let began = Instant::now();
    process.signal("TERM").await;
    report("stop", seconds(began));
    let began = Instant::now();
    let process = Process::start(directory, &[], &[]).await.unwrap();
    report("start again, until requests are served", seconds(began));
    report("memory after it", format!("{} MiB", memory(&process) >> 10));
    process.kill().await;
    let began = Instant::now();
    let process = Process::start(directory, &[], &[]).await.unwrap();
    report("start after kill -9", seconds(began));
    process.kill().await;
}

fn main() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(measure(directory.path()));
}
