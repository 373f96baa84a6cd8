//! Proposing and reading from any node: what the leader alone can do is asked of it.

use std::time::Duration;

use futures_util::FutureExt;
use openraft::{
    BasicNode, ReadPolicy,
    errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError},
    impls::ProgressResponder,
};
use prost::Message;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    command::{Ask, Command, Outcome},
    error::Error,
    machine::{self, boot_time_ns},
    raft::{Proposal, TypeConfig},
    replica::Replica,
    transport::{LinkError, Method, whole, wire},
};

/// A proposal and a read find a leader within this time, elections included, or say that there is none.
const LEADER_WITHIN: Duration = Duration::from_secs(10);
/// An ask for leases is worth no more after this time: what it gives would be used up.
const ASK_WITHIN: Duration = Duration::from_secs(1);
/// Before the next try.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Where to go instead.
type Elsewhere = Option<(u64, BasicNode)>;

impl Replica {
    /// Appends a command to the log, through the leader: on return it is durable and applied, and [`Self::state`] shows it
    /// unless this node can't follow just now.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::NotLeader`] changed nothing. After the others the outcome is unknown; a command with a
    /// request id can be proposed again.
    pub async fn propose(&self, mut command: Command) -> Result<Outcome, Error> {
        if self.inner.peers.is_some() && command.request_id.is_empty() && !command.writes.is_empty() {
            // So that it can be tried again when a leader is lost while it is under way.
            command.request_id = machine::request_id();
        }
        let proposal = Proposal::new(command)?;
        let _permit = self.inner.permits.acquire().await.map_err(|_| Error::Closed)?;
        let has_id = !proposal.command.request_id.is_empty();
        let proposed = Instant::now();
        let deadline = proposed + LEADER_WITHIN;
        let mut may_have_written = false;
        loop {
            let result = match self.propose_somewhere(&proposal, deadline).await {
                // Of this try that is so, and of an earlier one nobody knows.
                Err(Error::NotLeader) if may_have_written => Err(Error::Unknown),
                result => result,
            };
            may_have_written |= matches!(result, Err(Error::Unknown));
            if result.is_ok() {
                self.inner.figures.commit.observe(proposed.elapsed().as_secs_f64());
            }
            let is_worth_another = match &result {
                Err(Error::NotLeader) => true,
                Err(Error::Unknown) => has_id,
                _ => false,
            };
            if !is_worth_another || self.inner.peers.is_none() || Instant::now() + AGAIN_AFTER >= deadline {
                return result;
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    async fn propose_somewhere(&self, proposal: &Proposal, deadline: Instant) -> Result<Outcome, Error> {
        let elsewhere = match self.write(proposal.clone(), deadline).await {
            Ok(outcome) => return outcome,
            Err(elsewhere) => elsewhere,
        };
        let Some(answer) = self.send(elsewhere, Method::Propose, proposal.bytes.to_vec(), deadline).await else {
            return Err(Error::NotLeader);
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(LinkError::Unreachable { .. }) => return Err(Error::NotLeader),
            Err(LinkError::NoAnswer { .. }) => return Err(Error::Unknown),
        };
        let told: wire::Proposed = wire::message(&answer).map_err(|reason| Error::Failed { reason })?;
        let outcome = told.result()?;
        if let Outcome::Applied { index } = &outcome {
            // The change is done, whether or not this node sees it in time.
            timeout_at(deadline, self.reached(*index)).await.ok();
        }
        Ok(outcome)
    }

    /// Asks for leases of rate limits, through the leader, which stamps the ask with log time; `ask.at` is ignored. Not tried
    /// again: whoever asks does that by its own clock.
    ///
    /// # Errors
    /// As [`Self::propose`]. [`Error::NotLeader`] also as long as the leader hasn't applied an entry of its own.
    pub async fn ask(&self, ask: Ask) -> Result<Outcome, Error> {
        let asked = Instant::now();
        let outcome = self.ask_somewhere(ask, asked + ASK_WITHIN).await?;
        self.inner.figures.ask.observe(asked.elapsed().as_secs_f64());
        Ok(outcome)
    }

    async fn ask_somewhere(&self, ask: Ask, deadline: Instant) -> Result<Outcome, Error> {
        match timeout_at(deadline, self.ask_here(ask.clone())).await {
            Err(_) => return Err(Error::Unknown),
            Ok(Err(Error::NotLeader)) => {}
            Ok(other) => return other,
        }
        let proposal = Proposal::new(Command::of_ask(ask))?;
        let leader = self.leader().filter(|leader| *leader != self.inner.node_id);
        let elsewhere = leader.and_then(|leader| Some((leader, self.node(leader)?)));
        match self.send(elsewhere, Method::Propose, proposal.bytes.to_vec(), deadline).await {
            Some(Ok(answer)) => {
                wire::message::<wire::Proposed>(&answer).map_err(|reason| Error::Failed { reason })?.result()
            }
            Some(Err(LinkError::NoAnswer { .. })) => Err(Error::Unknown),
            Some(Err(LinkError::Unreachable { .. })) | None => Err(Error::NotLeader),
        }
    }

    /// Only if this node leads: stamps the ask in its own reign.
    pub(crate) async fn ask_here(&self, ask: Ask) -> Result<Outcome, Error> {
        let _permit = self.inner.permits.acquire().await.map_err(|_| Error::Closed)?;
        let raft = &self.inner.raft;
        let leader = raft.as_leader().map_err(|_| Error::NotLeader)?.to_committed_leader_id();
        let stamp = self.inner.clock.lock().stamp((leader.term, leader.node_id), boot_time_ns());
        let at = stamp.ok_or(Error::NotLeader)?;
        let proposal = Proposal::new(Command::of_ask(Ask { at, ..ask }))?;
        let (responder, answer) = ProgressResponder::complete_only();
        // In another reign than that of the stamp the log would take a time that may run ahead.
        let write = raft.write(proposal).with_leader(leader).responder(responder);
        write.await.map_err(|error| self.stopped(error.to_string()))?;
        match answer.await {
            Ok(Ok(response)) => Ok(response.data),
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(Error::NotLeader),
            Ok(Err(ClientWriteError::LogEntryDiscarded(_))) => Err(Error::Unknown),
            Ok(Err(error)) => Err(self.stopped(error.to_string())),
            Err(_) => Err(self.stopped("the consensus task ended".to_owned())),
        }
    }

    /// Only if this node leads.
    pub(crate) async fn propose_here(&self, proposal: Proposal) -> Result<Outcome, Error> {
        let _permit = self.inner.permits.acquire().await.map_err(|_| Error::Closed)?;
        let deadline = Instant::now() + LEADER_WITHIN;
        self.write(proposal, deadline).await.unwrap_or(Err(Error::NotLeader))
    }

    async fn write(&self, proposal: Proposal, deadline: Instant) -> Result<Result<Outcome, Error>, Elsewhere> {
        let writing = self.inner.raft.client_write(proposal);
        let written = match self.inner.peers {
            None => writing.await,
            // A leader without a quorum would wait for one for ever.
            Some(_) => match timeout_at(deadline, writing).await {
                Ok(written) => written,
                Err(_) => return Ok(Err(Error::Unknown)),
            },
        };
        match written {
            Ok(response) => Ok(Ok(response.data)),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => Err(self.elsewhere(to)),
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => Ok(Err(Error::Unknown)),
            Err(error) => Ok(Err(self.stopped(error.to_string()))),
        }
    }

    /// Makes sure that no other node can have led meanwhile. Returns the index of [`Self::state`], which then includes
    /// all that was acknowledged before the call.
    ///
    /// # Errors
    /// [`Error::NotLeader`], also when no quorum answers; [`Error::Behind`]; or the replica stopped.
    pub async fn confirm(&self) -> Result<u64, Error> {
        let deadline = Instant::now() + LEADER_WITHIN;
        loop {
            let result = self.confirm_once(deadline).await;
            // A connection that broke is found broken only by who uses it, and a leader is lost only for a while.
            let is_worth_another = matches!(result, Err(Error::NotLeader)) && self.inner.peers.is_some();
            if !is_worth_another || Instant::now() + AGAIN_AFTER >= deadline {
                return result;
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    /// As [`Self::confirm`], and asks once.
    pub(crate) async fn confirm_now(&self) -> Result<u64, Error> {
        self.confirm_once(Instant::now() + LEADER_WITHIN).await
    }

    async fn confirm_once(&self, deadline: Instant) -> Result<u64, Error> {
        let elsewhere = match self.linearize(deadline).await {
            Ok(result) => return result,
            Err(elsewhere) => elsewhere,
        };
        let Some(Ok(answer)) = self.send(elsewhere, Method::Confirm, Vec::new(), deadline).await else {
            return Err(Error::NotLeader);
        };
        let confirmed: wire::Confirmed = wire::message(&answer).map_err(|reason| Error::Failed { reason })?;
        let wanted = confirmed.index.ok_or(Error::NotLeader)?;
        match timeout_at(deadline, self.reached(wanted)).await {
            Ok(()) => Ok(self.state().index()),
            Err(_) => Err(Error::Behind { at: self.state().index(), wanted }),
        }
    }

    /// Only if this node leads.
    pub(crate) async fn confirm_here(&self) -> Result<u64, Error> {
        self.linearize(Instant::now() + LEADER_WITHIN).await.unwrap_or(Err(Error::NotLeader))
    }

    async fn linearize(&self, deadline: Instant) -> Result<Result<u64, Error>, Elsewhere> {
        // Boxed: it is large, and lives in futures of callers.
        let reading = self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex).boxed();
        match timeout_at(deadline, reading).await {
            Err(_) => Ok(Err(Error::NotLeader)),
            Ok(Ok(_)) => Ok(Ok(self.state().index())),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to)))) => Err(self.elsewhere(to)),
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) => Ok(Err(Error::NotLeader)),
            Ok(Err(error)) => Ok(Err(self.stopped(error.to_string()))),
        }
    }

