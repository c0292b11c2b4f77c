//! Publishing the same again: by its producer's key and by its plugin's, in every race.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use pointsman_model::delay::Delay;
use pointsman_model::judge::{DedupKey, Failure, Field, Plan, Target, Verdict};
use pointsman_model::message::NewMessage;
use pointsman_model::{QueueId, QueueOffset, TopicId, limits};
use pointsman_state_machine::command::{DedupBy, Durability, FailurePolicy, PublishHead, Slot, TopicConfig};

use crate::Error;
use crate::ports::ProposeError;
use crate::testing::FakePlugin;
use crate::testing::fixture::{Fixture, TENANT, binding_settings, call, call_within, message, tagged, topic_config};
use crate::view::{Publish, PublishReceipt, PublishState};

fn keyed(key: &str, body: &str) -> NewMessage {
    NewMessage { idempotency_key: Some(key.into()), ..message(body) }
}

fn in_queue(queue: u16, message: NewMessage) -> NewMessage {
    NewMessage { queue: Some(QueueId(queue)), ..message }
}

fn duplicates(results: &[Result<PublishReceipt, Error>]) -> Vec<bool> {
    results.iter().map(|result| result.as_ref().unwrap().duplicate.unwrap()).collect()
}

impl Fixture {
    /// Payloads of all queues of a topic.
    fn stored(&self, topic: TopicId) -> Vec<Bytes> {
        (0..4).flat_map(|queue| self.shard.messages(topic, QueueId(queue))).map(|record| record.body).collect()
    }

    async fn key_state(&self, key: &str) -> PublishState {
        self.broker.publish_state(&call(), TENANT, "t", key).await.unwrap()
    }
}

#[tokio::test]
async fn a_duplicate_answers_the_original_and_another_payload_is_a_mistake() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 4).await;
    let first = f.send("t", in_queue(2, keyed("k", "body"))).await;
    assert_eq!(first.duplicate, Some(false));
    f.clock.advance_ms(5);
    let entries = f.shard.entries().len();
    let again = f.send("t", in_queue(1, keyed("k", "body"))).await;
    assert_eq!(again, PublishReceipt { duplicate: Some(true), ..first.clone() });
    let results = f.publish("t", vec![keyed("k", "other"), keyed("k", "body")]).await.unwrap();
    assert_eq!(results[0], Err(Error::IdempotencyMismatch));
    assert_eq!(results[1].as_ref(), Ok(&again));
    assert_eq!(f.shard.entries().len(), entries, "what is surely a duplicate is not proposed");
    assert_eq!(f.stored(topic), ["body"]);
    assert_eq!(f.broker.duplicates(), 2);
    assert_eq!(f.key_state("k").await, PublishState::Committed(again));

    f.clock.advance_ms(limits::DEDUP_WINDOW_MS_DEFAULT);
    assert_eq!(f.key_state("k").await, PublishState::Absent);
    assert_eq!(f.send("t", keyed("k", "other")).await.duplicate, Some(false), "the window is over");
    assert_eq!(f.stored(topic).len(), 2);
}

#[tokio::test]
async fn a_topic_without_a_window_keeps_no_keys() {
    let f = Fixture::new().await;
    let topic = f.put_topic("t", TopicConfig { dedup_window_ms: 0, ..topic_config(1) }).await;
    f.send("t", keyed("k", "a")).await;
    f.send("t", keyed("k", "b")).await;
    assert_eq!(f.stored(topic), ["a", "b"]);
}

#[tokio::test]
async fn of_a_hundred_at_once_one_is_stored() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 4).await;
    f.shard.hold();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let broker = f.broker.clone();
            let publish = Publish { messages: vec![keyed("k", "body")], ack: None, atomic: false };
            tokio::spawn(async move { broker.publish(&call(), TENANT, "t", publish).await.unwrap().remove(0).unwrap() })
        })
        .collect();
    while f.shard.held() < 2 {
        tokio::task::yield_now().await;
    }
    f.shard.release();
    let mut receipts = Vec::new();
    for call in calls {
        receipts.push(call.await.unwrap());
    }
    assert_eq!(receipts.iter().filter(|receipt| receipt.duplicate == Some(false)).count(), 1);
    let ids: BTreeSet<_> = receipts.iter().map(|receipt| (receipt.id, receipt.queue, receipt.offset)).collect();
    assert_eq!(ids.len(), 1, "all name the same message");
    assert_eq!(f.stored(topic), ["body"]);
    assert_eq!(f.broker.duplicates(), 99);
}

