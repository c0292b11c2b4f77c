//! Lease and settle over fakes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pointsman_model::judge::{Failure, Field, Plan, Verdict};
use pointsman_model::message::NewMessage;
use pointsman_model::{QueueId, QueueOffset, limits, retry};
use pointsman_state_machine::command::{FailurePolicy, Slot};

use crate::Error;
use crate::testing::FakePlugin;
use crate::testing::fixture::{
    Fixture, TENANT, binding_settings, bodies, call, group_settings, message, plugin_filter, tagged,
};
use crate::view::{FilterSpec, LeaseRequest, SettleOp, SettleRequest, SettleStatus};

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
async fn the_whole_retry_table_unscaled_and_its_last_step_repeats() {
    let f = one_topic(&["a"]).await;
    for attempt in 1..=19_u16 {
        let lease = f.lease("g", 1).await.remove(0);
        assert_eq!(lease.attempt, attempt);
        assert_eq!(f.settle("g", &lease.receipt, SettleOp::Nack).await, SettleStatus::Settled);
        let delay = retry::TABLE_MS[usize::from(attempt - 1).min(15)];
        f.pass(delay - 1).await;
        assert!(f.lease("g", 1).await.is_empty(), "early after attempt {attempt}");
        f.pass(1).await;
    }
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
async fn extend_moves_the_end_up_to_twelve_hours() {
    let f = one_topic(&["a"]).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.pass(20_000).await;
    let extend = |ms| SettleRequest { lease_ms: Some(ms), ..item(&lease.receipt, SettleOp::Extend) };
    let results = f.broker.settle(&call(), TENANT, "g", vec![extend(60_000)]).await.unwrap();
    assert_eq!(results[0].status, SettleStatus::Extended);
    assert_eq!(results[0].expires_at.unwrap().0, 1_700_000_000_000 + 80_000);
    f.pass(59_999).await;
    assert!(f.lease("g", 1).await.is_empty());
    let results = f.broker.settle(&call(), TENANT, "g", vec![extend(limits::LEASE_MS_MAX)]).await.unwrap();
    assert_eq!(results[0].expires_at.unwrap().0, 1_700_000_000_000 + limits::LEASE_MS_MAX, "12 h in all");
    f.pass(limits::LEASE_MS_MAX).await;
    assert_eq!(f.settle_with("g", extend(1_000)).await, SettleStatus::LeaseExpired);
}

#[tokio::test]
async fn release_gives_back_at_once_or_later_and_is_not_counted() {
    let f = one_topic(&["a", "b"]).await;
    let lease = f.lease("g", 1).await.remove(0);
    assert_eq!(f.settle("g", &lease.receipt, SettleOp::Release).await, SettleStatus::Settled);
    let again = f.lease("g", 1).await.remove(0);
    assert_eq!((bodies(std::slice::from_ref(&again)), again.attempt), (vec!["a".to_owned()], 1), "in its old place");
    assert_eq!(
        f.settle("g", &lease.receipt, SettleOp::Ack).await,
        SettleStatus::AlreadySettled,
        "not its lease any more"
    );
    let later = SettleRequest { delay_ms: Some(1_000), ..item(&again.receipt, SettleOp::Release) };
    assert_eq!(f.settle_with("g", later).await, SettleStatus::Settled);
    assert_eq!(bodies(&f.lease("g", 9).await), ["b"]);
    f.pass(999).await;
    assert!(f.lease("g", 9).await.is_empty());
    f.pass(1).await;
    let last = f.lease("g", 9).await;
    assert_eq!((bodies(&last), last[0].attempt), (vec!["a".to_owned()], 1));
    // A retry keeps its number, too.
    f.settle_with("g", SettleRequest { delay_ms: Some(0), ..item(&last[0].receipt, SettleOp::Nack) }).await;
    let second = f.lease("g", 1).await.remove(0);
    f.settle("g", &second.receipt, SettleOp::Release).await;
    let third = f.lease("g", 1).await.remove(0);
    assert_eq!((second.attempt, third.attempt), (2, 2));
    assert_eq!(f.settle("g", &third.receipt, SettleOp::Ack).await, SettleStatus::Settled);
}

#[tokio::test]
async fn what_an_operation_does_not_take_is_refused() {
    let f = one_topic(&["a"]).await;
    let lease = f.lease("g", 1).await.remove(0);
    let with = |op, delay_ms, lease_ms, reason: Option<&str>| SettleRequest {
        receipt: lease.receipt.clone(),
        op,
        delay_ms,
        lease_ms,
        reason: reason.map(str::to_owned),
    };
    for (request, field) in [
        (with(SettleOp::Ack, Some(1), None, None), "delay_ms"),
        (with(SettleOp::Extend, Some(1), None, None), "delay_ms"),
        (with(SettleOp::Nack, Some(limits::DELAY_MS_MAX + 1), None, None), "delay_ms"),
        (with(SettleOp::Ack, None, Some(1), None), "lease_ms"),
        (with(SettleOp::Extend, None, Some(0), None), "lease_ms"),
        (with(SettleOp::Extend, None, Some(limits::LEASE_MS_MAX + 1), None), "lease_ms"),
        (with(SettleOp::Ack, None, None, Some("why")), "reason"),
        (with(SettleOp::Nack, None, None, Some(&"x".repeat(1_025))), "reason"),
    ] {
        let result = f.broker.settle(&call(), TENANT, "g", vec![request]).await;
        let expected = format!("/items/0/{field}");
        assert!(matches!(&result, Err(Error::InvalidRequest { pointer, .. }) if *pointer == expected), "{result:?}");
    }
    for (n, ok) in [(999, true), (1_000, true), (1_001, false)] {
        let items = vec![item("nonsense", SettleOp::Ack); n];
        let result = f.broker.settle(&call(), TENANT, "g", items).await;
        assert_eq!(result.is_ok(), ok, "{n}");
    }
}

#[tokio::test]
async fn a_receipt_with_any_changed_byte_is_invalid() {
    let f = one_topic(&["a"]).await;
    f.group("other", "t", None).await;
    let lease = f.lease("g", 1).await.remove(0);
    let mut forged = Vec::new();
    for at in 0..lease.receipt.len() {
        let mut text = lease.receipt.clone().into_bytes();
        text[at] = if text[at] == b'A' { b'B' } else { b'A' };
        forged.push(item(&String::from_utf8(text).unwrap(), SettleOp::Ack));
        forged.push(item(&lease.receipt[..at], SettleOp::Ack));
    }
    forged.push(item(&format!("{}A", lease.receipt), SettleOp::Ack));
    let results = f.broker.settle(&call(), TENANT, "g", forged).await.unwrap();
    assert!(results.iter().all(|result| result.status == SettleStatus::Invalid));
    assert_eq!(f.settle("other", &lease.receipt, SettleOp::Ack).await, SettleStatus::Invalid, "another group's");
    f.broker.put_tenant(&call(), "acme", crate::command::Expect::Anything).await.unwrap();
    let foreign = f.broker.settle(&call(), "acme", "g", vec![item(&lease.receipt, SettleOp::Ack)]).await;
    assert!(matches!(foreign, Err(Error::GroupNotFound(_))));
    assert_eq!(f.settle("g", &lease.receipt, SettleOp::Ack).await, SettleStatus::Settled, "the true one is good");
}

#[tokio::test]
async fn results_come_in_order_of_the_items() {
    let f = one_topic(&["a", "b", "c"]).await;
    let leases = f.lease("g", 3).await;
    let items = vec![
        item("forged", SettleOp::Ack),
        item(&leases[1].receipt, SettleOp::Ack),
        item(&leases[0].receipt, SettleOp::Extend),
        item(&leases[2].receipt, SettleOp::Nack),
        item(&leases[1].receipt, SettleOp::Ack),
    ];
    let receipts: Vec<_> = items.iter().map(|item| item.receipt.clone()).collect();
    let results = f.broker.settle(&call(), TENANT, "g", items).await.unwrap();
    let statuses: Vec<_> = results.iter().map(|result| result.status).collect();
    use SettleStatus::{AlreadySettled, Extended, Invalid, Settled};
    assert_eq!(statuses, [Invalid, Settled, Extended, Settled, AlreadySettled]);
    assert_eq!(results.into_iter().map(|result| result.receipt).collect::<Vec<_>>(), receipts);
}

#[tokio::test]
async fn a_receipt_of_the_leader_before_is_adopted() {
    let f = one_topic(&["a", "b", "c"]).await;
    let leases = f.lease("g", 3).await;
    f.shard.set_term(Some(2));
    assert_eq!(f.settle("g", &leases[0].receipt, SettleOp::Ack).await, SettleStatus::Settled);
    assert_eq!(f.settle("g", &leases[1].receipt, SettleOp::Extend).await, SettleStatus::Extended);
    let fresh = f.lease("g", 9).await;
    assert_eq!(bodies(&fresh), ["c"], "a is settled, b is adopted");
    assert_eq!(
        f.settle("g", &leases[2].receipt, SettleOp::Extend).await,
        SettleStatus::LeaseExpired,
        "somebody has it"
    );
    assert_eq!(f.settle("g", &leases[2].receipt, SettleOp::Ack).await, SettleStatus::Settled, "its attempt is current");
    assert_eq!(f.settle("g", &fresh[0].receipt, SettleOp::Ack).await, SettleStatus::AlreadySettled);
    f.shard.set_term(Some(3));
    f.pass(60_000).await;
    assert_eq!(f.settle("g", &leases[1].receipt, SettleOp::Ack).await, SettleStatus::LeaseExpired);
}

#[tokio::test]
async fn a_settle_whose_outcome_is_unknown_keeps_the_lease() {
    let f = one_topic(&["a"]).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.shard.fail_next(crate::ports::ProposeError::OutcomeUnknown);
    let result = f.broker.settle(&call(), TENANT, "g", vec![item(&lease.receipt, SettleOp::Ack)]).await;
    assert_eq!(result.unwrap_err(), Error::OutcomeUnknown);
    assert!(f.lease("g", 1).await.is_empty());
    assert_eq!(f.settle("g", &lease.receipt, SettleOp::Ack).await, SettleStatus::Settled);
}

async fn poll(f: &Fixture, wait_ms: u64) -> Result<Vec<crate::view::Lease>, Error> {
    let request = LeaseRequest { wait_ms, ..LeaseRequest::default() };
    f.broker.lease(&call(), TENANT, "g", request).await
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
async fn a_lease_call_dropped_while_its_filter_runs_leases_nothing() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.upload("all", FakePlugin::filter(Plan::default(), |_, _| Verdict::Answer(true))).await;
    f.group("g", "t", Some(plugin_filter("all"))).await;
    f.send("t", message("a")).await;
    {
        let request = LeaseRequest::default();
        let call = call();
        let mut lease = Box::pin(f.broker.lease(&call, TENANT, "g", request));
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(lease.as_mut().poll(cx).is_pending())).await;
        assert!(polled, "the filter has not answered yet");
    }
    assert_eq!(bodies(&f.lease("g", 9).await), ["a"]);
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

#[tokio::test]
async fn higher_priority_first_and_retries_before_all() {
    let f = one_topic(&[]).await;
    for (body, priority) in [("a", 0), ("b", 9), ("c", 5), ("d", 9)] {
        f.send("t", NewMessage { priority, ..message(body) }).await;
    }
    let first = f.lease("g", 1).await.remove(0);
    assert_eq!(bodies(std::slice::from_ref(&first)), ["b"]);
    f.send("t", NewMessage { priority: 7, ..message("e") }).await;
    let nack = SettleRequest { delay_ms: Some(0), ..item(&first.receipt, SettleOp::Nack) };
    f.settle_with("g", nack).await;
    assert_eq!(bodies(&f.lease("g", 9).await), ["b", "d", "e", "c", "a"]);
}

#[tokio::test]
async fn what_its_ttl_ended_is_not_leased() {
    let f = one_topic(&[]).await;
    f.send("t", NewMessage { ttl_ms: Some(1_000), ..message("a") }).await;
    f.send("t", NewMessage { ttl_ms: Some(5_000), ..message("b") }).await;
    f.clock.advance_ms(1_000);
    let lease = f.lease("g", 9).await;
    assert_eq!(bodies(&lease), ["b"]);
    f.settle_with("g", SettleRequest { delay_ms: Some(10_000), ..item(&lease[0].receipt, SettleOp::Nack) }).await;
    f.pass(10_000).await;
    assert!(f.lease("g", 9).await.is_empty(), "its retry came after its end");
    f.pass(0).await;
    let state = crate::ports::Shard::state(&*f.shard);
    assert!(state.retrying.is_empty(), "and is settled");
    assert_eq!(state.cursors.values().next().unwrap().floor(), QueueOffset(2));
}

#[tokio::test]
async fn a_filter_delivers_skips_and_moves_the_floor() {
    let f = Fixture::new().await;
    let topic = f.topic("t", 1).await;
    f.group("g", "t", Some(FilterSpec::Tags("paid || refunded".into()))).await;
    let tags = ["new", "paid", "new", "refunded", "new"];
    for tag in tags {
        f.send("t", tagged(tag)).await;
    }
    let leases = f.lease("g", 9).await;
    assert_eq!(bodies(&leases), ["paid", "refunded"]);
    let acks = leases.iter().map(|lease| item(&lease.receipt, SettleOp::Ack)).collect();
    f.broker.settle(&call(), TENANT, "g", acks).await.unwrap();
    let group = crate::ports::Shard::state(&*f.shard).groups.keys().next().copied().unwrap();
    let floor = || crate::ports::Shard::state(&*f.shard).floor(group, topic, QueueId(0));
    assert_eq!(floor(), QueueOffset(5), "skips go out with the ack");
    for _ in 0..3 {
        f.send("t", tagged("new")).await;
    }
    assert!(f.lease("g", 9).await.is_empty());
    assert_eq!(floor(), QueueOffset(5));
    f.pass(1_000).await;
    assert_eq!(floor(), QueueOffset(8), "the floor moves though nothing matches");
    let before = f.shard.entries().len();
    f.send("t", tagged("new")).await;
    f.lease("g", 9).await;
    f.pass(500).await;
    assert_eq!(f.shard.entries().len(), before + 1, "at most one skip a second");
}

#[tokio::test]
async fn hints_spare_the_filter_and_bad_ones_are_found() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let plan = Plan { fields: vec![Field::Tag], tags: Some(vec!["a".into()]), ..Plan::default() };
    f.upload("liar", FakePlugin::filter(plan, |_, _| Verdict::Answer(true))).await;
    f.group("g", "t", Some(plugin_filter("liar"))).await;
    for tag in ["a", "b", "a", "c"] {
        f.send("t", tagged(tag)).await;
    }
    assert_eq!(bodies(&f.lease("g", 9).await), ["a", "a"]);
    assert_eq!(*f.judges.calls.lock(), [2]);
    for _ in 0..limits::PLUGIN_AUDIT_CALLS {
        f.send("t", tagged("b")).await;
        f.lease("g", 9).await;
    }
    assert_eq!(f.judges.bad_hints.load(Ordering::SeqCst), 1, "one batch in 1,000 is compared");
}

