//! Retention over fakes: a shard whose segments are short, and a clock that is told the time.

use pointsman_model::delay::Delay;
use pointsman_model::message::NewMessage;
use pointsman_model::{LogPosition, QueueId, QueueOffset, TopicId};
use pointsman_state_machine::command::{Ordering, TopicConfig};

use crate::Error;
use crate::ports::{ReadError, Shard};
use crate::testing::fixture::{Fixture, TENANT, bodies, call, group_settings, message, topic_config};
use crate::view::{GroupSettings, Redrive, RedriveTo, SettleOp, SettleStatus};

const HOUR_MS: u64 = 3_600_000;

/// Topic `t` that keeps messages for a second, in a log whose segments are short.
async fn short(queues: u16) -> (Fixture, TopicId) {
    let f = Fixture::new().await;
    f.shard.set_segment_bytes(2_000);
    let topic = f.put_topic("t", TopicConfig { retention_ms: 1_000, ..topic_config(queues) }).await;
    (f, topic)
}

impl Fixture {
    /// Looks until nothing is left to do.
    async fn retain(&self) {
        for _ in 0..200 {
            if !self.broker.retain_now().await.unwrap() {
                return;
            }
        }
        panic!("retention never ends");
    }

    async fn fill(&self, messages: usize) {
        for n in 0..messages {
            self.send("t", message(&format!("filler {n} {}", "x".repeat(300)))).await;
        }
    }

    fn ends(&self, topic: TopicId, queue: u16) -> (u64, u64, u64) {
        let ends = self.shard.state().ends(topic, QueueId(queue));
        (ends.earliest, ends.latest, ends.bytes)
    }

    fn released(&self) -> LogPosition {
        self.shard.state().released.base()
    }
}

#[tokio::test]
async fn what_is_too_old_goes_at_once_for_every_reader() {
    let (f, topic) = short(1).await;
    f.group("g", "t", None).await;
    let old = f.send("t", message("old")).await;
    f.clock.advance_ms(600);
    let young = f.send("t", message("young")).await;
    f.retain().await;
    assert_eq!(f.ends(topic, 0).0, 0, "nothing is over yet");
    f.clock.advance_ms(400);
    f.retain().await;
    let (earliest, latest, bytes) = f.ends(topic, 0);
    assert_eq!((earliest, latest), (1, 2));
    let kept = f.shard.queue(topic, QueueId(0), QueueOffset(1), 9).unwrap();
    assert_eq!(bytes, u64::from(kept[0].length), "what is stored is what is left");
    assert_eq!(f.shard.state().stored_bytes.values().sum::<u64>(), bytes);

    let expired = ReadError::Expired { earliest: QueueOffset(1) };
    assert_eq!(f.shard.queue(topic, QueueId(0), QueueOffset(0), 9), Err(expired));
    let read = f.broker.list_messages(&call(), TENANT, "t", QueueId(0), 0, 9).await;
    assert!(matches!(read, Err(Error::OffsetExpired { earliest: 1 })), "{read:?}");
    assert!(matches!(f.broker.get_message(&call(), TENANT, old.id.unwrap()).await, Err(Error::MessageNotFound)));
    f.broker.get_message(&call(), TENANT, young.id.unwrap()).await.unwrap();
    assert_eq!(bodies(&f.lease("g", 9).await), ["young"]);

    // Nobody writes, and the rest goes all the same.
    f.clock.advance_ms(600);
    f.retain().await;
    assert_eq!(f.ends(topic, 0), (2, 2, 0));
    f.send("t", message("next")).await;
    assert_eq!(f.ends(topic, 0).1, 3, "offsets go on");
    assert_eq!(f.broker.retention_stats()[1].messages, 2);
}

#[tokio::test]
async fn past_its_bytes_the_oldest_of_a_topic_go_whichever_queue_they_are_in() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 2).await;
    for n in 0..20 {
        f.send("t", message(&format!("{n:02}"))).await;
    }
    let (_, _, bytes) = f.ends(topic, 0);
    let one = bytes / f.ends(topic, 0).1;
    f.put_topic("t", TopicConfig { retention_bytes: Some(6 * one), ..topic_config(2) }).await;
    f.retain().await;
    let kept: u64 =
        [0, 1].map(|queue| f.ends(topic, queue)).iter().map(|(earliest, latest, _)| latest - earliest).sum();
    assert_eq!(kept, 6);
    let mut left = Vec::new();
    for queue in [0, 1] {
        let from = QueueOffset(f.ends(topic, queue).0);
        for entry in f.shard.queue(topic, QueueId(queue), from, 99).unwrap() {
            left.push(String::from_utf8_lossy(&f.shard.record(&entry).unwrap().body).into_owned());
        }
    }
    left.sort();
    assert_eq!(left, ["14", "15", "16", "17", "18", "19"]);
}

#[tokio::test]
async fn only_the_leader_looks() {
    let (f, topic) = short(1).await;
    f.fill(3).await;
    f.clock.advance_ms(2_000);
    f.shard.set_term(None);
    f.retain().await;
    assert_eq!(f.ends(topic, 0).0, 0);
    f.shard.set_term(Some(2));
    f.retain().await;
    assert_eq!(f.ends(topic, 0).0, 3);
}

