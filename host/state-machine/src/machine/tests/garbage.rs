//! No bytes make `apply` panic; what must stop a shard stops it, and for good.

use pointsman_model::record::kind;
use pointsman_model::{Generation, QueueId};
use proptest::prelude::*;

use super::*;
use crate::command::{
    AttemptEnd, Cause, CheckTable, CheckVia, DeadLetterChange, DeadLetterOp, Decision, Dedup, DedupBy, Delay, Expire,
    Judged, LeaseRef, Origin, Park, Place, PublishHead, RecordRef, ResolvedBy, Seek, SeekMove, TimerChange, TimerOp,
    TransactionChecked, TransactionMeta, TransactionResolve, TransactionVerdict,
};
use crate::outcome::Refusal;

fn known_kind() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![
        kind::PUBLISH,
        kind::PUBLISH_PARKED,
        kind::PUBLISH_FROM,
        kind::TIMER_CHANGE,
        kind::SCHEDULE_RAN,
        kind::TRANSACTION_RESOLVE,
        kind::TRANSACTION_CHECKED,
        kind::SETTLE,
        kind::EXPIRE,
        kind::GRANT,
        kind::SKIP,
        kind::SEEK,
        kind::DEAD_LETTER_CHANGE,
        kind::CONFIG_PUT,
        kind::CONFIG_DELETE,
        kind::PLUGIN_CHUNK,
        kind::PLUGIN_COMMIT,
    ])
}

/// A place that a small entry may have.
fn place() -> impl Strategy<Value = Place> {
    (4_u64..10, 0_u16..6).prop_map(|(index, ordinal)| Place { term: 3, index, ordinal })
}

/// Heads of messages that are parked, and that come from what may be parked.
fn message_head() -> impl Strategy<Value = Vec<u8>> {
    let park = prop_oneof![
        Just(None),
        (0_u64..2_000).prop_map(|due| Some(Park::Until(due))),
        (0_u16..4).prop_map(|first| Some(Park::Half(first))),
    ];
    let cause = prop_oneof![Just(Cause::Timer), Just(Cause::Commit), (0_u32..3).prop_map(Cause::Redrive)];
    let origin = prop::option::of((place(), cause).prop_map(|(place, cause)| Origin { place, cause }));
    let check = CheckTable { after_ms: 0, interval_ms: 0, max: 2, via: CheckVia::Plugin };
    let meta = (0_u32..3, prop::option::of(Just("n")), prop::collection::vec((0_u16..4, Just(Delay::For(1))), 0..2));
    let meta = prop::option::of(meta.prop_map(move |(topic, key, delays)| TransactionMeta {
        producer_group: "g",
        key,
        fingerprint: 1,
        topic,
        check,
        delays,
    }));
    let by = prop::sample::select(vec![DedupBy::Producer, DedupBy::Plugin]);
    let dedup = (prop::sample::select(vec!["k", "l"]), by, 0_u128..2, 0_u64..2_000);
    let dedup =
        prop::option::of(dedup.prop_map(|(key, by, fingerprint, window_ms)| Dedup { key, by, fingerprint, window_ms }));
    (park, origin, meta, dedup).prop_map(|(park, origin, transaction, dedup)| {
        postcard::to_stdvec(&PublishHead { park, origin, transaction, dedup, ..PublishHead::default() }).unwrap()
    })
}

fn transaction_head() -> impl Strategy<Value = Vec<u8>> {
    let verdict = prop::sample::select(vec![
        TransactionVerdict::Commit,
        TransactionVerdict::Rollback,
        TransactionVerdict::Expire,
    ]);
    let by = prop::sample::select(vec![
        ResolvedBy::Producer,
        ResolvedBy::Plugin(Judged { binding: 1, generation: 1 }),
        ResolvedBy::Timetable,
        ResolvedBy::Operator,
    ]);
    prop_oneof![
        (place(), verdict, by).prop_map(|(place, verdict, by)| {
            let transaction = (place.index, place.ordinal);
            postcard::to_stdvec(&TransactionResolve { transaction, verdict, by }).unwrap()
        }),
        (place(), 0_u16..4).prop_map(|(place, attempt)| {
            let transaction = (place.index, place.ordinal);
            postcard::to_stdvec(&TransactionChecked { transaction, attempt, wait_ms: 0 }).unwrap()
        }),
    ]
}

