//! Three nodes in one process, on simulated disks, network and clocks, and everything that may happen to them.
//!
//! Real are openraft, the log, `apply`, the shard and the broker above it. One seed draws the delays of messages and syncs,
//! what is lost, cut and restarted, and what clients do. Clients write down what they were told, readers what they were
//! served; at the end, when all is healed, the nodes must agree with each other and with them. `CONTRIBUTING.md` tells how to run
//! one seed again.

mod check;
mod clients;
mod consumers;
mod faults;
mod history;
mod lag;
mod network;
mod node;
pub(crate) mod probe;
mod run;
pub(crate) mod seeded;
mod state;
mod trace;
pub(crate) mod uncommitted;
mod wire;
mod world;

use pointsman_model::ShardId;

use super::number_of;

use probe::Mutant;
use run::{Report, run};

const NODES: usize = 3;
const SHARD: ShardId = ShardId(1);
const TENANT_NAME: &str = "default";
/// The topic of messages with ordering keys.
const PLAIN: &str = "plain";
/// The topic whose queues a binding chooses.
const JUDGED: &str = "judged";
/// Queues of each topic; version n of the binding places everything in queue n.
const QUEUES: u16 = 4;
const VERSIONS: [&str; QUEUES as usize] = ["v0", "v1", "v2", "v3"];
/// A group that keeps no order and gives up soon.
const PLAIN_GROUP: &str = "workers";
const MAX_RETRIES: u16 = 3;
/// A group that keeps the order of keys.
const ORDERED: &str = "ordered";

/// Seeds of a run of the tests, unless `POINTSMAN_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 500;

/// Runs every fourth seed, so that four threads share the work.
fn quarter(first: u64) {
    let seeds: Vec<u64> = match number_of("POINTSMAN_SIM_SEED") {
        Some(seed) => (seed..=seed).filter(|seed| seed % 4 == first).collect(),
        None => (0..number_of("POINTSMAN_SIM_SEEDS").unwrap_or(SEEDS)).filter(|seed| seed % 4 == first).collect(),
    };
    let mut all = Report::default();
    for seed in &seeds {
        all.add(&run(*seed, None).unwrap_or_else(|failure| panic!("{failure}")));
    }
    println!("{all:?}");
    if seeds.len() as u64 >= SEEDS / 4 {
        all.assert_that_it_happened();
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_uncommitted_is_served_1() {
    quarter(0);
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_uncommitted_is_served_2() {
    quarter(1);
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_uncommitted_is_served_3() {
    quarter(2);
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_uncommitted_is_served_4() {
    quarter(3);
}

#[test]
fn a_seed_draws_the_same_faults_twice() {
    for seed in 0..3 {
        let [one, two] = [(); 2].map(|()| run(seed, None).unwrap_or_else(|failure| panic!("{failure}")));
        assert_eq!(one.faults, two.faults, "seed {seed}");
        println!("seed {seed}: {}", if one.hash == two.hash { "the same to the bit" } else { "the same faults" });
    }
}

/// The first failure that a bug leads to.
fn caught(mutant: Mutant) -> String {
    (0..200).find_map(|seed| run(seed, Some(mutant)).err()).unwrap_or_else(|| panic!("{mutant:?} was not found"))
}

#[test]
fn an_ack_before_a_quorum_has_synced_is_caught() {
    let failure = caught(Mutant::AckBeforeQuorum);
    assert!(failure.contains("acknowledged") || failure.contains("made something else"), "{failure}");
}

#[test]
fn a_stale_read_is_caught() {
    let failure = caught(Mutant::StaleRead);
    assert!(failure.contains("stale read: "), "{failure}");
}

#[test]
fn a_checkpoint_that_forgets_keys_is_caught() {
    let failure = caught(Mutant::DedupForgotten);
    assert!(failure.contains("made something else") || failure.contains("twice: "), "{failure}");
}

#[test]
fn serving_what_is_not_committed_is_caught() {
    let failure = caught(Mutant::ServesUncommitted);
    assert!(failure.contains("was served"), "{failure}");
}
