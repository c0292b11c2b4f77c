//! The cluster as an operator sees it.

use pointsman_model::{NodeId, ShardId, Term};
use serde::{Deserialize, Serialize};

/// A shard and its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardView {
    /// Which.
    pub shard: ShardId,
    /// The node that leads, if one is known.
    pub leader: Option<NodeId>,
    /// The newest term that any node told of.
    pub term: Term,
    /// The last entry known to be committed.
    pub committed: u64,
    /// Each node that has a replica, by number.
    pub replicas: Vec<ReplicaOf>,
}

/// One replica of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaOf {
    /// On which node.
    pub node: NodeId,
    /// What that node says of it; `None` if it did not answer.
    pub said: Option<ReplicaView>,
}

/// What a node says of its replica of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaView {
    /// Number of the shard.
    pub shard: u16,
    /// `learner`, `follower`, `candidate`, `leader` or `stopped`.
    pub role: String,
    /// Its term.
    pub term: u64,
    /// The node that leads, as far as it has heard.
    pub leader: Option<u32>,
    /// The last entry that it knows to be committed.
    pub committed: u64,
    /// The last entry that it has applied.
    pub applied: u64,
    /// Why the shard takes no writes there.
    pub failure: Option<String>,
}
