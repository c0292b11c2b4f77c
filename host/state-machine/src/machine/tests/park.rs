//! Parked messages: stored and invisible, visible once, by their time or by their commit.

use pointsman_model::record::{FLAG_UNIT_CONTINUES, kind};
use pointsman_model::{Generation, Ordinal, QueueId};
use proptest::prelude::*;

use super::*;
use crate::command::{
    Cause, CheckTable, CheckVia, Origin, Park, Place, PublishHead, TimerChange, TimerOp, TransactionMeta,
};
use crate::outcome::{ParkedAt, Refusal};

const DUE: u64 = 5_000;

fn parked(topic: TopicId, queue: u16, park: Park) -> Command {
    let transaction = matches!(park, Park::Half(_)).then(|| TransactionMeta {
        producer_group: "shop",
        key: None,
        fingerprint: 0,
        topic: topic.0,
        check: CheckTable { after_ms: 1, interval_ms: 1, max: 1, via: CheckVia::Producer },
        delays: Vec::new(),
    });
    let head = PublishHead { keys: vec!["k"], park: Some(park), transaction, ..PublishHead::default() };
    commands::publish(topic, queue, 1, &head).change(|header| header.kind = kind::PUBLISH_PARKED)
}

fn from(topic: TopicId, queue: u16, place: Place, cause: Cause) -> Command {
    let head = PublishHead { keys: vec!["k"], origin: Some(Origin { place, cause }), ..PublishHead::default() };
    commands::publish(topic, queue, 1, &head).change(|header| header.kind = kind::PUBLISH_FROM)
}

fn fire(topic: TopicId, place: Place) -> Command {
    from(topic, 0, place, Cause::Timer)
}

fn change(place: Place, op: TimerOp) -> Command {
    Command::new(kind::TIMER_CHANGE, &TimerChange { place, op })
}

fn part(command: Command) -> Command {
    command.change(|header| header.flags |= FLAG_UNIT_CONTINUES)
}

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}

impl Shard {
    fn park(&mut self, park: Park) -> ParkedAt {
        let topic = self.topic();
        match self.one(parked(topic, 0, park)) {
            Outcome::Parked(at) => at,
            other => panic!("{other:?}"),
        }
    }

    fn due(&self) -> Vec<(u64, u64)> {
        let due = self.machine.timers_due(&self.rows, self.now, 100).unwrap();
        due.iter().map(|timer| (timer.due.0, timer.index.0)).collect()
    }

    fn rows_of(&self, table: u8) -> usize {
        self.rows.0.keys().filter(|key| key[0] == table).count()
    }

    fn check_all(&mut self) {
        self.reload();
        self.check_again();
        let timers: u64 = self.machine.state().timers.values().sum();
        assert_eq!(timers, self.rows_of(table::TIMER) as u64);
    }
}

#[test]
fn a_delayed_message_is_invisible_until_its_time_and_then_keeps_its_id() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let at = shard.park(Park::Until(DUE));
    assert_eq!((at.topic, at.queue, at.deliver_at, at.stored_at), (topic, QueueId(0), Some(Timestamp(DUE)), shard.now));
    assert_eq!(shard.machine.state().ends(topic, QueueId(0)).latest, 0);
    assert_eq!((shard.queue.len(), shard.keys.len()), (0, 0));
    assert_eq!(shard.machine.next_timer(&shard.rows).unwrap(), Some(Timestamp(DUE)));
    let row = shard.machine.parked(&shard.rows, TENANT, LogIndex(at.place.index), Ordinal(0)).unwrap().unwrap();
    let (meta, records) = shard.log.last().unwrap();
    let entry = row.entry();
    assert_eq!(entry.position.0, meta.position.0 + FRAME_HEADER_BYTES);
    assert_eq!((entry.length as usize, entry.term, entry.index), (records.len(), meta.term, meta.index));
    shard.check_all();

    shard.now = Timestamp(DUE - 1);
    assert_eq!(shard.due(), []);
    assert_eq!(shard.one(fire(topic, at.place)), refused(Refusal::SourceClosed), "never early");
    shard.now = Timestamp(DUE);
    assert_eq!(shard.due(), [(DUE, at.place.index)]);
    let Outcome::Published(visible) = shard.one(fire(topic, at.place)) else { panic!("visible now") };
    assert_eq!((visible.offset.0, visible.stored_at), (0, Timestamp(DUE)));
    assert_eq!((shard.queue.len(), shard.keys.len()), (1, 1));
    let moved = shard.machine.moved(&shard.rows, TENANT, LogIndex(at.place.index), Ordinal(0)).unwrap().unwrap();
    assert_eq!((moved.parked_term, moved.at()), (at.place.term, (topic, QueueId(0), visible.offset)));
    assert_eq!((moved.place.index, moved.place.ordinal), (visible.index.0, visible.ordinal.0));
    assert_eq!((shard.due(), shard.machine.next_timer(&shard.rows).unwrap()), (vec![], None));
    assert_eq!(shard.machine.parked(&shard.rows, TENANT, LogIndex(at.place.index), Ordinal(0)).unwrap(), None);

    assert_eq!(shard.one(fire(topic, at.place)), refused(Refusal::SourceClosed), "once");
    for op in [TimerOp::Cancel, TimerOp::Due(DUE * 2)] {
        assert_eq!(shard.one(change(at.place, op)), refused(Refusal::AlreadyDelivered));
    }
    shard.check_all();
}

