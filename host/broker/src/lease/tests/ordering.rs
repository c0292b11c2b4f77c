//! Groups of ordering `key` and `queue`: who gets what, and when, also from another leader.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_model::QueueId;
use pointsman_model::message::NewMessage;
use pointsman_state_machine::command::Ordering;

use super::{item, poll};
use crate::testing::fixture::{Fixture, TENANT, bodies, call, group_settings, message, topic_config};
use crate::view::{GroupSettings, Lease, LeaseRequest, SettleOp, SettleRequest, SettleStatus};

fn ordered(ordering: Ordering) -> GroupSettings {
    GroupSettings { ordering, lease_ms: 30_000, ..group_settings(&[("t", None)]) }
}

/// A message whose key is the part of its payload before the first digit; without one it has no key.
fn keyed(body: &str) -> NewMessage {
    let key: String = body.chars().take_while(char::is_ascii_alphabetic).collect();
    NewMessage { ordering_key: (!key.is_empty()).then_some(key), ..message(body) }
}

async fn group(ordering: Ordering, queues: u16, messages: &[&str]) -> Fixture {
    let f = Fixture::new().await;
    f.topic("t", queues).await;
    f.put_group("g", ordered(ordering)).await;
    for body in messages {
        f.send("t", keyed(body)).await;
    }
    f
}

/// Another node leads: the same state, and no memory.
async fn new_leader(f: &Fixture, term: u64) {
    f.shard.set_term(Some(term));
}

fn sorted(leases: &[Lease]) -> Vec<String> {
    let mut bodies = bodies(leases);
    bodies.sort();
    bodies
}

async fn nack(f: &Fixture, lease: &Lease, delay_ms: u64) -> SettleStatus {
    f.settle_with("g", SettleRequest { delay_ms: Some(delay_ms), ..item(&lease.receipt, SettleOp::Nack) }).await
}

async fn ack(f: &Fixture, lease: &Lease) -> SettleStatus {
    f.settle("g", &lease.receipt, SettleOp::Ack).await
}

#[tokio::test]
async fn one_message_of_a_key_at_a_time_and_a_failing_key_holds_back_only_itself() {
    let f = group(Ordering::Key, 1, &["a1", "a2", "b1", "1", "2", "b2"]).await;
    let first = f.lease("g", 9).await;
    assert_eq!(bodies(&first), ["a1", "b1", "1", "2"], "one of each key, those without are free");
    assert!(f.lease("g", 9).await.is_empty());
    assert_eq!(nack(&f, &first[0], 5_000).await, SettleStatus::Settled);
    assert_eq!(ack(&f, &first[1]).await, SettleStatus::Settled);
    assert_eq!(bodies(&f.lease("g", 9).await), ["b2"]);
    f.pass(4_999).await;
    assert!(f.lease("g", 9).await.is_empty());
    f.pass(1).await;
    let again = f.lease("g", 9).await;
    assert_eq!((bodies(&again), again[0].attempt), (vec!["a1".to_owned()], 2));
    assert_eq!(ack(&f, &first[0]).await, SettleStatus::AlreadySettled);
    assert_eq!(ack(&f, &again[0]).await, SettleStatus::Settled);
    assert_eq!(bodies(&f.lease("g", 9).await), ["a2"]);
}

