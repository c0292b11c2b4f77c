//! Seek, lag, pause, and who leases what.

use pointsman_model::{QueueId, Timestamp};
use pointsman_state_machine::command::{Expect, Slot};

use crate::Error;
use crate::testing::FakePlugin;
use crate::testing::fixture::{Fixture, TENANT, binding_settings, bodies, call, group_settings, message, tagged};
use crate::view::{
    FilterSpec, Lag, Lease, LeaseRequest, PageRequest, SeekRequest, SeekTo, SettleOp, SettleRequest, SettleStatus,
    Sought,
};

fn item(lease: &Lease, op: SettleOp) -> SettleRequest {
    SettleRequest { receipt: lease.receipt.clone(), op, delay_ms: None, lease_ms: None, reason: None }
}

async fn stored(bodies: &[&str]) -> Fixture {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.group("g", "t", None).await;
    for body in bodies {
        f.send("t", tagged(body)).await;
        f.clock.advance_ms(1_000);
    }
    f
}

fn to(to: SeekTo) -> SeekRequest {
    SeekRequest { to, topics: None, queues: None, expect: Expect::Present, dry_run: false }
}

async fn seek(f: &Fixture, ask: SeekRequest) -> Result<Sought, Error> {
    f.broker.seek(&call(), TENANT, "g", ask).await
}

async fn lag(f: &Fixture) -> Lag {
    f.broker.lag(&call(), TENANT, "g").await.unwrap()
}

async fn revision(f: &Fixture) -> u64 {
    f.broker.get_group(&call(), TENANT, "g").await.unwrap().revision
}

#[tokio::test]
async fn a_seek_goes_to_every_kind_of_place() {
    let f = stored(&["a", "b", "c", "d"]).await;
    for lease in f.lease("g", 9).await {
        f.settle_with("g", item(&lease, SettleOp::Ack)).await;
    }
    let b = f.broker.list_messages(&call(), TENANT, "t", QueueId(0), 1, 1).await.unwrap().remove(0);
    for (place, expected) in [
        (SeekTo::Earliest, 0),
        (SeekTo::Latest, 4),
        (SeekTo::Offset(3), 3),
        (SeekTo::Offset(99), 4),
        (SeekTo::Time(b.stored_at), 1),
        (SeekTo::Time(Timestamp(u64::MAX)), 4),
        (SeekTo::Message(b.id), 1),
    ] {
        let dry = seek(&f, SeekRequest { dry_run: true, ..to(place.clone()) }).await.unwrap();
        let before = revision(&f).await;
        let sought = seek(&f, to(place.clone())).await.unwrap();
        assert_eq!(dry.moves, sought.moves, "{place:?}");
        assert_eq!(sought.moves[0].to, expected, "{place:?}");
        assert_eq!(dry.revision, before, "a dry run changes nothing");
        assert_eq!(sought.revision, revision(&f).await);
        assert!(sought.revision > before, "the ETag moves");
        let offsets = f.broker.group_offsets(&call(), TENANT, "g").await.unwrap();
        assert_eq!((offsets[0].committed, offsets[0].earliest, offsets[0].latest), (expected, 0, 4));
        let given = f.lease("g", 9).await;
        assert_eq!(given.len() as u64, 4 - expected, "{place:?}");
        assert!(given.iter().all(|lease| lease.attempt == 1));
    }
}

#[tokio::test]
async fn a_seek_ends_leases_and_resets_attempts() {
    let f = stored(&["a", "b", "c"]).await;
    let before = f.lease("g", 3).await;
    f.settle_with("g", SettleRequest { delay_ms: Some(5_000), ..item(&before[0], SettleOp::Nack) }).await;
    seek(&f, to(SeekTo::Earliest)).await.unwrap();
    for op in [SettleOp::Ack, SettleOp::Nack, SettleOp::Extend, SettleOp::Release] {
        assert_eq!(f.settle_with("g", item(&before[1], op)).await, SettleStatus::LeaseExpired, "{op:?}");
    }
    let after = f.lease("g", 9).await;
    assert_eq!(bodies(&after), ["a", "b", "c"]);
    assert!(after.iter().all(|lease| lease.attempt == 1), "also of what waited for its second attempt");
    assert_eq!(f.settle_with("g", item(&before[1], SettleOp::Ack)).await, SettleStatus::LeaseExpired);
    for lease in &after {
        assert_eq!(f.settle_with("g", item(lease, SettleOp::Ack)).await, SettleStatus::Settled);
    }
    f.pass(100_000).await;
    assert!(f.lease("g", 9).await.is_empty());

    // Neither does a later leader adopt what was leased before the seek.
    seek(&f, to(SeekTo::Earliest)).await.unwrap();
    let lease = f.lease("g", 1).await.remove(0);
    seek(&f, to(SeekTo::Earliest)).await.unwrap();
    f.shard.set_term(Some(2));
    for op in [SettleOp::Ack, SettleOp::Extend] {
        assert_eq!(f.settle_with("g", item(&lease, op)).await, SettleStatus::LeaseExpired);
    }
}

