//! What a node says of itself and does with what others send it.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use pointsman_model::{NodeId, ShardId};
use tokio::sync::mpsc;

use crate::body::Body;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a node says of itself when a connection opens, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster it belongs to, once it does. Two nodes of different clusters refuse each other.
    pub cluster: Option<[u8; 16]>,
    /// Who it is.
    pub node: NodeId,
    /// Which life of that node: counts replacements of its directory.
    pub incarnation: u32,
    /// The newest feature level it knows.
    pub feature_level: u32,
    /// Its wall clock.
    pub wall_ms: u64,
    /// What formation has to say; at most [`pointsman_model::limits::PEER_NOTE_BYTES_MAX`].
    pub note: Bytes,
}

/// Which kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// For the node as a whole: formation, tickets. Travels on the bulk connection.
    Node,
    /// Small and urgent: votes, heartbeats, transfers, ReadIndex, hashes.
    Control,
    /// Large: pieces of a checkpoint, entries for a repair.
    Bulk,
}

/// A request of another node's client.
#[derive(Debug)]
pub struct Forwarded {
    /// Who asks for what; at most [`pointsman_model::limits::PEER_HEAD_BYTES_MAX`].
    pub head: Bytes,
    /// The request's body.
    pub body: Body,
}

/// The answer to a [`Forwarded`] request.
#[derive(Debug)]
pub struct ForwardAnswer {
    /// Status and headers; at most [`pointsman_model::limits::PEER_HEAD_BYTES_MAX`].
    pub head: Bytes,
    /// The answer's body. Dropping it before its end cancels the request at the other side.
    pub body: Body,
}

/// What arrives for this node.
///
/// Every call runs in a task of its own and answers in any order. None is told twice.
pub trait Handler: Send + Sync + 'static {
    /// What this node says of itself; asked at every connect in either direction, and on [`crate::Peers::announce`].
    fn hello(&self) -> Hello;

    /// Whether to talk to that node.
    ///
    /// The node is in the configuration, and its cluster is ours or one of the two has none yet.
    ///
    /// # Errors
    /// Why not, in words: told to the peer, and the connection is closed.
    fn admit(&self, peer: &Hello) -> Result<(), String>;

    /// Answers one request. Runs to its end even if the caller has gone. An `Err` is told as [`crate::CallError::Refused`].
    fn call(
        &self,
        from: NodeId,
        service: Service,
        shard: ShardId,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, String>>;

    /// Serves a replication stream until `requests` ends: as many answers as requests, in their order.
    ///
    /// The stream is over when the future ends, or when `answers` is dropped.
    fn append_stream(
        &self,
        from: NodeId,
        shard: ShardId,
        requests: mpsc::Receiver<Bytes>,
        answers: mpsc::Sender<Vec<Bytes>>,
    ) -> BoxFuture<'static, ()>;

    /// Serves a request of another node's client. The future, or the answer's body, is dropped when the caller cancels
    /// or its connection ends.
    fn forward(&self, from: NodeId, request: Forwarded) -> BoxFuture<'static, ForwardAnswer>;
}
