//! One shard as the use cases hold it: its port, its batcher, and what runs on top.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use pointsman_model::{GroupId, ShardId, TopicId};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::batcher::Batcher;
use crate::error::Error;
use crate::judging::Bench;
use crate::lease::GroupRuntime;
use crate::ports::Shard;
use crate::publish::TopicRuntime;
use crate::retention::Retention;
use crate::signing::Keys;
use crate::timers::Timers;
use crate::transact::Checks;
use crate::watch::Watch;

/// What topics and groups at run time need of their shard.
#[derive(Clone)]
pub(crate) struct ShardParts {
    pub(crate) port: Arc<dyn Shard>,
    pub(crate) batcher: Arc<Batcher>,
    pub(crate) bench: Arc<Bench>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) timers: Arc<Timers>,
    pub(crate) retention: Arc<Retention>,
    /// Attempts that ended badly, counted.
    pub(crate) ended: Arc<EndedCounts>,
    pub(crate) checks: Arc<Checks>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// Multiplies every wait of the retry table.
    pub(crate) time_scale: f64,
}

/// Attempts that ended badly since the start, by what came of them.
#[derive(Default)]
pub(crate) struct EndedCounts {
    pub(crate) retries: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
}

/// What became of attempts that ended badly in a shard, as this node counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryStats {
    /// Which.
    pub shard: ShardId,
    /// They are tried again.
    pub retries: u64,
    /// Their messages were given up.
    pub dead_letters: u64,
    /// Dead letters in the shard that were not redriven.
    pub stored: u64,
}

/// One shard.
pub(crate) struct ShardRuntime {
    pub(crate) port: Arc<dyn Shard>,
    pub(crate) parts: ShardParts,
    topics: RwLock<HashMap<TopicId, Arc<TopicRuntime>>>,
    groups: RwLock<HashMap<GroupId, Arc<GroupRuntime>>>,
}

impl ShardRuntime {
    pub(crate) fn new(parts: ShardParts) -> Arc<Self> {
        let port = Arc::clone(&parts.port);
        parts.tasks.spawn(Arc::clone(&parts.watch).run(Arc::clone(&port), parts.stop.clone()));
        parts.tasks.spawn(Arc::clone(&parts.timers).run(parts.clone()));
        parts.tasks.spawn(Arc::clone(&parts.retention).run(parts.clone()));
        parts.tasks.spawn(Arc::clone(&parts.checks).run(parts.clone()));
        Arc::new(Self { port, parts, topics: RwLock::default(), groups: RwLock::default() })
    }

    /// What became of attempts that ended badly.
    pub(crate) fn delivery_stats(&self) -> DeliveryStats {
        let ended = &self.parts.ended;
        DeliveryStats {
            shard: self.port.id(),
            retries: ended.retries.load(Ordering::Relaxed),
            dead_letters: ended.dead_letters.load(Ordering::Relaxed),
            stored: self.port.state().dead.values().map(|count| count.open).sum(),
        }
    }

    /// A topic at run time.
    pub(crate) fn topic(&self, id: TopicId) -> Arc<TopicRuntime> {
        if let Some(topic) = self.topics.read().get(&id) {
            return Arc::clone(topic);
        }
        let new = || Arc::new(TopicRuntime::new(id, self.parts.clone()));
        Arc::clone(self.topics.write().entry(id).or_insert_with(new))
    }

    /// A group at run time.
    pub(crate) fn group(&self, id: GroupId) -> Arc<GroupRuntime> {
        if let Some(group) = self.groups.read().get(&id) {
            return Arc::clone(group);
        }
        let new = || Arc::new(GroupRuntime::new(id, self.parts.clone()));
        Arc::clone(self.groups.write().entry(id).or_insert_with(new))
    }

    /// All groups that were used since the start.
    pub(crate) fn groups(&self) -> Vec<Arc<GroupRuntime>> {
        self.groups.read().values().cloned().collect()
    }

    /// Forgets what belongs to topics and groups that are gone.
    pub(crate) fn forget_gone(&self) {
        let (topics, groups): (Vec<_>, Vec<_>) = {
            let state = self.port.state();
            (state.topics.keys().copied().collect(), state.groups.keys().copied().collect())
        };
        // Ids only grow: what is newer than the list is not gone.
        let newest = (topics.last().copied(), groups.last().copied());
        self.topics.write().retain(|id, _| Some(*id) > newest.0 || topics.binary_search(id).is_ok());
        self.groups.write().retain(|id, _| Some(*id) > newest.1 || groups.binary_search(id).is_ok());
    }

    /// Why something is not there: surely not there only where this node leads and has applied all.
    pub(crate) fn absent(&self, error: impl FnOnce() -> Error) -> Error {
        if self.port.leadership().is_some() { error() } else { Error::NoLeader }
    }
}
