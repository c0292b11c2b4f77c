//! What a group gives up, what comes of it, and seeks: settled in `apply`, whoever races.

use pointsman_model::record::kind;
use pointsman_model::{Generation, GroupId, QueueId, QueueOffset};

use super::*;
use crate::command::{
    AttemptEnd, Cause, DeadLetterChange, DeadLetterOp, DecidedBy, Decision, GroupConfig, Judged, Origin, Place,
    PublishHead, RecordRef, Seek, SeekMove, Settle, SettleItem, SettleOp,
};
use crate::outcome::{LetterFate, Refusal, Settlement};
use crate::state::{DeadLetter, DeadReason};

const GROUP: u32 = 1;
const QUEUE: u16 = 0;

/// A group of so many retries with messages; dead letters are kept for a second.
fn shard(max_retries: u16, messages: usize) -> (Shard, TopicId) {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let config = GroupConfig { max_retries, dlq_retention_ms: 1_000, ..commands::group_config(&["orders"]) };
    shard.one(commands::put(Object::Group { name: "workers".into(), config }));
    let publish = commands::publish(topic, QUEUE, 1, &PublishHead::default());
    for _ in 0..messages {
        shard.one(publish.clone());
    }
    (shard, topic)
}

/// Where the message of an offset lies: each has its own entry, from the fifth on.
fn place(offset: u64) -> Place {
    Place { term: 3, index: 5 + offset, ordinal: 0 }
}

fn nack(topic: TopicId, offset: u64, attempt: u16, decision: Decision, by: DecidedBy) -> Command {
    let record = RecordRef { place: place(offset), ..RecordRef::default() };
    let end = AttemptEnd { decision, by, record, reason: Some("no".into()), ..AttemptEnd::default() };
    let items = vec![SettleItem { lease: commands::lease(topic, QUEUE, offset, attempt), op: SettleOp::Nack(end) }];
    Command::new(kind::SETTLE, &Settle { group: GROUP, revision: u64::MAX, items })
}

fn again(topic: TopicId, offset: u64, attempt: u16) -> Command {
    nack(topic, offset, attempt, Decision::Again { delay_ms: 10 }, DecidedBy::Consumer)
}

fn settled(outcome: Outcome) -> Settlement {
    match outcome {
        Outcome::Settled(settlements) => settlements[0],
        other => panic!("{other:?}"),
    }
}

fn change(op: DeadLetterOp, offsets: &[u64]) -> Command {
    let letters = offsets.iter().map(|offset| (place(*offset).index, 0)).collect();
    Command::new(kind::DEAD_LETTER_CHANGE, &DeadLetterChange { group: GROUP, letters, op })
}

fn fates(outcome: Outcome) -> Vec<LetterFate> {
    match outcome {
        Outcome::DeadLetters(fates) => fates,
        other => panic!("{other:?}"),
    }
}

fn letter(shard: &Shard, offset: u64) -> Option<DeadLetter> {
    shard.machine.dead_letter(&shard.rows, GroupId(GROUP), (place(offset).index, 0)).unwrap()
}

#[test]
fn past_the_last_attempt_whatever_was_decided_is_a_dead_letter() {
    for max_retries in [0, 1, 16] {
        let (mut shard, topic) = shard(max_retries, 1);
        for attempt in 1..=max_retries {
            assert_eq!(settled(shard.one(again(topic, 0, attempt))), Settlement::Settled, "{attempt}");
        }
        assert_eq!(settled(shard.one(again(topic, 0, max_retries + 1))), Settlement::DeadLettered);
        let dead = letter(&shard, 0).unwrap();
        assert_eq!((dead.reason, dead.attempt), (DeadReason::Exhausted, max_retries + 1));
        assert_eq!(dead.history.len(), usize::from(max_retries) + 1);
        assert!(shard.machine.state().retrying.is_empty());
        assert_eq!(settled(shard.one(again(topic, 0, max_retries + 1))), Settlement::AlreadySettled);
        shard.reload();
        shard.check_again();
    }
}

