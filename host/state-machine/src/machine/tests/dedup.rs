//! Dedup: what is stored once, for how long, and what is forgotten how.

use pointsman_model::record::{FLAG_SAME_MESSAGE, FLAG_UNIT_CONTINUES, kind};
use pointsman_model::{Generation, QueueId, QueueOffset, hash, limits};

use super::*;
use crate::command::{Cause, Dedup, DedupBy, Origin, Park, Place, PublishHead, Source, TimerChange, TimerOp};
use crate::outcome::{Duplicate, Refusal};
use crate::state::DedupId;
use crate::table;

const WINDOW_MS: u64 = 100;

fn head<'a>(key: &'a str, by: DedupBy, body: &[u8]) -> PublishHead<'a> {
    let fingerprint = hash::fingerprint(body);
    PublishHead { dedup: Some(Dedup { key, by, fingerprint, window_ms: WINDOW_MS }), ..PublishHead::default() }
}

fn keyed(topic: TopicId, queue: u16, key: &str) -> Command {
    commands::publish(topic, queue, 1, &head(key, DedupBy::Producer, b"body"))
}

fn named(topic: TopicId, key: &str, body: &[u8]) -> Command {
    commands::publish(topic, 0, 1, &head(key, DedupBy::Plugin, body))
}

fn flags(command: Command, flags: u16) -> Command {
    command.change(|header| header.flags = flags)
}

fn offset_of(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Published(at) => at.offset.0,
        other => panic!("{other:?}"),
    }
}

fn before(outcome: &Outcome) -> Duplicate {
    match outcome {
        Outcome::Duplicate(before) => *before,
        other => panic!("{other:?}"),
    }
}

/// Rows of the three tables: keys, lists, counts.
fn rows(shard: &Shard) -> [usize; 3] {
    [table::DEDUP, table::DEDUP_EXPIRY, table::DEDUP_COUNT]
        .map(|of| shard.rows.0.keys().filter(|key| key[0] == of).count())
}

#[test]
fn a_key_is_stored_once_and_answers_where() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let first = shard.entry(&[keyed(topic, 1, "k"), keyed(topic, 1, "k"), keyed(topic, 0, "l"), keyed(topic, 0, "k")]);
    let index = shard.log.last().unwrap().0.index.0;
    let expected = Duplicate {
        place: Place { term: 3, index, ordinal: 0 },
        topic,
        at: Some((QueueId(1), QueueOffset(0))),
        stored_at: shard.now,
    };
    assert_eq!(offset_of(&first.outcomes[0]), 0);
    assert_eq!(before(&first.outcomes[1]), expected, "within one entry");
    assert_eq!(offset_of(&first.outcomes[2]), 0);
    assert_eq!(before(&first.outcomes[3]), expected, "whatever the queue");
    assert_eq!(first.queue.len(), 2);

    shard.reload();
    shard.now = shard.now.plus_ms(1);
    assert_eq!(before(&shard.one(keyed(topic, 0, "k"))), expected, "in a later entry, after a restart");
    let found = Machine::remembered(&shard.rows, (TENANT, topic), DedupBy::Producer, "k", shard.now).unwrap().unwrap();
    assert_eq!(Duplicate::of(&found), expected);
    assert_eq!(Machine::remembered(&shard.rows, (TENANT, topic), DedupBy::Plugin, "k", shard.now).unwrap(), None);
    shard.reload();
    shard.check_again();
}

#[test]
fn a_producers_key_stands_for_one_payload_and_a_plugins_for_any() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    shard.entry(&[keyed(topic, 0, "k"), named(topic, "k", b"body")]);
    let other = commands::publish(topic, 0, 1, &head("k", DedupBy::Producer, b"other"));
    assert_eq!(shard.one(other), Outcome::Refused(Refusal::IdempotencyMismatch));
    assert_eq!(before(&shard.one(named(topic, "k", b"other"))).at, Some((QueueId(0), QueueOffset(1))), "keys of both");
    shard.check_again();
}

