//! openraft's network, laid over a [`Transport`].
//!
//! Entries go over a stream per follower, several requests ahead of their answers ([`session`]); everything small over
//! calls on the control lane, checkpoints in pieces on the bulk lane. Bytes are [`wire`]'s and [`append`]'s; the other
//! end is [`crate::serve`].

pub(crate) mod append;
mod checkpoint;
mod session;
mod traffic;
pub(crate) mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use tokio::time::timeout;

use crate::Error;
use crate::core::Core;
use crate::raft_types::{RaftNode, RaftNodeId, Types, Vote};
use crate::shard::group::node_of;
use crate::snapshot::Checkpoint;
use crate::transport::{Lane, Transport, TransportError};
use session::Session;
pub(crate) use traffic::Traffic;
use wire::{Answer, Ask, Candidate, Envelope, Place, WireVote};

/// How long the opening of a stream may take.
const OPEN_WITHIN: Duration = Duration::from_secs(1);
/// Waits between tries to reach a node, the last one again and again.
const BACKOFF_MS: [u64; 4] = [50, 100, 200, 500];

/// Makes a [`Client`] for each follower.
#[derive(Clone)]
pub(crate) struct Network {
    core: Arc<Core>,
    /// `None` for a node alone, which reaches nobody.
    transport: Option<Arc<dyn Transport>>,
}

/// The way to one replica.
pub(crate) struct Client {
    network: Network,
    to: RaftNodeId,
    /// Entries go over a stream; else everything is a call.
    streams: bool,
}

impl Network {
    pub(crate) fn new(core: Arc<Core>, transport: Option<Arc<dyn Transport>>) -> Self {
        Self { core, transport }
    }

    /// A way on which everything is a call.
    pub(crate) fn calls(&self, to: RaftNodeId) -> Client {
        Client { network: self.clone(), to, streams: false }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: RaftNodeId, _node: &RaftNode) -> Client {
        Client { network: self.clone(), to: target, streams: true }
    }

    async fn new_heartbeat_client(&mut self, target: RaftNodeId, _node: &RaftNode) -> Client {
        self.calls(target)
    }
}

/// openraft's word for a failed call. Only where nobody is there to answer does it wait before it tries again.
fn failed(error: &TransportError) -> RPCError<Types> {
    match error {
        TransportError::Unreachable(_) | TransportError::Refused { .. } => {
            RPCError::Unreachable(Unreachable::new(error))
        }
        TransportError::Unanswered(_) => RPCError::Network(NetworkError::new(error)),
    }
}

fn nonsense(error: &Error) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(error))
}

impl Client {
    fn transport(&self) -> Result<&Arc<dyn Transport>, RPCError<Types>> {
        let unreachable = || failed(&TransportError::Unreachable(node_of(self.to)));
        self.network.transport.as_ref().ok_or_else(unreachable)
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask(
        &self,
        lane: Lane,
        ask: Ask,
        piece: Option<bytes::Bytes>,
        within: Duration,
    ) -> Result<Answer, RPCError<Types>> {
        let envelope = Envelope { from: self.network.core.id, to: self.to, ask };
        let request = envelope.encode(piece).map_err(|error| nonsense(&error))?;
        self.call(lane, request, within).await
    }

    async fn call(&self, lane: Lane, request: Vec<bytes::Bytes>, within: Duration) -> Result<Answer, RPCError<Types>> {
        let shard = self.network.core.shard;
        let answer = self.transport()?.call(node_of(self.to), lane, shard, request, within).await;
        Answer::decode(&answer.map_err(|error| failed(&error))?).map_err(|error| nonsense(&error))
    }

    /// Asks for a vote, unless this node must not stand.
    async fn campaign(
        &self,
        request: VoteRequest<Types>,
        option: &RPCOption,
        ask: fn(Candidate) -> Ask,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        if !self.network.core.gate.may_vote(request.last_log_id) {
            return Err(nonsense(&Error::Malformed(
                "log: it may lack what was acknowledged; this node does not stand",
            )));
        }
        let candidate = Candidate {
            vote: WireVote::from(&request.vote),
            last: request.last_log_id.map(Place::from),
            transfer: request.leadership_transfer,
        };
        match self.ask(Lane::Control, ask(candidate), None, option.hard_ttl()).await? {
            Answer::Voted { vote, granted, last } => {
                Ok(VoteResponse::new(Vote::from(vote), last.map(Into::into), granted))
            }
            _ => Err(nonsense(&Error::Malformed("answer to a candidate"))),
        }
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = Checkpoint;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let request = append::encode(self.network.core.id, self.to, request).map_err(|error| nonsense(&error))?;
        match self.call(Lane::Control, request, option.hard_ttl()).await? {
            Answer::Matched(_) => Ok(AppendEntriesResponse::Success),
            Answer::Conflict(_) => Ok(AppendEntriesResponse::Conflict),
            Answer::HigherVote(vote) => Ok(AppendEntriesResponse::HigherVote(vote.into())),
            _ => Err(nonsense(&Error::Malformed("answer to an append"))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        if !self.streams {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            // A request first, then the stream: openraft waits out its backoff before it gives one.
            let Some(first) = input.next().await else { return Ok(stream::empty().boxed()) };
            let (node, core) = (node_of(self.to), &self.network.core);
            let opened = timeout(OPEN_WITHIN, self.transport()?.append_stream(node, core.shard)).await;
            let stream = opened.unwrap_or(Err(TransportError::Unanswered(node))).map_err(|error| failed(&error))?;
            let session = Session::new((core.id, self.to), first, input, stream, Arc::clone(&core.traffic));
            Ok(stream::unfold(Some(session), |session| async move { session?.next().await }).boxed())
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.campaign(request, &option, Ask::Vote).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.campaign(request, &option, Ask::PreVote).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let ask = Ask::Transfer {
            from: WireVote::from(request.from_leader()),
            to: *request.to_node_id(),
            last: request.last_log_id().copied().map(Place::from),
        };
        match self.ask(Lane::Control, ask, None, option.hard_ttl()).await? {
            Answer::Transferring(true) => Ok(Ok(())),
            Answer::Transferring(false) => Err(nonsense(&Error::Malformed("successor: its log ends too early"))),
            _ => Err(nonsense(&Error::Malformed("answer to a transfer"))),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<Types, Checkpoint>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let send = checkpoint::send(self, &self.network.core, vote, snapshot, option.hard_ttl());
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = send => sent,
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let [.., last] = BACKOFF_MS;
        let waits = BACKOFF_MS.into_iter().chain(std::iter::repeat(last));
        Some(Backoff::new(waits.map(Duration::from_millis)))
    }
}
