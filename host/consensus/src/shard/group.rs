//! The shard as a group of replicas: who leads, fresh reads, handing leadership over.

use std::time::Duration;

use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver as _;
use pointsman_broker::ports::{BarrierError, Replica, Role, ShardStatus, TransferError};
use pointsman_model::{LogIndex, NodeId};

use super::Shard;
use crate::raft_types::RaftNodeId;

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
        leader.map(node_of)
    }

    pub(super) async fn read_index(&self, within: Duration) -> Result<(), BarrierError> {
        let running = self.running.get().ok_or(BarrierError::NoLeader)?;
        #[cfg(test)]
        if self.core.probe.is(crate::tests::cluster::probe::Mutant::StaleRead) {
            return Ok(());
        }
        match tokio::time::timeout(within, running.raft.ensure_linearizable(ReadPolicy::ReadIndex)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(BarrierError::NoLeader),
        }
    }

    pub(super) async fn hand_over(&self, to: NodeId, _within: Duration) -> Result<(), TransferError> {
        match self.known_leader() {
            Some(leader) if leader == to => Ok(()),
            Some(_) => Err(TransferError::NotAVoter(to)),
            None => Err(TransferError::NotLeader),
        }
    }

    /// A node said hello in this life of it.
    pub(crate) fn saw(&self, node: NodeId, incarnation: u32) {
        let mut seen = self.core.seen.lock();
        let known = seen.entry(node).or_insert(incarnation);
        *known = incarnation.max(*known);
    }

    /// Hands leadership over to the voter that is furthest, if this node leads. Returns whether it leads no more.
    pub(crate) async fn hand_over_to_any(&self, within: Duration) -> bool {
        let status = self.replica_status();
        if status.role != Role::Leader {
            return true;
        }
        let others = status.replicas.iter().filter(|replica| replica.votes && Some(replica.node) != status.leader);
        match others.max_by_key(|replica| replica.matched) {
            Some(replica) => self.hand_over(replica.node, within).await.is_ok(),
            None => false,
        }
    }

    pub(super) fn replica_status(&self) -> ShardStatus {
        let (role, term) = self.role();
        let membership = self.core.progress.lock().as_ref().map(|progress| progress.membership.clone());
        let replicas = membership.iter().flat_map(|membership| {
            let voters: Vec<RaftNodeId> = membership.voter_ids().collect();
            let replica = |id: &RaftNodeId| Replica {
                node: node_of(*id),
                incarnation: incarnation_of(*id),
                votes: voters.contains(id),
                matched: None,
            };
            membership.nodes().map(|(id, _)| replica(id)).collect::<Vec<_>>()
        });
        ShardStatus {
            role,
            term,
            leader: self.known_leader(),
            last: self.core.log.last().map(|(_, index, _): (_, LogIndex, _)| index),
            committed: self.core.applied_index(),
            applied: self.core.applied_index(),
            outcome_hash: self.core.machine.read().state().outcome_hash,
            failure: self.failure(),
            replicas: replicas.collect(),
        }
    }
}
