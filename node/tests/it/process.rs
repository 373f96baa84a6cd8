//! The real binary: its words, its signals, and what it keeps through crashes, damage and a full disk.

use std::{fs, io::Write, net::TcpListener, path::Path};

use octelium_api::{control::ApplyRequest, core::ListUserOptions};
use serde_json::json;
use tonic::Code;

use crate::support::{
    api::{Api, by_name},
    http::{Connection, get},
    manifest::{self, secret, service, workload},
    process::{Process, command, run},
    soon, until,
};

#[tokio::test]
async fn check_tells_what_is_wrong_and_exits_with_1() {
    let fine = run(&["check", "--domain", "example.com"]).await;
    assert_eq!((fine.code, fine.errors.as_str()), (Some(0), ""), "{fine:?}");
    assert!(fine.out.starts_with("the settings are valid: domain example.com"), "{fine:?}");
    for (arguments, expected) in [
        (
            &["check"][..],
            "octelium-node: domain is not set: give --domain, OCTELIUM_NODE_DOMAIN or `domain` in the file\n",
        ),
        (&["check", "--domain", "Example.com"], "domain: `Example.com` is not a domain"),
        (
            &["check", "--domain", "a.com", "--listen", "localhost:80"],
            "listen: `localhost:80` must start with https:// or http://",
        ),
        (&["check", "--domain", "a.com", "--workers", "0"], "workers: 0 is not between 1 and 1024"),
        (&["check", "--domain", "a.com", "--head-timeout", "10"], "headTimeout: `10` is not a duration"),
        (&["check", "--domain", "a.com", "--resolve", "x"], "resolve: `x` must be"),
        (&["check", "--domain", "a.com", "--tls-key", "x"], "tlsCertificate and tlsKey belong together"),
        (&["check", "--config", "/no/such/file"], "reading /no/such/file"),
    ] {
        let exit = run(arguments).await;
        assert_eq!((exit.code, exit.out.as_str()), (Some(1), ""), "{arguments:?}: {exit:?}");
        assert!(exit.errors.contains(expected), "{arguments:?}: {}", exit.errors);
    }
    assert_eq!(run(&["check", "--no-such-flag"]).await.code, Some(2));
}

#[tokio::test]
async fn a_file_is_read_strictly_and_flags_and_environment_win_over_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.yaml");
    let path = file.to_str().unwrap();
    fs::write(&file, "domain: file.example\nworkers: 3\n").unwrap();
    assert_eq!(
        run(&["check", "--config", path]).await.out,
        "the settings are valid: domain file.example, 3 worker(s)\n"
    );
    let flag = run(&["check", "--config", path, "--domain", "flag.example"]).await;
    assert_eq!(flag.out, "the settings are valid: domain flag.example, 3 worker(s)\n");
    let mut with_environment = command(&["check", "--config", path]);
    let output = with_environment.env("OCTELIUM_NODE_DOMAIN", "env.example").output().await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "the settings are valid: domain env.example, 3 worker(s)\n");
    fs::write(&file, "domain: file.example\nworkesr: 3\n").unwrap();
    let exit = run(&["check", "--config", path]).await;
    assert_eq!(exit.code, Some(1));
    assert!(exit.errors.contains(path) && exit.errors.contains("workesr"), "{}", exit.errors);
}

