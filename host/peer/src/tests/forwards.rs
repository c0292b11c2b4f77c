//! Forwarded requests: bodies both ways, flow control, cancelling, and what a broken connection means.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use pointsman_model::{NodeId, limits};
use tokio::sync::mpsc;

use super::fake::Fake;
use super::handler::endless;
use super::{TestNode, connected, echo, listener, pace, pair, start, until};
use crate::body::{Body, BodyError};
use crate::error::ForwardError;
use crate::frame::write::Outgoing;
use crate::frame::{END, Head, Kind};
use crate::handler::{ForwardAnswer, Service};
use crate::lane::Lane;

async fn forward(node: &TestNode, head: &'static [u8], body: Body) -> Result<ForwardAnswer, ForwardError> {
    node.peers.forward(NodeId(2), Bytes::from_static(head), body).await
}

async fn whole(mut body: Body) -> Result<Bytes, BodyError> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes.freeze())
}

/// A body that is written to.
fn written() -> (mpsc::Sender<Result<Bytes, BodyError>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, Body::new(stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })))
}

#[tokio::test]
async fn bodies_of_every_size_come_back_as_they_were() {
    let (one, _two) = pair().await;
    let chunk = limits::PEER_CHUNK_BYTES_MAX;
    for length in [0, 1, chunk - 1, chunk, chunk + 1, limits::PEER_CREDIT_BYTES + 1, 3_000_000] {
        let sent: Bytes = (0..length).map(|at| (at % 251) as u8).collect();
        let answer = forward(&one, b"echo", Body::from(sent.clone())).await.unwrap();
        assert_eq!(answer.head, "done");
        assert!(whole(answer.body).await.unwrap() == sent, "{length}");
        // In pieces, some of them empty.
        let pieces: Vec<_> = sent.chunks(777).flat_map(|piece| [Ok(sent.slice_ref(piece)), Ok(Bytes::new())]).collect();
        let answer = forward(&one, b"echo", Body::new(stream::iter(pieces))).await.unwrap();
        assert!(whole(answer.body).await.unwrap() == sent, "{length} in pieces");
    }
    let answer = forward(&one, b"nothing", Body::from(Bytes::from(vec![1; 1 << 20]))).await.unwrap();
    assert_eq!(whole(answer.body).await.unwrap(), "");
}

#[tokio::test]
async fn a_head_one_below_at_and_above_the_bound() {
    let (one, two) = pair().await;
    for length in [limits::PEER_HEAD_BYTES_MAX - 1, limits::PEER_HEAD_BYTES_MAX, limits::PEER_HEAD_BYTES_MAX + 1] {
        let head = Bytes::from(vec![b'x'; length]);
        let result = one.peers.forward(NodeId(2), head, Body::empty()).await;
        // The handler of these tests panics at a head it does not know.
        let fits = length <= limits::PEER_HEAD_BYTES_MAX;
        assert_eq!(matches!(result, Err(ForwardError::Lost)), fits, "{result:?}");
        assert_eq!(matches!(result, Err(ForwardError::Refused(_))), !fits, "{result:?}");
    }
    assert!(echo(&one, 2, Service::Bulk).await.is_ok());
    drop(two);
}

