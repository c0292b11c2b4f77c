//! Ordered groups: leases are rows, and each attempt of them ends once.

use pointsman_model::{GroupId, QueueId, QueueOffset, limits};

use super::*;
use crate::command::{LeaseRef, Ordering, PublishHead, SettleOp};
use crate::outcome::{Refusal, Settlement};
use crate::state::Held;

const GROUP: u32 = 1;
const QUEUE: u16 = 0;

/// `messages` messages of queue 0 and a group of that ordering.
fn shard(ordering: Ordering, messages: usize) -> (Shard, TopicId) {
    let mut shard = Shard::with_group();
    set_ordering(&mut shard, ordering);
    let topic = shard.topic();
    let publish = commands::publish(topic, QUEUE, 1, &PublishHead::default());
    shard.entry(&vec![publish; messages]);
    (shard, topic)
}

fn set_ordering(shard: &mut Shard, ordering: Ordering) {
    let config = crate::command::GroupConfig { ordering, ..commands::group_config(&["orders"]) };
    shard.one(commands::put(Object::Group { name: "workers".into(), config }));
}

fn generation(shard: &Shard) -> u32 {
    shard.machine.state().group(TENANT, "workers").unwrap().generation.0
}

fn lease(topic: TopicId, offset: u64, attempt: u16) -> LeaseRef {
    commands::lease(topic, QUEUE, offset, attempt)
}

fn grant(shard: &mut Shard, leases: &[LeaseRef]) -> Vec<bool> {
    let generation = generation(shard);
    match shard.one(commands::grant(GROUP, generation, leases)) {
        Outcome::Granted(granted) => granted,
        other => panic!("{other:?}"),
    }
}

fn settle(shard: &mut Shard, lease: LeaseRef, op: SettleOp) -> Settlement {
    match shard.one(commands::settle(GROUP, lease, op)) {
        Outcome::Settled(settlements) => settlements[0],
        other => panic!("{other:?}"),
    }
}

fn held(shard: &Shard, topic: TopicId, offset: u64) -> Option<Held> {
    shard.machine.held(&shard.rows, GroupId(GROUP), topic, QueueId(QUEUE), QueueOffset(offset)).unwrap()
}

fn floor(shard: &Shard, topic: TopicId) -> u64 {
    shard.machine.state().floor(GroupId(GROUP), topic, QueueId(QUEUE)).0
}

fn rows_of_group(shard: &Shard) -> usize {
    let tables = [table::HELD, table::RETRY, table::DUE, table::RETRYING];
    shard.rows.0.keys().filter(|key| tables.contains(&key[0])).count()
}

#[test]
fn a_message_is_leased_to_one_and_its_attempts_end_once() {
    let (mut shard, topic) = shard(Ordering::Key, 2);
    let first = lease(topic, 0, 1);
    assert_eq!(settle(&mut shard, first, SettleOp::Ack), Settlement::Expired, "nobody leased it");
    assert_eq!(grant(&mut shard, &[first, first, lease(topic, 0, 2), lease(topic, 9, 1)]), [true, false, false, false]);
    assert_eq!(grant(&mut shard, &[first]), [false]);
    let row = held(&shard, topic, 0).unwrap();
    assert_eq!((row.attempt, row.grant.map(|grant| (grant.session, grant.until))), (1, Some((0, 5_000))));

    shard.now = Timestamp(2_000);
    assert_eq!(settle(&mut shard, first, SettleOp::Nack(commands::after(70))), Settlement::Settled);
    assert_eq!(settle(&mut shard, first, SettleOp::Nack(commands::after(70))), Settlement::AlreadySettled);
    let row = held(&shard, topic, 0).unwrap();
    assert_eq!((row.attempt, row.due, row.grant, row.history.len()), (2, 2_070, None, 1));
    assert_eq!(floor(&shard, topic), 0, "it stays unsettled and blocks its key");

    let second = lease(topic, 0, 2);
    assert_eq!(settle(&mut shard, second, SettleOp::Ack), Settlement::Expired, "due, but not leased");
    assert_eq!(grant(&mut shard, &[first, second]), [false, true]);
    assert_eq!(settle(&mut shard, lease(topic, 0, 3), SettleOp::Ack), Settlement::Unknown);
    let expired = shard.one(commands::expire(GROUP, second, 10));
    assert_eq!(expired, Outcome::Settled(vec![Settlement::Settled]));
    assert_eq!(settle(&mut shard, second, SettleOp::Ack), Settlement::Expired);

    let third = lease(topic, 0, 3);
    assert_eq!(grant(&mut shard, &[third]), [true]);
    assert_eq!(settle(&mut shard, third, SettleOp::Ack), Settlement::Settled);
    assert_eq!(settle(&mut shard, third, SettleOp::Ack), Settlement::AlreadySettled);
    assert_eq!((floor(&shard, topic), rows_of_group(&shard)), (1, 0));
    shard.reload();
    shard.check_again();
}

