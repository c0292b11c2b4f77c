//! Lease and settle over fakes: what is given, when, and how often.

mod filtering;
mod ordering;
mod settling;

use std::sync::Arc;
use std::time::Duration;

use pointsman_model::{limits, retry};

use crate::Error;
use crate::testing::fixture::{Fixture, TENANT, bodies, call, group_settings, message};
use crate::view::{LeaseRequest, SettleOp, SettleRequest, SettleStatus};

fn item(receipt: &str, op: SettleOp) -> SettleRequest {
    SettleRequest { receipt: receipt.into(), op, delay_ms: None, lease_ms: None, reason: None }
}

async fn one_topic(messages: &[&str]) -> Fixture {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.group("g", "t", None).await;
    for body in messages {
        f.send("t", message(body)).await;
    }
    f
}

async fn poll(f: &Fixture, wait_ms: u64) -> Result<Vec<crate::view::Lease>, Error> {
    let request = LeaseRequest { wait_ms, ..LeaseRequest::default() };
    f.broker.lease(&call(), TENANT, "g", request).await
}

#[tokio::test]
async fn lease_ack_and_nothing_twice() {
    let f = one_topic(&["a", "b", "c"]).await;
    let first = f.lease("g", 2).await;
    assert_eq!(bodies(&first), ["a", "b"]);
    assert_eq!((first[0].attempt, first[0].expires_at.0), (1, 1_700_000_030_000));
    assert_eq!(bodies(&f.lease("g", 9).await), ["c"]);
    assert!(f.lease("g", 9).await.is_empty());
    assert_eq!(f.settle("g", &first[0].receipt, SettleOp::Ack).await, SettleStatus::Settled);
    assert_eq!(f.settle("g", &first[0].receipt, SettleOp::Ack).await, SettleStatus::AlreadySettled);
    assert!(f.lease("g", 9).await.is_empty());
}

#[tokio::test]
async fn a_nack_comes_back_after_its_delay_as_the_next_attempt() {
    let f = one_topic(&["a"]).await;
    let lease = f.lease("g", 1).await.remove(0);
    let nack =
        SettleRequest { delay_ms: Some(5_000), reason: Some("busy".into()), ..item(&lease.receipt, SettleOp::Nack) };
    assert_eq!(f.settle_with("g", nack).await, SettleStatus::Settled);
    f.pass(4_999).await;
    assert!(f.lease("g", 1).await.is_empty());
    f.pass(1).await;
    let again = f.lease("g", 1).await.remove(0);
    assert_eq!((again.attempt, again.message.id), (2, lease.message.id));
    assert!(f.lease("g", 1).await.is_empty(), "leased once");
    assert_eq!(f.settle("g", &lease.receipt, SettleOp::Ack).await, SettleStatus::AlreadySettled, "attempt 1 is over");
    assert_eq!(f.settle("g", &again.receipt, SettleOp::Ack).await, SettleStatus::Settled);
    f.pass(100_000).await;
    assert!(f.lease("g", 1).await.is_empty());
}

#[tokio::test]
async fn the_whole_retry_table_unscaled_and_then_no_delivery_more() {
    let f = one_topic(&["a"]).await;
    for attempt in 1..=17_u16 {
        let lease = f.lease("g", 1).await.remove(0);
        assert_eq!(lease.attempt, attempt);
        assert_eq!(f.settle("g", &lease.receipt, SettleOp::Nack).await, SettleStatus::Settled);
        let Some(delay) = retry::TABLE_MS.get(usize::from(attempt - 1)) else { break };
        f.pass(delay - 1).await;
        assert!(f.lease("g", 1).await.is_empty(), "early after attempt {attempt}");
        f.pass(1).await;
    }
    f.pass(100 * 3_600_000).await;
    assert!(f.lease("g", 1).await.is_empty(), "17 deliveries, none extra");
}

#[tokio::test]
async fn an_expired_lease_comes_back_by_the_scaled_table() {
    let f = Fixture::with(crate::BrokerConfig { time_scale: 0.001, ..crate::BrokerConfig::default() }).await;
    f.topic("t", 1).await;
    f.group("g", "t", None).await;
    f.send("t", message("a")).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.pass(29_999).await;
    assert!(f.lease("g", 1).await.is_empty());
    f.clock.advance_ms(1);
    assert_eq!(f.settle("g", &lease.receipt, SettleOp::Ack).await, SettleStatus::LeaseExpired, "by the clock alone");
    f.pass(0).await;
    f.pass(9).await;
    assert!(f.lease("g", 1).await.is_empty());
    f.pass(1).await;
    let again = f.lease("g", 1).await.remove(0);
    assert_eq!(again.attempt, 2);
    assert_eq!(f.settle("g", &lease.receipt, SettleOp::Nack).await, SettleStatus::LeaseExpired);
}

