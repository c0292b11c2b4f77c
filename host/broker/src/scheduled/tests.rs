//! Messages that wait, over fakes.

use pointsman_model::delay::Delay;
use pointsman_model::message::NewMessage;
use pointsman_model::{MessageId, QueueId, Timestamp, limits};

use crate::Error;
use crate::testing::fixture::{Fixture, TENANT, bodies, call, message};
use crate::view::{MessageById, PageRequest, Publish, PublishReceipt};

fn delayed(body: &str, ms: u64) -> NewMessage {
    NewMessage { delay: Some(Delay::After(ms)), ..message(body) }
}

impl Fixture {
    async fn delay(&self, body: &str, ms: u64) -> MessageId {
        self.send("t", delayed(body, ms)).await.id.unwrap()
    }

    async fn listed(&self, topic: &str, limit: u32) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        let mut page = PageRequest { limit, cursor: None };
        loop {
            let got = self.broker.list_scheduled(&call(), TENANT, topic, &page).await.unwrap();
            assert!(got.items.len() <= limit as usize);
            let now = self.clock_now();
            all.extend(got.items.iter().map(|item| (text(&item.record.body), item.deliver_at.since_ms(now))));
            match got.next_cursor {
                Some(cursor) => page.cursor = Some(cursor),
                None => return all,
            }
        }
    }

    fn clock_now(&self) -> Timestamp {
        pointsman_model::time::Clock::wall(&*self.clock)
    }

    async fn body_of(&self, id: MessageId) -> Result<String, Error> {
        self.broker.get_message(&call(), TENANT, id).await.map(|found| text(&found.record.body))
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

fn is_waiting(receipt: &PublishReceipt) -> bool {
    receipt.queue.is_none() && receipt.offset.is_none() && receipt.stored_at.is_none() && receipt.deliver_at.is_some()
}

#[tokio::test]
async fn a_delayed_message_is_delivered_at_its_time_and_keeps_its_id() {
    let f = Fixture::new().await;
    f.topic("t", 4).await;
    f.group("g", "t", None).await;
    let receipt = f.send("t", delayed("late", 1_000)).await;
    assert!(is_waiting(&receipt), "{receipt:?}");
    let due = f.clock_now().plus_ms(1_000);
    assert_eq!(receipt.deliver_at, Some(due));
    let id = receipt.id.unwrap();
    f.send("t", message("now")).await;
    assert_eq!(bodies(&f.lease("g", 10).await), ["now"]);
    assert_eq!(f.body_of(id).await, Err(Error::MessageNotFound));
    let MessageById::Scheduled(found) = f.broker.find_message(&call(), TENANT, id).await.unwrap() else {
        panic!("it waits")
    };
    assert_eq!((found.id, found.deliver_at, found.topic.as_str()), (id, due, "t"));

    f.pass(999).await;
    assert!(f.lease("g", 10).await.is_empty(), "never early");
    f.pass(1).await;
    let leases = f.lease("g", 10).await;
    assert_eq!(bodies(&leases), ["late"]);
    let leased = &leases[0].message;
    assert_eq!((leased.id, leased.stored_at), (id, due));
    let found = f.broker.get_message(&call(), TENANT, id).await.unwrap();
    assert_eq!((found.id, found.offset, found.stored_at), (id, leased.offset, due));
    let queue = leased.record.header.queue;
    let list = f.broker.list_messages(&call(), TENANT, "t", queue, leased.offset.0, 1).await.unwrap();
    assert_eq!(list[0].id, id);
}

#[tokio::test]
async fn the_record_that_made_it_visible_has_no_id_of_its_own() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let id = f.delay("late", 10).await;
    f.pass(10).await;
    assert_eq!(f.body_of(id).await.unwrap(), "late");
    for index in 0..20 {
        let other = MessageId { index: pointsman_model::LogIndex(index), ..id };
        assert_eq!(f.body_of(other).await.is_ok(), other == id, "{other:?}");
    }
    let other = MessageId { term: pointsman_model::Term(9), ..id };
    assert_eq!(f.body_of(other).await, Err(Error::MessageNotFound));
}

#[tokio::test]
async fn what_is_due_already_is_published_at_once() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let now = f.clock_now();
    for delay in [Delay::After(0), Delay::At(now), Delay::At(Timestamp(1))] {
        let receipt = f.send("t", NewMessage { delay: Some(delay), ..message("x") }).await;
        assert!(receipt.offset.is_some() && receipt.deliver_at.is_none(), "{receipt:?}");
    }
}

