//! What the brokers of a cluster ask each other, beside replication and forwarded calls.
//!
//! Requests and answers are postcard behind a version byte, bounded, and read with distrust. None of them is a client's
//! word: a client's call goes to another node whole (`pointsman-api`).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use pointsman_model::{NodeId, limits};
use serde::{Deserialize, Serialize};

use crate::call::WirePrincipal;
use crate::configure::bootstrap;
use crate::configure::home::{HomeAnswer, HomeRequest};
use crate::ports::{NodeCallError, NodeCalls};
use crate::view::ReplicaView;
use crate::{Broker, Error};

/// The first byte of every request and answer.
const VERSION: u8 = 1;

/// The other nodes, once the binary has told.
#[derive(Default)]
pub(crate) struct Others(OnceLock<Arc<dyn NodeCalls>>);

/// What one broker asks another.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum NodeRequest {
    /// How its shards are.
    Status,
    /// A step of a tenant at home.
    Home(HomeRequest),
    /// Takes one of its stream tickets, for a path.
    Redeem(String, String),
}

/// What it answers.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum NodeAnswer {
    /// How its shards are.
    Status(Vec<ReplicaView>),
    /// What came of the step.
    Home(HomeAnswer),
    /// Whose ticket it was, if it is good.
    Redeemed(Option<WirePrincipal>),
}

impl Broker {
    /// Tells the broker the way to the other nodes, once. From then on it makes what every cluster has whenever it leads
    /// the metadata shard ([`Self::bootstrap`]).
    pub fn connect(&self, nodes: Arc<dyn NodeCalls>) {
        if self.inner.others.0.set(nodes).is_err() {
            tracing::warn!("the way to the other nodes was told twice");
            return;
        }
        let keeps = bootstrap::keep(Arc::downgrade(&self.inner), self.inner.stop.clone());
        self.inner.tasks.spawn(keeps);
    }

    /// Answers what another node's broker asks.
    ///
    /// # Errors
    /// In words, for the other node: the request is none of this release's, or was refused.
    pub async fn serve_node_call(&self, from: NodeId, request: Bytes) -> Result<Bytes, String> {
        let request: NodeRequest = decode(&request).map_err(str::to_owned)?;
        tracing::trace!(node.id = from.0, "asked by another node");
        let answer = match request {
            NodeRequest::Status => NodeAnswer::Status(self.replicas_here()),
            NodeRequest::Home(request) => NodeAnswer::Home(self.serve_home(request).await),
            NodeRequest::Redeem(ticket, path) => {
                let principal = self.take_ticket(&ticket, &path);
                NodeAnswer::Redeemed(principal.as_ref().and_then(WirePrincipal::of))
            }
        };
        encode(&answer).map_err(str::to_owned)
    }

    /// The other nodes, if there are any.
    pub(crate) fn others(&self) -> Vec<NodeId> {
        self.inner.others.0.get().map(|nodes| nodes.others()).unwrap_or_default()
    }

    /// Asks another node.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub(crate) async fn ask(
        &self,
        node: NodeId,
        request: &NodeRequest,
        within: Duration,
    ) -> Result<NodeAnswer, NodeCallError> {
        let nodes = self.inner.others.0.get().ok_or(NodeCallError::Unreachable(node))?;
        let refused = |reason: &str| NodeCallError::Refused(node, reason.to_owned());
        let request = encode(request).map_err(refused)?;
        let answer = tokio::time::timeout(within, nodes.call(node, request, within)).await;
        let answer = answer.map_err(|_| NodeCallError::Unanswered(node))??;
        decode(&answer).map_err(refused)
    }
}

impl From<NodeCallError> for Error {
    fn from(error: NodeCallError) -> Self {
        match error {
            NodeCallError::Unreachable(_) | NodeCallError::Refused(..) => Self::NoLeader,
            NodeCallError::Unanswered(_) => Self::OutcomeUnknown,
        }
    }
}

fn encode(value: &impl Serialize) -> Result<Bytes, &'static str> {
    let bytes = postcard::to_extend(value, vec![VERSION]).map_err(|_| "cannot be written")?;
    if bytes.len() > limits::NODE_CALL_BYTES_MAX { Err("too large") } else { Ok(bytes.into()) }
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, &'static str> {
    if bytes.len() > limits::NODE_CALL_BYTES_MAX {
        return Err("too large");
    }
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| "not understood"),
        _ => Err("of another version"),
    }
}

#[cfg(test)]
mod tests;
