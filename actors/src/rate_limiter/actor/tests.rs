//! Over a real log of one node and real time.

use std::time::Duration;

use octelium_consensus::{Options, Replica};
use ractor::rpc::CallResult;

use super::{Msg, Report};
use crate::{
    Views,
    rate_limiter::{CounterId, Name, Refused, Rule},
    supervisor::Supervisor,
};

const PATIENT: Duration = Duration::from_secs(20);

struct Node {
    replica: Replica,
    views: Views,
    supervisor: Supervisor,
    directory: tempfile::TempDir,
}

fn rule(limit: u64, window: Duration) -> Rule {
    Rule { limit, window, revision: 1 }
}

fn counter(key: &str, rule: Rule) -> CounterId {
    CounterId::new("uid", "plugin", key, rule.window)
}

impl Node {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(directory: tempfile::TempDir) -> Self {
        let replica = Replica::open(Options::new(directory.path())).await.unwrap();
        let views = Views::new("example.com");
        let supervisor = Supervisor::start(views.clone(), &replica).await.unwrap();
        Self { replica, views, supervisor, directory }
    }

    async fn stop(self) -> tempfile::TempDir {
        self.supervisor.stop().await;
        self.replica.close().await.unwrap();
        self.directory
    }

    async fn report(&self) -> Report {
        match self.supervisor.rate_limiter().await.call(Msg::Inspect, None).await {
            Ok(CallResult::Success(report)) => report,
            _ => panic!("the actor answers"),
        }
    }

    /// Waits until the actor has nothing to do.
    async fn idle(&self) {
        while !self.report().await.idle {
            tokio::task::yield_now().await;
        }
    }
}

fn name() -> Name {
    Name::new(&"uid".into(), &"plugin".into(), "key")
}

#[tokio::test]
async fn requests_are_admitted_up_to_the_limit_and_again_after_the_window() {
    let node = Node::start().await;
    let limiter = &node.views.limiter;
    let rule = rule(5, Duration::from_millis(800));
    let id = counter("a", rule);
    let mut remaining = Vec::new();
    for _ in 0..5 {
        remaining.push(limiter.spend(id, rule, PATIENT, name).await.unwrap().remaining);
    }
    assert_eq!(remaining, [4, 3, 2, 1, 0]);
    let Err(Refused::Exceeded { retry_after }) = limiter.spend(id, rule, PATIENT, name).await else { panic!() };
    assert!(retry_after <= Duration::from_millis(900), "{retry_after:?}");
    assert!(limiter.try_spend(id, rule).is_none());
    // Another key is another counter.
    assert!(limiter.spend(counter("b", rule), rule, PATIENT, name).await.is_ok());
    let began = std::time::Instant::now();
    while limiter.spend(id, rule, PATIENT, name).await.is_err() {
        assert!(began.elapsed() < PATIENT, "nothing comes back");
        tokio::task::yield_now().await;
    }
    node.stop().await;
}

#[tokio::test]
async fn many_who_wait_get_exactly_the_limit() {
    let node = Node::start().await;
    let rule = rule(40, Duration::from_secs(60));
    let id = counter("a", rule);
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let limiter = node.views.limiter.clone();
            #[allow(clippy::disallowed_methods, reason = "awaited below")]
            tokio::spawn(async move { limiter.spend(id, rule, PATIENT, name).await })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => admitted += 1,
            Err(refused) => assert!(matches!(refused, Refused::Exceeded { .. })),
        }
    }
    assert_eq!(admitted, 40);
    node.stop().await;
}

#[tokio::test]
async fn an_idle_node_writes_nothing() {
    let node = Node::start().await;
    node.idle().await;
    let index = node.replica.state().index();
    let rule = rule(5, Duration::from_millis(200));
    node.views.limiter.spend(counter("a", rule), rule, PATIENT, name).await.unwrap();
    node.idle().await;
    let report = node.report().await;
    assert!(report.leases == 0 && report.asks <= 4, "{report:?}");
    let written = node.replica.state().index() - index;
    assert_eq!(written, report.asks);
    node.stop().await;
}

#[tokio::test]
async fn without_an_answer_a_request_is_told_so_in_time() {
    let node = Node::start().await;
    let limiter = node.views.limiter.clone();
    let _directory = node.stop().await;
    let rule = rule(5, Duration::from_secs(60));
    let began = std::time::Instant::now();
    let refused = limiter.spend(counter("a", rule), rule, Duration::from_millis(50), name).await;
    assert_eq!(refused, Err(Refused::Unavailable));
    assert!(began.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_restarted_actor_or_node_goes_on_without_the_leases_of_the_one_before() {
    let rule = rule(100, Duration::from_secs(60));
    let id = counter("a", rule);
    let node = Node::start().await;
    let mut admitted = 0;
    while node.views.limiter.spend(id, rule, PATIENT, name).await.is_ok() && admitted < 20 {
        admitted += 1;
    }
    let before = node.supervisor.rate_limiter().await;
    before.cast(Msg::Fail).unwrap();
    while node.supervisor.rate_limiter().await.get_id() == before.get_id() {
        tokio::task::yield_now().await;
    }
    assert!(node.views.limiter.spend(id, rule, PATIENT, name).await.is_ok());
    let node = Node::start_in(node.stop().await).await;
    let mut after = 0;
    while node.views.limiter.spend(id, rule, PATIENT, name).await.is_ok() {
        after += 1;
    }
    assert!(after > 40 && after + admitted < 100, "{after}");
    node.stop().await;
}
