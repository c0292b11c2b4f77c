//! Publish over fakes.

use std::time::Duration;

use bytes::Bytes;
use pointsman_model::judge::{Failure, Field, Plan, Target, Verdict};
use pointsman_model::message::NewMessage;
use pointsman_model::{QueueId, hash, limits};
use pointsman_state_machine::command::{Durability, FailurePolicy, Placement, PublishHead, Slot};

use crate::Error;
use crate::ports::ProposeError;
use crate::testing::FakePlugin;
use crate::testing::fixture::{Fixture, TENANT, binding_settings, call, call_within, message, tagged, topic_config};
use crate::view::Publish;

fn to(queue: u16) -> Verdict<Vec<Target>> {
    Verdict::Answer(vec![Target { destination: 0, queue: Some(QueueId(queue)) }])
}

fn by_tag() -> Plan {
    Plan { fields: vec![Field::Tag], ..Plan::default() }
}

/// Places by the digit that the tag is.
fn digit_selector() -> FakePlugin {
    FakePlugin::selector(by_tag(), |i, columns| match columns[0].get(i) {
        Some(b"none") => Verdict::Answer(Vec::new()),
        Some(b"fails") => Verdict::Failed("no idea".into()),
        Some(b"traps") => Verdict::Stopped(Failure::Trap),
        Some(b"far") => to(99),
        Some([digit]) => to(u16::from(digit - b'0')),
        _ => Verdict::Answer(vec![Target { destination: 0, queue: None }]),
    })
}

fn placement(record: &pointsman_model::record::Record) -> Placement {
    postcard::from_bytes::<PublishHead<'_>>(&record.head).unwrap().placement
}

#[tokio::test]
async fn round_robin_explicit_and_slot() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 4).await;
    let mut queues: Vec<_> = Vec::new();
    for _ in 0..8 {
        queues.push(f.send("t", message("x")).await.queue.unwrap().0);
    }
    queues.sort_unstable();
    assert_eq!(queues, [0, 0, 1, 1, 2, 2, 3, 3]);
    let explicit =
        f.send("t", NewMessage { queue: Some(QueueId(3)), ordering_key: Some("k".into()), ..message("x") }).await;
    assert_eq!((explicit.queue, explicit.durability), (Some(QueueId(3)), Durability::Quorum));
    for key in ["a", "b", "customer-9"] {
        let sent = f.send("t", NewMessage { ordering_key: Some(key.into()), ..message("x") }).await;
        assert_eq!(sent.queue.unwrap().0, hash::key_slot(key) % 4);
        let offset = sent.offset.unwrap();
        let stored = &f.shard.messages(topic, sent.queue.unwrap())[offset.0 as usize];
        assert_eq!(placement(stored), Placement::Slot);
    }
    let refused =
        f.publish("t", vec![NewMessage { queue: Some(QueueId(4)), ..message("x") }, message("y")]).await.unwrap();
    assert!(matches!(&refused[0], Err(Error::InvalidRequest { pointer, .. }) if pointer == "/queue"));
    assert!(refused[1].is_ok(), "one refused message does not harm the next");
}

#[tokio::test]
async fn a_selector_places_and_what_fails_meets_its_policy() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 4).await;
    f.upload("digit", digit_selector()).await;
    f.bind("s", binding_settings(Slot::Selector, Some("t"), None, "digit")).await;
    let binding = f.broker.get_binding(&call(), TENANT, "s").await.unwrap();
    for digit in ["0", "3", "1"] {
        let sent = f.send("t", tagged(digit)).await;
        assert_eq!(sent.queue.unwrap().to_string(), digit);
        let stored = &f.shard.messages(topic, sent.queue.unwrap())[0];
        let head: PublishHead<'_> = postcard::from_bytes(&stored.head).unwrap();
        assert_eq!(head.placement, Placement::Selector);
        assert_eq!((head.judged[0].binding, head.judged[0].generation), (binding.id.0, stored.header.generation.0));
    }
    let keyed = f.send("t", NewMessage { ordering_key: Some("k".into()), ..tagged("0") }).await;
    assert_eq!(keyed.queue.unwrap().0, hash::key_slot("k") % 4, "not keyed: the slot beats the selector");
    for tag in ["fails", "traps", "far"] {
        let sent = f.send("t", tagged(tag)).await;
        let stored = f.shard.messages(topic, sent.queue.unwrap());
        assert_eq!(placement(&stored[sent.offset.unwrap().0 as usize]), Placement::Fallback, "{tag}");
    }
    let unroutable = f.publish("t", vec![tagged("none")]).await.unwrap();
    assert!(matches!(unroutable[0], Err(Error::PluginRejected(_))));

    let refuse = FailurePolicy::Refuse;
    let mut settings = binding_settings(Slot::Selector, Some("t"), None, "digit");
    (settings.on_failure, settings.keyed) = (Some(refuse), true);
    f.bind("s", settings).await;
    let results = f.publish("t", ["fails", "traps", "far", "2"].map(tagged).to_vec()).await.unwrap();
    assert!(results[..3].iter().all(|result| matches!(result, Err(Error::PluginRejected(_)))), "{results:?}");
    assert_eq!(results[3].as_ref().unwrap().queue, Some(QueueId(2)));
    let keyed = f.send("t", NewMessage { ordering_key: Some("k".into()), ..tagged("0") }).await;
    assert_eq!(keyed.queue, Some(QueueId(0)), "keyed: the selector beats the slot");
}