#[test]
fn a_timer_is_cancelled_or_due_at_another_time() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let (first, second) = (shard.park(Park::Until(DUE)), shard.park(Park::Until(DUE + 1)));
    let due = |deliver_at: Option<u64>| Outcome::TimerChanged { deliver_at: deliver_at.map(Timestamp) };
    assert_eq!(shard.one(change(second.place, TimerOp::Due(DUE - 1))), due(Some(DUE - 1)));
    assert_eq!(shard.machine.next_timer(&shard.rows).unwrap(), Some(Timestamp(DUE - 1)));
    assert_eq!(shard.one(change(first.place, TimerOp::Cancel)), due(None));
    assert_eq!(shard.one(change(first.place, TimerOp::Cancel)), refused(Refusal::NotScheduled));

    shard.now = Timestamp(DUE + 10);
    assert_eq!(shard.due(), [(DUE - 1, second.place.index)]);
    assert_eq!(shard.one(fire(topic, first.place)), refused(Refusal::SourceClosed), "cancelled between read and fire");
    assert_eq!(shard.one(change(second.place, TimerOp::Due(DUE + 11))), due(Some(DUE + 11)));
    assert_eq!(shard.one(fire(topic, second.place)), refused(Refusal::SourceClosed), "due later since");
    shard.now = Timestamp(DUE + 11);
    assert!(matches!(shard.one(fire(topic, second.place)), Outcome::Published(_)));

    let other = Place { term: second.place.term + 1, ..second.place };
    for place in [other, Place { ordinal: 9, ..second.place }, Place { index: 99, ..second.place }] {
        assert_eq!(shard.one(change(place, TimerOp::Cancel)), refused(Refusal::NotScheduled));
        assert_eq!(shard.one(fire(topic, place)), refused(Refusal::SourceClosed));
    }
    let third = shard.park(Park::Until(DUE));
    let stranger = |command: Command| command.change(|header| header.tenant.0 += 1);
    assert_eq!(shard.one(stranger(change(third.place, TimerOp::Cancel))), refused(Refusal::NotScheduled));
    assert_eq!(shard.due().len(), 1);
    shard.check_all();
}

#[test]
fn a_half_waits_for_its_commit_and_for_no_time() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let half = shard.park(Park::Half(0));
    assert_eq!((half.deliver_at, shard.machine.next_timer(&shard.rows).unwrap()), (None, None));
    shard.now = Timestamp(u64::MAX - 1);
    assert_eq!(shard.one(fire(topic, half.place)), refused(Refusal::SourceClosed));
    assert_eq!(shard.one(change(half.place, TimerOp::Cancel)), refused(Refusal::NotScheduled));
    let delayed = shard.park(Park::Until(1));
    assert_eq!(shard.one(from(topic, 0, delayed.place, Cause::Commit)), refused(Refusal::SourceClosed));
    let alone = shard.one(from(topic, 0, half.place, Cause::Commit));
    assert!(matches!(alone, Outcome::Refused(Refusal::Malformed(_))), "{alone:?}");
    shard.check_all();
}

#[test]
fn a_source_becomes_one_message_also_within_a_unit() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let (first, second) = (shard.park(Park::Until(1)), shard.park(Park::Until(1)));
    let outcomes = shard.entry(&[part(fire(topic, first.place)), fire(topic, first.place)]).outcomes;
    assert_eq!(outcomes, [refused(Refusal::UnitRefused), refused(Refusal::SourceClosed)]);
    let outcomes = shard.entry(&[part(fire(topic, first.place)), fire(topic, second.place)]).outcomes;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Published(_))), "{outcomes:?}");
    let outcomes = shard.entry(&[part(parked(topic, 0, Park::Until(1))), parked(topic, 9, Park::Until(1))]).outcomes;
    assert_eq!(outcomes[0], refused(Refusal::UnitRefused));
    assert_eq!((shard.due(), shard.rows_of(table::PARKED)), (vec![], 0));
    shard.check_all();
}

