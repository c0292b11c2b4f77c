//! The way to other nodes, as consensus, the broker and the API want it, over one [`Peers`].
//!
//! Made before the connections are, because shards are opened first: a node must know what it is before it says hello.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use pointsman_api::{BodyLost, ClusterView, Forward, ForwardBody, ForwardError, Forwarded, NodeView};
use pointsman_broker::ports::{BoxFuture, NodeCallError, NodeCalls};
use pointsman_consensus::transport::{AppendStream, Lane, Transport, TransportError};
use pointsman_model::{NodeId, ShardId};
use pointsman_peer::{Body, CallError, Peers, Seen, Service};

use super::ask::Ask;
use super::peer_list::PeerList;

/// The way to other nodes.
pub(crate) struct Links {
    list: PeerList,
    peers: OnceLock<Arc<Peers>>,
    incarnation: OnceLock<u32>,
}

impl Links {
    pub(crate) fn new(list: PeerList) -> Arc<Self> {
        Arc::new(Self { list, peers: OnceLock::new(), incarnation: OnceLock::new() })
    }

    /// The connections are there. Once.
    pub(crate) fn connect(&self, peers: Arc<Peers>) {
        assert!(self.peers.set(peers).is_ok(), "connections are made once");
    }

    /// Which life of this node it is. Once.
    pub(crate) fn live(&self, incarnation: u32) {
        assert!(self.incarnation.set(incarnation).is_ok(), "a process is in one life of its node");
    }

    /// The connections, once they are there.
    pub(crate) fn peers(&self) -> Option<Arc<Peers>> {
        self.peers.get().cloned()
    }

    /// What another node said, and whether it is connected.
    pub(crate) fn seen(&self, node: NodeId) -> Option<Seen> {
        self.peers.get()?.seen(node)
    }

    /// Asks another node as a node.
    pub(crate) async fn ask(&self, to: NodeId, ask: &Ask, within: Duration) -> Result<Bytes, CallError> {
        let peers = self.peers().ok_or(CallError::Unreachable)?;
        peers.call(to, Service::Node, ShardId::METADATA, vec![ask.encode()], within).await
    }
}

impl Transport for Links {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        shard: ShardId,
        request: Vec<Bytes>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let peers = self.peers();
        let service = match lane {
            Lane::Control => Service::Control,
            Lane::Bulk => Service::Bulk,
        };
        Box::pin(async move {
            let peers = peers.ok_or(TransportError::Unreachable(to))?;
            peers.call(to, service, shard, request, within).await.map_err(|error| transport_error(to, error))
        })
    }

    fn append_stream(&self, to: NodeId, shard: ShardId) -> BoxFuture<'static, Result<AppendStream, TransportError>> {
        let peers = self.peers();
        Box::pin(async move {
            let peers = peers.ok_or(TransportError::Unreachable(to))?;
            let opened = peers.append_stream(to, shard).await;
            let (requests, answers) = opened.map_err(|error| transport_error(to, error))?;
            Ok(AppendStream { requests, answers })
        })
    }
}

fn transport_error(node: NodeId, error: CallError) -> TransportError {
    match error {
        CallError::Unanswered => TransportError::Unanswered(node),
        CallError::Refused(reason) => TransportError::Refused { node, reason },
        // Whatever else there may be was not sent.
        _ => TransportError::Unreachable(node),
    }
}

impl Forward for Links {
    fn forward(&self, to: NodeId, request: Forwarded) -> BoxFuture<'static, Result<Forwarded, ForwardError>> {
        let peers = self.peers();
        Box::pin(async move {
            let peers = peers.ok_or(ForwardError::NotSent)?;
            let Forwarded { head, body } = request;
            match peers.forward(to, head, to_peer(body)).await {
                Ok(answer) => Ok(Forwarded { head: answer.head, body: to_api(answer.body) }),
                Err(pointsman_peer::ForwardError::Lost) => Err(ForwardError::Lost),
                Err(pointsman_peer::ForwardError::Refused(reason)) => Err(ForwardError::Refused(reason)),
                Err(_) => Err(ForwardError::NotSent),
            }
        })
    }
}

/// A body of the API as one between nodes.
pub(crate) fn to_peer(body: ForwardBody) -> Body {
    Body::new(body.map(|piece| piece.map_err(|BodyLost| pointsman_peer::BodyError)))
}

/// A body between nodes as one of the API.
pub(crate) fn to_api(body: Body) -> ForwardBody {
    Box::pin(body.map(|piece| piece.map_err(|pointsman_peer::BodyError| BodyLost)))
}

impl NodeCalls for Links {
    fn others(&self) -> Vec<NodeId> {
        self.list.others().map(|(id, _)| id).collect()
    }

    fn call(&self, to: NodeId, request: Bytes, within: Duration) -> BoxFuture<'static, Result<Bytes, NodeCallError>> {
        let peers = self.peers();
        Box::pin(async move {
            let peers = peers.ok_or(NodeCallError::Unreachable(to))?;
            let request = vec![Ask::Inner(request.into()).encode()];
            peers.call(to, Service::Node, ShardId::METADATA, request, within).await.map_err(|error| match error {
                CallError::Unanswered => NodeCallError::Unanswered(to),
                CallError::Refused(reason) => NodeCallError::Refused(to, reason),
                _ => NodeCallError::Unreachable(to),
            })
        })
    }
}

impl ClusterView for Links {
    fn nodes(&self) -> Vec<NodeView> {
        let view = |(id, peer): (&NodeId, &super::peer_list::Peer)| {
            let own = *id == self.list.own;
            let seen = self.seen(*id).unwrap_or_default();
            let up = own || seen.connected;
            NodeView {
                node: *id,
                address: peer.http.to_string(),
                peer_address: peer.peer.to_string(),
                up,
                incarnation: match own {
                    true => self.incarnation.get().copied().unwrap_or_default(),
                    false => seen.hello.map_or(0, |hello| hello.incarnation),
                },
                reason: seen.refused.filter(|_| !up),
            }
        };
        self.list.nodes.iter().map(view).collect()
    }
}
