//! A shard without openraft: one thread drives log store, `apply`, state and sealing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;
use openraft::{RaftLogReader as _, Vote as RaftVote};
use parking_lot::Mutex;
use pointsman_model::LogIndex;
use pointsman_model::time::{FakeClock, Stamper};
use pointsman_state_machine::Outcome;
use pointsman_storage::checkpoint::Checkpoints;
use pointsman_storage::disk::Disk as _;
use pointsman_storage::disk::sim::{SimDisk, World};
use pointsman_storage::identity::Owner;
use pointsman_storage::log::{CommitLog, LogConfig, Mutant, RecoveryReport, WriterMode};
use pointsman_storage::state::{ModelState, StateStore};
use pointsman_storage::vote::VoteFile;
use rand::RngExt as _;
use rand::rngs::SmallRng;

use super::super::*;
use crate::core::Core;
use crate::entry::{Batch, Entry, Payload};
use crate::log_store::LogStore;
use crate::raft_types::{Types, log_id};
use crate::recovery::{Found, assemble, misfit};

const DIR: &str = "/1";

/// Bugs that the test must find.
#[derive(Clone, Copy, Default)]
pub(super) struct Bugs {
    pub(super) log: Option<Mutant>,
    /// State ahead of the log is kept.
    pub(super) state_trusted: bool,
    /// What a trim released is purged, whether a checkpoint covers it or not.
    pub(super) purge_unchecked: bool,
}

/// An entry that was proposed, and what came of it.
#[derive(Clone)]
pub(super) struct Proposed {
    pub(super) entry: Entry,
    /// Outcomes and the hash of all up to it, once it was applied.
    pub(super) applied: Option<(Vec<Outcome>, u64)>,
}

/// What had happened when the disk had done an operation.
#[derive(Clone)]
pub(super) struct Moment {
    pub(super) world: World,
    pub(super) proposed: usize,
    pub(super) acked: usize,
    pub(super) flushed: Option<LogIndex>,
    pub(super) applied: Option<LogIndex>,
    pub(super) voted: u64,
}

/// A shard without openraft.
pub(super) struct Sim {
    pub(super) disk: SimDisk,
    pub(super) core: Arc<Core>,
    pub(super) store: LogStore,
    pub(super) state: Arc<ModelState>,
    pub(super) term: u64,
    pub(super) stamper: Stamper,
    pub(super) clock: FakeClock,
    /// By index.
    pub(super) proposed: Vec<Proposed>,
    /// How many there are, and of how many the log said that they are durable.
    pub(super) calls: Arc<Calls>,
}

/// What the disk's observer must know of the entries.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) proposed: AtomicUsize,
    pub(super) acked: AtomicUsize,
    pub(super) waiting: Mutex<VecDeque<(usize, Flushed)>>,
}

impl Calls {
    /// How many entries the log has called back for. From that moment on they may be acknowledged.
    pub(super) fn acked(&self) -> Result<usize, String> {
        let mut waiting = self.waiting.lock();
        while let Some((end, flushed)) = waiting.front_mut() {
            let Some(result) = flushed.now_or_never() else { break };
            result.unwrap().map_err(|error| error.to_string())?;
            self.acked.fetch_max(*end, Ordering::SeqCst);
            waiting.pop_front();
        }
        Ok(self.acked.load(Ordering::SeqCst))
    }
}

pub(super) type Flushed = openraft::alias::OneshotReceiverOf<Types, Result<(), std::io::Error>>;

pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing waits here")
}

pub(super) fn open_log(disk: &SimDisk, bugs: Bugs) -> (CommitLog, RecoveryReport) {
    let config = LogConfig {
        segment_bytes: 16 << 10,
        zero_ahead: false,
        tail_cache_bytes: 8 << 10,
        writer: WriterMode::Manual,
        mutant: bugs.log,
        ..LogConfig::new(DIR.into(), identity().cluster, ShardId(1))
    };
    CommitLog::open(Arc::new(disk.clone()), config).expect("the log opens")
}