#[test]
fn a_release_keeps_the_attempt_and_an_extension_the_lease() {
    let (mut shard, topic) = shard(Ordering::Key, 1);
    let first = lease(topic, 0, 1);
    grant(&mut shard, &[first]);
    assert_eq!(settle(&mut shard, first, SettleOp::Extend(9_000)), Settlement::Settled);
    assert_eq!(held(&shard, topic, 0).unwrap().grant.unwrap().until, 9_000);
    assert_eq!(settle(&mut shard, first, SettleOp::Release(40)), Settlement::Settled);
    let row = held(&shard, topic, 0).unwrap();
    assert_eq!((row.attempt, row.due, row.grant), (1, shard.now.0 + 40, None));
    assert_eq!(settle(&mut shard, first, SettleOp::Release(0)), Settlement::Expired);
    assert_eq!(grant(&mut shard, &[first]), [true]);
    assert_eq!(settle(&mut shard, first, SettleOp::Release(0)), Settlement::Settled);
    assert_eq!(rows_of_group(&shard), 0, "a message that nobody has and had is as before");
    shard.reload();
}

#[test]
fn in_a_queue_group_what_ends_badly_ends_the_later_ones_uncounted() {
    for (name, op) in [("nack", SettleOp::Nack(commands::after(10))), ("release", SettleOp::Release(10))] {
        let (mut shard, topic) = shard(Ordering::Queue, 4);
        let run: Vec<_> = (0..4).map(|offset| lease(topic, offset, 1)).collect();
        assert_eq!(grant(&mut shard, &run), [true; 4]);
        assert_eq!(settle(&mut shard, run[2], SettleOp::Ack), Settlement::Settled);
        assert_eq!(settle(&mut shard, run[1], op.clone()), Settlement::Settled, "{name}");
        let attempts: Vec<_> = (0..4).map(|offset| held(&shard, topic, offset).map(|row| row.attempt)).collect();
        let after = if name == "nack" { 2 } else { 1 };
        assert_eq!(attempts, [Some(1), Some(after), None, None], "{name}");
        assert_eq!(settle(&mut shard, run[3], SettleOp::Ack), Settlement::Expired, "{name}");
        assert_eq!(settle(&mut shard, run[0], SettleOp::Ack), Settlement::Settled, "earlier ones run on: {name}");
        assert_eq!(floor(&shard, topic), 1);
        shard.reload();
        shard.check_again();
    }
    let (mut shard, topic) = shard(Ordering::Key, 2);
    grant(&mut shard, &[lease(topic, 0, 1), lease(topic, 1, 1)]);
    settle(&mut shard, lease(topic, 0, 1), SettleOp::Release(0));
    assert!(held(&shard, topic, 1).is_some(), "other keys go on");
}

