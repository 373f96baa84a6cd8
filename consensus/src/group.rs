//! The members of the group: who they are, how they are, and how they change. The leader keeps the right ones voting.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Weak,
    time::Duration,
};

use openraft::{
    BasicNode, ChangeMembers, Instant as _, ServerState,
    async_runtime::WatchReceiver,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
};
use prost::Message;
use tokio::time::{Instant, sleep};

use crate::{
    error::Error,
    form,
    machine::boot_time_ns,
    replica::{Inner, Replica},
    transport::{Method, wire},
    voters,
};

/// A group has no more members.
const MEMBERS_MAX: usize = 64;
/// An address is no longer.
const ADDRESS_BYTES_MAX: usize = 300;
/// Who was silent for longer isn't counted on.
const LIVE_WITHIN: Duration = Duration::from_secs(2);
/// Who lacks no more entries has caught up.
const CAUGHT_UP_WITHIN: u64 = 500;
/// A node says within this time how it is.
const STATUS_WITHIN: Duration = Duration::from_secs(1);
/// The leader looks after its members this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A leader that is to go looks for a successor so long.
const SUCCESSOR_WITHIN: Duration = Duration::from_secs(5);
/// A change of the members is asked for until this time has passed.
const CHANGE_WITHIN: Duration = Duration::from_secs(15);

/// A node of the group, as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its node id.
    pub id: u64,
    /// Where others reach it.
    pub address: String,
    /// It votes.
    pub is_voter: bool,
    /// It leads.
    pub is_leader: bool,
    /// It was told to finish its work.
    pub is_drained: bool,
    /// Log entries that it is known to lack.
    pub lag: u64,
    /// The last log entry that it is known to have.
    pub matched: u64,
    /// How long ago it answered; `None`: never.
    pub silent: Option<Duration>,
}

/// How a node is, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Of its program.
    pub version: String,
    /// The last log entry that it applied.
    pub applied: u64,
    /// The log entry whose state its requests are decided by.
    pub decided: u64,
    /// How long it has been running.
    pub up: Duration,
}

/// The name of the key in the state that says that this node is drained.
pub fn drained_key(id: u64) -> String {
    format!("drained/{id:016x}")
}

impl Replica {
    /// The members, as the leader sees them.
    ///
    /// # Errors
    /// [`Error::NotLeader`] if there is no leader to ask.
    pub async fn members(&self) -> Result<Vec<Member>, Error> {
        let here = self.members_here();
        let told = match here.not_leader {
            false => here,
            true => {
                let deadline = Instant::now() + LIVE_WITHIN;
                match self.ask_leader(Method::Members, &wire::Change { wanted: None }, deadline).await {
                    Some(Ok(answer)) => wire::message(&answer).map_err(|reason| Error::Failed { reason })?,
                    _ => return Err(Error::NotLeader),
                }
            }
        };
        if told.not_leader {
            return Err(Error::NotLeader);
        }
        Ok(told.members.into_iter().map(member).collect())
    }

    /// The members as the leader sees them, each with what it says of itself, if it answers at once. Without a leader nobody knows how
    /// they are, and who they are is told all the same.
    pub async fn statuses(&self) -> Vec<(Member, Option<Status>)> {
        let members = match self.members().await {
            Ok(members) => members,
            Err(_) => {
                let mut members = self.known_members();
                members.iter_mut().for_each(|member| member.is_leader = false);
                members
            }
        };
        let asking = members.into_iter().map(async |member| {
            let status = self.status_of(&member).await;
            (member, status)
        });
        futures_util::future::join_all(asking).await
    }

    async fn status_of(&self, member: &Member) -> Option<Status> {
        let told = match member.id == self.inner.node_id {
            true => self.status_here(),
            false => {
                let elsewhere = Some((member.id, BasicNode::new(&member.address)));
                let deadline = Instant::now() + STATUS_WITHIN;
                let answer = self.send(elsewhere, Method::Status, Vec::new(), deadline).await?.ok()?;
                wire::message(&answer).ok()?
            }
        };
        let wire::Status { version, applied, decided, up_seconds } = told;
        Some(Status { version, applied, decided, up: Duration::from_secs(up_seconds) })
    }

