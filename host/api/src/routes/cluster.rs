//! The cluster: its nodes and shards, and who leads.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use pointsman_api_types::Decimal;
use pointsman_api_types::cluster::{
    Cluster, ClusterNode, ClusterReplica, ClusterShard, NodeState, ReplicaRole, TransferInput,
};
use pointsman_broker::view::{ReplicaOf, ShardView};
use pointsman_model::{NodeId, ShardId};

use super::{control_body, from_json};
use crate::context::Cx;
use crate::failure::Failure;
use crate::{App, NodeView, answer};

/// What the node that is asked knows, and what the others tell it.
pub(crate) async fn get(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let shards = cx.app.broker.list_shards(&cx.call).await?;
    let shards = shards.iter().map(shown).collect();
    answer::json(StatusCode::OK, &Cluster { nodes: nodes(&cx.app), shards })
}

/// Served by the node that leads the shard.
pub(crate) async fn transfer(cx: Cx, body: Body) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let shard = cx.path("shard").parse().ok().map(ShardId).filter(|shard| cx.app.broker.has_shard(*shard));
    let shard = shard.ok_or_else(|| Failure::invalid("", "there is no such shard; GET /v1/cluster lists them"))?;
    let input: TransferInput = from_json(&control_body(&cx, body, &[]).await?)?;
    let shard = cx.app.broker.transfer(&cx.call, shard, NodeId(input.node)).await?;
    answer::json(StatusCode::OK, &shown(&shard))
}

/// `POST|DELETE /v1/cluster/nodes…`: the first membership stays.
pub(crate) async fn unsupported(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    Err(Failure::unsupported("", "a cluster keeps the nodes it was formed of"))
}

fn nodes(app: &App) -> Vec<ClusterNode> {
    let Some(ports) = &app.config.cluster else {
        let node = app.config.node_id;
        let (address, peer_address, reason) = (None, None, None);
        return vec![ClusterNode { node, address, peer_address, state: NodeState::Up, incarnation: 0, reason }];
    };
    let shown = |view: NodeView| ClusterNode {
        node: view.node.0,
        address: Some(view.address),
        peer_address: Some(view.peer_address),
        state: if view.up { NodeState::Up } else { NodeState::Down },
        incarnation: view.incarnation,
        reason: view.reason,
    };
    ports.view.nodes().into_iter().map(shown).collect()
}

fn shown(shard: &ShardView) -> ClusterShard {
    ClusterShard {
        shard: shard.shard.0,
        leader: shard.leader.map(|leader| leader.0),
        term: Decimal(shard.term.0),
        committed: Decimal(shard.committed),
        replicas: shard.replicas.iter().map(|replica| replica_of(replica, shard.committed)).collect(),
    }
}

fn replica_of(replica: &ReplicaOf, committed: u64) -> ClusterReplica {
    let said = replica.said.as_ref();
    ClusterReplica {
        node: replica.node.0,
        role: said.and_then(|said| role(&said.role)),
        applied: said.map(|said| Decimal(said.applied)),
        lag: said.map(|said| Decimal(committed.saturating_sub(said.applied))),
        failure: said.and_then(|said| said.failure.clone()),
    }
}

fn role(name: &str) -> Option<ReplicaRole> {
    Some(match name {
        "learner" => ReplicaRole::Learner,
        "follower" => ReplicaRole::Follower,
        "candidate" => ReplicaRole::Candidate,
        "leader" => ReplicaRole::Leader,
        "stopped" => ReplicaRole::Stopped,
        _ => return None,
    })
}
