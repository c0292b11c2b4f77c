//! What a replica asks the others from time to time while openraft runs: whether it may vote again, and whether it came
//! to the same outcomes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::Instant;

use crate::config::Cluster;
use crate::core::Core;
use crate::outcomes::{self, Verdict};
use crate::questions::{self, Question};
use crate::raft_types::RaftNodeId;
use crate::shard::Raft;
use crate::shard::group::node_of;
use crate::transport::Lane;

/// From one look at the vote gate to the next.
const GATE_EVERY: Duration = Duration::from_millis(500);
/// From one comparison of outcomes to the next.
const COMPARE_EVERY: Duration = Duration::from_secs(3);
/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Watches one replica until its shard stops.
pub(crate) struct Vigil {
    core: Arc<Core>,
    raft: Raft,
    cluster: Cluster,
    /// The newest hashes that each other voter told.
    hashes: BTreeMap<RaftNodeId, Vec<(u64, u64)>>,
    /// The last index at which a difference was reported.
    reported: u64,
}

impl Vigil {
    pub(crate) fn new(core: Arc<Core>, raft: Raft, cluster: Cluster) -> Self {
        Self { core, raft, cluster, hashes: BTreeMap::new(), reported: 0 }
    }

    /// Watches.
    pub(crate) async fn keep(mut self) {
        let stopped = Arc::clone(&self.core.leadership);
        tokio::select! {
            () = stopped.wait_stopped() => {}
            () = self.run() => {}
        }
    }

    async fn run(&mut self) {
        let mut compared = Instant::now();
        loop {
            tokio::time::sleep(GATE_EVERY).await;
            if self.core.gate.reason().is_some() {
                self.look_at_gate().await;
            }
            if compared.elapsed() >= COMPARE_EVERY {
                self.compare().await;
                compared = Instant::now();
            }
        }
    }

    /// The voters beside this node, and how many there are with it; none if it does not vote.
    fn others(&self) -> (Vec<RaftNodeId>, usize) {
        let metrics = self.raft.server_metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        let mut voters: Vec<RaftNodeId> = membership.voter_ids().collect();
        let count = voters.len();
        voters.retain(|voter| *voter != self.core.id);
        (voters, count)
    }

    async fn look_at_gate(&self) {
        if self.core.leadership.term().is_some() {
            self.core.gate.leads();
            return;
        }
        let (others, _) = self.others();
        self.core.gate.ask(others.clone());
        for (voter, answer) in self.ask(&others, &Question::Standing).await {
            // Another life of that node is not the voter.
            if let Ok(standing) = questions::standing(&answer)
                && standing.id == voter
            {
                self.core.gate.heard(voter, standing.last());
            }
        }
    }

    async fn compare(&mut self) {
        let (others, voters) = self.others();
        self.hashes.retain(|known, _| others.contains(known));
        for (voter, answer) in self.ask(&others, &Question::Hashes).await {
            if let Ok(hashes) = questions::hashes(&answer) {
                self.hashes.insert(voter, hashes);
            }
        }
        let verdict = outcomes::judge(&self.core.outcomes.known(), &self.hashes, voters);
        match verdict {
            Verdict::Fine => {}
            Verdict::Doubt { index } if index > self.reported => {
                self.reported = index;
                tracing::error!(
                    shard.id = self.core.shard.0,
                    log.index = index,
                    "another replica came to other outcomes; who is right is not known before a third answers"
                );
            }
            Verdict::Doubt { .. } => {}
            Verdict::Differs { index } => {
                self.core.fail(format!("it came to other outcomes than the other replicas, seen at entry {index}"));
            }
            Verdict::Undecided { index } => {
                self.core.fail(format!(
                    "the replicas came to different outcomes, seen at entry {index}, and no majority agrees"
                ));
            }
        }
    }

    /// Asks each; silence is no answer.
    async fn ask(&self, voters: &[RaftNodeId], question: &Question) -> Vec<(RaftNodeId, bytes::Bytes)> {
        let Ok(request) = question.encode() else { return Vec::new() };
        let calls = voters.iter().map(|voter| {
            let call = self.cluster.transport.call(
                node_of(*voter),
                Lane::Control,
                self.core.shard,
                request.clone(),
                ANSWER_WITHIN,
            );
            async move { call.await.ok().map(|answer| (*voter, answer)) }
        });
        futures_util::future::join_all(calls).await.into_iter().flatten().collect()
    }
}
