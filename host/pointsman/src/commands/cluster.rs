//! `pointsman cluster`: nodes and shards, and who leads.

use pointsman_api_types::cluster::{Cluster, ClusterNode, ClusterReplica, ClusterShard, NodeState, ReplicaRole};

use crate::commands::{Connection, Failure, block_on};
use crate::output::{self, Table};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show nodes and shards, as the node that is asked sees them.
    Status {
        #[command(flatten)]
        connection: Connection,
    },
    /// Hand a shard over to another node, and wait until that one leads.
    Transfer {
        /// Number of the shard; 0 is the metadata shard.
        shard: u16,
        /// Number of the node that is to lead.
        node: u32,
        #[command(flatten)]
        connection: Connection,
    },
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Status { connection } => {
            let client = connection.client()?;
            let cluster = block_on(async { Ok(client.cluster().await?) })?;
            if connection.json {
                return Ok(output::json(&cluster)?);
            }
            let Cluster { nodes, shards } = cluster;
            nodes_table(&nodes).print()?;
            output::line("")?;
            Ok(shards_table(&shards).print()?)
        }
        Command::Transfer { shard, node, connection } => {
            let client = connection.client()?;
            let shard = block_on(async { Ok(client.transfer_shard(shard, node).await?) })?;
            if connection.json { Ok(output::json(&shard)?) } else { Ok(shards_table(&[shard]).print()?) }
        }
    }
}

fn nodes_table(nodes: &[ClusterNode]) -> Table {
    let mut table = Table::new(["NODE", "STATE", "ADDRESS", "PEER_ADDRESS", "LIFE", "REASON"]);
    for node in nodes {
        let state = match node.state {
            NodeState::Up => "up",
            NodeState::Down => "down",
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let (node_id, life) = (node.node.to_string(), node.incarnation.to_string());
        table.row([node_id, state.to_owned(), text(&node.address), text(&node.peer_address), life, text(&node.reason)]);
    }
    table
}

/// A row a replica: who leads is told once.
fn shards_table(shards: &[ClusterShard]) -> Table {
    let mut table = Table::new(["SHARD", "LEADER", "TERM", "COMMITTED", "NODE", "ROLE", "APPLIED", "LAG", "FAILURE"]);
    for shard in shards {
        let leader = shard.leader.map_or_else(|| "-".to_owned(), |leader| leader.to_string());
        for replica in &shard.replicas {
            let ClusterReplica { node, role, applied, lag, failure } = replica;
            let number =
                |n: &Option<pointsman_api_types::Decimal>| n.map_or_else(|| "-".to_owned(), |n| n.0.to_string());
            table.row([
                shard.shard.to_string(),
                leader.clone(),
                shard.term.0.to_string(),
                shard.committed.0.to_string(),
                node.to_string(),
                role.map_or("no answer", role_name).to_owned(),
                number(applied),
                number(lag),
                failure.clone().unwrap_or_else(|| "-".to_owned()),
            ]);
        }
    }
    table
}

fn role_name(role: ReplicaRole) -> &'static str {
    match role {
        ReplicaRole::Learner => "learner",
        ReplicaRole::Follower => "follower",
        ReplicaRole::Candidate => "candidate",
        ReplicaRole::Leader => "leader",
        ReplicaRole::Stopped => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use pointsman_api_types::Decimal;

    use super::*;

    #[test]
    fn a_replica_that_does_not_answer_has_its_row() {
        let silent = ClusterReplica { node: 2, role: None, applied: None, lag: None, failure: None };
        let leads = ClusterReplica {
            node: 1,
            role: Some(ReplicaRole::Leader),
            applied: Some(Decimal(7)),
            lag: Some(Decimal(0)),
            failure: None,
        };
        let shard = ClusterShard {
            shard: 1,
            leader: Some(1),
            term: Decimal(3),
            committed: Decimal(7),
            replicas: vec![leads, silent],
        };
        let text = shards_table(&[shard]).text();
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1], "1 1 3 7 1 leader 7 0 -");
        assert_eq!(lines[2], "1 1 3 7 2 no answer - - -");
    }
}