#[test]
fn the_window_ends_to_the_millisecond_and_a_key_is_used_again() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let stored = shard.now;
    for (passed_ms, duplicate) in [(0, false), (WINDOW_MS - 1, true), (WINDOW_MS, false), (2 * WINDOW_MS - 1, true)] {
        shard.now = stored.plus_ms(passed_ms);
        let outcome = shard.one(keyed(topic, 0, "k"));
        assert_eq!(matches!(outcome, Outcome::Duplicate(_)), duplicate, "after {passed_ms} ms: {outcome:?}");
        shard.reload();
    }
    assert_eq!(rows(&shard), [1, 1, 1], "the old row was replaced, on its list, too");
    let none = commands::publish(
        topic,
        0,
        1,
        &PublishHead {
            dedup: Some(Dedup { key: "w", by: DedupBy::Producer, fingerprint: 0, window_ms: 0 }),
            ..PublishHead::default()
        },
    );
    assert_eq!(offset_of(&shard.one(none.clone())), 2);
    assert_eq!(offset_of(&shard.one(none)), 3, "no window, no key");
    shard.check_again();
}

#[test]
fn what_has_expired_goes_little_by_little_and_no_key_goes_early() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    for entry in 0..40_u64 {
        let keys: Vec<String> = (0..10).map(|i| format!("{entry}-{i}")).collect();
        shard.entry(&keys.iter().map(|key| keyed(topic, 0, key)).collect::<Vec<_>>());
        for (age, live) in [(9, true), (10, false)] {
            // Ten entries are one window.
            let Some(of) = entry.checked_sub(age) else { continue };
            let key = format!("{of}-3");
            let found = Machine::remembered(&shard.rows, (TENANT, topic), DedupBy::Producer, &key, shard.now).unwrap();
            assert_eq!(found.is_some(), live, "{key} at {entry}");
        }
        let [keys, lists, counts] = rows(&shard);
        assert!(keys <= 110 && lists <= 11 && counts == 1, "{keys} keys, {lists} lists");
        assert_eq!(shard.machine.state().dedup_keys[&topic], keys as u64);
        if entry % 3 == 0 {
            shard.reload();
        }
        shard.now = shard.now.plus_ms(WINDOW_MS / 10);
    }
    shard.now = shard.now.plus_ms(WINDOW_MS);
    shard.one(commands::publish(topic, 0, 1, &PublishHead::default()));
    assert!(rows(&shard)[0] >= 100, "only keys pay for keys");
    for n in 0..12 {
        shard.one(keyed(topic, 0, &format!("new {n}")));
    }
    assert_eq!(rows(&shard), [12, 12, 1]);
    shard.check_again();
}

#[test]
fn a_unit_with_duplicates_is_stored_but_for_them() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let part = |key| flags(keyed(topic, 0, key), FLAG_UNIT_CONTINUES);
    shard.one(keyed(topic, 0, "old"));
    let outcomes = shard.entry(&[part("a"), part("old"), part("a"), keyed(topic, 0, "b")]).outcomes;
    assert_eq!(offset_of(&outcomes[0]), 1);
    assert_eq!(before(&outcomes[1]).at, Some((QueueId(0), QueueOffset(0))));
    assert_eq!(before(&outcomes[2]).at, Some((QueueId(0), QueueOffset(1))), "the one just before");
    assert_eq!(offset_of(&outcomes[3]), 2);

    let other = commands::publish(topic, 0, 1, &head("c", DedupBy::Producer, b"other"));
    let outcomes = shard.entry(&[part("c"), other]).outcomes;
    assert_eq!(outcomes[0], Outcome::Refused(Refusal::UnitRefused));
    assert_eq!(outcomes[1], Outcome::Refused(Refusal::IdempotencyMismatch), "of a record of the same unit");
    assert_eq!(offset_of(&shard.one(keyed(topic, 0, "c"))), 3, "what was refused has reserved nothing");
    shard.check_again();
}

