//! The network as a node's shards see it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_broker::ports::BoxFuture;
use pointsman_model::{NodeId, ShardId};
use tokio::sync::oneshot;

use super::network::{End, Net, concat};
use crate::transport::{AppendStream, Lane, Transport, TransportError};

/// One node's way to the others.
pub(super) struct Wire {
    pub(super) net: Arc<Net>,
    pub(super) from: End,
}

impl Transport for Wire {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        shard: ShardId,
        request: Vec<Bytes>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let (net, from) = (Arc::clone(&self.net), self.from);
        let (said, heard) = oneshot::channel();
        Box::pin(async move {
            // What was sent is on its way, whether or not its caller waits for it.
            tokio::spawn(async move {
                let answer = net.exchange(from, place(to), lane, shard, concat(request)).await;
                drop(said.send(answer));
            });
            match tokio::time::timeout(within, heard).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => Err(TransportError::Unanswered(to)),
            }
        })
    }

    fn append_stream(&self, to: NodeId, shard: ShardId) -> BoxFuture<'static, Result<AppendStream, TransportError>> {
        Box::pin(Arc::clone(&self.net).open(self.from, place(to), shard))
    }
}

/// The place of a node in the simulation's arrays.
fn place(node: NodeId) -> usize {
    node.0 as usize - 1
}
