//! Transactions: invisible until one word ends them, and that word counts once.

mod property;

use pointsman_model::limits::TRANSACTION_KEPT_MS;
use pointsman_model::record::{FLAG_UNIT_CONTINUES, kind};
use pointsman_model::{Generation, MessageId, Ordinal, QueueId};

use super::*;
use crate::command::{
    Cause, CheckTable, CheckVia, Delay, Judged, Origin, Park, Place, PublishHead, ResolvedBy, TransactionChecked,
    TransactionMeta, TransactionResolve, TransactionVerdict,
};
use crate::outcome::Refusal;
use crate::state::{Part, Transaction, TransactionState};

const CHECK: CheckTable = CheckTable { after_ms: 6_000, interval_ms: 30_000, max: 2, via: CheckVia::Producer };
const COMMIT: TransactionVerdict = TransactionVerdict::Commit;
const ROLLBACK: TransactionVerdict = TransactionVerdict::Rollback;
const EXPIRE: TransactionVerdict = TransactionVerdict::Expire;
const PRODUCER: ResolvedBy = ResolvedBy::Producer;

/// What a transaction of a test is made of.
#[derive(Clone, Default)]
struct Ask {
    queues: Vec<u16>,
    name: Option<&'static str>,
    fingerprint: u128,
    delays: Vec<(u16, Delay)>,
}

fn ask(queues: &[u16]) -> Ask {
    Ask { queues: queues.to_vec(), ..Ask::default() }
}

fn continues(command: Command, more: bool) -> Command {
    command.change(|header| header.flags = if more { FLAG_UNIT_CONTINUES } else { 0 })
}

/// The halves of a transaction.
fn halves(topic: TopicId, ask: &Ask) -> Vec<Command> {
    let record = |(i, queue): (usize, &u16)| {
        let meta = || TransactionMeta {
            producer_group: "shop",
            key: ask.name,
            fingerprint: ask.fingerprint,
            topic: topic.0,
            check: CHECK,
            delays: ask.delays.clone(),
        };
        let head = PublishHead {
            keys: vec!["k"],
            park: Some(Park::Half(i as u16)),
            transaction: (i == 0).then(meta),
            ..PublishHead::default()
        };
        let command = commands::publish(topic, *queue, 1, &head).change(|header| header.kind = kind::PUBLISH_PARKED);
        continues(command, i + 1 < ask.queues.len())
    };
    ask.queues.iter().enumerate().map(record).collect()
}

fn resolve(place: Place, verdict: TransactionVerdict, by: ResolvedBy) -> Command {
    let transaction = (place.index, place.ordinal);
    Command::new(kind::TRANSACTION_RESOLVE, &TransactionResolve { transaction, verdict, by })
}

fn check(place: Place, attempt: u16, wait_ms: u64) -> Command {
    let transaction = (place.index, place.ordinal);
    Command::new(kind::TRANSACTION_CHECKED, &TransactionChecked { transaction, attempt, wait_ms })
}

fn visible(topic: TopicId, queue: u16, place: Place) -> Command {
    let origin = Some(Origin { place, cause: Cause::Commit });
    let head = PublishHead { keys: vec!["k"], origin, ..PublishHead::default() };
    commands::publish(topic, queue, 1, &head).change(|header| header.kind = kind::PUBLISH_FROM)
}

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}

impl Shard {
    fn prepare(&mut self, ask: &Ask) -> Place {
        let outcomes = self.entry(&halves(self.topic(), ask)).outcomes;
        match outcomes[0] {
            Outcome::Parked(at) => at.place,
            ref other => panic!("{other:?}"),
        }
    }

    fn read(&self, place: Place) -> Transaction {
        self.machine.transaction(&self.rows, TENANT, LogIndex(place.index), Ordinal(place.ordinal)).unwrap().unwrap()
    }

    /// The unit that a leader proposes for a commit.
    fn commit_of(&self, place: Place, by: ResolvedBy) -> Vec<Command> {
        let transaction = self.read(place);
        let parts = self.machine.transaction_parts(&self.rows, TENANT, &transaction).unwrap();
        let mut unit = vec![resolve(place, COMMIT, by)];
        for part in parts {
            if let Part::Parked(parked) = part
                && transaction.delay(parked.place.ordinal).is_none()
                && matches!(parked.park, Park::Half(_))
            {
                unit.push(visible(TopicId(parked.topic), parked.queue, parked.place));
            }
        }
        let last = unit.len() - 1;
        unit.into_iter().enumerate().map(|(i, command)| continues(command, i < last)).collect()
    }

