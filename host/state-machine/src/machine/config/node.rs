//! Nodes of the cluster, in the metadata shard.

use pointsman_model::{NodeId, limits};

use super::{Entry, Stop, check_expect, unchanged};
use crate::command::Expect;
use crate::outcome::{Outcome, Refusal};
use crate::state::Node;
use crate::table;

impl Entry<'_> {
    /// Puts a node. Its incarnation never goes back: an earlier life of it must not speak for it again.
    pub(super) fn put_node(
        &mut self,
        expect: &Expect,
        id: NodeId,
        incarnation: u32,
        peer_address: String,
        address: String,
    ) -> Result<Outcome, Stop> {
        if id.0 == 0 {
            return Err(Refusal::Malformed("no node has id 0".into()).into());
        }
        if peer_address.len().max(address.len()) > limits::NODE_ADDRESS_BYTES_MAX {
            return Err(Refusal::Malformed("the address of a node is too long".into()).into());
        }
        let existing = self.state.nodes.get(&id);
        check_expect(expect, existing.map(|node| node.revision))?;
        if let Some(node) = existing {
            if incarnation < node.incarnation {
                return Err(Refusal::Malformed(format!("node {id} is in its life {}", node.incarnation)).into());
            }
            if (node.incarnation, &node.peer_address, &node.address) == (incarnation, &peer_address, &address) {
                return Ok(unchanged(id.0, node.revision));
            }
        } else if self.state.nodes.len() >= limits::NODES_MAX {
            return Err(Refusal::Malformed("the cluster has as many nodes as it may have".into()).into());
        }
        let created = existing.is_none();
        let revision = self.next_revision();
        let node = Node { incarnation, peer_address, address, revision };
        self.changes.put(table::node_key(id), table::encode(&table::NodeRow::from(&node)));
        self.changes.config_changed = true;
        self.state.nodes.insert(id, node);
        Ok(Outcome::Configured { created, unchanged: false, revision, id: id.0 })
    }
}
