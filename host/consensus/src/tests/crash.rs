//! Power cuts on a simulated disk, at every moment between two of its operations.
//!
//! One thread drives log store, `apply`, state and sealing as openraft would for a sole voter, and notes what it
//! acknowledged when. Then the disk is cut at some of its operations, in several ways each, and the state store comes
//! back as any version it may. After production recovery and `apply` of the rest, everything acknowledged must be
//! there, nothing else than what was proposed, and all of it applied exactly once.
//!
//! A state is named by `(seed, operation, choice)`; failures print it.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;
use openraft::{RaftLogReader as _, Vote as RaftVote};
use parking_lot::Mutex;
use pointsman_model::time::{FakeClock, Stamper};
use pointsman_model::{LogIndex, QueueOffset};
use pointsman_state_machine::{Machine, Outcome};
use pointsman_storage::checkpoint::Checkpoints;
use pointsman_storage::disk::Disk as _;
use pointsman_storage::disk::sim::{Choice, SimDisk, World, choices};
use pointsman_storage::identity::Owner;
use pointsman_storage::log::{CommitLog, LogConfig, Mutant, RecoveryReport, WriterMode};
use pointsman_storage::queues::QueueRead;
use pointsman_storage::state::{ModelState, StateStore};
use pointsman_storage::vote::VoteFile;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::core::{Core, Rows};
use crate::entry::{Batch, Entry, Payload};
use crate::log_store::LogStore;
use crate::raft_types::{Types, log_id};
use crate::recovery::{Found, assemble, misfit};

const DIR: &str = "/1";
/// Disk operations of a workload that are cut.
const CUTS: usize = 24;
/// Ways each is cut.
const WAYS: usize = 5;

/// Bugs that the test must find.
#[derive(Clone, Copy, Default)]
struct Bugs {
    log: Option<Mutant>,
    /// State ahead of the log is kept.
    state_trusted: bool,
}

/// An entry that was proposed, and what came of it.
#[derive(Clone)]
struct Proposed {
    entry: Entry,
    /// Outcomes and the hash of all up to it, once it was applied.
    applied: Option<(Vec<Outcome>, u64)>,
}

/// What had happened when the disk had done an operation.
#[derive(Clone)]
struct Moment {
    world: World,
    proposed: usize,
    acked: usize,
    flushed: Option<LogIndex>,
    applied: Option<LogIndex>,
    voted: u64,
}

/// A shard without openraft.
struct Sim {
    disk: SimDisk,
    core: Arc<Core>,
    store: LogStore,
    state: Arc<ModelState>,
    term: u64,
    stamper: Stamper,
    clock: FakeClock,
    /// By index.
    proposed: Vec<Proposed>,
    /// How many there are, and of how many the log said that they are durable.
    calls: Arc<Calls>,
}

/// What the disk's observer must know of the entries.
#[derive(Default)]
struct Calls {
    proposed: AtomicUsize,
    acked: AtomicUsize,
    waiting: Mutex<VecDeque<(usize, Flushed)>>,
}

