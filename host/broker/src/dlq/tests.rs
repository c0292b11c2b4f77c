//! Attempts that end badly, the policies that decide, and the way through the dead-letter queue and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_model::judge::{Failure, RetryAnswer, RetryQuestion, Verdict};
use pointsman_model::{MessageId, retry};
use pointsman_state_machine::command::{FailurePolicy, Slot};

use crate::testing::FakePlugin;
use crate::testing::fixture::{Fixture, TENANT, binding_settings, bodies, call, group_settings, message, tagged};
use crate::view::{
    BindingSettings, DeadLetterView, FilterSpec, Lease, PageRequest, Redrive, RedriveStatus, RedriveTo, Redriven,
    SettleOp, SettleRequest, SettleStatus,
};
use crate::{Broker, BrokerConfig, Error};

fn item(lease: &Lease, op: SettleOp) -> SettleRequest {
    SettleRequest { receipt: lease.receipt.clone(), op, delay_ms: None, lease_ms: None, reason: None }
}

async fn with_retries(max_retries: u16) -> Fixture {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    let settings = crate::view::GroupSettings { max_retries, ..group_settings(&[("t", None)]) };
    f.put_group("g", settings).await;
    f
}

async fn dlq(f: &Fixture) -> Vec<DeadLetterView> {
    f.broker.list_dead_letters(&call(), TENANT, "g", &PageRequest::default()).await.unwrap().items
}

async fn redrive(f: &Fixture, ask: Redrive) -> Redriven {
    f.broker.redrive(&call(), TENANT, "g", ask).await.unwrap()
}

/// Lets one message fail until it is given up; answers its id.
async fn kill(f: &Fixture, body: &str) -> MessageId {
    let sent = f.send("t", tagged(body)).await;
    let lease = f.lease("g", 1).await.remove(0);
    assert_eq!(bodies(std::slice::from_ref(&lease)), [body]);
    assert_eq!(f.settle_with("g", item(&lease, SettleOp::DeadLetter)).await, SettleStatus::Settled);
    sent.id.unwrap()
}

/// Must-show 3: the whole way, on the fake clock, unscaled.
#[tokio::test]
async fn seventeen_deliveries_at_the_times_of_the_table_then_the_dead_letter_queue_and_back() {
    let f = with_retries(16).await;
    let poison = f.send("t", tagged("poison")).await.id.unwrap();
    let good = f.send("t", tagged("good")).await.id.unwrap();
    let mut delivered = BTreeMap::<MessageId, Vec<u64>>::new();
    let start = f.shard_now();
    let horizon: u64 = retry::TABLE_MS.iter().sum::<u64>() + 3_600_000;
    let mut next = start;
    while next <= start + horizon {
        f.pass(next - f.shard_now()).await;
        for lease in f.lease("g", 9).await {
            delivered.entry(lease.message.id).or_default().push(f.shard_now() - start);
            let op = if lease.message.id == poison { SettleOp::Nack } else { SettleOp::Ack };
            let mut item = item(&lease, op);
            item.reason = (op == SettleOp::Nack).then(|| format!("no, {}", lease.attempt));
            assert_eq!(f.settle_with("g", item).await, SettleStatus::Settled);
        }
        // Every second around each time of the table would be long; a step of five seconds meets all of them.
        next = f.shard_now() + 5_000;
    }
    let mut times = vec![0];
    for delay in retry::TABLE_MS {
        times.push(times.last().unwrap() + delay);
    }
    assert_eq!(delivered[&poison], times, "17 deliveries at the times of the table, none lost, none extra");
    assert_eq!(delivered[&good], [0], "its successor flows");

    let dead = dlq(&f).await;
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].message.id, dead[0].reason.as_str(), dead[0].attempts), (poison, "attempts-exhausted", 17));
    let history: Vec<_> = dead[0].history.iter().map(|h| (h.attempt, h.outcome, h.reason.clone().unwrap())).collect();
    let expected: Vec<_> = (1..=17).map(|attempt| (attempt, "nack", format!("no, {attempt}"))).collect();
    assert_eq!(history, expected);
    let ended: Vec<_> = dead[0].history.iter().map(|h| h.ended_at.0 - start).collect();
    assert_eq!(ended, times);

    let stats = f.broker.delivery_stats()[0];
    assert_eq!((stats.retries, stats.dead_letters, stats.stored), (16, 1, 1));

    // With a fixed filter it is redriven, delivered and done.
    let fixed = FilterSpec::Tags("poison || good".into());
    let mut settings = group_settings(&[("t", Some(fixed.clone()))]);
    settings.max_retries = 16;
    f.put_group("g", settings).await;
    let done = redrive(&f, Redrive { filter: Some(fixed), ..Redrive::default() }).await;
    assert_eq!(done.results, [(poison.to_string(), RedriveStatus::Redriven)]);
    let lease = f.lease("g", 9).await.remove(0);
    assert_eq!((lease.message.id, lease.attempt), (poison, 1), "the same id, attempt 1");
    assert_eq!(f.settle_with("g", item(&lease, SettleOp::Ack)).await, SettleStatus::Settled);
    f.pass(horizon).await;
    assert!(f.lease("g", 9).await.is_empty());
    assert!(dlq(&f).await.is_empty());
}

