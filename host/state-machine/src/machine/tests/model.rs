//! Random entries against the reference: every outcome, and all that can be read after.

use pointsman_model::record::{FLAG_UNIT_CONTINUES, kind};
use pointsman_model::{GroupId, QueueId, QueueOffset};
use proptest::prelude::*;

use super::commands::{self, builtin, delete, group_config, lease, put_if, topic_config};
use super::reference::{
    Act, BindAsk, DLQ_RETENTION_MS, Expected, From, GroupAsk, KeyAsk, LeaseAsk, NOBODY, Reference, WINDOW_MS, record_of,
};
use super::*;
use crate::command::{
    DeadLetterChange, DeadLetterOp, Dedup, DedupBy, Expire, Place, PublishHead, Seek, SeekMove, Settle, SettleOp,
    Shorthand, Slot, Start,
};
use crate::outcome::Refusal;

fn topic_name() -> impl Strategy<Value = char> {
    prop::sample::select(vec!['t', 't', 't', 'u'])
}

fn group_name() -> impl Strategy<Value = char> {
    prop::sample::select(vec!['g', 'g', 'g', 'h'])
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![8 => Just(Expect::Anything), 1 => Just(Expect::Absent), 1 => Just(Expect::Present)]
}

fn lease_ask() -> impl Strategy<Value = LeaseAsk> {
    (topic_name(), 0_u16..3, 0_u64..6, prop::sample::select(vec![0, 1, 1, 1, 2, 2, 3, 4]))
}

fn key_ask() -> impl Strategy<Value = KeyAsk> {
    (prop::sample::select(vec!['a', 'a', 'b']), prop::bool::weighted(0.3), prop::sample::select(vec![0, 0, 0, 1]))
        .prop_map(|(name, by_plugin, payload)| KeyAsk { name, by_plugin, payload })
}

fn group_ask() -> impl Strategy<Value = GroupAsk> {
    let filter = prop_oneof![Just(None), (0_u8..2).prop_map(Some)];
    let from = prop_oneof![1 => Just(From::Latest), 3 => Just(From::Earliest), 1 => (0_u64..4).prop_map(From::Offset)];
    let topics = prop::collection::vec((topic_name(), filter), 1..3);
    (topics, from, 0_u64..2, 0_u16..3).prop_map(|(topics, from, setting, max_retries)| GroupAsk {
        topics,
        from,
        setting,
        max_retries,
    })
}

fn bind_ask() -> impl Strategy<Value = BindAsk> {
    let slot = prop::sample::select(vec![Slot::Selector, Slot::Filter, Slot::Dedup, Slot::Retry, Slot::CheckBack]);
    let fields = (slot, prop::option::weighted(0.7, topic_name()), prop::option::of(group_name()), 0_u8..2);
    fields.prop_map(|(slot, topic, group, setting)| BindAsk { slot, topic, group, setting })
}

fn act() -> impl Strategy<Value = Act> {
    let ranges = prop::collection::vec((0_u64..4, 0_u64..4), 1..3)
        .prop_map(|ranges| ranges.into_iter().map(|(from, length)| (from, from + length)).collect());
    prop_oneof![
        2 => (topic_name(), prop::option::of(1_u16..4), 0_u64..2, expect())
            .prop_map(|(name, queues, setting, expect)| Act::Topic { name, queues, setting, expect }),
        1 => topic_name().prop_map(|name| Act::DropTopic { name }),
        3 => (group_name(), group_ask(), expect())
            .prop_map(|(name, config, expect)| Act::Group { name, config, expect }),
        1 => group_name().prop_map(|name| Act::DropGroup { name }),
        3 => (prop::sample::select(vec!['x', 'y']), bind_ask()).prop_map(|(name, ask)| Act::Bind { name, ask }),
        1 => prop::sample::select(vec!['x', 'y']).prop_map(|name| Act::Unbind { name }),
        12 => (topic_name(), 0_u16..3, prop::bool::weighted(0.1), prop::bool::weighted(0.2), prop::option::of(key_ask()))
            .prop_map(|(topic, queue, stale, continues, key)| Act::Publish { topic, queue, stale, continues, key }),
        8 => (group_name(), prop::collection::vec(lease_ask(), 1..5))
            .prop_map(|(group, leases)| Act::Ack { group, leases }),
        12 => (group_name(), lease_ask(), any::<bool>(), 0_u64..50)
            .prop_map(|(group, lease, expired, delay_ms)| Act::Again { group, lease, expired, delay_ms }),
        3 => (group_name(), topic_name(), 0_u16..3, prop::bool::weighted(0.2), ranges)
            .prop_map(|(group, topic, queue, stale, ranges)| Act::Skip { group, topic, queue, stale, ranges }),
        2 => (group_name(), topic_name(), 0_u16..3, 0_u64..5, expect())
            .prop_map(|(group, topic, queue, to, expect)| Act::Seek { group, topic, queue, to, expect }),
        8 => (group_name(), prop::collection::vec((topic_name(), 0_u16..2, 0_u64..4), 1..4), letter_op())
            .prop_map(|(group, letters, op)| Act::Letters { group, letters, op }),
    ]
}