    fn commit(&mut self, place: Place) -> Outcome {
        self.entry(&self.commit_of(place, PRODUCER)).outcomes.remove(0)
    }

    fn latest(&self) -> [u64; 2] {
        [0, 1].map(|queue| self.machine.state().ends(self.topic(), QueueId(queue)).latest)
    }

    fn counts(&self) -> [u64; 4] {
        self.machine.state().transactions[&TENANT].by_state
    }

    fn rows_in(&self, tables: &[u8]) -> usize {
        self.rows.0.keys().filter(|key| tables.contains(&key[0])).count()
    }

    fn check_transactions(&mut self) {
        self.reload();
        self.check_again();
        let all = self.machine.transactions(&self.rows, TENANT, None, None, 1_000).unwrap();
        let mut counts = [0; 4];
        for transaction in &all {
            counts[transaction.state as usize] += 1;
        }
        assert_eq!(self.counts(), counts);
        for state in TransactionState::ALL {
            let listed = self.machine.transactions(&self.rows, TENANT, Some(state), None, 1_000).unwrap();
            assert_eq!(listed.len() as u64, counts[state as usize], "{state:?}");
            assert!(listed.iter().all(|transaction| transaction.state == state));
        }
        let prepared = counts[TransactionState::Prepared as usize] as usize;
        assert_eq!(self.rows_in(&[table::TRANSACTION_DUE]), prepared);
    }
}

fn done(place: Place, state: TransactionState, repeated: bool) -> Outcome {
    Outcome::Resolved { place, state, repeated }
}

#[test]
fn a_commit_makes_all_parts_visible_in_one_entry_and_twice_is_once() {
    let mut shard = Shard::with_group();
    let place = shard.prepare(&ask(&[0, 1, 0]));
    assert_eq!((shard.latest(), shard.queue.len(), shard.keys.len()), ([0, 0], 0, 0), "invisible");
    shard.check_transactions();
    let outcomes = shard.entry(&shard.commit_of(place, PRODUCER)).outcomes;
    assert_eq!(outcomes[0], done(place, TransactionState::Committed, false));
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Published(_))).count(), 3);
    assert_eq!((shard.latest(), shard.keys.len()), ([2, 1], 3));
    for ordinal in 0..3 {
        let moved = shard.machine.moved(&shard.rows, TENANT, LogIndex(place.index), Ordinal(ordinal)).unwrap().unwrap();
        assert_eq!((moved.parked_term, moved.place.index), (place.term, place.index + 1), "the id leads there");
    }
    assert_eq!(shard.one(resolve(place, COMMIT, PRODUCER)), done(place, TransactionState::Committed, true));
    let stale = [continues(resolve(place, COMMIT, PRODUCER), true), visible(shard.topic(), 0, place)];
    let outcomes = shard.entry(&stale).outcomes;
    assert_eq!(outcomes, [done(place, TransactionState::Committed, true), refused(Refusal::UnitRefused)]);
    let opposite = refused(Refusal::TransactionResolved(TransactionState::Committed));
    assert_eq!(shard.one(resolve(place, ROLLBACK, PRODUCER)), opposite);
    assert_eq!(shard.one(resolve(place, ROLLBACK, ResolvedBy::Operator)), opposite, "nobody overrules a commit");
    assert_eq!((shard.latest(), shard.counts()), ([2, 1], [0, 1, 0, 0]));
    assert_eq!(shard.rows_in(&[table::PARKED]), 0);
    shard.check_transactions();
}

