//! What a shard tells of itself.

use openraft::ServerState;
use pointsman_broker::ports::Role;
use pointsman_model::{LogIndex, LogPosition, NodeId, ShardId, Term, Timestamp};

use super::Shard;
use crate::sync_times::SyncTimes;

/// A moment of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMetrics {
    /// Which shard.
    pub shard: ShardId,
    /// What this node is in it.
    pub role: Role,
    /// The current term.
    pub term: Term,
    /// The last entry of the log.
    pub last: Option<LogIndex>,
    /// The last entry that this node has fsynced.
    pub flushed: Option<LogIndex>,
    /// The node that leads, if one is known.
    pub leader: Option<NodeId>,
    /// The last entry known to be committed.
    pub committed: Option<LogIndex>,
    /// On a leader: how many entries each other replica lacks, if that is known.
    pub lags: Vec<(NodeId, Option<u64>)>,
    /// How often this node was elected since it started.
    pub elections: u64,
    /// Bytes of appends sent to followers.
    pub append_bytes_sent: u64,
    /// Appends sent to followers.
    pub appends_sent: u64,
    /// Bytes of appends received from leaders.
    pub append_bytes_received: u64,
    /// Checkpoints taken over from a leader.
    pub checkpoints_installed: u64,
    /// The last entry applied.
    pub applied: Option<LogIndex>,
    /// The entry a restart would find the state at.
    pub state_flushed: Option<LogIndex>,
    /// Running hash of the outcomes of all applied entries.
    pub outcome_hash: u64,
    /// Bytes of frames since the shard's birth.
    pub end: LogPosition,
    /// Segments of the log.
    pub segments: usize,
    /// Of these, read-only and with sidecars.
    pub segments_sealed: usize,
    /// Bytes of frames that the log holds.
    pub retained_bytes: u64,
    /// The last entry that it no longer holds.
    pub purged: Option<LogIndex>,
    /// The last entry that it need not hold.
    pub released: Option<LogIndex>,
    /// When a trim was applied last.
    pub trimmed_at: Timestamp,
    /// Checkpoints written since the start.
    pub checkpoints: u64,
    /// Places of the log that could not be verified and are not repaired.
    pub damages: usize,
    /// Segments that were found damaged while the shard ran, and repaired.
    pub segments_repaired: u64,
    /// Whether this node may vote: not while its log may lack what it acknowledged.
    pub may_vote: bool,
    /// Why the shard takes no writes here.
    pub failure: Option<String>,
    /// Syncs of the log's files, those of a segment not yet in use included.
    pub syncs: SyncTimes,
}

impl Shard {
    /// What to put on `/metrics`.
    #[must_use]
    pub fn metrics(&self) -> ShardMetrics {
        let segments = self.core.log.segments();
        let (damages, segments_repaired) = self.core.doubts.counts();
        let (role, term) = self.role();
        let (outcome_hash, released) = {
            let machine = self.core.machine.read();
            (machine.state().outcome_hash, machine.state().released)
        };
        let end = self.core.log.end();
        ShardMetrics {
            shard: self.id,
            role,
            term,
            last: self.core.log.last().map(|(_, index, _)| index),
            flushed: self.core.log.flushed(),
            leader: self.known_leader(),
            committed: self.committed(),
            lags: self.lags(),
            elections: self.core.leadership.elections(),
            append_bytes_sent: self.core.traffic.append_bytes_sent.get(),
            appends_sent: self.core.traffic.appends_sent.get(),
            append_bytes_received: self.core.traffic.append_bytes_received.get(),
            checkpoints_installed: self.core.traffic.checkpoints_installed.get(),
            applied: self.core.applied_index(),
            state_flushed: self.core.state.flushed().map(|applied| applied.index),
            outcome_hash,
            end,
            retained_bytes: end.0 - segments.first().map_or(end, |first| first.base).0,
            purged: self.core.log.purged().map(|base| base.index),
            released: released.upto(),
            trimmed_at: Timestamp(released.at),
            checkpoints: self.core.boundary.made(),
            segments: segments.len(),
            segments_sealed: segments.iter().filter(|segment| segment.sealed).count(),
            damages: self.core.log.damages().len() + damages,
            segments_repaired,
            may_vote: self.core.gate.reason().is_none(),
            failure: self.failure(),
            syncs: self.disk.as_ref().map(|disk| disk.times()).unwrap_or_default(),
        }
    }

    pub(super) fn role(&self) -> (Role, Term) {
        use openraft::async_runtime::watch::WatchReceiver as _;
        let stored = self.core.vote.lock().load().map_or(Term(0), |vote| vote.term);
        let Some(running) = self.running.get() else {
            return (Role::Stopped, stored);
        };
        let metrics = running.raft.server_metrics();
        let now = metrics.borrow_watched();
        let role = match now.state {
            _ if self.core.failure().is_some() => Role::Stopped,
            ServerState::Learner => Role::Learner,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Leader => Role::Leader,
            ServerState::Shutdown => Role::Stopped,
        };
        (role, stored)
    }
}
