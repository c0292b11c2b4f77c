//! Quotas at their edges, on the fake clock.

use super::*;
use crate::testing::fixture::{Fixture, TENANT, call, message, topic_config};
use crate::view::StreamRequest;

async fn with(quota: Quota) -> Fixture {
    let fixture = Fixture::new().await;
    fixture.topic("t", 1).await;
    put(&fixture, quota).await;
    fixture
}

async fn put(fixture: &Fixture, quota: Quota) {
    fixture.broker.put_quota(&call(), TENANT, quota, Expect::Anything).await.expect("a quota");
}

async fn publish(fixture: &Fixture, n: usize, body: &str) -> Result<(), Error> {
    fixture.publish("t", vec![message(body); n]).await.map(drop)
}

fn wait_of(result: Result<(), Error>) -> u64 {
    match result {
        Err(Error::RateExceeded { retry_after_ms, .. }) => retry_after_ms,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn messages_and_bytes_a_second() {
    let fixture = with(Quota { messages_per_s: Some(10), ..Quota::default() }).await;
    publish(&fixture, 9, "x").await.expect("one below");
    publish(&fixture, 1, "x").await.expect("at");
    assert_eq!(wait_of(publish(&fixture, 1, "x").await), 100);
    fixture.clock.advance_ms(99);
    assert_eq!(wait_of(publish(&fixture, 1, "x").await), 1);
    fixture.clock.advance_ms(1);
    publish(&fixture, 1, "x").await.expect("it has filled");

    put(&fixture, Quota { bytes_per_s: Some(100), ..Quota::default() }).await;
    publish(&fixture, 10, &"x".repeat(10)).await.expect("at");
    assert_eq!(wait_of(publish(&fixture, 1, &"x".repeat(10)).await), 100);
    let usage = fixture.broker.usage(&call(), TENANT).await.expect("usage");
    assert_eq!((usage.messages, usage.messages_per_s, usage.bytes_per_s), (21, 21, 111));
    fixture.clock.advance_ms(2_000);
    let usage = fixture.broker.usage(&call(), TENANT).await.expect("usage");
    assert_eq!((usage.messages, usage.messages_per_s), (21, 0), "what is stored stays, what flows passes");
}

#[tokio::test]
async fn a_refused_call_takes_nothing_of_the_other_rate() {
    let fixture = with(Quota { messages_per_s: Some(10), bytes_per_s: Some(5), ..Quota::default() }).await;
    publish(&fixture, 1, "12345").await.expect("full");
    for _ in 0..20 {
        wait_of(publish(&fixture, 1, "12345").await);
    }
    fixture.clock.advance_ms(1_000);
    publish(&fixture, 5, "1").await.expect("no message was charged for a refusal");
}

#[tokio::test]
async fn storage_comes_back_with_a_deleted_topic() {
    let fixture = with(Quota { storage_bytes: Some(1_000), ..Quota::default() }).await;
    let mut stored = 0;
    while publish(&fixture, 1, &"x".repeat(100)).await.is_ok() {
        stored += 1;
        assert!(stored < 20, "the storage has no end");
    }
    let refused = publish(&fixture, 1, &"x".repeat(500)).await;
    assert!(matches!(refused, Err(Error::QuotaExceeded(_))), "{refused:?}");
    let usage = fixture.broker.usage(&call(), TENANT).await.expect("usage");
    assert!((901..=1_200).contains(&usage.storage_bytes), "{}", usage.storage_bytes);
    fixture.broker.delete_topic(&call(), TENANT, "t", Expect::Anything).await.expect("deleted");
    let usage = fixture.broker.usage(&call(), TENANT).await.expect("usage");
    assert_eq!((usage.storage_bytes, usage.messages), (0, stored));
    fixture.topic("t", 1).await;
    publish(&fixture, 1, "x").await.expect("room again");
}

#[tokio::test]
async fn objects_and_streams_are_counted() {
    let quota = Quota { topics: Some(2), groups: Some(1), connections: Some(1), ..Quota::default() };
    let fixture = with(quota).await;
    let broker = &fixture.broker;
    fixture.topic("u", 1).await;
    let third = broker.put_topic(&call(), TENANT, "v", topic_config(1), Expect::Anything).await;
    assert!(matches!(third, Err(Error::QuotaExceeded(_))), "{third:?}");
    broker.put_topic(&call(), TENANT, "u", topic_config(2), Expect::Anything).await.expect("no new one");
    fixture.group("g", "t", None).await;
    let first = broker.open_stream(&call(), TENANT, "t", StreamRequest::default()).await.expect("a stream");
    let second = broker.open_stream(&call(), TENANT, "t", StreamRequest::default()).await;
    assert!(matches!(second.map(drop), Err(Error::QuotaExceeded(_))));
    let usage = broker.usage(&call(), TENANT).await.expect("usage");
    assert_eq!((usage.topics, usage.groups, usage.connections), (2, 1, 1));
    drop(first);
    broker.open_stream(&call(), TENANT, "t", StreamRequest::default()).await.expect("a place again");
}

#[tokio::test]
async fn a_quota_is_put_over_its_revision() {
    let fixture = Fixture::new().await;
    let broker = &fixture.broker;
    assert_eq!(broker.get_quota(&call(), TENANT).await, Ok((Quota::default(), 0)));
    let quota = Quota { topics: Some(1), ..Quota::default() };
    let put = broker.put_quota(&call(), TENANT, quota, Expect::Revision(vec![0])).await.expect("over 0");
    let again = broker.put_quota(&call(), TENANT, Quota::default(), Expect::Revision(vec![0])).await;
    assert_eq!(again.map(drop), Err(Error::PreconditionFailed));
    let same = broker.put_quota(&call(), TENANT, quota, Expect::Revision(vec![put.object.1])).await.expect("same");
    assert_eq!(same.object, put.object, "nothing changed");
}

#[tokio::test]
async fn fuel_is_charged_afterwards() {
    let fixture = with(Quota { plugin_fuel_per_s: Some(1_000), ..Quota::default() }).await;
    let home = fixture.broker.authorize(&call(), TENANT, Action::Read).expect("a tenant");
    assert_eq!(fixture.broker.check_fuel(&home), Ok(()));
    fixture.judges.burn(home.tenant, 1_999);
    assert_eq!(wait_of(fixture.broker.check_fuel(&home)), 1_000);
    fixture.clock.advance_ms(1_000);
    assert_eq!(fixture.broker.check_fuel(&home), Ok(()));
}