#[test]
fn a_rollback_is_final_and_leaves_nothing_to_see() {
    let mut shard = Shard::with_group();
    let place = shard.prepare(&ask(&[0, 1]));
    let commit = shard.commit_of(place, PRODUCER);
    assert_eq!(shard.one(resolve(place, ROLLBACK, PRODUCER)), done(place, TransactionState::RolledBack, false));
    assert_eq!(shard.one(resolve(place, ROLLBACK, PRODUCER)), done(place, TransactionState::RolledBack, true));
    let outcomes = shard.entry(&commit).outcomes;
    assert_eq!(outcomes[0], refused(Refusal::TransactionResolved(TransactionState::RolledBack)));
    assert_eq!((shard.latest(), shard.rows_in(&[table::PARKED])), ([0, 0], 0));
    let nobody = Place { index: 99, ..place };
    assert_eq!(shard.one(resolve(nobody, ROLLBACK, PRODUCER)), refused(Refusal::TransactionNotFound));
    let foreign = resolve(place, ROLLBACK, PRODUCER).change(|header| header.tenant.0 += 1);
    assert_eq!(shard.one(foreign), refused(Refusal::TransactionNotFound));
    shard.check_transactions();
}

#[test]
fn a_commit_of_other_parts_than_all_is_refused_and_changes_nothing() {
    let mut shard = Shard::with_group();
    let place = shard.prepare(&ask(&[0, 1]));
    let other = shard.prepare(&ask(&[0]));
    let topic = shard.topic();
    let second = Place { ordinal: 1, ..place };
    let verdict = || continues(resolve(place, COMMIT, PRODUCER), true);
    let more = |command| continues(command, true);
    let closed = || refused(Refusal::SourceClosed);
    for (unit, expected) in [
        (vec![resolve(place, COMMIT, PRODUCER)], closed()),
        (vec![verdict(), visible(topic, 0, place)], closed()),
        (vec![verdict(), more(visible(topic, 0, place)), visible(topic, 0, place)], closed()),
        (vec![verdict(), more(visible(topic, 0, place)), visible(topic, 0, other)], closed()),
        (
            vec![verdict(), more(visible(topic, 0, place)), more(visible(topic, 1, second)), visible(topic, 0, other)],
            closed(),
        ),
        (
            vec![verdict(), more(visible(topic, 0, place)), visible(topic, 9, second)],
            refused(Refusal::QueueNotFound(QueueId(9))),
        ),
        (
            vec![
                verdict(),
                more(visible(topic, 0, place)),
                visible(topic, 1, second).change(|header| header.generation = Generation(7)),
            ],
            refused(Refusal::Stale(Generation(1))),
        ),
    ] {
        let outcomes = shard.entry(&unit).outcomes;
        assert_eq!(outcomes[0], expected);
        assert!(outcomes[1..].iter().all(|outcome| *outcome == refused(Refusal::UnitRefused)), "{outcomes:?}");
    }
    let malformed = |outcome: &Outcome| matches!(outcome, Outcome::Refused(Refusal::Malformed(_)));
    assert!(malformed(&shard.one(visible(topic, 0, place))), "no commit without a verdict");
    let cut = shard.entry(&[verdict(), more(visible(topic, 0, place))]).outcomes;
    assert!(malformed(&cut[0]), "the entry ends within the unit");
    let mixed = shard.entry(&[verdict(), commands::publish(topic, 0, 1, &PublishHead::default())]).outcomes;
    assert!(malformed(&mixed[0]));
    assert_eq!((shard.latest(), shard.read(place).state), ([0, 0], TransactionState::Prepared));
    assert_eq!(shard.commit(place), done(place, TransactionState::Committed, false));
    assert_eq!(shard.latest(), [1, 1]);
    shard.check_transactions();
}

#[test]
fn halves_are_one_whole_transaction_or_nothing() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let half = |behind: u16, transaction: bool| {
        let mut command = halves(topic, &ask(&[0])).remove(0);
        let mut head: PublishHead<'_> = postcard::from_bytes(&command.head).unwrap();
        head.park = Some(Park::Half(behind));
        head.transaction = head.transaction.filter(|_| transaction);
        command.head = postcard::to_stdvec(&head).unwrap();
        command
    };
    let message = || commands::publish(topic, 0, 1, &PublishHead::default());
    let more = |command| continues(command, true);
    for unit in [
        vec![half(0, false)],
        vec![message(), half(0, false)],
        vec![more(half(0, true)), message()],
        vec![more(half(0, true)), half(0, false)],
        vec![more(half(0, true)), half(1, true)],
        vec![more(half(0, true)), half(2, false)],
        vec![message(), half(1, true)],
        halves(topic, &Ask { delays: vec![(5, Delay::For(1))], ..ask(&[0]) }),
    ] {
        let outcomes = shard.entry(&unit).outcomes;
        let found = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(Refusal::Malformed(_))));
        assert!(found, "{outcomes:?}");
    }
    let outcomes = shard.entry(&halves(topic, &ask(&[0, 7]))).outcomes;
    assert_eq!(outcomes, [refused(Refusal::UnitRefused), refused(Refusal::QueueNotFound(QueueId(7)))]);
    assert_eq!(shard.rows_in(&[table::PARKED, table::TRANSACTION]), 0);
    shard.reload();
    shard.check_again();
}

