//! Group streams over fakes: credit, and what becomes of leases when a client goes.

use std::time::Duration;

use pointsman_state_machine::command::Ordering;

use super::*;
use crate::testing::fixture::{Fixture, TENANT, bodies, call, group_settings, message};
use crate::view::{GroupSettings, SettleOp, SettleStatus};

async fn fixture(ordering: Ordering, messages: usize) -> Fixture {
    let f = Fixture::new().await;
    f.topic("t", 1).await;
    f.put_group("g", GroupSettings { ordering, ..group_settings(&[("t", None)]) }).await;
    let messages = (0..messages).map(|n| message(&n.to_string())).collect();
    f.publish("t", messages).await.unwrap();
    f
}

fn open(f: &Fixture, max_inflight: u32, client: Option<&str>) -> GroupStream {
    let request = GroupStreamRequest {
        max_inflight: Some(max_inflight),
        client_id: client.map(str::to_owned),
        ..GroupStreamRequest::default()
    };
    f.broker.open_group_stream(&call(), TENANT, "g", request).unwrap()
}

/// The next event within a second.
async fn event(stream: &mut GroupStream) -> Option<GroupEvent> {
    tokio::time::timeout(Duration::from_secs(2), stream.next()).await.expect("an event")
}

/// The next lease, written.
async fn lease(stream: &mut GroupStream) -> Lease {
    loop {
        match event(stream).await.expect("a lease") {
            GroupEvent::Lease { lease, unseen } => {
                stream.seen(vec![unseen]);
                return *lease;
            }
            GroupEvent::Said(_) => {}
        }
    }
}

async fn is_silent(stream: &mut GroupStream) -> bool {
    tokio::time::timeout(Duration::from_millis(50), stream.next()).await.is_err()
}

async fn settled(f: &Fixture) {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    f.pass(0).await;
}

#[tokio::test]
async fn it_pauses_at_max_inflight_and_goes_on_as_leases_are_settled() {
    for ordering in [Ordering::None, Ordering::Key, Ordering::Queue] {
        let f = fixture(ordering, 5).await;
        let mut stream = open(&f, 2, None);
        let Some(GroupEvent::Said(StreamEvent::Open { topics, resumed: false })) = event(&mut stream).await else {
            panic!("open first");
        };
        assert_eq!(topics, ["t"]);
        let first = [lease(&mut stream).await, lease(&mut stream).await];
        assert_eq!(bodies(&first), ["0", "1"]);
        assert!(is_silent(&mut stream).await, "{ordering:?}");
        for (lease, expected) in first.iter().zip(["2", "3"]) {
            assert_eq!(f.settle("g", &lease.receipt, SettleOp::Ack).await, SettleStatus::Settled);
            if ordering != Ordering::Queue {
                assert_eq!(bodies(&[super::tests::lease(&mut stream).await]), [expected], "{ordering:?}");
            }
        }
        if ordering == Ordering::Queue {
            assert_eq!(bodies(&[lease(&mut stream).await]), ["2"], "the next run of the queue");
        }
    }
}

#[tokio::test]
async fn caught_up_is_said_once_and_bounds_end_it_with_its_leases() {
    let f = fixture(Ordering::None, 3).await;
    let request = GroupStreamRequest { max_events: Some(2), ..GroupStreamRequest::default() };
    let mut stream = f.broker.open_group_stream(&call(), TENANT, "g", request).unwrap();
    let two = [lease(&mut stream).await, lease(&mut stream).await];
    assert!(event(&mut stream).await.is_none());
    drop(stream);
    f.pass(29_999).await;
    assert_eq!(f.settle("g", &two[0].receipt, SettleOp::Ack).await, SettleStatus::Settled);

    let request = GroupStreamRequest { until_tail: true, ..GroupStreamRequest::default() };
    let mut stream = f.broker.open_group_stream(&call(), TENANT, "g", request).unwrap();
    assert_eq!(bodies(&[lease(&mut stream).await]), ["2"]);
    assert!(matches!(event(&mut stream).await, Some(GroupEvent::Said(StreamEvent::CaughtUp))));
    assert!(event(&mut stream).await.is_none());
}

