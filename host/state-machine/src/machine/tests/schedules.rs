//! Schedules: objects like others, and runs that happen once.

use pointsman_model::QueueId;
use pointsman_model::record::{FLAG_UNIT_CONTINUES, kind};

use super::*;
use crate::command::{PublishHead, ScheduleConfig, ScheduleMessage, ScheduleRan};
use crate::outcome::Refusal;

fn config(topic: &str) -> ScheduleConfig {
    let message = ScheduleMessage { body: b"tick".to_vec(), ..ScheduleMessage::default() };
    ScheduleConfig { cron: "* * * * *".into(), timezone: "UTC".into(), topic: topic.into(), message }
}

fn put(name: &str, topic: &str, next: Option<u64>) -> Command {
    commands::put(Object::Schedule { name: name.into(), config: config(topic), next })
}

fn ran(schedule: u32, due: u64, next: Option<u64>) -> Command {
    Command::new(kind::SCHEDULE_RAN, &ScheduleRan { schedule, due, next })
}

fn part(command: Command) -> Command {
    command.change(|header| header.flags |= FLAG_UNIT_CONTINUES)
}

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}

impl Shard {
    fn next(&self) -> (Option<u64>, Option<u64>) {
        let schedule = self.machine.state().schedule(TENANT, "s").unwrap();
        (schedule.next.map(|at| at.0), schedule.last.map(|at| at.0))
    }
}

#[test]
fn a_schedule_is_an_object_whose_runs_leave_its_revision_alone() {
    let mut shard = Shard::with_group();
    let missing = shard.one(put("s", "nope", Some(5_000)));
    assert_eq!(missing, refused(Refusal::TopicNotFound("nope".into())));
    let Outcome::Configured { created: true, id, .. } = shard.one(put("s", "orders", Some(5_000))) else { panic!() };
    let again = shard.one(put("s", "orders", Some(9_000)));
    assert!(matches!(again, Outcome::Configured { created: false, unchanged: true, .. }), "{again:?}");
    assert_eq!(shard.next(), (Some(5_000), None), "the same again keeps its time");
    let before = shard.machine.state().schedule(TENANT, "s").unwrap().revision;
    shard.now = Timestamp(5_000);
    assert_eq!(shard.one(ran(id, 5_000, Some(6_000))), Outcome::ScheduleRan { next: Some(Timestamp(6_000)) });
    assert_eq!(shard.next(), (Some(6_000), Some(5_000)));
    assert_eq!(shard.machine.state().schedule(TENANT, "s").unwrap().revision, before);
    shard.reload();
    assert_eq!(shard.one(commands::delete(Target::Schedule("s".into()))), Outcome::Deleted);
    let gone = shard.one(commands::delete(Target::Schedule("s".into())));
    assert_eq!(gone, refused(Refusal::ScheduleNotFound));
    assert_eq!(shard.one(ran(id, 6_000, None)), refused(Refusal::ScheduleNotFound));
    assert!(!shard.rows.0.keys().any(|key| [table::SCHEDULE, table::SCHEDULE_RUN].contains(&key[0])));
    shard.reload();
    shard.check_again();
}

#[test]
fn a_run_and_its_message_are_one_and_happen_once() {
    let mut shard = Shard::with_group();
    let topic = shard.topic();
    let Outcome::Configured { id, .. } = shard.one(put("s", "orders", Some(5_000))) else { panic!() };
    let message = |generation| commands::publish(topic, 0, generation, &PublishHead::default());
    let run = |due, next, generation| [part(ran(id, due, Some(next))), message(generation)];
    let unit_refused = || refused(Refusal::UnitRefused);

    let early = shard.entry(&run(5_000, 6_000, 1)).outcomes;
    assert_eq!(early, [refused(Refusal::SourceClosed), unit_refused()]);
    shard.now = Timestamp(5_500);
    let stale = shard.entry(&run(5_000, 6_000, 9)).outcomes;
    assert_eq!(stale[0], unit_refused());
    assert!(matches!(stale[1], Outcome::Refused(Refusal::Stale(_))));
    assert_eq!(shard.next(), (Some(5_000), None), "nothing happened");

    let done = shard.entry(&run(5_000, 6_000, 1)).outcomes;
    assert!(matches!(done[..], [Outcome::ScheduleRan { .. }, Outcome::Published(_)]), "{done:?}");
    let twice = shard.entry(&run(5_000, 6_000, 1)).outcomes;
    assert_eq!(twice, [refused(Refusal::SourceClosed), unit_refused()]);
    assert_eq!((shard.machine.state().ends(topic, QueueId(0)).latest, shard.next()), (1, (Some(6_000), Some(5_000))));

    shard.now = Timestamp(9_000);
    let back = shard.entry(&run(6_000, 6_000, 1)).outcomes;
    assert_eq!(back[0], refused(Refusal::SourceClosed), "time goes on");
    for bad in [vec![part(ran(id, 6_000, None))], vec![part(ran(id, 6_000, None)), ran(id, 6_000, None)]] {
        let outcomes = shard.entry(&bad).outcomes;
        assert!(matches!(outcomes[0], Outcome::Refused(Refusal::Malformed(_))), "{outcomes:?}");
    }
    let stranger = ran(id, 6_000, None).change(|header| header.tenant.0 += 1);
    assert_eq!(shard.one(stranger), refused(Refusal::ScheduleNotFound));
    shard.reload();
    shard.check_again();
}