impl Sim {
    /// Recovers from a disk; `state` is what the state store came back as.
    pub(super) fn open(
        disk: SimDisk,
        bugs: Bugs,
        state: impl FnOnce(pointsman_storage::state::tree::FsyncedIndex) -> ModelState,
        proposed: Vec<Proposed>,
        acked: usize,
    ) -> Result<Self, String> {
        let owner = Owner { cluster: identity().cluster, shard: ShardId(1) };
        disk.create_dir(DIR.as_ref()).map_err(|error| error.to_string())?;
        disk.sync_dir("/".as_ref()).map_err(|error| error.to_string())?;
        let words = |error: pointsman_storage::Error| error.to_string();
        let vote = VoteFile::open(&disk, DIR.as_ref(), owner).map_err(words)?;
        let (log, report) = open_log(&disk, bugs);
        if !report.damages.is_empty() {
            return Err(format!("damage after a power cut: {:?}", report.damages));
        }
        let fsynced = || {
            let log = log.clone();
            Arc::new(move || log.flushed()) as pointsman_storage::state::tree::FsyncedIndex
        };
        let mut state = Arc::new(state(fsynced()));
        if !bugs.state_trusted && misfit(&*state, &log).map_err(|error| error.to_string())?.is_some() {
            state = Arc::new(ModelState::new(fsynced()));
        }
        let checkpoints =
            Checkpoints::open(Arc::new(disk.clone()), owner, &std::path::Path::new(DIR).join("checkpoint"))
                .map_err(words)?;
        let found = Found { log, vote, state: Arc::clone(&state) as Arc<dyn StateStore>, checkpoints };
        let background = crate::Background::Inline;
        let config = ShardConfig { dir: DIR.into(), disk: Arc::new(disk.clone()), background, ..config("/".as_ref()) };
        let (core, _) = assemble(found, &config, owner, &report).map_err(|error| error.to_string())?;
        let term = core.vote.lock().load().map_or(0, |vote| vote.term.0) + 1;
        let clock = FakeClock::new(Timestamp(1_000_000));
        let stamper = Stamper::anchored(core.log.last_stamp(), &clock);
        let store = LogStore::new(Arc::clone(&core));
        let calls = Arc::new(Calls { proposed: proposed.len().into(), acked: acked.into(), ..Calls::default() });
        Ok(Self { disk, core, store, state, term, stamper, clock, proposed, calls })
    }

    /// Wins the election of a new term and says so in the log.
    pub(super) fn lead(&mut self) {
        for committed in [false, true] {
            let vote = RaftVote { leader_id: crate::raft_types::LeaderId { term: self.term, voted_for: 1 }, committed };
            now(self.store.save_vote(&vote)).unwrap();
        }
        self.append(vec![Payload::Blank]);
    }

    /// Hands entries to the log store and keeps them.
    pub(super) fn append(&mut self, payloads: Vec<Payload>) {
        let (done, flushed) = Types::oneshot();
        let first = self.proposed.len() as u64;
        let entries: Vec<_> =
            (first..).zip(payloads).map(|(index, payload)| Entry::new(log_id(self.term, index), payload)).collect();
        self.proposed.extend(entries.iter().map(|entry| Proposed { entry: entry.clone(), applied: None }));
        self.calls.proposed.store(self.proposed.len(), Ordering::SeqCst);
        self.calls.waiting.lock().push_back((self.proposed.len(), flushed));
        now(self.store.append(entries, IOFlushed::signal(done))).unwrap();
    }

    pub(super) fn batch(&mut self, records: Records) -> Payload {
        let (count, records, records_crc) = records.finish();
        self.clock.advance_ms(3);
        Payload::Batch(Batch { stamp: self.stamper.stamp(&self.clock), count, records_crc, records, ticket: None })
    }

    /// Applies up to an index, as openraft's worker would: what it reads from the log.
    pub(super) fn apply(&mut self, end: u64) -> Result<(), String> {
        let next = self.core.applied_index().map_or(0, |applied| applied.0 + 1);
        for entry in now(self.store.try_get_log_entries(next..end)).map_err(|error| error.to_string())? {
            let index = entry.log_id.index as usize;
            let applied = self.core.apply(&entry).map_err(|error| error.to_string())?;
            let hash = self.core.machine.read().state().outcome_hash;
            match &self.proposed[index].applied {
                Some((outcomes, _)) if *outcomes != applied.outcomes => {
                    return Err(format!("entry {index} came to {:?} before, now {:?}", outcomes, applied.outcomes));
                }
                Some((_, before)) if *before != hash => return Err(format!("another outcome hash at entry {index}")),
                _ => self.proposed[index].applied = Some((applied.outcomes, hash)),
            }
        }
        Ok(())
    }

