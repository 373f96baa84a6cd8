use std::{collections::HashMap, future::Future, path::Path};

use octelium_api::Kind;
use tempfile::TempDir;

use super::*;
use crate::{
    Command, Options, Outcome, Peers, Start,
    testing::{command, create, user},
    transport::memory::Switch,
};

/// Nodes on one switch, each with a directory that outlives it.
#[derive(Default)]
struct Cluster {
    switch: Switch,
    directories: Vec<TempDir>,
    replicas: HashMap<usize, Replica>,
}

fn address(number: usize) -> String {
    format!("node-{number}")
}

impl Cluster {
    /// A founder and its first followers, all settled.
    async fn of(nodes: usize) -> Self {
        let mut this = Self::default();
        this.found().await;
        for _ in 1..nodes {
            this.join().await;
        }
        this.settled(nodes.saturating_sub(1) / 2 * 2 + 1).await;
        this
    }

    fn options(&self, number: usize, start: Start) -> Options {
        let peers = Peers {
            link: self.switch.link(&address(number)),
            address: address(number),
            seats: 5,
            voter_grace: Duration::from_secs(3),
        };
        let directory = self.directories[number].path();
        Options { snapshot_after: 40, segment_bytes: 4_096, peers: Some(peers), start, ..Options::new(directory) }
    }

    async fn open(&mut self, number: usize, start: Start) -> Replica {
        let replica = Replica::create(self.options(number, start)).await.unwrap();
        self.switch.plug(&address(number), &replica);
        self.replicas.insert(number, replica.clone());
        replica
    }

    async fn found(&mut self) {
        self.directories.push(tempfile::tempdir().unwrap());
        self.open(0, Start::Found).await.ready().await.unwrap();
    }

    /// A new node, taken in by whoever is first.
    async fn join(&mut self) -> usize {
        let number = self.directories.len();
        self.directories.push(tempfile::tempdir().unwrap());
        let new = self.open(number, Start::Join).await;
        let old = self.replicas.iter().find(|(of, _)| **of != number).unwrap().1.clone();
        old.add_member(new.node_id(), &address(number)).await.unwrap();
        within(new.ready()).await.unwrap();
        number
    }

    async fn stop(&mut self, number: usize) {
        self.switch.unplug(&address(number));
        self.replicas.remove(&number).unwrap().close().await.unwrap();
    }

    async fn restart(&mut self, number: usize) {
        let replica = self.open(number, Start::Join).await;
        within(replica.ready()).await.unwrap();
    }

    /// Waits until so many vote, and no change of that is under way: until it is done both the old and the new voters decide.
    async fn settled(&self, voters: usize) {
        until(async || {
            self.replicas.values().all(|replica| {
                let metrics = replica.inner.raft.metrics();
                let metrics = metrics.borrow_watched();
                let membership = metrics.committed_membership_config.membership();
                let is_whole = metrics.membership_config == metrics.committed_membership_config;
                is_whole && membership.get_joint_config().len() == 1 && membership.voter_ids().count() == voters
            })
        })
        .await;
    }

    async fn leader(&self) -> usize {
        let mut found = 0;
        until(async || {
            let confirmed = async |number: &usize| self.replicas[number].confirm_here().await.is_ok();
            for number in self.replicas.keys() {
                if confirmed(number).await {
                    found = *number;
                    return true;
                }
            }
            false
        })
        .await;
        found
    }

    /// Waits until all nodes have the same state.
    async fn equal(&self) {
        until(async || {
            let states: Vec<_> = self.replicas.values().map(|replica| replica.state()).collect();
            states.iter().all(|state| state.index() == states[0].index())
        })
        .await;
        let hashes: Vec<_> = self.replicas.values().map(|replica| replica.state().hash()).collect();
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "equal logs give equal states");
    }
}

#[track_caller]
fn within<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let result = tokio::time::timeout(Duration::from_secs(30), future).await;
        result.unwrap_or_else(|_| panic!("{caller}: it doesn't happen within 30 seconds"))
    }
}

#[track_caller]
fn until(mut condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    within(async move {
        while !condition().await {
            sleep(Duration::from_millis(5)).await;
        }
    })
}

fn put(name: &str) -> Command {
    command(vec![create(user(&format!("uid-{name}"), name, "v1"))])
}