#[tokio::test]
async fn a_delayed_message_is_carried_out_of_an_old_segment_and_comes_in_time_under_its_id() {
    let (f, topic) = short(1).await;
    let delay = Some(Delay::After(HOUR_MS));
    let sent = f.send("t", NewMessage { delay, ..message("later") }).await;
    let id = sent.id.unwrap();
    let stored = f.shard.owed(LogPosition(u64::MAX), 9).unwrap()[0].position;
    f.fill(60).await;
    f.clock.advance_ms(2_000);
    f.retain().await;
    assert!(f.released() > stored, "its segment is gone: {:?} after {stored:?}", f.released());
    assert_eq!(f.broker.retention_stats()[1].carried, 1);
    let moved = f.shard.owed(LogPosition(u64::MAX), 9).unwrap();
    assert!(moved.len() == 1 && moved[0].position >= f.released(), "{moved:?}");

    f.clock.advance_ms(HOUR_MS);
    for _ in 0..20_000 {
        f.broker.tick_now();
        tokio::task::yield_now().await;
        if f.broker.timer_stats()[0].waiting == 0 {
            break;
        }
    }
    let found = f.broker.get_message(&call(), TENANT, id).await.unwrap();
    assert_eq!((found.id, &found.record.body[..]), (id, &b"later"[..]));
    assert!(f.shard.owed(LogPosition(u64::MAX), 9).unwrap().is_empty(), "nothing is owed any more");
    // Where it was parked is forgotten with the segment that it is visible in.
    f.fill(20).await;
    f.clock.advance_ms(2_000);
    f.retain().await;
    assert!(f.ends(topic, 0).0 > 60);
    assert!(matches!(f.broker.get_message(&call(), TENANT, id).await, Err(Error::MessageNotFound)));
    let moved_rows = f.shard.rows().iter().filter(|(key, _)| key[0] == pointsman_state_machine::table::MOVED).count();
    assert_eq!(moved_rows, 0);
}

#[tokio::test]
async fn much_that_is_owed_pins_its_segments() {
    let (f, _) = short(1).await;
    for _ in 0..20 {
        let delay = Some(Delay::After(HOUR_MS));
        f.send("t", NewMessage { delay, ..message(&"x".repeat(300)) }).await;
    }
    f.fill(4).await;
    f.clock.advance_ms(2_000);
    f.retain().await;
    assert_eq!(f.released(), LogPosition(0));
    let stats = f.broker.retention_stats()[1];
    assert!(stats.carried == 0 && stats.pinned_bytes > 5_000, "{stats:?}");
}

#[tokio::test]
async fn a_dead_letter_outlives_its_segment_and_is_redriven() {
    let (f, _) = short(1).await;
    f.group("g", "t", None).await;
    let id = f.send("t", message("poison")).await.id.unwrap();
    let lease = f.lease("g", 1).await.remove(0);
    assert_eq!(f.settle("g", &lease.receipt, SettleOp::DeadLetter).await, SettleStatus::Settled);
    let stored = f.shard.owed(LogPosition(u64::MAX), 9).unwrap()[0].position;
    f.fill(60).await;
    f.clock.advance_ms(2_000);
    f.retain().await;
    assert!(f.released() > stored, "its segment is gone");
    let letter = f.broker.get_dead_letter(&call(), TENANT, "g", id).await.unwrap();
    assert_eq!((letter.message.id, &letter.message.record.body[..]), (id, &b"poison"[..]));
    let ask = Redrive { to: RedriveTo::Group, ids: Some(vec![id.to_string()]), ..Redrive::default() };
    f.broker.redrive(&call(), TENANT, "g", ask).await.unwrap();
    f.pass(100).await;
    let leases = f.lease("g", 1).await;
    assert_eq!((bodies(&leases), leases[0].message.id), (vec!["poison".to_owned()], id));
    // Given up once more it lies where it lies now, and the other kind of redrive finds it, too.
    assert_eq!(f.settle("g", &leases[0].receipt, SettleOp::DeadLetter).await, SettleStatus::Settled);
    f.fill(60).await;
    f.clock.advance_ms(2_000);
    f.retain().await;
    let ask = Redrive { to: RedriveTo::Topic, ids: Some(vec![id.to_string()]), ..Redrive::default() };
    f.broker.redrive(&call(), TENANT, "g", ask).await.unwrap();
    assert_eq!(bodies(&f.lease("g", 1).await), ["poison"]);
}

#[tokio::test]
async fn a_message_between_two_attempts_is_owed_to_its_group_and_a_fresh_one_is_not() {
    for ordering in [Ordering::None, Ordering::Key] {
        let (f, topic) = short(1).await;
        f.put_group("g", GroupSettings { ordering, ..group_settings(&[("t", None)]) }).await;
        f.send("t", message("again")).await;
        f.send("t", message("fresh")).await;
        let lease = f.lease("g", 1).await.remove(0);
        assert_eq!(f.settle("g", &lease.receipt, SettleOp::Nack).await, SettleStatus::Settled);
        f.fill(60).await;
        f.clock.advance_ms(2_000);
        f.retain().await;
        assert_eq!(f.ends(topic, 0).0, 62);
        assert_eq!(f.released(), LogPosition(0), "its segment stays");
        f.pass(60_000).await;
        let leases = f.lease("g", 9).await;
        assert_eq!(bodies(&leases), ["again"], "{ordering:?}");
        assert_eq!(f.settle("g", &leases[0].receipt, SettleOp::Ack).await, SettleStatus::Settled);
        f.retain().await;
        assert!(f.released() > LogPosition(0), "nothing keeps it any more");
    }
}

#[tokio::test]
async fn a_nack_that_comes_after_retention_took_the_message_makes_no_attempt() {
    let (f, _) = short(1).await;
    f.group("g", "t", None).await;
    f.send("t", message("late")).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.fill(60).await;
    f.clock.advance_ms(2_000);
    f.retain().await;
    assert!(f.released() > LogPosition(0), "a lease of ordering `none` keeps nothing");
    assert_eq!(f.settle("g", &lease.receipt, SettleOp::Nack).await, SettleStatus::Settled);
    assert!(f.shard.state().retrying.is_empty());
    f.retain().await;
}