#[test]
fn a_name_finds_what_was_prepared_under_it() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let named = Ask { name: Some("order-1"), fingerprint: 7, ..ask(&[0, 1]) };
    let place = shard.prepare(&named);
    let again = |state| refused(Refusal::TransactionExists { place, state });
    assert_eq!(shard.entry(&halves(topic, &named)).outcomes[0], again(TransactionState::Prepared));
    let other = Ask { fingerprint: 8, ..named.clone() };
    assert_eq!(shard.entry(&halves(topic, &other)).outcomes[0], refused(Refusal::NameTaken));
    shard.commit(place);
    assert_eq!(shard.entry(&halves(topic, &named)).outcomes[0], again(TransactionState::Committed));
    let found = shard.machine.transaction_by_name(&shard.rows, TENANT, topic, "order-1").unwrap();
    assert_eq!(found.map(|found| found.place), Some(place));
    let twice = || halves(topic, &Ask { name: Some("a"), ..ask(&[0]) });
    let two = [twice(), twice()].concat();
    let outcomes = shard.entry(&two).outcomes;
    assert!(
        matches!(outcomes[0], Outcome::Parked(_))
            && matches!(outcomes[1], Outcome::Refused(Refusal::TransactionExists { .. }))
    );
    shard.check_transactions();
}

#[test]
fn delays_run_from_the_commit() {
    let mut shard = Shard::with_group();
    let delays = vec![(0, Delay::For(500)), (2, Delay::Until(9_000))];
    let place = shard.prepare(&Ask { delays, ..ask(&[0, 1, 0]) });
    shard.now = Timestamp(2_000);
    assert_eq!(shard.commit(place), done(place, TransactionState::Committed, false));
    assert_eq!(shard.latest(), [0, 1]);
    let due: Vec<_> =
        shard.machine.timers(&shard.rows, TENANT, None, 9).unwrap().iter().map(|t| (t.due.0, t.ordinal.0)).collect();
    assert_eq!(due, [(2_500, 0), (9_000, 2)]);
    shard.check_transactions();

    let all = Ask { delays: vec![(0, Delay::For(1))], ..ask(&[0]) };
    let place = shard.prepare(&all);
    assert_eq!(shard.commit(place), done(place, TransactionState::Committed, false), "a verdict alone is enough");
    assert_eq!(shard.machine.state().timers[&TENANT], 3);
    shard.check_transactions();
}

#[test]
fn the_timetable_ends_in_expiry_and_an_operator_may_overrule_it_for_three_days() {
    let mut shard = Shard::with_group();
    let start = shard.now.0;
    let (late, kept) = (shard.prepare(&ask(&[0])), shard.prepare(&ask(&[1])));
    assert_eq!(shard.one(check(late, 1, 30_000)), refused(Refusal::NotDue), "not yet");
    shard.now = Timestamp(start + 5_999);
    assert_eq!(shard.machine.transactions_due(&shard.rows, shard.now, 9).unwrap(), []);
    shard.now = Timestamp(start + 6_000);
    assert_eq!(shard.machine.transactions_due(&shard.rows, shard.now, 9).unwrap().len(), 2);
    for place in [late, kept] {
        assert_eq!(shard.one(check(place, 2, 30_000)), refused(Refusal::NotDue), "the first comes first");
        assert_eq!(shard.one(check(place, 1, 30_000)), Outcome::Checked);
        assert_eq!(shard.one(check(place, 1, 30_000)), Outcome::Checked, "the same again with another wait");
    }
    assert_eq!(shard.one(resolve(late, EXPIRE, ResolvedBy::Timetable)), refused(Refusal::NotDue));
    shard.now = Timestamp(start + 36_000);
    for place in [late, kept] {
        assert_eq!(shard.one(check(place, 2, 30_000)), Outcome::Checked);
        assert_eq!(shard.one(check(place, 3, 30_000)), refused(Refusal::NotDue), "two were asked for");
    }
    shard.now = Timestamp(start + 66_000);
    for place in [late, kept] {
        assert_eq!(shard.one(check(place, 3, 30_000)), refused(Refusal::NotDue), "two were asked for");
        let expired = done(place, TransactionState::Expired, false);
        assert_eq!(shard.one(resolve(place, EXPIRE, ResolvedBy::Timetable)), expired);
    }
    let counts = shard.machine.state().transactions[&TENANT];
    assert_eq!((counts.by_state, counts.discarded, counts.checks), ([0, 0, 0, 2], 2, 4));
    shard.check_transactions();

    let too_late = refused(Refusal::TransactionResolved(TransactionState::Expired));
    assert_eq!(shard.commit(late), too_late);
    shard.now = Timestamp(start + 66_000 + TRANSACTION_KEPT_MS);
    let unit = shard.commit_of(late, ResolvedBy::Operator);
    assert_eq!(shard.entry(&unit).outcomes[0], done(late, TransactionState::Committed, false));
    assert_eq!(shard.latest(), [1, 0]);
    shard.now.0 += 1;
    assert_eq!(shard.entry(&shard.commit_of(kept, ResolvedBy::Operator)).outcomes[0], too_late);
    shard.check_transactions();
}

