//! The timer loop over fakes.

use std::collections::HashMap;

use pointsman_model::delay::Delay;
use pointsman_model::message::NewMessage;
use pointsman_model::time::Clock;
use pointsman_model::{QueueId, Timestamp, TopicId, limits};
use pointsman_state_machine::command::{Placement, PublishHead};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::ports::Shard;
use crate::testing::fixture::{Fixture, bodies, message, topic_config};

fn delayed(body: &str, ms: u64) -> NewMessage {
    NewMessage { delay: Some(Delay::After(ms)), ..message(body) }
}

impl Fixture {
    /// Lets the loop go on until what waits is as much as this.
    async fn until_waiting(&self, waiting: u64) {
        for _ in 0..20_000 {
            if self.broker.timer_stats()[0].waiting == waiting {
                return;
            }
            self.broker.tick_now();
            tokio::task::yield_now().await;
        }
        panic!("{waiting} should wait: {:?}", self.broker.timer_stats());
    }

    async fn yields(&self) {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }

    fn visible(&self, topic: TopicId) -> Vec<(String, Timestamp)> {
        let found = self.shard.queue(topic, QueueId(0), pointsman_model::QueueOffset(0), usize::MAX).unwrap();
        let text = |entry| String::from_utf8_lossy(&self.shard.record(entry).unwrap().body).into_owned();
        found.iter().map(|entry| (text(entry), entry.stamp)).collect()
    }
}

/// Ten thousand timers while the wall clock jumps by up to an hour either way and leaders change: none is early, none
/// is lost, each comes once, and none is later than the tick that finds it due.
#[tokio::test]
async fn none_is_early_none_is_lost_and_each_comes_once() {
    const TIMERS: usize = 10_000;
    const HOUR_MS: u64 = 3_600_000;
    let seed: u64 = std::env::var("SEED").map_or(7, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    let mut due: HashMap<String, Timestamp> = HashMap::new();
    for batch in 0..TIMERS / limits::BATCH_MESSAGES_MAX {
        let names: Vec<_> = (0..limits::BATCH_MESSAGES_MAX).map(|i| format!("{batch}.{i}")).collect();
        let messages = names.iter().map(|name| delayed(name, rng.random_range(1..2 * HOUR_MS))).collect();
        for (name, result) in names.into_iter().zip(f.publish("t", messages).await.unwrap()) {
            due.insert(name, result.unwrap().deliver_at.unwrap());
        }
    }
    let (mut seen, mut term, mut jumps, mut leaders) = (0, 1, 0, 0);
    while seen < TIMERS {
        if rng.random_range(0..3) == 0 {
            let wall = f.clock.wall().0 + rng.random_range(0..2 * HOUR_MS);
            f.clock.jump_to(Timestamp(wall - HOUR_MS));
            jumps += 1;
        }
        if rng.random_range(0..8) == 0 {
            f.shard.set_term(None);
            f.yields().await;
            term += 1;
            f.shard.set_term(Some(term));
            leaders += 1;
        }
        f.clock.advance_ms(rng.random_range(0..120_000));
        let now = f.shard.now();
        f.until_waiting(due.values().filter(|due| **due > now).count() as u64).await;
        let visible = f.visible(topic);
        for (name, stamp) in &visible[seen..] {
            let due = due[name];
            assert!(*stamp >= due, "{name}, due at {due}, came at {stamp}");
        }
        seen = visible.len();
    }
    let mut names: Vec<_> = f.visible(topic).into_iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    assert_eq!((names.len(), seen), (TIMERS, TIMERS), "each once");
    assert!(f.shard.entries().iter().all(|records| *records as usize <= limits::TIMER_ENTRY_MESSAGES_MAX));
    assert!(jumps > 5 && leaders > 3, "{jumps} jumps, {leaders} leaders");
    let stats = &f.broker.timer_stats()[0];
    assert_eq!((stats.fired, stats.late.iter().sum::<u64>(), stats.waiting), (TIMERS as u64, TIMERS as u64, 0));
}

#[tokio::test]
async fn what_is_due_together_comes_in_order_and_in_entries_of_a_thousand() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    for batch in 0..3 {
        let messages = (0..900).map(|i| delayed(&format!("{batch}.{i}"), 100)).collect();
        assert!(f.publish("t", messages).await.unwrap().iter().all(Result::is_ok));
    }
    let before = f.shard.entries().len();
    f.clock.advance_ms(100);
    f.until_waiting(0).await;
    assert_eq!(f.shard.entries()[before..], [1_000, 1_000, 700]);
    let names: Vec<_> = f.visible(topic).into_iter().map(|(name, _)| name).collect();
    let expected: Vec<_> = (0..3).flat_map(|batch| (0..900).map(move |i| format!("{batch}.{i}"))).collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn large_payloads_make_small_entries() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let body = "x".repeat(limits::TIMER_ENTRY_BYTES_MAX / 2 + 1);
    for _ in 0..3 {
        f.send("t", delayed(&body, 100)).await;
    }
    let before = f.shard.entries().len();
    f.clock.advance_ms(100);
    f.until_waiting(0).await;
    assert_eq!(f.shard.entries()[before..], [1, 1, 1]);
}

