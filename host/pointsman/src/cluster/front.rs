//! What arrives from other nodes, and what this one says of itself.

mod asked;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_api::Api;
use pointsman_broker::Broker;
use pointsman_consensus::transport::{Lane, Serve as _};
use pointsman_model::time::SharedClock;
use pointsman_model::{NodeId, ShardId};
use pointsman_peer::{BoxFuture, ForwardAnswer, Handler, Hello, Service};
use pointsman_storage::identity::Identity;
use tokio::sync::{mpsc, watch};

use super::ask::Form;
use super::directory::Directory;
use super::formation::{Heard, Standing};
use super::links::{Links, to_api, to_peer};
use super::note::Note;
use super::peer_list::PeerList;
use crate::node::FEATURE_LEVEL;

/// Difference of wall clocks that is worth a warning: from here on stamps would jump with a change of leader.
const CLOCK_DIFFERENCE_MS_MAX: u64 = 1_000;

/// What arrives from other nodes is handled here.
#[derive(Clone)]
pub(crate) struct Front(Arc<Inner>);

struct Inner {
    list: PeerList,
    /// As the settings have it; what the directory has counts once the shards are open.
    data_shards: u16,
    segment_bytes: u64,
    replace: bool,
    directory: Arc<Directory>,
    clock: SharedClock,
    links: Arc<Links>,
    identity: watch::Sender<Option<Identity>>,
    /// Held while an identity is written.
    claiming: tokio::sync::Mutex<()>,
    shards: OnceLock<Arc<pointsman_consensus::Node>>,
    serving: OnceLock<(Broker, Api)>,
    /// Nodes whose clocks were found to differ.
    clocks: Mutex<BTreeMap<NodeId, bool>>,
}

/// What a [`Front`] is made of.
pub(crate) struct FrontConfig {
    pub(crate) list: PeerList,
    pub(crate) data_shards: u16,
    pub(crate) segment_bytes: u64,
    pub(crate) replace: bool,
    pub(crate) directory: Arc<Directory>,
    pub(crate) clock: SharedClock,
    pub(crate) links: Arc<Links>,
    pub(crate) identity: Option<Identity>,
}

impl Front {
    pub(crate) fn new(config: FrontConfig) -> Self {
        Self(Arc::new(Inner {
            list: config.list,
            data_shards: config.data_shards,
            segment_bytes: config.segment_bytes,
            replace: config.replace,
            directory: config.directory,
            clock: config.clock,
            links: config.links,
            identity: watch::Sender::new(config.identity),
            claiming: tokio::sync::Mutex::new(()),
            shards: OnceLock::new(),
            serving: OnceLock::new(),
            clocks: Mutex::default(),
        }))
    }

    /// The shards are open: replication is served from now on.
    pub(crate) fn open(&self, shards: Arc<pointsman_consensus::Node>) {
        assert!(self.0.shards.set(shards).is_ok(), "shards are opened once");
    }

    /// The use cases are there: forwarded requests are served from now on.
    pub(crate) fn serve(&self, broker: Broker, api: Api) {
        assert!(self.0.serving.set((broker, api)).is_ok(), "a node begins to serve once");
    }

    pub(crate) fn list(&self) -> &PeerList {
        &self.0.list
    }

    pub(crate) fn links(&self) -> &Arc<Links> {
        &self.0.links
    }

    pub(crate) fn replace(&self) -> bool {
        self.0.replace
    }

    /// Follows the identity of this node.
    pub(crate) fn identity(&self) -> watch::Receiver<Option<Identity>> {
        self.0.identity.subscribe()
    }

    /// What this node is.
    pub(crate) fn standing(&self) -> Standing {
        self.0.standing()
    }

    /// What the other nodes say of themselves.
    pub(crate) fn heard(&self) -> BTreeMap<NodeId, Heard> {
        let heard = |id| {
            let seen = self.0.links.seen(id).unwrap_or_default();
            let standing = seen.hello.and_then(|hello| {
                let note = Note::decode(&hello.note)?;
                Some(Standing { cluster: hello.cluster, incarnation: hello.incarnation, note })
            });
            Heard { standing, connected: seen.connected, refusal: seen.refused, in_words: seen.refused_in_words }
        };
        self.0.list.others().map(|(id, _)| (id, heard(id))).collect()
    }

    /// What a new cluster of this node would be.
    pub(crate) fn proposal(&self, cluster: [u8; 16]) -> Form {
        Form { cluster, data_shards: self.0.data_shards, segment_bytes: self.0.segment_bytes }
    }

