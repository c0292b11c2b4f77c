//! Nodes of a cluster over faked ways between them: any of them answers any call.

mod calls;
mod faults;
mod reads;
mod streams;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use http::Response;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use pointsman_broker::ports::{BoxFuture, NodeCallError, NodeCalls};
use pointsman_broker::testing::{FakeJudges, FakeOutside, FakeShard};
use pointsman_broker::{Broker, BrokerConfig};
use pointsman_model::time::{FakeClock, SharedClock};
use pointsman_model::{NodeId, ShardId, Timestamp};
use tower::ServiceExt;

use super::{Answer, Api as Request};
use crate::{Api, ApiConfig, ClusterPorts, ClusterView, Forward, ForwardError, Forwarded, NodeView};

/// What happens to a forward.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is not delivered.
    NotSent,
    /// It is served, and its answer is lost.
    Lost,
    /// It goes to another node than it should.
    Misled(u32),
    /// The other side takes no more.
    Refused,
}

/// The ways between the nodes.
#[derive(Default)]
struct Net {
    apis: OnceLock<Vec<Api>>,
    brokers: OnceLock<Vec<Broker>>,
    /// What happens to the next forwards.
    faults: Mutex<VecDeque<Fault>>,
    down: Mutex<Vec<NodeId>>,
}

impl Net {
    fn api(&self, node: NodeId) -> Option<Api> {
        if self.down.lock().contains(&node) {
            return None;
        }
        self.apis.get()?.get(node.0 as usize - 1).cloned()
    }
}

/// One node's way out.
struct Way {
    from: NodeId,
    net: Arc<Net>,
}

impl Forward for Way {
    fn forward(&self, to: NodeId, request: Forwarded) -> BoxFuture<'static, Result<Forwarded, ForwardError>> {
        let (from, net) = (self.from, Arc::clone(&self.net));
        Box::pin(async move {
            let fault = net.faults.lock().pop_front();
            let to = match fault {
                Some(Fault::NotSent) => return Err(ForwardError::NotSent),
                Some(Fault::Refused) => return Err(ForwardError::Refused("full".into())),
                Some(Fault::Misled(node)) => NodeId(node),
                Some(Fault::Lost) | None => to,
            };
            let api = net.api(to).ok_or(ForwardError::NotSent)?;
            let answer = api.serve_forwarded(from, request).await;
            if matches!(fault, Some(Fault::Lost)) {
                answer.body.for_each(|_| async {}).await;
                return Err(ForwardError::Lost);
            }
            Ok(answer)
        })
    }
}

impl ClusterView for Way {
    fn nodes(&self) -> Vec<NodeView> {
        let nodes = 1..=self.net.brokers.get().map_or(0, Vec::len) as u32;
        let view = |node| NodeView {
            node: NodeId(node),
            address: format!("127.0.0.1:{}", 7069 + node),
            peer_address: format!("127.0.0.1:{}", 8069 + node),
            up: !self.net.down.lock().contains(&NodeId(node)),
            incarnation: 0,
            reason: None,
        };
        nodes.map(view).collect()
    }
}

impl NodeCalls for Way {
    fn others(&self) -> Vec<NodeId> {
        let nodes = 1..=self.net.brokers.get().map_or(0, Vec::len) as u32;
        nodes.map(NodeId).filter(|node| *node != self.from).collect()
    }

    fn call(&self, to: NodeId, request: Bytes, _within: Duration) -> BoxFuture<'static, Result<Bytes, NodeCallError>> {
        let (from, net) = (self.from, Arc::clone(&self.net));
        Box::pin(async move {
            net.api(to).ok_or(NodeCallError::Unreachable(to))?;
            let broker = net.brokers.get().and_then(|brokers| brokers.get(to.0 as usize - 1)).cloned();
            let broker = broker.ok_or(NodeCallError::Unreachable(to))?;
            broker.serve_node_call(from, request).await.map_err(|reason| NodeCallError::Refused(to, reason))
        })
    }
}

/// Nodes that replicate a metadata shard and two data shards. Node 1 leads all of them, and `default` lives in shard 1.
struct Cluster {
    net: Arc<Net>,
    /// By shard, then by node.
    shards: Vec<Vec<Arc<FakeShard>>>,
    clock: Arc<FakeClock>,
}