/// The first five minutes: a cluster, a demo Service, 401, a token, 200, 403; and a second start that changes nothing.
#[tokio::test]
async fn the_quickstart_works_as_it_says_and_starts_again() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("octelium-data");
    let (mut before, mut shown) = (Vec::new(), String::new());
    for round in 0..2 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let out = directory.path().join(format!("out-{round}"));
        let mut quickstart =
            command(&["quickstart", "--port", &port.to_string(), "--data-dir", data.to_str().unwrap()]);
        quickstart
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(directory.path().join("errors")).unwrap());
        let mut child = quickstart.spawn().unwrap();
        let text = until("the quickstart's words", async || {
            assert!(
                child.try_wait().unwrap().is_none(),
                "{}",
                fs::read_to_string(directory.path().join("errors")).unwrap()
            );
            fs::read_to_string(&out).ok().filter(|text| text.contains("Ctrl-C stops the node"))
        })
        .await;
        let expected =
            if round == 0 { "Made a cluster in " } else { "Found what an earlier start made; nothing changed." };
        assert!(text.starts_with(expected), "{text}");

        let address = ([127, 0, 0, 1], port).into();
        let ca = data.join("ca.pem");
        let client: serde_json::Value =
            serde_json::from_slice(&fs::read(data.join("client/build-bot.json")).unwrap()).unwrap();
        let (id, secret) = (client["clientId"].as_str().unwrap(), client["clientSecret"].as_str().unwrap());
        assert!(round == 0 || shown == secret, "the same client as before");
        secret.clone_into(&mut shown);
        assert!(text.contains(id) && text.contains(secret) && text.contains(ca.to_str().unwrap()), "{text}");

        // What it says to type, byte for byte but for the program that sends it.
        let host = |name: &str| format!("{name}octelium.localhost:{port}");
        let root = fs::read_to_string(data.join("root.token")).unwrap();
        let api = Api::anonymous(address, &ca, "octelium-api.octelium.localhost").log_in(&root).await;
        let connect = async || Connection::tls_as(address, "demo.octelium.localhost", &ca).await;
        let mut connection = connect().await;
        assert_eq!(connection.call(&get(&host("demo."), "/")).await.short(), (401, "UNAUTHENTICATED"));
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let ask = crate::support::http::post(&host(""), "/oauth2/token", form);
        let granted = connection.call(&ask.header("Content-Type", "application/x-www-form-urlencoded")).await;
        let token = granted.json()["access_token"].as_str().unwrap().to_owned();
        let hello = connection.call(&get(&host("demo."), "/hello").token(&token)).await;
        assert_eq!((hello.status, &hello.json()["upstreamCredential"]), (200, &json!("accepted")));
        let delete = crate::support::http::Call::new("DELETE", &host("demo."), "/hello").token(&token);
        let denied = connection.call(&delete).await;
        assert_eq!(denied.short(), (403, "DENIED"));
        let log = data.join("access.log");
        until("the decision in the access log", async || {
            fs::read_to_string(&log)
                .unwrap()
                .lines()
                .find(|line| line.contains(denied.decision()) && line.contains("POLICY_MATCH"))
                .map(drop)
        })
        .await;

        // Log-ins are counted in their Credentials.
        let mut now = api.versions().await;
        now.retain(|(kind, ..)| *kind != "Credential");
        if round == 1 {
            assert_eq!(now, before, "a second start changes nothing");
        }
        before = now;
        drop((api, connection));
        let pid = child.id().unwrap().to_string();
        assert!(tokio::process::Command::new("kill").args(["-s", "INT", &pid]).status().await.unwrap().success());
        assert_eq!(soon("the end", child.wait()).await.unwrap().code(), Some(0), "Ctrl-C");
    }
    for (file, mode) in [("root.token", 0o600), ("client/build-bot.json", 0o600), ("sealing.key", 0o600), ("", 0o700)] {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(data.join(file)).unwrap().permissions().mode() & 0o777, mode, "{file}");
    }
}

fn crypto() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
}

#[tokio::test]
async fn signals_stop_it_in_order() {
    crypto();
    let directory = tempfile::tempdir().unwrap();
    for signal in ["INT", "TERM"] {
        let node = Process::start(directory.path(), &[], &[]).await.unwrap();
        // As soon as it says that it serves.
        let exit = node.signal(signal).await;
        assert_eq!(exit.code, Some(0), "{}", exit.errors);
        assert!(exit.errors.contains("stopped"), "{}", exit.errors);
    }
}

/// Two nodes on one data directory, or on one port, would take each other's work.
#[tokio::test]
async fn a_second_node_does_not_start_beside_the_first() {
    crypto();
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Process::start(directory.path(), &[], &[]).await.unwrap();
    let exit = Process::start(directory.path(), &[], &[]).await.err().expect("the directory is in use");
    assert_eq!(exit.code, Some(1));
    assert!(exit.errors.contains("is in use by another process"), "{}", exit.errors);
    let address = format!("http://{}", node.http);
    let exit = Process::start(other.path(), &["--listen", &address], &[]).await.err().expect("the port is in use");
    assert_eq!(exit.code, Some(1));
    assert!(exit.errors.contains(&format!("listening on {}", node.http)), "{}", exit.errors);
}