fn timer_change() -> impl Strategy<Value = Vec<u8>> {
    let op = prop_oneof![Just(TimerOp::Cancel), (0_u64..2_000).prop_map(TimerOp::Due)];
    (place(), op).prop_map(|(place, op)| postcard::to_stdvec(&TimerChange { place, op }).unwrap())
}

/// Heads about a group: its seeks, its leases that end badly, its dead letters.
fn group_head() -> impl Strategy<Value = Vec<u8>> {
    let decision = prop_oneof![
        (0_u64..3).prop_map(|delay_ms| Decision::Again { delay_ms }),
        Just(Decision::DeadLetter { reason: None }),
        Just(Decision::Drop),
    ];
    let op = prop::sample::select(vec![DeadLetterOp::Redrive, DeadLetterOp::Delete, DeadLetterOp::Expire]);
    prop_oneof![
        (0_u32..3, 0_u16..3, 0_u64..4).prop_map(|(topic, queue, to)| {
            let moves = vec![SeekMove { topic, queue, to }];
            postcard::to_stdvec(&Seek { group: 1, expect: Expect::Anything, moves }).unwrap()
        }),
        (place(), op).prop_map(|(place, op)| {
            let letters = vec![(place.index, place.ordinal); 2];
            postcard::to_stdvec(&DeadLetterChange { group: 1, letters, op }).unwrap()
        }),
        (place(), decision, 1_u16..4, 0_u64..3).prop_map(|(place, decision, attempt, offset)| {
            let record = RecordRef { place, ..RecordRef::default() };
            let end = AttemptEnd { decision, record, ..AttemptEnd::default() };
            let lease = LeaseRef { topic: 1, queue: 0, offset, attempt };
            postcard::to_stdvec(&Expire { group: 1, revision: 99, items: vec![(lease, end)] }).unwrap()
        }),
    ]
}

/// Records whose checksums hold and whose heads are anything, with numbers small enough to meet what is there.
fn records() -> impl Strategy<Value = Vec<Command>> {
    let head = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        prop::collection::vec(0_u8..4, 0..80),
        Just(postcard::to_stdvec(&PublishHead::default()).unwrap()),
        message_head(),
        timer_change(),
        transaction_head(),
        group_head(),
    ];
    let numbers = (6_u32..9, 0_u32..3, 0_u16..3, 0_u32..3, 0_u16..4, any::<u8>());
    let record =
        (known_kind(), head, numbers).prop_map(|(kind, head, (tenant, topic, queue, generation, flags, priority))| {
            let header = Header {
                kind,
                flags,
                tenant: TenantId(tenant),
                topic: TopicId(topic),
                queue: QueueId(queue),
                priority,
                generation: Generation(generation),
                born: Timestamp(0),
            };
            Command { header, head, body: vec![1; 3] }
        });
    prop::collection::vec(record, 1..12)
}

proptest! {
    #[test]
    fn valid_records_with_any_head_have_an_outcome_each(entries in prop::collection::vec(records(), 1..6)) {
        let mut shard = Shard::with_group();
        for records in entries {
            prop_assert_eq!(shard.entry(&records).outcomes.len(), records.len());
        }
        shard.reload();
        shard.check_again();
    }

    #[test]
    fn any_bytes_are_an_error_or_an_outcome(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut shard = Shard::with_group();
        let result = shard.raw(bytes.clone().into());
        prop_assert_eq!(result.is_err(), !bytes.is_empty());
    }

    #[test]
    fn a_damaged_record_stops_the_shard(at in 8_usize..60, bit in 0_u8..8) {
        let mut shard = Shard::with_group();
        let command = commands::publish(shard.topic(), 0, 1, &PublishHead { tag: Some("a tag"), ..Default::default() });
        let mut bytes = BytesMut::new();
        record::encode(&mut bytes, &command.header, &command.head, &command.body);
        bytes[at] ^= 1 << bit;
        let result = shard.raw(bytes.freeze());
        prop_assert!(matches!(result, Err(Error::DamagedRecord { .. })), "{:?}", result);
        prop_assert!(matches!(shard.raw(Bytes::new()), Err(Error::Poisoned)));
    }
}