#[tokio::test]
async fn what_a_filter_cannot_judge_meets_its_policy() {
    for (policy, expected) in [
        (None, vec!["good", "fails", "traps", "last"]),
        (Some(FailurePolicy::Deliver), vec!["good", "fails", "traps", "last"]),
        (Some(FailurePolicy::Skip), vec!["good", "last"]),
        (Some(FailurePolicy::Pause), vec!["good"]),
    ] {
        let f = Fixture::new().await;
        f.topic("t", 1).await;
        f.group("g", "t", None).await;
        let healthy = Arc::new(AtomicU32::new(0));
        let cured = Arc::clone(&healthy);
        let plan = Plan { fields: vec![Field::Tag], ..Plan::default() };
        let moody = FakePlugin::filter(plan, move |i, columns| match columns[0].get(i) {
            _ if cured.load(Ordering::SeqCst) == 1 => Verdict::Answer(true),
            Some(b"fails") => Verdict::Failed("no idea".into()),
            Some(b"traps") => Verdict::Stopped(Failure::Trap),
            _ => Verdict::Answer(true),
        });
        f.upload("moody", moody).await;
        let mut settings = binding_settings(Slot::Filter, Some("t"), Some("g"), "moody");
        settings.on_failure = policy;
        f.bind("b", settings).await;
        for tag in ["good", "fails", "traps", "last"] {
            f.send("t", tagged(tag)).await;
        }
        assert_eq!(bodies(&f.lease("g", 9).await), expected, "{policy:?}");
        healthy.store(1, Ordering::SeqCst);
        assert!(f.lease("g", 9).await.is_empty(), "{policy:?}");
        f.pass(limits::FILTER_PAUSE_MS).await;
        let rest = if policy == Some(FailurePolicy::Pause) { vec!["fails", "traps", "last"] } else { Vec::new() };
        assert_eq!(bodies(&f.lease("g", 9).await), rest, "{policy:?}: goes on when it behaves");
    }
}

