//! The nodes of the cluster, as the metadata shard knows them. No client writes them.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_model::NodeId;
use pointsman_state_machine::command::{Expect, Object};
use pointsman_state_machine::state::Node;

use super::NO_TENANT;
use crate::call::now;
use crate::{Broker, Call, Error, Principal};

/// How long a node's row may take.
const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// What is written of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// How often it was replaced by an empty one; never goes back.
    pub incarnation: u32,
    /// Where other nodes reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub address: String,
}

impl Broker {
    /// Every node that is written down, with the revision of its row.
    #[must_use]
    pub fn node_rows(&self) -> BTreeMap<NodeId, (NodeEntry, u64)> {
        let entry = |node: &Node| NodeEntry {
            incarnation: node.incarnation,
            peer_address: node.peer_address.clone(),
            address: node.address.clone(),
        };
        let state = self.inner.metadata.port.state();
        state.nodes.iter().map(|(id, node)| (*id, (entry(node), node.revision))).collect()
    }

    /// Writes a node down, if its row still has this revision; `None` if it has no row yet.
    ///
    /// # Errors
    /// [`Error::NoLeader`] unless this node leads the metadata shard, [`Error::PreconditionFailed`] if another was first,
    /// a failed write.
    pub async fn put_node(&self, id: NodeId, entry: NodeEntry, revision: Option<u64>) -> Result<(), Error> {
        let call =
            Call { principal: Principal::Node, deadline: now() + WRITE_WITHIN, request_id: format!("node-{id}") };
        let NodeEntry { incarnation, peer_address, address } = entry;
        let object = Object::Node { id: id.0, incarnation, peer_address, address };
        let expect = revision.map_or(Expect::Absent, |revision| Expect::Revision(vec![revision]));
        self.put(&call, &self.inner.metadata, NO_TENANT, expect, object).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixture::Fixture;

    #[tokio::test]
    async fn a_node_is_written_once_for_each_revision() {
        let fixture = Fixture::new().await;
        let broker = &fixture.broker;
        let entry = |incarnation| NodeEntry { incarnation, peer_address: "a:1".into(), address: "a:2".into() };
        assert!(broker.node_rows().is_empty());
        broker.put_node(NodeId(3), entry(0), None).await.expect("written");
        assert!(matches!(broker.put_node(NodeId(3), entry(1), None).await, Err(Error::PreconditionFailed)));
        let (found, revision) = broker.node_rows()[&NodeId(3)].clone();
        assert_eq!(found, entry(0));
        broker.put_node(NodeId(3), entry(1), Some(revision)).await.expect("the next life");
        assert!(matches!(broker.put_node(NodeId(3), entry(2), Some(revision)).await, Err(Error::PreconditionFailed)));
        assert_eq!(broker.node_rows()[&NodeId(3)].0, entry(1));
    }
}