#[test]
fn an_unknown_command_stops_the_shard() {
    for flags in [0, record::FLAG_UNIT_CONTINUES] {
        let mut shard = Shard::with_group();
        let command = Command::new(200, &()).change(|header| header.flags = flags);
        let mut bytes = BytesMut::new();
        record::encode(&mut bytes, &command.header, &command.head, b"");
        assert!(matches!(shard.raw(bytes.freeze()), Err(Error::UnknownKind { kind: 200, .. })));
        assert!(matches!(shard.raw(Bytes::new()), Err(Error::Poisoned)));
    }
}

#[test]
fn a_failed_read_stops_the_shard_and_is_no_outcome() {
    struct Broken;

    impl Store for Broken {
        fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            Err(StoreError("no disk".into()))
        }

        fn scan(&self, _: &[u8], _: &[u8], _: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StoreError> {
            Err(StoreError("no disk".into()))
        }
    }

    let mut shard = Shard::with_group();
    let command = commands::publish(shard.topic(), 0, 1, &PublishHead::default());
    let mut bytes = BytesMut::new();
    record::encode(&mut bytes, &command.header, &command.head, &command.body);
    let meta = shard.next_meta();
    assert!(matches!(shard.machine.apply(&Broken, &meta, &bytes.freeze()), Err(Error::Read(_))));
    assert!(matches!(shard.raw(Bytes::new()), Err(Error::Poisoned)));
    assert!(Machine::load(&Broken, SHARD).is_err());
}

#[test]
fn a_damaged_row_is_found_at_the_start() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    shard.entry(&vec![commands::publish(topic, 0, 1, &PublishHead::default()); 3]);
    shard.one(commands::ack(1, &[commands::lease(topic, 0, 2, 1)]));
    let is_loaded =
        |t: u8| ![table::SEGMENT_QUEUE, table::QUEUE_SEGMENT, table::AUDIT, table::AUDIT_OF_TENANT].contains(&t);
    let tables: Vec<u8> = shard.rows.0.keys().map(|key| key[0]).filter(|t| is_loaded(*t)).collect();
    assert!(tables.len() >= 7, "{tables:?}");
    for (key, value) in shard.rows.0.clone().iter().filter(|(key, _)| is_loaded(key[0])) {
        for damaged in [&value[..value.len() - 1], &[&[9], &value[1..]].concat()] {
            let mut rows = shard.rows.clone();
            rows.0.insert(key.clone(), damaged.to_vec());
            assert!(matches!(Machine::load(&rows, SHARD), Err(Error::DamagedRow { .. })), "{key:02x?}");
        }
    }
}

#[test]
fn an_entry_of_another_shard_is_not_applied() {
    let mut shard = Shard::with_group();
    let meta = EntryMeta { shard: ShardId(2), ..shard.next_meta() };
    assert!(matches!(shard.machine.apply(&shard.rows, &meta, &Bytes::new()), Err(Error::WrongShard { .. })));
}

#[test]
fn every_entry_moves_the_outcome_hash_and_blank_ones_too() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let mut seen = vec![shard.machine.state().outcome_hash];
    for records in [
        vec![],
        vec![],
        vec![commands::publish(topic, 0, 1, &PublishHead::default())],
        vec![commands::publish(topic, 0, 9, &PublishHead::default())],
    ] {
        let applied = shard.entry(&records);
        assert_eq!(applied.outcome_hash, shard.machine.state().outcome_hash);
        assert!(!seen.contains(&applied.outcome_hash));
        seen.push(applied.outcome_hash);
    }
    assert_eq!(shard.one(commands::ack(9, &[])), Outcome::Refused(Refusal::GroupNotFound));
}