#[tokio::test]
async fn a_reader_that_is_slow_slows_the_sender_and_no_one_else() {
    let (one, two) = pair().await;
    // The answer: nobody reads it, so that little more than the credit is ever made.
    let mut answer = forward(&one, b"endless", Body::empty()).await.unwrap();
    let mut before = usize::MAX;
    until("it stands still", || std::mem::replace(&mut before, two.handler.moved()) == two.handler.moved()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(two.handler.moved() <= limits::PEER_CREDIT_BYTES + 20_000, "{}", two.handler.moved());
    for _ in 0..100 {
        answer.body.next().await.unwrap().unwrap();
    }
    until("it moves on", || two.handler.moved() > limits::PEER_CREDIT_BYTES + 500_000).await;
    // The request: the handler does not read.
    let moved = Arc::new(AtomicUsize::new(0));
    let request = forward(&one, b"count", endless(Arc::clone(&moved), 10_000));
    let watch = async {
        until("credit is spent", || moved.load(Ordering::SeqCst) >= limits::PEER_CREDIT_BYTES).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(moved.load(Ordering::SeqCst) <= limits::PEER_CREDIT_BYTES + 20_000);
        // Everything else on the same connection goes on.
        assert!(echo(&one, 2, Service::Bulk).await.is_ok());
        let other = forward(&one, b"echo", Body::from(Bytes::from(vec![5; 1_000_000]))).await.unwrap();
        assert_eq!(whole(other.body).await.unwrap().len(), 1_000_000);
    };
    tokio::select! {
        answer = request => panic!("{answer:?}"),
        () = watch => {}
    }
}

#[tokio::test]
async fn tiny_pieces_are_bounded_too() {
    let (one, _two) = pair().await;
    let moved = Arc::new(AtomicUsize::new(0));
    let request = forward(&one, b"count", endless(Arc::clone(&moved), 1));
    let pieces_max = limits::PEER_CREDIT_BYTES / limits::PEER_CHUNK_COST_BYTES_MIN;
    let watch = async {
        until("credit is spent", || moved.load(Ordering::SeqCst) >= pieces_max).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(moved.load(Ordering::SeqCst) <= pieces_max + 1);
    };
    tokio::select! {
        answer = request => panic!("{answer:?}"),
        () = watch => {}
    }
}

#[tokio::test]
async fn whoever_is_dropped_here_is_dropped_there() {
    let (one, two) = pair().await;
    // The future.
    let waiting = forward(&one, b"hang", Body::empty());
    tokio::select! {
        answer = waiting => panic!("{answer:?}"),
        () = until("it hangs", || two.handler.hanging() == 1) => {}
    }
    until("it is dropped", || two.handler.hanging() == 0).await;
    // The answer's body.
    let mut answer = forward(&one, b"endless", Body::empty()).await.unwrap();
    answer.body.next().await.unwrap().unwrap();
    assert_eq!(two.handler.hanging(), 1);
    drop(answer);
    until("it is dropped", || two.handler.hanging() == 0).await;
    // The connection.
    let mut answer = forward(&one, b"endless", Body::empty()).await.unwrap();
    let waiting = forward(&one, b"hang", Body::empty());
    let shutdown = async {
        until("both hang", || two.handler.hanging() == 2).await;
        one.peers.shutdown().await;
        until("both are dropped", || two.handler.hanging() == 0).await;
    };
    let (lost, ()) = tokio::join!(waiting, shutdown);
    assert_eq!(lost.unwrap_err(), ForwardError::Lost);
    let end = answer.body.by_ref().filter(|piece| std::future::ready(piece.is_err())).next().await;
    assert_eq!(end, Some(Err(BodyError)));
    assert_eq!(answer.body.next().await, None);
}

#[tokio::test]
async fn a_request_whose_body_breaks_off_is_not_sent() {
    let (one, two) = pair().await;
    let (sender, body) = written();
    let request = forward(&one, b"count", body);
    let breaks = async {
        sender.send(Ok(Bytes::from_static(b"half"))).await.unwrap();
        sender.send(Err(BodyError)).await.unwrap();
    };
    let (answer, ()) = tokio::join!(request, breaks);
    assert_eq!(answer.unwrap_err(), ForwardError::NotSent);
    assert!(echo(&one, 2, Service::Bulk).await.is_ok());
    drop(two);
}

#[tokio::test]
async fn an_answer_may_begin_before_the_request_ends() {
    let (one, _two) = pair().await;
    let (sender, body) = written();
    let mut answer = forward(&one, b"echo", body).await.unwrap();
    for word in ["to", "and", "fro"] {
        sender.send(Ok(Bytes::from_static(word.as_bytes()))).await.unwrap();
        assert_eq!(answer.body.next().await.unwrap().unwrap(), word);
    }
    drop(sender);
    assert_eq!(answer.body.next().await, None);
}

#[tokio::test]
async fn a_broken_connection_is_not_sent_before_the_last_chunk_and_lost_after_it() {
    // Nobody there.
    let (free, address) = listener().await;
    drop(free);
    let alone = start(1, listener().await.0, &[(2, address.to_string())], None, pace());
    assert_eq!(forward(&alone, b"echo", Body::empty()).await.unwrap_err(), ForwardError::NotSent);

    for last in [false, true] {
        let (port, address) = listener().await;
        let one = start(1, listener().await.0, &[(2, address.to_string())], None, pace());
        let (mut bulk, others) = Fake::accept(&port, 2, Lane::Bulk).await;
        connected(&one, 2).await;
        let (sender, body) = written();
        let mut sender = Some(sender);
        let request = forward(&one, b"echo", body);
        let server = async {
            assert_eq!(bulk.next().await.unwrap().head.kind, Kind::Forward);
            sender.as_ref().unwrap().send(Ok(Bytes::from_static(b"half"))).await.unwrap();
            assert_eq!(bulk.next().await.unwrap().body, "half");
            if last {
                drop(sender.take());
                assert!(bulk.next().await.unwrap().head.has(END));
            }
            drop((bulk, others, port));
        };
        let (answer, ()) = tokio::join!(request, server);
        assert_eq!(answer.unwrap_err(), if last { ForwardError::Lost } else { ForwardError::NotSent });
    }
}

#[tokio::test]
async fn a_handler_that_panics_loses_only_its_own_request() {
    let (one, _two) = pair().await;
    assert_eq!(forward(&one, b"panic", Body::empty()).await.unwrap_err(), ForwardError::Lost);
    assert_eq!(
        whole(forward(&one, b"echo", Body::from(Bytes::from_static(b"x"))).await.unwrap().body).await.unwrap(),
        "x"
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_can_be_told_from_one_that_ends() {
    let (port, address) = listener().await;
    let one = start(1, listener().await.0, &[(2, address.to_string())], None, pace());
    let (mut bulk, _others) = Fake::accept(&port, 2, Lane::Bulk).await;
    connected(&one, 2).await;
    for cancelled in [false, true] {
        let server = async {
            let session = bulk.next().await.unwrap().head.session;
            bulk.send(&Outgoing::new(Head::new(Kind::ForwardReply, session), Bytes::from_static(b"head"))).await;
            bulk.send(&Outgoing::new(Head::new(Kind::ForwardChunk, session), Bytes::from_static(b"a piece"))).await;
            let end = if cancelled {
                Head::new(Kind::Cancel, session)
            } else {
                Head::new(Kind::ForwardChunk, session).flagged(END)
            };
            bulk.send(&Outgoing::bare(end)).await;
        };
        let (answer, ()) = tokio::join!(forward(&one, b"x", Body::empty()), server);
        let expected = if cancelled { Err(BodyError) } else { Ok(Bytes::from_static(b"a piece")) };
        assert_eq!(whole(answer.unwrap().body).await, expected);
    }
}

/// A node that serves us and sends these frames in answer to a request is cut off.
async fn check_cut_off(answers: impl Fn(u32) -> Vec<Outgoing>) {
    let (port, address) = listener().await;
    let one = start(1, listener().await.0, &[(2, address.to_string())], None, pace());
    let (mut bulk, _others) = Fake::accept(&port, 2, Lane::Bulk).await;
    connected(&one, 2).await;
    let server = async {
        let session = bulk.next().await.unwrap().head.session;
        for frame in answers(session) {
            bulk.send(&frame).await;
        }
        while bulk.next().await.is_some() {}
    };
    // Kept, and not read.
    let (_answer, ()) = tokio::join!(forward(&one, b"x", Body::empty()), server);
    until("it is counted", || one.peers.counters().garbage == 1).await;
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_of_a_session_is_cut_off() {
    let reply = |session| Outgoing::new(Head::new(Kind::ForwardReply, session), Bytes::from_static(b"head"));
    let chunk = |session, length| Outgoing::new(Head::new(Kind::ForwardChunk, session), Bytes::from(vec![0; length]));
    let credit =
        |session, bytes: &'static [u8]| Outgoing::new(Head::new(Kind::Credit, session), Bytes::from_static(bytes));
    check_cut_off(|session| vec![chunk(session, 1)]).await;
    check_cut_off(|session| vec![reply(session), reply(session)]).await;
    check_cut_off(|session| vec![credit(session, &[1, 0, 0, 0])]).await;
    check_cut_off(|session| vec![credit(session, &[])]).await;
    check_cut_off(|session| vec![reply(session), chunk(session, limits::PEER_CREDIT_BYTES), chunk(session, 1)]).await;
    let pieces = limits::PEER_CREDIT_BYTES / limits::PEER_CHUNK_COST_BYTES_MIN + 1;
    check_cut_off(|session| std::iter::once(reply(session)).chain((0..pieces).map(|_| chunk(session, 1))).collect())
        .await;
}