fn letter_op() -> impl Strategy<Value = DeadLetterOp> {
    prop_oneof![6 => Just(DeadLetterOp::Redrive), 1 => Just(DeadLetterOp::Delete), 1 => Just(DeadLetterOp::Expire)]
}

/// A command about a lease, with the record that its message lies in.
fn with_record(command: Command, place: (u32, u16, u64)) -> Command {
    let (index, ordinal) = record_of(place);
    let place = Place { term: 3, index, ordinal };
    let mut command = command;
    if command.header.kind == kind::SETTLE {
        let mut settle: Settle = postcard::from_bytes(&command.head).unwrap();
        for item in &mut settle.items {
            if let SettleOp::Nack(end) = &mut item.op {
                end.record.place = place;
            }
        }
        command.head = postcard::to_stdvec(&settle).unwrap();
    } else {
        let mut expire: Expire = postcard::from_bytes(&command.head).unwrap();
        expire.items.iter_mut().for_each(|(_, end)| end.record.place = place);
        command.head = postcard::to_stdvec(&expire).unwrap();
    }
    command
}

/// The record a leader that knows what the reference knows would make.
fn encode(act: &Act, reference: &Reference) -> Command {
    let topic_id = |name| TopicId(reference.topic(name).map_or(NOBODY, |topic| topic.id));
    let group_id = |name| reference.group(name).map_or(NOBODY, |group| group.id);
    let of = |ask: &LeaseAsk| lease(topic_id(ask.0), ask.1, ask.2, ask.3);
    match act {
        Act::Topic { name, queues, setting, expect } => {
            let mut config = topic_config(*queues);
            config.retention_ms = *setting;
            put_if(expect.clone(), Object::Topic { name: (*name).into(), config })
        }
        Act::DropTopic { name } => delete(Target::Topic((*name).into())),
        Act::Group { name, config, expect } => put_if(expect.clone(), group_object(*name, config)),
        Act::DropGroup { name } => delete(Target::Group((*name).into())),
        Act::Bind { name, ask } => {
            let (topic, group) = (ask.topic.map(String::from), ask.group.map(String::from));
            let config = builtin(ask.slot, topic.as_deref(), group.as_deref(), &ask.setting.to_string());
            put_if(Expect::Anything, Object::Binding { name: (*name).into(), config })
        }
        Act::Unbind { name } => delete(Target::Binding((*name).into())),
        Act::Publish { topic, queue, stale, continues, key } => {
            let generation = reference.topic(*topic).map_or(0, |topic| topic.generation) + u32::from(*stale);
            let name = key.map(|key| key.name.to_string());
            let dedup = key.zip(name.as_deref()).map(|(key, name)| Dedup {
                key: name,
                by: if key.by_plugin { DedupBy::Plugin } else { DedupBy::Producer },
                fingerprint: key.payload.into(),
                window_ms: WINDOW_MS,
            });
            let head = PublishHead { keys: vec!["k"], tag: Some("tag"), dedup, ..PublishHead::default() };
            commands::publish(topic_id(*topic), *queue, generation, &head)
                .change(|header| header.flags = if *continues { FLAG_UNIT_CONTINUES } else { 0 })
        }
        Act::Ack { group, leases } => commands::ack(group_id(*group), &leases.iter().map(of).collect::<Vec<_>>()),
        Act::Again { group, lease, expired, delay_ms } => {
            let place = (topic_id(lease.0).0, lease.1, lease.2);
            let command = match expired {
                false => commands::nack(group_id(*group), of(lease), *delay_ms),
                true => commands::expire(group_id(*group), of(lease), *delay_ms),
            };
            with_record(command, place)
        }
        Act::Seek { group, topic, queue, to, expect } => {
            let moves = vec![SeekMove { topic: topic_id(*topic).0, queue: *queue, to: *to }];
            Command::new(kind::SEEK, &Seek { group: group_id(*group), expect: expect.clone(), moves })
        }
        Act::Letters { group, letters, op } => {
            let letters = letters.iter().map(|(topic, queue, offset)| record_of((topic_id(*topic).0, *queue, *offset)));
            let change = DeadLetterChange { group: group_id(*group), letters: letters.collect(), op: *op };
            Command::new(kind::DEAD_LETTER_CHANGE, &change)
        }
        Act::Skip { group, topic, queue, stale, ranges } => {
            let generation = reference.group(*group).map_or(0, |group| group.generation) + u32::from(*stale);
            commands::skip(group_id(*group), topic_id(*topic), *queue, generation, ranges)
        }
    }
}

