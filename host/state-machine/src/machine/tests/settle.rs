//! Settling is compare-and-set on the attempt.

use pointsman_model::limits::RETRY_SET_MAX;
use pointsman_model::{GroupId, QueueId, QueueOffset};

use super::*;
use crate::command::{Decision, PublishHead};
use crate::outcome::{Refusal, Settlement};

const GROUP: u32 = 1;
const QUEUE: u16 = 0;

fn shard(messages: usize) -> (Shard, TopicId) {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let publish = commands::publish(topic, QUEUE, 1, &PublishHead::default());
    shard.entry(&vec![publish; messages]);
    (shard, topic)
}

fn settled(outcome: Outcome) -> Vec<Settlement> {
    match outcome {
        Outcome::Settled(settlements) => settlements,
        other => panic!("{other:?}"),
    }
}

fn retry(shard: &Shard, topic: TopicId, offset: u64) -> Option<Retry> {
    shard.machine.retry(&shard.rows, GroupId(GROUP), topic, QueueId(QUEUE), QueueOffset(offset)).unwrap()
}

/// Every way an attempt may come, after every way the message may stand.
#[test]
fn each_attempt_ends_once_and_what_is_late_learns_how() {
    use Settlement::{AlreadySettled, Expired, Settled, Unknown};
    type History = &'static [(&'static str, u16)];
    let cases: [(History, u16, Settlement); 16] = [
        (&[], 0, Unknown),
        (&[], 1, Settled),
        (&[], 2, Unknown),
        (&[("ack", 1)], 1, AlreadySettled),
        (&[("ack", 1)], 2, AlreadySettled),
        (&[("nack", 1)], 1, AlreadySettled),
        (&[("nack", 1)], 2, Settled),
        (&[("nack", 1)], 3, Unknown),
        (&[("expire", 1)], 1, Expired),
        (&[("expire", 1)], 2, Settled),
        (&[("expire", 1), ("nack", 2)], 1, Expired),
        (&[("expire", 1), ("nack", 2)], 2, AlreadySettled),
        (&[("expire", 1), ("nack", 2)], 3, Settled),
        (&[("nack", 1), ("expire", 2)], 2, Expired),
        (&[("nack", 1), ("ack", 2)], 1, AlreadySettled),
        (&[("nack", 1), ("ack", 2)], 2, AlreadySettled),
    ];
    for (history, attempt, expected) in cases {
        for ending in ["ack", "nack", "expire"] {
            let (mut shard, topic) = shard(1);
            let command = |ending, attempt| {
                let lease = commands::lease(topic, QUEUE, 0, attempt);
                match ending {
                    "ack" => commands::ack(GROUP, &[lease]),
                    "nack" => commands::nack(GROUP, lease, 10),
                    _ => commands::expire(GROUP, lease, 10),
                }
            };
            for (ending, attempt) in history {
                assert_eq!(settled(shard.one(command(*ending, *attempt))), [Settled], "{history:?}");
            }
            let rows = shard.rows.clone();
            let found = settled(shard.one(command(ending, attempt)));
            assert_eq!(found, [expected], "{ending} of attempt {attempt} after {history:?}");
            if expected != Settled {
                let progress = |rows: &Rows| {
                    let kept = |key: &[u8]| ![crate::table::SHARD, crate::table::SEGMENT].contains(&key[0]);
                    rows.0.clone().into_iter().filter(|(key, _)| kept(key)).collect::<Vec<_>>()
                };
                assert_eq!(progress(&rows), progress(&shard.rows), "nothing changed");
            }
            shard.reload();
        }
    }
}