#[tokio::test]
async fn duplicates_within_one_call_and_in_one_unit() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    let batch = vec![keyed("a", "1"), keyed("b", "2"), keyed("a", "1"), message("3")];
    let results = f.publish("t", batch.clone()).await.unwrap();
    assert_eq!(duplicates(&results), [false, false, true, false]);
    assert_eq!(results[2].as_ref().unwrap().id, results[0].as_ref().unwrap().id);
    assert_eq!(f.stored(topic), ["1", "2", "3"]);

    let atomic = |messages| {
        let publish = Publish { messages, ack: None, atomic: true };
        async { f.broker.publish(&call(), TENANT, "t", publish).await }
    };
    let results = atomic(vec![keyed("b", "2"), keyed("c", "4"), keyed("c", "4")]).await.unwrap();
    assert_eq!(duplicates(&results), [true, false, true]);
    let refused = atomic(vec![keyed("d", "5"), keyed("b", "other")]).await;
    assert_eq!(refused, Err(Error::IdempotencyMismatch), "found before the proposal");
    let refused = atomic(vec![keyed("e", "5"), keyed("e", "other")]).await;
    assert_eq!(refused, Err(Error::IdempotencyMismatch), "found by it");
    assert_eq!(f.stored(topic), ["1", "2", "3", "4"]);
    assert_eq!(duplicates(&atomic(vec![keyed("d", "5"), keyed("e", "5")]).await.unwrap()), [false, false]);
    assert_eq!(duplicates(&atomic(vec![keyed("d", "5"), keyed("e", "5")]).await.unwrap()), [true, true]);
}

#[tokio::test]
async fn what_is_decided_again_keeps_its_key() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.shard.hold();
    let publish = f.publish("t", vec![keyed("k", "x")]);
    let change = async {
        while f.shard.held() == 0 {
            tokio::task::yield_now().await;
        }
        f.shard.release_after_change();
        f.shard.release();
    };
    let (results, ()) = tokio::join!(publish, change);
    assert_eq!(duplicates(&results.unwrap()), [false], "stale once, then stored");
    assert_eq!(f.send("t", keyed("k", "x")).await.duplicate, Some(true));
    assert_eq!(f.stored(topic), ["x"]);
}

#[tokio::test]
async fn an_unknown_outcome_is_settled_by_trying_again_or_by_asking() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.send("t", keyed("first", "x")).await;
    assert_eq!(f.key_state("k").await, PublishState::Absent);
    f.shard.hold();
    let short = call_within(Duration::from_millis(30));
    let publish = Publish { messages: vec![keyed("k", "x")], ack: None, atomic: false };
    let late = f.broker.publish(&short, TENANT, "t", publish).await;
    assert_eq!(late, Err(Error::OutcomeUnknown));
    assert_eq!(f.key_state("k").await, PublishState::InFlight, "its caller is gone and its record is not");
    f.shard.release();
    tokio::task::yield_now().await;
    let PublishState::Committed(receipt) = f.key_state("k").await else { panic!("it is stored") };
    assert_eq!(f.send("t", keyed("k", "x")).await, receipt);
    assert_eq!(f.stored(topic), ["x", "x"]);

    f.shard.fail_next(ProposeError::NotLeader);
    assert_eq!(f.publish("t", vec![keyed("l", "x")]).await, Err(Error::NoLeader));
    assert_eq!(f.key_state("l").await, PublishState::Absent, "surely not proposed");
    f.shard.set_term(None);
    assert_eq!(f.broker.publish_state(&call(), TENANT, "t", "k").await, Err(Error::NoLeader));
    assert_eq!(f.publish("t", vec![keyed("k", "x")]).await, Err(Error::NoLeader), "also for what it knows");
    f.shard.set_term(Some(2));
    assert_eq!(f.send("t", keyed("k", "x")).await.duplicate, Some(true), "in another term");
    assert_eq!(f.send("t", keyed("l", "x")).await.duplicate, Some(false));
}