#[tokio::test]
async fn a_selector_that_cannot_be_bound() {
    let f = Fixture::new().await;
    f.topic("t", 4).await;
    f.upload("digit", digit_selector()).await;
    f.bind("s", binding_settings(Slot::Selector, Some("t"), None, "digit")).await;
    *f.judges.broken.lock() = Some("no memory".into());
    f.send("t", tagged("1")).await;
    let mut settings = binding_settings(Slot::Selector, Some("t"), None, "digit");
    settings.on_failure = Some(FailurePolicy::Refuse);
    f.bind("s", settings).await;
    let results = f.publish("t", vec![tagged("1")]).await.unwrap();
    assert!(matches!(&results[0], Err(Error::PluginUnavailable(words)) if words.contains("no memory")), "{results:?}");
}

#[tokio::test]
async fn several_targets_are_one_unit() {
    let f = Fixture::new().await;
    f.topic("t", 2).await;
    let other = f.topic("other", 2).await;
    let plan = Plan { destinations: vec!["other".into(), "missing".into()], ..by_tag() };
    let fan = FakePlugin::selector(plan, |i, columns| {
        let second = if columns[0].get(i) == Some(b"missing") { 2 } else { 1 };
        Verdict::Answer(vec![
            Target { destination: 0, queue: Some(QueueId(1)) },
            Target { destination: second, queue: Some(QueueId(0)) },
        ])
    });
    f.upload("fan", fan).await;
    let mut settings = binding_settings(Slot::Selector, Some("t"), None, "fan");
    settings.on_failure = Some(FailurePolicy::Refuse);
    f.bind("s", settings).await;
    let sent = f.send("t", tagged("x")).await;
    assert_eq!((sent.topic.as_str(), sent.queue), ("t", Some(QueueId(1))));
    let targets: Vec<_> = sent.targets.iter().map(|t| (t.topic.as_str(), t.queue.0, t.offset.unwrap().0)).collect();
    assert_eq!(targets, [("t", 1, 0), ("other", 0, 0)]);
    let stored = f.shard.messages(other, QueueId(0));
    assert!(postcard::from_bytes::<PublishHead<'_>>(&stored[0].head).unwrap().source.is_some());
    let refused = f.publish("t", vec![tagged("missing")]).await.unwrap();
    assert!(matches!(&refused[0], Err(Error::PluginRejected(words)) if words.contains("missing")));
}

#[tokio::test]
async fn concurrent_publishes_of_one_producer_keep_their_order_and_share_calls() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 2).await;
    f.upload("digit", digit_selector()).await;
    f.bind("s", binding_settings(Slot::Selector, Some("t"), None, "digit")).await;
    f.shard.hold();
    let mut calls = Vec::new();
    for n in 0..600 {
        let broker = f.broker.clone();
        let publish = Publish {
            messages: vec![NewMessage { tag: Some("1".into()), ..message(&n.to_string()) }],
            ack: None,
            atomic: false,
        };
        // Each is polled until it waits, so this is the order of arrival.
        let mut task = tokio_test_poll(async move { broker.publish(&call(), TENANT, "t", publish).await });
        task.poll_once().await;
        calls.push(task);
    }
    let shard = std::sync::Arc::clone(&f.shard);
    let releases = tokio::spawn(async move {
        loop {
            tokio::task::yield_now().await;
            shard.release_held();
        }
    });
    for task in calls {
        task.finish().await.unwrap()[0].as_ref().unwrap();
    }
    releases.abort();
    let stored: Vec<_> = f.shard.messages(topic, QueueId(1)).iter().map(|r| r.body.clone()).collect();
    let sent: Vec<_> = (0..600).map(|n: u32| Bytes::from(n.to_string())).collect();
    assert_eq!(stored, sent);
    let judged = f.judges.calls.lock().clone();
    assert!(judged.len() < 20, "600 lone publishes shared {} calls", judged.len());
    assert!(judged.iter().all(|n| *n as usize <= limits::JUDGE_MESSAGES_MAX));
}