    pub(crate) fn status_here(&self) -> wire::Status {
        let applied = self.state().index();
        wire::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            applied,
            decided: self.inner.decided.get().map_or(0, |decided| decided()),
            up_seconds: self.inner.started.elapsed().as_secs(),
        }
    }

    /// Tells how to learn by which log entry requests are decided.
    pub fn decides_by(&self, decided: impl Fn() -> u64 + Send + Sync + 'static) {
        self.inner.decided.set(Box::new(decided)).ok(); // once is enough
    }

    /// Lets all that vote hear this node. What they say to it doesn't matter.
    pub async fn greet(&self) {
        let voters =
            self.known_members().into_iter().filter(|member| member.is_voter && member.id != self.inner.node_id);
        let greeting = voters.map(async |member| {
            let elsewhere = Some((member.id, BasicNode::new(&member.address)));
            self.send(elsewhere, Method::Status, Vec::new(), Instant::now() + STATUS_WITHIN).await
        });
        futures_util::future::join_all(greeting).await;
    }

    /// Tells how to answer what other nodes want to know of this one beside the log: a question and its answer, at most 64 KiB
    /// and 1 MiB, of whose meaning only those know who ask and answer.
    pub fn inspected_by(&self, answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) {
        self.inner.inspected.set(Box::new(answer)).ok(); // once is enough
    }

    pub(crate) fn inspect_here(&self, question: &[u8]) -> Vec<u8> {
        self.inner.inspected.get().map_or_else(Vec::new, |answer| answer(question))
    }

    /// Asks all members the same, but for those in `silent`; who doesn't answer at once is left out, and is there from then on.
    pub async fn inspect(&self, question: &[u8], silent: &mut BTreeSet<u64>) -> Vec<bytes::Bytes> {
        let members = self.known_members().into_iter().filter(|member| !silent.contains(&member.id));
        let asking = members.map(async |member| match member.id == self.inner.node_id {
            true => (member.id, Some(self.inspect_here(question).into())),
            false => {
                let elsewhere = Some((member.id, BasicNode::new(&member.address)));
                let deadline = Instant::now() + STATUS_WITHIN;
                let answer = self.send(elsewhere, Method::Inspect, question.to_vec(), deadline).await;
                (member.id, answer.and_then(Result::ok))
            }
        });
        let answers = futures_util::future::join_all(asking).await;
        silent.extend(answers.iter().filter(|(_, answer)| answer.is_none()).map(|(id, _)| *id));
        answers.into_iter().filter_map(|(_, answer)| answer).collect()
    }

    /// About what the time in the log is now, for showing it.
    pub fn about_log_time(&self) -> u64 {
        self.inner.clock.lock().about(boot_time_ns())
    }

    /// Waits until every node that the leader hears decides by the state at `index`.
    ///
    /// # Errors
    /// As those of [`Self::members`].
    pub async fn reached_everywhere(&self, index: u64) -> Result<(), Error> {
        loop {
            self.members().await?;
            let statuses = self.statuses().await;
            let is_late = |(member, status): &(Member, Option<Status>)| match status {
                Some(status) => status.decided < index,
                // Who can't be reached has no say; it refuses when its view has become too old.
                None => member.silent.is_some_and(|silent| silent <= LIVE_WITHIN),
            };
            if !statuses.iter().any(is_late) {
                return Ok(());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The members without asking anybody: who they are, not how.
    pub fn known_members(&self) -> Vec<Member> {
        self.members_here().members.into_iter().map(member).collect()
    }

    /// Lets a node follow the log, or changes its address. It gets a vote when it has caught up and a seat is free.
    ///
    /// # Errors
    /// [`Error::Members`] if that can't be, [`Error::NotLeader`] if there is no leader.
    pub async fn add_member(&self, id: u64, address: &str) -> Result<(), Error> {
        self.change(wire::Wanted::Add(form::Node { id, address: address.to_owned() })).await
    }

    /// Takes a node out of the group.
    ///
    /// # Errors
    /// As those of [`Self::add_member`].
    pub async fn remove_member(&self, id: u64) -> Result<(), Error> {
        self.change(wire::Wanted::Remove(id)).await
    }

    /// Lets another node lead, if this one does.
    ///
    /// # Errors
    /// As those of [`Self::add_member`].
    pub async fn step_down(&self) -> Result<(), Error> {
        match self.is_leader() {
            true => self.change(wire::Wanted::StepDown(self.inner.node_id)).await,
            false => Ok(()),
        }
    }

    /// Whether this node believes that it leads.
    pub fn is_leader(&self) -> bool {
        self.inner.raft.metrics().borrow_watched().state == ServerState::Leader
    }

    /// The node that leads, as far as this one knows.
    pub fn leader(&self) -> Option<u64> {
        self.inner.raft.metrics().borrow_watched().current_leader
    }

    pub(crate) fn node(&self, id: u64) -> Option<BasicNode> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.nodes().find(|(node, _)| **node == id).map(|(_, node)| node.clone())
    }

    /// Tells the members where this node is now, if they know another address. Until then the leader can't reach it, and it
    /// doesn't learn who leads.
    pub(crate) async fn announce_address(&self) {
        let (Some(peers), members) = (&self.inner.peers, self.known_members()) else { return };
        let Some(own) = members.iter().find(|member| member.id == self.inner.node_id) else { return };
        if own.address == peers.address {
            return;
        }
        let node = form::Node { id: own.id, address: peers.address.clone() };
        let request = wire::Change { wanted: Some(wire::Wanted::Add(node)) }.encode_to_vec();
        let telling = members.iter().filter(|member| member.id != own.id).map(async |member| {
            let elsewhere = Some((member.id, BasicNode::new(&member.address)));
            // Whoever leads obeys; the others answer that they don't.
            self.send(elsewhere, Method::Change, request.clone(), Instant::now() + STATUS_WITHIN).await
        });
        futures_util::future::join_all(telling).await;
    }

    async fn change(&self, wanted: wire::Wanted) -> Result<(), Error> {
        let deadline = Instant::now() + CHANGE_WITHIN;
        let request = wire::Change { wanted: Some(wanted.clone()) };
        loop {
            let changed = match self.is_leader() {
                true => self.change_here(wanted.clone()).await?,
                false => match self.ask_leader(Method::Change, &request, deadline).await {
                    Some(Ok(answer)) => wire::message(&answer).map_err(|reason| Error::Failed { reason })?,
                    // All of these changes can be made twice.
                    _ => wire::Changed { not_leader: true, refused: None },
                },
            };
            match changed {
                wire::Changed { refused: Some(reason), .. } => return Err(Error::Members { reason }),
                wire::Changed { not_leader: false, .. } => {
                    // Whoever asked sees it here; if not in time, it is done all the same.
                    self.confirm_now().await.ok();
                    return Ok(());
                }
                _ if Instant::now() >= deadline => return Err(Error::NotLeader),
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    pub(crate) fn members_here(&self) -> wire::Members {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log_index.unwrap_or_default();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let state = self.state();
        let members = metrics.membership_config.nodes().map(|(id, node)| {
            let is_self = *id == self.inner.node_id;
            let of_id = |ids: &BTreeMap<u64, Option<crate::raft::LogId>>| ids.get(id).copied().flatten();
            let matched = match is_self {
                true => Some(last),
                false => metrics.replication.as_ref().and_then(of_id).map(|log_id| log_id.index),
            };
            let answered = metrics.heartbeat.as_ref().and_then(|ids| ids.get(id).copied().flatten());
            let silent = if is_self { Some(Duration::ZERO) } else { answered.map(|answered| answered.elapsed()) };
            wire::Member {
                id: *id,
                address: node.addr.clone(),
                is_voter: voters.contains(id),
                is_leader: metrics.current_leader == Some(*id),
                matched: matched.unwrap_or_default(),
                silent_millis: silent.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
                leader_last: last,
                is_drained: state.key(&drained_key(*id)).is_some(),
            }
        });
        wire::Members { members: members.collect(), not_leader: metrics.state != ServerState::Leader }
    }

    /// Only if this node leads.
    pub(crate) async fn change_here(&self, wanted: wire::Wanted) -> Result<wire::Changed, Error> {
        if !self.is_leader() {
            return Ok(wire::Changed { not_leader: true, refused: None });
        }
        let alone = self.inner.changing.lock().await;
        let result = match wanted {
            wire::Wanted::Add(node) => self.add_here(node).await,
            wire::Wanted::Remove(id) => self.remove_here(id).await,
            wire::Wanted::StepDown(id) if id == self.inner.node_id => self.step_down_here().await,
            wire::Wanted::StepDown(_) => Ok(()),
        };
        drop(alone);
        match result {
            Ok(()) => Ok(wire::Changed { not_leader: false, refused: None }),
            Err(Error::NotLeader) => Ok(wire::Changed { not_leader: true, refused: None }),
            Err(Error::Members { reason }) => Ok(wire::Changed { not_leader: false, refused: Some(reason) }),
            Err(error) => Err(error),
        }
    }

    async fn add_here(&self, node: form::Node) -> Result<(), Error> {
        let form::Node { id, address } = node;
        let members = self.known_members();
        if address.is_empty() || address.len() > ADDRESS_BYTES_MAX {
            return refuse(format!("an address has 1 to {ADDRESS_BYTES_MAX} bytes, this one has {}", address.len()));
        }
        if let Some(other) = members.iter().find(|member| member.address == address && member.id != id) {
            return refuse(format!(
                "the address `{address}` is that of node {:016x}: give this node another one, or remove that one first",
                other.id
            ));
        }
        let nodes = BTreeMap::from([(id, BasicNode::new(&address))]);
        match members.iter().find(|member| member.id == id) {
            Some(member) if member.address == address => Ok(()),
            Some(_) => self.change_members(ChangeMembers::SetNodes(nodes)).await,
            None if members.len() >= MEMBERS_MAX => refuse(format!("a cluster has at most {MEMBERS_MAX} nodes")),
            None => self.change_members(ChangeMembers::AddNodes(nodes)).await,
        }
    }

    async fn remove_here(&self, id: u64) -> Result<(), Error> {
        let members = self.members_here().members;
        let Some(member) = members.iter().find(|member| member.id == id) else { return Ok(()) };
        if members.len() == 1 {
            return refuse(format!("node {id:016x} is the last one: stop it instead"));
        }
        if member.is_voter {
            let mut voters = self.voters_without(id).await?;
            if id == self.inner.node_id {
                // Who comes after removes it, and has to be a voter for that; the caller asks again.
                voters.insert(id);
                self.change_members(ChangeMembers::ReplaceAllVoters(voters)).await?;
                self.step_down_here().await?;
                return Err(Error::NotLeader);
            }
            self.change_members(ChangeMembers::ReplaceAllVoters(voters)).await?;
        }
        self.change_members(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await
    }

    /// Those who vote once this one doesn't. Who has just begun to lead has to hear from the others first.
    async fn voters_without(&self, id: u64) -> Result<BTreeSet<u64>, Error> {
        let until = Instant::now() + LIVE_WITHIN;
        loop {
            match voters::next(&self.seen(Some(id)), self.inner.node_id, self.seats()) {
                Some(voters) if !voters.contains(&id) => return Ok(voters),
                _ if Instant::now() < until => sleep(Duration::from_millis(100)).await,
                _ => {
                    return refuse(format!(
                        "node {id:016x} can't be removed now: too few of the other voters answer to decide it"
                    ));
                }
            }
        }
    }

    /// Asks the voter that is nearest to take over, and waits until this node doesn't lead any more.
    async fn step_down_here(&self) -> Result<(), Error> {
        let until = Instant::now() + SUCCESSOR_WITHIN;
        let successor = loop {
            match self.successor() {
                Some(successor) => break successor,
                None if Instant::now() < until => sleep(Duration::from_millis(100)).await,
                None => return refuse("no other voter could lead: wait until one has caught up".to_owned()),
            }
        };
        self.inner.raft.trigger().transfer_leader(successor).await.map_err(|error| self.stopped(error.to_string()))?;
        let id = self.inner.node_id;
        let gone = self
            .inner
            .raft
            .wait(Some(LIVE_WITHIN))
            .metrics(|metrics| metrics.current_leader.is_some_and(|leader| leader != id), "another node leads")
            .await;
        gone.map(drop).map_err(|_| Error::NotLeader)
    }

    /// The voter that could lead at once.
    fn successor(&self) -> Option<u64> {
        let members = self.members_here().members;
        let others = members.iter().filter(|member| {
            let may_lead = member.id != self.inner.node_id && member.is_voter && !member.is_drained;
            may_lead && is_live(member) && is_caught_up(member)
        });
        others.max_by_key(|member| member.matched).map(|member| member.id)
    }

    async fn change_members(&self, change: ChangeMembers<u64, BasicNode>) -> Result<(), Error> {
        tracing::info!(%change, "the members of the cluster change");
        match self.inner.raft.change_membership(change, true).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(error)) => match error {
                ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_) => Err(Error::NotLeader),
                ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
                ) => Err(Error::NotLeader),
                other => refuse(other.to_string()),
            },
            Err(error) => Err(self.stopped(error.to_string())),
        }
    }

    fn seats(&self) -> usize {
        self.inner.peers.as_ref().map_or(1, |peers| peers.seats)
    }

    /// The members as `voters.rs` wants to know them.
    fn seen(&self, leaving: Option<u64>) -> Vec<voters::Member> {
        let grace = self.inner.peers.as_ref().map_or(Duration::MAX, |peers| peers.voter_grace);
        let members = self.members_here().members;
        let seen = members.iter().map(|member| voters::Member {
            id: member.id,
            is_voter: member.is_voter,
            is_live: is_live(member),
            // Who never answered this leader may have just begun to be asked; `keep` waits for that.
            is_lost: member.silent_millis.is_none_or(|silent| Duration::from_millis(silent) > grace),
            is_caught_up: is_caught_up(member),
            is_drained: member.is_drained,
            is_leaving: leaving == Some(member.id),
        });
        seen.collect()
    }
}

/// As long as the replica lives: gives votes to those who can use them while this node leads.
pub async fn keep(inner: Weak<Inner>) {
    let mut leads_since: Option<Instant> = None;
    loop {
        sleep(LOOK_EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        let replica = Replica { inner };
        if !replica.is_leader() {
            leads_since = None;
            continue;
        }
        let since = *leads_since.get_or_insert_with(Instant::now);
        let grace = replica.inner.peers.as_ref().map_or(Duration::MAX, |peers| peers.voter_grace);
        let mut seen = replica.seen(None);
        if since.elapsed() <= grace {
            seen.iter_mut().for_each(|member| member.is_lost = false);
        }
        let own = replica.inner.node_id;
        let Ok(alone) = replica.inner.changing.try_lock() else { continue };
        let result = match voters::next(&seen, own, replica.seats()) {
            Some(voters) if voters.contains(&own) => {
                replica.change_members(ChangeMembers::ReplaceAllVoters(voters)).await
            }
            // A drained leader has others lead before it gives its vote away.
            Some(_) => replica.step_down_here().await,
            None if seen.iter().any(|member| member.id == own && member.is_drained) && seen.len() > 1 => {
                replica.step_down_here().await
            }
            None => Ok(()),
        };
        drop(alone);
        if let Err(error) = result {
            tracing::debug!(%error, "the members don't change now");
        }
    }
}

fn is_live(member: &wire::Member) -> bool {
    member.silent_millis.is_some_and(|silent| Duration::from_millis(silent) <= LIVE_WITHIN)
}

fn is_caught_up(member: &wire::Member) -> bool {
    member.matched + CAUGHT_UP_WITHIN >= member.leader_last
}

fn member(told: wire::Member) -> Member {
    Member {
        lag: told.leader_last.saturating_sub(told.matched),
        silent: told.silent_millis.map(Duration::from_millis),
        id: told.id,
        address: told.address,
        is_voter: told.is_voter,
        is_leader: told.is_leader,
        is_drained: told.is_drained,
        matched: told.matched,
    }
}

fn refuse<T>(reason: String) -> Result<T, Error> {
    Err(Error::Members { reason })
}

#[cfg(test)]
mod tests;