#[tokio::test]
async fn what_is_decided_in_a_term_that_is_over_leaves_its_key_free() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.shard.hold();
    let publish = f.publish("t", vec![keyed("k", "x")]);
    let change = async {
        while f.shard.held() == 0 {
            tokio::task::yield_now().await;
        }
        f.shard.set_term(Some(2));
        f.shard.release();
    };
    let (results, ()) = tokio::join!(publish, change);
    assert_eq!(results, Err(Error::NoLeader));
    assert_eq!(f.key_state("k").await, PublishState::Absent);
    assert_eq!(f.send("t", keyed("k", "x")).await.duplicate, Some(false));
    assert_eq!(f.stored(topic), ["x"]);
}

#[tokio::test]
async fn the_state_of_a_key_is_asked_with_a_key() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let most = limits::IDEMPOTENCY_KEY_STORED_BYTES_MAX;
    for (key, ok) in
        [("k".repeat(most), true), ("k".repeat(most + 1), false), ("".into(), false), ("a b".into(), false)]
    {
        let state = f.broker.publish_state(&call(), TENANT, "t", &key).await;
        assert_eq!(state.is_ok(), ok, "{key:?}: {state:?}");
        assert!(ok || matches!(state, Err(Error::InvalidRequest { .. })));
    }
    let missing = f.broker.publish_state(&call(), TENANT, "missing", "k").await;
    assert_eq!(missing, Err(Error::TopicNotFound("missing".into())));
}

#[tokio::test]
async fn weaker_acks_are_stored_once_too() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.shard.hold();
    let publish = || {
        let publish = Publish { messages: vec![keyed("k", "x")], ack: Some(Durability::None), atomic: false };
        async { f.broker.publish(&call(), TENANT, "t", publish).await.unwrap().remove(0).unwrap() }
    };
    let early = publish().await;
    assert_eq!((early.duplicate, early.durability), (None, Durability::None));
    assert_eq!(publish().await.duplicate, None, "too early to know");
    assert_eq!(f.key_state("k").await, PublishState::InFlight);
    f.shard.release_after_change();
    f.shard.release();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(f.stored(topic), ["x"], "both stale, decided again, and one of them stored");
    let known = publish().await;
    assert_eq!((known.duplicate, known.durability), (Some(true), Durability::Quorum));
    assert!(matches!(f.key_state("k").await, PublishState::Committed(_)));
}

#[tokio::test]
async fn all_targets_of_a_message_are_stored_once() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 2).await;
    let other = f.topic("other", 2).await;
    let plan = Plan { destinations: vec!["other".into()], ..Plan::default() };
    let fan = FakePlugin::selector(plan, |_, _| {
        Verdict::Answer([1, 0].map(|destination| Target { destination, queue: Some(QueueId(1)) }).to_vec())
    });
    f.upload("fan", fan).await;
    f.bind("s", binding_settings(Slot::Selector, Some("t"), None, "fan")).await;
    let batch = || vec![keyed("k", "x"), keyed("l", "y"), keyed("k", "x")];
    let results = f.publish("t", batch()).await.unwrap();
    assert_eq!(duplicates(&results), [false, false, true]);
    let first = results[0].as_ref().unwrap();
    assert_eq!((first.topic.as_str(), first.targets.len()), ("other", 2));
    let again = f.publish("t", batch()).await.unwrap();
    assert_eq!(duplicates(&again), [true, true, true]);
    assert_eq!((again[0].as_ref().unwrap().topic.as_str(), again[0].as_ref().unwrap().id), ("other", first.id));
    assert_eq!(f.stored(topic), ["x", "y"]);
    assert_eq!(f.stored(other), ["x", "y"]);
    assert_eq!(f.send("other", keyed("k", "z")).await.duplicate, Some(false), "a key of the topic published to");
}

