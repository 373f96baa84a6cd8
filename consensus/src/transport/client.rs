//! What this node asks of others on behalf of openraft.

use std::{
    future::Future,
    io::{self, Write},
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use openraft::{
    BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    alias::SnapshotOf,
    async_runtime::WatchReceiver,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
        VoteRequest, VoteResponse,
    },
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{Link, LinkError, Method, Parts, whole, wire};
use crate::{
    machine,
    raft::{Raft, TypeConfig, Vote},
    snapshot,
    state::State,
};

/// Entries may take so long, however short the time is that openraft gives: what is under way is no reason to send it again.
const APPEND_WITHIN: Duration = Duration::from_secs(10);
/// So long a node may take for its whole snapshot.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(600);
/// Parts of a snapshot that wait for the network.
const PARTS_WAITING: usize = 4;

/// Makes the ways to peers. Without a link there are none, and every peer is out of reach.
pub struct Network {
    /// Carries requests.
    pub link: Option<Arc<dyn Link>>,
    /// Knows where nodes are now, once it is there itself: openraft goes on with the ways that it has when one moves.
    pub raft: Arc<OnceLock<Raft>>,
}

/// The way to one peer.
pub struct Peer {
    id: u64,
    /// Where it was when the way was made.
    address: String,
    link: Option<Arc<dyn Link>>,
    raft: Arc<OnceLock<Raft>>,
}

impl Peer {
    async fn ask(&self, method: Method, request: Parts, within: Duration) -> Result<Bytes, LinkError> {
        match &self.link {
            Some(link) => {
                let now = self.raft.get().and_then(|raft| address(raft, self.id));
                link.call(self.id, now.as_ref().unwrap_or(&self.address), method, request, within).await
            }
            None => Err(LinkError::Unreachable {
                node: self.id,
                address: self.address.clone(),
                reason: "this node has no cluster address".to_owned(),
            }),
        }
    }

    async fn call(&self, method: Method, request: Vec<u8>, within: Duration) -> Result<Bytes, RPCError<TypeConfig>> {
        self.ask(method, whole(request), within).await.map_err(|error| match &error {
            // Openraft waits a little before it tries again.
            LinkError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(&error)),
            LinkError::NoAnswer { .. } => RPCError::Network(NetworkError::new(&error)),
        })
    }
}

fn address(raft: &Raft, id: u64) -> Option<String> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let mut nodes = metrics.membership_config.nodes();
    nodes.find(|(node, _)| **node == id).map(|(_, node)| node.addr.clone())
}

/// A snapshot in parts that are made while they are sent, so that it never lies in memory as a whole. Making them ends when
/// nobody receives any more.
fn while_made(snapshot: SnapshotOf<TypeConfig, State>) -> (Parts, JoinHandle<()>) {
    let (sender, mut receiver) = mpsc::channel(PARTS_WAITING);
    let writing = tokio::task::spawn_blocking(move || {
        let written = snapshot::write_to(Pipe(sender), &snapshot.meta, &snapshot.snapshot);
        if let Err(error) = written {
            tracing::debug!(%error, "a snapshot was not sent to its end");
        }
    });
    (Box::pin(futures_util::stream::poll_fn(move |context| receiver.poll_recv(context))), writing)
}

/// The same without another thread.
fn at_once(snapshot: &SnapshotOf<TypeConfig, State>) -> Parts {
    let mut bytes = Vec::new();
    let written = snapshot::write_to(&mut bytes, &snapshot.meta, &snapshot.snapshot);
    whole(written.map_or_else(|_| Vec::new(), |()| bytes))
}

fn unreadable(reason: String) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(reason))
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        Peer { id: target, address: node.addr.clone(), link: self.link.clone(), raft: self.raft.clone() }
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = State;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let within = if rpc.entries.is_empty() { option.hard_ttl() } else { APPEND_WITHIN };
        let (bytes, cut) = wire::append(&rpc);
        drop(rpc);
        let answer = self.call(Method::Append, bytes, within).await?;
        let answer = wire::read_appended(&answer).map_err(unreadable)?;
        match (cut, answer) {
            (Some(last), AppendEntriesResponse::Success) => Ok(AppendEntriesResponse::PartialSuccess(Some(last))),
            (_, answer) => Ok(answer),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let answer = self.call(Method::Vote, wire::ask_vote(&rpc), option.hard_ttl()).await?;
        wire::read_voted(&answer).map_err(unreadable)
    }

    // The default would grant: a peer that can't be asked has not agreed.
    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let answer = self.call(Method::PreVote, wire::ask_vote(&rpc), option.hard_ttl()).await?;
        wire::read_voted(&answer).map_err(unreadable)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, State>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let head = Bytes::from(wire::only_vote(&vote));
        let (parts, writing) = match machine::is_simulated() {
            true => (at_once(&snapshot), None),
            false => {
                let (parts, writing) = while_made(snapshot);
                (parts, Some(writing))
            }
        };
        let parts = futures_util::stream::once(std::future::ready(head)).chain(parts);
        let answer = tokio::select! {
            biased;
            answer = self.ask(Method::Snapshot, Box::pin(parts), SNAPSHOT_WITHIN) => answer,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        if let Some(writing) = writing {
            writing.abort(); // not begun or done: a running one ends by itself
        }
        let answer = answer.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?;
        let vote = wire::read_only_vote(&answer)
            .map_err(|reason| StreamingError::Unreachable(Unreachable::from_string(reason)))?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        // Whatever the peer thinks of it shows in the election.
        self.call(Method::TransferLeader, wire::transfer(&req), option.hard_ttl()).await.map(|_| Ok(()))
    }
}

/// Hands what is written to whoever receives.
struct Pipe(mpsc::Sender<Bytes>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = Bytes::copy_from_slice(bytes);
        self.0.blocking_send(part).map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody receives it"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_cannot_be_asked_grants_nothing() {
        let mut peer = Network { link: None, raft: Arc::default() }.new_client(9, &BasicNode::new("")).await;
        let request = || VoteRequest::new(Vote::new(3, 1), None);
        let option = || RPCOption::new(Duration::from_secs(1));
        let answers = [
            RaftNetworkV2::pre_vote(&mut peer, request(), option()).await,
            RaftNetworkV2::vote(&mut peer, request(), option()).await,
        ];
        for answer in answers {
            assert!(
                matches!(answer, Err(RPCError::Unreachable(error)) if error.to_string().contains("node 0000000000000009"))
            );
        }
    }
}
