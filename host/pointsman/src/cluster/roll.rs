//! The nodes that the metadata shard knows, kept true by whoever leads it; and word of new lives to every shard.

use std::sync::Arc;
use std::time::Duration;

use pointsman_broker::ports::Shard as _;
use pointsman_broker::{Broker, NodeEntry};
use pointsman_consensus::Node;
use tokio::time::timeout;

use super::front::Front;
use super::peer_list::Peer;

/// How often it is looked though nothing changed: leadership may have.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Keeps the roll for as long as the node runs.
pub(crate) async fn keep_roll(front: Front, shards: Arc<Node>, broker: Broker) {
    let Some(peers) = front.links().peers() else { return };
    let mut changed = peers.changed();
    let mut said = None;
    loop {
        changed.borrow_and_update();
        let note = Some(front.standing().note);
        if said != note {
            // The membership is applied, or is another: who has an empty directory must hear of it.
            peers.announce();
            said = note;
        }
        tell_of_lives(&front, &shards, &broker);
        if shards.metadata.leadership().is_some() {
            write_down(&front, &shards, &broker).await;
        }
        // Nothing new is a reason to look again, too.
        if let Ok(Err(_)) = timeout(LOOK_EVERY, changed.changed()).await {
            return;
        }
    }
}

/// A node that says hello in the life that the metadata shard gave it may take the place of its older one.
fn tell_of_lives(front: &Front, shards: &Node, broker: &Broker) {
    let rows = broker.node_rows();
    for (id, heard) in front.heard() {
        let Some(standing) = heard.standing.filter(|standing| standing.cluster.is_some() && heard.connected) else {
            continue;
        };
        let given = rows.get(&id).map(|(row, _)| row.incarnation);
        if standing.incarnation > 0 && given == Some(standing.incarnation) {
            shards.saw(id, standing.incarnation);
        }
    }
}

/// Writes down every node of `--peers` that has no row, or another address.
async fn write_down(front: &Front, shards: &Node, broker: &Broker) {
    let rows = broker.node_rows();
    let replicas = shards.metadata.status().replicas;
    for (id, peer) in &front.list().nodes {
        let life = replicas.iter().filter(|replica| replica.node == *id).map(|replica| replica.incarnation).max();
        let Some((entry, revision)) = due(peer, rows.get(id), life) else { continue };
        if let Err(error) = broker.put_node(*id, entry, revision).await {
            tracing::debug!(node.id = id.0, %error, "a node was not written down; it is tried again");
            return;
        }
    }
}

/// What is to be written of a node, and over which revision.
fn due(peer: &Peer, row: Option<&(NodeEntry, u64)>, life: Option<u32>) -> Option<(NodeEntry, Option<u64>)> {
    let (peer_address, address) = (peer.peer.to_string(), peer.http.to_string());
    match row {
        Some((row, _)) if row.peer_address == peer_address && row.address == address => None,
        Some((row, revision)) => {
            Some((NodeEntry { incarnation: row.incarnation, peer_address, address }, Some(*revision)))
        }
        // Only members are written down.
        None => life.map(|incarnation| (NodeEntry { incarnation, peer_address, address }, None)),
    }
}

#[cfg(test)]
mod tests {
    use pointsman_model::NodeId;

    use super::*;
    use crate::cluster::peer_list::PeerList;

    #[test]
    fn members_are_written_down_once_and_again_when_they_move() {
        let list = PeerList::parse("1", "1=a:1/a:2").expect("good");
        let peer = &list.nodes[&NodeId(1)];
        let entry = |incarnation, address: &str| NodeEntry {
            incarnation,
            peer_address: "a:1".to_owned(),
            address: address.to_owned(),
        };
        assert_eq!(due(peer, None, None), None, "no member");
        assert_eq!(due(peer, None, Some(2)), Some((entry(2, "a:2"), None)));
        assert_eq!(due(peer, Some(&(entry(0, "a:2"), 7)), Some(0)), None);
        assert_eq!(due(peer, Some(&(entry(3, "b:2"), 7)), Some(0)), Some((entry(3, "a:2"), Some(7))));
    }
}