#[tokio::test]
async fn a_long_poll_is_woken_by_a_message_and_a_dropped_one_leases_nothing() {
    let f = one_topic(&[]).await;
    let started = std::time::Instant::now();
    let (leases, ()) = tokio::join!(poll(&f, 5_000), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        f.send("t", message("a")).await;
    });
    assert_eq!(bodies(&leases.unwrap()), ["a"]);
    assert!(started.elapsed() < Duration::from_millis(900), "woken, not polled: {:?}", started.elapsed());

    let dropped = tokio::time::timeout(Duration::from_millis(20), poll(&f, 5_000)).await;
    assert!(dropped.is_err());
    f.send("t", message("b")).await;
    assert_eq!(bodies(&f.lease("g", 9).await), ["b"]);
}

#[tokio::test]
async fn a_release_wakes_a_waiting_poll() {
    let f = one_topic(&["a"]).await;
    let lease = f.lease("g", 1).await.remove(0);
    let (leases, _) = tokio::join!(poll(&f, 5_000), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        f.settle("g", &lease.receipt, SettleOp::Release).await
    });
    assert_eq!(bodies(&leases.unwrap()), ["a"]);
}

#[tokio::test]
async fn many_waiting_polls_share_what_comes() {
    let f = Arc::new(one_topic(&[]).await);
    let polls: Vec<_> = (0..20)
        .map(|_| {
            let f = Arc::clone(&f);
            tokio::spawn(async move {
                let request = LeaseRequest { wait_ms: 5_000, max_messages: Some(1), ..LeaseRequest::default() };
                f.broker.lease(&call(), TENANT, "g", request).await.unwrap()
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let started = std::time::Instant::now();
    f.publish("t", (0..20).map(|n| message(&n.to_string())).collect()).await.unwrap();
    let mut got = Vec::new();
    for poll in polls {
        got.extend(bodies(&poll.await.unwrap()));
    }
    got.sort_by_key(|body| body.parse::<u32>().unwrap());
    assert_eq!(got, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(started.elapsed() < Duration::from_millis(900), "each waiter woke the next: {:?}", started.elapsed());
}

#[tokio::test]
async fn max_inflight_one_below_at_and_above() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let mut settings = group_settings(&[("t", None)]);
    settings.max_inflight = 3;
    f.put_group("g", settings).await;
    f.publish("t", (0..9).map(|n| message(&n.to_string())).collect()).await.unwrap();
    let first = f.lease("g", 2).await;
    assert_eq!(f.lease("g", 9).await.len(), 1, "what is left of three");
    let full = poll(&f, 0).await;
    assert!(matches!(full, Err(Error::TooManyInflight { .. })), "{full:?}");
    let waited = poll(&f, 30).await;
    assert!(matches!(waited, Err(Error::TooManyInflight { .. })));
    let (leases, _) = tokio::join!(poll(&f, 5_000), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        f.settle("g", &first[0].receipt, SettleOp::Ack).await
    });
    assert_eq!(leases.unwrap().len(), 1);
}

#[tokio::test]
async fn max_bytes_always_gives_the_first() {
    let f = one_topic(&["xxxxxxxxxx", "yyyyy", "zzzzz", "last"]).await;
    let lease = async |bytes| {
        let request = LeaseRequest { max_bytes: Some(bytes), ..LeaseRequest::default() };
        bodies(&f.broker.lease(&call(), TENANT, "g", request).await.unwrap())
    };
    assert_eq!(lease(5).await, ["xxxxxxxxxx"]);
    assert_eq!(lease(10).await, ["yyyyy", "zzzzz"]);
    assert_eq!(lease(4).await, ["last"]);
}

#[tokio::test]
async fn numbers_outside_their_bounds_are_refused() {
    let f = one_topic(&["a"]).await;
    let base = LeaseRequest::default;
    for (request, field) in [
        (LeaseRequest { max_messages: Some(0), ..base() }, "/max_messages"),
        (LeaseRequest { max_messages: Some(limits::LEASE_MESSAGES_MAX + 1), ..base() }, "/max_messages"),
        (LeaseRequest { max_bytes: Some(0), ..base() }, "/max_bytes"),
        (LeaseRequest { max_bytes: Some(limits::LEASE_BYTES_MAX + 1), ..base() }, "/max_bytes"),
        (LeaseRequest { wait_ms: limits::WAIT_MS_MAX + 1, ..base() }, "/wait_ms"),
        (LeaseRequest { lease_ms: Some(0), ..base() }, "/lease_ms"),
        (LeaseRequest { lease_ms: Some(limits::LEASE_MS_MAX + 1), ..base() }, "/lease_ms"),
        (LeaseRequest { client_id: Some("x".repeat(257)), ..base() }, "/client_id"),
    ] {
        let result = f.broker.lease(&call(), TENANT, "g", request).await;
        assert!(matches!(&result, Err(Error::InvalidRequest { pointer, .. }) if pointer == field), "{field}");
    }
    let missing = f.broker.lease(&call(), TENANT, "nope", base()).await;
    assert!(matches!(missing, Err(Error::GroupNotFound(name)) if name == "nope"));
}
