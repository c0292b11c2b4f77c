//! How a shard is opened, and openraft's own settings.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::SnapshotPolicy;
use pointsman_model::time::SharedClock;
use pointsman_model::{NodeId, ShardId};
use pointsman_storage::disk::Disk;
use pointsman_storage::identity::Identity;

use crate::transport::Transport;
use crate::{Background, Error};

/// The other nodes, and the way to them.
#[derive(Clone)]
pub struct Cluster {
    /// The way.
    pub transport: Arc<dyn Transport>,
    /// Every node of the cluster by its number, this one included, and its peer address.
    pub nodes: BTreeMap<NodeId, String>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

/// Everything a shard needs from outside.
#[derive(Clone)]
pub struct ShardConfig {
    /// Which shard.
    pub shard: ShardId,
    /// Its own directory (`shards/<n>`); created if its parent exists.
    pub dir: PathBuf,
    /// Whose data directory this is. Identity and lock are the caller's.
    pub identity: Identity,
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// Where time comes from.
    pub clock: SharedClock,
    /// Size of a segment file, header included.
    pub segment_bytes: u64,
    /// Zero-write the next segment instead of merely reserving it.
    pub zero_ahead: bool,
    /// How long opening may wait until the shard of a node alone is writable.
    pub open_within: Duration,
    /// The other nodes; `None` for a node alone, which is its shards' only voter.
    pub cluster: Option<Cluster>,
    /// Where blocking work is run.
    pub background: Background,
}

impl ShardConfig {
    /// openraft's id of this node: a wiped node comes back under another.
    #[must_use]
    pub fn raft_node_id(&self) -> u64 {
        raft_node_id(NodeId(self.identity.node), self.identity.incarnation)
    }
}

/// Between heartbeats. Their answers wait for the follower's sync, so a sync must be quicker than this when it counts.
const HEARTBEAT_MS: u64 = 250;
/// No heartbeat to a follower that answered anything so lately.
const HEARTBEAT_MS_MIN: u64 = 200;
/// A follower that heard nothing for the lease, and then for a random time between these two, stands for election.
const ELECTION_MS_MIN: u64 = 700;
const ELECTION_MS_MAX: u64 = 1_200;
/// How long a quorum that answered a leader elects no other: openraft's lease.
pub(crate) const LEASE: Duration = Duration::from_millis(ELECTION_MS_MAX);

/// A leader that a follower has not heard for so long is none to it: the lease is over, and a call sent there now might
/// be found by a process that was stopped, with an outcome that nobody knows.
pub(crate) const SILENCE: Duration = Duration::from_millis(ELECTION_MS_MAX + HEARTBEAT_MS);

/// openraft's id of a node in one of its lives.
pub(crate) fn raft_node_id(node: NodeId, incarnation: u32) -> u64 {
    u64::from(node.0) << 32 | u64::from(incarnation)
}

/// openraft's settings.
///
/// # Errors
/// [`Error::Raft`] if they contradict each other.
pub(crate) fn raft_config(shard: ShardId) -> Result<Arc<openraft::Config>, Error> {
    let config = openraft::Config {
        cluster_name: format!("shard-{shard}"),
        heartbeat_interval: HEARTBEAT_MS,
        heartbeat_min_interval: Some(HEARTBEAT_MS_MIN),
        election_timeout_min: ELECTION_MS_MIN,
        election_timeout_max: ELECTION_MS_MAX,
        // A leader that sends but hears nothing must fall silent, or its heartbeats keep everyone from an election.
        quorum_loss_probe_interval: Some(2 * ELECTION_MS_MAX),
        install_snapshot_timeout: 60_000,
        max_payload_entries: 1_024,
        max_append_entries: Some(1_024),
        replication_lag_threshold: 10,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(true),
        // The default would restore a leader whose unsynced tail may be lost: it could then write another entry at
        // the same term and index. A sole voter elects itself instead.
        enable_leader_restore: Some(false),
        // A replica may lose the end of its log to damage. It does not vote then before it is whole (`vote_gate`), so a
        // leader may go back with it; by default it would take the answer for a bug.
        allow_log_reversion: Some(true),
        ..openraft::Config::default()
    };
    config.validate().map(Arc::new).map_err(|error| Error::Raft(error.to_string()))
}
