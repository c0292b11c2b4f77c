//! Transactions over fakes: unscaled time, lost answers, words that race.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pointsman_model::delay::Delay;
use pointsman_model::judge::{CheckAnswer, CheckResponse, OutsideMethod, OutsideRequest, Verdict as Said};
use pointsman_state_machine::command::{CheckVia, Expect, Slot};

use super::*;
use crate::testing::FakePlugin;
use crate::testing::fixture::{Fixture, TENANT, binding_settings, bodies, call, call_within, message, tagged};
use crate::view::{HalfMessage, Prepare, PreparedTransaction};

fn half(topic: Option<&str>, body: &str) -> HalfMessage {
    HalfMessage { topic: topic.map(str::to_owned), message: message(body) }
}

fn of(messages: Vec<HalfMessage>) -> Prepare {
    Prepare {
        messages,
        producer_group: "shop".into(),
        name: None,
        after_ms: None,
        interval_ms: None,
        max: None,
        via: None,
    }
}

impl Fixture {
    async fn with_shop() -> Self {
        let fixture = Self::new().await;
        fixture.topic("orders", 1).await;
        fixture.topic("stock", 2).await;
        fixture.group("g", "orders", None).await;
        fixture.group("s", "stock", None).await;
        fixture
    }

    async fn try_prepare(&self, prepare: Prepare) -> Result<PreparedTransaction, Error> {
        self.broker.prepare(&call(), TENANT, "orders", prepare).await
    }

    async fn prepare(&self, bodies: &[&str]) -> TransactionId {
        let messages = bodies.iter().map(|body| half(None, body)).collect();
        self.try_prepare(of(messages)).await.expect("prepared").id
    }

    async fn say(&self, id: TransactionId, verdict: Verdict) -> Result<TransactionView, Error> {
        self.broker.resolve_transaction(&call(), TENANT, id, verdict, false).await
    }

    async fn state_of(&self, id: TransactionId) -> TransactionState {
        self.broker.get_transaction(&call(), TENANT, id).await.expect("known").transaction.state
    }

    async fn checks(&self, max: u32) -> Vec<(TransactionId, u16)> {
        let checks = self.broker.lease_checks(&call(), TENANT, "shop", max, Duration::ZERO).await.expect("checks");
        checks.into_iter().map(|check| (check.id, check.attempt)).collect()
    }

