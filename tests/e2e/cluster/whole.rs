//! Who leads, and whether the cluster is whole.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::nodes::{Cluster, LOOK, NODES, WHOLE_WITHIN};
use crate::http::Connection;

/// Entries a replica may be behind and still count as caught up while others write.
const LAG_MAX: u64 = 2_000;

impl Cluster {
    /// What a node says about the cluster, if it can.
    pub(crate) fn view(&self, node: u32) -> Option<Value> {
        let mut connection = Connection::open_within(self.address(node), LOOK).ok()?;
        let answer = connection.call("GET", "/v1/cluster", &[], b"").ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Who leads a shard, and its term, as one of those nodes says.
    pub(crate) fn leader_seen_by(&self, nodes: &[u32], shard: u64) -> Option<(u32, u64)> {
        nodes.iter().find_map(|node| {
            let view = self.view(*node)?;
            let found = view["shards"].as_array()?.iter().find(|s| number(&s["shard"]) == Some(shard))?.clone();
            Some((number(&found["leader"])? as u32, number(&found["term"])?))
        })
    }

    /// Who leads a shard of a cluster that is whole.
    #[track_caller]
    pub(crate) fn leader(&self, shard: u64) -> (u32, u64) {
        let start = Instant::now();
        loop {
            if let Some(found) = self.leader_seen_by(&NODES, shard) {
                return found;
            }
            assert!(start.elapsed() < WHOLE_WITHIN, "nobody leads shard {shard}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until every node is ready and every replica has caught up.
    #[track_caller]
    pub(crate) fn wait_until_whole(&self) {
        if let Err(words) = self.becomes_whole(WHOLE_WITHIN) {
            panic!("{words}\n{}", self.logs());
        }
    }

    /// Waits so long at most; says what is missing then.
    pub(crate) fn becomes_whole(&self, within: Duration) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let missing = self.missing();
            let Some(missing) = missing else { return Ok(()) };
            if start.elapsed() > within {
                return Err(format!("the cluster is not whole after {within:?}: {missing}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Why the cluster is not whole.
    fn missing(&self) -> Option<String> {
        for node in NODES {
            let ready = Connection::open_within(self.address(node), LOOK)
                .and_then(|mut connection| connection.call("GET", "/health/ready", &[], b""));
            match ready {
                Ok(answer) if answer.status == 200 => {}
                other => return Some(format!("node {node}: {other:?}")),
            }
        }
        let Some(view) = self.view(1) else { return Some("no view of node 1".into()) };
        let whole = view["shards"].as_array().is_some_and(|shards| {
            !shards.is_empty()
                && shards.iter().all(|shard| {
                    let replicas = shard["replicas"].as_array().map_or(&[][..], Vec::as_slice);
                    let caught_up = |replica: &&Value| {
                        matches!(replica["role"].as_str(), Some("leader" | "follower"))
                            && number(&replica["lag"]).is_some_and(|lag| lag < LAG_MAX)
                    };
                    number(&shard["leader"]).is_some() && replicas.iter().filter(caught_up).count() == NODES.len()
                })
        });
        (!whole).then(|| view.to_string())
    }
}

/// A number, or a decimal string of one.
pub(crate) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