#[test]
fn a_decision_gives_up_drops_or_tries_again() {
    let (mut shard, topic) = shard(16, 3);
    let words = |reason: Option<&str>| Decision::DeadLetter { reason: reason.map(Into::into) };
    let judged = DecidedBy::Policy(Judged { binding: 1, generation: 2 });
    let generation = |command: Command| command.change(|header| header.generation = Generation(2));
    let by_consumer = shard.one(nack(topic, 0, 1, words(None), DecidedBy::Consumer));
    assert_eq!(settled(by_consumer), Settlement::DeadLettered);
    assert_eq!(letter(&shard, 0).unwrap().reason, DeadReason::Consumer(Some("no".into())));
    let by_policy = shard.one(generation(nack(topic, 1, 1, words(Some("hopeless")), judged)));
    assert_eq!(settled(by_policy), Settlement::DeadLettered);
    assert_eq!(letter(&shard, 1).unwrap().reason, DeadReason::Policy(Some("hopeless".into())));
    let dropped = shard.one(generation(nack(topic, 2, 1, Decision::Drop, judged)));
    assert_eq!((settled(dropped), letter(&shard, 2)), (Settlement::Settled, None));
    let cursor = shard.machine.state().cursor(GroupId(GROUP), topic, QueueId(QUEUE)).unwrap();
    assert_eq!(cursor.floor(), QueueOffset(3));
    shard.reload();
}

#[test]
fn a_policys_decision_is_fenced_and_a_consumers_is_not() {
    let (mut shard, topic) = shard(16, 1);
    for by in [DecidedBy::Table, DecidedBy::Policy(Judged { binding: 1, generation: 1 })] {
        let stale = shard.one(nack(topic, 0, 1, Decision::default(), by));
        assert_eq!(stale, Outcome::Refused(Refusal::Stale(Generation(2))), "{by:?}");
    }
    assert!(shard.machine.state().cursors.is_empty(), "nothing changed");
    assert_eq!(settled(shard.one(again(topic, 0, 1))), Settlement::Settled);
}

#[test]
fn a_redrive_counts_anew_and_happens_once() {
    let (mut shard, topic) = shard(1, 2);
    for attempt in [1, 2] {
        shard.one(again(topic, 0, attempt));
    }
    shard.now = Timestamp(1_500);
    let twice = shard.one(change(DeadLetterOp::Redrive, &[0, 0, 1]));
    assert_eq!(fates(twice), [LetterFate::Redriven, LetterFate::AlreadyRedriven, LetterFate::NotFound]);
    let due = shard.machine.due(&shard.rows, GroupId(GROUP), shard.now, 9).unwrap();
    assert_eq!((due[0].attempt, due[0].base, due[0].history.len()), (3, 2, 2));
    assert_eq!(due[0].record.unwrap().place, place(0));
    assert_eq!(settled(shard.one(again(topic, 0, 2))), Settlement::AlreadySettled, "an old receipt");
    assert_eq!(fates(shard.one(change(DeadLetterOp::Delete, &[0]))), [LetterFate::NotFound], "it left");
    assert_eq!(settled(shard.one(again(topic, 0, 3))), Settlement::Settled);
    assert_eq!(settled(shard.one(again(topic, 0, 4))), Settlement::DeadLettered);
    let dead = letter(&shard, 0).unwrap();
    let deliveries: Vec<_> = dead.history.iter().map(|ended| ended.delivery).collect();
    assert_eq!((dead.attempt, dead.base, deliveries), (4, 2, vec![1, 2, 1, 2]));
    assert_eq!(dead.redriven_at, None, "a dead letter again");
    let count = shard.machine.state().dead[&GroupId(GROUP)];
    assert_eq!((count.open, count.rows), (1, 1));
    shard.reload();
    shard.check_again();
}

#[test]
fn rows_past_their_retention_go_with_new_ones_and_by_hand() {
    let (mut shard, topic) = shard(0, 6);
    for offset in 0..4 {
        shard.one(again(topic, offset, 1));
    }
    assert_eq!(fates(shard.one(change(DeadLetterOp::Expire, &[0]))), [LetterFate::NotFound], "not yet");
    shard.now = Timestamp(2_000);
    assert_eq!(fates(shard.one(change(DeadLetterOp::Redrive, &[0]))), [LetterFate::NotFound], "too late");
    shard.one(again(topic, 4, 1));
    assert_eq!(shard.machine.state().dead[&GroupId(GROUP)].rows, 3, "two went along");
    let expired = shard.machine.expired_dead_letters(&shard.rows, GroupId(GROUP), shard.now, 9).unwrap();
    assert_eq!(expired, [(place(2).index, 0), (place(3).index, 0)]);
    assert_eq!(
        fates(shard.one(change(DeadLetterOp::Expire, &[2, 3, 4]))),
        [LetterFate::Forgotten, LetterFate::Forgotten, LetterFate::NotFound]
    );
    assert_eq!(fates(shard.one(change(DeadLetterOp::Delete, &[4]))), [LetterFate::Forgotten]);
    let of_dead = [table::DEAD_LETTER, table::DEAD_LETTER_EXPIRY, table::DEAD_COUNT];
    assert!(!shard.rows.0.keys().any(|key| of_dead.contains(&key[0])));
    shard.reload();
    shard.check_again();
}