#[tokio::test]
async fn a_year_is_the_most_one_below_at_and_above() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let year = f.clock_now().plus_ms(limits::DELAY_MS_MAX).0;
    let publish = |at| {
        let late = NewMessage { delay: Some(Delay::At(Timestamp(at))), ..message("x") };
        Publish { messages: vec![message("y"), late], ack: None, atomic: false }
    };
    for (at, fits) in [(year - 1, true), (year, true), (year + 1, false)] {
        let result = f.broker.publish(&call(), TENANT, "t", publish(at)).await;
        match result {
            Ok(results) => assert!(fits && is_waiting(results[1].as_ref().unwrap())),
            Err(Error::InvalidRequest { pointer, .. }) => assert!(!fits && pointer == "/messages/1/deliver_at"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn levels_are_scaled_and_nothing_else_is() {
    let config = crate::BrokerConfig { time_scale: 0.01, ..crate::BrokerConfig::default() };
    let f = Fixture::with(config).await;
    f.topic("t", 1).await;
    let now = f.clock_now();
    for (delay, ms) in [(Delay::Level(5), 600), (Delay::After(5_000), 5_000), (Delay::At(now.plus_ms(70)), 70)] {
        let receipt = f.send("t", NewMessage { delay: Some(delay), ..message("x") }).await;
        assert_eq!(receipt.deliver_at, Some(now.plus_ms(ms)), "{delay:?}");
    }
}

#[tokio::test]
async fn the_list_is_by_due_time_and_of_one_topic() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.topic("u", 1).await;
    for (body, ms) in [("c", 300), ("a", 100), ("b", 200)] {
        f.delay(body, ms).await;
        f.send("u", delayed("other", ms)).await;
    }
    let expected: Vec<_> = [("a", 100), ("b", 200), ("c", 300)].map(|(body, ms)| (body.to_owned(), ms)).into();
    for limit in [1, 2, 3, 1_000] {
        assert_eq!(f.listed("t", limit).await, expected, "{limit}");
    }
    let page = PageRequest { limit: 1, cursor: None };
    let cursor = f.broker.list_scheduled(&call(), TENANT, "t", &page).await.unwrap().next_cursor;
    let foreign = f.broker.list_scheduled(&call(), TENANT, "u", &PageRequest { limit: 1, cursor }).await;
    assert!(matches!(foreign, Err(Error::InvalidCursor { .. })), "{foreign:?}");
    f.pass(150).await;
    assert_eq!(f.listed("t", 10).await, [("b".to_owned(), 50), ("c".to_owned(), 150)]);
    let missing = f.broker.list_scheduled(&call(), TENANT, "x", &page).await;
    assert!(matches!(missing, Err(Error::TopicNotFound(_))));
}

#[tokio::test]
async fn a_cancelled_message_is_never_delivered_and_has_no_id_any_more() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.group("g", "t", None).await;
    let id = f.delay("late", 100).await;
    f.broker.cancel_scheduled(&call(), TENANT, id).await.unwrap();
    assert_eq!(f.broker.cancel_scheduled(&call(), TENANT, id).await, Err(Error::MessageNotFound));
    assert!(matches!(f.broker.find_message(&call(), TENANT, id).await, Err(Error::MessageNotFound)));
    f.pass(1_000).await;
    assert!(f.lease("g", 1).await.is_empty());
}

#[tokio::test]
async fn a_change_moves_it_both_ways_and_past_is_at_once() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.group("g", "t", None).await;
    let (sooner, later, now) = (f.delay("sooner", 500).await, f.delay("later", 10).await, f.delay("now", 900).await);
    let call = call();
    let change = |id, delay| f.broker.change_scheduled(&call, TENANT, id, delay);
    let changed = f.broker.change_scheduled(&call, TENANT, sooner, Delay::After(50)).await.unwrap();
    assert_eq!((changed.id, changed.deliver_at), (sooner, f.clock_now().plus_ms(50)));
    f.broker.change_scheduled(&call, TENANT, later, Delay::After(800)).await.unwrap();
    f.broker.change_scheduled(&call, TENANT, now, Delay::At(Timestamp(1))).await.unwrap();
    f.pass(0).await;
    assert_eq!(bodies(&f.lease("g", 5).await), ["now"]);
    f.pass(50).await;
    assert_eq!(bodies(&f.lease("g", 5).await), ["sooner"]);
    f.pass(750).await;
    assert_eq!(bodies(&f.lease("g", 5).await), ["later"]);
    for id in [sooner, later, now] {
        let refused = change(id, Delay::After(1)).await;
        assert!(matches!(refused, Err(Error::AlreadyDelivered)), "{refused:?}");
        assert_eq!(f.broker.cancel_scheduled(&call, TENANT, id).await, Err(Error::AlreadyDelivered));
    }
    let visible = f.send("t", message("x")).await.id.unwrap();
    assert!(matches!(change(visible, Delay::After(1)).await, Err(Error::AlreadyDelivered)));
    let missing = MessageId { ordinal: pointsman_model::Ordinal(9), ..visible };
    assert!(matches!(change(missing, Delay::After(1)).await, Err(Error::MessageNotFound)));
}