#[test]
fn a_kind_carries_only_what_is_its_own() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let at = shard.park(Park::Until(1));
    let kind = |command: Command, kind| command.change(|header| header.kind = kind);
    let park = Park::Until(DUE);
    for bad in [
        kind(parked(topic, 0, park), kind::PUBLISH),
        kind(parked(topic, 0, park), kind::PUBLISH_FROM),
        kind(fire(topic, at.place), kind::PUBLISH),
        kind(fire(topic, at.place), kind::PUBLISH_PARKED),
        kind(commands::publish(topic, 0, 1, &PublishHead::default()), kind::PUBLISH_PARKED),
        kind(commands::publish(topic, 0, 1, &PublishHead::default()), kind::PUBLISH_FROM),
        parked(topic, 0, Park::Half(1)),
    ] {
        let outcome = shard.one(bad);
        assert!(matches!(outcome, Outcome::Refused(Refusal::Malformed(_))), "{outcome:?}");
    }
    let stale = parked(topic, 0, park).change(|header| header.generation = Generation(9));
    assert_eq!(shard.one(stale), refused(Refusal::Stale(Generation(1))));
    let stale = fire(topic, at.place).change(|header| header.generation = Generation(9));
    assert_eq!(shard.one(stale), refused(Refusal::Stale(Generation(1))));
    assert!(matches!(shard.one(fire(topic, at.place)), Outcome::Published(_)));
    shard.check_all();
}

#[test]
fn a_topic_takes_what_is_parked_in_it_along() {
    let mut shard = Shard::with_group();
    shard.one(commands::put(Object::Topic { name: "other".into(), config: commands::topic_config(Some(1)) }));
    let other = shard.machine.state().topic(TENANT, "other").unwrap().id;
    let kept = shard.park(Park::Until(DUE));
    let gone: Vec<_> = (0..3).map(|_| shard.one(parked(other, 0, Park::Until(DUE)))).collect();
    assert_eq!(shard.one(commands::delete(Target::Topic("other".into()))), Outcome::Deleted);
    shard.now = Timestamp(DUE);
    assert_eq!((shard.due(), shard.rows_of(table::PARKED)), (vec![(DUE, kept.place.index)], 1));
    let Outcome::Parked(at) = gone[0] else { panic!("{gone:?}") };
    let not_found = Refusal::TopicNotFound(String::new());
    assert_eq!(shard.one(fire(other, at.place)), refused(not_found));
    assert_eq!(shard.one(change(at.place, TimerOp::Cancel)), refused(Refusal::NotScheduled));
    shard.check_all();
}

#[derive(Clone, Debug)]
enum Act {
    Park(u64),
    Fire(usize),
    Change(usize, Option<u64>),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0_u64..40).prop_map(Act::Park),
        4 => (0_usize..12).prop_map(Act::Fire),
        2 => (0_usize..12, prop::option::of(0_u64..40)).prop_map(|(i, due)| Act::Change(i, due)),
    ]
}

proptest! {
    /// Against a list: each message is visible at most once, never early, and what waits is listed in order.
    #[test]
    fn what_is_parked_is_visible_once_and_never_early(acts in prop::collection::vec((act(), 0_u64..6), 1..80)) {
        let mut shard = Shard::with_group();
        shard.now = Timestamp(0);
        let topic = shard.topic();
        // Place, due time while it waits, delivered.
        let mut known: Vec<(Place, Option<u64>, bool)> = Vec::new();
        for (act, passed) in acts {
            shard.now = shard.now.plus_ms(passed);
            let now = shard.now.0;
            match act {
                Act::Park(due) => known.push((shard.park(Park::Until(due)).place, Some(due), false)),
                Act::Fire(i) => {
                    let Some((place, due, delivered)) = known.get_mut(i) else { continue };
                    let visible = matches!(shard.one(fire(topic, *place)), Outcome::Published(_));
                    prop_assert_eq!(visible, due.is_some_and(|due| due <= now));
                    if visible {
                        (*due, *delivered) = (None, true);
                    }
                }
                Act::Change(i, to) => {
                    let Some((place, due, delivered)) = known.get_mut(i) else { continue };
                    let outcome = shard.one(change(*place, to.map_or(TimerOp::Cancel, TimerOp::Due)));
                    let expected = match (due.is_some(), *delivered) {
                        (true, _) => Outcome::TimerChanged { deliver_at: to.map(Timestamp) },
                        (false, true) => refused(Refusal::AlreadyDelivered),
                        (false, false) => refused(Refusal::NotScheduled),
                    };
                    prop_assert_eq!(outcome, expected);
                    if due.is_some() {
                        *due = to;
                    }
                }
            }
            let mut waiting: Vec<_> =
                known.iter().filter_map(|(place, due, _)| due.map(|due| (due, place.index))).collect();
            waiting.sort_unstable();
            let listed = shard.machine.timers(&shard.rows, TENANT, None, 100).unwrap();
            prop_assert_eq!(listed.iter().map(|t| (t.due.0, t.index.0)).collect::<Vec<_>>(), waiting.clone());
            waiting.retain(|(due, _)| *due <= now);
            prop_assert_eq!(shard.due(), waiting);
        }
        shard.check_all();
    }
}