fn group_object(name: char, ask: &GroupAsk) -> Object {
    let names: Vec<String> = ask.topics.iter().map(|(topic, _)| (*topic).into()).collect();
    let mut config = group_config(&names.iter().map(String::as_str).collect::<Vec<_>>());
    config.lease_ms = ask.setting;
    config.max_retries = ask.max_retries;
    config.dlq_retention_ms = DLQ_RETENTION_MS;
    config.start = match ask.from {
        From::Latest => Start::Latest,
        From::Earliest => Start::Earliest,
        From::Offset(offset) => Start::Time(offset),
    };
    for (topic, (_, filter)) in config.topics.iter_mut().zip(&ask.topics) {
        if let From::Offset(offset) = ask.from {
            topic.start_offsets = vec![offset; 8];
        }
        topic.filter = filter.map(|setting| {
            let binding = builtin(Slot::Filter, None, None, &setting.to_string());
            Shorthand { tags: None, binding }
        });
    }
    Object::Group { name: name.into(), config }
}

/// Applies one entry to both and compares the outcomes.
fn apply(shard: &mut Shard, reference: &mut Reference, acts: &[Act]) {
    reference.at = (shard.next_meta().index, 0, shard.now);
    let mut records = Vec::new();
    let mut expected = Vec::new();
    let mut unit = Vec::new();
    for (ordinal, act) in acts.iter().enumerate() {
        records.push(encode(act, reference));
        unit.push((ordinal as u16, act.clone()));
        if !matches!(act, Act::Publish { continues: true, .. }) {
            expected.extend(reference.apply(&std::mem::take(&mut unit), true));
        }
    }
    if !unit.is_empty() {
        expected.extend(reference.apply(&unit, false));
    }
    let outcomes = shard.entry(&records).outcomes;
    assert_eq!(outcomes.len(), expected.len());
    for ((found, expected), act) in outcomes.iter().zip(&expected).zip(acts) {
        let same = match (expected, found) {
            (Expected::Exactly(expected), found) => found == expected,
            (Expected::Configured { created, unchanged }, Outcome::Configured { created: c, unchanged: u, .. }) => {
                (created, unchanged) == (c, u)
            }
            (Expected::Malformed, found) => matches!(found, Outcome::Refused(Refusal::Malformed(_))),
            _ => false,
        };
        assert!(same, "{act:?} came to {found:?} and not to {expected:?}");
    }
}

/// All that can be read of the machine is what the reference says.
fn compare(shard: &Shard, reference: &Reference) {
    let state = shard.machine.state();
    assert_eq!(state.topics.len(), reference.topics.len());
    for topic in &reference.topics {
        let found = state.topic(TENANT, &topic.name.to_string()).unwrap();
        let numbers = (found.id.0, found.generation.0, usize::from(found.queues()));
        assert_eq!(numbers, (topic.id, topic.generation, topic.ends.len()));
        for (queue, end) in topic.ends.iter().enumerate() {
            assert_eq!(state.ends(found.id, QueueId(queue as u16)).latest, *end);
        }
        let held = [state.selector(found.id), state.dedup(found.id), state.check_back(found.id)];
        let held = held.map(|binding| binding.map(|binding| binding.name.to_string()));
        let of = |slot| holder(reference, slot, Some(topic.id), None);
        assert_eq!(held, [Slot::Selector, Slot::Dedup, Slot::CheckBack].map(of));
    }
    assert_eq!(state.groups.len(), reference.groups.len());
    for group in &reference.groups {
        compare_group(shard, reference, group);
    }
    let mut names: Vec<_> = state.bindings.values().map(|b| (b.name.to_string(), b.generation.0)).collect();
    let mut expected: Vec<_> = reference.bindings.iter().map(|b| (b.name.clone(), b.generation)).collect();
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
}

