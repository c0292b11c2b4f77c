//! The broker itself: its shards, its judges and what it owns.

use std::sync::Arc;

use pointsman_model::time::SharedClock;
use pointsman_model::{ShardId, Term, limits};

use crate::error::Error;
use crate::ports::{Judges, Shard};

/// Settings of the use cases.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// Multiplies every wait of the retry table.
    pub time_scale: f64,
    /// Longest retention a topic may have.
    pub retention_ms_max: u64,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self { time_scale: 1.0, retention_ms_max: limits::RETENTION_MS_MAX_DEFAULT }
    }
}

/// How one shard is on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardHealth {
    /// Which.
    pub shard: ShardId,
    /// The term this node leads in, if it does.
    pub term: Option<Term>,
    /// Index of the last applied entry.
    pub applied: u64,
}

/// All use cases. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Broker {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: BrokerConfig,
    pub(crate) metadata: Arc<dyn Shard>,
    pub(crate) data: Vec<Arc<dyn Shard>>,
    pub(crate) judges: Arc<dyn Judges>,
    pub(crate) clock: SharedClock,
}

impl Broker {
    /// A broker over these shards. `data` are the shards that tenants live in. Call it inside a tokio runtime.
    #[must_use]
    pub fn new(
        config: BrokerConfig,
        metadata: Arc<dyn Shard>,
        data: Vec<Arc<dyn Shard>>,
        judges: Arc<dyn Judges>,
        clock: SharedClock,
    ) -> Self {
        Self { inner: Arc::new(Inner { config, metadata, data, judges, clock }) }
    }

    /// Makes what every broker has, where this node leads: a signing key and the tenant `default`. Repeatable.
    ///
    /// # Errors
    /// No leader yet, or a failed write.
    pub async fn bootstrap(&self) -> Result<(), Error> {
        Err(Error::NoLeader)
    }

    /// Takes no more work, ends streams and long polls, and waits until all that was proposed is answered.
    pub async fn shutdown(&self) {}

    /// How each shard is on this node.
    #[must_use]
    pub fn health(&self) -> Vec<ShardHealth> {
        Vec::new()
    }
}
