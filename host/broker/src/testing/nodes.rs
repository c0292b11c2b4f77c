//! Brokers of one cluster over fake shards, and a way between them that may lose things.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_model::time::{FakeClock, SharedClock};
use pointsman_model::{NodeId, ShardId, Timestamp};

use super::{FakeJudges, FakeOutside, FakeShard};
use crate::ports::{BoxFuture, NodeCallError, NodeCalls};
use crate::{Broker, BrokerConfig};

/// Nodes that replicate a metadata shard and two data shards; the first leads all of them in term 1.
pub struct FakeNodes {
    /// The brokers, by node.
    pub brokers: Vec<Broker>,
    /// By shard, then by node.
    pub shards: Vec<Vec<Arc<FakeShard>>>,
    /// The clock of all of them.
    pub clock: Arc<FakeClock>,
    net: Arc<Net>,
}

#[derive(Default)]
struct Net {
    brokers: OnceLock<Vec<Broker>>,
    down: Mutex<Vec<NodeId>>,
    /// How many of the next answers are lost.
    lost: AtomicUsize,
}

struct Way {
    from: NodeId,
    net: Arc<Net>,
}

impl NodeCalls for Way {
    fn others(&self) -> Vec<NodeId> {
        let nodes = 1..=self.net.brokers.get().map_or(0, Vec::len) as u32;
        nodes.map(NodeId).filter(|node| *node != self.from).collect()
    }

    fn call(&self, to: NodeId, request: Bytes, _within: Duration) -> BoxFuture<'static, Result<Bytes, NodeCallError>> {
        let (from, net) = (self.from, Arc::clone(&self.net));
        Box::pin(async move {
            if net.down.lock().contains(&to) {
                return Err(NodeCallError::Unreachable(to));
            }
            let broker = net.brokers.get().and_then(|brokers| brokers.get(to.0 as usize - 1)).cloned();
            let broker = broker.ok_or(NodeCallError::Unreachable(to))?;
            let answer = broker.serve_node_call(from, request).await;
            if net.lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lost| lost.checked_sub(1)).is_ok() {
                return Err(NodeCallError::Unanswered(to));
            }
            answer.map_err(|reason| NodeCallError::Refused(to, reason))
        })
    }
}

impl FakeNodes {
    /// So many nodes, which do not know each other yet.
    #[must_use]
    pub fn new(nodes: u32) -> Self {
        let clock = Arc::new(FakeClock::new(Timestamp(1_700_000_000_000)));
        let shared: SharedClock = Arc::clone(&clock) as _;
        let ids: Vec<_> = (1..=nodes).map(NodeId).collect();
        let shards: Vec<_> = (0..3).map(|shard| FakeShard::group(ShardId(shard), &shared, &ids)).collect();
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
        let net = Arc::<Net>::default();
        assert!(net.brokers.set(brokers.clone()).is_ok(), "set once");
        Self { brokers, shards, clock, net }
    }

    /// Tells each node of the others.
    pub fn connect(&self) {
        for (broker, node) in self.brokers.iter().zip(1..) {
            broker.connect(Arc::new(Way { from: NodeId(node), net: Arc::clone(&self.net) }));
        }
    }

    /// The broker of a node.
    #[must_use]
    pub fn broker(&self, node: u32) -> &Broker {
        &self.brokers[node as usize - 1]
    }

    /// A node's replica of a shard.
    #[must_use]
    pub fn shard(&self, shard: usize, node: u32) -> &FakeShard {
        &self.shards[shard][node as usize - 1]
    }

    /// Nodes that are not reached.
    pub fn set_down(&self, nodes: &[u32]) {
        *self.net.down.lock() = nodes.iter().copied().map(NodeId).collect();
    }

    /// True if a node is not reached.
    #[must_use]
    pub fn is_down(&self, node: NodeId) -> bool {
        self.net.down.lock().contains(&node)
    }

    /// Loses so many of the next answers between brokers.
    pub fn lose_answers(&self, answers: usize) {
        self.net.lost.store(answers, Ordering::Relaxed);
    }
}
