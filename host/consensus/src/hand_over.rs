//! Handing leadership to another voter.
//!
//! The leader takes nothing new, waits until the successor has all it took, and lets openraft tell everyone. Whatever
//! fails before that changes nothing; what fails after it ends in an election.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::type_config::TypeConfigExt as _;
use pointsman_broker::ports::TransferError;
use pointsman_model::NodeId;
use tokio::time::{Instant, sleep, timeout_at};

use crate::core::Core;
use crate::network::Network;
use crate::network::wire::{Answer, Ask};
use crate::raft_types::{LogId, RaftNodeId, Types};
use crate::shard::Raft;
use crate::shard::group::node_of;
use crate::transport::Lane;

/// A follower counts as there if it answered anything so lately.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// How long a successor may take to say that it would lead.
const ASK_WITHIN: Duration = Duration::from_millis(500);
/// Between two looks at what changes soon.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A leader that may hand over.
#[derive(Clone)]
pub(crate) struct HandOver {
    pub(crate) core: Arc<Core>,
    pub(crate) raft: Raft,
    pub(crate) network: Network,
}

impl HandOver {
    /// The voter on a node.
    pub(crate) fn voter(&self, node: NodeId) -> Option<RaftNodeId> {
        let metrics = self.raft.server_metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        membership.voter_ids().filter(|voter| node_of(*voter) == node).max()
    }

    /// The other voters, the one that is furthest first.
    pub(crate) fn successors(&self) -> Vec<NodeId> {
        let metrics = self.raft.server_metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        let mut voters: Vec<RaftNodeId> = membership.voter_ids().filter(|voter| *voter != self.core.id).collect();
        voters.sort_by_key(|voter| std::cmp::Reverse((self.is_there(*voter), self.matched(*voter))));
        voters.into_iter().map(node_of).collect()
    }

    /// What a follower is known to have.
    pub(crate) fn matched(&self, follower: RaftNodeId) -> Option<LogId> {
        let metrics = self.raft.data_metrics();
        let now = metrics.borrow_watched();
        now.replication.as_ref().and_then(|replication| replication.get(&follower).copied()).flatten()
    }

    /// Whether a follower answered lately.
    pub(crate) fn is_there(&self, follower: RaftNodeId) -> bool {
        let metrics = self.raft.data_metrics();
        let now = metrics.borrow_watched();
        let heard = now.heartbeat.as_ref().and_then(|heartbeat| heartbeat.get(&follower).copied()).flatten();
        heard.is_some_and(|heard| Types::now() < *heard + HEARD_WITHIN)
    }

    /// How many committed entries a follower lacks; `None` if that is not known.
    pub(crate) fn behind(&self, follower: RaftNodeId) -> Option<u64> {
        let committed = self.raft.data_metrics().borrow_watched().cluster_committed?.index;
        Some(committed.saturating_sub(self.matched(follower)?.index))
    }

    /// How many entries a follower lacks; `None` if that is not known.
    pub(crate) fn lag(&self, follower: RaftNodeId) -> Option<u64> {
        let last = self.raft.data_metrics().borrow_watched().last_log?.index;
        Some(last.saturating_sub(self.matched(follower)?.index))
    }

    /// Makes the voter on a node the leader.
    ///
    /// # Errors
    /// [`TransferError`]; after [`TransferError::TimedOut`] this node may lead still, or anyone else.
    pub(crate) async fn run(&self, to: NodeId, within: Duration) -> Result<(), TransferError> {
        let term = self.core.leadership.elected_term().ok_or(TransferError::NotLeader)?;
        let successor = self.voter(to).ok_or(TransferError::NotAVoter(to))?;
        if successor == self.core.id {
            return Ok(());
        }
        let deadline = Instant::now() + within;
        let ask = self.network.calls(successor);
        let willing = ask.ask(Lane::Control, Ask::MayLead, None, within.min(ASK_WITHIN)).await;
        if !matches!(willing, Ok(Answer::Transferring(true))) {
            return Err(TransferError::TimedOut(to));
        }
        let leads = || self.core.leadership.elected_term() == Some(term);
        self.core.leadership.pause(term);
        let _resumes = Resumes(&self.core);
        let ready = timeout_at(deadline, async {
            while leads() && !(self.is_there(successor) && self.lag(successor) == Some(0)) {
                sleep(LOOK_EVERY).await;
            }
        });
        if ready.await.is_err() {
            return Err(TransferError::TimedOut(to));
        }
        if leads() {
            let told = self.raft.trigger().transfer_leader(successor).await;
            told.map_err(|_| TransferError::NotLeader)?;
        }
        let succeeded = || self.core.leadership.known_leader().is_some_and(|leader| leader != self.core.id);
        let waited = timeout_at(deadline, async {
            while leads() || !succeeded() {
                sleep(LOOK_EVERY).await;
            }
        });
        let known = waited.await.ok().and_then(|()| self.core.leadership.known_leader());
        if known.map(node_of) == Some(to) { Ok(()) } else { Err(TransferError::TimedOut(to)) }
    }
}

/// Lets the leader go on if it is one still, also if its hand-over is given up in the middle. openraft itself takes
/// nothing in a term that it began to hand over.
struct Resumes<'a>(&'a Core);

impl Drop for Resumes<'_> {
    fn drop(&mut self) {
        self.0.leadership.resume();
    }
}