#[test]
fn stale_or_refused_messages_leave_their_key_free() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let stale = keyed(topic, 0, "k").change(|header| header.generation = Generation(2));
    assert_eq!(shard.one(stale), Outcome::Refused(Refusal::Stale(Generation(1))));
    let nowhere = keyed(topic, 9, "k");
    assert_eq!(shard.one(nowhere), Outcome::Refused(Refusal::QueueNotFound(QueueId(9))));
    assert_eq!(rows(&shard), [0, 0, 0]);
    assert_eq!(offset_of(&shard.one(keyed(topic, 0, "k"))), 0);
    for bad in ["", &"k".repeat(limits::IDEMPOTENCY_KEY_STORED_BYTES_MAX + 1)] {
        let mut command = keyed(topic, 0, "k");
        let dedup = Dedup { key: bad, by: DedupBy::Producer, fingerprint: 0, window_ms: 1 };
        command.head = postcard::to_stdvec(&PublishHead { dedup: Some(dedup), ..PublishHead::default() }).unwrap();
        assert!(matches!(shard.one(command), Outcome::Refused(Refusal::Malformed(_))), "{} bytes", bad.len());
    }
    for (window_ms, ok) in [(limits::DEDUP_WINDOW_MS_MAX, true), (limits::DEDUP_WINDOW_MS_MAX + 1, false)] {
        let dedup = Dedup { key: "long", by: DedupBy::Producer, fingerprint: 0, window_ms };
        let command = commands::publish(topic, 0, 1, &PublishHead { dedup: Some(dedup), ..PublishHead::default() });
        assert_eq!(matches!(shard.one(command), Outcome::Published(_)), ok, "{window_ms}");
    }
    shard.check_again();
}

#[test]
fn all_targets_of_a_message_share_its_fate() {
    let mut shard = Shard::with_group();
    shard.one(commands::put(Object::Topic { name: "other".into(), config: commands::topic_config(Some(1)) }));
    let topic = shard.topic();
    let other = shard.machine.state().topic(TENANT, "other").unwrap().id;
    let source = Some(Source { topic: topic.0, generation: 1 });
    // The first target is another topic; the key is one of the topic it was published to.
    let first = PublishHead { source, ..head("k", DedupBy::Producer, b"body") };
    let follower =
        |flags_of| flags(commands::publish(topic, 1, 1, &PublishHead::default()), FLAG_SAME_MESSAGE | flags_of);
    let unit = [flags(commands::publish(other, 0, 1, &first), FLAG_UNIT_CONTINUES), follower(0)];
    let outcomes = shard.entry(&unit).outcomes;
    assert_eq!(outcomes.iter().map(offset_of).collect::<Vec<_>>(), [0, 0]);
    let again = shard.entry(&unit).outcomes;
    assert_eq!(before(&again[0]).topic, other);
    assert_eq!(again[0], again[1]);
    assert_eq!(before(&shard.one(keyed(topic, 0, "k"))).topic, other, "also without a selector");
    assert_eq!(offset_of(&shard.one(keyed(other, 0, "k"))), 1, "another topic's key is another key");

    // In an atomic batch the next message is a message of its own.
    let batch = [
        flags(commands::publish(other, 0, 1, &first), FLAG_UNIT_CONTINUES),
        follower(FLAG_UNIT_CONTINUES),
        flags(commands::publish(topic, 1, 1, &PublishHead::default()), 0),
    ];
    let outcomes = shard.entry(&batch).outcomes;
    assert!(matches!(outcomes[..2], [Outcome::Duplicate(_), Outcome::Duplicate(_)]), "{outcomes:?}");
    assert_eq!(offset_of(&outcomes[2]), 1);

    let lone = flags(commands::publish(topic, 0, 1, &PublishHead::default()), FLAG_SAME_MESSAGE);
    assert!(matches!(shard.one(lone.clone()), Outcome::Refused(Refusal::Malformed(_))));
    let leading = shard.entry(&[flags(lone, FLAG_SAME_MESSAGE | FLAG_UNIT_CONTINUES), keyed(topic, 0, "z")]).outcomes;
    assert!(matches!(leading[0], Outcome::Refused(Refusal::Malformed(_))), "{leading:?}");
    let second = flags(keyed(topic, 0, "y"), FLAG_SAME_MESSAGE);
    let two_keys = shard.entry(&[flags(keyed(topic, 0, "x"), FLAG_UNIT_CONTINUES), second]).outcomes;
    assert!(matches!(two_keys[1], Outcome::Refused(Refusal::Malformed(_))), "{two_keys:?}");
    shard.check_again();
}

