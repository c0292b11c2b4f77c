//! The shard as a group of replicas: who leads, fresh reads, handing leadership over.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use pointsman_broker::ports::{BarrierError, Replica, ShardStatus, TransferError};
use pointsman_model::{LogIndex, NodeId};
use tokio::time::{Instant, sleep, timeout_at};

use super::Shard;
use crate::raft_types::RaftNodeId;

/// Before a leader is asked again that did not answer.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The node of one of openraft's ids.
pub(crate) fn node_of(id: RaftNodeId) -> NodeId {
    NodeId((id >> 32) as u32)
}

/// Which of its lives the node of one of openraft's ids is in.
pub(crate) fn incarnation_of(id: RaftNodeId) -> u32 {
    id as u32
}

impl Shard {
    pub(super) fn known_leader(&self) -> Option<NodeId> {
        let metrics = self.running.get()?.raft.server_metrics();
        let leader = metrics.borrow_watched().current_leader;
        let own = self.core.id;
        leader.filter(|leader| *leader == own || !self.core.leadership.is_silent(node_of(*leader))).map(node_of)
    }

    pub(super) async fn read_index(&self, within: Duration) -> Result<(), BarrierError> {
        let running = self.running.get().ok_or(BarrierError::NoLeader)?;
        #[cfg(test)]
        if self.core.probe.is(crate::tests::cluster::probe::Mutant::StaleRead) {
            return Ok(());
        }
        let deadline = Instant::now() + within;
        let found = timeout_at(deadline, async {
            loop {
                match running.read_index.ask().await {
                    Some(index) => return index,
                    // There may be a leader soon.
                    None => sleep(ASK_AGAIN).await,
                }
            }
        });
        let index = found.await.map_err(|_| BarrierError::NoLeader)?;
        let mut applied = self.core.applied.subscribe();
        let reached = timeout_at(deadline, applied.wait_for(|applied| *applied >= index));
        reached.await.map_err(|_| BarrierError::Behind)?.map_err(|_| BarrierError::Behind)?;
        Ok(())
    }

    pub(super) async fn hand_over(&self, to: NodeId, within: Duration) -> Result<(), TransferError> {
        let running = self.running.get().ok_or(TransferError::NotLeader)?;
        running.hand_over.run(to, within).await
    }

    /// A node said hello in this life of it.
    pub(crate) fn saw(&self, node: NodeId, incarnation: u32) {
        let mut seen = self.core.seen.lock();
        let known = seen.entry(node).or_insert(incarnation);
        *known = incarnation.max(*known);
    }

    /// Leads no more: hands leadership over to the voter that is furthest, and does not stand again. Returns whether
    /// this node leads no more.
    pub(crate) async fn leave(&self, within: Duration) -> bool {
        let Some(running) = self.running.get() else { return true };
        self.core.leadership.leave();
        running.raft.runtime_config().elect(false);
        let deadline = Instant::now() + within;
        for successor in running.hand_over.successors() {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.core.leadership.elected_term().is_none() || left.is_zero() {
                break;
            }
            if let Err(error) = running.hand_over.run(successor, left).await {
                tracing::info!(shard.id = self.id.0, %error, "leadership is not handed over");
            }
        }
        self.core.leadership.elected_term().is_none()
    }

    /// The last entry known to be committed.
    pub(super) fn committed(&self) -> Option<LogIndex> {
        let metrics = self.running.get()?.raft.data_metrics();
        let committed = metrics.borrow_watched().local_committed;
        committed.map(|committed| LogIndex(committed.index)).max(self.core.applied_index())
    }

    /// On a leader: how many entries each other replica lacks.
    pub(super) fn lags(&self) -> Vec<(NodeId, Option<u64>)> {
        let Some(running) = self.core.leadership.elected_term().and(self.running.get()) else { return Vec::new() };
        let metrics = running.raft.server_metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        let others = membership.nodes().map(|(id, _)| *id).filter(|id| *id != self.core.id);
        others.map(|id| (node_of(id), running.hand_over.lag(id))).collect()
    }

    pub(super) fn replica_status(&self) -> ShardStatus {
        let (role, term) = self.role();
        let membership = self.core.progress.lock().as_ref().map(|progress| progress.membership.clone());
        let leads = self.core.leadership.elected_term().and(self.running.get());
        let matched = |id: RaftNodeId| match leads {
            Some(_) if id == self.core.id => self.core.log.flushed(),
            Some(running) => running.hand_over.matched(id).map(|matched| LogIndex(matched.index)),
            None => None,
        };
        let replicas = membership.iter().flat_map(|membership| {
            let voters: Vec<RaftNodeId> = membership.voter_ids().collect();
            let replica = |id: &RaftNodeId| Replica {
                node: node_of(*id),
                incarnation: incarnation_of(*id),
                votes: voters.contains(id),
                matched: matched(*id),
            };
            membership.nodes().map(|(id, _)| replica(id)).collect::<Vec<_>>()
        });
        ShardStatus {
            role,
            term,
            leader: self.known_leader(),
            last: self.core.log.last().map(|(_, index, _): (_, LogIndex, _)| index),
            committed: self.committed(),
            applied: self.core.applied_index(),
            outcome_hash: self.core.machine.read().state().outcome_hash,
            failure: self.failure(),
            replicas: replicas.collect(),
        }
    }
}
