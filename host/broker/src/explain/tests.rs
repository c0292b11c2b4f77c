//! What explain and trace say after each thing that can happen to a message.

use pointsman_state_machine::command::Slot;

use crate::Error;
use crate::testing::FakePlugin;
use crate::testing::fixture::{Fixture, TENANT, binding_settings, call, group_settings, message, tagged};
use crate::view::{Explained, FilterSpec, Redrive, SettleOp, SettleRequest};
use pointsman_model::judge::{RetryAnswer, Target, Verdict};
use pointsman_model::{MessageId, QueueId};

async fn explain(f: &Fixture, id: MessageId) -> Explained {
    f.broker.explain(&call(), TENANT, id, "g").await.unwrap()
}

async fn events(f: &Fixture, id: MessageId) -> Vec<&'static str> {
    f.broker.trace(&call(), TENANT, id).await.unwrap().into_iter().map(|event| event.event).collect()
}

#[tokio::test]
async fn the_way_of_a_message_through_a_group() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.group("g", "t", Some(FilterSpec::Tags("a || b".into()))).await;
    let retry = FakePlugin::retry(|_| Verdict::Answer(RetryAnswer::Again { delay_ms: 7, scaled: false }));
    f.upload("r", retry).await;
    f.bind("policy", binding_settings(Slot::Retry, None, Some("g"), "r")).await;
    let id = f.send("t", tagged("a")).await.id.unwrap();
    let other = f.send("t", tagged("c")).await.id.unwrap();

    let waiting = explain(&f, id).await;
    assert_eq!((waiting.standing.state, waiting.standing.attempt), ("waiting", Some(1)));
    assert_eq!(waiting.routed.by, "round-robin");
    let filter = waiting.filter.unwrap();
    assert_eq!(filter.verdict, "deliver");
    let judged = filter.judged.unwrap();
    assert_eq!((judged.plugin.as_deref(), judged.digest.is_some()), (Some("builtin/tags"), true));
    let skipped = explain(&f, other).await;
    assert_eq!((skipped.standing.state, skipped.filter.unwrap().verdict), ("skipped", "skip"));

    let lease = f.lease("g", 9).await.remove(0);
    let leased = explain(&f, id).await.standing;
    assert_eq!((leased.state, leased.attempt), ("leased", Some(1)));
    assert!(leased.lease_expires_at > leased.delivered_at);

    let nack = |op, reason: &str| SettleRequest {
        receipt: lease.receipt.clone(),
        op,
        delay_ms: None,
        lease_ms: None,
        reason: Some(reason.into()),
    };
    f.settle_with("g", nack(SettleOp::Nack, "busy")).await;
    let retrying = explain(&f, id).await.standing;
    assert_eq!((retrying.state, retrying.attempt), ("retrying", Some(2)));
    assert_eq!(retrying.due_at.unwrap().0, f.shard_now() + 7);
    let ended = &retrying.history[0];
    assert_eq!((ended.reason.as_deref(), ended.decision, ended.delay_ms), (Some("busy"), "again", Some(7)));
    assert_eq!((ended.decided_by, ended.binding.as_deref()), ("policy", Some("policy")));

    f.pass(7).await;
    let lease = f.lease("g", 9).await.remove(0);
    f.settle_with("g", SettleRequest { receipt: lease.receipt, ..nack(SettleOp::DeadLetter, "hopeless") }).await;
    let dead = explain(&f, id).await.standing;
    assert_eq!((dead.state, dead.dead_reason.as_deref()), ("dead-lettered", Some("hopeless")));
    assert_eq!(dead.history.len(), 2);
    assert_eq!(
        events(&f, id).await,
        ["published", "routed", "delivered", "nacked", "delivered", "nacked", "dead-lettered"]
    );

    f.pass(1).await;
    f.broker.redrive(&call(), TENANT, "g", Redrive::default()).await.unwrap();
    let again = explain(&f, id).await.standing;
    assert_eq!((again.state, again.attempt), ("retrying", Some(1)));
    let lease = f.lease("g", 9).await.remove(0);
    f.settle("g", &lease.receipt, SettleOp::Ack).await;
    let done = explain(&f, id).await.standing;
    assert_eq!((done.state, done.redriven_at.is_some()), ("settled", true));
    assert_eq!(events(&f, id).await[6..], ["dead-lettered", "redriven", "settled"]);
    assert_eq!(events(&f, other).await, ["published", "routed", "skipped"]);
}

#[tokio::test]
async fn a_selector_is_named_with_its_generation_as_long_as_it_is_what_it_was() {
    let f = Fixture::new().await;
    f.topic("t", 2).await;
    f.group("g", "t", None).await;
    let selector = |queue| {
        FakePlugin::selector(Default::default(), move |_, _| {
            Verdict::Answer(vec![Target { destination: 0, queue: Some(QueueId(queue)) }])
        })
    };
    f.upload("s", selector(1)).await;
    f.upload("s2", selector(0)).await;
    f.bind("place", binding_settings(Slot::Selector, Some("t"), None, "s")).await;
    let id = f.send("t", message("m")).await.id.unwrap();
    let routed = explain(&f, id).await.routed;
    assert_eq!(routed.by, "selector");
    let judged = routed.judged[0].clone();
    assert_eq!((judged.binding.as_deref(), judged.plugin.as_deref()), (Some("place"), Some("s")));
    f.bind("place", binding_settings(Slot::Selector, Some("t"), None, "s2")).await;
    let later = explain(&f, id).await.routed.judged[0].clone();
    assert_eq!((later.binding.as_deref(), later.generation), (Some("place"), judged.generation));
    assert_eq!((later.plugin, later.digest), (None, None), "other code by now");
}

#[tokio::test]
async fn other_groups_other_messages_and_time() {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.topic("u", 1).await;
    f.put_group("g", group_settings(&[("u", None)])).await;
    let id = f.send("t", message("m")).await.id.unwrap();
    let foreign = explain(&f, id).await;
    assert_eq!((foreign.standing.state, foreign.filter), ("not-subscribed", None));
    assert_eq!(events(&f, id).await, ["published", "routed"]);
    let unknown = f.broker.explain(&call(), TENANT, id, "nope").await;
    assert_eq!(unknown.unwrap_err(), Error::GroupNotFound("nope".into()));
    let mut gone = id;
    gone.index.0 += 99;
    assert_eq!(f.broker.explain(&call(), TENANT, gone, "g").await.unwrap_err(), Error::MessageNotFound);

    let mut short = message("s");
    short.ttl_ms = Some(5);
    let short = f.send("u", short).await.id.unwrap();
    assert_eq!(explain(&f, short).await.standing.state, "waiting");
    f.clock.advance_ms(5);
    assert_eq!(explain(&f, short).await.standing.state, "expired");
}
