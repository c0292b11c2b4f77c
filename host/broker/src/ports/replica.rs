//! A shard as one of several replicas: what each is, and why fresh reads and hand-overs fail.

use pointsman_model::{LogIndex, NodeId, Term};

/// Why a read that must be fresh cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// No leader answered in time.
    #[error("the shard has no leader that answers")]
    NoLeader,
    /// This node did not catch up in time.
    #[error("this node is behind")]
    Behind,
}

/// Why leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Another node leads; ask there.
    #[error("this node does not lead the shard")]
    NotLeader,
    /// The target is no voter of the shard.
    #[error("node {0} is no voter of the shard")]
    NotAVoter(NodeId),
    /// The target did not take over in time; nothing else changed.
    #[error("node {0} did not take over in time")]
    TimedOut(NodeId),
}

/// What a node is in a shard's Raft group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Replicates and does not vote.
    Learner,
    /// Replicates and votes.
    Follower,
    /// Wants to lead.
    Candidate,
    /// Leads.
    Leader,
    /// Stopped, failed, or the log is damaged.
    Stopped,
}

impl Role {
    /// Its name in metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Learner => "learner",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Stopped => "stopped",
        }
    }
}

/// A shard's Raft group as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardStatus {
    /// What this node is in it.
    pub role: Role,
    /// The current term.
    pub term: Term,
    /// The node that leads, if one is known.
    pub leader: Option<NodeId>,
    /// The last entry of this node's log.
    pub last: Option<LogIndex>,
    /// The last entry known to be committed.
    pub committed: Option<LogIndex>,
    /// The last entry applied here.
    pub applied: Option<LogIndex>,
    /// Running hash of the outcomes of all applied entries.
    pub outcome_hash: u64,
    /// Why the shard takes no writes on this node.
    pub failure: Option<String>,
    /// Every replica by node; a leader knows how far each is.
    pub replicas: Vec<Replica>,
}

/// One replica of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// On which node.
    pub node: NodeId,
    /// How often that node was replaced by an empty one.
    pub incarnation: u32,
    /// False for a learner.
    pub votes: bool,
    /// The last entry that it is known to hold; `None` unless this node leads, or if nothing is known.
    pub matched: Option<LogIndex>,
}