fn compare_group(shard: &Shard, reference: &Reference, group: &super::reference::RGroup) {
    let state = shard.machine.state();
    let found = state.group(TENANT, &group.name.to_string()).unwrap();
    assert_eq!((found.id.0, found.generation.0), (group.id, group.generation));
    assert_eq!(found.topic_ids.iter().map(|id| id.0).collect::<Vec<_>>(), group.topics);
    for topic in reference.topics.iter().filter(|topic| group.topics.contains(&topic.id)) {
        for (queue, end) in topic.ends.iter().enumerate() {
            let (id, queue) = (TopicId(topic.id), QueueId(queue as u16));
            let cursor = state.cursor(found.id, id, queue).cloned().unwrap_or_default();
            for offset in 0..end + 2 {
                let place = (topic.id, queue.0, offset);
                assert_eq!(cursor.is_settled(QueueOffset(offset)), group.settled.contains(&place), "{place:?}");
                let row = shard.machine.retry(&shard.rows, found.id, id, queue, QueueOffset(offset)).unwrap();
                let row = row.map(|r| {
                    (r.attempt, r.base, r.due, r.history.iter().map(|h| (h.attempt, h.expired)).collect::<Vec<_>>())
                });
                assert_eq!(row, group.retries.get(&place).map(|r| (r.attempt, r.base, r.due, r.history.clone())));
            }
        }
        let of = |topic| holder(reference, Slot::Filter, topic, Some(group.id));
        let filter = of(Some(topic.id)).or_else(|| of(None));
        assert_eq!(state.filter(found.id, TopicId(topic.id)).map(|b| b.name.to_string()), filter);
    }
    let retry = holder(reference, Slot::Retry, None, Some(group.id));
    assert_eq!(state.retry(found.id).map(|b| b.name.to_string()), retry);
    let letters = shard.machine.dead_letters(&shard.rows, GroupId(group.id), None, 1_000).unwrap();
    let letters: BTreeMap<_, _> = letters
        .into_iter()
        .map(|l| {
            let history: Vec<_> = l.history.iter().map(|h| (h.attempt, h.expired)).collect();
            ((l.topic, l.queue, l.offset), (l.attempt, l.expires, l.redriven_at.is_some(), history))
        })
        .collect();
    let expected = group.dead.iter().map(|(place, d)| (*place, (d.attempt, d.expires, d.redriven, d.history.clone())));
    assert_eq!(letters, expected.collect());
    let open = group.dead.values().filter(|dead| !dead.redriven).count() as u64;
    let count = crate::state::DeadCount { open, rows: group.dead.len() as u64 };
    assert_eq!(state.dead.get(&found.id).copied().unwrap_or_default(), count);
    let mut over: Vec<_> = group.dead.iter().filter(|(_, dead)| dead.expires <= shard.now.0).collect();
    over.sort_by_key(|(place, dead)| (dead.expires, record_of(**place)));
    let over: Vec<_> = over.into_iter().map(|(place, _)| record_of(*place)).collect();
    let found_over = shard.machine.expired_dead_letters(&shard.rows, GroupId(group.id), shard.now, 1_000).unwrap();
    assert_eq!(found_over, over);
    let due = shard.machine.due(&shard.rows, GroupId(group.id), shard.now, 1_000).unwrap();
    let due: Vec<_> = due.iter().map(|r| (r.due, (r.topic, r.queue, r.offset))).collect();
    let waiting = group.retries.iter().map(|(place, retry)| (retry.due, *place));
    let mut expected: Vec<_> = waiting.clone().filter(|(due, _)| *due <= shard.now.0).collect();
    expected.sort_unstable();
    assert_eq!(due, expected);
    let next = waiting.map(|(due, _)| Timestamp(due)).filter(|due| *due > shard.now).min();
    assert_eq!(shard.machine.next_due(&shard.rows, GroupId(group.id), shard.now).unwrap(), next);
    assert_eq!(state.retrying.get(&found.id).copied().unwrap_or(0), group.retries.len() as u64);
}

/// The binding that holds a slot, by the reference.
fn holder(reference: &Reference, slot: Slot, topic: Option<u32>, group: Option<u32>) -> Option<String> {
    let holder = reference.bindings.iter().find(|b| b.slot == slot && b.topic == topic && b.group == group);
    holder.map(|binding| binding.name.clone())
}

fn run(entries: Vec<(Vec<Act>, u64, bool)>) {
    let mut shard = Shard::new();
    let mut reference = Reference::default();
    shard.one(commands::put(Object::Tenant { name: "acme".into(), id: TENANT.0 }));
    let (name, expect, queues) = ('t', Expect::Anything, Some(2));
    let config = GroupAsk { topics: vec![('t', None)], from: From::Earliest, setting: 0, max_retries: 1 };
    let topic = Act::Topic { name, queues, setting: 0, expect: expect.clone() };
    apply(&mut shard, &mut reference, &[topic, Act::Group { name: 'g', config, expect }]);
    for (acts, passed_ms, reload) in entries {
        shard.now = shard.now.plus_ms(passed_ms);
        apply(&mut shard, &mut reference, &acts);
        if reload {
            compare(&shard, &reference);
            shard.reload();
        }
    }
    compare(&shard, &reference);
    shard.reload();
    shard.check_again();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_machine_does_what_the_reference_says(
        entries in prop::collection::vec(
            (prop::collection::vec(act(), 0..8), 0_u64..30, prop::bool::weighted(0.2)),
            1..30,
        ),
    ) {
        run(entries);
    }
}