#[tokio::test]
async fn expiries_count_and_leave_who_had_it() {
    let f = with_retries(1).await;
    f.send("t", message("a")).await;
    for attempt in [1, 2] {
        let request = crate::view::LeaseRequest { client_id: Some("c1".into()), ..Default::default() };
        let lease = f.broker.lease(&call(), TENANT, "g", request).await.unwrap().remove(0);
        assert_eq!(lease.attempt, attempt);
        f.pass(30_000).await;
        assert_eq!(f.settle_with("g", item(&lease, SettleOp::Ack)).await, SettleStatus::LeaseExpired);
        f.pass(10_000).await;
    }
    let dead = dlq(&f).await.remove(0);
    let shown: Vec<_> = dead.history.iter().map(|h| (h.attempt, h.outcome, h.client_id.as_deref())).collect();
    assert_eq!(shown, [(1, "expired", Some("c1")), (2, "expired", Some("c1"))]);
    assert!(dead.history.iter().all(|h| h.delivered_at.is_some() && h.decided_by == "default"));
}

#[tokio::test]
async fn without_retries_the_first_failure_is_the_last_also_with_a_delay() {
    let f = with_retries(0).await;
    for body in ["a", "b"] {
        f.send("t", message(body)).await;
        let lease = f.lease("g", 1).await.remove(0);
        let delay_ms = (body == "b").then_some(1);
        assert_eq!(
            f.settle_with("g", SettleRequest { delay_ms, ..item(&lease, SettleOp::Nack) }).await,
            SettleStatus::Settled
        );
        f.pass(1_000_000).await;
        assert!(f.lease("g", 9).await.is_empty());
    }
    assert_eq!(dlq(&f).await.iter().map(|d| d.message.offset.0).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test]
async fn a_consumer_may_give_a_message_up_with_its_words() {
    let f = with_retries(16).await;
    let id = kill(&f, "a").await;
    f.send("t", message("b")).await;
    let lease = f.lease("g", 1).await.remove(0);
    let reason = Some("cannot be read".to_owned());
    f.settle_with("g", SettleRequest { reason, ..item(&lease, SettleOp::DeadLetter) }).await;
    let dead = dlq(&f).await;
    assert_eq!(dead.iter().map(|d| d.reason.as_str()).collect::<Vec<_>>(), ["dead-lettered", "cannot be read"]);
    assert_eq!(dead[0].history[0].outcome, "dead-letter");
    assert_eq!(f.broker.get_dead_letter(&call(), TENANT, "g", id).await.unwrap().message.id, id);
    assert_eq!(f.settle_with("g", item(&lease, SettleOp::DeadLetter)).await, SettleStatus::AlreadySettled);
}

type Questions = Arc<Mutex<Vec<RetryQuestion>>>;

async fn with_policy(
    answer: impl Fn(&RetryQuestion) -> Verdict<RetryAnswer> + Send + Sync + 'static,
    on_failure: Option<FailurePolicy>,
) -> (Fixture, Questions) {
    let f = Fixture::with(BrokerConfig { time_scale: 0.5, ..BrokerConfig::default() }).await;
    f.topic("t", 1).await;
    f.group("g", "t", None).await;
    let questions = Questions::default();
    let seen = Arc::clone(&questions);
    let plugin = FakePlugin::retry(move |question| {
        seen.lock().push(question.clone());
        answer(question)
    });
    f.upload("policy", plugin).await;
    f.bind("r", BindingSettings { on_failure, ..binding_settings(Slot::Retry, None, Some("g"), "policy") }).await;
    (f, questions)
}

#[tokio::test]
async fn a_policy_without_a_reason_leaves_the_consumers() {
    let (f, _) = with_policy(|_| Verdict::Answer(RetryAnswer::DeadLetter { reason: None }), None).await;
    f.send("t", tagged("x")).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.settle_with("g", SettleRequest { reason: Some("why".to_owned()), ..item(&lease, SettleOp::Nack) }).await;
    f.send("t", tagged("y")).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.settle_with("g", item(&lease, SettleOp::Nack)).await;
    let reasons: Vec<_> = dlq(&f).await.into_iter().map(|dead| dead.reason).collect();
    assert_eq!(reasons, ["why", "retry-policy"]);
}

#[tokio::test]
async fn a_policy_is_asked_and_obeyed() {
    let answers = |question: &RetryQuestion| {
        Verdict::Answer(match question.tag.as_deref() {
            Some("again") => RetryAnswer::Again { delay_ms: 500, scaled: false },
            Some("scaled") => RetryAnswer::Again { delay_ms: 500, scaled: true },
            Some("dead") => RetryAnswer::DeadLetter { reason: Some("hopeless".into()) },
            _ => RetryAnswer::Drop,
        })
    };
    let (f, questions) = with_policy(answers, None).await;
    let mut leases = Vec::new();
    for tag in ["again", "scaled", "dead", "drop", "own"] {
        f.send("t", tagged(tag)).await;
        leases.push(f.lease("g", 1).await.remove(0));
    }
    for lease in &leases {
        let delay_ms = (bodies(std::slice::from_ref(lease)) == ["own"]).then_some(700);
        let reason = Some("why".to_owned());
        f.settle_with("g", SettleRequest { delay_ms, reason, ..item(lease, SettleOp::Nack) }).await;
    }
    assert_eq!(questions.lock().len(), 4, "a nack with a delay of its own asks nobody");
    let first = questions.lock()[0].clone();
    assert_eq!((first.topic.as_str(), first.group.as_str(), first.attempt, first.max_retries), ("t", "g", 1, 16));
    assert_eq!((first.tag.as_deref(), first.reason.as_deref(), first.expired), (Some("again"), Some("why"), false));
    assert_eq!(first.body_bytes, 5);
    f.pass(249).await;
    assert!(f.lease("g", 9).await.is_empty());
    f.pass(1).await;
    assert_eq!(bodies(&f.lease("g", 9).await), ["scaled"], "a step of the table is scaled");
    f.pass(250).await;
    let again = f.lease("g", 9).await.remove(0);
    assert_eq!(bodies(std::slice::from_ref(&again)), ["again"], "a delay as stated is not");
    f.pass(200).await;
    assert_eq!(bodies(&f.lease("g", 9).await), ["own"]);
    let dead = dlq(&f).await;
    assert_eq!(dead.len(), 1, "what is dropped is settled");
    assert_eq!((dead[0].reason.as_str(), dead[0].history[0].decided_by), ("hopeless", "policy"));
    assert_eq!((dead[0].history[0].binding.as_deref(), dead[0].history[0].generation), (Some("r"), Some(2)));

    // An expired lease asks too.
    f.pass(40_000).await;
    let last = questions.lock().last().cloned().unwrap();
    assert!(last.expired && last.attempt == 2 && last.first_delivered_at.is_some(), "{last:?}");
}

#[tokio::test]
async fn a_policy_that_fails_meets_its_binding() {
    let (f, _) = with_policy(|_| Verdict::Stopped(Failure::Trap), None).await;
    f.send("t", message("a")).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.settle_with("g", item(&lease, SettleOp::Nack)).await;
    f.pass(4_999).await;
    assert!(f.lease("g", 1).await.is_empty());
    f.pass(1).await;
    assert_eq!(f.lease("g", 1).await.len(), 1, "the default table, scaled");

    let (f, _) = with_policy(|_| Verdict::Failed("no idea".into()), Some(FailurePolicy::DeadLetter)).await;
    f.send("t", message("a")).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.settle_with("g", item(&lease, SettleOp::Nack)).await;
    let dead = dlq(&f).await.remove(0);
    assert_eq!((dead.reason.as_str(), dead.history[0].decided_by), ("retry policy: no idea", "on-failure"));
}

#[tokio::test]
async fn a_decision_of_another_generation_is_taken_again() {
    let (f, questions) =
        with_policy(|_| Verdict::Answer(RetryAnswer::Again { delay_ms: 5, scaled: false }), None).await;
    f.send("t", message("a")).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.shard.hold();
    let settle = f.broker.clone();
    let request = vec![item(&lease, SettleOp::Nack)];
    let settling = tokio::spawn(async move { settle.settle(&call(), TENANT, "g", request).await });
    until(|| f.shard.held() == 1).await;
    f.shard.change_group_first("g");
    f.shard.release();
    assert_eq!(settling.await.unwrap().unwrap()[0].status, SettleStatus::Settled);
    assert_eq!(questions.lock().len(), 2, "asked again under the new generation");
    f.pass(5).await;
    assert_eq!(f.lease("g", 1).await[0].attempt, 2, "counted once");
}

async fn until(met: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if met() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("it never came");
}

#[tokio::test]
async fn redrive_says_what_became_of_each_and_twice_is_once() {
    let f = with_retries(16).await;
    let (a, b, c) = (kill(&f, "a").await, kill(&f, "b").await, kill(&f, "c").await);
    let dry = redrive(&f, Redrive { dry_run: true, ..Redrive::default() }).await;
    assert_eq!(dry.results.len(), 3);
    assert_eq!(dlq(&f).await.len(), 3, "nothing changed");
    let ids = vec![a.to_string(), "nonsense".into(), a.to_string()];
    let one = redrive(&f, Redrive { ids: Some(ids.clone()), ..Redrive::default() }).await;
    let nonsense = ("nonsense".to_owned(), RedriveStatus::NotFound);
    assert_eq!(one.results, [(a.to_string(), RedriveStatus::Redriven), nonsense.clone()]);
    let again = redrive(&f, Redrive { ids: Some(ids), ..Redrive::default() }).await;
    assert_eq!(again.results, [(a.to_string(), RedriveStatus::AlreadyRedriven), nonsense]);
    assert_eq!(f.lease("g", 9).await.len(), 1);

    let tagged = Redrive { filter: Some(FilterSpec::Tags("c".into())), ..Redrive::default() };
    assert_eq!(redrive(&f, tagged).await.results, [(c.to_string(), RedriveStatus::Redriven)]);
    assert_eq!(dlq(&f).await.iter().map(|d| d.message.id).collect::<Vec<_>>(), [b]);
    let nobody = redrive(&f, Redrive { ids: Some(Vec::new()), ..Redrive::default() }).await;
    assert!(nobody.results.is_empty());
    let gone = f.broker.get_dead_letter(&call(), TENANT, "g", a).await;
    assert_eq!(gone.unwrap_err(), Error::MessageNotFound, "it is no dead letter any more");
}

#[tokio::test]
async fn two_redrives_at_once_deliver_once() {
    let f = with_retries(16).await;
    kill(&f, "a").await;
    let ask = call();
    let ask = || f.broker.redrive(&ask, TENANT, "g", Redrive::default());
    let (first, second) = tokio::join!(ask(), ask());
    let redriven = [first.unwrap(), second.unwrap()]
        .iter()
        .flat_map(|done| done.results.clone())
        .filter(|(_, status)| *status == RedriveStatus::Redriven)
        .count();
    assert_eq!(redriven, 1);
    assert_eq!(f.lease("g", 9).await.len(), 1);

    let topic = || Redrive { to: RedriveTo::Topic, ..Redrive::default() };
    kill_leased(&f).await;
    let ask = call();
    let ask = || f.broker.redrive(&ask, TENANT, "g", topic());
    let (first, second) = tokio::join!(ask(), ask());
    let statuses: Vec<_> = [first.unwrap(), second.unwrap()].into_iter().flat_map(|done| done.results).collect();
    let redriven = statuses.iter().filter(|(_, status)| *status == RedriveStatus::Redriven).count();
    assert_eq!(redriven, 1, "{statuses:?}");
    assert_eq!(f.shard.messages(pointsman_model::TopicId(1), pointsman_model::QueueId(0)).len(), 2);
}

/// Gives up the one message that is leased: its lease ends first.
async fn kill_leased(f: &Fixture) {
    f.pass(30_000).await;
    f.pass(10_000).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.settle_with("g", item(&lease, SettleOp::DeadLetter)).await;
    assert_eq!(dlq(f).await.len(), 1);
}

#[tokio::test]
async fn redriven_to_its_topic_it_is_a_new_message_of_the_same_words() {
    let f = with_retries(16).await;
    let id = kill(&f, "a").await;
    f.group("other", "t", None).await;
    assert_eq!(f.lease("other", 9).await.len(), 1);
    let done = redrive(&f, Redrive { to: RedriveTo::Topic, ..Redrive::default() }).await;
    assert_eq!(done.results, [(id.to_string(), RedriveStatus::Redriven)]);
    let lease = f.lease("g", 9).await.remove(0);
    assert_eq!((bodies(std::slice::from_ref(&lease)), lease.attempt), (vec!["a".to_owned()], 1));
    assert_ne!(lease.message.id, id);
    assert_eq!(lease.message.head().unwrap().tag, Some("a"));
    assert_eq!(f.lease("other", 9).await.len(), 1, "all groups of the topic get it");
    let again = Redrive { to: RedriveTo::Topic, ids: Some(vec![id.to_string()]), ..Redrive::default() };
    assert_eq!(redrive(&f, again).await.results, [(id.to_string(), RedriveStatus::AlreadyRedriven)]);
}

#[tokio::test]
async fn what_dies_again_is_there_once_and_keeps_its_history() {
    let f = with_retries(0).await;
    let id = kill(&f, "a").await;
    redrive(&f, Redrive::default()).await;
    let lease = f.lease("g", 9).await.remove(0);
    assert_eq!(lease.attempt, 1);
    f.settle_with("g", item(&lease, SettleOp::Nack)).await;
    let dead = dlq(&f).await;
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].message.id, dead[0].attempts), (id, 1));
    assert_eq!(
        dead[0].history.iter().map(|h| (h.attempt, h.outcome)).collect::<Vec<_>>(),
        [(1, "dead-letter"), (1, "nack")]
    );
    assert_eq!(redrive(&f, Redrive::default()).await.results, [(id.to_string(), RedriveStatus::Redriven)]);
}