#[tokio::test]
async fn a_change_has_the_limits_of_a_publish() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let id = f.delay("x", 500).await;
    let far = f.clock_now().plus_ms(limits::DELAY_MS_MAX + 1);
    for (delay, at) in [
        (Delay::After(limits::DELAY_MS_MAX + 1), "/delay_ms"),
        (Delay::Level(19), "/delay_level"),
        (Delay::At(far), "/deliver_at"),
    ] {
        match f.broker.change_scheduled(&call(), TENANT, id, delay).await {
            Err(Error::InvalidRequest { pointer, .. }) => assert_eq!(pointer, at),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(f.listed("t", 1).await, [("x".to_owned(), 500)]);
}

#[tokio::test]
async fn another_tenant_sees_none_of_it() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let id = f.delay("x", 500).await;
    f.broker.put_tenant(&call(), "other", crate::command::Expect::Anything).await.unwrap();
    assert!(matches!(f.broker.find_message(&call(), "other", id).await, Err(Error::MessageNotFound)));
    assert_eq!(f.broker.cancel_scheduled(&call(), "other", id).await, Err(Error::MessageNotFound));
    assert_eq!(f.listed("t", 1).await.len(), 1);
}

#[tokio::test]
async fn an_atomic_batch_may_mix_delayed_and_visible() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let atomic = |queue| Publish {
        messages: vec![
            delayed("late", 100),
            message("now"),
            NewMessage { queue: Some(QueueId(queue)), ..delayed("bad", 100) },
        ],
        ack: None,
        atomic: true,
    };
    assert!(f.broker.publish(&call(), TENANT, "t", atomic(7)).await.is_err());
    assert!(f.listed("t", 9).await.is_empty());
    let results = f.broker.publish(&call(), TENANT, "t", atomic(0)).await.unwrap();
    let waiting: Vec<_> = results.iter().map(|result| is_waiting(result.as_ref().unwrap())).collect();
    assert_eq!(waiting, [true, false, true]);
    assert_eq!(f.listed("t", 9).await.len(), 2);
}

#[tokio::test]
async fn a_weak_ack_tells_id_and_time() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    for ack in [crate::command::Durability::Leader, crate::command::Durability::None] {
        let publish = Publish { messages: vec![delayed("x", 100)], ack: Some(ack), atomic: false };
        let results = f.broker.publish(&call(), TENANT, "t", publish).await.unwrap();
        let receipt = results[0].as_ref().unwrap();
        assert!(is_waiting(receipt) && receipt.durability == ack, "{receipt:?}");
        f.pass(100).await;
        assert_eq!(f.body_of(receipt.id.unwrap()).await.unwrap(), "x");
    }
}

#[tokio::test]
async fn a_key_holds_from_the_publish_on_and_a_cancelled_message_gives_it_back() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    let keyed = || NewMessage { idempotency_key: Some("k".into()), ..delayed("x", 1_000) };
    let first = f.send("t", keyed()).await;
    let again = f.send("t", keyed()).await;
    assert_eq!((again.id, again.offset, again.duplicate), (first.id, None, Some(true)), "while it waits");
    f.pass(1_000).await;
    let visible = f.broker.get_message(&call(), TENANT, first.id.unwrap()).await.unwrap();
    let after = f.send("t", keyed()).await;
    assert_eq!((after.id, after.offset, after.duplicate), (first.id, Some(visible.offset), Some(true)));
    assert_eq!(f.shard.messages(topic, QueueId(0)).len(), 1, "stored once");

    let other = || NewMessage { idempotency_key: Some("other".into()), ..delayed("x", 1_000) };
    let cancelled = f.send("t", other()).await.id.unwrap();
    f.broker.cancel_scheduled(&call(), TENANT, cancelled).await.unwrap();
    let fresh = f.send("t", other()).await;
    assert!(fresh.duplicate != Some(true) && fresh.id != Some(cancelled), "{fresh:?}");
}