#[tokio::test]
async fn a_hang_up_gives_back_at_once_what_was_not_written() {
    for ordering in [Ordering::None, Ordering::Key, Ordering::Queue] {
        let f = fixture(ordering, 3).await;
        let mut stream = open(&f, 3, None);
        let written = lease(&mut stream).await;
        assert_eq!(bodies(std::slice::from_ref(&written)), ["0"]);
        let Some(GroupEvent::Lease { unseen, .. }) = event(&mut stream).await else { panic!("a lease") };
        drop(unseen);
        drop(stream);
        settled(&f).await;
        if ordering != Ordering::Queue {
            let again = f.lease("g", 9).await;
            let attempts: Vec<_> = again.iter().map(|lease| lease.attempt).collect();
            assert_eq!((bodies(&again), attempts), (vec!["1".to_owned(), "2".into()], vec![1, 1]), "{ordering:?}");
        }
        f.pass(4_999).await;
        assert!(f.lease("g", 9).await.is_empty(), "{ordering:?}");
        f.pass(1).await;
        assert_eq!(f.settle("g", &written.receipt, SettleOp::Ack).await, SettleStatus::LeaseExpired);
        f.pass(10_000).await;
        let back = f.lease("g", 9).await;
        assert_eq!((back[0].attempt, &*bodies(&back)[0]), (2, "0"), "{ordering:?}");
    }
}

#[tokio::test]
async fn a_client_that_comes_back_keeps_its_leases() {
    let f = fixture(Ordering::Key, 3).await;
    let mut stream = open(&f, 2, Some("c"));
    let held = [lease(&mut stream).await, lease(&mut stream).await];
    drop(stream);
    settled(&f).await;
    f.pass(4_000).await;
    let mut stream = open(&f, 2, Some("c"));
    f.pass(10_000).await;
    assert!(matches!(event(&mut stream).await, Some(GroupEvent::Said(StreamEvent::Open { .. }))));
    assert!(is_silent(&mut stream).await, "they count against its credit");
    assert_eq!(f.settle("g", &held[0].receipt, SettleOp::Ack).await, SettleStatus::Settled);
    assert_eq!(bodies(&[lease(&mut stream).await]), ["2"]);
    // Another client's leases end.
    drop(stream);
    drop(open(&f, 2, Some("d")));
    f.pass(5_000).await;
    assert_eq!(f.settle("g", &held[1].receipt, SettleOp::Ack).await, SettleStatus::LeaseExpired);
}

#[tokio::test]
async fn bad_numbers_too_many_streams_and_a_stop() {
    let f = fixture(Ordering::None, 1).await;
    for (request, field) in [
        (GroupStreamRequest { max_inflight: Some(0), ..GroupStreamRequest::default() }, "max_inflight"),
        (
            GroupStreamRequest { max_inflight: Some(limits::STREAM_INFLIGHT_MAX + 1), ..GroupStreamRequest::default() },
            "max_inflight",
        ),
        (GroupStreamRequest { lease_ms: Some(0), ..GroupStreamRequest::default() }, "lease_ms"),
    ] {
        let refused = f.broker.open_group_stream(&call(), TENANT, "g", request).err();
        assert!(matches!(&refused, Some(Error::InvalidRequest { pointer, .. }) if pointer == field), "{refused:?}");
    }
    let none = f.broker.open_group_stream(&call(), TENANT, "no", GroupStreamRequest::default()).err();
    assert!(matches!(none, Some(Error::GroupNotFound(_))));
    let mut streams: Vec<_> = (0..limits::STREAMS_PER_TENANT_MAX).map(|_| open(&f, 1, None)).collect();
    let refused = f.broker.open_group_stream(&call(), TENANT, "g", GroupStreamRequest::default()).err();
    assert!(matches!(refused, Some(Error::QuotaExceeded(_))));
    let mut last = streams.pop().unwrap();
    drop(streams);
    let shutdown = tokio::spawn({
        let broker = f.broker.clone();
        async move { broker.shutdown().await }
    });
    loop {
        match event(&mut last).await {
            Some(GroupEvent::Said(StreamEvent::Drain)) => break,
            Some(_) => {}
            None => panic!("it ended without a word"),
        }
    }
    shutdown.await.unwrap();
}