#[tokio::test]
async fn dead_letters_end_by_retention_by_hand_and_with_their_group() {
    let f = with_retries(16).await;
    let (a, b) = (kill(&f, "a").await, kill(&f, "b").await);
    f.broker.delete_dead_letter(&call(), TENANT, "g", a).await.unwrap();
    let twice = f.broker.delete_dead_letter(&call(), TENANT, "g", a).await;
    assert_eq!(twice.unwrap_err(), Error::MessageNotFound);
    f.clock.advance_ms(3 * 24 * 3_600_000 - 1);
    assert_eq!(dlq(&f).await.len(), 1);
    f.clock.advance_ms(1);
    assert!(dlq(&f).await.is_empty());
    let late = redrive(&f, Redrive { ids: Some(vec![b.to_string()]), ..Redrive::default() }).await;
    assert_eq!(late.results[0].1, RedriveStatus::NotFound);
    assert_eq!(f.shard_dead_rows(), 1);
    f.broker.sweep_now();
    f.pass(0).await;
    assert_eq!(f.shard_dead_rows(), 0, "the row is gone too");

    kill(&f, "c").await;
    f.broker.delete_group(&call(), TENANT, "g", crate::command::Expect::Anything).await.unwrap();
    f.put_group("g", group_settings(&[("t", None)])).await;
    assert!(dlq(&f).await.is_empty());
}