    /// A run of random steps. Returns what was so after each operation of the disk.
    pub(super) fn work(&mut self, rng: &mut SmallRng, steps: usize, bugs: Bugs) -> Result<Vec<Moment>, String> {
        let moments: Arc<Mutex<Vec<Moment>>> = Arc::default();
        let (seen, core, calls) = (Arc::clone(&moments), Arc::downgrade(&self.core), Arc::clone(&self.calls));
        // The observer runs inside operations of the log, so it asks only for what needs no lock of the log's own.
        let flushed: Arc<Mutex<Option<LogIndex>>> = Arc::new(Mutex::new(self.core.log.flushed()));
        let known = Arc::clone(&flushed);
        let voted = Arc::new(AtomicUsize::new(self.core.vote.lock().load().map_or(0, |vote| vote.term.0) as usize));
        let voted_seen = Arc::clone(&voted);
        self.disk.observe(Box::new(move |world| {
            let Some(core) = core.upgrade() else { return };
            seen.lock().push(Moment {
                world: world.clone(),
                proposed: calls.proposed.load(Ordering::SeqCst),
                acked: calls.acked().unwrap(),
                flushed: *known.lock(),
                applied: core.applied_index(),
                voted: voted_seen.load(Ordering::SeqCst) as u64,
            });
        }));
        self.lead();
        voted.store(self.term as usize, Ordering::SeqCst);
        if self.proposed.len() < 3 {
            let setup = self.batch(setup());
            self.append(vec![setup]);
        }
        for _ in 0..steps {
            match rng.random_range(0..10) {
                0..=3 => {
                    let payloads = (0..rng.random_range(1..4)).map(|_| self.random_payload(rng)).collect();
                    self.append(payloads);
                }
                4..=5 => {
                    self.core.log.step().map_err(|error| error.to_string())?;
                    *flushed.lock() = self.core.log.flushed();
                }
                // A follower may apply what a majority has before its own fsync.
                6 => self.apply(self.proposed.len() as u64)?,
                7 => drop(self.state.flush_now()),
                8 => drop(self.core.seal_full_segments().map_err(|error| error.to_string())?),
                9 => {
                    self.keep_house(bugs)?;
                    *flushed.lock() = self.core.log.flushed();
                }
                _ => {}
            }
            // What was called back is committed: it is applied and answered.
            let acked = self.calls.acked()?;
            self.apply(acked as u64)?;
        }
        self.disk.stop_observing();
        let moments = std::mem::take(&mut *moments.lock());
        Ok(moments)
    }

    pub(super) fn random_payload(&mut self, rng: &mut SmallRng) -> Payload {
        let mut records = Records::default();
        if rng.random_range(0..4) == 0 {
            self.trim(rng, &mut records);
        }
        for n in 0..rng.random_range(1..4) {
            let body = vec![rng.random::<u8>(); rng.random_range(0..1_200)];
            // One in eight was decided under a generation that is gone, and comes to nothing.
            let generation = Generation(if rng.random_range(0..8) == 0 { 9 } else { 1 });
            if rng.random_range(0..3) == 0 {
                let key = format!("once {}", rng.random_range(0..8));
                records.publish_once(rng.random_range(0..2), generation, &key, &body);
            } else if rng.random_range(0..3) == 0 {
                let due = self.stamper.stamp(&self.clock).plus_ms(rng.random_range(0..40));
                records.park(rng.random_range(0..2), generation, due, &body);
            } else {
                records.publish(rng.random_range(0..2), generation, &format!("k{}", n % 2), &body);
            }
        }
        self.fire_due(&mut records);
        self.batch(records)
    }

    /// Fires what is due, also what was fired already by an entry that is not applied yet.
    fn fire_due(&mut self, records: &mut Records) {
        let now = self.stamper.stamp(&self.clock);
        let machine = self.core.machine.read();
        for timer in machine.timers_due(&self.core.rows(), now, 3).unwrap() {
            let parked = machine.parked(&self.core.rows(), timer.tenant, timer.index, timer.ordinal).unwrap().unwrap();
            records.fire(parked.queue, parked.place, b"fired");
        }
    }
}