#[tokio::test]
async fn priority_is_ignored_where_order_is_kept() {
    let f = group(Ordering::Queue, 1, &[]).await;
    for (body, priority) in [("1", 0), ("2", 9), ("3", 5)] {
        f.send("t", NewMessage { priority, ..message(body) }).await;
    }
    assert_eq!(bodies(&f.lease("g", 9).await), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_queue_gives_one_run_at_a_time_and_a_nack_ends_what_is_behind_it() {
    let f = group(Ordering::Queue, 1, &["1", "2", "3", "4", "5"]).await;
    let run = f.lease("g", 4).await;
    assert_eq!(bodies(&run), ["1", "2", "3", "4"]);
    assert!(f.lease("g", 9).await.is_empty(), "the queue is somebody's");
    assert_eq!(ack(&f, &run[0]).await, SettleStatus::Settled);
    assert_eq!(nack(&f, &run[1], 1_000).await, SettleStatus::Settled);
    assert_eq!(ack(&f, &run[2]).await, SettleStatus::LeaseExpired, "ended by the nack before it");
    assert!(f.lease("g", 9).await.is_empty(), "the failing message blocks its queue");
    f.pass(1_000).await;
    let again = f.lease("g", 9).await;
    let attempts: Vec<_> = again.iter().map(|lease| lease.attempt).collect();
    assert_eq!((bodies(&again), attempts), (["2", "3", "4", "5"].map(str::to_owned).to_vec(), vec![2, 1, 1, 1]));
    for lease in &again {
        assert_eq!(ack(&f, lease).await, SettleStatus::Settled);
    }
    assert!(f.lease("g", 9).await.is_empty());
}

#[tokio::test]
async fn a_release_and_an_expiry_end_a_run_too() {
    for ends in ["release", "expiry"] {
        let f = group(Ordering::Queue, 1, &["1", "2", "3"]).await;
        let run = f.lease("g", 9).await;
        if ends == "release" {
            assert_eq!(f.settle("g", &run[0].receipt, SettleOp::Release).await, SettleStatus::Settled);
        } else {
            f.pass(30_000).await;
            f.pass(10_000).await;
        }
        let again = f.lease("g", 9).await;
        let attempts: Vec<_> = again.iter().map(|lease| lease.attempt).collect();
        assert_eq!(bodies(&again), ["1", "2", "3"], "{ends}");
        assert_eq!(attempts, if ends == "release" { [1, 1, 1] } else { [2, 1, 1] }, "{ends}");
    }
}

#[tokio::test]
async fn a_message_without_deliveries_left_is_buried_and_its_successors_flow() {
    let f = group(Ordering::Key, 1, &["a1", "a2"]).await;
    f.put_group("g", GroupSettings { max_retries: 1, ..ordered(Ordering::Key) }).await;
    for attempt in 1..=2 {
        let lease = f.lease("g", 9).await.remove(0);
        assert_eq!((bodies(std::slice::from_ref(&lease)), lease.attempt), (vec!["a1".to_owned()], attempt));
        assert_eq!(nack(&f, &lease, 0).await, SettleStatus::Settled);
    }
    assert_eq!(bodies(&f.lease("g", 9).await), ["a2"]);
}

#[tokio::test]
async fn a_release_keeps_its_attempt_and_an_extension_its_lease() {
    let f = group(Ordering::Key, 1, &["a1", "a2"]).await;
    let lease = f.lease("g", 9).await.remove(0);
    let extend = SettleRequest { lease_ms: Some(60_000), ..item(&lease.receipt, SettleOp::Extend) };
    let results = f.broker.settle(&call(), TENANT, "g", vec![extend]).await.unwrap();
    assert_eq!(results[0].status, SettleStatus::Extended);
    assert_eq!(results[0].expires_at.unwrap().0, 1_700_000_060_000);
    f.pass(59_999).await;
    assert!(f.lease("g", 9).await.is_empty());
    let release = SettleRequest { delay_ms: Some(10), ..item(&lease.receipt, SettleOp::Release) };
    assert_eq!(f.settle_with("g", release).await, SettleStatus::Settled);
    assert!(f.lease("g", 9).await.is_empty());
    f.pass(10).await;
    let again = f.lease("g", 9).await;
    assert_eq!((bodies(&again), again[0].attempt), (vec!["a1".to_owned()], 1));
}

#[tokio::test]
async fn a_new_leader_knows_who_holds_which_key() {
    for ordering in [Ordering::Key, Ordering::Queue] {
        let f = group(ordering, 1, &["a1", "a2", "b1"]).await;
        let first = f.lease("g", 1).await.remove(0);
        f.pass(20_000).await;
        new_leader(&f, 2).await;
        let free = if ordering == Ordering::Key { vec!["b1"] } else { vec![] };
        assert_eq!(bodies(&f.lease("g", 9).await), free, "{ordering:?}: nobody else gets what is held");
        f.pass(9_999).await;
        assert!(f.lease("g", 9).await.is_empty(), "{ordering:?}");
        new_leader(&f, 3).await;
        assert_eq!(ack(&f, &first).await, SettleStatus::Settled, "{ordering:?}: its receipt holds");
        let next = if ordering == Ordering::Key { vec!["a2"] } else { vec!["a2", "b1"] };
        assert_eq!(bodies(&f.lease("g", 9).await), next, "{ordering:?}");
    }
}

#[tokio::test]
async fn a_lease_of_an_older_leader_runs_out_and_counts() {
    let f = group(Ordering::Key, 1, &["a1"]).await;
    let lease = f.lease("g", 1).await.remove(0);
    new_leader(&f, 2).await;
    assert!(f.lease("g", 1).await.is_empty());
    f.pass(30_000).await;
    assert_eq!(ack(&f, &lease).await, SettleStatus::LeaseExpired);
    f.pass(10_000).await;
    let again = f.lease("g", 1).await;
    assert_eq!(again[0].attempt, 2);
}

#[tokio::test]
async fn a_poll_that_is_dropped_while_its_grant_is_written_gives_it_back() {
    let f = group(Ordering::Key, 1, &["a1", "a2"]).await;
    f.shard.hold();
    let dropped = tokio::time::timeout(Duration::from_millis(30), poll(&f, 5_000)).await;
    assert!(dropped.is_err(), "it waits for the log");
    f.shard.release();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let again = f.lease("g", 9).await;
    assert_eq!((bodies(&again), again[0].attempt), (vec!["a1".to_owned()], 1));
}

#[tokio::test]
async fn a_grant_that_got_lost_is_tried_again() {
    let f = group(Ordering::Key, 1, &["a1", "a2"]).await;
    f.shard.hold();
    let (lost, ()) = tokio::join!(poll(&f, 0), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        f.shard.lose_held();
        f.shard.release();
    });
    assert!(lost.is_err());
    assert_eq!(bodies(&f.lease("g", 9).await), ["a1"], "it was not written, as the next try found out");
}

#[tokio::test]
async fn an_explicit_queue_beats_the_key_and_the_key_its_slot() {
    let f = group(Ordering::Key, 4, &[]).await;
    let by_key = f.send("t", keyed("a1")).await.queue.unwrap();
    let other = QueueId((by_key.0 + 1) % 4);
    let explicit = f.send("t", NewMessage { queue: Some(other), ..keyed("a2") }).await;
    assert_eq!((explicit.queue, f.send("t", keyed("a3")).await.queue), (Some(other), Some(by_key)));
    let mut seen = Vec::new();
    for _ in 0..3 {
        let leases = f.lease("g", 9).await;
        assert_eq!(leases.len(), 1, "one of the key at a time, whatever its queue");
        seen.extend(bodies(&leases));
        ack(&f, &leases[0]).await;
    }
    assert_eq!(seen, ["a1", "a2", "a3"]);
}

#[tokio::test]
async fn a_key_that_moved_with_its_slot_keeps_its_order() {
    let f = group(Ordering::Key, 1, &[]).await;
    let keys: Vec<String> = (0..26_u8).map(|n| char::from(b'a' + n).to_string()).collect();
    for key in &keys {
        f.send("t", keyed(&format!("{key}1"))).await;
    }
    f.put_topic("t", topic_config(7)).await;
    let mut moved = 0;
    for key in &keys {
        moved += usize::from(f.send("t", keyed(&format!("{key}2"))).await.queue != Some(QueueId(0)));
    }
    assert!(moved > 10, "{moved} keys moved");
    let first = f.lease("g", 100).await;
    assert_eq!(sorted(&first), keys.iter().map(|key| format!("{key}1")).collect::<Vec<_>>());
    // One key fails, and holds back only itself.
    assert_eq!(nack(&f, &first[0], 60_000).await, SettleStatus::Settled);
    for lease in &first[1..] {
        ack(&f, lease).await;
    }
    let mut second = f.lease("g", 100).await;
    second.extend(f.lease("g", 100).await);
    assert_eq!(sorted(&second), keys[1..].iter().map(|key| format!("{key}2")).collect::<Vec<_>>());
}

#[tokio::test]
async fn another_ordering_takes_effect_at_once() {
    let f = group(Ordering::None, 1, &["a1", "a2", "a3"]).await;
    let all = f.lease("g", 9).await;
    assert_eq!(all.len(), 3);
    nack(&f, &all[1], 0).await;
    f.put_group("g", ordered(Ordering::Key)).await;
    assert_eq!(ack(&f, &all[0]).await, SettleStatus::LeaseExpired, "leases end with the ordering");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let leases = f.lease("g", 9).await;
        assert_eq!(leases.len(), 1);
        seen.push((bodies(&leases).remove(0), leases[0].attempt));
        ack(&f, &leases[0]).await;
    }
    assert_eq!(seen, [("a1".to_owned(), 1), ("a2".to_owned(), 2), ("a3".to_owned(), 1)]);
}