#[tokio::test]
async fn a_leader_change_between_read_and_fire_delivers_once() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.send("t", delayed("x", 100)).await;
    f.shard.hold();
    f.clock.advance_ms(100);
    f.broker.tick_now();
    f.yields().await;
    assert_eq!(f.shard.held(), 1, "proposed, not committed");
    f.shard.set_term(Some(2));
    f.shard.release();
    f.until_waiting(0).await;
    f.yields().await;
    assert_eq!(f.visible(topic).len(), 1, "what the old leader proposed came to nothing");
}

#[tokio::test]
async fn an_outcome_that_nobody_heard_is_tried_again() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.send("t", delayed("x", 100)).await;
    f.shard.hold();
    f.clock.advance_ms(100);
    f.broker.tick_now();
    f.yields().await;
    f.shard.lose_held();
    f.shard.release();
    f.until_waiting(0).await;
    f.yields().await;
    assert_eq!(f.visible(topic).len(), 1);
}

#[tokio::test]
async fn a_cancel_on_its_way_beats_the_fire_behind_it() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    let id = f.send("t", delayed("x", 100)).await.id.unwrap();
    f.shard.hold();
    let broker = f.broker.clone();
    let cancel = tokio::spawn(async move {
        broker.cancel_scheduled(&crate::testing::fixture::call(), crate::testing::fixture::TENANT, id).await
    });
    f.yields().await;
    f.clock.advance_ms(100);
    f.broker.tick_now();
    f.yields().await;
    assert_eq!(f.shard.held(), 2, "cancel, then fire");
    f.shard.release();
    cancel.await.unwrap().unwrap();
    f.until_waiting(0).await;
    f.yields().await;
    assert!(f.visible(topic).is_empty());
}

#[tokio::test]
async fn a_changed_topic_is_decided_again() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.send("t", delayed("x", 100)).await;
    f.shard.hold();
    f.clock.advance_ms(100);
    f.broker.tick_now();
    f.yields().await;
    f.shard.release_after_change();
    f.shard.release();
    f.until_waiting(0).await;
    assert_eq!(f.visible(topic).len(), 1);
}

#[tokio::test]
async fn a_keyed_message_goes_where_its_key_goes_by_then() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    let keys: Vec<_> = (0..20).map(|i| format!("key {i}")).collect();
    for key in &keys {
        f.send("t", NewMessage { ordering_key: Some(key.clone()), ..delayed(key, 100) }).await;
    }
    let explicit =
        NewMessage { queue: Some(QueueId(0)), ordering_key: Some("key 0".into()), ..delayed("explicit", 100) };
    f.send("t", explicit).await;
    f.put_topic("t", topic_config(4)).await;
    f.clock.advance_ms(100);
    f.until_waiting(0).await;
    let mut found = 0;
    for queue in (0..4).map(QueueId) {
        for record in f.shard.messages(topic, queue) {
            let head: PublishHead<'_> = postcard::from_bytes(&record.head).unwrap();
            let expected = match head.placement {
                Placement::Slot => f.shard.state().topics[&topic].slots.queue_of(head.ordering_key.unwrap()),
                _ => QueueId(0),
            };
            assert_eq!(queue, expected, "{head:?}");
            found += 1;
        }
    }
    assert_eq!(found, 21);
}

#[tokio::test]
async fn a_deleted_topic_holds_nobody_up() {
    let f = Fixture::new().await;
    f.topic("gone", 1).await;
    let topic = f.topic("t", 1).await;
    f.send("gone", delayed("x", 50)).await;
    f.send("t", delayed("y", 100)).await;
    let (call, tenant) = (crate::testing::fixture::call(), crate::testing::fixture::TENANT);
    f.broker.delete_topic(&call, tenant, "gone", crate::command::Expect::Anything).await.unwrap();
    f.clock.advance_ms(100);
    f.until_waiting(0).await;
    assert_eq!(f.visible(topic).len(), 1);
}

#[tokio::test]
async fn time_to_live_and_the_store_time_start_with_the_delivery() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.group("g", "t", None).await;
    f.send("t", NewMessage { ttl_ms: Some(50), ..delayed("x", 1_000) }).await;
    f.pass(1_000).await;
    f.until_waiting(0).await;
    f.pass(49).await;
    assert_eq!(bodies(&f.lease("g", 1).await), ["x"]);
}

#[tokio::test]
async fn the_loop_wakes_by_itself_when_the_earliest_is_due() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.send("t", delayed("later", 60_000)).await;
    f.send("t", delayed("soon", 1_000)).await;
    f.clock.advance_ms(1_000);
    // Nobody tells it that the fake clock went on, so it polls.
    tokio::time::sleep(std::time::Duration::from_millis(limits::TIMER_POLL_MS + 10)).await;
    assert_eq!(f.visible(topic).len(), 1);
}