#[test]
fn grants_are_fenced_and_bounded() {
    let (mut shard, topic) = shard(Ordering::Key, 2);
    let first = lease(topic, 0, 1);
    let stale = commands::grant(GROUP, generation(&shard) - 1, &[first]);
    assert!(matches!(shard.one(stale), Outcome::Refused(Refusal::Stale(_))));
    let current = generation(&shard);
    assert_eq!(shard.one(commands::grant(9, current, &[first])), Outcome::Refused(Refusal::GroupNotFound));
    grant(&mut shard, &[first]);
    shard.rows.0.insert(table::retrying_key(TENANT, GroupId(GROUP)), table::encode(&limits::HELD_MAX));
    shard.machine = Machine::load(&shard.rows, SHARD).unwrap();
    assert_eq!(grant(&mut shard, &[lease(topic, 1, 1)]), [false], "full");
    settle(&mut shard, first, SettleOp::Nack(commands::after(0)));
    assert_eq!(grant(&mut shard, &[lease(topic, 0, 2)]), [true], "what is held may be leased again");
    settle(&mut shard, lease(topic, 0, 2), SettleOp::Ack);
    assert_eq!(grant(&mut shard, &[lease(topic, 1, 1)]), [true]);

    set_ordering(&mut shard, Ordering::None);
    let current = generation(&shard);
    let refused = shard.one(commands::grant(GROUP, current, &[lease(topic, 1, 1)]));
    assert!(matches!(refused, Outcome::Refused(Refusal::Malformed(_))));
}

#[test]
fn a_skip_takes_held_rows_along() {
    let (mut shard, topic) = shard(Ordering::Key, 3);
    grant(&mut shard, &[lease(topic, 1, 1), lease(topic, 2, 1)]);
    let current = generation(&shard);
    assert_eq!(shard.one(commands::skip(GROUP, topic, QUEUE, current, &[(0, 2)])), Outcome::Skipped);
    assert_eq!((floor(&shard, topic), held(&shard, topic, 1)), (2, None));
    assert!(held(&shard, topic, 2).is_some());
    assert_eq!(settle(&mut shard, lease(topic, 1, 1), SettleOp::Ack), Settlement::AlreadySettled);
    shard.reload();
}

#[test]
fn another_ordering_takes_what_waits_along() {
    let (mut shard, topic) = shard(Ordering::None, 3);
    shard.one(commands::nack(GROUP, lease(topic, 1, 1), 500));
    set_ordering(&mut shard, Ordering::Key);
    let row = held(&shard, topic, 1).unwrap();
    assert_eq!((row.attempt, row.due, row.history.len()), (2, 1_500, 1));
    assert_eq!(rows_of_group(&shard), 2, "one held row and the count");
    grant(&mut shard, &[lease(topic, 0, 1), lease(topic, 1, 2)]);
    set_ordering(&mut shard, Ordering::Queue);
    assert_eq!(held(&shard, topic, 0), None, "its lease ended");
    assert_eq!(held(&shard, topic, 1).unwrap().grant, None);
    grant(&mut shard, &[lease(topic, 0, 1), lease(topic, 1, 2)]);
    set_ordering(&mut shard, Ordering::None);
    assert_eq!(held(&shard, topic, 1), None);
    let retry = shard.machine.retry(&shard.rows, GroupId(GROUP), topic, QueueId(QUEUE), QueueOffset(1)).unwrap();
    assert_eq!(retry.map(|row| row.attempt), Some(2));
    assert_eq!(settle(&mut shard, lease(topic, 0, 1), SettleOp::Ack), Settlement::Settled, "its receipt holds");
    assert_eq!(settle(&mut shard, lease(topic, 1, 2), SettleOp::Ack), Settlement::Settled);
    assert_eq!((floor(&shard, topic), rows_of_group(&shard)), (2, 0));
    shard.reload();
    shard.check_again();
}

#[test]
fn held_rows_go_with_their_group_and_are_read_in_pages() {
    let (mut shard, topic) = shard(Ordering::Key, 3);
    grant(&mut shard, &[lease(topic, 2, 1), lease(topic, 0, 1), lease(topic, 1, 1)]);
    let page = |after: Option<u64>, limit| {
        let after = after.map(|offset| (topic, QueueId(QUEUE), QueueOffset(offset)));
        let rows = shard.machine.held_after(&shard.rows, GroupId(GROUP), after, limit).unwrap();
        rows.iter().map(|row| row.offset).collect::<Vec<_>>()
    };
    assert_eq!((page(None, 2), page(Some(1), 2), page(Some(2), 2)), (vec![0, 1], vec![2], vec![]));
    shard.one(commands::delete(Target::Group("workers".into())));
    assert_eq!(rows_of_group(&shard), 0);
    shard.reload();
}
