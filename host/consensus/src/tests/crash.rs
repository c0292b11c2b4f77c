//! Power cuts on a simulated disk, at every moment between two of its operations.
//!
//! One thread drives log store, `apply`, state and sealing as openraft would for a sole voter, and notes what it
//! acknowledged when. Then the disk is cut at some of its operations, in several ways each, and the state store comes
//! back as any version it may. After production recovery and `apply` of the rest, everything acknowledged must be
//! there, nothing else than what was proposed, and all of it applied exactly once.
//!
//! A state is named by `(seed, operation, choice)`; failures print it.

mod house;
mod oracle;
mod sim;

use std::panic::AssertUnwindSafe;

use pointsman_storage::disk::sim::{Choice, SimDisk, choices};
use pointsman_storage::log::Mutant;
use pointsman_storage::state::ModelState;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::number_of;
use sim::{Bugs, Moment, Sim};

/// Disk operations of a workload that are cut.
const CUTS: usize = 24;
/// Ways each is cut.
const WAYS: usize = 5;

/// What a run of the test saw; a run in which its faults did not happen shows nothing.
#[derive(Default, Debug)]
struct Seen {
    states: usize,
    lost_entries: usize,
    state_behind: usize,
    state_gone: usize,
    sealed: usize,
    second_cuts: usize,
    /// Logs that start behind a checkpoint, and states that had to come from it.
    purged: usize,
    from_checkpoint: usize,
    /// Parked messages that wait, and that are delivered.
    waiting: usize,
    delivered: usize,
    /// Messages whose key was known.
    duplicates: usize,
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
            let purged = after.core.log.purged().map(|base| base.index);
            seen.purged += usize::from(purged.is_some());
            seen.from_checkpoint += usize::from(survivor < purged);
            let timers = after.check(moment).map_err(|error| format!("{name}: {error}"))?;
            seen.waiting += timers.waiting;
            seen.delivered += timers.delivered;
            seen.duplicates += timers.duplicates;
            seen.lost_entries += moment.proposed - after.proposed.len();
            if rng.random_range(0..12) == 0 && bugs.log.is_none() {
                seen.second_cuts += 1;
                let moments = after.work(rng, 12, bugs).map_err(|error| format!("{name}, second run: {error}"))?;
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
    if after.core.log.purged().is_none() && hash != after.straight_replay() {
        return Err("the outcome hash is not that of a straight replay".into());
    }
    Ok(())
}

fn run(seed: u64, bugs: Bugs, seen: &mut Seen) -> Result<(), String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut sim = Sim::open(SimDisk::default(), bugs, ModelState::new, Vec::new(), 0)?;
    let moments = sim.work(&mut rng, 150, bugs)?;
    let hash = sim.core.machine.read().state().outcome_hash;
    let applied = sim.core.applied_index();
    let expected = applied.and_then(|index| sim.proposed[index.0 as usize].applied.as_ref().map(|(_, hash)| *hash));
    assert_eq!(Some(hash), expected);
    cut(&sim, &moments, &mut rng, bugs, seed, seen)
}

#[test]
fn acknowledged_entries_survive_power_cuts_and_are_applied_once() {
    let mut seen = Seen::default();
    for seed in 0..number_of("POINTSMAN_CRASH_SEEDS").unwrap_or(0).max(20) {
        run(seed, Bugs::default(), &mut seen).unwrap_or_else(|error| panic!("{error}"));
    }
    println!("{seen:?}");
    assert!(seen.states >= 2_000, "{seen:?}");
    let faults = [
        seen.lost_entries,
        seen.state_behind,
        seen.state_gone,
        seen.sealed,
        seen.second_cuts,
        seen.purged,
        seen.from_checkpoint,
        seen.waiting,
        seen.delivered,
        seen.duplicates,
    ]
    .map(|count| count > 50);
    assert_eq!(faults, [true; 10], "{seen:?}");
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
fn a_purge_that_no_checkpoint_covers_is_caught() {
    caught(Bugs { purge_unchecked: true, ..Bugs::default() });
}

#[test]
fn state_that_outran_the_log_is_caught() {
    caught(Bugs { state_trusted: true, ..Bugs::default() });
}
