//! The mesh as the rest of the node sees it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_model::{NodeId, ShardId};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::body::Body;
use crate::config::PeersConfig;
use crate::error::{CallError, Error, ForwardError};
use crate::handler::{ForwardAnswer, Handler, Service};
use crate::hello::Greeting;
use crate::lane::Lane;
use crate::link::Link;
use crate::mesh::Mesh;
use crate::pace::Pace;
use crate::seen::{Counters, Seen};
use crate::tls::Tls;

/// One node's way to all others; owns the peer port and every connection.
pub struct Peers {
    local_addr: SocketAddr,
    changed: watch::Sender<u64>,
    mesh: Arc<Mesh>,
}

impl Peers {
    /// Listens and begins to dial every peer, for ever. Returns before any of them is connected.
    ///
    /// # Errors
    /// The address cannot be listened on, is beyond this machine without TLS, or the TLS files are no good.
    pub async fn start(config: PeersConfig, handler: Arc<dyn Handler>) -> Result<Arc<Self>, Error> {
        let listen = config.listen;
        if config.tls.is_none() && !listen.ip().to_canonical().is_loopback() {
            return Err(Error::PlainBeyondLoopback { listen });
        }
        let listener = TcpListener::bind(listen).await.map_err(|source| Error::Listen { listen, source })?;
        Self::start_on(config, listener, handler).await
    }

    /// [`Peers::start`] on a socket that listens already, in place of `config.listen`.
    ///
    /// # Errors
    /// As of [`Peers::start`].
    pub async fn start_on(
        config: PeersConfig,
        listener: TcpListener,
        handler: Arc<dyn Handler>,
    ) -> Result<Arc<Self>, Error> {
        Self::start_at(config, listener, handler, Pace::default())
    }

    /// [`Peers::start_on`] with times of one's own.
    pub(crate) fn start_at(
        config: PeersConfig,
        listener: TcpListener,
        handler: Arc<dyn Handler>,
        pace: Pace,
    ) -> Result<Arc<Self>, Error> {
        let listen = config.listen;
        let local_addr = listener.local_addr().map_err(|source| Error::Listen { listen, source })?;
        if config.tls.is_none() && !local_addr.ip().to_canonical().is_loopback() {
            return Err(Error::PlainBeyondLoopback { listen: local_addr });
        }
        let tls = config.tls.as_ref().map(Tls::load).transpose()?;
        let changed = watch::Sender::new(0);
        let others = config.peers.into_iter().filter(|(node, _)| *node != config.node);
        let links = others.map(|(node, address)| (node, Link::new(node, address, changed.clone()))).collect();
        let mesh = Mesh::new(links, handler, tls, pace);
        mesh.connections.spawn(Arc::clone(&mesh).listen(listener));
        for link in mesh.links.values() {
            for lane in Lane::ALL {
                mesh.connections.spawn(Arc::clone(&mesh).keep(Arc::clone(link), lane));
            }
        }
        Ok(Arc::new(Self { local_addr, changed, mesh }))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What is known of a peer; `None` if it is not in the configuration.
    pub fn seen(&self, node: NodeId) -> Option<Seen> {
        self.mesh.links.get(&node).map(|link| link.seen())
    }

    /// Grows whenever any [`Seen`] changes (but for its round trip).
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Says hello again to every connected node, because something in it has changed. Where it is no longer welcome the
    /// connections are closed.
    pub fn announce(&self) {
        for link in self.mesh.links.values() {
            for lane in Lane::ALL {
                if let Some(caller) = link.caller(lane) {
                    let greeting = Greeting::ours(lane, link.node, self.mesh.handler().hello());
                    caller.announce(greeting.encode());
                }
            }
        }
    }

    /// Counts of what happened on the peer port.
    pub fn counters(&self) -> Counters {
        self.mesh.tally.read()
    }

    /// One request, sent as one frame, and its answer.
    ///
    /// # Errors
    /// See [`CallError`]. Never waits longer than `within`, and not at all for a connection.
    pub async fn call(
        &self,
        to: NodeId,
        service: Service,
        shard: ShardId,
        request: Vec<Bytes>,
        within: Duration,
    ) -> Result<Bytes, CallError> {
        let caller = self.link(to).and_then(|link| link.caller(Lane::of(service))).ok_or(CallError::Unreachable)?;
        caller.call(service, shard, request, within).await
    }

    /// Opens a stream for replication: requests in order, and as many answers in the same order.
    ///
    /// It ends when either side drops its end or the connection breaks; nobody says which requests were served. At most
    /// [`pointsman_model::limits::PEER_STREAM_FRAMES_MAX`] requests of [`pointsman_model::limits::PEER_STREAM_BYTES_MAX`]
    /// bytes together are on their way; behind those the sender waits. After the last request the answers still come.
    ///
    /// # Errors
    /// [`CallError::Unreachable`] if there is no connection.
    pub async fn append_stream(
        &self,
        to: NodeId,
        shard: ShardId,
    ) -> Result<(mpsc::Sender<Vec<Bytes>>, mpsc::Receiver<Bytes>), CallError> {
        let caller = self.link(to).and_then(|link| link.caller(Lane::Append)).ok_or(CallError::Unreachable)?;
        caller.append_stream(shard)
    }

    /// Hands a client's request to another node. Dropping this future, or the answer's body before its end, cancels it
    /// there.
    ///
    /// # Errors
    /// See [`ForwardError`]. A `body` that breaks off is [`ForwardError::NotSent`]. There is no time limit of its own.
    pub async fn forward(&self, to: NodeId, head: Bytes, body: Body) -> Result<ForwardAnswer, ForwardError> {
        let caller = self.link(to).and_then(|link| link.caller(Lane::Bulk)).ok_or(ForwardError::NotSent)?;
        caller.forward(head, body).await
    }

    /// Stops listening, sends what is queued, closes every connection and ends every task. Calls under way end.
    pub async fn shutdown(&self) {
        self.mesh.stop.cancel();
        self.mesh.connections.wait().await;
        self.mesh.serving.kill().await;
    }

    fn link(&self, node: NodeId) -> Option<&Link> {
        self.mesh.links.get(&node).map(|link| &**link)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.mesh.stop.cancel();
    }
}