/// A random run against what must hold: keys in order, one at a time, nobody gets what another holds.
#[tokio::test]
async fn order_by_key_survives_nacks_expiries_releases_and_leaders() {
    for seed in 0..12_u64 {
        check_run(seed, Ordering::Key).await;
        check_run(seed, Ordering::Queue).await;
    }
}

async fn check_run(seed: u64, ordering: Ordering) {
    const KEYS: usize = 5;
    const MESSAGES: usize = 12;
    let mut dice = oorandom(seed);
    let f = group(ordering, 3, &[]).await;
    f.put_group("g", GroupSettings { max_retries: 1_000, ..ordered(ordering) }).await;
    for n in 0..MESSAGES {
        for key in 0..KEYS {
            f.send("t", keyed(&format!("{}{n:02}", char::from(b'a' + key as u8)))).await;
        }
    }
    let mut done: BTreeMap<String, usize> = BTreeMap::new();
    let mut running: Vec<(Lease, u64)> = Vec::new();
    let (mut term, mut clock, mut steps) = (1, 0_u64, 0);
    while done.values().sum::<usize>() < KEYS * MESSAGES {
        steps += 1;
        assert!(steps < 5_000, "seed {seed}: no progress, {done:?}");
        let at = if running.is_empty() { 0 } else { dice() as usize % running.len() };
        match dice() % 10 {
            0..=3 => {
                let request = LeaseRequest {
                    max_messages: Some(1 + dice() as u32 % 4),
                    lease_ms: Some(1_000),
                    ..LeaseRequest::default()
                };
                let leases = f.broker.lease(&call(), TENANT, "g", request).await.unwrap();
                for lease in leases {
                    let body = bodies(std::slice::from_ref(&lease)).remove(0);
                    let (key, n) = (body[..1].to_owned(), body[1..].parse::<usize>().unwrap());
                    let of_key = running.iter().filter(|(held, ends)| {
                        *ends > clock && bodies(std::slice::from_ref(held))[0].starts_with(&key)
                    });
                    let ahead = of_key.count();
                    let expected = done.get(&key).copied().unwrap_or_default() + ahead;
                    assert_eq!(n, expected, "seed {seed}: {ordering:?} {key}");
                    assert!(ordering == Ordering::Queue || ahead == 0, "seed {seed}: two of {key} at once");
                    running.push((lease, clock + 1_000));
                }
            }
            4..=6 if !running.is_empty() => {
                let (lease, _) = running.remove(if ordering == Ordering::Queue { first_of(&running, at) } else { at });
                let status = ack(&f, &lease).await;
                let body = bodies(&[lease]).remove(0);
                if status == SettleStatus::Settled {
                    let count = done.entry(body[..1].to_owned()).or_default();
                    assert_eq!(body[1..].parse(), Ok(*count), "seed {seed}: acked in order");
                    *count += 1;
                } else {
                    assert_eq!(status, SettleStatus::LeaseExpired, "seed {seed}");
                }
            }
            7 if !running.is_empty() => {
                let (lease, _) = running.remove(at);
                let op = if dice().is_multiple_of(2) { SettleOp::Nack } else { SettleOp::Release };
                let delay_ms = Some(dice() % 300);
                let ended = f.settle_with("g", SettleRequest { delay_ms, ..item(&lease.receipt, op) }).await;
                if ended == SettleStatus::Settled && ordering == Ordering::Queue {
                    let behind = |other: &Lease| {
                        other.message.record.header.queue == lease.message.record.header.queue
                            && other.message.offset > lease.message.offset
                    };
                    running.retain(|(other, _)| !behind(other));
                }
            }
            8 => {
                let ms = dice() % 700;
                clock += ms;
                f.pass(ms).await;
                running.retain(|(_, ends)| *ends > clock);
                // The retry table's first wait.
                if dice().is_multiple_of(4) {
                    clock += 60_000;
                    f.pass(60_000).await;
                    running.clear();
                }
            }
            9 if dice().is_multiple_of(3) => {
                term += 1;
                new_leader(&f, term).await;
            }
            _ => {}
        }
    }
}

/// The first lease of the same queue.
fn first_of(running: &[(Lease, u64)], at: usize) -> usize {
    let queue = running[at].0.message.record.header.queue;
    let of_queue = (0..running.len()).filter(|i| running[*i].0.message.record.header.queue == queue);
    of_queue.min_by_key(|i| running[*i].0.message.offset).unwrap_or(at)
}

/// Numbers that a seed tells.
fn oorandom(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x2545_F491_4F6C_DD1D;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    }
}