/// A future that is driven by hand.
struct Driven<T>(std::pin::Pin<Box<dyn Future<Output = T> + Send>>);

fn tokio_test_poll<T>(future: impl Future<Output = T> + Send + 'static) -> Driven<T> {
    Driven(Box::pin(future))
}

impl<T> Driven<T> {
    async fn poll_once(&mut self) {
        std::future::poll_fn(|cx| {
            assert!(self.0.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    }

    async fn finish(self) -> T {
        self.0.await
    }
}

#[tokio::test]
async fn stale_decisions_are_taken_again_and_at_most_four_times() {
    let f = Fixture::new().await;
    f.topic("t", 2).await;
    f.shard.hold();
    let publish = f.publish("t", vec![message("x")]);
    let change = async {
        while f.shard.held() == 0 {
            tokio::task::yield_now().await;
        }
        f.shard.release_after_change();
        f.shard.release();
    };
    let (results, ()) = tokio::join!(publish, change);
    assert!(results.unwrap()[0].is_ok(), "decided again under the new generation");
}

#[tokio::test]
async fn a_topic_that_changes_all_the_time_is_overloaded() {
    let f = Fixture::new().await;
    f.topic("t", 2).await;
    f.shard.hold();
    let publish = f.publish("t", vec![message("x")]);
    let change = async {
        for _ in 0..=limits::STALE_RETRIES_MAX {
            while f.shard.held() == 0 {
                tokio::task::yield_now().await;
            }
            f.shard.release_after_change();
        }
    };
    let (results, ()) = tokio::join!(publish, change);
    assert!(matches!(results, Err(Error::Overloaded(_))), "{results:?}");
    assert_eq!(f.shard.held(), 0, "not tried a fifth time");
}

#[tokio::test]
async fn weaker_acks_come_earlier() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.shard.hold();
    let publish = |ack| Publish { messages: vec![message("x")], ack: Some(ack), atomic: false };
    let results = f.broker.publish(&call(), TENANT, "t", publish(Durability::None)).await.unwrap();
    let early = results[0].as_ref().unwrap();
    assert_eq!((early.queue, early.offset, early.stored_at), (Some(QueueId(0)), None, None));
    assert_eq!(early.durability, Durability::None);
    let short = call_within(Duration::from_millis(50));
    let leader = f.broker.publish(&short, TENANT, "t", publish(Durability::Leader)).await;
    assert_eq!(leader, Err(Error::OutcomeUnknown), "neither synced nor committed");
    f.shard.release();
    let found = f.broker.get_message(&call(), TENANT, early.id.unwrap()).await.unwrap();
    assert_eq!(found.record.body, "x");
    assert_eq!(f.shard.messages(topic, QueueId(0)).len(), 2);
    let results = f.broker.publish(&call(), TENANT, "t", publish(Durability::Leader)).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap().durability, Durability::Leader);
}

#[tokio::test]
async fn an_early_answered_publish_survives_a_change_of_the_topic() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.shard.hold();
    let publish = Publish { messages: vec![message("x")], ack: Some(Durability::None), atomic: false };
    f.broker.publish(&call(), TENANT, "t", publish).await.unwrap();
    f.shard.release_after_change();
    f.shard.release();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(f.shard.messages(topic, QueueId(0)).len(), 1);
}

#[tokio::test]
async fn nothing_is_proposed_past_the_deadline() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.shard.hold();
    let short = || call_within(Duration::from_millis(30));
    let publish = |body| Publish { messages: vec![message(body)], ack: None, atomic: false };
    let (calls, bodies) = ([short(), short(), short(), call()], ["a", "b", "late", "d"]);
    let release = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        f.shard.release();
    };
    let all = async {
        tokio::join!(
            f.broker.publish(&calls[0], TENANT, "t", publish(bodies[0])),
            f.broker.publish(&calls[1], TENANT, "t", publish(bodies[1])),
            f.broker.publish(&calls[2], TENANT, "t", publish(bodies[2])),
            f.broker.publish(&calls[3], TENANT, "t", publish(bodies[3])),
        )
    };
    let ((a, b, late, d), ()) = tokio::join!(all, release);
    assert_eq!(
        (a, b),
        (Err(Error::OutcomeUnknown), Err(Error::OutcomeUnknown)),
        "proposed, and never answered in time"
    );
    assert!(matches!(late, Err(Error::Overloaded(_))), "{late:?}");
    assert!(d.unwrap()[0].is_ok());
    let stored: Vec<_> = f.shard.messages(topic, QueueId(0)).iter().map(|r| r.body.clone()).collect();
    assert_eq!(stored, ["a", "b", "d"]);
    let over = f.broker.publish(&call_within(Duration::ZERO), TENANT, "t", publish("x")).await;
    assert!(matches!(over, Err(Error::Overloaded(_))));
}

