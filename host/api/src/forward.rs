//! Any node answers any call: a request that another node must serve goes there whole, by one hop.
//!
//! The unit is the HTTP request behind the checks of the edge (`docs/adr/0011`): the entry node has found the route, the
//! caller, the tenant and the scope; it sends a [`Forwarded`] to the node that leads the shard, whose router serves it
//! with the caller that the head names, and streams the answer back. The way there is a port, [`Forward`], which the
//! binary lays over the connections between nodes.

mod head;
mod serve;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use pointsman_broker::ports::BoxFuture;
use pointsman_model::NodeId;

pub(crate) use serve::{inner_edge, serve};

/// The bytes behind a head, as they come. Dropped, it tells the other side to stop.
pub type ForwardBody = BoxStream<'static, Result<Bytes, BodyLost>>;

/// The other side vanished before the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other node stopped sending")]
pub struct BodyLost;

/// A request or an answer on its way between nodes.
pub struct Forwarded {
    /// Its head, which only this crate reads. At most [`pointsman_model::limits::FORWARD_HEAD_BYTES_MAX`].
    pub head: Bytes,
    /// Its body.
    pub body: ForwardBody,
}

/// Why a forwarded request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The other node surely has not got all of it: there is no connection, or it broke before the last byte left.
    #[error("the node cannot be reached")]
    NotSent,
    /// It was sent, and the connection broke before the head of the answer came.
    #[error("the connection broke before the answer")]
    Lost,
    /// The other node refused to take it; nothing was done.
    #[error("refused: {0}")]
    Refused(String),
}

/// The way to the routers of other nodes.
pub trait Forward: Send + Sync + 'static {
    /// Sends a request and waits for the head of its answer. Dropping the future, or the body of the answer, cancels the
    /// request there.
    fn forward(&self, to: NodeId, request: Forwarded) -> BoxFuture<'static, Result<Forwarded, ForwardError>>;
}

/// One node of the cluster, as the node asked sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its number.
    pub node: NodeId,
    /// Where clients find it.
    pub address: String,
    /// Where other nodes find it.
    pub peer_address: String,
    /// True if it is connected now, or is this node.
    pub up: bool,
    /// How often it was replaced by an empty one, as far as it has said.
    pub incarnation: u32,
    /// Why it is not connected, in words, if known.
    pub reason: Option<String>,
}

/// The nodes of the cluster.
pub trait ClusterView: Send + Sync + 'static {
    /// All of them, this one among them, by number.
    fn nodes(&self) -> Vec<NodeView>;
}

/// What a node in a cluster has and a node alone has not.
#[derive(Clone)]
pub struct ClusterPorts {
    /// The way to the other routers.
    pub forward: Arc<dyn Forward>,
    /// Who they are.
    pub view: Arc<dyn ClusterView>,
}

/// The head of the answer of a node that cannot serve a forwarded request at all: surely nothing was done.
#[must_use]
pub fn not_leader() -> Bytes {
    head::AnswerHead::NotLeader.encode().unwrap_or_default()
}
