//! The cluster for operators: where shards lead, how far replicas are, and handing leadership over.

use std::time::{Duration, Instant};

use pointsman_model::{NodeId, ShardId, limits};
use tokio::task::JoinSet;

use crate::nodes::{NodeAnswer, NodeRequest};
use crate::ports::{Shard, TransferError};
use crate::view::{ReplicaOf, ReplicaView, ShardView};
use crate::{Action, Broker, Call, Error};

/// How long another node may take to say how its shards are.
const STATUS_WAIT: Duration = Duration::from_millis(limits::NODE_STATUS_MS_MAX);

impl Broker {
    /// Every shard with its replicas, as each node says; a node that does not answer soon says nothing.
    ///
    /// # Errors
    /// A missing scope.
    pub async fn list_shards(&self, call: &Call) -> Result<Vec<ShardView>, Error> {
        self.authorize_node(call, Action::Operator)?;
        let told = self.told_by_all().await;
        Ok(self.shards().map(|shard| shard_view(&*shard.port, &told)).collect())
    }

    /// Gives leadership of a shard that this node leads to another node, and waits until that one leads.
    ///
    /// # Errors
    /// A missing scope, no such shard, a node without a vote, [`Error::NoLeader`] if this node does not lead it.
    pub async fn transfer(&self, call: &Call, shard: ShardId, to: NodeId) -> Result<ShardView, Error> {
        self.authorize_node(call, Action::Operator)?;
        let found = self.shards().find(|found| found.port.id() == shard);
        let found = found.ok_or_else(|| Error::invalid("", format!("there is no shard {shard}")))?;
        let within = call.deadline.saturating_duration_since(Instant::now());
        match found.port.transfer(to, within).await {
            Ok(()) => {}
            Err(TransferError::NotLeader) => return Err(Error::NoLeader),
            Err(error @ TransferError::NotAVoter(_)) => return Err(Error::invalid("/node", error.to_string())),
            Err(error) => return Err(Error::Overloaded(error.to_string())),
        }
        let told = self.told_by_all().await;
        let mut view = shard_view(&*found.port, &told);
        // It was seen to lead; what others have heard of it may be older.
        view.leader = Some(to);
        Ok(view)
    }

    /// How the shards of this node are.
    pub(crate) fn replicas_here(&self) -> Vec<ReplicaView> {
        self.shards().map(|shard| replica_view(&*shard.port)).collect()
    }

    /// What each node says, this one first.
    async fn told_by_all(&self) -> Vec<(NodeId, Vec<ReplicaView>)> {
        let mut told = vec![(self.inner.config.node, self.replicas_here())];
        let mut asked = JoinSet::new();
        for node in self.others() {
            let broker = self.clone();
            asked.spawn(async move { (node, broker.ask(node, &NodeRequest::Status, STATUS_WAIT).await) });
        }
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok((node, Ok(NodeAnswer::Status(replicas)))) => told.push((node, replicas)),
                Ok((node, answer)) => tracing::debug!(node.id = node.0, ?answer, "a node did not say how it is"),
                Err(_) => {}
            }
        }
        told
    }
}

fn replica_view(shard: &dyn Shard) -> ReplicaView {
    let status = shard.status();
    let index = |index: Option<pointsman_model::LogIndex>| index.map_or(0, |index| index.0);
    ReplicaView {
        shard: shard.id().0,
        role: status.role.as_str().to_owned(),
        term: status.term.0,
        leader: status.leader.map(|leader| leader.0),
        committed: index(status.committed),
        applied: index(status.applied),
        failure: status.failure,
    }
}

/// A shard, put together from what the nodes say of it.
fn shard_view(shard: &dyn Shard, told: &[(NodeId, Vec<ReplicaView>)]) -> ShardView {
    let id = shard.id();
    let of_shard = |replicas: &[ReplicaView]| replicas.iter().find(|replica| replica.shard == id.0).cloned();
    let mut replicas: Vec<ReplicaOf> = shard
        .status()
        .replicas
        .iter()
        .map(|replica| ReplicaOf {
            node: replica.node,
            said: told.iter().find(|(node, _)| *node == replica.node).and_then(|(_, said)| of_shard(said)),
        })
        .collect();
    replicas.sort_by_key(|replica| replica.node);
    let said = || replicas.iter().filter_map(|replica| replica.said.as_ref());
    // The newest term knows best who leads in it.
    let newest = said().max_by_key(|said| (said.term, said.leader.is_some()));
    ShardView {
        shard: id,
        leader: newest.and_then(|said| said.leader).map(NodeId),
        term: pointsman_model::Term(newest.map_or(0, |said| said.term)),
        committed: said().map(|said| said.committed).max().unwrap_or_default(),
        replicas,
    }
}