#[test]
fn a_retry_row_remembers_and_an_ack_removes_it() {
    let (mut shard, topic) = shard(2);
    shard.now = Timestamp(2_000);
    shard.one(commands::nack(GROUP, commands::lease(topic, QUEUE, 1, 1), 500));
    shard.now = Timestamp(2_600);
    shard.one(commands::expire(GROUP, commands::lease(topic, QUEUE, 1, 2), 70));
    let row = retry(&shard, topic, 1).unwrap();
    assert_eq!((row.attempt, row.due), (3, 2_670));
    let history: Vec<_> = row.history.iter().map(|h| (h.attempt, h.expired, h.ended_at)).collect();
    assert_eq!(history, [(1, false, 2_000), (2, true, 2_600)]);
    let first = &row.history[0];
    assert_eq!((first.delivered_at, first.reason.as_deref(), first.client_id.as_deref()), (5, Some("no"), Some("c")));
    assert_eq!(first.decision, Decision::Again { delay_ms: 500 });
    assert_eq!(shard.machine.state().retrying[&GroupId(GROUP)], 1);

    shard.one(commands::ack(GROUP, &[commands::lease(topic, QUEUE, 1, 3)]));
    assert_eq!(retry(&shard, topic, 1), None);
    assert!(shard.machine.state().retrying.is_empty());
    assert!(!shard.rows.0.keys().any(|key| [table::RETRY, table::DUE, table::RETRYING].contains(&key[0])));
    shard.reload();
}

#[test]
fn due_rows_come_in_order_of_time() {
    let (mut shard, topic) = shard(4);
    for (offset, delay) in [(0, 300), (1, 100), (2, 200), (3, u64::MAX)] {
        shard.one(commands::nack(GROUP, commands::lease(topic, QUEUE, offset, 1), delay));
    }
    let group = GroupId(GROUP);
    let due = |now, limit| {
        let rows = shard.machine.due(&shard.rows, group, Timestamp(now), limit).unwrap();
        rows.iter().map(|row| row.offset).collect::<Vec<_>>()
    };
    let next = |group, after| shard.machine.next_due(&shard.rows, group, Timestamp(after)).unwrap();
    assert_eq!(next(group, 0), Some(Timestamp(1_100)));
    assert_eq!(next(group, 1_100), Some(Timestamp(1_200)), "one that is due and not taken hides no later one");
    assert_eq!(next(group, u64::MAX), None);
    assert!(due(1_099, 10).is_empty());
    assert_eq!(due(1_100, 10), [1]);
    assert_eq!(due(1_300, 10), [1, 2, 0]);
    assert_eq!(due(1_300, 2), [1, 2]);
    assert!(due(1_300, 0).is_empty());
    assert_eq!(due(u64::MAX, 10), [1, 2, 0, 3], "a delay past the end of time is due at its end");
    assert_eq!(next(GroupId(9), 0), None);
}

#[test]
fn history_is_bounded() {
    let (mut shard, topic) = shard(1);
    let config = crate::command::GroupConfig { max_retries: 1_000, ..commands::group_config(&["orders"]) };
    shard.one(commands::put(Object::Group { name: "workers".into(), config }));
    for attempt in 1..=40 {
        shard.one(commands::nack(GROUP, commands::lease(topic, QUEUE, 0, attempt), 1));
    }
    let row = retry(&shard, topic, 0).unwrap();
    let attempts: Vec<_> = row.history.iter().map(|ended| ended.attempt).collect();
    assert_eq!(attempts, (9..=40).collect::<Vec<_>>());
    assert_eq!(settled(shard.one(commands::ack(GROUP, &[commands::lease(topic, QUEUE, 0, 8)]))), [Settlement::Expired]);
}

