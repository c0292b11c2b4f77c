//! What a leader looks after: that a change of members is finished, that a replaced node gets its voice back, and that
//! shards are led where they should be.
//!
//! One step at a time, and none before the step before it is committed; so it may stop anywhere, and the next leader
//! goes on from what the log says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;
use pointsman_model::NodeId;
use tokio::time::Instant;

use crate::config::{Cluster, raft_node_id};
use crate::hand_over::HandOver;
use crate::raft_types::{Membership, RaftNode, RaftNodeId};
use crate::shard::group::{incarnation_of, node_of};

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A replica that lacks no more committed entries than these may vote, or lead.
const LAG_MAX: u64 = 256;
/// A shard goes to its preferred leader once nothing spoke against it for this long.
const QUIET: Duration = Duration::from_secs(5);
/// How long a hand-over may take.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);
/// After a hand-over that came to nothing.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Looks after one shard while this node leads it.
pub(crate) struct Caretaker {
    way: HandOver,
    cluster: Cluster,
    /// Since when the shard could go to its preferred leader.
    quiet_since: Option<Instant>,
}

/// One step of a change of members.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Makes these the voters and forgets the others.
    Voters(BTreeSet<RaftNodeId>),
    /// Lets a new life of a node learn.
    Learn(RaftNodeId, RaftNode),
    /// Forgets a learner.
    Forget(RaftNodeId),
}

/// The next step from a committed membership, if any is due.
fn next_step(
    membership: &Membership,
    seen: &BTreeMap<NodeId, u32>,
    addresses: &BTreeMap<NodeId, String>,
    is_caught_up: impl Fn(RaftNodeId) -> bool,
) -> Option<Step> {
    let configs = membership.get_joint_config();
    let voters = configs.last()?;
    if configs.len() > 1 {
        return Some(Step::Voters(voters.clone()));
    }
    let members: BTreeSet<RaftNodeId> = membership.nodes().map(|(id, _)| *id).collect();
    for (node, incarnation) in seen {
        let (newest, lives) = (raft_node_id(*node, *incarnation), members.iter().filter(|id| node_of(**id) == *node));
        let lives: Vec<RaftNodeId> = lives.copied().collect();
        // Who is no member is not made one by saying hello, and nobody goes back to an older life.
        if lives.is_empty() || lives.iter().any(|life| incarnation_of(*life) > *incarnation) {
            continue;
        }
        let older: Vec<RaftNodeId> = lives.iter().copied().filter(|life| *life != newest).collect();
        if !lives.contains(&newest) {
            let addr = addresses.get(node).cloned().unwrap_or_default();
            return Some(Step::Learn(newest, RaftNode { addr }));
        }
        if older.iter().any(|life| voters.contains(life)) {
            if !is_caught_up(newest) {
                continue;
            }
            let swapped = voters.iter().copied().filter(|voter| !older.contains(voter)).chain([newest]);
            return Some(Step::Voters(swapped.collect()));
        }
        if let Some(life) = older.first() {
            return Some(Step::Forget(*life));
        }
    }
    None
}

/// Where a shard should be led: its number, modulo how many voters there are, among their nodes.
fn preferred(shard: u16, voters: impl Iterator<Item = RaftNodeId>) -> Option<NodeId> {
    let nodes: BTreeSet<NodeId> = voters.map(node_of).collect();
    nodes.iter().nth(usize::from(shard) % nodes.len().max(1)).copied()
}

impl Caretaker {
    pub(crate) fn new(way: HandOver, cluster: Cluster) -> Self {
        Self { way, cluster, quiet_since: None }
    }

    /// Looks again and again until the shard stops.
    pub(crate) async fn keep(mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.way.core.failure().is_some() {
                return;
            }
            if self.way.core.leadership.term().is_some() {
                self.look().await;
            } else {
                self.quiet_since = None;
            }
        }
    }

    async fn look(&mut self) {
        let (effective, committed) = {
            let metrics = self.way.raft.server_metrics();
            let now = metrics.borrow_watched();
            (now.membership_config.clone(), now.committed_membership_config.clone())
        };
        if effective.log_id() != committed.log_id() {
            self.quiet_since = None;
            return;
        }
        let seen = self.way.core.seen.lock().clone();
        let is_caught_up = |id| self.way.is_there(id) && self.way.behind(id).is_some_and(|lag| lag <= LAG_MAX);
        match next_step(effective.membership(), &seen, &self.cluster.nodes, is_caught_up) {
            Some(step) => {
                self.quiet_since = None;
                self.take(step).await;
            }
            None => self.balance(preferred(self.way.core.shard.0, effective.voter_ids())).await,
        }
    }

    async fn take(&self, step: Step) {
        let shard = self.way.core.shard.0;
        tracing::info!(shard.id = shard, ?step, "the members of the shard change");
        let raft = &self.way.raft;
        let taken = match step {
            Step::Voters(voters) => raft.change_membership(voters, false).await.map(drop),
            Step::Learn(id, node) => raft.add_learner(id, node, false).await.map(drop),
            Step::Forget(id) => {
                raft.change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([id])), false).await.map(drop)
            }
        };
        if let Err(error) = taken {
            tracing::warn!(shard.id = shard, %error, "the members of the shard do not change yet");
        }
    }

    /// Hands over to the preferred leader once it was there, with everything, for a while.
    async fn balance(&mut self, preferred: Option<NodeId>) {
        let Some(preferred) = preferred.filter(|node| *node != node_of(self.way.core.id)) else {
            self.quiet_since = None;
            return;
        };
        let fits = self
            .way
            .voter(preferred)
            .is_some_and(|voter| self.way.is_there(voter) && self.way.behind(voter).is_some_and(|lag| lag <= LAG_MAX));
        if !fits {
            self.quiet_since = None;
            return;
        }
        let since = *self.quiet_since.get_or_insert_with(Instant::now);
        if Instant::now() < since + QUIET {
            return;
        }
        let shard = self.way.core.shard.0;
        match self.way.run(preferred, HAND_OVER_WITHIN).await {
            Ok(()) => tracing::info!(shard.id = shard, node.id = preferred.0, "the shard went to its preferred leader"),
            Err(error) => {
                tracing::warn!(shard.id = shard, %error, "the shard did not go to its preferred leader");
                self.quiet_since = Some(Instant::now() + AGAIN_AFTER);
            }
        }
    }
}

#[cfg(test)]
mod tests;
