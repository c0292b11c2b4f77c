//! The way to the brokers of other nodes: small questions between nodes that are no calls of clients.

use std::time::Duration;

use bytes::Bytes;
use pointsman_model::NodeId;

use super::BoxFuture;

/// Why another node's broker did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeCallError {
    /// It was surely not delivered.
    #[error("node {0} cannot be reached")]
    Unreachable(NodeId),
    /// It was sent, and no answer came in time.
    #[error("node {0} did not answer")]
    Unanswered(NodeId),
    /// It refused, in words.
    #[error("node {0}: {1}")]
    Refused(NodeId, String),
}

/// The way to the brokers of other nodes. The other end hands the request to [`crate::Broker::serve_node_call`].
pub trait NodeCalls: Send + Sync + 'static {
    /// The other nodes of the cluster.
    fn others(&self) -> Vec<NodeId>;

    /// One request and its answer. The bytes are the broker's own.
    fn call(&self, to: NodeId, request: Bytes, within: Duration) -> BoxFuture<'static, Result<Bytes, NodeCallError>>;
}