#[test]
fn past_the_topics_keys_a_new_one_is_refused_and_an_old_one_is_not() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    shard.one(keyed(topic, 0, "old"));
    let full = |shard: &mut Shard, rows: u64| {
        shard.rows.0.insert(table::dedup_count_key(TENANT, topic), table::encode(&rows));
        shard.machine = Machine::load(&shard.rows, SHARD).unwrap();
    };
    full(&mut shard, limits::DEDUP_KEYS_MAX - 1);
    assert_eq!(offset_of(&shard.one(keyed(topic, 0, "last"))), 1);
    assert_eq!(shard.one(keyed(topic, 0, "more")), Outcome::Refused(Refusal::TooManyKeys));
    assert!(matches!(shard.one(keyed(topic, 0, "old")), Outcome::Duplicate(_)));
    assert_eq!(offset_of(&shard.one(commands::publish(topic, 0, 1, &PublishHead::default()))), 2);

    full(&mut shard, limits::DEDUP_KEYS_MAX - 1);
    let unit = [flags(keyed(topic, 0, "a"), FLAG_UNIT_CONTINUES), keyed(topic, 0, "b")];
    let outcomes = shard.entry(&unit).outcomes;
    assert_eq!(outcomes[1], Outcome::Refused(Refusal::TooManyKeys), "a unit counts its own");

    full(&mut shard, limits::DEDUP_KEYS_MAX);
    shard.now = shard.now.plus_ms(WINDOW_MS);
    assert_eq!(offset_of(&shard.one(keyed(topic, 0, "more"))), 3, "as soon as one is not live any more");
}

#[test]
fn a_deleted_topic_forgets_its_keys_in_the_entries_that_follow() {
    let mut shard = Shard::with_group();
    let put = |name: &str| commands::put(Object::Topic { name: name.into(), config: commands::topic_config(Some(1)) });
    shard.one(put("gone"));
    let gone = shard.machine.state().topic(TENANT, "gone").unwrap().id;
    for entry in 0..3 {
        let keys: Vec<String> = (0..300).map(|i| format!("{entry}-{i}")).collect();
        shard.entry(&keys.iter().map(|key| keyed(gone, 0, key)).collect::<Vec<_>>());
    }
    assert_eq!(rows(&shard), [900, 6, 1]);
    shard.one(commands::delete(Target::Topic("gone".into())));
    let mut entries = 0;
    while rows(&shard) != [0, 0, 0] {
        let left = rows(&shard)[0];
        shard.entry(&[]);
        shard.reload();
        assert!(left - rows(&shard)[0] <= limits::DEDUP_SWEEP_ROWS_MAX);
        entries += 1;
        assert!(entries < 10);
    }
    assert_eq!(entries, 3, "some went with the topic");
    shard.one(put("gone"));
    let made_again = shard.machine.state().topic(TENANT, "gone").unwrap().id;
    assert_eq!(offset_of(&shard.one(keyed(made_again, 0, "0-0"))), 0);
    shard.reload();
    shard.check_again();
}