/// What was acknowledged is there after every crash, and what wasn't is there as a whole or not at all.
#[tokio::test]
async fn killed_in_the_middle_of_changes_it_keeps_all_that_it_acknowledged() {
    crypto();
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..5 {
        let node = Process::start(directory.path(), &[], &[]).await.unwrap();
        let api = node.api().await;
        let check = async || {
            let users = api.core().list_user(ListUserOptions::default()).await.unwrap().into_inner();
            assert!(users.list_response_meta.is_some_and(|meta| !meta.has_more), "one page holds all");
            let names: Vec<_> = users.items.into_iter().map(|user| user.metadata.unwrap().name).collect();
            for name in &acknowledged {
                assert!(names.contains(name), "round {round}: {name} was acknowledged and is lost");
            }
            // Each change made two.
            for name in names.iter().filter(|name| name.ends_with("-a")) {
                let twin = name.replace("-a", "-b");
                assert!(names.contains(&twin), "round {round}: half of a change");
            }
        };
        check().await;
        // Several callers at once, until the node is gone under them.
        let (acks, mut acked) = tokio::sync::mpsc::channel(1000);
        let callers: Vec<_> = (0..3)
            .map(|caller| {
                let (api, acks) = (api.clone(), acks.clone());
                tokio::spawn(async move {
                    for number in 0..1000 {
                        let name = format!("u{round}-{caller}-{number}");
                        let text = manifest::text(&[workload(&format!("{name}-a")), workload(&format!("{name}-b"))]);
                        if api.try_apply(&text).await.is_err() {
                            return;
                        }
                        acks.send(name).await.unwrap();
                    }
                })
            })
            .collect();
        drop(acks);
        for _ in 0..6 + round {
            let name = soon("an acknowledged change", acked.recv()).await.unwrap();
            acknowledged.extend([format!("{name}-a"), format!("{name}-b")]);
        }
        node.kill().await;
        while let Some(name) = acked.recv().await {
            acknowledged.extend([format!("{name}-a"), format!("{name}-b")]);
        }
        for caller in callers {
            caller.await.unwrap();
        }
    }
    let node = Process::start(directory.path(), &[], &[]).await.unwrap();
    let api = node.api().await;
    for name in &acknowledged {
        api.core().get_user(by_name(name)).await.unwrap();
    }
    assert_eq!(node.signal("TERM").await.code, Some(0));
}

/// Damage in the middle of the log is told, with what to do, and nothing is repaired by guessing.
#[tokio::test]
async fn a_damaged_log_is_not_started_from() {
    crypto();
    let directory = tempfile::tempdir().unwrap();
    let node = Process::start(directory.path(), &[], &[]).await.unwrap();
    node.api().await.apply(&[workload("alice")]).await;
    let data = node.data_dir.clone();
    assert_eq!(node.signal("TERM").await.code, Some(0));

    let log = data.join("raft/log");
    let segment = fs::read_dir(&log).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&segment).unwrap();
    let mut damaged = whole.clone();
    let at = damaged.iter().rposition(|byte| *byte != 0).unwrap() / 2;
    damaged[at] ^= 1;
    fs::write(&segment, &damaged).unwrap();
    let exit = Process::start(directory.path(), &[], &[]).await.err().expect("the log is damaged");
    assert_eq!(exit.code, Some(1));
    for part in [segment.to_str().unwrap(), "is damaged at byte", "restore the data directory from a backup"] {
        assert!(exit.errors.contains(part), "{part}: {}", exit.errors);
    }
    assert_eq!(fs::read(&segment).unwrap(), damaged, "left as it was found");

    // The same for a key that isn't the cluster's.
    fs::write(&segment, &whole).unwrap();
    let key = data.join("sealing.key");
    let own = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let exit = Process::start(directory.path(), &[], &[]).await.err().expect("the key is another");
    assert!(exit.errors.contains("put back the key that this data directory was made with"), "{}", exit.errors);

    fs::write(&key, own).unwrap();
    let node = Process::start(directory.path(), &[], &[]).await.unwrap();
    node.api().await.core().get_user(by_name("alice")).await.unwrap();
    assert_eq!(node.signal("TERM").await.code, Some(0));
}

/// A small disk of its own; unmounted when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None`: this machine doesn't let us mount.
    fn mount(mebibytes: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m,mode=0700");
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory.path()).stderr(std::process::Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("-l").arg(self.path()).status().ok();
    }
}

