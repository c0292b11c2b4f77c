//! Any node answers any call: a request that another node must serve goes there whole, by one hop.
//!
//! The unit is the HTTP request behind the checks of the edge (`docs/adr/0011`): the entry node has found the route, the
//! caller, the tenant and the scope; it sends a [`Forwarded`] to the node that leads the shard, whose router serves it
//! with the caller that the head names, and streams the answer back. The way there is a port, [`Forward`], which the
//! binary lays over the connections between nodes.

mod answer;
mod entry;
mod head;
mod outgoing;
mod pace;
mod serve;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::Method;
use http::request::Parts;
use pointsman_broker::Error;
use pointsman_broker::ports::BoxFuture;
use pointsman_model::{NodeId, ShardId};

use crate::App;
use crate::access::{self, Place};

pub(crate) use entry::dispatch;
pub(crate) use pace::{Pace, PaceSlot};
pub(crate) use serve::{inner_edge, serve};

/// The route that is answered at the pace of its client.
const PACED: &str = "/v1/tenants/{tenant}/groups/{group}/stream";

/// The bytes behind a head, as they come. Dropped, it tells the other side to stop.
pub type ForwardBody = BoxStream<'static, Result<Bytes, BodyLost>>;

/// The other side vanished before the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other node stopped sending")]
pub struct BodyLost;

/// A request or an answer on its way between nodes.
pub struct Forwarded {
    /// Its head, which only this crate reads. At most [`pointsman_model::limits::FORWARD_HEAD_BYTES_MAX`].
    pub head: Bytes,
    /// Its body.
    pub body: ForwardBody,
}

/// Why a forwarded request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The other node surely has not got all of it: there is no connection, or it broke before the last byte left.
    #[error("the node cannot be reached")]
    NotSent,
    /// It was sent, and the connection broke before the head of the answer came.
    #[error("the connection broke before the answer")]
    Lost,
    /// The other node refused to take it; nothing was done.
    #[error("refused: {0}")]
    Refused(String),
}

/// The way to the routers of other nodes.
pub trait Forward: Send + Sync + 'static {
    /// Sends a request and waits for the head of its answer. Dropping the future, or the body of the answer, cancels the
    /// request there.
    fn forward(&self, to: NodeId, request: Forwarded) -> BoxFuture<'static, Result<Forwarded, ForwardError>>;
}

/// One node of the cluster, as the node asked sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its number.
    pub node: NodeId,
    /// Where clients find it.
    pub address: String,
    /// Where other nodes find it.
    pub peer_address: String,
    /// True if it is connected now, or is this node.
    pub up: bool,
    /// How often it was replaced by an empty one, as far as it has said.
    pub incarnation: u32,
    /// Why it is not connected, in words, if known.
    pub reason: Option<String>,
}

/// The nodes of the cluster.
pub trait ClusterView: Send + Sync + 'static {
    /// All of them, this one among them, by number.
    fn nodes(&self) -> Vec<NodeView>;
}

/// What a node in a cluster has and a node alone has not.
#[derive(Clone)]
pub struct ClusterPorts {
    /// The way to the other routers.
    pub forward: Arc<dyn Forward>,
    /// Who they are.
    pub view: Arc<dyn ClusterView>,
}

/// The head of the answer of a node that cannot serve a forwarded request at all: surely nothing was done.
#[must_use]
pub fn not_leader() -> Bytes {
    head::AnswerHead::not_leader()
}

/// True if the body of a request is the pace of its answer.
fn is_paced(route: &str) -> bool {
    route == PACED
}

/// The shard whose leader serves a request; `None` if any node does.
fn shard_of(app: &App, route: &'static str, parts: &Parts, path: &access::Path) -> Option<ShardId> {
    let part = |name: &str| path.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    let home = || part("tenant").and_then(|tenant| app.broker.home_shard(tenant));
    match access::place(route, &parts.method) {
        Place::Here => None,
        Place::Browse => {
            let by_key = parts.uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("key=")));
            if by_key { home() } else { None }
        }
        Place::Metadata => Some(ShardId::METADATA),
        Place::Home => home(),
        Place::Shard => part("shard")?.parse().ok().map(ShardId).filter(|shard| app.broker.has_shard(*shard)),
    }
}

/// Whether this node leads the shard, and has applied what a read must see.
///
/// # Errors
/// [`Error::NoLeader`], or what is found out about the tenant.
async fn ready_here(
    app: &App,
    route: &'static str,
    parts: &Parts,
    path: &access::Path,
    shard: ShardId,
    within: Duration,
) -> Result<bool, Error> {
    if !app.broker.leads(shard) {
        return Ok(false);
    }
    if matches!(parts.method, Method::GET | Method::HEAD) {
        app.broker.barrier(shard, within).await?;
    }
    if access::place(route, &parts.method) != Place::Metadata
        && let Some((_, tenant)) = path.iter().find(|(name, _)| *name == "tenant")
    {
        app.broker.finish_tenant(tenant, within).await?;
    }
    Ok(true)
}
