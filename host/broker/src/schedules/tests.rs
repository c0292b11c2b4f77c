//! Schedules over fakes. The clock starts at 2023-11-14T22:13:20Z.

use pointsman_model::message::NewMessage;
use pointsman_model::{QueueId, Timestamp, TopicId, limits};
use pointsman_state_machine::command::Expect;

use crate::Error;
use crate::testing::fixture::{Fixture, TENANT, call, message, topic_config};
use crate::view::{PageRequest, ScheduleSettings};

const MINUTE_MS: u64 = 60_000;
/// The first full minute.
const FIRST: Timestamp = Timestamp(1_700_000_040_000);

fn settings(cron: &str, body: &str) -> ScheduleSettings {
    let message = NewMessage { tag: Some("tick".into()), ..message(body) };
    ScheduleSettings { cron: cron.into(), timezone: "UTC".into(), topic: "t".into(), message }
}

impl Fixture {
    async fn schedule(&self, name: &str, settings: ScheduleSettings) -> Result<bool, Error> {
        let put = self.broker.put_schedule(&call(), TENANT, name, settings, Expect::Anything).await;
        put.map(|written| written.created)
    }

    async fn runs_after(&self, ms: u64) {
        self.clock.advance_ms(ms);
        self.broker.run_schedules().await;
    }

    fn count(&self, topic: TopicId) -> usize {
        self.shard.messages(topic, QueueId(0)).len()
    }
}

#[tokio::test]
async fn it_publishes_when_due_and_once() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    assert_eq!(f.schedule("s", settings("* * * * *", "x")).await, Ok(true));
    let next = || async { f.broker.get_schedule(&call(), TENANT, "s").await.unwrap().next };
    assert_eq!(next().await, Some(FIRST));
    f.runs_after(39_999).await;
    assert_eq!(f.count(topic), 0);
    f.runs_after(1).await;
    f.broker.run_schedules().await;
    assert_eq!((f.count(topic), next().await), (1, Some(FIRST.plus_ms(MINUTE_MS))));
    let record = &f.shard.messages(topic, QueueId(0))[0];
    assert_eq!(&record.body[..], b"x");
    for n in 2..5 {
        f.runs_after(MINUTE_MS).await;
        assert_eq!(f.count(topic), n);
    }
}

#[tokio::test]
async fn runs_missed_while_down_happen_once() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.schedule("s", settings("* * * * *", "x")).await.unwrap();
    f.shard.set_term(None);
    f.runs_after(10 * MINUTE_MS).await;
    assert_eq!(f.count(topic), 0, "nobody leads");
    f.shard.set_term(Some(2));
    f.broker.run_schedules().await;
    f.broker.run_schedules().await;
    assert_eq!(f.count(topic), 1);
    let schedule = f.broker.get_schedule(&call(), TENANT, "s").await.unwrap();
    assert_eq!((schedule.last, schedule.next), (Some(FIRST), Some(FIRST.plus_ms(10 * MINUTE_MS))));
}

