//! The mesh: one node's way to all others.

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
use crate::seen::{Counters, Seen};

/// One node's way to all others; owns the peer port and every connection.
pub struct Peers {
    local_addr: SocketAddr,
    changed: watch::Sender<u64>,
}

impl Peers {
    /// Listens and begins to dial every peer, for ever. Returns before any of them is connected.
    ///
    /// # Errors
    /// The address cannot be listened on, is beyond this machine without TLS, or the TLS files are no good.
    pub async fn start(config: PeersConfig, handler: Arc<dyn Handler>) -> Result<Arc<Self>, Error> {
        let listen = config.listen;
        let listener = TcpListener::bind(listen).await.map_err(|source| Error::Listen { listen, source })?;
        Self::start_on(config, listener, handler).await
    }

    /// [`Peers::start`] on a socket that listens already.
    ///
    /// # Errors
    /// As of [`Peers::start`].
    pub async fn start_on(
        config: PeersConfig,
        listener: TcpListener,
        handler: Arc<dyn Handler>,
    ) -> Result<Arc<Self>, Error> {
        let listen = config.listen;
        let local_addr = listener.local_addr().map_err(|source| Error::Listen { listen, source })?;
        let _ = handler.hello();
        Ok(Arc::new(Self { local_addr, changed: watch::Sender::new(0) }))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What is known of a peer; `None` if it is not in the configuration.
    pub fn seen(&self, node: NodeId) -> Option<Seen> {
        let _ = node;
        None
    }

    /// Grows whenever any [`Seen`] changes (but for its round trip).
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Says hello again to every connected node, because something in it has changed.
    pub fn announce(&self) {}

    /// Counts of what happened on the peer port.
    pub fn counters(&self) -> Counters {
        Counters::default()
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
        let _ = (to, service, shard, request, within);
        Err(CallError::Unreachable)
    }

    /// Opens a stream for replication: requests in order, and as many answers in the same order.
    ///
    /// It ends when either side drops its end or the connection breaks; nobody says which requests were served.
    ///
    /// # Errors
    /// [`CallError::Unreachable`] if there is no connection.
    pub async fn append_stream(
        &self,
        to: NodeId,
        shard: ShardId,
    ) -> Result<(mpsc::Sender<Vec<Bytes>>, mpsc::Receiver<Bytes>), CallError> {
        let _ = (to, shard);
        Err(CallError::Unreachable)
    }

    /// Hands a client's request to another node. Dropping this future, or the answer's body before its end, cancels it
    /// there.
    ///
    /// # Errors
    /// See [`ForwardError`]. A `body` that breaks off is [`ForwardError::NotSent`]. There is no time limit of its own.
    pub async fn forward(&self, to: NodeId, head: Bytes, body: Body) -> Result<ForwardAnswer, ForwardError> {
        let _ = (to, head, body);
        Err(ForwardError::NotSent)
    }

    /// Stops listening, sends what is queued, closes every connection and ends every task. Calls under way end.
    pub async fn shutdown(&self) {}
}
