//! The public edge: axum routes on our own accept loop, SSE, OpenAPI.
//!
//! [`router`] maps the HTTP contract to the use cases of `pointsman_broker`; [`serve`](serve::serve) runs it over TCP,
//! HTTP/1.1 and h2c on one port. One request passes, in this order:
//!
//! 1. `edge`: request id, foreign `Origin`/`Host`, names of the path, credentials, tenant, scope (`access`); afterwards problems are rendered,
//!    answers compressed, metrics counted. Every error of a request becomes `application/problem+json` here and only here.
//! 2. `context`: what every handler is told: the call (who, until when), names, query, headers.
//! 3. a handler in `routes`: one file a resource. It reads its query, then its body, and calls the broker. Checks of the
//!    query and the body answer only after the tenant and the resource are known to exist (`context::Cx::after_…`).
//! 4. `answer` or `message_json` writes the result.
//!
//! A proposal outlives its handler ([`detached`]): hyper drops one whose client left. A lease poll does not: a client
//! that hung up shall lease nothing.
//!
//! Never here: openraft, wasmtime, and no rule of the broker.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should"))]

mod access;
mod answer;
mod body;
mod compress;
mod conditional;
mod context;
mod cursor;
mod detached;
mod edge;
mod failure;
mod forming;
mod forward;
mod headers;
mod json;
mod message_json;
mod metrics;
mod openapi;
mod origin;
mod publish;
mod query;
mod routes;
pub mod serve;
mod ticket;

use std::sync::Arc;

use axum::Router;
use pointsman_api_types::node::Check;
use pointsman_broker::Broker;
use pointsman_model::NodeId;
use tokio_util::sync::CancellationToken;

pub use forming::forming;
pub use forward::{
    BodyLost, ClusterPorts, ClusterView, Forward, ForwardBody, ForwardError, Forwarded, NodeView, not_leader,
};
pub use serve::{Error, ServeConfig, ServerStats, bind, serve};

/// Writes metric families in OpenMetrics text, without the end mark.
pub type MetricsSource = Arc<dyn Fn(&mut String) + Send + Sync>;
/// Gives more checks for `/health/ready`.
pub type ReadyChecks = Arc<dyn Fn() -> Vec<Check> + Send + Sync>;

/// What the routes need beside the broker.
#[derive(Clone)]
pub struct ApiConfig {
    /// Release, for `/version`.
    pub version: String,
    /// Commit it was built from.
    pub commit: String,
    /// Newest feature level it knows.
    pub feature_level: u32,
    /// This node.
    pub node_id: u32,
    /// Cancelled when the node starts to drain: streams and long polls end.
    pub shutdown: CancellationToken,
    /// Counters of the accept loop, shown in `/metrics`.
    pub stats: Arc<ServerStats>,
    /// Metrics of other crates.
    pub metrics: Vec<MetricsSource>,
    /// Checks of other crates.
    pub ready: Vec<ReadyChecks>,
    /// The other nodes; `None` for a node alone.
    pub cluster: Option<ClusterPorts>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: "unknown".to_owned(),
            feature_level: 1,
            node_id: 1,
            shutdown: CancellationToken::new(),
            stats: Arc::default(),
            metrics: Vec::new(),
            ready: Vec::new(),
            cluster: None,
        }
    }
}

/// What every handler shares.
pub(crate) struct App {
    pub(crate) broker: Arc<Broker>,
    pub(crate) config: ApiConfig,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) bodies: body::Budget,
}

/// The API of one node: its public router, and the one that requests of other nodes enter.
#[derive(Clone)]
pub struct Api {
    public: Router,
    inner: Router,
}

impl Api {
    /// The API over a broker.
    #[must_use]
    pub fn new(broker: Arc<Broker>, config: ApiConfig) -> Self {
        let app = App { broker, config, metrics: metrics::Metrics::new(), bodies: body::Budget::default() };
        let app = Arc::new(app);
        Self { public: routes::router(Arc::clone(&app)), inner: routes::inner(app) }
    }

    /// What clients reach: [`serve`](serve::serve) runs it.
    pub fn router(&self) -> Router {
        self.public.clone()
    }

    /// Serves a request that another node took and this one is to answer. Dropping the future, or the body of the answer,
    /// ends what was begun as if a client had hung up.
    pub async fn serve_forwarded(&self, from: NodeId, request: Forwarded) -> Forwarded {
        forward::serve(self.inner.clone(), from, request).await
    }
}

/// The public router of a node alone.
pub fn router(broker: Arc<Broker>, config: ApiConfig) -> Router {
    Api::new(broker, config).router()
}

#[cfg(test)]
mod tests;
