//! Nodes of the cluster: key and row.

use pointsman_model::NodeId;
use serde::{Deserialize, Serialize};

use super::{Key, NO_TENANT, NODE};
use crate::state::Node;

/// The key of a node's row.
pub(crate) fn node_key(id: NodeId) -> Vec<u8> {
    Key::new(NODE, NO_TENANT).u32(id.0).0
}

#[derive(Serialize, Deserialize)]
pub(crate) struct NodeRow {
    incarnation: u32,
    peer_address: String,
    address: String,
    revision: u64,
}

impl From<&Node> for NodeRow {
    fn from(node: &Node) -> Self {
        let Node { incarnation, peer_address, address, revision } = node.clone();
        Self { incarnation, peer_address, address, revision }
    }
}

impl NodeRow {
    pub(crate) fn load(self) -> Node {
        let Self { incarnation, peer_address, address, revision } = self;
        Node { incarnation, peer_address, address, revision }
    }
}
