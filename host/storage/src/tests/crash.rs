//! Power cuts at every operation of many runs, with every kind of loss.
//!
//! A state is named by (workload seed, operation, choice); `POINTSMAN_CRASH_SEED` runs one seed alone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::oracle::{DIR, Expect, Setting, check, recover};
use super::workload::{Picture, Run};
use crate::disk::ensure_dir;
use crate::disk::sim::{Call, Choice, Fault, Injection, Row, SimDisk, choices};
use crate::identity::Identity;

/// What a simulation did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Distinct states that were recovered.
    pub(crate) states: u64,
    /// Of these, crashes in or after another recovery.
    pub(crate) second: u64,
    /// States that show each row of the table.
    pub(crate) rows: BTreeMap<Row, u64>,
    /// What did not hold.
    pub(crate) violations: Vec<String>,
    /// Restarts after a failure.
    pub(crate) starts: u64,
    seen: HashSet<u64>,
}

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Random steps of a workload.
    pub(crate) steps: u64,
    /// New states of one workload at most.
    pub(crate) states_max: u64,
    /// Random choices at an operation.
    pub(crate) random: u64,
    /// One new state in so many is used on and crashed again.
    pub(crate) second_every: u64,
    /// Violations after which nothing more is tried.
    pub(crate) violations_max: usize,
}

pub(crate) const EFFORT: Effort =
    Effort { steps: 60, states_max: 330, random: 6, second_every: 50, violations_max: 20 };

pub(crate) fn setting(seed: u64) -> Setting {
    Setting {
        zero_ahead: seed.is_multiple_of(2),
        tail_cache_bytes: if seed.is_multiple_of(3) { 4_096 } else { 0 },
        mutant: None,
    }
}

impl Outcome {
    /// Runs one workload through failing calls and restarts, and recovers what power cuts may leave of it.
    pub(crate) fn explore_faults(&mut self, seed: u64, setting: &Setting, effort: Effort, faults: &[Injection]) {
        let mut run = Run::start(seed, setting.clone());
        faults.iter().for_each(|fault| run.disk.inject(fault.clone()));
        self.starts += run.go_through(effort.steps);
        self.recover_all(seed, &run.finish(), setting, effort);
    }

    /// Runs one workload and recovers what its crashes may leave.
    pub(crate) fn explore(&mut self, seed: u64, setting: &Setting, effort: Effort) {
        let mut run = Run::start(seed, setting.clone());
        if let Err(error) = run.go(effort.steps) {
            self.violations.push(format!("(seed {seed}) the workload fails: {error}"));
            return;
        }
        self.recover_all(seed, &run.finish(), setting, effort);
    }

    /// Recovers the states of a run's pictures, spread evenly over the run.
    pub(crate) fn recover_all(&mut self, seed: u64, pictures: &[Picture], setting: &Setting, effort: Effort) {
        let mut states: Vec<(usize, Choice)> = Vec::new();
        for (at, (world, _)) in pictures.iter().enumerate() {
            let atoms = world.atoms();
            states
                .extend(choices(&atoms, seed << 20 | at as u64, effort.random).into_iter().map(|choice| (at, choice)));
        }
        // A stride that shares no factor with the number of states visits each of them once, far apart.
        let stride = (states.len() * 5 / 8 + 1..).find(|n| gcd(*n, states.len()) == 1).unwrap_or(1);
        let mut left = effort.states_max;
        for n in 0..states.len() {
            if left == 0 || self.violations.len() > effort.violations_max {
                return;
            }
            let (at, choice) = states[n * stride % states.len()];
            left -= u64::from(self.recover_one(seed, at, choice, &pictures[at], setting, effort));
        }
    }

    /// True if the state was new.
    fn recover_one(
        &mut self,
        seed: u64,
        at: usize,
        choice: Choice,
        picture: &Picture,
        setting: &Setting,
        effort: Effort,
    ) -> bool {
        let (world, expect) = picture;
        let (crashed, rows) = world.crash(&world.atoms(), choice);
        let promises = pointsman_model::hash::hash(format!("{expect:?}").as_bytes());
        if !self.seen.insert(crashed.fingerprint() ^ promises.rotate_left(1)) {
            return false;
        }
        self.states += 1;
        rows.into_iter().for_each(|row| *self.rows.entry(row).or_default() += 1);
        if let Err(violation) = check(crashed.clone(), expect, setting) {
            self.violations.push(format!("(seed {seed}, operation {at}, {choice:?}) {violation}"));
            return true;
        }
        if self.states.is_multiple_of(effort.second_every) {
            self.crash_again(seed, at, choice, crashed, expect, setting);
        }
        true
    }

