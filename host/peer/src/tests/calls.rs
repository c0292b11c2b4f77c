//! Calls: every one ends, and says how.

use std::time::Duration;

use bytes::Bytes;
use pointsman_model::{NodeId, limits};

use super::fake::Fake;
use super::{LONG, SHARD, echo, listener, pace, pair, start, until};
use crate::error::CallError;
use crate::frame::Kind;
use crate::handler::Service;
use crate::lane::Lane;

const SERVICES: [Service; 3] = [Service::Node, Service::Control, Service::Bulk];

#[tokio::test]
async fn every_service_answers_both_ways() {
    let (one, two) = pair().await;
    for service in SERVICES {
        assert_eq!(echo(&one, 2, service).await.unwrap(), "echo me");
        assert_eq!(echo(&two, 1, service).await.unwrap(), "echo me");
    }
    assert_eq!(*two.handler.asked.lock(), SERVICES.map(|service| (NodeId(1), service, SHARD)));
}

#[tokio::test]
async fn a_refusal_comes_back_in_words() {
    let (one, _two) = pair().await;
    let ask = |request: &'static [u8]| {
        one.peers.call(NodeId(2), Service::Bulk, SHARD, vec![Bytes::from_static(request)], LONG)
    };
    assert_eq!(ask(b"refuse").await, Err(CallError::Refused("not today".to_owned())));
    // An answer that cannot be sent, and a handler that panics, harm only their own call.
    assert_eq!(ask(b"too long").await, Err(CallError::Unanswered));
    assert_eq!(ask(b"panic").await, Err(CallError::Unanswered));
    assert_eq!(ask(b"and on").await.unwrap(), "and on");
}

#[tokio::test]
async fn a_request_one_below_at_and_above_the_bound() {
    let (one, _two) = pair().await;
    for (length, fits) in [
        (limits::PEER_CONTROL_BYTES_MAX - 1, true),
        (limits::PEER_CONTROL_BYTES_MAX, true),
        (limits::PEER_CONTROL_BYTES_MAX + 1, false),
    ] {
        let request = vec![Bytes::from(vec![1; length])];
        let answer = one.peers.call(NodeId(2), Service::Control, SHARD, request, LONG).await;
        match answer {
            Ok(answer) => assert!(fits && answer.len() == length),
            Err(CallError::Refused(_)) => assert!(!fits),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(echo(&one, 2, Service::Control).await.is_ok());
}

#[tokio::test]
async fn no_connection_is_unreachable_and_no_answer_unanswered() {
    let (free, address) = listener().await;
    drop(free);
    let alone = start(1, listener().await.0, &[(2, address.to_string())], None, pace());
    assert_eq!(echo(&alone, 2, Service::Control).await, Err(CallError::Unreachable));
    assert_eq!(echo(&alone, 9, Service::Control).await, Err(CallError::Unreachable));

    let (one, two) = pair().await;
    let hang = || vec![Bytes::from_static(b"hang")];
    let soon = Duration::from_millis(20);
    assert_eq!(one.peers.call(NodeId(2), Service::Bulk, SHARD, hang(), soon).await, Err(CallError::Unanswered));
    let waiting = one.peers.call(NodeId(2), Service::Bulk, SHARD, hang(), LONG);
    let stop = async {
        until("both calls hang", || two.handler.hanging() == 2).await;
        two.peers.shutdown().await;
    };
    let (answer, ()) = tokio::join!(waiting, stop);
    assert_eq!(answer, Err(CallError::Unanswered));
    assert_eq!(two.handler.hanging(), 0, "a node that is shut down serves nothing");
}

#[tokio::test]
async fn more_calls_than_allowed_are_refused_and_the_others_go_on() {
    let (one, two) = pair().await;
    let hang = |request: &'static [u8]| {
        let peers = std::sync::Arc::clone(&one.peers);
        async move { peers.call(NodeId(2), Service::Node, SHARD, vec![Bytes::from_static(request)], LONG).await }
    };
    let calls: Vec<_> = (0..limits::PEER_CALLS_MAX).map(|_| tokio::spawn(hang(b"hang"))).collect();
    until("all hang", || two.handler.hanging() == limits::PEER_CALLS_MAX).await;
    assert!(matches!(hang(b"one more").await, Err(CallError::Refused(_))));
    assert!(echo(&one, 2, Service::Control).await.is_ok());
    // Those who give up make room here, not yet there: their calls run on.
    for call in calls {
        call.abort();
        let _ = call.await;
    }
    assert!(matches!(hang(b"one more").await, Err(CallError::Refused(_))));
    assert_eq!(two.handler.hanging(), limits::PEER_CALLS_MAX);
}

#[tokio::test]
async fn a_call_that_was_only_queued_was_not_delivered() {
    // The other side reads nothing, so that what is queued behind a large request never leaves.
    let (port, address) = listener().await;
    let one = start(1, listener().await.0, &[(2, address.to_string())], None, pace());
    let (fake, others) = Fake::accept(&port, 2, Lane::Bulk).await;
    super::connected(&one, 2).await;
    let call = |length: usize| {
        let peers = std::sync::Arc::clone(&one.peers);
        let request = vec![Bytes::from(vec![0; length])];
        tokio::spawn(async move { peers.call(NodeId(2), Service::Bulk, SHARD, request, LONG).await })
    };
    let large = call(60 << 20);
    // Until some of it has left, and the rest is stuck.
    until("stuck", || one.peers.counters().sent_bytes > 100_000).await;
    let small = call(10);
    tokio::time::sleep(Duration::from_millis(30)).await;
    drop((fake, others, port));
    assert_eq!(large.await.unwrap(), Err(CallError::Unanswered));
    assert_eq!(small.await.unwrap(), Err(CallError::Unreachable));
}

#[tokio::test]
async fn answers_nobody_waits_for_are_dropped() {
    let (port, address) = listener().await;
    let one = start(1, listener().await.0, &[(2, address.to_string())], None, pace());
    let (mut fake, _others) = Fake::accept(&port, 2, Lane::Control).await;
    super::connected(&one, 2).await;
    let soon = Duration::from_millis(1);
    let late = one.peers.call(NodeId(2), Service::Control, SHARD, vec![Bytes::from_static(b"a")], soon).await;
    assert_eq!(late, Err(CallError::Unanswered));
    let first = fake.next().await.unwrap();
    assert_eq!((first.head.kind, first.head.shard, &first.body[..]), (Kind::Control, SHARD, &b"a"[..]));
    let reply = |session, body: &'static [u8]| {
        let head = crate::frame::Head::new(Kind::Reply, session);
        crate::frame::write::Outgoing::new(head, Bytes::from_static(body))
    };
    let answered = async {
        let second = fake.next().await.unwrap();
        for session in [first.head.session, 4_000_000_000, second.head.session, second.head.session] {
            fake.send(&reply(session, if session == second.head.session { b"yes" } else { b"no" })).await;
        }
    };
    let (answer, ()) = tokio::join!(echo(&one, 2, Service::Control), answered);
    assert_eq!(answer.unwrap(), "yes");
    assert!(one.peers.seen(NodeId(2)).unwrap().connected);
}