/// Names the tag as the key; `fails`, `traps` and `long` give no key.
fn by_tag() -> FakePlugin {
    FakePlugin::dedup(Plan { fields: vec![Field::Tag], ..Plan::default() }, |i, columns| match columns[0].get(i) {
        Some(b"fails") => Verdict::Failed("no idea".into()),
        Some(b"traps") => Verdict::Stopped(Failure::Trap),
        Some(b"long") => Verdict::Answer(Some(DedupKey { key: "k".repeat(257), ttl_ms: None })),
        Some(b"short") => Verdict::Answer(Some(DedupKey { key: "short".into(), ttl_ms: Some(10) })),
        Some(b"never") => Verdict::Answer(Some(DedupKey { key: "never".into(), ttl_ms: Some(0) })),
        Some(tag) => Verdict::Answer(Some(DedupKey { key: String::from_utf8_lossy(tag).into_owned(), ttl_ms: None })),
        None => Verdict::Answer(None),
    })
}

#[tokio::test]
async fn a_plugin_names_the_key_and_its_word_is_enough() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.upload("tag", by_tag()).await;
    f.bind("d", binding_settings(Slot::Dedup, Some("t"), None, "tag")).await;
    let tag = |tag: &str, body: &str| NewMessage { tag: Some(tag.into()), ..message(body) };
    let results = f.publish("t", vec![tag("a", "1"), tag("a", "other"), message("2"), message("2")]).await.unwrap();
    assert_eq!(duplicates(&results), [false, true, false, false], "whatever the payload; without a key as ever");
    let entries = f.shard.entries().len();
    assert_eq!(f.send("t", tag("a", "again")).await.id, results[0].as_ref().unwrap().id);
    assert_eq!(f.shard.entries().len(), entries, "looked up before the proposal");

    let stored = f.shard.messages(topic, QueueId(0));
    let head: PublishHead<'_> = postcard::from_bytes(&stored[0].head).unwrap();
    let dedup = head.dedup.unwrap();
    assert_eq!((dedup.key, dedup.by, dedup.window_ms), ("a", DedupBy::Plugin, limits::DEDUP_WINDOW_MS_DEFAULT));
    let binding = f.broker.get_binding(&call(), TENANT, "d").await.unwrap();
    assert_eq!((head.judged[0].binding, head.judged[0].generation), (binding.id.0, stored[0].header.generation.0));
    let head: PublishHead<'_> = postcard::from_bytes(&stored[1].head).unwrap();
    assert_eq!((head.dedup, head.judged.len()), (None, 1), "it was asked, and named none");

    let producers = NewMessage { idempotency_key: Some("a".into()), ..tag("a", "1") };
    assert_eq!(f.send("t", producers.clone()).await.duplicate, Some(false), "the producer's word comes first");
    assert_eq!(f.send("t", producers).await.duplicate, Some(true));
    assert_eq!(f.key_state("b").await, PublishState::Absent);

    assert_eq!(f.send("t", tag("short", "x")).await.duplicate, Some(false));
    assert_eq!(f.send("t", tag("short", "x")).await.duplicate, Some(true));
    f.clock.advance_ms(10);
    assert_eq!(f.send("t", tag("short", "x")).await.duplicate, Some(false), "its own time");
    assert_eq!(f.send("t", tag("never", "x")).await.duplicate, Some(false));
    assert_eq!(f.send("t", tag("never", "x")).await.duplicate, Some(false));
}