/// Runs `change` as if a command did it, in an entry of its own.
fn change(shard: &mut Shard, change: impl FnOnce(&mut Entry<'_>)) {
    let meta = shard.next_meta();
    let Machine { state, segment, fronts, .. } = &mut shard.machine;
    let mut entry = Entry::new(state, segment, fronts, &shard.rows, &meta);
    change(&mut entry);
    let applied = entry.apply(&Bytes::new()).unwrap();
    for (key, value) in applied.writes {
        match value {
            Some(value) => drop(shard.rows.0.insert(key, value)),
            None => drop(shard.rows.0.remove(&key)),
        }
    }
    shard.log.push((meta, Bytes::new()));
    shard.reload();
}

#[test]
fn a_half_messages_window_starts_with_its_commit_and_a_delayed_ones_with_its_publish() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let dedup = |key| Dedup { key, by: DedupBy::Producer, fingerprint: 7, window_ms: WINDOW_MS };
    let place = |shard: &Shard| Place { term: 3, index: shard.next_meta().index.0, ordinal: 0 };
    let id = |key| DedupId::new(topic, DedupBy::Producer, key);
    let reserve = |shard: &mut Shard, key, half| {
        change(shard, |entry| entry.reserve_for_test(TENANT, &dedup(key), topic, half));
    };
    let seen = |shard: &Shard, key| {
        Machine::remembered(&shard.rows, (TENANT, topic), DedupBy::Producer, key, shard.now)
            .unwrap()
            .map(|row| row.at())
    };
    let at = Some((QueueId(1), QueueOffset(5)));

    let half = place(&shard);
    reserve(&mut shard, "half", true);
    let delayed = place(&shard);
    reserve(&mut shard, "delayed", false);
    let cancelled = place(&shard);
    reserve(&mut shard, "cancelled", false);
    let rolled_back = place(&shard);
    reserve(&mut shard, "rolled back", true);
    assert_eq!(rows(&shard), [4, 2, 1], "nothing says when a half message is forgotten");
    assert_eq!(seen(&shard, "half"), Some(None), "a duplicate without an offset");

    shard.now = shard.now.plus_ms(WINDOW_MS - 1);
    let wrong = Place { index: 99, ..half };
    change(&mut shard, |entry| entry.dedup_forget(TENANT, id("half"), wrong).unwrap());
    change(&mut shard, |entry| entry.dedup_settle(TENANT, id("half"), wrong, topic, at).unwrap());
    assert_eq!(seen(&shard, "half"), Some(None), "of another message");
    change(&mut shard, |entry| entry.dedup_settle(TENANT, id("delayed"), delayed, topic, at).unwrap());
    change(&mut shard, |entry| entry.dedup_forget(TENANT, id("cancelled"), cancelled).unwrap());
    change(&mut shard, |entry| entry.dedup_forget(TENANT, id("rolled back"), rolled_back).unwrap());
    assert_eq!(
        (seen(&shard, "delayed"), seen(&shard, "cancelled"), seen(&shard, "rolled back")),
        (Some(at), None, None)
    );
    assert_eq!(rows(&shard), [2, 1, 1]);

    shard.now = shard.now.plus_ms(WINDOW_MS);
    assert_eq!((seen(&shard, "half"), seen(&shard, "delayed")), (Some(None), None));
    change(&mut shard, |entry| entry.dedup_settle(TENANT, id("half"), half, topic, at).unwrap());
    shard.now = shard.now.plus_ms(WINDOW_MS - 1);
    assert_eq!(seen(&shard, "half"), Some(at));
    shard.now = shard.now.plus_ms(1);
    assert_eq!(seen(&shard, "half"), None);
    shard.one(keyed(topic, 0, "next"));
    assert_eq!(rows(&shard), [1, 1, 1]);
}

#[test]
fn a_delayed_message_is_a_duplicate_before_and_after_its_delivery_and_not_once_cancelled() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let due = shard.now.plus_ms(WINDOW_MS / 2);
    let park = |key| {
        let head = PublishHead { park: Some(Park::Until(due.0)), ..head(key, DedupBy::Producer, b"body") };
        commands::publish(topic, 1, 1, &head).change(|header| header.kind = kind::PUBLISH_PARKED)
    };
    let place_of = |outcome: &Outcome| match outcome {
        Outcome::Parked(at) => at.place,
        other => panic!("{other:?}"),
    };
    let outcomes = shard.entry(&[park("k"), park("k"), park("cancelled"), keyed(topic, 0, "k")]).outcomes;
    let (place, cancelled) = (place_of(&outcomes[0]), place_of(&outcomes[2]));
    for duplicate in [&outcomes[1], &outcomes[3]] {
        assert_eq!((before(duplicate).place, before(duplicate).at), (place, None));
    }
    shard.one(Command::new(kind::TIMER_CHANGE, &TimerChange { place: cancelled, op: TimerOp::Cancel }));
    assert_eq!(offset_of(&shard.one(keyed(topic, 0, "cancelled"))), 0);

    shard.now = due;
    let origin = Some(Origin { place, cause: Cause::Timer });
    let fire = commands::publish(topic, 1, 1, &PublishHead { origin, ..head("k", DedupBy::Producer, b"body") })
        .change(|header| header.kind = kind::PUBLISH_FROM);
    assert_eq!(offset_of(&shard.one(fire)), 0);
    let after = before(&shard.one(keyed(topic, 0, "k")));
    assert_eq!((after.place, after.at, after.stored_at), (place, Some((QueueId(1), QueueOffset(0))), due));
    shard.now = due.plus_ms(WINDOW_MS / 2);
    assert_eq!(offset_of(&shard.one(keyed(topic, 0, "k"))), 1, "its window runs from the publish");
    shard.reload();
    shard.check_again();
}