#[tokio::test]
async fn atomic_is_all_or_nothing() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    let bad = NewMessage { queue: Some(QueueId(7)), ..message("b") };
    let publish = Publish { messages: vec![message("a"), bad], ack: None, atomic: true };
    let refused = f.broker.publish(&call(), TENANT, "t", publish).await;
    assert!(matches!(refused, Err(Error::InvalidRequest { .. })));
    assert!(f.shard.messages(topic, QueueId(0)).is_empty());
    let publish = Publish { messages: vec![message("a"), message("b")], ack: None, atomic: true };
    let results = f.broker.publish(&call(), TENANT, "t", publish).await.unwrap();
    assert_eq!(results.len(), 2);
    let flags: Vec<_> = f.shard.messages(topic, QueueId(0)).iter().map(|record| record.header.flags).collect();
    assert_eq!(flags, [1, 0]);
}

#[tokio::test]
async fn limits_one_below_at_and_above() {
    let f = Fixture::new().await;
    f.put_topic("t", pointsman_state_machine::command::TopicConfig { max_message_bytes: 10, ..topic_config(1) }).await;
    let sized = |n: usize| message(&"x".repeat(n));
    let results = f.publish("t", vec![sized(9), sized(10), sized(11)]).await.unwrap();
    assert!(results[0].is_ok() && results[1].is_ok());
    assert_eq!(results[2], Err(Error::MessageTooLarge { limit: 10 }));
    for (n, ok) in [(999, true), (1_000, true), (1_001, false)] {
        let result = f.publish("t", vec![sized(1); n]).await;
        assert_eq!(result.is_ok(), ok, "{n}");
        assert!(ok || matches!(result, Err(Error::BatchTooLarge(_))));
    }
    f.put_topic(
        "big",
        pointsman_state_machine::command::TopicConfig { max_message_bytes: 16 << 20, ..topic_config(1) },
    )
    .await;
    let half = Bytes::from(vec![0; limits::BATCH_BYTES_MAX / 2]);
    for (extra, ok) in [(-1_i64, true), (0, true), (1, false)] {
        let rest = Bytes::from(vec![0; (half.len() as i64 + extra) as usize]);
        let batch = [&half, &rest].map(|body| NewMessage { body: body.clone(), ..NewMessage::default() });
        assert_eq!(f.publish("big", batch.to_vec()).await.is_ok(), ok, "{extra}");
    }
}

#[tokio::test]
async fn failures_of_the_log_keep_their_names() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    for (error, expected) in [
        (ProposeError::NotLeader, Error::NoLeader),
        (ProposeError::DiskFull, Error::DiskFull),
        (ProposeError::OutcomeUnknown, Error::OutcomeUnknown),
        (ProposeError::StorageFailed("bad sector".into()), Error::StorageFailed("bad sector".into())),
    ] {
        f.shard.fail_next(error);
        assert_eq!(f.publish("t", vec![message("x")]).await, Err(expected));
    }
    f.shard.set_term(None);
    assert_eq!(f.publish("t", vec![message("x")]).await, Err(Error::NoLeader));
    f.shard.set_term(Some(2));
    f.send("t", message("x")).await;
    assert_eq!(f.publish("missing", vec![message("x")]).await, Err(Error::TopicNotFound("missing".into())));
    f.broker.shutdown().await;
    assert_eq!(f.publish("t", vec![message("x")]).await, Err(Error::Draining));
}

#[tokio::test]
async fn what_waits_to_be_judged_is_bounded() {
    let f = Fixture::new().await;
    f.topic("t", 4).await;
    f.upload("digit", digit_selector()).await;
    f.bind("s", binding_settings(Slot::Selector, Some("t"), None, "digit")).await;
    let call_of = |n: usize| {
        let broker = f.broker.clone();
        let publish = Publish { messages: vec![tagged("1"); n], ack: None, atomic: false };
        tokio_test_poll(async move { broker.publish(&call(), TENANT, "t", publish).await })
    };
    // Nothing else runs before the first await below, so all of it waits.
    let mut calls: Vec<_> = (0..8).map(|_| call_of(1_000)).collect();
    calls.push(call_of(limits::TOPIC_WAITING_MAX - 8_000 - 1));
    calls.push(call_of(1));
    for call in &mut calls {
        call.poll_once().await;
    }
    let over = call_of(1).finish().await;
    assert!(matches!(over, Err(Error::Overloaded(_))), "{over:?}");
    for call in calls {
        assert!(call.finish().await.unwrap().iter().all(Result::is_ok));
    }
    f.send("t", tagged("1")).await;
}
