//! The broker itself: its shards, its judges, what it owns and how it stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_model::time::SharedClock;
use pointsman_model::{NodeId, ShardId, TenantId, Term, limits};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::batcher::Batcher;
use crate::error::Error;
use crate::judging::Bench;
use crate::nodes::Others;
use crate::ports::{Judges, Outside, Shard};
use crate::quota::Meters;
use crate::retention::{Retention, RetentionStats};
use crate::schedules;
use crate::shard::{DeliveryStats, ShardParts, ShardRuntime};
use crate::signing::Keys;
use crate::ticket::Tickets;
use crate::timers::TimerStats;
use crate::token::OperatorToken;
use crate::transact::Checks;

/// How often leases are looked at for having run out.
const TICK: Duration = Duration::from_millis(limits::LEASE_TICK_MS);
/// Ticks between two looks for topics and groups that are gone.
const TICKS_PER_SWEEP: u32 = 600;

/// Settings of the use cases.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// This node.
    pub node: NodeId,
    /// Multiplies every wait of the retry table.
    pub time_scale: f64,
    /// Longest retention a topic may have.
    pub retention_ms_max: u64,
    /// A token that this node takes as an operator's, beside those of the state.
    pub operator_token: Option<OperatorToken>,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            node: NodeId(1),
            time_scale: 1.0,
            retention_ms_max: limits::RETENTION_MS_MAX_DEFAULT,
            operator_token: None,
        }
    }
}

/// How one shard is on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardHealth {
    /// Which.
    pub shard: ShardId,
    /// The term this node leads in, if it does.
    pub term: Option<Term>,
    /// The node that leads, as far as this one has heard.
    pub leader: Option<NodeId>,
    /// Index of the last applied entry.
    pub applied: u64,
    /// Entries that this node knows to be committed and has not applied.
    pub lag: u64,
}

/// All use cases. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Broker {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: BrokerConfig,
    pub(crate) metadata: Arc<ShardRuntime>,
    pub(crate) data: Vec<Arc<ShardRuntime>>,
    pub(crate) bench: Arc<Bench>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) clock: SharedClock,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) streams: Arc<StreamCount>,
    pub(crate) operator_token: Option<OperatorToken>,
    pub(crate) tickets: Tickets,
    /// Publishes that were answered as duplicates.
    pub(crate) duplicates: AtomicU64,
    pub(crate) meters: Meters,
    pub(crate) others: Others,
}

/// Streams that are open.
#[derive(Default)]
pub(crate) struct StreamCount {
    pub(crate) node: AtomicUsize,
    pub(crate) tenants: Mutex<std::collections::HashMap<TenantId, usize>>,
}

/// Where a tenant lives.
pub(crate) struct Home {
    pub(crate) tenant: TenantId,
    pub(crate) shard: Arc<ShardRuntime>,
}

impl Broker {
    /// A broker over these shards. `data` are the shards that tenants live in. Call it inside a tokio runtime.
    #[must_use]
    pub fn new(
        config: BrokerConfig,
        metadata: Arc<dyn Shard>,
        data: Vec<Arc<dyn Shard>>,
        judges: Arc<dyn Judges>,
        outside: Arc<dyn Outside>,
        clock: SharedClock,
    ) -> Self {
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let bench = Arc::new(Bench::new(judges));
        let keys = Arc::new(Keys::new(Arc::clone(&metadata)));
        let runtime = |port: Arc<dyn Shard>| {
            ShardRuntime::new(ShardParts {
                batcher: Batcher::new(Arc::clone(&port), tasks.clone()),
                port,
                bench: Arc::clone(&bench),
                keys: Arc::clone(&keys),
                watch: Arc::default(),
                timers: Arc::default(),
                retention: Arc::new(Retention::new(config.retention_ms_max)),
                ended: Arc::default(),
                checks: Arc::new(Checks::new(Arc::clone(&outside))),
                tasks: tasks.clone(),
                stop: stop.clone(),
                time_scale: config.time_scale,
            })
        };
        let metadata = runtime(metadata);
        let data: Vec<_> = data.into_iter().map(runtime).collect();
        let operator_token = config.operator_token.clone();
        let inner = Inner {
            config,
            metadata,
            data,
            bench,
            keys,
            clock,
            stop,
            tasks,
            streams: Arc::default(),
            operator_token,
            tickets: Tickets::default(),
            duplicates: AtomicU64::new(0),
            meters: Meters::default(),
            others: Others::default(),
        };
        let broker = Self { inner: Arc::new(inner) };
        let schedules = schedules::run::run(Arc::downgrade(&broker.inner), broker.inner.stop.clone());
        broker.inner.tasks.spawn(schedules);
        broker.inner.tasks.spawn(tick(broker.inner.data.clone(), broker.inner.stop.clone()));
        broker
    }

