//! What is judged ahead: filters, priority, TTL, the window.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pointsman_model::judge::{Failure, Field, Plan, Verdict};
use pointsman_model::message::NewMessage;
use pointsman_model::{QueueId, QueueOffset, limits};
use pointsman_state_machine::command::{FailurePolicy, Slot};

use crate::testing::FakePlugin;
use crate::testing::fixture::{
    Fixture, TENANT, binding_settings, bodies, call, group_settings, message, plugin_filter, tagged,
};
use crate::view::{FilterSpec, LeaseRequest, SettleOp, SettleRequest, SettleStatus};

use super::{item, one_topic};

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
