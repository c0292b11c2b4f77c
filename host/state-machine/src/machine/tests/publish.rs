//! Publish: places, fences, units, and what a queue entry says.

use pointsman_model::queue_entry::FLAG_TTL;
use pointsman_model::record::FLAG_UNIT_CONTINUES;
use pointsman_model::{Generation, Ordinal, QueueId, QueueOffset, hash};

use super::*;
use crate::command::{Judged, Placement, PublishHead, Source};
use crate::outcome::Refusal;

fn full_head() -> PublishHead<'static> {
    PublishHead {
        content_type: Some("text/plain"),
        tag: Some("paid"),
        keys: vec!["k1", "k2"],
        ordering_key: Some("customer"),
        properties: vec![("a", "b"), ("c", "")],
        ttl_ms: 5,
        trace: Some("00-1-2-3"),
        placement: Placement::Selector,
        judged: vec![Judged { binding: 1, generation: 1 }],
        source: None,
        dedup: None,
        park: None,
        origin: None,
        transaction: None,
        carried: None,
    }
}

fn published(outcome: &Outcome) -> (u16, u64) {
    match outcome {
        Outcome::Published(at) => (at.queue.0, at.offset.0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn offsets_are_dense_in_each_queue_and_entries_say_where_messages_lie() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let applied = shard.entry(&[
        commands::publish(topic, 1, 1, &full_head()).change(|header| header.priority = 4),
        commands::publish(topic, 0, 1, &PublishHead::default()),
        commands::publish(topic, 1, 1, &PublishHead::default()),
    ]);
    assert_eq!(applied.outcomes.iter().map(published).collect::<Vec<_>>(), [(1, 0), (0, 0), (1, 1)]);

    let (meta, records) = shard.log.last().unwrap();
    let first = applied.queue[0].entry;
    assert_eq!((first.priority, first.flags, first.stamp, first.term), (4, FLAG_TTL, meta.stamp, meta.term));
    assert_eq!((first.tag_hash, first.ordering_key_hash), (hash::hash(b"paid"), hash::hash(b"customer")));
    let mut at = meta.position.0 + FRAME_HEADER_BYTES;
    for (i, append) in applied.queue.iter().enumerate() {
        assert_eq!((append.entry.position.0, append.entry.ordinal), (at, Ordinal(i as u16)));
        at += u64::from(append.entry.length);
    }
    assert_eq!(at, meta.position.0 + FRAME_HEADER_BYTES + records.len() as u64);
    assert_eq!((applied.queue[1].entry.tag_hash, applied.queue[1].entry.flags), (0, 0));

    let place = (meta.index, Ordinal(0));
    let key = |key: &[u8]| KeyAppend { topic, key_hash: hash::hash(key), place };
    assert_eq!(applied.keys, [key(b"k1"), key(b"k2")]);
    assert_eq!(shard.machine.state().ends(topic, QueueId(1)).latest, 2);
    shard.reload();
    shard.check_again();
}

#[test]
fn what_was_decided_otherwise_is_refused_and_costs_no_offset() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let none = PublishHead::default();
    let from =
        |topic: u32, generation| PublishHead { source: Some(Source { topic, generation }), ..Default::default() };
    let keys = |n| PublishHead { keys: vec!["k"; n], ..Default::default() };
    let not_found = || Refusal::TopicNotFound(String::new());
    for (command, refusal) in [
        (commands::publish(topic, 0, 2, &none), Refusal::Stale(Generation(1))),
        (commands::publish(topic, 9, 2, &none), Refusal::Stale(Generation(1))),
        (commands::publish(topic, 2, 1, &none), Refusal::QueueNotFound(QueueId(2))),
        (commands::publish(topic.next(), 0, 1, &none), not_found()),
        (commands::publish(topic, 0, 1, &none).change(|header| header.tenant.0 += 1), not_found()),
        (commands::publish(topic, 0, 1, &from(topic.0, 0)), Refusal::Stale(Generation(1))),
        (commands::publish(topic, 0, 1, &from(99, 0)), not_found()),
    ] {
        assert_eq!(shard.one(command), Outcome::Refused(refusal));
    }
    for bad in [
        commands::publish(topic, 0, 1, &none).change(|header| header.priority = 10),
        commands::publish(topic, 0, 1, &keys(17)),
        Command { head: vec![2], ..commands::publish(topic, 0, 1, &none) },
        Command { head: vec![0; 30], ..commands::publish(topic, 0, 1, &none) },
    ] {
        let outcome = shard.one(bad);
        assert!(matches!(outcome, Outcome::Refused(Refusal::Malformed(_))), "{outcome:?}");
    }
    for (n, command) in [from(topic.0, 1), keys(16)].iter().enumerate() {
        assert_eq!(published(&shard.one(commands::publish(topic, 0, 1, command))), (0, n as u64));
    }
    shard.check_again();
}

#[test]
fn a_unit_is_all_or_nothing() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let message = |queue| commands::publish(topic, queue, 1, &PublishHead::default());
    let part = |queue| message(queue).change(|header| header.flags |= FLAG_UNIT_CONTINUES);

    let outcomes = shard.entry(&[part(0), part(5), message(1), message(0), part(0), part(1), message(0)]).outcomes;
    let refused = |refusal| Outcome::Refused(refusal);
    assert_eq!(outcomes[..2], [refused(Refusal::UnitRefused), refused(Refusal::QueueNotFound(QueueId(5)))]);
    assert_eq!(outcomes[2], refused(Refusal::UnitRefused));
    assert_eq!(outcomes[3..].iter().map(published).collect::<Vec<_>>(), [(0, 0), (0, 1), (1, 0), (0, 2)]);

    let outcomes = shard.entry(&[part(0), commands::ack(1, &[])]).outcomes;
    assert_eq!(outcomes[0], refused(Refusal::UnitRefused));
    assert!(matches!(outcomes[1], Outcome::Refused(Refusal::Malformed(_))));

    let outcomes = shard.entry(&[message(0), part(0)]).outcomes;
    assert_eq!(published(&outcomes[0]), (0, 3));
    assert!(matches!(outcomes[1], Outcome::Refused(Refusal::Malformed(_))), "the entry ends within a unit");
    shard.check_again();
}

#[test]
fn a_segment_knows_where_its_queues_start_also_after_a_restart() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    for i in 0..20 {
        shard.entry(&[commands::publish(topic, i % 2, 1, &full_head())]);
        if i % 3 == 0 {
            shard.reload();
        }
    }
    let bases: Vec<_> = shard.rows.0.keys().filter(|key| key[0] == crate::table::SEGMENT_QUEUE).collect();
    assert_eq!(bases.len(), 10, "two queues in each of five segments");
    assert_eq!(shard.machine.state().ends(topic, QueueId(0)).latest, 10);
    assert_eq!(shard.queue.last().unwrap().offset, QueueOffset(9));
    shard.check_again();
}