    /// Takes no more work, ends streams and long polls, and waits until all that was proposed is answered.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.shards().for_each(|shard| shard.parts.batcher.close());
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// How each shard is on this node.
    #[must_use]
    pub fn health(&self) -> Vec<ShardHealth> {
        let health = |shard: &Arc<ShardRuntime>| {
            let applied = shard.port.applied().borrow().0;
            ShardHealth {
                shard: shard.port.id(),
                term: shard.port.leadership(),
                leader: shard.port.leader(),
                applied,
                lag: shard.port.status().committed.map_or(0, |committed| committed.0).saturating_sub(applied),
            }
        };
        self.shards().map(health).collect()
    }

    /// Publishes that this node answered as duplicates since its start.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.inner.duplicates.load(Ordering::Relaxed)
    }

    /// True until [`Self::shutdown`].
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.inner.stop.is_cancelled()
    }

    /// Looks at all leases now; in production a task does.
    #[cfg(any(test, feature = "testing"))]
    pub fn tick_now(&self) {
        self.inner.data.iter().flat_map(|shard| shard.groups()).for_each(|group| group.tick());
        self.inner.data.iter().for_each(|shard| shard.parts.timers.look());
        self.inner.data.iter().for_each(|shard| shard.parts.checks.look());
    }

    /// What became of delayed messages on this node.
    #[must_use]
    pub fn timer_stats(&self) -> Vec<TimerStats> {
        self.inner.data.iter().map(|shard| shard.parts.timers.stats(&*shard.port)).collect()
    }

    /// What retention did on this node.
    #[must_use]
    pub fn retention_stats(&self) -> Vec<RetentionStats> {
        self.shards().map(|shard| shard.parts.retention.stats(&*shard.port)).collect()
    }

    /// Looks once for what retention takes, in every data shard; in production a task does. True if there is more.
    ///
    /// # Errors
    /// What the shard says.
    #[cfg(any(test, feature = "testing"))]
    pub async fn retain_now(&self) -> Result<bool, Error> {
        let mut more = false;
        for shard in &self.inner.data {
            more |= shard.parts.retention.look(&shard.parts).await?;
        }
        Ok(more)
    }

    /// What became of attempts that ended badly on this node.
    #[must_use]
    pub fn delivery_stats(&self) -> Vec<DeliveryStats> {
        self.inner.data.iter().map(|shard| shard.delivery_stats()).collect()
    }

    /// Forgets dead letters past their retention now; in production the same task does.
    #[cfg(any(test, feature = "testing"))]
    pub fn sweep_now(&self) {
        self.inner.data.iter().for_each(|shard| shard.forget_dead_letters());
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = &Arc<ShardRuntime>> {
        std::iter::once(&self.inner.metadata).chain(&self.inner.data)
    }

    /// The home of a tenant.
    pub(crate) fn home(&self, tenant: &str) -> Result<Home, Error> {
        let found = self.inner.metadata.port.state().homes.get(tenant).copied();
        let found = found.ok_or_else(|| self.inner.metadata.absent(|| self.unknown_tenant()))?;
        let shard = self.inner.data.iter().find(|shard| shard.port.id() == found.shard);
        let shard = shard.ok_or(Error::NoLeader)?;
        Ok(Home { tenant: found.id, shard: Arc::clone(shard) })
    }
}

/// Ends leases that ran out, and settles what filters refused, until the broker stops.
async fn tick(shards: Vec<Arc<ShardRuntime>>, stop: CancellationToken) {
    let mut ticks = 0_u32;
    while stop.run_until_cancelled(tokio::time::sleep(TICK)).await.is_some() {
        for shard in &shards {
            for group in shard.groups() {
                group.tick();
            }
            if ticks.is_multiple_of(TICKS_PER_SWEEP) {
                shard.forget_dead_letters();
                shard.forget_gone();
            }
        }
        ticks = ticks.wrapping_add(1);
    }
}
