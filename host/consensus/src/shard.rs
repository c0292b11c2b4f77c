//! One shard: its Raft group on this node.

mod answers;
pub(crate) mod group;
pub(crate) mod metrics;
mod port;
mod propose;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use openraft::async_runtime::watch::WatchReceiver as _;
use pointsman_broker::ports::ProposeError;
use pointsman_model::time::{SharedClock, Timestamp};
use pointsman_model::{NodeId, ShardId};
use tokio::task::{JoinHandle, JoinSet};

use crate::Error;
use crate::applier::Applier;
use crate::caretaker::Caretaker;
use crate::config::{ShardConfig, raft_config, raft_node_id};
use crate::core::Core;
use crate::hand_over::HandOver;
use crate::house;
use crate::log_store::LogStore;
use crate::network::Network;
use crate::raft_types::{RaftNode, RaftNodeId, Types};
use crate::read_index::ReadIndex;
use crate::recovery::{Recovery, recover};
use crate::repair::Repairer;
use crate::sync_times::TimedDisk;
use crate::vigil::Vigil;
use propose::Proposer;

/// Page and frame header, rounded up: what a segment holds beside records.
pub(crate) const SEGMENT_OVERHEAD_BYTES: u64 = 8 << 10;

pub(crate) type Raft = openraft::Raft<Types, Applier>;

/// An open shard.
pub struct Shard {
    id: ShardId,
    pub(crate) core: Arc<Core>,
    clock: SharedClock,
    /// Measures syncs; the simulation has none.
    disk: Option<Arc<TimedDisk>>,
    recovery: Recovery,
    /// Empty while the log is damaged: then the shard serves what it can read and takes nothing.
    running: Arc<OnceLock<Running>>,
    /// Repairs a damaged log from the other nodes, and starts openraft then.
    _repair: JoinSet<()>,
}

struct Running {
    raft: Raft,
    proposer: Proposer,
    read_index: Arc<ReadIndex>,
    hand_over: HandOver,
    /// Follows openraft's leadership; ends with it.
    follower: JoinHandle<()>,
    /// What keeps house; in a cluster also what the replica asks the others, and what it repairs.
    _watchers: JoinSet<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Shard {
    /// Opens a shard: recovers it from its directory and starts it. A node alone waits until it leads and has applied
    /// all that is committed; a node of a cluster waits for nobody.
    ///
    /// Must be called on a multi-threaded runtime; openraft's tasks and `apply` run there, and `apply` may block for as
    /// long as a flush of the state takes. A damaged log is no error: the shard then only reads, and says so.
    ///
    /// # Errors
    /// What recovery says; [`Error::NoLeader`].
    pub async fn open(mut config: ShardConfig) -> Result<Self, Error> {
        let disk = TimedDisk::new(Arc::clone(&config.disk));
        config.disk = Arc::clone(&disk) as _;
        let (recovering, shard) = (config.clone(), config.shard);
        let (core, recovery) = tokio::task::spawn_blocking(move || recover(&recovering))
            .await
            .map_err(|error| Error::Raft(error.to_string()))??;
        report(shard, &recovery);
        Ok(Self { disk: Some(disk), ..Self::start(config, core, recovery).await? })
    }

    /// Starts openraft on the parts of a recovered shard; on a damaged log it is not started.
    ///
    /// # Errors
    /// openraft refuses what it was given; [`Error::NoLeader`] on a node alone.
    pub(crate) async fn start(config: ShardConfig, core: Arc<Core>, recovery: Recovery) -> Result<Self, Error> {
        let running = Arc::new(OnceLock::new());
        let mut repair = JoinSet::new();
        let started = match () {
            () if core.is_damaged() => None,
            () => match Running::start(&config, &core).await {
                // openraft reads old entries when it starts, which may be the first to read them.
                Err(_) if config.cluster.is_some() && core.is_damaged() => None,
                started => Some(started?),
            },
        };
        match (started, &config.cluster) {
            (Some(started), _) => drop(running.set(started)),
            (None, Some(cluster)) => {
                let repairer = Repairer::new(Arc::clone(&core), cluster.clone());
                repair.spawn(repair_and_start(config.clone(), repairer, Arc::clone(&core), Arc::clone(&running)));
            }
            (None, None) => {}
        }
        Ok(Self { id: config.shard, core, clock: config.clock, disk: None, recovery, running, _repair: repair })
    }

    /// Makes these nodes, each in its first life, the first voters. For a shard that has a membership this does nothing.
    ///
    /// # Errors
    /// openraft stopped, or does not know this node among them; the log is damaged.
    pub async fn initialise(&self, members: &BTreeMap<NodeId, String>) -> Result<(), Error> {
        let running = self.running.get().ok_or_else(|| Error::Raft(self.failure().unwrap_or_default()))?;
        let member = |(node, addr): (&NodeId, &String)| (raft_node_id(*node, 0), RaftNode { addr: addr.clone() });
        running.initialise(members.iter().map(member).collect()).await
    }

    /// Whether the log holds a membership, or anything else.
    #[must_use]
    pub fn is_formed(&self) -> bool {
        self.core.log.last().is_some() || self.core.log.purged().is_some()
    }

    /// Which shard it is.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// What opening found and did.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Why the shard takes no writes here, if it does not.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let damages = self.core.log.damages().len() + self.core.doubts.counts().0;
        if damages > 0 && self.running.get().is_none() {
            let tried = self.core.repairing.lock().clone().map_or_else(String::new, |why| format!("; {why}"));
            return Some(format!("the log is damaged in {damages} place(s){tried}"));
        }
        let full =
            || self.core.is_full().then(|| "the disk is full: nothing is written until there is room".to_owned());
        self.core.failure().or_else(full)
    }

