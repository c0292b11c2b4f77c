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
use pointsman_broker::Broker;
use pointsman_broker::ports::BoxFuture;
use pointsman_broker::testing::{FakeNodes, FakeShard};
use pointsman_model::NodeId;
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
    /// It is sent, and nothing is heard of it.
    Silent,
}

/// The ways between the nodes.
struct Net {
    nodes: FakeNodes,
    apis: OnceLock<Vec<Api>>,
    /// What happens to the next forwards.
    faults: Mutex<VecDeque<Fault>>,
}

impl Net {
    fn api(&self, node: NodeId) -> Option<Api> {
        if self.nodes.is_down(node) { None } else { self.apis.get()?.get(node.0 as usize - 1).cloned() }
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
                Some(Fault::Silent) => return std::future::pending().await,
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
        let view = |node| NodeView {
            node: NodeId(node),
            address: format!("127.0.0.1:{}", 7069 + node),
            peer_address: format!("127.0.0.1:{}", 8069 + node),
            up: !self.net.nodes.is_down(NodeId(node)),
            incarnation: 0,
            reason: None,
        };
        (1..=self.net.nodes.brokers.len() as u32).map(view).collect()
    }
}

/// Nodes that replicate a metadata shard and two data shards. Node 1 leads all of them, and `default` lives in shard 1.
struct Cluster(Arc<Net>);

impl Cluster {
    async fn new(nodes: u32) -> Self {
        let net = Arc::new(Net { nodes: FakeNodes::new(nodes), apis: OnceLock::new(), faults: Mutex::default() });
        net.nodes.broker(1).bootstrap().await.expect("bootstraps");
        let api = |(broker, node): (&Broker, u32)| {
            let way = Arc::new(Way { from: NodeId(node), net: Arc::clone(&net) });
            let cluster = ClusterPorts { forward: Arc::clone(&way) as _, view: way as _ };
            Api::new(
                Arc::new(broker.clone()),
                ApiConfig { node_id: node, cluster: Some(cluster), ..ApiConfig::default() },
            )
        };
        let apis = net.nodes.brokers.iter().zip(1..).map(api).collect();
        assert!(net.apis.set(apis).is_ok(), "set once");
        net.nodes.connect();
        Self(net)
    }

    /// With a topic `orders` of two queues and a group `g` on it.
    async fn with_orders(nodes: u32) -> Self {
        let cluster = Self::new(nodes).await;
        cluster.json(1, "PUT ~/topics/orders", r#"{"queues":2}"#, 201).await;
        cluster.json(1, "PUT ~/groups/g", r#"{"topics":[{"topic":"orders"}],"start":"earliest"}"#, 201).await;
        cluster
    }

    fn shard(&self, shard: usize, node: u32) -> &FakeShard {
        self.0.nodes.shard(shard, node)
    }

    /// What happens to the next forwards.
    fn faults(&self, faults: &[Fault]) {
        *self.0.faults.lock() = faults.iter().copied().collect();
    }

    async fn open(&self, node: u32, line: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
        let api = self.0.apis.get().expect("nodes")[node as usize - 1].clone();
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
