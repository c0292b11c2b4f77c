//! Trim and carry: what moves, what may go, what keeps it, and what comes too late.

use pointsman_model::QueueId;
use pointsman_model::record::kind;

use super::commands::{self, lease, publish};
use super::*;
use crate::command::{Cause, Origin, Park, Place, PublishHead, RecordRef, SettleItem, SettleOp, Trim, TrimStep};
use crate::outcome::{Blocker, Refusal, Trimmed};
use crate::table;

const GROUP: u32 = 1;

fn trim(queues: Vec<TrimStep>, base: Option<LogPosition>) -> Command {
    let mut command = Command::new(kind::TRIM, &Trim { queues, base: base.map(|base| base.0) });
    command.header.tenant = TenantId(0);
    command
}

fn step(shard: &Shard, queue: u16, to: u64) -> TrimStep {
    let ends = shard.machine.state().ends(shard.topic(), QueueId(queue));
    let bytes = (ends.bytes * (to - ends.earliest)).checked_div(ends.latest - ends.earliest).unwrap_or_default();
    TrimStep { topic: shard.topic().0, queue, from: ends.earliest, to, bytes }
}

impl Shard {
    fn fill(&mut self, entries: usize) {
        for _ in 0..entries {
            let topic = self.topic();
            self.one(publish(topic, 0, 1, &PublishHead::default()));
        }
    }

    /// Base of the segment that is written now.
    fn head(&self) -> LogPosition {
        *self.machine.state().segments.last_key_value().unwrap().0
    }

    fn trimmed(&mut self, command: Command) -> Trimmed {
        match self.one(command) {
            Outcome::Trimmed(trimmed) => trimmed,
            other => panic!("{other:?}"),
        }
    }

    /// Takes all that queue 0 has, and gives up what may go.
    fn take_all(&mut self) -> Trimmed {
        let steps = vec![step(self, 0, self.end())];
        self.trimmed(trim(steps, None));
        let base = self.head();
        self.trimmed(trim(Vec::new(), Some(base)))
    }

    fn end(&self) -> u64 {
        self.machine.state().ends(self.topic(), QueueId(0)).latest
    }

    fn rows_of_tables(&self, tables: &[u8]) -> usize {
        self.rows.0.keys().filter(|key| tables.contains(&key[0])).count()
    }

    fn position_of(&self, place: Place) -> u64 {
        let value = &self.rows.0[&table::parked_key(TENANT, place.index, place.ordinal)];
        postcard::from_bytes::<crate::state::Parked>(&value[1..]).unwrap().position
    }
}

#[test]
fn a_first_offset_moves_by_compare_and_set_and_takes_the_bytes_along() {
    let mut shard = Shard::with_group();
    shard.fill(4);
    let good = step(&shard, 0, 3);
    for wrong in [
        TrimStep { from: 1, ..good },
        TrimStep { to: 0, ..good },
        TrimStep { to: 5, ..good },
        TrimStep { queue: 9, ..good },
        TrimStep { topic: 99, ..good },
    ] {
        assert_eq!(shard.trimmed(trim(vec![wrong], None)).queues, 0, "{wrong:?}");
    }
    assert_eq!(shard.trimmed(trim(vec![good, good], None)).queues, 1, "the second one comes too late");
    let ends = shard.machine.state().ends(shard.topic(), QueueId(0));
    assert_eq!((ends.earliest, ends.latest, ends.bytes * 3), (3, 4, good.bytes));
    assert_eq!(shard.machine.state().stored_bytes[&TENANT], ends.bytes);
    // However wrong the leader counted: what is empty has no bytes.
    let rest = TrimStep { bytes: 1, ..step(&shard, 0, 4) };
    shard.trimmed(trim(vec![rest], None));
    assert_eq!(shard.machine.state().ends(shard.topic(), QueueId(0)).bytes, 0);
    shard.reload();
    shard.check_again();
}

#[test]
fn segments_go_once_no_queue_reaches_into_them_and_their_rows_with_them() {
    let mut shard = Shard::with_group();
    shard.fill(22);
    let (topic, base) = (shard.topic(), shard.head());
    let before = shard.machine.state().segments.clone();
    let reaching = shard.trimmed(trim(Vec::new(), Some(base)));
    assert_eq!(reaching.blocked, Some(Blocker::Queue(topic, QueueId(0))));
    for none in [LogPosition(base.0 + 1), LogPosition(u64::MAX)] {
        assert_eq!(shard.trimmed(trim(Vec::new(), Some(none))).blocked, Some(Blocker::NotThere));
    }
    let steps = vec![step(&shard, 0, shard.end())];
    let released = shard.trimmed(trim(steps, Some(base)));
    assert_eq!(released, Trimmed { queues: 1, blocked: None, left: false });
    let state = shard.machine.state();
    assert_eq!(state.released.base(), base);
    assert_eq!(state.released.upto(), Some(LogIndex(before[&base].0 - 1)));
    assert_eq!(state.segments.keys().next(), Some(&base));
    let old: Vec<_> = shard.rows.0.keys().filter(|key| [16, 17, 43, 44, 46].contains(&key[0])).collect();
    assert!(old.len() <= 5, "{old:?}");
    assert_eq!(shard.trimmed(trim(Vec::new(), Some(base))).blocked, None, "twice is once");
    shard.reload();
}