impl Cluster {
    async fn new(nodes: u32) -> Self {
        let clock = Arc::new(FakeClock::new(Timestamp(1_700_000_000_000)));
        let shared: SharedClock = Arc::clone(&clock) as _;
        let ids: Vec<_> = (1..=nodes).map(NodeId).collect();
        let shards: Vec<_> = (0..3).map(|shard| FakeShard::group(ShardId(shard), &shared, &ids)).collect();
        let net = Arc::<Net>::default();
        let broker = |node: usize| {
            let of = |shard: usize| Arc::clone(&shards[shard][node]) as _;
            Broker::new(
                BrokerConfig { node: ids[node], ..BrokerConfig::default() },
                of(0),
                vec![of(1), of(2)],
                Arc::<FakeJudges>::default() as _,
                Arc::<FakeOutside>::default() as _,
                Arc::clone(&shared),
            )
        };
        let brokers: Vec<_> = (0..ids.len()).map(broker).collect();
        brokers[0].bootstrap().await.expect("bootstraps");
        let api = |(broker, node): (&Broker, &NodeId)| {
            let way = Arc::new(Way { from: *node, net: Arc::clone(&net) });
            let cluster = ClusterPorts { forward: Arc::clone(&way) as _, view: Arc::clone(&way) as _ };
            Api::new(
                Arc::new(broker.clone()),
                ApiConfig { node_id: node.0, cluster: Some(cluster), ..ApiConfig::default() },
            )
        };
        let apis = brokers.iter().zip(&ids).map(api).collect();
        assert!(net.apis.set(apis).is_ok() && net.brokers.set(brokers.clone()).is_ok());
        for (broker, node) in brokers.iter().zip(&ids) {
            broker.connect(Arc::new(Way { from: *node, net: Arc::clone(&net) }));
        }
        Self { net, shards, clock }
    }

    /// With a topic `orders` of two queues and a group `g` on it.
    async fn with_orders(nodes: u32) -> Self {
        let cluster = Self::new(nodes).await;
        cluster.json(1, "PUT ~/topics/orders", r#"{"queues":2}"#, 201).await;
        cluster.json(1, "PUT ~/groups/g", r#"{"topics":[{"topic":"orders"}],"start":"earliest"}"#, 201).await;
        cluster
    }

    fn shard(&self, shard: usize, node: u32) -> &FakeShard {
        &self.shards[shard][node as usize - 1]
    }

    /// What happens to the next forwards.
    fn faults(&self, faults: &[Fault]) {
        *self.net.faults.lock() = faults.iter().copied().collect();
    }

    async fn open(&self, node: u32, line: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
        let api = self.net.apis.get().expect("nodes")[node as usize - 1].clone();
        api.router().oneshot(Request::request(line, headers, body)).await.expect("infallible")
    }

    async fn send(&self, node: u32, line: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let (parts, body) = self.open(node, line, headers, body).await.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    /// Without body and headers.
    async fn call(&self, node: u32, line: &str) -> Answer {
        self.send(node, line, &[], Body::empty()).await
    }

    /// With a JSON body; the answer must have this status.
    async fn json(&self, node: u32, line: &str, body: &str, status: u16) -> serde_json::Value {
        let answer = self.send(node, line, &[("content-type", "application/json")], body.to_owned()).await;
        assert_eq!(answer.status.as_u16(), status, "{line}: {:?}", answer.bytes);
        if answer.bytes.is_empty() { serde_json::Value::Null } else { answer.json() }
    }

    /// Publishes a text to queue 0 of `orders`.
    async fn publish(&self, node: u32, text: &str) {
        let headers = [("content-type", "text/plain"), ("pm-queue", "0")];
        let answer = self.send(node, "POST ~/topics/orders/messages", &headers, text.to_owned()).await;
        assert_eq!(answer.status.as_u16(), 201, "{:?}", answer.bytes);
    }

    /// The texts that a lease call gives.
    async fn lease(&self, node: u32, body: &str) -> Vec<String> {
        let leases = self.json(node, "POST ~/groups/g/leases", body, 200).await;
        let leases = leases["leases"].as_array().expect("leases").clone();
        leases.iter().map(|lease| lease["message"]["data"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// A line of `/metrics`.
    async fn metric(&self, node: u32, name: &str) -> u64 {
        let answer = self.call(node, "GET /metrics").await;
        let line = answer.text().lines().find(|line| line.starts_with(&format!("pointsman_http_{name}_total")));
        line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a counter")
    }
}