    /// Recovers a state, uses it, and crashes at every operation of that.
    fn crash_again(
        &mut self,
        seed: u64,
        at: usize,
        choice: Choice,
        crashed: crate::disk::sim::World,
        expect: &Expect,
        setting: &Setting,
    ) {
        let lost_sizes = sizes_lost(&crashed, expect, setting);
        let mut run = Run::on(SimDisk::with(crashed), expect.clone(), setting.clone(), seed ^ 0x5EC0);
        run.picture_everything();
        let done = run.reopen().and_then(|()| {
            // Frames as long as those that were cut end where those did.
            for sizes in lost_sizes.iter().take(2) {
                run.append_sized(std::slice::from_ref(sizes))?;
                run.commit()?;
            }
            run.append()?;
            run.save_vote()
        });
        if let Err(error) = done {
            self.violations
                .push(format!("(seed {seed}, operation {at}, {choice:?}) cannot go on after recovery: {error}"));
            return;
        }
        for (second, (world, expect)) in run.finish().iter().enumerate() {
            let atoms = world.atoms();
            let all = choices(&atoms, seed, 2);
            for choice_again in all.iter().step_by(all.len() / 6 + 1) {
                let (world, rows) = world.crash(&atoms, *choice_again);
                let promises = pointsman_model::hash::hash(format!("{expect:?}").as_bytes());
                if !self.seen.insert(world.fingerprint() ^ promises.rotate_left(1)) {
                    continue;
                }
                self.states += 1;
                self.second += 1;
                rows.into_iter().for_each(|row| *self.rows.entry(row).or_default() += 1);
                if let Err(violation) = check(world, expect, setting) {
                    self.violations.push(format!(
                        "(seed {seed}, operation {at}, {choice:?}, then operation {second}, {choice_again:?}) {violation}"
                    ));
                }
            }
        }
    }
}

/// The record sizes of the entries a crash lost, to be appended again.
fn sizes_lost(crashed: &crate::disk::sim::World, expect: &Expect, setting: &Setting) -> Vec<Vec<usize>> {
    let Ok(log) = recover(&SimDisk::with(crashed.clone()), expect, setting) else { return Vec::new() };
    let last = log.last().map(|last| last.1.0).max(log.purged().map(|base| base.index.0)).unwrap_or(0);
    let lost = expect.lineage.iter().filter(|frame| frame.index.0 > last);
    lost.map(|frame| {
        let records = pointsman_model::record::ranges(&frame.records).map(|range| range.expect("whole").len());
        records.map(|length| length - pointsman_model::record::HEADER_BYTES - 24).collect()
    })
    .collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Short writes, killed processes and failed syncs, spread over a run.
pub(crate) fn faults(seed: u64) -> Vec<Injection> {
    let every = |call, path_contains, fault, skip: u64| {
        (0..12).map(move |n| Injection { call, path_contains, skip: skip + n % 3, times: 1, fault })
    };
    let error = Fault::Error(io::ErrorKind::Other);
    match seed % 4 {
        0 => every(Call::Write, "", Fault::Short, 4).collect(),
        1 => every(Call::Sync, "", Fault::Kill, 6).collect(),
        2 => every(Call::Sync, "log", error, 4).chain(every(Call::Sync, "vote", error, 1)).collect(),
        _ => every(Call::Sync, "base", error, 1)
            .chain(every(Call::Write, "", Fault::Error(io::ErrorKind::StorageFull), 9))
            .collect(),
    }
}

#[test]
fn nothing_promised_is_lost_by_a_power_cut() {
    let mut outcome = Outcome::default();
    let only: Option<u64> = std::env::var("POINTSMAN_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let effort = if only.is_some() { Effort { states_max: u64::MAX, ..EFFORT } } else { EFFORT };
    let workloads = std::env::var("POINTSMAN_CRASH_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in (0..workloads.unwrap_or(0).max(16)).filter(|seed| only.is_none_or(|only| only == *seed)) {
        if seed < 8 {
            outcome.explore(seed, &setting(seed), effort);
        } else {
            outcome.explore_faults(seed, &setting(seed), effort, &faults(seed));
        }
    }
    println!(
        "{} states, {} second crashes, {} restarts; {:?}",
        outcome.states, outcome.second, outcome.starts, outcome.rows
    );
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
    if only.is_none() {
        assert!(outcome.states >= 5_000, "{} states are too few", outcome.states);
        assert!(outcome.second >= 500, "{} second crashes are too few", outcome.second);
        assert!(outcome.starts >= 20, "{} restarts are too few", outcome.starts);
        let missing: BTreeSet<Row> = Row::ALL.into_iter().filter(|row| !outcome.rows.contains_key(row)).collect();
        assert!(missing.is_empty(), "not tried: {missing:?}");
    }
}

#[test]
fn an_identity_is_there_once_it_was_told() {
    let fresh = || Identity { cluster: [3; 16], node: 1, incarnation: 0 };
    let disk = SimDisk::default();
    ensure_dir(&disk, Path::new(DIR)).expect("mkdir");
    let pictures = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&pictures);
    disk.observe(Box::new(move |world| seen.lock().push(world.clone())));
    Identity::open_or_create(&disk, Path::new(DIR), fresh).expect("create");
    disk.stop_observing();
    let pictures = pictures.lock();
    assert!(pictures.len() > 3, "{} operations", pictures.len());
    for (at, world) in pictures.iter().enumerate() {
        let atoms = world.atoms();
        for choice in choices(&atoms, 1, 8) {
            let disk = SimDisk::with(world.crash(&atoms, choice).0);
            let found = Identity::open(&disk, Path::new(DIR)).expect("whole or absent");
            assert!(found.is_none_or(|found| found == fresh()), "operation {at}, {choice:?}");
            assert!(at + 1 < pictures.len() || found.is_some(), "operation {at}, {choice:?}: it was told and is gone");
            Identity::open_or_create(&disk, Path::new(DIR), fresh).expect("goes on");
        }
    }
}