    /// Stops: no more proposals, everything appended is synced, and the state is flushed as far as it may be.
    ///
    /// # Errors
    /// A failed write or sync.
    pub async fn shutdown(&self) -> Result<(), Error> {
        if let Some(running) = self.running.get() {
            self.core.leadership.close();
            running.raft.shutdown().await.map_err(|error| Error::Raft(error.to_string()))?;
        }
        let core = Arc::clone(&self.core);
        let flush = move || -> Result<(), Error> {
            core.log.barrier()?;
            core.state.flush_now()?;
            Ok(())
        };
        if self.core.log.damages().is_empty() {
            let flushed = self.core.background.run(flush).await;
            flushed.ok_or_else(|| Error::Raft("the last flush panicked".to_owned()))??;
        }
        Ok(())
    }

    /// openraft, if it runs.
    pub(crate) fn raft(&self) -> Option<&Raft> {
        self.running.get().map(|running| &running.raft)
    }

    fn proposer(&self) -> Result<&Proposer, ProposeError> {
        let refusal = || ProposeError::StorageFailed(self.failure().unwrap_or_default());
        self.running.get().map(|running| &running.proposer).ok_or_else(refusal)
    }

    fn stamp_now(&self) -> Timestamp {
        self.running.get().map_or_else(|| self.clock.wall(), |running| running.proposer.now())
    }
}