#[tokio::test]
async fn a_run_that_two_leaders_propose_happens_once() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.schedule("s", settings("* * * * *", "x")).await.unwrap();
    f.clock.advance_ms(MINUTE_MS);
    f.shard.hold();
    let runs: Vec<_> = (0..2)
        .map(|_| {
            let broker = f.broker.clone();
            tokio::spawn(async move { broker.run_schedules().await })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(f.shard.held() >= 1);
    f.shard.release();
    for run in runs {
        run.await.unwrap();
    }
    assert_eq!(f.count(topic), 1);
}

#[tokio::test]
async fn an_outcome_that_nobody_heard_is_tried_again_and_a_stale_one_too() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.schedule("s", settings("* * * * *", "x")).await.unwrap();
    f.clock.advance_ms(MINUTE_MS);
    f.shard.fail_next(crate::ports::ProposeError::OutcomeUnknown);
    f.broker.run_schedules().await;
    assert_eq!(f.count(topic), 0);
    f.shard.hold();
    let broker = f.broker.clone();
    let run = tokio::spawn(async move { broker.run_schedules().await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    f.shard.release_after_change();
    f.shard.release();
    run.await.unwrap();
    assert_eq!(f.count(topic), 1);
}

#[tokio::test]
async fn a_run_that_can_never_be_is_skipped_and_the_next_one_comes() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.schedule("s", settings("* * * * *", "xx")).await.unwrap();
    let mut small = topic_config(1);
    small.max_message_bytes = 1;
    f.put_topic("t", small).await;
    f.runs_after(MINUTE_MS).await;
    assert_eq!(f.count(topic), 0, "too large by now");
    let schedule = f.broker.get_schedule(&call(), TENANT, "s").await.unwrap();
    assert_eq!(schedule.last, Some(FIRST));
    f.put_topic("t", topic_config(1)).await;
    f.runs_after(MINUTE_MS).await;
    assert_eq!(f.count(topic), 1);
}

#[tokio::test]
async fn what_is_refused() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let at = |result: Result<bool, Error>| match result {
        Err(Error::InvalidRequest { pointer, .. }) => pointer,
        other => panic!("{other:?}"),
    };
    assert_eq!(at(f.schedule("s", settings("* * *", "x")).await), "/cron");
    assert_eq!(at(f.schedule("s", settings("0 0 30 2 *", "x")).await), "/cron");
    let zone = ScheduleSettings { timezone: "Nowhere".into(), ..settings("* * * * *", "x") };
    assert_eq!(at(f.schedule("s", zone).await), "/timezone");
    let topic = ScheduleSettings { topic: "no".into(), ..settings("* * * * *", "x") };
    assert_eq!(f.schedule("s", topic).await, Err(Error::TopicNotFound("no".into())));
    for (bytes, fits) in [(-1, true), (0, true), (1, false)] {
        let body = "x".repeat(limits::SCHEDULE_BODY_BYTES_MAX.saturating_add_signed(bytes));
        let put = f.schedule("s", settings("* * * * *", &body)).await;
        assert_eq!(put.is_ok(), fits, "{bytes}: {put:?}");
    }
    let missing = Err(Error::ScheduleNotFound("x".into()));
    assert_eq!(f.broker.delete_schedule(&call(), TENANT, "x", Expect::Anything).await, missing);
}

#[tokio::test]
async fn they_are_listed_replaced_and_deleted() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    for name in ["b", "a", "c"] {
        f.schedule(name, settings("* * * * *", name)).await.unwrap();
    }
    assert_eq!(f.schedule("a", settings("0 * * * *", "a")).await, Ok(false));
    let mut page = PageRequest { limit: 2, cursor: None };
    let mut names = Vec::new();
    loop {
        let got = f.broker.list_schedules(&call(), TENANT, &page).await.unwrap();
        names.extend(got.items.into_iter().map(|schedule| schedule.name.to_string()));
        match got.next_cursor {
            Some(cursor) => page.cursor = Some(cursor),
            None => break,
        }
    }
    assert_eq!(names, ["a", "b", "c"]);
    f.broker.delete_schedule(&call(), TENANT, "b", Expect::Anything).await.unwrap();
    f.runs_after(MINUTE_MS).await;
    assert_eq!(f.count(topic), 1, "c alone: a is hourly now, b is gone");
}

#[tokio::test]
async fn what_could_never_be_published_is_refused_at_once() {
    let f = Fixture::new().await;
    f.topic("t", 2).await;
    let in_queue = |queue| {
        let mut settings = settings("* * * * *", "x");
        settings.message.queue = Some(QueueId(queue));
        settings
    };
    assert_eq!(f.schedule("s", in_queue(1)).await, Ok(true));
    let refused = f.schedule("s", in_queue(2)).await;
    assert!(
        matches!(&refused, Err(Error::InvalidRequest { pointer, .. }) if pointer == "/message/queue"),
        "{refused:?}"
    );
}