    /// Makes the directory this node's, durably, unless it is already.
    pub(crate) async fn claim(
        &self,
        cluster: [u8; 16],
        incarnation: u32,
    ) -> Result<Identity, pointsman_storage::Error> {
        let _one = self.0.claiming.lock().await;
        let identity = Identity { cluster, node: self.0.list.own.0, incarnation };
        let claimed = tokio::task::block_in_place(|| self.0.directory.claim(identity))?;
        self.0.identity.send_replace(Some(claimed));
        if let Some(peers) = self.0.links.peers() {
            peers.announce();
        }
        Ok(claimed)
    }
}

impl Inner {
    fn standing(&self) -> Standing {
        let identity = *self.identity.borrow();
        Standing {
            cluster: identity.map(|identity| identity.cluster),
            incarnation: identity.map_or(0, |identity| identity.incarnation),
            note: self.note(),
        }
    }

    fn note(&self) -> Note {
        let mut note = Note {
            data_shards: self.data_shards,
            segment_bytes: self.segment_bytes,
            lists: self.list.nodes.keys().map(|id| id.0).collect(),
            ..Note::default()
        };
        let Some(shards) = self.shards.get() else { return note };
        note.formed = shards.is_formed();
        note.data_shards = u16::try_from(shards.data.len()).unwrap_or(u16::MAX);
        let mut knows = BTreeMap::new();
        for replica in shards.shards().flat_map(|shard| pointsman_broker::ports::Shard::status(&**shard).replicas) {
            let known = knows.entry(replica.node.0).or_insert(replica.incarnation);
            *known = replica.incarnation.max(*known);
        }
        note.knows = knows.into_iter().collect();
        note
    }

    /// A hello may lie unread for a while, so one that looks old says nothing; the node behind is the one that notices.
    fn compare_clocks(&self, peer: &Hello) {
        let ahead_ms = peer.wall_ms.saturating_sub(self.clock.wall().0);
        let differ = ahead_ms > CLOCK_DIFFERENCE_MS_MAX;
        let before = self.clocks.lock().insert(peer.node, differ);
        if differ && before != Some(true) {
            tracing::warn!(
                node.id = peer.node.0,
                ahead_ms,
                "the clock of a node is ahead; let both follow a time server"
            );
        }
    }
}

impl Handler for Front {
    fn hello(&self) -> Hello {
        let Standing { cluster, incarnation, note } = self.0.standing();
        Hello {
            cluster,
            node: self.0.list.own,
            incarnation,
            feature_level: FEATURE_LEVEL,
            wall_ms: self.0.clock.wall().0,
            note: note.encode().into(),
        }
    }

    fn admit(&self, peer: &Hello) -> Result<(), String> {
        self.0.compare_clocks(peer);
        let own = self.0.standing();
        match own.note.incarnation_of(peer.node) {
            Some(known) if peer.cluster.is_some() && known > peer.incarnation => {
                Err(format!("node {} was replaced: it is known in its life {known}", peer.node))
            }
            _ => Ok(()),
        }
    }

    fn call(
        &self,
        from: NodeId,
        service: Service,
        shard: ShardId,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, String>> {
        let lane = match service {
            Service::Control => Lane::Control,
            Service::Bulk => Lane::Bulk,
            Service::Node => {
                let asked = Arc::clone(&self.0).asked(from, request);
                return Box::pin(async move { Ok(vec![asked.await?]) });
            }
        };
        match self.0.shards.get() {
            Some(shards) => shards.serve_call(from, lane, shard, request),
            None => Box::pin(async { Err("this node is starting".to_owned()) }),
        }
    }

    fn append_stream(
        &self,
        from: NodeId,
        shard: ShardId,
        requests: mpsc::Receiver<Bytes>,
        answers: mpsc::Sender<Vec<Bytes>>,
    ) -> BoxFuture<'static, ()> {
        match self.0.shards.get() {
            Some(shards) => shards.serve_append_stream(from, shard, requests, answers),
            None => Box::pin(async {}),
        }
    }

    fn forward(&self, from: NodeId, request: pointsman_peer::Forwarded) -> BoxFuture<'static, ForwardAnswer> {
        let front = Arc::clone(&self.0);
        Box::pin(async move {
            let pointsman_peer::Forwarded { head, body } = request;
            let Some((_, api)) = front.serving.get() else {
                return ForwardAnswer { head: pointsman_api::not_leader(), body: pointsman_peer::Body::empty() };
            };
            let request = pointsman_api::Forwarded { head, body: to_api(body) };
            let answer = api.serve_forwarded(from, request).await;
            ForwardAnswer { head: answer.head, body: to_peer(answer.body) }
        })
    }
}