    async fn bind_check_back(&self, plugin: FakePlugin) {
        self.upload("checker", plugin).await;
        let mut settings = binding_settings(Slot::CheckBack, Some("orders"), None, "checker");
        settings.config = Bytes::from_static(br#"{"allow":["shop.example"]}"#);
        self.bind("check", settings).await;
    }
}

#[tokio::test]
async fn a_commit_over_two_topics_shows_all_at_once_and_before_that_nothing() {
    let f = Fixture::with_shop().await;
    let stock = HalfMessage { topic: Some("stock".into()), message: tagged("two") };
    let id = f.try_prepare(of(vec![half(None, "one"), stock, half(None, "three")])).await.expect("prepared").id;
    let view = f.broker.get_transaction(&call(), TENANT, id).await.expect("known");
    let parts = view.parts.expect("parts");
    assert_eq!(parts.iter().map(|part| part.topic.as_str()).collect::<Vec<_>>(), ["orders", "stock", "orders"]);
    for part in &parts {
        assert_eq!(part.offset, None);
        assert_eq!(f.broker.find_message(&call(), TENANT, part.id).await.err(), Some(Error::MessageNotFound));
        assert_eq!(f.broker.get_scheduled(&call(), TENANT, part.id).await.err(), Some(Error::MessageNotFound));
    }
    assert!(f.lease("g", 9).await.is_empty() && f.lease("s", 9).await.is_empty());
    assert_eq!(f.broker.topic_transactions(&call(), TENANT, "stock").await, Ok(vec![id]));
    let users = Err(Error::InUse(vec!["s".into(), id.to_string()]));
    assert_eq!(f.broker.delete_topic(&call(), TENANT, "stock", Expect::Anything).await, users);

    let entries = f.shard.entries().len();
    let done = f.say(id, Verdict::Commit).await.expect("committed");
    assert_eq!(f.shard.entries()[entries..], [4], "one entry: the verdict and three messages");
    let visible = done.parts.expect("parts");
    assert_eq!(
        visible.iter().map(|part| part.id).collect::<Vec<_>>(),
        parts.iter().map(|part| part.id).collect::<Vec<_>>()
    );
    assert!(visible.iter().all(|part| part.offset.is_some()));
    assert_eq!(bodies(&f.lease("g", 9).await), ["one", "three"]);
    let leased = f.lease("s", 9).await;
    assert_eq!((bodies(&leased), leased[0].message.id), (vec!["two".to_owned()], parts[1].id), "it keeps its id");
    for part in &parts {
        assert_eq!(f.broker.get_message(&call(), TENANT, part.id).await.expect("visible").id, part.id);
    }
    let again = f.say(id, Verdict::Commit).await.expect("the same word");
    assert_eq!(again.parts, Some(visible));
    let opposite = f.say(id, Verdict::Rollback).await.err();
    assert_eq!(opposite, Some(Error::TransactionResolved(TransactionState::Committed)));
    assert!(f.lease("g", 9).await.is_empty(), "once");
}

#[tokio::test]
async fn the_whole_timetable_unscaled_and_then_expired() {
    let f = Fixture::with_shop().await;
    let id = f.prepare(&["x"]).await;
    f.pass(5_999).await;
    assert_eq!(f.checks(9).await, []);
    f.pass(1).await;
    for attempt in 1..=15 {
        assert_eq!(f.checks(9).await, [(id, attempt)], "handed out");
        assert_eq!(f.checks(9).await, [], "once");
        f.pass(29_999).await;
        assert_eq!((f.checks(9).await, f.state_of(id).await), (vec![], TransactionState::Prepared), "{attempt}");
        f.pass(1).await;
    }
    assert_eq!((f.checks(9).await, f.state_of(id).await), (vec![], TransactionState::Expired));
    let stats = f.broker.transaction_stats()[0];
    assert_eq!((stats.by_state, stats.discarded, stats.checks), ([0, 0, 0, 1], 1, 15));
    let too_late = f.say(id, Verdict::Commit).await.err();
    assert_eq!(too_late, Some(Error::TransactionResolved(TransactionState::Expired)));
    assert!(f.lease("g", 9).await.is_empty());
    let overruled = f.broker.resolve_transaction(&call(), TENANT, id, Verdict::Commit, true).await.expect("overruled");
    assert_eq!(overruled.transaction.state, TransactionState::Committed);
    assert_eq!(bodies(&f.lease("g", 9).await), ["x"]);
}

#[tokio::test]
async fn a_check_shows_the_messages_and_comes_to_who_waits() {
    let f = Fixture::with_shop().await;
    let id = f.prepare(&["one", "two"]).await;
    let broker = f.broker.clone();
    let waiting = tokio::spawn(async move {
        broker.lease_checks(&call(), TENANT, "shop", 1, Duration::from_secs(5)).await.expect("checks")
    });
    tokio::task::yield_now().await;
    f.pass(6_000).await;
    let checks = waiting.await.expect("ends");
    assert_eq!((checks[0].id, checks[0].attempt), (id, 1));
    let messages: Vec<_> = checks[0].messages.iter().map(|message| &message.record.body[..]).collect();
    assert_eq!(messages, [b"one", b"two"]);
    f.pass(30_000).await;
    f.say(id, Verdict::Rollback).await.expect("rolled back");
    assert_eq!(f.checks(9).await, [], "nobody is asked about what is over");
}

#[tokio::test]
async fn another_leader_goes_on_with_the_next_check() {
    let f = Fixture::with_shop().await;
    let id = f.prepare(&["x"]).await;
    f.pass(6_000).await;
    f.shard.set_term(None);
    f.pass(100).await;
    assert_eq!(f.say(id, Verdict::Commit).await.err(), Some(Error::NoLeader));
    f.shard.set_term(Some(2));
    assert_eq!(f.checks(9).await, [], "what was not handed out went with its leader");
    f.pass(30_000).await;
    assert_eq!(f.checks(9).await, [(id, 2)]);
    assert_eq!(f.say(id, Verdict::Commit).await.expect("committed").transaction.attempt, 2);
}

#[tokio::test]
async fn a_verdict_whose_answer_is_lost_is_found_or_said_again() {
    let f = Fixture::with_shop().await;
    let id = f.prepare(&["a", "b"]).await;
    // Lost before it was applied.
    f.shard.hold();
    let broker = f.broker.clone();
    let lost =
        tokio::spawn(async move { broker.resolve_transaction(&call(), TENANT, id, Verdict::Commit, false).await });
    while f.shard.held() == 0 {
        tokio::task::yield_now().await;
    }
    f.shard.lose_held();
    assert_eq!(lost.await.expect("ends").err(), Some(Error::OutcomeUnknown));
    f.shard.release();
    assert_eq!(f.state_of(id).await, TransactionState::Prepared);
    // Applied after its caller had given up.
    f.shard.hold();
    let short = call_within(Duration::from_millis(50));
    let late = f.broker.resolve_transaction(&short, TENANT, id, Verdict::Commit, false);
    assert_eq!(late.await.err(), Some(Error::OutcomeUnknown));
    f.shard.release();
    assert_eq!(f.say(id, Verdict::Commit).await.expect("done before").transaction.state, TransactionState::Committed);
    assert_eq!(bodies(&f.lease("g", 9).await), ["a", "b"]);
    assert!(f.lease("g", 9).await.is_empty(), "once");
}

#[tokio::test]
async fn a_lost_prepare_is_nothing_or_found_by_its_name() {
    let f = Fixture::with_shop().await;
    let named = || Prepare { name: Some("order-1".into()), ..of(vec![half(None, "x")]) };
    f.shard.hold();
    let broker = f.broker.clone();
    let lost = tokio::spawn(async move { broker.prepare(&call(), TENANT, "orders", named()).await });
    while f.shard.held() == 0 {
        tokio::task::yield_now().await;
    }
    f.shard.lose_held();
    assert_eq!(lost.await.expect("ends").err(), Some(Error::OutcomeUnknown));
    f.shard.release();
    let first = f.try_prepare(named()).await.expect("prepared");
    assert!(!first.repeated);
    let again = f.try_prepare(named()).await.expect("found");
    assert_eq!((again.id, again.repeated, again.state), (first.id, true, TransactionState::Prepared));
    f.say(first.id, Verdict::Rollback).await.expect("rolled back");
    assert_eq!(f.try_prepare(named()).await.expect("found").state, TransactionState::RolledBack);
    let other = Prepare { messages: vec![half(None, "y")], ..named() };
    assert_eq!(f.try_prepare(other).await.err(), Some(Error::IdempotencyMismatch));

    // Two at once: one entry holds both, and one is it.
    f.shard.hold();
    let two: Vec<_> = (0..2)
        .map(|_| {
            let (broker, prepare) = (f.broker.clone(), Prepare { name: Some("order-2".into()), ..named() });
            tokio::spawn(async move { broker.prepare(&call(), TENANT, "orders", prepare).await.expect("prepared") })
        })
        .collect();
    while f.shard.held() < 2 {
        tokio::task::yield_now().await;
    }
    f.shard.release();
    let mut found = Vec::new();
    for one in two {
        found.push(one.await.expect("ends"));
    }
    assert_eq!((found[0].id, found[0].repeated != found[1].repeated), (found[1].id, true));
}

#[tokio::test]
async fn what_is_stale_is_decided_again() {
    let f = Fixture::with_shop().await;
    f.shard.hold();
    let broker = f.broker.clone();
    let preparing = tokio::spawn(async move {
        let messages = vec![half(None, "a"), half(Some("stock"), "b")];
        broker.prepare(&call(), TENANT, "orders", of(messages)).await.expect("prepared").id
    });
    while f.shard.held() == 0 {
        tokio::task::yield_now().await;
    }
    f.shard.release_after_change();
    f.shard.release();
    while f.shard.held() > 0 {
        f.shard.release_held();
    }
    let id = preparing.await.expect("ends");
    f.shard.hold();
    let broker = f.broker.clone();
    let committing = tokio::spawn(async move {
        broker.resolve_transaction(&call(), TENANT, id, Verdict::Commit, false).await.expect("committed")
    });
    while f.shard.held() == 0 {
        tokio::task::yield_now().await;
    }
    f.shard.release_after_change();
    f.shard.release();
    assert_eq!(committing.await.expect("ends").parts.map(|parts| parts.len()), Some(2));
    assert_eq!((bodies(&f.lease("g", 9).await), bodies(&f.lease("s", 9).await)), (vec!["a".into()], vec!["b".into()]));
}

#[tokio::test]
async fn of_opposite_words_at_once_one_counts() {
    let f = Fixture::with_shop().await;
    for round in 0..20 {
        let id = f.prepare(&["x"]).await;
        let words: Vec<_> = (0..8)
            .map(|i| {
                let broker = f.broker.clone();
                let verdict = if (i + round) % 2 == 0 { Verdict::Commit } else { Verdict::Rollback };
                tokio::spawn(
                    async move { (verdict, broker.resolve_transaction(&call(), TENANT, id, verdict, false).await) },
                )
            })
            .collect();
        let mut winners = Vec::new();
        for word in words {
            match word.await.expect("ends") {
                (verdict, Ok(_)) => winners.push(verdict),
                (_, Err(error)) => assert!(matches!(error, Error::TransactionResolved(_)), "{error:?}"),
            }
        }
        assert_eq!(winners.len(), 4);
        assert!(winners.iter().all(|winner| *winner == winners[0]));
        let visible = if winners[0] == Verdict::Commit { 1 } else { 0 };
        assert_eq!(f.lease("g", 9).await.len(), visible);
    }
}

#[tokio::test]
async fn delays_run_from_the_commit() {
    let f = Fixture::with_shop().await;
    let mut later = half(None, "later");
    later.message.delay = Some(Delay::After(1_000));
    let id = f.try_prepare(of(vec![half(None, "now"), later])).await.expect("prepared").id;
    f.pass(5_000).await;
    f.say(id, Verdict::Commit).await.expect("committed");
    assert_eq!(bodies(&f.lease("g", 9).await), ["now"]);
    f.pass(999).await;
    assert!(f.lease("g", 9).await.is_empty());
    f.pass(1).await;
    assert_eq!(bodies(&f.lease("g", 9).await), ["later"]);
}

#[tokio::test]
async fn a_plugin_answers_and_its_word_is_fenced() {
    let f = Fixture::with_shop().await;
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let plugin = FakePlugin::check_back(
        move |half, attempt| {
            counted.fetch_add(1, Ordering::SeqCst);
            assert_eq!((half.topic.as_str(), half.messages, &half.body[..]), ("orders", 1, &b"x"[..]));
            match attempt {
                1 => Said::Failed("not today".into()),
                2 => Said::Answer(CheckAnswer::Unknown { after_ms: Some(7_000) }),
                3 => Said::Answer(CheckAnswer::Unknown { after_ms: None }),
                _ => Said::Answer(CheckAnswer::Commit),
            }
        },
        |_, _| Said::Failed("asked nothing".into()),
    );
    f.bind_check_back(plugin).await;
    let id = f.prepare(&["x"]).await;
    for (wait, calls) in [(6_000, 1), (30_000, 2), (6_999, 2), (1, 3), (29_999, 3)] {
        f.pass(wait).await;
        assert_eq!((asked.load(Ordering::SeqCst), f.state_of(id).await), (calls, TransactionState::Prepared));
    }
    f.pass(1).await;
    let view = f.broker.get_transaction(&call(), TENANT, id).await.expect("known");
    assert_eq!((view.transaction.state, view.transaction.attempt), (TransactionState::Committed, 4));
    assert!(matches!(view.transaction.resolved_by, Some(ResolvedBy::Plugin(_))));
    assert_eq!(bodies(&f.lease("g", 9).await), ["x"]);

    // By name a producer may be asked all the same, and without a binding nobody else can be.
    let by_producer = Prepare { via: Some(CheckVia::Producer), ..of(vec![half(None, "y")]) };
    let id = f.try_prepare(by_producer).await.expect("prepared").id;
    f.pass(6_000).await;
    assert_eq!(f.checks(9).await, [(id, 1)]);
    let by_plugin = Prepare { via: Some(CheckVia::Plugin), ..of(vec![half(Some("stock"), "z")]) };
    let refused = f.broker.prepare(&call(), TENANT, "stock", by_plugin).await.err();
    assert!(matches!(refused, Some(Error::InvalidRequest { pointer, .. }) if pointer == "/check/via"));
}

#[tokio::test]
async fn a_plugin_may_have_its_host_ask_within_the_allow_list() {
    let f = Fixture::with_shop().await;
    let request = || OutsideRequest {
        method: OutsideMethod::Get,
        url: "https://shop.example/orders/1".into(),
        headers: Vec::new(),
        body: Bytes::new(),
    };
    let plugin = FakePlugin::check_back(
        move |_, _| Said::Answer(CheckAnswer::Ask(request())),
        move |_, response| match response {
            CheckResponse::Answered { status: 404, .. } => Said::Answer(CheckAnswer::Rollback),
            CheckResponse::Answered { status: 202, .. } => Said::Answer(CheckAnswer::Ask(request())),
            CheckResponse::Answered { .. } => Said::Answer(CheckAnswer::Commit),
            CheckResponse::Failed(_) => Said::Answer(CheckAnswer::Unknown { after_ms: None }),
        },
    );
    f.bind_check_back(plugin).await;
    let id = f.prepare(&["x"]).await;
    f.pass(6_000).await;
    assert_eq!((f.outside.asked().len(), f.state_of(id).await), (1, TransactionState::Prepared), "nobody answered");
    assert_eq!(f.outside.asked()[0].1, ["shop.example"]);
    let status = |status| CheckResponse::Answered { status, headers: Vec::new(), body: Bytes::new() };
    f.outside.answer(move |_| status(202));
    f.pass(30_000).await;
    assert_eq!(f.outside.asked().len(), 1 + limits::CHECK_REQUESTS_MAX as usize, "no more than one check may make");
    assert_eq!(f.state_of(id).await, TransactionState::Prepared);
    f.outside.answer(move |_| status(404));
    f.pass(30_000).await;
    assert_eq!(f.state_of(id).await, TransactionState::RolledBack);
}

#[tokio::test]
async fn lists_by_state_page_by_cursor() {
    let f = Fixture::with_shop().await;
    let mut ids = Vec::new();
    for i in 0..5 {
        ids.push(f.prepare(&["x"]).await);
        if i % 2 == 0 {
            f.say(ids[i], Verdict::Commit).await.expect("committed");
        }
        f.pass(1).await;
    }
    for (state, expected) in [
        (None, vec![0, 1, 2, 3, 4]),
        (Some(TransactionState::Committed), vec![0, 2, 4]),
        (Some(TransactionState::Prepared), vec![1, 3]),
        (Some(TransactionState::Expired), vec![]),
    ] {
        let (mut found, mut page) = (Vec::new(), PageRequest { limit: 2, cursor: None });
        loop {
            let got = f.broker.list_transactions(&call(), TENANT, state, &page).await.expect("a page");
            assert!(got.items.len() <= 2 && got.items.iter().all(|item| item.parts.is_none()));
            found.extend(got.items.iter().map(|item| item.id));
            match got.next_cursor {
                Some(cursor) => page.cursor = Some(cursor),
                None => break,
            }
        }
        assert_eq!(found, expected.iter().map(|i| ids[*i]).collect::<Vec<_>>(), "{state:?}");
    }
    let foreign = PageRequest { limit: 2, cursor: Some("p1.nonsense".into()) };
    assert!(f.broker.list_transactions(&call(), TENANT, None, &foreign).await.is_err());
}

#[tokio::test]
async fn limits_and_unknown_topics() {
    let f = Fixture::with_shop().await;
    let many = |n: usize| (0..n).map(|_| half(None, "x")).collect::<Vec<_>>();
    assert!(matches!(f.try_prepare(of(many(1_001))).await, Err(Error::BatchTooLarge(_))));
    assert!(matches!(f.try_prepare(of(Vec::new())).await, Err(Error::InvalidRequest { .. })));
    let id = f.try_prepare(of(many(1_000))).await.expect("as many as may be").id;
    assert_eq!(f.say(id, Verdict::Commit).await.expect("committed").parts.map(|parts| parts.len()), Some(1_000));
    let nowhere = f.try_prepare(of(vec![half(None, "x"), half(Some("nowhere"), "x")])).await.err();
    assert_eq!(nowhere, Some(Error::TopicNotFound("nowhere".into())));
    let mut misplaced = half(None, "x");
    misplaced.message.queue = Some(QueueId(9));
    assert!(matches!(f.try_prepare(of(vec![half(None, "x"), misplaced])).await, Err(Error::InvalidRequest { .. })));
    assert_eq!(f.broker.transaction_stats()[0].by_state, [0, 1, 0, 0]);
}
