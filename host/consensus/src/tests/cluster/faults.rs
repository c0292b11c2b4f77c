//! What goes wrong in a run, drawn from its seed.

use std::sync::Arc;
use std::time::Duration;

use pointsman_broker::ports::Shard as _;
use rand::RngExt as _;
use rand::rngs::SmallRng;
use tokio::time::sleep;

use super::NODES;
use super::clients::{Switch, switch_binding};
use super::network::{Link, Weather, number};
use super::probe::Mutant;
use super::world::World;

/// Something that goes wrong, and passes.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// All nodes lose power at once while one of them takes long to sync.
    PowerOfAll,
    /// One node loses power.
    PowerOfOne,
    /// The leader loses power.
    PowerOfLeader,
    /// The leader reaches nobody, and nobody it.
    IsolatedLeader,
    /// A link carries one way.
    HalfOpen,
    /// Frames are lost, late, or arrive twice.
    BadWeather,
    /// A binding is switched while the leader changes.
    SwitchDuringChange,
    /// Leadership is handed over.
    Transfer,
    /// A node comes back when what it missed is in the log no more.
    LongAway,
}

const FAULTS: [Fault; 9] = [
    Fault::PowerOfAll,
    Fault::PowerOfOne,
    Fault::PowerOfLeader,
    Fault::IsolatedLeader,
    Fault::HalfOpen,
    Fault::BadWeather,
    Fault::SwitchDuringChange,
    Fault::Transfer,
    Fault::LongAway,
];

/// Which fault comes first: every kind in some run. A bug is looked for where it does harm.
pub(super) fn first(seed: u64, mutant: Option<Mutant>) -> usize {
    match mutant {
        None => (seed % FAULTS.len() as u64) as usize,
        Some(Mutant::AckBeforeQuorum) => 0,
        Some(Mutant::StaleRead | Mutant::ServesUncommitted) => 3,
        Some(Mutant::DedupForgotten) => FAULTS.len() - 1,
    }
}

fn ms(rng: &mut SmallRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.random_range(from..to))
}

/// Lets some things go wrong, one after the other.
pub(super) async fn strike(world: &Arc<World>, switch: &Arc<Switch>, first: usize) {
    let mut rng = world.rng();
    // Some runs meet a second one before they have got over the first.
    let faults = 1 + usize::from(rng.random_range(0..3) == 0);
    for n in 0..faults {
        sleep(ms(&mut rng, 200, 700)).await;
        // Every kind comes first in some run.
        let kind = if n == 0 { first % FAULTS.len() } else { rng.random_range(0..FAULTS.len()) };
        world.trace.say(format!("fault: {:?}", FAULTS[kind]));
        one(world, switch, FAULTS[kind], &mut rng).await;
        if world.broken().is_some() {
            return;
        }
    }
}

async fn one(world: &Arc<World>, switch: &Arc<Switch>, fault: Fault, rng: &mut SmallRng) {
    let any = rng.random_range(0..NODES);
    let leader = world.leader().map_or(any, |(_, node)| node.end.node);
    match fault {
        Fault::PowerOfAll => power_of_all(world, any, rng).await,
        Fault::PowerOfOne => restart(world, any, rng).await,
        Fault::PowerOfLeader => restart(world, leader, rng).await,
        Fault::IsolatedLeader => isolate(world, leader, rng).await,
        Fault::HalfOpen => {
            let other = (any + rng.random_range(1..NODES)) % NODES;
            world.trace.say(format!("nothing gets from node {} to node {}", number(any), number(other)));
            world.happened.lock().half_open += 1;
            world.parts.net.set(any, other, Link::Hole);
            sleep(ms(rng, 500, 2_000)).await;
            world.parts.net.heal();
        }
        Fault::BadWeather => {
            let weather = Weather {
                lost: rng.random_range(0..60),
                twice: rng.random_range(0..100),
                late: rng.random_range(0..60),
            };
            world.parts.net.set_weather(weather);
            sleep(ms(rng, 1_000, 3_000)).await;
            world.parts.net.heal();
        }
        Fault::SwitchDuringChange => {
            let (asker, asked) = (Arc::clone(world), Arc::clone(switch));
            let switching = tokio::spawn(async move { switch_binding(&asker, &asked).await });
            sleep(ms(rng, 0, 12)).await;
            if rng.random_range(0..2) == 0 {
                restart(world, leader, rng).await;
            } else {
                isolate(world, leader, rng).await;
            }
            drop(switching.await);
            world.happened.lock().switches_during_change += 1;
        }
        Fault::LongAway => super::lag::long_away(world, (leader + rng.random_range(1..NODES)) % NODES).await,
        Fault::Transfer => {
            let Some((_, node)) = world.leader() else { return };
            let to = number((leader + rng.random_range(1..NODES)) % NODES);
            let done = node.shard.transfer(to, Duration::from_secs(3)).await;
            world.trace.say(format!("transfer to node {to}: {done:?}"));
            world.happened.lock().transfers += usize::from(done.is_ok());
        }
    }
}

async fn power_of_all(world: &World, slow: usize, rng: &mut SmallRng) {
    // With more than one, nothing is committed any more.
    for slow in (slow..).take(rng.random_range(1..=NODES)) {
        let Some(node) = world.node(slow % NODES) else { continue };
        node.slow_syncs(Some(rng.random_range(200..4_000)));
        world.trace.say(format!("node {} syncs slowly", number(node.end.node)));
    }
    sleep(ms(rng, 100, 1_000)).await;
    (0..NODES).for_each(|node| world.cut_power(node));
    world.happened.lock().all_cut += 1;
    sleep(ms(rng, 50, 500)).await;
    for node in 0..NODES {
        world.start(node).await;
        world.happened.lock().restarts += 1;
    }
}

async fn restart(world: &World, node: usize, rng: &mut SmallRng) {
    world.cut_power(node);
    sleep(ms(rng, 50, 2_000)).await;
    world.start(node).await;
    world.happened.lock().restarts += 1;
}

async fn isolate(world: &World, leader: usize, rng: &mut SmallRng) {
    let link = if rng.random_range(0..2) == 0 { Link::Cut } else { Link::Hole };
    world.isolate(leader, link);
    sleep(ms(rng, 1_500, 3_500)).await;
    let others = world.leader().is_some_and(|(_, node)| node.end.node != leader);
    world.happened.lock().isolated_leaders += usize::from(others);
    world.parts.net.heal();
}
