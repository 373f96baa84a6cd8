//! What others ask of this node. Whoever calls has made sure that `from` is the node that asks.

use std::{
    io::{self, Read},
    path::Path,
};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use openraft::Snapshot;
use prost::Message;
use tokio::sync::mpsc;

use super::{Arriving, Method, wire};
use crate::{
    error::Error,
    machine,
    raft::{Proposal, SnapshotMeta, Vote},
    replica::Replica,
    snapshot,
    state::State,
};

/// What errors call a snapshot that comes from another node.
const ARRIVING: &str = "a snapshot from the leader";

impl Replica {
    /// Answers a request of the node `from`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the request is malformed or not that node's to make; else what keeps this node from answering.
    pub async fn answer(&self, from: u64, method: Method, request: Arriving) -> Result<Bytes, Error> {
        self.is_for(from, method)?;
        let answer = match method {
            Method::Snapshot => self.answer_snapshot(from, request).await?,
            _ => {
                let request = collect(request, method.bytes_max()).await?;
                self.answer_whole(from, method, request).await?
            }
        };
        Ok(answer.into())
    }

    /// Raft itself deals with whoever sends its messages, since a node can be late to learn of others. What changes or tells
    /// of the cluster is for its members: one that was removed has a good certificate for a while.
    fn is_for(&self, from: u64, method: Method) -> Result<(), Error> {
        let is_raft = match method {
            Method::Append | Method::Vote | Method::PreVote | Method::Snapshot | Method::TransferLeader => true,
            Method::Propose | Method::Confirm | Method::Change | Method::Members | Method::Status | Method::Inspect => {
                false
            }
        };
        let members = self.known_members();
        if is_raft || members.is_empty() || members.iter().any(|member| member.id == from) {
            return Ok(());
        }
        Err(invalid(format!("node {from:016x} is no member of this cluster: it was removed, or is yet to join")))
    }

    async fn answer_whole(&self, from: u64, method: Method, request: Bytes) -> Result<Vec<u8>, Error> {
        let raft = &self.inner.raft;
        let stopped = |error: &dyn std::fmt::Display| self.stopped(error.to_string());
        Ok(match method {
            Method::Append => {
                let request = wire::read_append(&request).map_err(invalid)?;
                is_from(from, &request.vote)?;
                wire::appended(&raft.append_entries(request).await.map_err(|error| stopped(&error))?)
            }
            Method::Vote => {
                let request = wire::read_ask_vote(&request).map_err(invalid)?;
                is_from(from, &request.vote)?;
                wire::voted(&raft.vote(request).await.map_err(|error| stopped(&error))?)
            }
            Method::PreVote => {
                let request = wire::read_ask_vote(&request).map_err(invalid)?;
                is_from(from, &request.vote)?;
                wire::voted(&raft.pre_vote(request).await.map_err(|error| stopped(&error))?)
            }
            Method::TransferLeader => {
                let request = wire::read_transfer(&request).map_err(invalid)?;
                is_from(from, request.from_leader())?;
                let handled = raft.handle_transfer_leader(request).await.map_err(|error| stopped(&error))?;
                if let Err(error) = handled {
                    tracing::debug!(%error, "this node doesn't take over");
                }
                Vec::new()
            }
            Method::Propose => {
                let result = match Proposal::decode(request) {
                    Ok(proposal) => match &proposal.command.ask {
                        Some(ask) if ask.node == from => self.ask_here(ask.clone()).await,
                        Some(ask) => {
                            Err(invalid(format!("node {from:016x} asks in the name of node {:016x}", ask.node)))
                        }
                        None => self.propose_here(proposal).await,
                    },
                    Err(reason) => Err(Error::Invalid { reason }),
                };
                wire::Proposed::of(&result).encode_to_vec()
            }
            Method::Confirm => match self.confirm_here().await {
                Ok(index) => wire::Confirmed { index: Some(index) }.encode_to_vec(),
                Err(Error::NotLeader) => wire::Confirmed { index: None }.encode_to_vec(),
                Err(error) => return Err(error),
            },
            Method::Change => {
                let change: wire::Change = wire::message(&request).map_err(invalid)?;
                let wanted =
                    change.wanted.ok_or_else(|| invalid("the change is unknown to this program".to_owned()))?;
                self.change_here(wanted).await?.encode_to_vec()
            }
            Method::Members => self.members_here().encode_to_vec(),
            Method::Status => self.status_here().encode_to_vec(),
            Method::Inspect => self.inspect_here(&request),
            Method::Snapshot => return Err(invalid("a snapshot is not read as a whole".to_owned())),
        })
    }

    async fn answer_snapshot(&self, from: u64, mut request: Arriving) -> Result<Vec<u8>, Error> {
        let cut = || invalid("the snapshot is cut off".to_owned());
        let head = request.next().await.ok_or_else(cut)?.map_err(invalid)?;
        let vote = wire::read_only_vote(&head).map_err(invalid)?;
        is_from(from, &vote)?;
        // One at a time: a snapshot is as large as the state.
        let _alone = self.inner.receiving.lock().await;
        let (meta, state) = match machine::is_simulated() {
            true => {
                let bytes = collect(request, usize::MAX).await?;
                snapshot::read_from(Path::new(ARRIVING), bytes.reader())?
            }
            false => read_arriving(request).await?,
        };
        let installed = self.inner.raft.install_full_snapshot(vote, Snapshot { meta, snapshot: state }).await;
        let response = installed.map_err(|error| self.stopped(error.to_string()))?;
        Ok(wire::only_vote(&response.vote))
    }
}

/// Reads a snapshot on another thread while it arrives.
async fn read_arriving(mut request: Arriving) -> Result<(SnapshotMeta, State), Error> {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, String>>(4);
    let reading = tokio::task::spawn_blocking(move || {
        snapshot::read_from(Path::new(ARRIVING), Pipe { receiver, part: Bytes::new() })
    });
    while let Some(part) = request.next().await {
        if sender.send(part).await.is_err() {
            break; // the reader found it bad
        }
    }
    drop(sender);
    reading.await.map_err(|error| Error::Failed { reason: error.to_string() })?
}

fn invalid(reason: String) -> Error {
    Error::Invalid { reason }
}

/// A node speaks for itself alone: its vote bears its own id.
fn is_from(from: u64, vote: &Vote) -> Result<(), Error> {
    let claimed = vote.leader_id.node_id;
    if claimed == from {
        return Ok(());
    }
    Err(invalid(format!("node {from:016x} speaks in the name of node {claimed:016x}")))
}

async fn collect(mut request: Arriving, bytes_max: usize) -> Result<Bytes, Error> {
    let Some(first) = request.next().await else { return Ok(Bytes::new()) };
    let first = first.map_err(invalid)?;
    let mut all = Vec::new();
    let mut is_one = true;
    while let Some(part) = request.next().await {
        let part = part.map_err(invalid)?;
        if is_one {
            all.extend_from_slice(&first);
            is_one = false;
        }
        if all.len() + part.len() > bytes_max {
            return Err(invalid(format!("the message is longer than {bytes_max} bytes")));
        }
        all.extend_from_slice(&part);
    }
    let all = if is_one { first } else { all.into() };
    match all.len() <= bytes_max {
        true => Ok(all),
        false => Err(invalid(format!("the message is longer than {bytes_max} bytes"))),
    }
}

/// What arrives, as a blocking reader sees it.
struct Pipe {
    receiver: mpsc::Receiver<Result<Bytes, String>>,
    part: Bytes,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(part)) => self.part = part,
                Some(Err(reason)) => return Err(io::Error::other(reason)),
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.part.len());
        self.part.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
