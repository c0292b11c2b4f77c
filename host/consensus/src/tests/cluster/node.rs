//! One node in one of its lives: a shard on a simulated disk, its broker, and who writes its log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_broker::testing::{FakeJudges, FakeOutside, FakeShard};
use pointsman_broker::{Broker, BrokerConfig};
use pointsman_model::time::Clock;
use pointsman_model::{LogIndex, Timestamp};
use pointsman_storage::checkpoint::Checkpoints;
use pointsman_storage::disk::Disk as _;
use pointsman_storage::disk::sim::{SimDisk, choices};
use pointsman_storage::identity::{Identity, Owner};
use pointsman_storage::log::{CommitLog, LogConfig, WriterMode};
use pointsman_storage::state::tree::FsyncedIndex;
use pointsman_storage::state::{ModelState, StateStore};
use pointsman_storage::vote::VoteFile;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::network::{End, Net, number};
use super::probe::Mutant;
use super::state::{Ledger, WatchedState};
use super::wire::Wire;
use super::{NODES, SHARD};
use crate::core::Core;
use crate::recovery::{Found, assemble, misfit};
use crate::{Background, Cluster, Node, Shard, ShardConfig};

const DIR: &str = "/1";
const CLUSTER: [u8; 16] = [7; 16];
/// Small, so that a run seals some.
const SEGMENT_BYTES: u64 = 16 << 10;
/// Waits of the retry table are this much shorter.
const TIME_SCALE: f64 = 0.01;

/// A node's clock: tokio's time, as wrong as the seed says.
pub(super) struct SimClock {
    started: Instant,
    skew_ms: u64,
}

impl SimClock {
    pub(super) fn new(skew_ms: u64) -> Self {
        Self { started: Instant::now(), skew_ms }
    }
}

impl Clock for SimClock {
    fn wall(&self) -> Timestamp {
        Timestamp(1_700_000_000_000 + self.skew_ms + self.started.elapsed().as_millis() as u64)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// What nodes are made of and share.
pub(super) struct Parts {
    pub(super) net: Arc<Net>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) metadata: Arc<FakeShard>,
    pub(super) judges: Arc<FakeJudges>,
    pub(super) clocks: [Arc<SimClock>; NODES],
    pub(super) mutant: Option<Mutant>,
}

/// What a power cut left of a node.
pub(super) struct Remains {
    disk: SimDisk,
    /// The state, and the entry it is found at.
    state: Option<(Arc<WatchedState>, Option<LogIndex>)>,
    /// Entries that were in memory alone.
    pub(super) unsynced: u64,
}

impl Remains {
    /// A new disk.
    pub(super) fn nothing() -> Self {
        Self { disk: SimDisk::default(), state: None, unsynced: 0 }
    }
}

/// A running node.
pub(super) struct SimNode {
    pub(super) end: End,
    pub(super) core: Arc<Core>,
    pub(super) shard: Arc<Shard>,
    pub(super) broker: Broker,
    disk: SimDisk,
    state: Arc<WatchedState>,
    alive: Arc<AtomicBool>,
    died: watch::Sender<bool>,
    /// How long a sync takes at most.
    sync_ms: Arc<AtomicU64>,
    writer: JoinHandle<()>,
}

/// A sync's usual time at most.
const SYNC_MS: u64 = 5;

impl SimNode {
    /// Recovers a node and starts it.
    pub(super) async fn start(parts: &Parts, end: End, remains: Remains, seed: u64) -> Result<Arc<Self>, String> {
        let words = |error: pointsman_storage::Error| error.to_string();
        let disk = remains.disk;
        let owner = Owner { cluster: CLUSTER, shard: SHARD };
        disk.create_dir(DIR.as_ref()).map_err(|error| error.to_string())?;
        disk.sync_dir("/".as_ref()).map_err(|error| error.to_string())?;
        let vote = VoteFile::open(&disk, DIR.as_ref(), owner).map_err(words)?;
        let log_config = LogConfig {
            segment_bytes: SEGMENT_BYTES,
            zero_ahead: false,
            tail_cache_bytes: 8 << 10,
            writer: WriterMode::Manual,
            ..LogConfig::new(DIR.into(), owner.cluster, owner.shard)
        };
        let (log, report) = CommitLog::open(Arc::new(disk.clone()), log_config).map_err(words)?;
        if !report.damages.is_empty() {
            return Err(format!("damage after a power cut: {:?}", report.damages));
        }
        let alive = Arc::new(AtomicBool::new(true));
        let fsynced = || {
            let log = log.clone();
            Arc::new(move || log.flushed()) as FsyncedIndex
        };
        let watched = |model| WatchedState {
            model,
            node: end.node,
            ledger: Arc::clone(&parts.ledger),
            forgets_keys: parts.mutant == Some(Mutant::DedupForgotten),
            alive: Arc::clone(&alive),
        };
        let model = match &remains.state {
            Some((state, survivor)) => state.model.crash(*survivor, fsynced()),
            None => ModelState::new(fsynced()),
        };
        let mut state = Arc::new(watched(model));
        if misfit(&*state, &log).map_err(|error| error.to_string())?.is_some() {
            state = Arc::new(watched(ModelState::new(fsynced())));
        }
        let shared = Arc::new(disk.clone());
        let checkpoints =
            Checkpoints::open(Arc::clone(&shared) as _, owner, &Path::new(DIR).join("checkpoint")).map_err(words)?;
        let found = Found { log, vote, state: Arc::clone(&state) as Arc<dyn StateStore>, checkpoints };
        let wire = Wire { net: Arc::clone(&parts.net), from: end };
        let config = ShardConfig {
            shard: SHARD,
            dir: DIR.into(),
            identity: Identity { cluster: CLUSTER, node: number(end.node).0, incarnation: 0 },
            disk: shared,
            clock: Arc::clone(&parts.clocks[end.node]) as _,
            segment_bytes: SEGMENT_BYTES,
            zero_ahead: false,
            open_within: Duration::from_secs(20),
            cluster: Some(Cluster {
                transport: Arc::new(wire),
                nodes: (0..NODES).map(|node| (number(node), format!("node-{node}"))).collect(),
            }),
            background: Background::Inline,
        };
        let (core, recovery) = assemble(found, &config, owner, &report).map_err(|error| error.to_string())?;
        core.probe.set(parts.mutant);
        let clock = Arc::clone(&config.clock);
        let shard = Shard::start(config, Arc::clone(&core), recovery).await.map_err(|error| error.to_string())?;
        let shard = Arc::new(shard);
        let serving = Node { metadata: Arc::clone(&shard), data: vec![Arc::clone(&shard)] };
        parts.net.serve(end.node, Some((end.life, Arc::new(serving))));
        let broker = Broker::new(
            BrokerConfig { time_scale: TIME_SCALE, ..BrokerConfig::default() },
            Arc::clone(&parts.metadata) as _,
            vec![Arc::clone(&shard) as _],
            Arc::clone(&parts.judges) as _,
            Arc::<FakeOutside>::default() as _,
            clock,
        );
        let sync_ms = Arc::new(AtomicU64::new(SYNC_MS));
        let rng = SmallRng::seed_from_u64(seed);
        let writer = tokio::spawn(write(Arc::clone(&core), rng, Arc::clone(&sync_ms)));
        let died = watch::Sender::new(false);
        Ok(Arc::new(Self { end, core, shard, broker, disk, state, alive, died, sync_ms, writer }))
    }