impl Running {
    async fn start(config: &ShardConfig, core: &Arc<Core>) -> Result<Self, Error> {
        let stopped = |error: &dyn std::fmt::Display| Error::Raft(error.to_string());
        let id = config.raft_node_id();
        let (log, applier) = (LogStore::new(Arc::clone(core)), Applier::new(Arc::clone(core)));
        let transport = config.cluster.as_ref().map(|cluster| Arc::clone(&cluster.transport));
        let network = Network::new(Arc::clone(core), transport);
        let raft = Raft::new(id, raft_config(config.shard)?, network.clone(), log, applier)
            .await
            .map_err(|error| stopped(&error))?;
        let follower = tokio::spawn(follow(raft.clone(), Arc::clone(core)));
        let proposer = Proposer::new(raft.clone(), Arc::clone(core), Arc::clone(&config.clock), config.segment_bytes);
        let mut watchers = JoinSet::new();
        watchers.spawn(house::keep(raft.clone(), Arc::clone(core)));
        if let Some(cluster) = &config.cluster {
            watchers.spawn(Vigil::new(Arc::clone(core), raft.clone(), cluster.clone()).keep());
            watchers.spawn(Repairer::new(Arc::clone(core), cluster.clone()).watch());
            let (answers, core) = (proposer.answers(), Arc::clone(core));
            watchers.spawn(async move { answers.watch(&core.leadership).await });
        }
        let hand_over = HandOver { core: Arc::clone(core), raft: raft.clone(), network: network.clone() };
        if let Some(cluster) = &config.cluster {
            watchers.spawn(Caretaker::new(hand_over.clone(), cluster.clone()).keep());
        }
        let read_index = ReadIndex::new(Arc::clone(core), raft.clone(), network);
        let running = Self { raft, proposer, read_index, hand_over, follower, _watchers: watchers };
        if config.cluster.is_none() {
            running.lead(id, config, core).await?;
        }
        Ok(running)
    }

    async fn initialise(&self, members: BTreeMap<RaftNodeId, RaftNode>) -> Result<(), Error> {
        let stopped = |error: &dyn std::fmt::Display| Error::Raft(error.to_string());
        if !self.raft.is_initialized().await.map_err(|error| stopped(&error))? {
            self.raft.initialize(members).await.map_err(|error| stopped(&error))?;
        }
        Ok(())
    }

    /// Makes this node, the only voter, the leader; no timeout has to pass first.
    async fn lead(&self, id: u64, config: &ShardConfig, core: &Core) -> Result<(), Error> {
        self.initialise(BTreeMap::from([(id, RaftNode::default())])).await?;
        let metrics = self.raft.server_metrics();
        if metrics.borrow_watched().membership_config.nodes().any(|(member, _)| *member != id) {
            // Alone it would wait for votes that nobody casts.
            return Err(Error::NotAlone { shard: config.shard.0 });
        }
        self.raft.trigger().elect(false).await.map_err(|error| Error::Raft(error.to_string()))?;
        match tokio::time::timeout(config.open_within, core.leadership.wait()).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::Raft(core.failure().unwrap_or_default())),
            Err(_) => Err(Error::NoLeader { shard: config.shard.0, waited: config.open_within }),
        }
    }
}

/// Follows openraft's leadership. If the shard fails, openraft is stopped, so that nobody waits for an answer that does
/// not come: it does not notice a panic in `apply` by itself.
async fn follow(raft: Raft, core: Arc<Core>) {
    tokio::select! {
        () = core.leadership.follow(raft.server_metrics(), raft.data_metrics()) => {
            if !core.leadership.is_closing() {
                let state = raft.metrics().borrow_watched().running_state.clone();
                core.fail(state.err().map_or_else(|| "openraft ended".to_owned(), |fatal| fatal.to_string()));
            }
        }
        () = core.leadership.wait_stopped() => {
            if let Err(error) = raft.shutdown().await {
                tracing::warn!(error = %error, "openraft did not stop cleanly");
            }
        }
    }
}

/// Repairs a log that recovery found damaged, and starts openraft on it then.
async fn repair_and_start(config: ShardConfig, repairer: Repairer, core: Arc<Core>, running: Arc<OnceLock<Running>>) {
    while core.failure().is_none() {
        repairer.repair_log().await;
        match Running::start(&config, &core).await {
            Ok(started) => {
                drop(running.set(started));
                return;
            }
            Err(_) if core.is_damaged() => {}
            Err(error) => core.fail(error),
        }
    }
}

fn report(shard: ShardId, recovery: &Recovery) {
    tracing::info!(
        shard.id = shard.0,
        log.segments = recovery.segments,
        log.torn_bytes = recovery.torn_bytes,
        log.damages = recovery.damages.len(),
        state.applied = recovery.applied.map_or(-1, |index| i64::try_from(index.0).unwrap_or(i64::MAX)),
        sidecars_rebuilt = recovery.sidecars_rebuilt,
        "shard is open"
    );
}
