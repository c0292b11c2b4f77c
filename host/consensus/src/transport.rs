//! The way to other nodes, as this crate needs it: the binary lays it over `pointsman-peer`, the simulation over memory.
//!
//! Bytes only: what they mean is [`crate::network`]'s. Every call has its own end; a transport keeps the order of an
//! append stream and of nothing else, may lose everything, and never invents or repeats a frame on its own.

use std::time::Duration;

use bytes::Bytes;
use pointsman_broker::ports::BoxFuture;
use pointsman_model::{NodeId, ShardId};
use tokio::sync::mpsc;

/// Which kind of call; each kind has a connection of its own, so that none waits behind another's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Small and urgent: votes, heartbeats, transfers, ReadIndex, hashes.
    Control,
    /// Large: pieces of a checkpoint, entries for a repair.
    Bulk,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// It was surely not delivered: there is no connection.
    #[error("node {0} cannot be reached")]
    Unreachable(NodeId),
    /// It was sent, and no answer came in time or the connection broke.
    #[error("node {0} did not answer")]
    Unanswered(NodeId),
    /// The other side refused to serve it, in words.
    #[error("node {node}: {reason}")]
    Refused {
        /// Who.
        node: NodeId,
        /// Why.
        reason: String,
    },
}

/// Both ends of an append stream: requests in order, and as many answers in the same order.
///
/// It ends when either side is dropped or the connection breaks; nobody says which requests were served.
pub struct AppendStream {
    /// Takes requests; each is sent as one frame, its pieces one after another.
    pub requests: mpsc::Sender<Vec<Bytes>>,
    /// Gives their answers.
    pub answers: mpsc::Receiver<Bytes>,
}

/// The way to other nodes.
pub trait Transport: Send + Sync + 'static {
    /// One request and its answer.
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        shard: ShardId,
        request: Vec<Bytes>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>>;

    /// Opens a stream for replication.
    fn append_stream(&self, to: NodeId, shard: ShardId) -> BoxFuture<'static, Result<AppendStream, TransportError>>;
}

/// What arrives for a shard of this node; [`crate::Node`] is one.
pub trait Serve: Send + Sync + 'static {
    /// Answers one request. An `Err` is told to the caller as [`TransportError::Refused`].
    fn serve_call(
        &self,
        from: NodeId,
        lane: Lane,
        shard: ShardId,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, String>>;

    /// Serves a replication stream until it ends.
    fn serve_append_stream(
        &self,
        from: NodeId,
        shard: ShardId,
        requests: mpsc::Receiver<Bytes>,
        answers: mpsc::Sender<Vec<Bytes>>,
    ) -> BoxFuture<'static, ()>;
}