    /// Syncs take this long at most from now on; `None` is as usual.
    pub(super) fn slow_syncs(&self, ms: Option<u64>) {
        self.sync_ms.store(ms.unwrap_or(SYNC_MS), Ordering::Relaxed);
    }

    /// Resolves once the power is cut.
    pub(super) async fn dead(&self) {
        let mut died = self.died.subscribe();
        // The sender lives in `self`.
        drop(died.wait_for(|died| *died).await);
    }

    /// Why it stopped by itself, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.shard.failure()
    }

    /// Cuts the power, maybe in the middle of a group commit. What was on its way to the disk is kept, torn or lost.
    pub(super) fn cut_power(&self, rng: &mut SmallRng) -> Remains {
        self.alive.store(false, Ordering::Relaxed);
        self.died.send_replace(true);
        self.writer.abort();
        let log = &self.core.log;
        let (last, flushed) = (log.last().map_or(0, |(_, index, _)| index.0 + 1), log.flushed());
        let survivors = self.state.model.survivors(flushed.min(self.core.applied_index()));
        let moments = Arc::new(Mutex::new(vec![self.disk.world()]));
        let seen = Arc::clone(&moments);
        self.disk.observe(Box::new(move |world| seen.lock().push(world.clone())));
        // What it calls back now, nobody hears any more.
        drop(log.step());
        self.disk.stop_observing();
        let moments = moments.lock();
        let moment = &moments[rng.random_range(0..moments.len())];
        let atoms = moment.atoms();
        let ways = choices(&atoms, rng.random(), 4);
        let disk = SimDisk::with(moment.crash(&atoms, ways[rng.random_range(0..ways.len())]).0);
        let survivor = survivors[rng.random_range(0..survivors.len())];
        self.bury();
        let unsynced = last - flushed.map_or(0, |flushed| flushed.0 + 1);
        Remains { disk, state: Some((Arc::clone(&self.state), survivor)), unsynced }
    }

    /// Ends the tasks of a dead node, which reach nothing and nobody any more.
    fn bury(&self) {
        let (shard, broker) = (Arc::clone(&self.shard), self.broker.clone());
        tokio::spawn(async move {
            drop(shard.shutdown().await);
            broker.shutdown().await;
        });
    }
}

/// Writes the log as a thread would, but when the seed says.
async fn write(core: Arc<Core>, mut rng: SmallRng, sync_ms: Arc<AtomicU64>) {
    loop {
        core.probe.appended().await;
        // A group commit ends with its segment.
        let mut wrote = true;
        while wrote {
            let most = sync_ms.load(Ordering::Relaxed);
            // A slow one is slow for certain.
            let least = if most > SYNC_MS { most } else { 0 };
            sleep(Duration::from_millis(rng.random_range(least..=most))).await;
            match core.log.step() {
                Ok(more) => wrote = more,
                Err(_) => return,
            }
        }
        if rng.random_range(0..8) == 0 {
            drop(core.state.flush_now());
        }
    }
}
