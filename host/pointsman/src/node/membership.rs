//! A node's part in its cluster: how it comes in, what runs beside its shards, and how it goes.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_api::{Api, ApiConfig, ClusterPorts};
use pointsman_broker::Broker;
use pointsman_consensus::{Cluster, Node};
use pointsman_model::time::SharedClock;
use pointsman_model::{NodeId, limits};
use pointsman_peer::{Peers, PeersConfig};
use pointsman_storage::identity::Identity;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Error, metrics, shards_config};
use crate::cluster::{
    Begin, ClusterOptions, Directory, Front, FrontConfig, Links, Refusal, first_contact, form, keep_roll,
};
use crate::settings::Settings;

/// A node's part in its cluster.
pub(crate) struct Membership {
    front: Front,
    links: Arc<Links>,
    peers: Arc<Peers>,
    /// Stops with this.
    tasks: Mutex<JoinSet<()>>,
}

impl Membership {
    /// Comes into the cluster, or forms it with the others; returns when the shards are open.
    pub(crate) async fn join(
        options: ClusterOptions,
        directory: &Arc<Directory>,
        settings: &Settings,
        clock: &SharedClock,
    ) -> Result<(Arc<Node>, Self), Error> {
        let ClusterOptions { list, listen, tls, replace } = options;
        let identity = directory.identity()?;
        if let Some(identity) = identity {
            if identity.node != list.own.0 {
                return Err(Error::OtherNode { node: identity.node, asked: list.own.0 });
            }
            if replace {
                return Err(Refusal::ReplaceNotEmpty.into());
            }
        }
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|source| pointsman_peer::Error::Listen { listen, source })?;
        let members = list.nodes.iter().map(|(id, peer)| (*id, peer.peer.to_string()));
        let members: std::collections::BTreeMap<NodeId, String> = members.collect();
        let links = Links::new(list.clone());
        let data_shards = settings.data_shards.unwrap_or(limits::DATA_SHARDS_CLUSTER_DEFAULT);
        let front = Front::new(FrontConfig {
            list: list.clone(),
            data_shards,
            segment_bytes: settings.segment_bytes,
            replace,
            directory: Arc::clone(directory),
            clock: Arc::clone(clock),
            links: Arc::clone(&links),
            identity,
        });
        let open = |identity: Identity, data_shards: u16| {
            let mut config = shards_config(directory, identity, settings, clock);
            config.data_shards = data_shards;
            config.cluster = Some(Cluster { transport: Arc::clone(&links) as _, nodes: members.clone() });
            let (front, links) = (front.clone(), Arc::clone(&links));
            async move {
                let shards = Arc::new(Node::open(config).await?);
                links.live(identity.incarnation);
                front.open(Arc::clone(&shards));
                Ok::<_, Error>(shards)
            }
        };

        // A node that has a directory knows what it is before it says so to anyone.
        let opened = match identity {
            Some(identity) => Some(open(identity, data_shards).await?),
            None => None,
        };
        if opened.is_some() {
            check_members(&front)?;
        }
        let others = members.iter().filter(|(id, _)| **id != list.own);
        let others = others.map(|(id, address)| (*id, address.clone())).collect();
        let config = PeersConfig { node: list.own, listen, peers: others, tls };
        let peers = Peers::start_on(config, listener, Arc::new(front.clone())).await?;
        links.connect(Arc::clone(&peers));

        let begin: Begin = form(&front).await?;
        let shards = match opened {
            Some(shards) => shards,
            None => open(begin.identity, begin.data_shards.unwrap_or(data_shards)).await?,
        };
        peers.announce();
        if begin.initialise {
            shards.initialise(&members).await?;
        }
        Ok((shards, Self { front, links, peers, tasks: Mutex::new(JoinSet::new()) }))
    }

    /// This node.
    pub(crate) fn node(&self) -> NodeId {
        self.front.list().own
    }

    /// Tells the API of the other nodes.
    pub(crate) fn describe(&self, config: &mut ApiConfig) {
        let links = Arc::clone(&self.links);
        config.cluster = Some(ClusterPorts { forward: Arc::clone(&links) as _, view: links as _ });
        let peers = Arc::clone(&self.peers);
        config.metrics.push(Arc::new(move |text| metrics::peers::write(&peers.counters(), text)));
    }

    /// Serves the other nodes' calls, and keeps the roll of nodes.
    pub(crate) fn serve(&self, shards: &Arc<Node>, broker: &Broker, api: Api) {
        broker.connect(Arc::clone(&self.links) as _);
        self.front.serve(broker.clone(), api);
        self.tasks.lock().spawn(keep_roll(self.front.clone(), Arc::clone(shards), broker.clone()));
    }

    /// Whom it meets first: see [`first_contact`].
    pub(crate) fn first_contact(&self) -> impl Future<Output = Refusal> + use<> {
        first_contact(self.front.clone())
    }

    /// Closes the connections to the other nodes.
    pub(crate) async fn leave(&self) {
        self.tasks.lock().abort_all();
        self.peers.shutdown().await;
    }
}

/// The cluster that the directory knows must be the one of `--peers`: its members change by other ways.
fn check_members(front: &Front) -> Result<(), Error> {
    let knows: BTreeSet<u32> = front.standing().note.knows.into_iter().map(|(node, _)| node).collect();
    let lists: BTreeSet<u32> = front.list().nodes.keys().map(|id| id.0).collect();
    if knows.is_empty() || knows == lists { Ok(()) } else { Err(Error::Members { knows, lists }) }
}