/// Where neither records nor the node's own words can be written, requests are served all the same, and with room again there are
/// records again.
#[tokio::test]
async fn a_full_disk_for_logs_loses_records_and_nothing_else() {
    crypto();
    let (Some(disk), data) = (Disk::mount(8), tempfile::tempdir().unwrap()) else {
        println!("skipped: a tmpfs can't be mounted here");
        return;
    };
    std::os::unix::fs::symlink(data.path(), disk.path().join("data")).unwrap();
    let node = Process::start(disk.path(), &["--metrics-listen", "127.0.0.1:0"], &[]).await.unwrap();
    let ask = async |path: &str| Connection::plain(node.http).await.call(&get("nobody", path)).await.status;
    let lost = async || {
        let figures = Connection::plain(node.metrics.unwrap()).await.call(&get("node", "/metrics")).await.text();
        let mut lines = figures.lines();
        let number = lines.find_map(|line| line.strip_prefix("octelium_access_log_lost_records_total "));
        number.unwrap().parse::<u64>().unwrap()
    };
    assert_eq!((ask("/before").await, lost().await), (404, 0));

    let ballast = disk.path().join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 4096]).is_ok() || file.write_all(&[1]).is_ok() {}
    drop(file);
    // Losses are told until that can't be written either, and after that there are more of them.
    let told = || fs::metadata(disk.path().join("errors")).unwrap().len();
    until("losses that can't be told", async || {
        let before = (lost().await, told());
        for _ in 0..20 {
            assert_eq!(ask("/during").await, 404);
        }
        until("the writer", async || (lost().await > before.0).then_some(())).await;
        (told() == before.1).then_some(())
    })
    .await;
    fs::remove_file(&ballast).unwrap();
    until("a record of what comes after", async || {
        assert_eq!(ask("/after").await, 404);
        fs::read_to_string(disk.path().join("access.log")).unwrap().contains("/after").then_some(())
    })
    .await;
    assert_eq!(node.signal("TERM").await.code, Some(0));
}

/// With a full disk nothing more is acknowledged; with room again everything that was is there.
#[tokio::test]
async fn a_full_disk_ends_the_node_and_loses_nothing() {
    crypto();
    let Some(disk) = Disk::mount(48) else {
        println!("skipped: a tmpfs can't be mounted here");
        return;
    };
    // Only the data is on the small disk.
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(disk.path(), directory.path().join("data")).unwrap();
    let node = Process::start(directory.path(), &[], &[]).await.unwrap();
    let api = node.api().await;
    api.apply(&[workload("first")]).await;

    let ballast = disk.path().join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    drop(file);
    let mut acknowledged = Vec::new();
    let mut refused = None;
    for number in 0..3000 {
        let name = format!("secret-{number}");
        // Large, so that what was reserved on the disk is soon used up.
        let changes = manifest::read(&secret(&name, &"x".repeat(200_000)).to_string()).unwrap();
        match api.control().apply(ApplyRequest { changes, ..ApplyRequest::default() }).await {
            Ok(_) => acknowledged.push(name),
            Err(status) => {
                refused = Some(status);
                break;
            }
        }
    }
    let status = refused.expect("the disk is full");
    // The answer and the node's end may overtake each other: then the connection was cut.
    assert!(matches!(status.code(), Code::Unavailable | Code::Unknown), "{status:?}");
    let exit = node.ended().await;
    assert_eq!(exit.code, Some(1), "{}", exit.errors);
    assert!(
        exit.errors.contains("the node can't go on") && exit.errors.contains("No space left on device"),
        "{}",
        exit.errors
    );
    let exit = Process::start(directory.path(), &[], &[]).await.err();
    assert!(exit.is_none_or(|exit| exit.errors.contains("No space left on device")), "started or said why not");

    fs::remove_file(&ballast).unwrap();
    let node = Process::start(directory.path(), &[], &[]).await.unwrap();
    let api = node.api().await;
    api.core().get_user(by_name("first")).await.unwrap();
    for name in &acknowledged {
        api.core().get_secret(by_name(name)).await.unwrap();
    }
    api.apply(&[service("svc", "http://a.example", json!({}))]).await;
    assert_eq!(node.signal("TERM").await.code, Some(0));
}