#[tokio::test]
async fn another_filter_judges_only_what_was_not_passed() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.group("g", "t", Some(FilterSpec::Tags("a".into()))).await;
    for tag in ["a", "b", "a", "b"] {
        f.send("t", tagged(tag)).await;
    }
    let first = f.lease("g", 1).await.remove(0);
    f.group("g", "t", Some(FilterSpec::Tags("b".into()))).await;
    assert_eq!(bodies(&f.lease("g", 9).await), ["b", "b"], "nothing of the old filter's is left over");
    assert_eq!(f.settle("g", &first.receipt, SettleOp::Ack).await, SettleStatus::Settled, "leases outlive the change");
    assert!(f.lease("g", 9).await.is_empty());
}

#[tokio::test]
async fn two_topics_of_a_group_have_their_own_filters() {
    let f = Fixture::new().await;
    f.topic("t", 2).await;
    f.topic("u", 2).await;
    let topics = [("t", Some(FilterSpec::Tags("a".into()))), ("u", None)];
    f.put_group("g", group_settings(&topics)).await;
    for topic in ["t", "u"] {
        for tag in ["a", "b"] {
            f.send(topic, tagged(tag)).await;
        }
    }
    let mut got: Vec<_> = f
        .lease("g", 9)
        .await
        .iter()
        .map(|l| format!("{}/{}", l.message.topic, bodies(std::slice::from_ref(l))[0]))
        .collect();
    got.sort();
    assert_eq!(got, ["t/a", "u/a", "u/b"]);
}

#[tokio::test]
async fn leases_stay_within_the_window() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let mut settings = group_settings(&[("t", None)]);
    settings.max_inflight = limits::INFLIGHT_MAX;
    f.put_group("g", settings).await;
    let window = limits::LEASE_WINDOW_OFFSETS as usize;
    for _ in 0..=window / 1_000 {
        f.publish("t", vec![message("x"); 1_000]).await.unwrap();
    }
    let mut leased = Vec::new();
    loop {
        let more = f.lease("g", 1_000).await;
        if more.is_empty() {
            break;
        }
        leased.extend(more);
    }
    assert_eq!(leased.len(), window);
    assert_eq!(f.settle("g", &leased[1].receipt, SettleOp::Ack).await, SettleStatus::Settled);
    assert!(f.lease("g", 1).await.is_empty(), "the floor has not moved");
    assert_eq!(f.settle("g", &leased[0].receipt, SettleOp::Ack).await, SettleStatus::Settled);
    assert_eq!(f.lease("g", 9).await.len(), 2);
}
