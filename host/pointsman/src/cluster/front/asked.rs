//! What other nodes ask of this one as a node: to be of a cluster, or for their next life.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_broker::NodeEntry;
use pointsman_model::NodeId;
use pointsman_peer::CallError;

use super::{Front, Inner};
use crate::cluster::ask::{Ask, Form, NextLife};

/// How long the leader of the metadata shard may take to give out a life.
const PASS_ON_WITHIN: Duration = Duration::from_secs(6);

impl Inner {
    /// The lowest node asks this one to be of its cluster.
    async fn form(self: Arc<Self>, from: NodeId, form: Form) -> Result<Bytes, String> {
        let lowest = self.list.nodes.keys().next().copied();
        if lowest != Some(from) {
            return Err(format!("node {from} is not the lowest of --peers here"));
        }
        let standing = self.standing();
        let Form { cluster, data_shards, segment_bytes } = form;
        if (data_shards, segment_bytes) != (standing.note.data_shards, standing.note.segment_bytes) {
            return Err("data_shards or segment_bytes are set otherwise here".to_owned());
        }
        if standing.note.formed || self.replace {
            return Err("the cluster is formed already".to_owned());
        }
        match standing.cluster {
            Some(own) if own == cluster => return Ok(Bytes::new()),
            Some(_) => return Err("this node is of another cluster".to_owned()),
            None => {}
        }
        let claimed = Front(self).claim(cluster, 0).await.map_err(|error| error.to_string())?;
        if claimed.cluster == cluster { Ok(Bytes::new()) } else { Err("this node is of another cluster".to_owned()) }
    }

    /// Gives a node that lost its data its next life.
    async fn next_life(self: Arc<Self>, node: NodeId, passed_on: bool) -> Result<Bytes, String> {
        let (Some((broker, _)), Some(shards)) = (self.serving.get(), self.shards.get()) else {
            return Err("this node is starting".to_owned());
        };
        let peer = self.list.nodes.get(&node).ok_or_else(|| format!("there is no node {node} here"))?;
        let metadata: &dyn pointsman_broker::ports::Shard = &*shards.metadata;
        if metadata.leadership().is_none() {
            let leader = metadata.leader().filter(|leader| *leader != self.list.own && !passed_on);
            let leader = leader.ok_or("the metadata shard has no leader yet")?;
            let ask = Ask::Replace { node: node.0, passed_on: true };
            return self.links.ask(leader, &ask, PASS_ON_WITHIN).await.map_err(|error| match error {
                CallError::Refused(reason) => reason,
                other => format!("node {leader}: {other}"),
            });
        }
        let known = metadata.status().replicas.into_iter().filter(|replica| replica.node == node);
        let known =
            known.map(|replica| replica.incarnation).max().ok_or_else(|| format!("there is no node {node} here"))?;
        let row = broker.node_rows().remove(&node);
        let (last, revision) =
            row.map_or((known, None), |(row, revision)| (row.incarnation.max(known), Some(revision)));
        let incarnation = last.checked_add(1).ok_or("the node has had all its lives")?;
        let entry = NodeEntry { incarnation, peer_address: peer.peer.to_string(), address: peer.http.to_string() };
        broker.put_node(node, entry, revision).await.map_err(|error| error.to_string())?;
        let cluster = self.identity.borrow().ok_or("this node has no cluster")?.cluster;
        let data_shards = u16::try_from(shards.data.len()).unwrap_or(u16::MAX);
        tracing::info!(
            node.id = node.0,
            node.incarnation = incarnation,
            "a node takes its place with an empty directory"
        );
        Ok(NextLife { cluster, incarnation, data_shards, segment_bytes: self.segment_bytes }.encode())
    }

    pub(super) async fn asked(self: Arc<Self>, from: NodeId, request: Bytes) -> Result<Bytes, String> {
        match Ask::decode(&request)? {
            Ask::Form(form) => self.form(from, form).await,
            Ask::Replace { node, passed_on } => {
                if !passed_on && node != from.0 {
                    return Err("a node asks for itself".to_owned());
                }
                self.next_life(NodeId(node), passed_on).await
            }
            Ask::Inner(request) => match self.serving.get() {
                Some((broker, _)) => broker.serve_node_call(from, request.into()).await,
                None => Err("this node is starting".to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_model::time::SystemClock;

    use super::*;
    use crate::cluster::front::FrontConfig;
    use crate::cluster::links::Links;
    use crate::cluster::peer_list::PeerList;
    use crate::cluster::{Directory, front};

    fn front(directory: &std::path::Path, replace: bool) -> front::Front {
        let list = PeerList::parse("2", "1=a:1/a:2,2=b:1/b:2,3=c:1/c:2").expect("good");
        let directory = Arc::new(Directory::take(directory).expect("free"));
        let identity = directory.identity().expect("readable");
        Front::new(FrontConfig {
            links: Links::new(list.clone()),
            list,
            data_shards: 3,
            segment_bytes: 1 << 20,
            replace,
            directory,
            clock: Arc::new(SystemClock::new()),
            identity,
        })
    }

    async fn ask(front: &front::Front, from: u32, ask: &Ask) -> Result<Bytes, String> {
        Arc::clone(&front.0).asked(NodeId(from), ask.encode()).await
    }

    fn form(cluster: u8) -> Form {
        Form { cluster: [cluster; 16], data_shards: 3, segment_bytes: 1 << 20 }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_is_of_the_first_cluster_that_its_lowest_gives_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let node = front(directory.path(), false);
        for refused in [
            ask(&node, 3, &Ask::Form(form(7))).await,
            ask(&node, 1, &Ask::Form(Form { data_shards: 4, ..form(7) })).await,
            ask(&node, 1, &Ask::Form(Form { segment_bytes: 1, ..form(7) })).await,
            Arc::clone(&node.0).asked(NodeId(1), Bytes::from_static(b"\xff")).await,
        ] {
            refused.expect_err("refused");
        }
        assert_eq!(node.standing().cluster, None);
        for _ in 0..2 {
            ask(&node, 1, &Ask::Form(form(7))).await.expect("again and again");
        }
        ask(&node, 1, &Ask::Form(form(8))).await.expect_err("another one");
        drop(node);
        let again = front(directory.path(), false);
        assert_eq!(again.standing().cluster, Some([7; 16]), "it was on disk before it was answered");
        assert_eq!(again.identity().borrow().expect("there").node, 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_that_is_to_be_replaced_is_not_formed() {
        let directory = tempfile::tempdir().expect("a directory");
        let node = front(directory.path(), true);
        ask(&node, 1, &Ask::Form(form(7))).await.expect_err("refused");
        assert_eq!(node.standing().cluster, None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_that_starts_gives_out_no_life_and_none_asks_for_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let node = front(directory.path(), false);
        let replace = |node| Ask::Replace { node, passed_on: false };
        assert!(ask(&node, 3, &replace(3)).await.expect_err("refused").contains("starting"));
        assert!(ask(&node, 3, &replace(1)).await.expect_err("refused").contains("for itself"));
        assert!(ask(&node, 3, &Ask::Inner(vec![1])).await.expect_err("refused").contains("starting"));
    }
}