#[test]
fn a_plugins_verdict_is_fenced_by_its_topics_generation() {
    let mut shard = Shard::with_group();
    let (topic, place) = (shard.topic(), shard.prepare(&ask(&[0])));
    let by = ResolvedBy::Plugin(Judged { binding: 1, generation: 1 });
    let of = |generation| {
        resolve(place, ROLLBACK, by).change(|header| {
            header.topic = topic;
            header.generation = Generation(generation);
        })
    };
    assert_eq!(shard.one(of(2)), refused(Refusal::Stale(Generation(1))));
    assert!(matches!(shard.one(resolve(place, ROLLBACK, by)), Outcome::Refused(Refusal::Malformed(_))));
    assert_eq!(shard.one(of(1)), done(place, TransactionState::RolledBack, false));
    assert_eq!(shard.read(place).resolved_by, Some(by));
}

#[test]
fn a_prepared_transaction_keeps_its_topics() {
    let mut shard = Shard::with_group();
    shard.one(commands::put(Object::Topic { name: "other".into(), config: commands::topic_config(Some(1)) }));
    let place = {
        let other = shard.machine.state().topic(TENANT, "other").unwrap().id;
        let mut unit = halves(shard.topic(), &ask(&[0, 0]));
        unit[1].header.topic = other;
        shard.entry(&unit);
        Place { term: 3, index: shard.log.len() as u64, ordinal: 0 }
    };
    let id = MessageId { shard: SHARD, term: Term(3), index: LogIndex(place.index), ordinal: Ordinal(0) };
    let users = vec![pointsman_model::TransactionId(id).to_string()];
    assert_eq!(shard.one(commands::delete(Target::Topic("other".into()))), refused(Refusal::InUse(users)));
    shard.one(resolve(place, ROLLBACK, PRODUCER));
    assert_eq!(shard.one(commands::delete(Target::Topic("other".into()))), Outcome::Deleted);
    shard.check_transactions();
}

#[test]
fn old_transactions_are_forgotten_by_the_new_ones() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    for _ in 0..10 {
        let place = shard.prepare(&Ask { name: None, ..ask(&[0]) });
        shard.commit(place);
    }
    let named = shard.prepare(&Ask { name: Some("n"), ..ask(&[0]) });
    shard.one(resolve(named, ROLLBACK, PRODUCER));
    shard.now.0 += TRANSACTION_KEPT_MS + 1;
    shard.prepare(&ask(&[0]));
    assert_eq!(shard.counts(), [1, 8, 0, 0], "two of each state");
    let four: Vec<_> = (0..4).flat_map(|_| halves(topic, &ask(&[0]))).collect();
    shard.entry(&four);
    assert_eq!(shard.counts(), [5, 0, 0, 0], "each of an entry's forgets others");
    assert_eq!(shard.rows_in(&[table::TRANSACTION]), 5);
    assert_eq!(shard.rows_in(&[table::TRANSACTION_NAME]), 0);
    shard.check_transactions();
}