#[test]
fn a_dead_letter_becomes_a_new_message_of_its_topic_once() {
    let (mut shard, topic) = shard(0, 1);
    shard.one(again(topic, 0, 1));
    let from = |place| {
        let origin = Some(Origin { place, cause: Cause::Redrive(GROUP) });
        let head = PublishHead { origin, ..PublishHead::default() };
        commands::publish(topic, QUEUE, 1, &head).change(|header| header.kind = kind::PUBLISH_FROM)
    };
    let closed = Outcome::Refused(Refusal::SourceClosed);
    assert_eq!(shard.one(from(Place { term: 2, ..place(0) })), closed, "of another term");
    let foreign = from(place(0)).change(|header| header.tenant.0 += 1);
    assert!(matches!(shard.one(foreign), Outcome::Refused(_)));
    assert!(matches!(shard.one(from(place(0))), Outcome::Published(_)));
    assert_eq!(shard.one(from(place(0))), closed, "it left");
    assert_eq!(fates(shard.one(change(DeadLetterOp::Redrive, &[0]))), [LetterFate::AlreadyRedriven]);
    assert_eq!(shard.machine.state().ends(topic, QueueId(QUEUE)).latest, 2);
    shard.reload();
    shard.check_again();
}

#[test]
fn an_ending_from_before_a_seek_is_late() {
    let (mut shard, topic) = shard(16, 2);
    let revision = shard.machine.state().groups[&GroupId(GROUP)].revision;
    shard.one(commands::ack(GROUP, &[commands::lease(topic, QUEUE, 0, 1)]));
    shard.one(again(topic, 1, 1));
    let moves = vec![SeekMove { topic: topic.0, queue: QUEUE, to: 0 }];
    let seek = |expect, moves| Command::new(kind::SEEK, &Seek { group: GROUP, expect, moves });
    let refused = shard.one(seek(Expect::Revision(vec![revision + 1]), moves.clone()));
    assert_eq!(refused, Outcome::Refused(Refusal::PreconditionFailed));
    let twice = shard.one(seek(Expect::Present, [moves.clone(), moves.clone()].concat()));
    assert!(matches!(twice, Outcome::Refused(Refusal::Malformed(_))));
    let sought = shard.one(seek(Expect::Revision(vec![revision]), moves));
    let Outcome::Configured { revision: now, .. } = sought else { panic!("{sought:?}") };
    assert!(now > revision && shard.machine.state().retrying.is_empty());
    let cursor = shard.machine.state().cursor(GroupId(GROUP), topic, QueueId(QUEUE)).unwrap();
    assert_eq!((cursor.floor(), cursor.sought().unwrap().revision), (QueueOffset(0), now));
    let ack_as_of = |revision| {
        let items = vec![SettleItem { lease: commands::lease(topic, QUEUE, 0, 1), op: SettleOp::Ack }];
        Command::new(kind::SETTLE, &Settle { group: GROUP, revision, items })
    };
    assert_eq!(settled(shard.one(ack_as_of(revision))), Settlement::Expired);
    assert_eq!(settled(shard.one(ack_as_of(now))), Settlement::Settled);
    shard.reload();
    shard.check_again();
}

#[test]
fn a_pause_is_kept_and_moves_neither_revision_nor_generation() {
    let (mut shard, _) = shard(16, 0);
    let before = shard.machine.state().groups[&GroupId(GROUP)].clone();
    for (paused, same) in [(true, false), (true, true), (false, false)] {
        let outcome = shard.one(commands::put(Object::Pause { group: "workers".into(), paused }));
        assert!(matches!(outcome, Outcome::Configured { unchanged, .. } if unchanged == same));
        let after = shard.machine.state().groups[&GroupId(GROUP)].clone();
        assert_eq!((after.revision, after.generation, after.paused), (before.revision, before.generation, paused));
        shard.reload();
    }
    let missing = shard.one(commands::put(Object::Pause { group: "nope".into(), paused: true }));
    assert_eq!(missing, Outcome::Refused(Refusal::GroupNotFound));
}