#[tokio::test]
async fn a_group_without_the_topic_is_not_subscribed() {
    let f = with_retries(16).await;
    f.topic("u", 1).await;
    let id = kill(&f, "a").await;
    f.put_group("g", group_settings(&[("u", None)])).await;
    assert_eq!(dlq(&f).await.len(), 1, "a put keeps the queue of dead letters");
    for to in [RedriveTo::Group, RedriveTo::Topic] {
        let done = redrive(&f, Redrive { to, ..Redrive::default() }).await;
        assert_eq!(done.results, [(id.to_string(), RedriveStatus::NotSubscribed)]);
    }
    f.put_group("g", group_settings(&[("u", None), ("t", None)])).await;
    assert_eq!(redrive(&f, Redrive::default()).await.results[0].1, RedriveStatus::Redriven);
}

#[tokio::test]
async fn what_its_ttl_ended_is_not_dead_lettered() {
    let f = with_retries(0).await;
    let mut short = message("a");
    short.ttl_ms = Some(20_000);
    f.send("t", short).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.pass(25_000).await;
    assert_eq!(f.settle_with("g", item(&lease, SettleOp::Nack)).await, SettleStatus::Settled);
    assert!(dlq(&f).await.is_empty());
}

#[tokio::test]
async fn pages_of_dead_letters_and_foreign_cursors() {
    let f = with_retries(16).await;
    let mut killed = Vec::new();
    for body in ["a", "b", "c", "d", "e"] {
        killed.push(kill(&f, body).await);
    }
    let list = async |broker: &Broker, group: &str, cursor| {
        broker.list_dead_letters(&call(), TENANT, group, &PageRequest { limit: 2, cursor }).await
    };
    let (mut got, mut cursor) = (Vec::new(), None);
    loop {
        let page = list(&f.broker, "g", cursor).await.unwrap();
        got.extend(page.items.iter().map(|dead| dead.message.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(got, killed);
    f.group("other", "t", None).await;
    let cursor = list(&f.broker, "g", None).await.unwrap().next_cursor;
    assert!(matches!(list(&f.broker, "other", cursor).await, Err(Error::InvalidCursor { .. })));
}

#[tokio::test]
async fn a_redriven_message_outlives_a_change_of_leader() {
    let f = with_retries(16).await;
    let id = kill(&f, "a").await;
    redrive(&f, Redrive::default()).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.shard.set_term(Some(2));
    assert_eq!(f.settle_with("g", item(&lease, SettleOp::Nack)).await, SettleStatus::Settled, "the log compares");
    f.pass(10_000).await;
    let second = f.lease("g", 1).await.remove(0);
    assert_eq!((second.message.id, second.attempt), (id, 2));
}

#[tokio::test]
async fn groups_that_keep_an_order_give_up_and_take_back_the_same() {
    for ordering in [crate::command::Ordering::Key, crate::command::Ordering::Queue] {
        let f = Fixture::new().await;
        f.topic("t", 1).await;
        let settings = crate::view::GroupSettings { max_retries: 0, ordering, ..group_settings(&[("t", None)]) };
        f.put_group("g", settings).await;
        let keyed =
            |body: &str| pointsman_model::message::NewMessage { ordering_key: Some("k".into()), ..message(body) };
        let poison = f.send("t", keyed("poison")).await.id.unwrap();
        f.send("t", keyed("next")).await;
        let lease = f.lease("g", 1).await.remove(0);
        assert_eq!(f.settle_with("g", item(&lease, SettleOp::Nack)).await, SettleStatus::Settled);
        assert_eq!(dlq(&f).await[0].message.id, poison, "{ordering:?}");
        let next = f.lease("g", 9).await;
        assert_eq!(bodies(&next), ["next"], "its successors flow: {ordering:?}");
        f.settle_with("g", item(&next[0], SettleOp::Ack)).await;
        assert_eq!(redrive(&f, Redrive::default()).await.results[0].1, RedriveStatus::Redriven);
        let again = f.lease("g", 9).await;
        assert_eq!((again.len(), again[0].message.id, again[0].attempt), (1, poison, 1), "{ordering:?}");
        assert_eq!(f.settle_with("g", item(&again[0], SettleOp::Ack)).await, SettleStatus::Settled);
        f.pass(100_000).await;
        assert!(f.lease("g", 9).await.is_empty());
    }
}