#[tokio::test]
async fn without_an_answer_the_policy_says_what_is_done() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.upload("tag", by_tag()).await;
    f.bind("d", binding_settings(Slot::Dedup, Some("t"), None, "tag")).await;
    let tags = ["fails", "traps", "long"];
    let results = f.publish("t", tags.map(tagged).to_vec()).await.unwrap();
    assert_eq!(duplicates(&results), [false; 3]);
    assert_eq!(f.stored(topic).len(), 3, "kept, without a key");
    for record in f.shard.messages(topic, QueueId(0)) {
        let head: PublishHead<'_> = postcard::from_bytes(&record.head).unwrap();
        assert_eq!((head.dedup, head.judged.len()), (None, 1));
    }
    let mut settings = binding_settings(Slot::Dedup, Some("t"), None, "tag");
    settings.on_failure = Some(FailurePolicy::Refuse);
    f.bind("d", settings).await;
    let results = f.publish("t", ["fails", "traps", "long", "good"].map(tagged).to_vec()).await.unwrap();
    assert!(results[..3].iter().all(|result| matches!(result, Err(Error::PluginRejected(_)))), "{results:?}");
    assert!(results[3].is_ok());
    *f.judges.broken.lock() = Some("no memory".into());
    let mut settings = binding_settings(Slot::Dedup, Some("t"), None, "tag");
    (settings.on_failure, settings.config) = (Some(FailurePolicy::Refuse), Bytes::from_static(b"{\"v\":2}"));
    f.bind("d", settings).await;
    let results = f.publish("t", vec![tagged("x"), keyed("k", "x")]).await.unwrap();
    assert!(matches!(&results[0], Err(Error::PluginUnavailable(words)) if words.contains("no memory")), "{results:?}");
    assert!(results[1].is_ok(), "not asked, not harmed");
}

#[tokio::test]
async fn a_dedup_and_a_selector_judge_the_same_message_under_one_generation() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 4).await;
    f.upload("tag", by_tag()).await;
    let third = |_: usize, _: &[_]| Verdict::Answer(vec![Target { destination: 0, queue: Some(QueueId(3)) }]);
    f.upload("third", FakePlugin::selector(Plan::default(), third)).await;
    f.bind("d", binding_settings(Slot::Dedup, Some("t"), None, "tag")).await;
    f.bind("s", binding_settings(Slot::Selector, Some("t"), None, "third")).await;
    let results = f
        .publish("t", vec![tagged("a"), in_queue(1, tagged("a")), keyed("k", "x"), in_queue(0, tagged("b"))])
        .await
        .unwrap();
    assert_eq!(duplicates(&results), [false, true, false, false]);
    let queues: Vec<_> = results.iter().map(|result| result.as_ref().unwrap().queue.unwrap().0).collect();
    assert_eq!(queues, [3, 3, 3, 0]);
    let stored = f.shard.messages(topic, QueueId(3));
    let judged = |at: usize| postcard::from_bytes::<PublishHead<'_>>(&stored[at].head).unwrap().judged;
    assert_eq!(judged(0).len(), 2);
    assert_eq!(judged(0)[0].generation, judged(0)[1].generation);
    assert_eq!(judged(1).len(), 1, "of the producer's key the plugin was not asked");

    f.shard.hold();
    let publish = f.publish("t", vec![tagged("c")]);
    let change = async {
        while f.shard.held() == 0 {
            tokio::task::yield_now().await;
        }
        f.shard.release_after_change();
        f.shard.release();
    };
    let (results, ()) = tokio::join!(publish, change);
    assert_eq!(duplicates(&results.unwrap()), [false], "stale, judged again, stored");
    assert_eq!(f.send("t", tagged("c")).await.duplicate, Some(true));
}

#[tokio::test]
async fn a_delayed_message_is_stored_once_and_answers_when_it_comes() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    let delayed = || NewMessage { delay: Some(Delay::After(1_000)), ..keyed("k", "x") };
    let first = f.send("t", delayed()).await;
    assert_eq!((first.duplicate, first.queue, first.offset), (Some(false), None, None));
    assert!(first.deliver_at.is_some());
    for again in [delayed(), keyed("k", "x")] {
        assert_eq!(f.send("t", again).await, PublishReceipt { duplicate: Some(true), ..first.clone() });
    }
    assert!(matches!(f.key_state("k").await, PublishState::Committed(_)));
    f.pass(1_000).await;
    let after = f.send("t", delayed()).await;
    assert_eq!((after.id, after.deliver_at, after.offset), (first.id, None, Some(QueueOffset(0))));
    assert_eq!(f.stored(topic), ["x"]);

    let second = f.send("t", NewMessage { delay: Some(Delay::After(1_000)), ..keyed("l", "x") }).await;
    f.broker.cancel_scheduled(&call(), TENANT, second.id.unwrap()).await.unwrap();
    assert_eq!(f.key_state("l").await, PublishState::Absent, "cancelled, and its key is free");
}