#[test]
fn a_full_retry_set_changes_nothing() {
    let (mut shard, topic) = shard(3);
    shard.one(commands::nack(GROUP, commands::lease(topic, QUEUE, 0, 1), 1));
    for (count, expected) in [
        (RETRY_SET_MAX - 1, Settlement::Settled),
        (RETRY_SET_MAX, Settlement::RetrySetFull),
        (RETRY_SET_MAX + 1, Settlement::RetrySetFull),
    ] {
        // The count alone decides; a million rows would only make the test slow.
        let mut full = Shard::new();
        full.rows = shard.rows.clone();
        full.log = shard.log.clone();
        full.rows.0.insert(table::retrying_key(TENANT, GroupId(GROUP)), table::encode(&count));
        full.machine = Machine::load(&full.rows, SHARD).unwrap();
        let lease = commands::lease(topic, QUEUE, 1, 1);
        assert_eq!(settled(full.one(commands::nack(GROUP, lease, 1))), [expected], "{count}");
        let second = settled(full.one(commands::nack(GROUP, commands::lease(topic, QUEUE, 0, 2), 1)));
        assert_eq!(second, [Settlement::Settled], "a row that is there may stay");
        let acked = if expected == Settlement::Settled { Settlement::AlreadySettled } else { Settlement::Settled };
        assert_eq!(settled(full.one(commands::ack(GROUP, &[lease]))), [acked]);
    }
}

#[test]
fn what_is_not_the_groups_is_unknown() {
    let (mut shard, topic) = shard(1);
    let leases = [
        commands::lease(topic, QUEUE, 1, 1),
        commands::lease(topic, 1, 0, 1),
        commands::lease(topic, 99, 0, 1),
        commands::lease(topic.next(), QUEUE, 0, 1),
        commands::lease(topic, QUEUE, 0, 1),
        commands::lease(topic, QUEUE, 0, 1),
    ];
    let found = settled(shard.one(commands::ack(GROUP, &leases)));
    let unknown = Settlement::Unknown;
    let expected = [unknown, unknown, unknown, unknown, Settlement::Settled, Settlement::AlreadySettled];
    assert_eq!(found, expected);
    let not_found = Outcome::Refused(Refusal::GroupNotFound);
    assert_eq!(shard.one(commands::ack(9, &leases)), not_found);
    let foreign = commands::ack(GROUP, &leases).change(|header| header.tenant.0 += 1);
    assert_eq!(shard.one(foreign), not_found);
}

#[test]
fn skip_settles_what_is_in_bounds_under_the_right_generation() {
    let (mut shard, topic) = shard(10);
    let malformed: [&[(u64, u64)]; 5] = [&[(0, 11)], &[(3, 3)], &[(4, 2)], &[(5, 6), (4, 5)], &[(0, 3), (2, 4)]];
    for ranges in malformed {
        let outcome = shard.one(commands::skip(GROUP, topic, QUEUE, 1, ranges));
        assert!(matches!(outcome, Outcome::Refused(Refusal::Malformed(_))), "{ranges:?}");
    }
    for (command, refusal) in [
        (commands::skip(GROUP, topic, QUEUE, 2, &[(0, 1)]), Refusal::Stale(pointsman_model::Generation(1))),
        (commands::skip(GROUP, topic, 2, 1, &[(0, 1)]), Refusal::QueueNotFound(QueueId(2))),
        (commands::skip(GROUP, topic.next(), QUEUE, 1, &[(0, 1)]), Refusal::TopicNotFound(String::new())),
        (commands::skip(2, topic, QUEUE, 1, &[(0, 1)]), Refusal::GroupNotFound),
    ] {
        assert_eq!(shard.one(command), Outcome::Refused(refusal));
    }
    assert!(shard.machine.state().cursors.is_empty(), "nothing changed");

    shard.one(commands::ack(GROUP, &[commands::lease(topic, QUEUE, 4, 1)]));
    assert_eq!(shard.one(commands::skip(GROUP, topic, QUEUE, 1, &[(1, 6), (8, 10)])), Outcome::Skipped);
    assert_eq!(shard.one(commands::skip(GROUP, topic, QUEUE, 1, &[(0, 1)])), Outcome::Skipped);
    let cursor = shard.machine.state().cursor(GroupId(GROUP), topic, QueueId(QUEUE)).unwrap();
    assert_eq!((cursor.floor().0, cursor.unsettled(QueueOffset(10))), (6, 2));
    shard.reload();
}