fn has(replica: &Replica, name: &str) -> bool {
    replica.state().by_name(Kind::User, name).is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_vote_and_each_takes_changes_and_shows_them_at_once() {
    let cluster = Cluster::of(3).await;
    for (number, replica) in &cluster.replicas {
        let name = format!("by-{number}");
        assert!(matches!(within(replica.propose(put(&name))).await, Ok(Outcome::Applied { .. })));
        assert!(has(replica, &name), "the state of who proposed shows it");
        for other in cluster.replicas.values() {
            within(other.confirm()).await.unwrap();
            assert!(has(other, &name), "a confirmed read sees what was acknowledged");
        }
    }
    cluster.equal().await;
    let members = cluster.replicas[&1].members().await.unwrap();
    assert_eq!(members.iter().filter(|member| member.is_leader).count(), 1);
    assert!(members.iter().all(|member| member.is_voter && member.silent.is_some()));

    let index = cluster.replicas[&0].state().index();
    for replica in cluster.replicas.values() {
        replica.decides_by({
            let replica = replica.clone();
            move || replica.state().index()
        });
    }
    within(cluster.replicas[&2].reached_everywhere(index)).await.unwrap();
    let statuses = within(cluster.replicas[&2].statuses()).await;
    assert!(statuses.iter().all(|(_, status)| status.as_ref().is_some_and(|status| status.decided >= index)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_the_leader_loses_nothing_and_a_minority_decides_nothing() {
    let cluster = Cluster::of(3).await;
    let old = cluster.leader().await;
    within(cluster.replicas[&old].propose(put("before"))).await.unwrap();
    cluster.switch.cut(&address(old));
    // Asked of the one that is cut off: it may enter its log, and is never acknowledged.
    let lost = tokio::spawn({
        let replica = cluster.replicas[&old].clone();
        async move { replica.propose(put("lost")).await }
    });
    let rest: Vec<_> =
        cluster.replicas.iter().filter(|(number, _)| **number != old).map(|(_, replica)| replica).collect();
    until(async || rest[0].propose(put("after")).await.is_ok()).await;
    assert!(has(rest[0], "before") && has(rest[0], "after"));
    assert!(within(lost).await.unwrap().is_err());
    assert!(cluster.replicas[&old].confirm_now().await.is_err(), "who is cut off confirms nothing");

    cluster.switch.heal();
    within(cluster.replicas[&old].reached(rest[0].state().index())).await;
    cluster.equal().await;
    assert!(has(&cluster.replicas[&old], "after") && !has(&cluster.replicas[&old], "lost"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_has_one_effect_through_whichever_node() {
    let cluster = Cluster::of(3).await;
    let request = |replica: Replica| async move {
        within(replica.propose(Command { request_id: "r1".to_owned(), ..put("once") })).await.unwrap()
    };
    let first = request(cluster.replicas[&0].clone()).await;
    for replica in cluster.replicas.values() {
        assert_eq!(request(replica.clone()).await, first);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_late_gets_a_snapshot_and_who_restarts_goes_on() {
    let mut cluster = Cluster::of(1).await;
    for number in 0..200 {
        within(cluster.replicas[&0].propose(put(&format!("n{number}")))).await.unwrap();
    }
    cluster.join().await;
    cluster.join().await;
    cluster.settled(3).await;
    assert!(cluster.replicas.values().all(|replica| has(replica, "n0") && has(replica, "n199")));
    for number in 0..3 {
        cluster.stop(number).await;
        let any = cluster.replicas.values().next().unwrap().clone();
        let name = format!("without-{number}");
        until(async || any.propose(put(&name)).await.is_ok()).await;
        drop(any);
        cluster.restart(number).await;
        within(cluster.replicas[&number].confirm()).await.unwrap();
        assert!(has(&cluster.replicas[&number], &name));
    }
    cluster.equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_voter_is_replaced_and_members_come_and_go() {
    let mut cluster = Cluster::of(4).await;
    let leader = cluster.leader().await;
    let members = within(cluster.replicas[&leader].members()).await.unwrap();
    let learner = members.iter().find(|member| !member.is_voter).unwrap().id;
    let victim = (0..4).find(|number| {
        let id = cluster.replicas[number].node_id();
        *number != leader && id != learner
    });
    let victim = victim.unwrap();
    let victim_id = cluster.replicas[&victim].node_id();
    cluster.stop(victim).await;
    until(async || {
        let members = cluster.replicas[&leader].members().await.unwrap_or_default();
        members.iter().any(|member| member.id == learner && member.is_voter)
            && members.iter().any(|member| member.id == victim_id && !member.is_voter)
    })
    .await;
    // Any node can be asked; the leader itself can be taken out.
    let other = *cluster.replicas.keys().find(|number| **number != leader).unwrap();
    let asked = cluster.replicas[&other].clone();
    within(asked.remove_member(victim_id)).await.unwrap();
    let leader_id = cluster.replicas[&leader].node_id();
    within(asked.remove_member(leader_id)).await.unwrap();
    let members = within(asked.members()).await.unwrap();
    assert!(members.iter().all(|member| member.id != victim_id && member.id != leader_id), "{members:?}");
    within(asked.propose(put("two are left"))).await.unwrap();

    let last = members.iter().find(|member| member.id != asked.node_id()).unwrap().id;
    let refused = within(asked.add_member(9, &members[0].address)).await.unwrap_err().to_string();
    assert!(refused.contains("is that of node"), "{refused}");
    within(asked.remove_member(last)).await.unwrap();
    let refused = within(asked.remove_member(asked.node_id())).await.unwrap_err().to_string();
    assert!(refused.contains("is the last one"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_hands_over_when_asked() {
    let cluster = Cluster::of(3).await;
    let old = cluster.leader().await;
    until(async || cluster.replicas[&old].step_down().await.is_ok()).await;
    until(async || cluster.leader().await != old).await;
    // Who has just begun to lead has heard from nobody yet, and is asked to take one out all the same.
    let old_id = cluster.replicas[&old].node_id();
    within(cluster.replicas[&cluster.leader().await].remove_member(old_id)).await.unwrap();
    let other = *cluster.replicas.keys().find(|number| **number != old).unwrap();
    within(cluster.replicas[&other].propose(put("through another"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_directory_is_enough_to_begin_anew() {
    let mut cluster = Cluster::of(3).await;
    let key = |name: &str| command(vec![crate::Write::PutKey { name: name.to_owned(), sealed: vec![1] }]);
    for command in [put("kept"), key("old/a"), key("kept")] {
        within(cluster.replicas[&0].propose(command)).await.unwrap();
    }
    within(cluster.replicas[&1].confirm()).await.unwrap();
    let options = cluster.options(1, Start::Join);
    let refused = crate::recover(&options, |_| false).await.unwrap_err().to_string();
    assert!(refused.contains("in use by another process"), "{refused}");
    for number in 0..3 {
        cluster.stop(number).await;
    }
    let recovered = within(crate::recover(&options, |name| name.starts_with("old/"))).await.unwrap();
    assert_eq!(recovered.members, 3);

    cluster.restart(1).await;
    let survivor = cluster.replicas[&1].clone();
    assert!(
        has(&survivor, "kept") && survivor.state().key("kept").is_some() && survivor.state().key("old/a").is_none()
    );
    assert_eq!(survivor.known_members().len(), 1);
    within(survivor.propose(put("anew"))).await.unwrap();
    let joined = cluster.join().await;
    assert!(has(&cluster.replicas[&joined], "anew"));

    let empty = tempfile::tempdir().unwrap();
    let refused = crate::recover(&Options::new(empty.path()), |_| false).await.unwrap_err().to_string();
    assert!(refused.contains("holds no log"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_node_would_send_is_refused_and_changes_nothing() {
    let cluster = Cluster::of(1).await;
    let replica = &cluster.replicas[&0];
    let before = replica.state().hash();
    for method in Method::ALL {
        for bytes in [&b"\xff"[..], b"", b"\x0a\x00", &[0x0a; 300], b"\x0a\x06\x08\x7f\x10\x05\x18\x01"] {
            let parts = vec![Ok(bytes::Bytes::copy_from_slice(bytes))];
            let request = Box::pin(futures_util::stream::iter(parts));
            let answer = within(replica.answer(7, method, request)).await;
            assert!(answer.is_err(), "{method:?} {bytes:?}: {answer:?}");
        }
    }
    // Nor from a member.
    for bytes in [&b"\xff"[..], &[0x0a; 300]] {
        let request = Box::pin(futures_util::stream::iter(vec![Ok(bytes::Bytes::copy_from_slice(bytes))]));
        let answer = within(replica.answer(replica.node_id(), Method::Propose, request)).await.unwrap();
        let told: wire::Proposed = wire::message(&answer).unwrap();
        assert!(matches!(told.result(), Err(Error::Invalid { .. })));
    }
    let forged = wire::ask_vote(&openraft::raft::VoteRequest::new(crate::raft::Vote::new(99, 8), None));
    let request = Box::pin(futures_util::stream::iter(vec![Ok(forged.into())]));
    let error = within(replica.answer(7, Method::Vote, request)).await.unwrap_err().to_string();
    assert!(error.contains("speaks in the name of"), "{error}");
    let endless = futures_util::stream::repeat_with(|| Ok(bytes::Bytes::from_static(&[0; 65_536])));
    assert!(within(replica.answer(7, Method::Change, Box::pin(endless))).await.is_err());
    assert_eq!(replica.state().hash(), before);
    assert!(Path::new(cluster.directories[0].path()).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_finds_no_way_looks_for_another() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let (other, replica) = cluster.replicas.iter().find(|(number, _)| **number != leader).unwrap();
    cluster.switch.cut(&address(*other));
    let (read, ()) = tokio::join!(within(replica.confirm()), async {
        // One after the other: by the end of the last the first try of the other read has failed, too.
        for _ in 0..5 {
            assert!(replica.confirm_now().await.is_err());
        }
        cluster.switch.heal();
    });
    read.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_try_may_have_done_is_not_denied() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let (other, replica) = cluster.replicas.iter().find(|(number, _)| **number != leader).unwrap();
    cluster.switch.lose_answers(&address(*other));
    let (proposed, ()) = tokio::join!(within(replica.propose(put("done"))), async {
        until(async || has(&cluster.replicas[&leader], "done")).await;
        cluster.switch.cut(&address(*other));
    });
    assert!(matches!(proposed, Err(Error::Unknown)), "{proposed:?}");
}
