//! The cluster: its nodes, its shards and their replicas.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Decimal, number};

/// `GET /v1/cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// The nodes, by number.
    pub nodes: Vec<ClusterNode>,
    /// The shards, by number; 0 is the metadata shard.
    pub shards: Vec<ClusterShard>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterNode {
    /// Its number.
    pub node: u32,
    /// Where clients find it; null for a node alone.
    pub address: Option<String>,
    /// Where other nodes find it; null for a node alone.
    pub peer_address: Option<String>,
    /// Whether the node that was asked reaches it.
    pub state: NodeState,
    /// How often it was replaced by an empty one.
    pub incarnation: u32,
    /// Why it is down, if known.
    pub reason: Option<String>,
}

/// Whether a node is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It is.
    Up,
    /// It is not.
    Down,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterShard {
    /// Its number.
    pub shard: u16,
    /// The node that leads it, if one is known.
    pub leader: Option<u32>,
    /// The newest term that any node told of.
    pub term: Decimal,
    /// The last entry known to be committed.
    pub committed: Decimal,
    /// Its replicas, by node.
    pub replicas: Vec<ClusterReplica>,
}

/// A replica of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterReplica {
    /// The node that holds it.
    pub node: u32,
    /// What the node says it is in the shard; null if the node did not answer, as are the fields below.
    pub role: Option<ReplicaRole>,
    /// The last entry that it has applied.
    pub applied: Option<Decimal>,
    /// How many entries it is behind.
    pub lag: Option<Decimal>,
    /// Why it takes no writes; null if it does.
    pub failure: Option<String>,
}

/// What a node is in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReplicaRole {
    /// Replicates and does not vote.
    Learner,
    /// Replicates and votes.
    Follower,
    /// Wants to lead.
    Candidate,
    /// Leads.
    Leader,
    /// Stopped, failed, or damaged.
    Stopped,
}

/// Body of `POST /v1/cluster/shards/{shard}/transfer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferInput {
    /// The node that is to lead.
    #[serde(deserialize_with = "number::whole")]
    pub node: u32,
}