#[tokio::test]
async fn an_ack_that_races_a_seek_does_not_settle_what_comes_again() {
    let f = stored(&["a"]).await;
    let lease = f.lease("g", 1).await.remove(0);
    f.shard.hold();
    let broker = f.broker.clone();
    let seeking = tokio::spawn(async move { broker.seek(&call(), TENANT, "g", to(SeekTo::Earliest)).await });
    while f.shard.held() < 1 {
        tokio::task::yield_now().await;
    }
    let broker = f.broker.clone();
    let ack = vec![item(&lease, SettleOp::Ack)];
    let acking = tokio::spawn(async move { broker.settle(&call(), TENANT, "g", ack).await });
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    f.shard.release();
    seeking.await.unwrap().unwrap();
    let acked = loop {
        // What came while the first entry was under way goes into the next.
        f.shard.release();
        if acking.is_finished() {
            break acking.await.unwrap().unwrap();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(acked[0].status, SettleStatus::LeaseExpired);
    assert_eq!(bodies(&f.lease("g", 9).await), ["a"], "it comes again");
}

#[tokio::test]
async fn a_seek_of_some_queues_leaves_the_others() {
    let f = Fixture::new().await;
    f.topic("t", 2).await;
    f.topic("u", 1).await;
    f.put_group("g", group_settings(&[("t", None), ("u", None)])).await;
    for topic in ["t", "t", "u"] {
        f.send(topic, message("m")).await;
    }
    for lease in f.lease("g", 9).await {
        f.settle_with("g", item(&lease, SettleOp::Ack)).await;
    }
    let moved = |sought: Sought| sought.moves.into_iter().map(|m| (m.topic, m.queue.0)).collect::<Vec<_>>();
    let one = SeekRequest { topics: Some(vec!["t".into()]), queues: Some(vec![QueueId(1)]), ..to(SeekTo::Earliest) };
    assert_eq!(moved(seek(&f, one).await.unwrap()), [("t".to_owned(), 1)]);
    assert_eq!(f.lease("g", 9).await.len(), 1);
    let id = f.send("u", message("x")).await.id.unwrap();
    assert_eq!(moved(seek(&f, to(SeekTo::Message(id))).await.unwrap()), [("u".to_owned(), 0)]);

    let invalid = |topics: Option<Vec<String>>, queues: Option<Vec<u16>>| SeekRequest {
        topics,
        queues: queues.map(|queues| queues.into_iter().map(QueueId).collect()),
        ..to(SeekTo::Latest)
    };
    for (ask, pointer) in [
        (invalid(Some(vec!["nope".into()]), None), "/topics/0"),
        (invalid(None, Some(vec![0, 2])), "/queues/1"),
        (invalid(Some(vec!["u".into()]), Some(vec![1])), "/queues/0"),
        (invalid(None, Some(vec![])), "/queues"),
    ] {
        let refused = seek(&f, ask).await;
        assert!(matches!(&refused, Err(Error::InvalidRequest { pointer: p, .. }) if p == pointer), "{refused:?}");
    }
    let mut gone = id;
    gone.index.0 += 1_000;
    assert_eq!(seek(&f, to(SeekTo::Message(gone))).await.unwrap_err(), Error::MessageNotFound);
    f.topic("foreign", 1).await;
    let foreign = f.send("foreign", message("x")).await.id.unwrap();
    assert!(matches!(seek(&f, to(SeekTo::Message(foreign))).await, Err(Error::InvalidRequest { .. })));
    let stale = SeekRequest { expect: Expect::Revision(vec![1]), ..to(SeekTo::Latest) };
    assert_eq!(seek(&f, stale.clone()).await.unwrap_err(), Error::PreconditionFailed);
    assert_eq!(seek(&f, SeekRequest { dry_run: true, ..stale }).await.unwrap_err(), Error::PreconditionFailed);
}

#[tokio::test]
async fn lag_counts_what_passes_and_how_old_it_is() {
    let f = stored(&["a", "b", "a", "b"]).await;
    let shown = async |f: &Fixture| {
        let lag = lag(f).await;
        let of = &lag.queues[0];
        assert!(of.exact);
        (of.messages, of.age_ms, of.inflight, of.retrying)
    };
    assert_eq!(shown(&f).await, (4, Some(4_000), 0, 0));
    f.put_group("g", group_settings(&[("t", Some(FilterSpec::Tags("b".into())))])).await;
    assert_eq!(shown(&f).await, (2, Some(3_000), 0, 0), "of those that pass");
    let leases = f.lease("g", 9).await;
    assert_eq!(bodies(&leases), ["b", "b"]);
    assert_eq!(shown(&f).await, (2, Some(3_000), 2, 0), "leased is not settled");
    f.settle_with("g", SettleRequest { delay_ms: Some(9_000), ..item(&leases[0], SettleOp::Nack) }).await;
    assert_eq!(shown(&f).await, (2, Some(3_000), 1, 1));
    f.settle_with("g", item(&leases[1], SettleOp::Ack)).await;
    assert_eq!(shown(&f).await, (1, Some(3_000), 0, 1));
    f.settle_with("g", item(&leases[1], SettleOp::Ack)).await;
    f.pass(9_000).await;
    for lease in f.lease("g", 9).await {
        f.settle_with("g", item(&lease, SettleOp::DeadLetter)).await;
    }
    assert_eq!(shown(&f).await, (0, None, 0, 0), "a dead letter is not before the group");
}

#[tokio::test]
async fn lag_says_when_it_did_not_count_all() {
    let f = stored(&["a"]).await;
    let plugin = FakePlugin::filter(Default::default(), |_, _| pointsman_model::judge::Verdict::Answer(true));
    f.upload("all", plugin).await;
    f.bind("b", binding_settings(Slot::Filter, Some("t"), Some("g"), "all")).await;
    *f.judges.broken.lock() = Some("it does not run here".into());
    f.bind(
        "b",
        crate::view::BindingSettings {
            fuel: Some(1_000_000),
            ..binding_settings(Slot::Filter, Some("t"), Some("g"), "all")
        },
    )
    .await;
    let lag = lag(&f).await;
    assert_eq!((lag.queues[0].messages, lag.queues[0].exact), (1, false));
}

#[tokio::test]
async fn a_paused_group_leases_nothing_until_it_is_resumed() {
    let f = stored(&["a"]).await;
    let before = revision(&f).await;
    f.broker.pause(&call(), TENANT, "g", true).await.unwrap();
    f.broker.pause(&call(), TENANT, "g", true).await.unwrap();
    let started = std::time::Instant::now();
    let request = LeaseRequest { wait_ms: 30_000, ..LeaseRequest::default() };
    assert!(f.broker.lease(&call(), TENANT, "g", request.clone()).await.unwrap().is_empty());
    assert!(started.elapsed().as_secs() < 5, "at once");
    assert!(lag(&f).await.paused);
    f.put_group("g", crate::view::GroupSettings { lease_ms: 5_000, ..group_settings(&[("t", None)]) }).await;
    assert!(lag(&f).await.paused, "a put keeps it");
    f.shard.set_term(Some(2));
    assert!(f.lease("g", 1).await.is_empty(), "so does a change of leader");
    let after = revision(&f).await;
    f.broker.pause(&call(), TENANT, "g", false).await.unwrap();
    assert_eq!(f.broker.lease(&call(), TENANT, "g", request).await.unwrap().len(), 1);
    assert_eq!(revision(&f).await, after, "the ETag stays");
    assert!(after > before);
    let missing = f.broker.pause(&call(), TENANT, "nope", true).await;
    assert_eq!(missing.unwrap_err(), Error::GroupNotFound("nope".into()));
}

#[tokio::test]
async fn leases_and_members_are_shown_in_pages() {
    let f = stored(&["a", "b", "c"]).await;
    // The first call of all reads the configuration, too.
    for client in ["c2", "c1", "c2"] {
        let client_id = Some(client.to_owned());
        let request = LeaseRequest { max_messages: Some(1), client_id, ..LeaseRequest::default() };
        assert_eq!(f.broker.lease(&call(), TENANT, "g", request).await.unwrap().len(), 1);
    }
    let (mut shown, mut cursor) = (Vec::new(), None);
    loop {
        let page = PageRequest { limit: 2, cursor };
        let page = f.broker.inflight(&call(), TENANT, "g", &page).await.unwrap();
        shown.extend(page.items.into_iter().map(|lease| (lease.offset.0, lease.client_id.unwrap(), lease.attempt)));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(shown, [(0, "c2".into(), 1), (1, "c1".into(), 1), (2, "c2".into(), 1)]);
    let members = async || {
        let page = f.broker.members(&call(), TENANT, "g", &PageRequest::default()).await.unwrap();
        page.items.into_iter().map(|member| (member.client_id, member.inflight)).collect::<Vec<_>>()
    };
    assert_eq!(members().await, [("c1".to_owned(), 1), ("c2".to_owned(), 2)]);
    f.pass(300_000).await;
    assert!(members().await.is_empty(), "long gone, and their leases ran out");
}