    /// Waits until [`Self::state`] includes the log entry at `index`.
    pub async fn reached(&self, index: u64) {
        // The sender lives as long as this handle.
        self.watch().wait_for(|state| state.index() >= index).await.ok();
    }

    fn elsewhere(&self, to: ForwardToLeader<TypeConfig>) -> Elsewhere {
        to.leader_id.zip(to.leader_node).filter(|(id, _)| *id != self.inner.node_id)
    }

    /// `None`: there is nobody to ask.
    pub(crate) async fn send(
        &self,
        elsewhere: Elsewhere,
        method: Method,
        request: Vec<u8>,
        deadline: Instant,
    ) -> Option<Result<bytes::Bytes, LinkError>> {
        let (peers, (node, at)) = (self.inner.peers.as_ref()?, elsewhere?);
        let within = deadline.saturating_duration_since(Instant::now());
        Some(peers.link.call(node, &at.addr, method, whole(request), within).await)
    }

    /// Asks the leader, if it isn't this node.
    pub(crate) async fn ask_leader<M: Message>(
        &self,
        method: Method,
        request: &M,
        deadline: Instant,
    ) -> Option<Result<bytes::Bytes, LinkError>> {
        let leader = self.inner.raft.current_leader().await.filter(|id| *id != self.inner.node_id)?;
        let node = self.node(leader)?;
        self.send(Some((leader, node)), method, request.encode_to_vec(), deadline).await
    }
}