impl Calls {
    /// How many entries the log has called back for. From that moment on they may be acknowledged.
    fn acked(&self) -> Result<usize, String> {
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

type Flushed = openraft::alias::OneshotReceiverOf<Types, Result<(), std::io::Error>>;

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing waits here")
}

fn open_log(disk: &SimDisk, bugs: Bugs) -> (CommitLog, RecoveryReport) {
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
    fn open(
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
        let config = ShardConfig { dir: DIR.into(), disk: Arc::new(disk.clone()), ..config("/".as_ref()) };
        let (core, _) = assemble(found, &config, owner, &report).map_err(|error| error.to_string())?;
        let term = core.vote.lock().load().map_or(0, |vote| vote.term.0) + 1;
        let clock = FakeClock::new(Timestamp(1_000_000));
        let stamper = Stamper::anchored(core.log.last_stamp(), &clock);
        let store = LogStore::new(Arc::clone(&core));
        let calls = Arc::new(Calls { proposed: proposed.len().into(), acked: acked.into(), ..Calls::default() });
        Ok(Self { disk, core, store, state, term, stamper, clock, proposed, calls })
    }

    /// Wins the election of a new term and says so in the log.
    fn lead(&mut self) {
        for committed in [false, true] {
            let vote = RaftVote { leader_id: crate::raft_types::LeaderId { term: self.term, voted_for: 1 }, committed };
            now(self.store.save_vote(&vote)).unwrap();
        }
        self.append(vec![Payload::Blank]);
    }

    /// Hands entries to the log store and keeps them.
    fn append(&mut self, payloads: Vec<Payload>) {
        let (done, flushed) = Types::oneshot();
        let first = self.proposed.len() as u64;
        let entries: Vec<_> =
            (first..).zip(payloads).map(|(index, payload)| Entry::new(log_id(self.term, index), payload)).collect();
        self.proposed.extend(entries.iter().map(|entry| Proposed { entry: entry.clone(), applied: None }));
        self.calls.proposed.store(self.proposed.len(), Ordering::SeqCst);
        self.calls.waiting.lock().push_back((self.proposed.len(), flushed));
        now(self.store.append(entries, IOFlushed::signal(done))).unwrap();
    }

    fn batch(&mut self, records: Records) -> Payload {
        let (count, records, records_crc) = records.finish();
        self.clock.advance_ms(3);
        Payload::Batch(Batch { stamp: self.stamper.stamp(&self.clock), count, records_crc, records, ticket: None })
    }

    /// Applies up to an index, as openraft's worker would: what it reads from the log.
    fn apply(&mut self, end: u64) -> Result<(), String> {
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
    fn work(&mut self, rng: &mut SmallRng, steps: usize) -> Result<Vec<Moment>, String> {
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

    fn random_payload(&mut self, rng: &mut SmallRng) -> Payload {
        let mut records = Records::default();
        for n in 0..rng.random_range(1..4) {
            let body = vec![rng.random::<u8>(); rng.random_range(0..1_200)];
            // One in eight was decided under a generation that is gone, and comes to nothing.
            let generation = Generation(if rng.random_range(0..8) == 0 { 9 } else { 1 });
            records.publish(rng.random_range(0..2), generation, &format!("k{}", n % 2), &body);
        }
        self.batch(records)
    }

    /// What must hold after recovery and after everything in the log is applied.
    fn check(&mut self, moment: &Moment) -> Result<(), String> {
        let log = &self.core.log;
        let last = log.last().map_or(0, |(_, index, _)| index.0 + 1) as usize;
        if last < moment.acked {
            return Err(format!("{} entries were acknowledged, {last} are there", moment.acked));
        }
        let voted = self.core.vote.lock().load().map_or(0, |vote| vote.term.0);
        if voted < moment.voted {
            return Err(format!("voted in term {}, remembers {voted}", moment.voted));
        }
        let entries = now(self.store.try_get_log_entries(0..u64::MAX)).map_err(|error| error.to_string())?;
        if entries.len() != last {
            return Err(format!("{} of {last} entries can be read", entries.len()));
        }
        for (entry, proposed) in entries.iter().zip(&self.proposed) {
            let same = match (&entry.payload, &proposed.entry.payload) {
                (Payload::Batch(a), Payload::Batch(b)) => a.records == b.records && a.stamp == b.stamp,
                (Payload::Blank, Payload::Blank) => true,
                _ => false,
            };
            if !same || entry.log_id != proposed.entry.log_id {
                return Err(format!("entry {} is not what was proposed", entry.log_id));
            }
        }
        // What was lost was never acknowledged; it never happened.
        self.proposed.truncate(last);
        self.apply(last as u64)?;
        self.check_queues()
    }

    /// Every visible message is at its offset, and nothing else is.
    fn check_queues(&self) -> Result<(), String> {
        let mut next = [0_u64; 2];
        for proposed in &self.proposed {
            let Some((outcomes, _)) = &proposed.applied else { return Err("an entry is not applied".into()) };
            for outcome in outcomes {
                let Outcome::Published(published) = outcome else { continue };
                let offset = &mut next[usize::from(published.queue.0)];
                if published.offset != QueueOffset(*offset) {
                    return Err(format!("offset {} follows {offset}", published.offset));
                }
                *offset += 1;
                let entry = self.core.queues.get(TOPIC, published.queue, published.offset);
                let entry = entry.map_err(|error| error.to_string())?.ok_or("a queue entry is missing")?;
                if entry.log_place() != (published.index, published.ordinal) {
                    return Err(format!("offset {offset} leads to {:?}", entry.log_place()));
                }
                let bytes = self.core.log.read_record(entry.position, entry.length as usize);
                record::decode(&bytes.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
            }
        }
        for (queue, end) in (0..).zip(next) {
            let beyond = self.core.queues.read(TOPIC, QueueId(queue), QueueOffset(end), 1);
            if beyond.map_err(|error| error.to_string())? != QueueRead::Entries(Vec::new()) {
                return Err(format!("queue {queue} goes on behind {end}"));
            }
        }
        Ok(())
    }

    /// The outcome hash of a machine that is given the log from its first entry on.
    fn straight_replay(&self) -> u64 {
        let state = ModelState::new(Arc::new(|| None));
        let mut machine = Machine::load(&Rows(&state), ShardId(1)).unwrap();
        for entry in now(self.store.clone().try_get_log_entries(0..u64::MAX)).unwrap() {
            let records = match &entry.payload {
                Payload::Batch(batch) => batch.records.clone(),
                _ => Bytes::new(),
            };
            let meta = crate::applier::entry_meta(&self.core, &entry);
            let applied = machine.apply(&Rows(&state), &meta, &records).unwrap();
            let index = pointsman_storage::state::Applied { index: meta.index, meta: Bytes::new() };
            state.write(&index, &mut applied.writes.iter().map(|(k, v)| (&k[..], v.as_deref()))).unwrap();
        }
        machine.state().outcome_hash
    }
}

/// What a run of the test saw; a run in which its faults did not happen shows nothing.
#[derive(Default, Debug)]
struct Seen {
    states: usize,
    lost_entries: usize,
    state_behind: usize,
    state_gone: usize,
    sealed: usize,
    second_cuts: usize,
}

/// Cuts the power at some moments of a run and recovers from each.
fn cut(
    sim: &Sim,
    moments: &[Moment],
    rng: &mut SmallRng,
    bugs: Bugs,
    seed: u64,
    seen: &mut Seen,
) -> Result<(), String> {
    for _ in 0..CUTS.min(moments.len()) {
        let at = rng.random_range(0..moments.len());
        let moment = &moments[at];
        let atoms = moment.world.atoms();
        let ways = choices(&atoms, seed << 16 | at as u64, 4);
        for _ in 0..WAYS {
            let way: Choice = ways[rng.random_range(0..ways.len())];
            let name = format!("(seed {seed}, operation {at} of {}, {way:?})", moments.len());
            let disk = SimDisk::with(moment.world.crash(&atoms, way).0);
            let bound = if bugs.state_trusted { moment.applied } else { moment.flushed.min(moment.applied) };
            let survivors = sim.state.survivors(bound);
            let survivor = survivors[rng.random_range(0..survivors.len())];
            let mut after =
                Sim::open(disk, bugs, |fsynced| sim.state.crash(survivor, fsynced), sim.proposed.clone(), moment.acked)
                    .map_err(|error| format!("{name}: {error}"))?;
            seen.states += 1;
            seen.sealed += usize::from(after.core.queues.sealed().len() > 1);
            seen.state_gone += usize::from(survivor.is_none());
            seen.state_behind += usize::from(survivor.is_some() && survivor < after.core.log.last().map(|(_, i, _)| i));
            after.check(moment).map_err(|error| format!("{name}: {error}"))?;
            seen.lost_entries += moment.proposed - after.proposed.len();
            if rng.random_range(0..12) == 0 && bugs.log.is_none() {
                seen.second_cuts += 1;
                let moments = after.work(rng, 12).map_err(|error| format!("{name}, second run: {error}"))?;
                cut_again(&after, &moments, rng, bugs).map_err(|error| format!("{name}, second cut: {error}"))?;
            }
        }
    }
    Ok(())
}

/// Cuts a recovered shard's work once more, and compares with a straight replay.
fn cut_again(sim: &Sim, moments: &[Moment], rng: &mut SmallRng, bugs: Bugs) -> Result<(), String> {
    let moment = &moments[rng.random_range(0..moments.len())];
    let atoms = moment.world.atoms();
    let ways = choices(&atoms, rng.random(), 4);
    let disk = SimDisk::with(moment.world.crash(&atoms, ways[rng.random_range(0..ways.len())]).0);
    let survivors = sim.state.survivors(moment.flushed.min(moment.applied));
    let survivor = survivors[rng.random_range(0..survivors.len())];
    let mut after =
        Sim::open(disk, bugs, |fsynced| sim.state.crash(survivor, fsynced), sim.proposed.clone(), moment.acked)?;
    after.check(moment)?;
    let hash = after.core.machine.read().state().outcome_hash;
    if hash != after.straight_replay() {
        return Err("the outcome hash is not that of a straight replay".into());
    }
    Ok(())
}

fn run(seed: u64, bugs: Bugs, seen: &mut Seen) -> Result<(), String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut sim = Sim::open(SimDisk::default(), bugs, ModelState::new, Vec::new(), 0)?;
    let moments = sim.work(&mut rng, 150)?;
    let hash = sim.core.machine.read().state().outcome_hash;
    let applied = sim.core.applied_index();
    let expected = applied.and_then(|index| sim.proposed[index.0 as usize].applied.as_ref().map(|(_, hash)| *hash));
    assert_eq!(Some(hash), expected);
    cut(&sim, &moments, &mut rng, bugs, seed, seen)
}

#[test]
fn acknowledged_entries_survive_power_cuts_and_are_applied_once() {
    let mut seen = Seen::default();
    for seed in 0..20 {
        run(seed, Bugs::default(), &mut seen).unwrap_or_else(|error| panic!("{error}"));
    }
    println!("{seen:?}");
    assert!(seen.states >= 2_000, "{seen:?}");
    let faults =
        [seen.lost_entries, seen.state_behind, seen.state_gone, seen.sealed, seen.second_cuts].map(|count| count > 50);
    assert_eq!(faults, [true; 5], "{seen:?}");
}

/// The first failure that a bug leads to.
fn caught(bugs: Bugs) -> String {
    let mut seen = Seen::default();
    let failure = (0..20).find_map(|seed| {
        let run = AssertUnwindSafe(|| run(seed, bugs, &mut seen));
        std::panic::catch_unwind(run).unwrap_or_else(|_| Err("an assertion failed".into())).err()
    });
    failure.unwrap_or_else(|| panic!("nothing found in {seen:?}"))
}

#[test]
fn an_ack_before_the_flush_is_caught() {
    let failure = caught(Bugs { log: Some(Mutant::AckBeforeSync), ..Bugs::default() });
    assert!(failure.contains("were acknowledged"), "{failure}");
}

#[test]
fn state_that_outran_the_log_is_caught() {
    caught(Bugs { state_trusted: true, ..Bugs::default() });
}