#[test]
fn what_is_parked_keeps_its_segment_until_it_is_carried_once() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let park = |park| {
        let mut command = publish(topic, 0, 1, &PublishHead { park: Some(park), ..PublishHead::default() });
        command.header.kind = kind::PUBLISH_PARKED;
        command
    };
    let Outcome::Parked(parked) = shard.one(park(Park::Until(9_000))) else { panic!("parked") };
    shard.fill(20);
    let from = shard.position_of(parked.place);
    assert_eq!(shard.take_all().blocked, Some(Blocker::Owed(LogPosition(from))));
    assert_eq!(shard.machine.owed(&shard.rows, shard.head(), 9).unwrap().len(), 1);

    let copy = |from| {
        let head = PublishHead { park: Some(Park::Until(9_000)), carried: Some(from), ..PublishHead::default() };
        publish(topic, 0, 1, &head).change(|header| header.kind = kind::PUBLISH_PARKED)
    };
    let closed = Outcome::Refused(Refusal::SourceClosed);
    assert_eq!(shard.one(copy(from + 8)), closed, "nobody refers to that");
    assert_eq!(shard.one(copy(from).change(|header| header.tenant = TenantId(8))), closed, "nor does another tenant");
    assert!(matches!(shard.one(copy(u64::MAX)), Outcome::Refused(Refusal::Malformed(_))));
    let as_publish = copy(from).change(|header| header.kind = kind::PUBLISH);
    assert!(matches!(shard.one(as_publish), Outcome::Refused(Refusal::Malformed(_))));
    assert_eq!(shard.one(copy(from)), Outcome::Carried(1));
    let base = shard.head();
    assert_eq!(shard.one(copy(from)), closed, "once");
    let now_at = shard.position_of(parked.place);
    assert!(now_at > from);
    assert_eq!(shard.trimmed(trim(Vec::new(), Some(base))).blocked, None, "up to where the copy lies");
    shard.reload();

    // It fires under the id it had, and where it was parked is forgotten with the segment that it is visible in.
    shard.now = Timestamp(9_000);
    let origin = Some(Origin { place: parked.place, cause: Cause::Timer });
    let fire = publish(topic, 0, 1, &PublishHead { origin, ..PublishHead::default() })
        .change(|header| header.kind = kind::PUBLISH_FROM);
    assert!(matches!(shard.one(fire), Outcome::Published(_)));
    assert_eq!((shard.rows_of_tables(&[table::OWED]), shard.rows_of_tables(&[table::MOVED])), (0, 1));
    shard.fill(8);
    assert_eq!(shard.take_all().blocked, None);
    assert_eq!(shard.rows_of_tables(&[table::MOVED, table::MOVED_OF_SEGMENT]), 0);
    shard.reload();
}

#[test]
fn a_dead_letter_of_several_groups_is_carried_for_all() {
    let mut shard = Shard::with_group();
    let other = commands::group_config(&["orders"]);
    shard.one(commands::put(Object::Group { name: "others".into(), config: other }));
    shard.fill(1);
    let topic = shard.topic();
    let entry = shard.queue[0].entry;
    let record = RecordRef::of(&entry);
    for group in [GROUP, 2] {
        let end = crate::command::AttemptEnd {
            decision: crate::command::Decision::DeadLetter { reason: None },
            record,
            ..commands::after(0)
        };
        let item = SettleItem { lease: lease(topic, 0, 0, 1), op: SettleOp::Nack(end) };
        let head = crate::command::Settle { group, revision: u64::MAX, items: vec![item] };
        shard.one(Command::new(kind::SETTLE, &head));
    }
    // Their retention is 1 ms; nobody forgets them yet.
    shard.fill(20);
    assert!(matches!(shard.take_all().blocked, Some(Blocker::Owed(_))));
    let head = PublishHead { carried: Some(record.position), ..PublishHead::default() };
    let copy = publish(topic, 0, 1, &head).change(|header| header.kind = kind::PUBLISH_PARKED);
    assert_eq!(shard.one(copy), Outcome::Carried(2));
    let base = shard.head();
    assert_eq!(shard.trimmed(trim(Vec::new(), Some(base))).blocked, None, "up to where the copy lies");
    for group in [GROUP, 2] {
        let key = (record.place.index, record.place.ordinal);
        let letter = shard.machine.dead_letter(&shard.rows, pointsman_model::GroupId(group), key).unwrap().unwrap();
        assert!(letter.record.position >= shard.machine.state().released.base, "{letter:?}");
        assert_eq!(letter.record.place, record.place, "its id stays");
    }
    assert_eq!(shard.rows_of_tables(&[table::OWED]), 2);
    shard.one(commands::delete(Target::Group("others".into())));
    assert_eq!(shard.rows_of_tables(&[table::OWED]), 1);
    shard.reload();
}

#[test]
fn a_retry_keeps_its_segment_and_one_that_comes_too_late_makes_none() {
    let mut shard = Shard::with_group();
    shard.fill(2);
    let topic = shard.topic();
    shard.one(commands::nack(GROUP, lease(topic, 0, 0, 1), 10));
    shard.fill(20);
    assert_eq!(shard.take_all().blocked, Some(Blocker::Retrying(pointsman_model::GroupId(GROUP))));
    // Another message of the queue was leased before the trim.
    shard.one(commands::nack(GROUP, lease(topic, 0, 1, 1), 10));
    assert_eq!(shard.machine.state().retrying[&pointsman_model::GroupId(GROUP)], 1, "its time is over");
    shard.one(commands::ack(GROUP, &[lease(topic, 0, 0, 2)]));
    assert_eq!(shard.take_all().blocked, None);
    shard.reload();
}
