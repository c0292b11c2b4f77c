//! Replication streams: order, end, and bounds that hold against a peer that ignores them.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pointsman_model::{NodeId, ShardId, limits};
use tokio::sync::mpsc;

use super::fake::Fake;
use super::{LONG, SHARD, TestNode, listener, pace, pair, start, until};
use crate::frame::write::Outgoing;
use crate::frame::{Head, Kind};
use crate::lane::Lane;

fn numbered(number: u64, length: usize) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(&number.to_le_bytes()), Bytes::from(vec![3; length])]
}

/// Sends requests until no more are taken, at least so many; how many they were.
async fn fill(requests: &mpsc::Sender<Vec<Bytes>>, request: impl Fn(u64) -> Vec<Bytes>, enough: u64) -> u64 {
    let mut sent = 0;
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < LONG, "{sent} of {enough} were taken");
        match tokio::time::timeout(Duration::from_millis(300), requests.send(request(sent))).await {
            Ok(taken) => {
                taken.unwrap();
                sent += 1;
            }
            Err(_) if sent >= enough => return sent,
            // The machine is busy.
            Err(_) => {}
        }
    }
}

fn streams(node: &TestNode) -> usize {
    node.handler.streams.load(Ordering::SeqCst)
}

#[tokio::test]
async fn answers_come_in_the_order_of_requests() {
    let (one, two) = pair().await;
    const REQUESTS: u64 = 3_000;
    let mut tasks = Vec::new();
    for shard in [1_u16, 2] {
        let (requests, mut answers) = one.peers.append_stream(NodeId(2), ShardId(shard)).await.unwrap();
        let send = async move {
            for number in 0..REQUESTS {
                requests.send(numbered(number, (number as usize * 37) % 9_000)).await.unwrap();
            }
        };
        tasks.push(tokio::spawn(async move {
            tokio::spawn(send);
            for number in 0..REQUESTS {
                let answer = answers.recv().await.unwrap();
                assert_eq!((&answer[..2], &answer[2..]), (&shard.to_le_bytes()[..], &number.to_le_bytes()[..]));
            }
            // Its sender is gone: so is the stream.
            assert_eq!(answers.recv().await, None);
        }));
    }
    for task in tasks {
        tokio::time::timeout(LONG, task).await.unwrap().unwrap();
    }
    until("both streams have ended", || streams(&two) == 0).await;
}

#[tokio::test]
async fn a_stream_ends_when_either_side_drops_it() {
    let (one, two) = pair().await;
    // The handler ends.
    let (requests, mut answers) = one.peers.append_stream(NodeId(2), SHARD).await.unwrap();
    requests.send(vec![Bytes::from_static(b"a")]).await.unwrap();
    assert!(answers.recv().await.is_some());
    requests.send(vec![Bytes::from_static(b"stop")]).await.unwrap();
    assert_eq!(answers.recv().await, None);
    requests.closed().await;
    // The reader of the answers ends.
    let (requests, answers) = one.peers.append_stream(NodeId(2), SHARD).await.unwrap();
    requests.send(vec![Bytes::from_static(b"a")]).await.unwrap();
    until("it is served", || streams(&two) == 1).await;
    drop(answers);
    requests.closed().await;
    until("it is no longer served", || streams(&two) == 0).await;
    // Without a request there is nothing at the other side, and nothing stays here.
    let (requests, mut answers) = one.peers.append_stream(NodeId(2), SHARD).await.unwrap();
    drop(requests);
    assert_eq!(answers.recv().await, None);
    // The connection ends.
    let (requests, mut answers) = one.peers.append_stream(NodeId(2), SHARD).await.unwrap();
    requests.send(vec![Bytes::from_static(b"wait")]).await.unwrap();
    until("it is served", || streams(&two) == 1).await;
    two.peers.shutdown().await;
    assert_eq!(answers.recv().await, None);
    requests.closed().await;
    assert_eq!(streams(&two), 0);
    until("unreachable", || !one.peers.seen(NodeId(2)).unwrap().connected).await;
    assert!(one.peers.append_stream(NodeId(2), SHARD).await.is_err());
}

#[tokio::test]
async fn requests_on_their_way_are_bounded_by_number_and_bytes() {
    let (one, two) = pair().await;
    let (requests, mut answers) = one.peers.append_stream(NodeId(2), SHARD).await.unwrap();
    requests.send(vec![Bytes::from_static(b"wait")]).await.unwrap();
    let piece = Bytes::from(vec![0; 1 << 20]);
    let window = (limits::PEER_STREAM_BYTES_MAX / piece.len()) as u64;
    let sent = fill(&requests, |_| vec![piece.clone()], window - 1).await;
    let bytes = sent as usize * piece.len();
    // The window, and what waits before it.
    assert!(bytes >= limits::PEER_STREAM_BYTES_MAX - piece.len(), "{bytes}");
    assert!(bytes <= limits::PEER_STREAM_BYTES_MAX + 9 * piece.len(), "{bytes}");
    // Another stream of the same connection is not held up.
    let (others, mut other_answers) = one.peers.append_stream(NodeId(2), ShardId(9)).await.unwrap();
    others.send(numbered(1, 10)).await.unwrap();
    assert!(other_answers.recv().await.is_some());
    two.handler.gate.notify_one();
    for _ in 0..=sent {
        answers.recv().await.unwrap();
    }
    // One longer than the window goes alone.
    let long = Bytes::from(vec![0; limits::PEER_STREAM_BYTES_MAX + 1]);
    requests.send(vec![long]).await.unwrap();
    answers.recv().await.unwrap();
}

#[tokio::test]
async fn answers_that_nobody_reads_hold_up_only_their_stream() {
    let (one, _two) = pair().await;
    let (requests, mut answers) = one.peers.append_stream(NodeId(2), SHARD).await.unwrap();
    let window = limits::PEER_STREAM_FRAMES_MAX as u64;
    let sent = fill(&requests, |number| numbered(number, 1), window).await;
    assert!((window..=window + 9).contains(&sent), "{sent}");
    let (others, mut other_answers) = one.peers.append_stream(NodeId(2), SHARD).await.unwrap();
    others.send(numbered(1, 10)).await.unwrap();
    assert!(other_answers.recv().await.is_some());
    drop(requests);
    for number in 0..sent {
        assert_eq!(answers.recv().await.unwrap()[2..], number.to_le_bytes());
    }
    assert_eq!(answers.recv().await, None);
}

/// A peer that sends these frames on the append lane is cut off; another connection of it is not.
async fn check_cut_off(frames: &[Outgoing]) {
    let (port, address) = listener().await;
    let one = start(1, port, &[(2, "127.0.0.1:1".to_owned())], None, pace());
    let mut append = Fake::welcome(address, Lane::Append, 2, 1).await;
    let mut control = Fake::welcome(address, Lane::Control, 2, 1).await;
    for frame in frames {
        append.send(frame).await;
    }
    while append.next().await.is_some() {}
    assert_eq!(one.peers.counters().garbage, 1);
    control.send(&Outgoing::new(Head::new(Kind::Control, 1), Bytes::from_static(b"echo"))).await;
    assert_eq!(control.next().await.unwrap().body, "echo");
    until("the stream has ended", || streams(&one) == 0).await;
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_of_a_stream_is_cut_off() {
    let request = |sequence, body: &'static [u8]| {
        Outgoing::new(Head::new(Kind::Append, 5).at(sequence), Bytes::from_static(body))
    };
    // Out of order.
    check_cut_off(&[request(0, b"a"), request(2, b"c")]).await;
    check_cut_off(&[request(0, b"a"), request(0, b"a")]).await;
    // After the last.
    check_cut_off(&[request(0, b"a"), Outgoing::bare(Head::new(Kind::AppendEnd, 5)), request(1, b"b")]).await;
    // Beyond the window. The handler waits and answers nothing; then the gate is never opened.
    let mut flood: Vec<_> = (0..limits::PEER_STREAM_FRAMES_MAX as u32 + 1).map(|n| request(n, b"x")).collect();
    flood[0] = request(0, b"stop");
    flood.truncate(2);
    let stopped = {
        let (port, address) = listener().await;
        let one = start(1, port, &[(2, "127.0.0.1:1".to_owned())], None, pace());
        let mut append = Fake::welcome(address, Lane::Append, 2, 1).await;
        append.send(&flood[0]).await;
        assert_eq!(append.next().await.unwrap().head.kind, Kind::AppendEnd);
        // What was sent before the end was known is not garbage.
        append.send(&flood[1]).await;
        append.send(&request(0, b"x")).await;
        assert_eq!(append.next().await.unwrap().head.kind, Kind::Reply);
        one.peers.counters().garbage
    };
    assert_eq!(stopped, 0);
}

#[tokio::test]
async fn a_peer_that_ignores_the_window_is_cut_off() {
    let (port, address) = listener().await;
    let one = start(1, port, &[(2, "127.0.0.1:1".to_owned())], None, pace());
    let mut append = Fake::welcome(address, Lane::Append, 2, 1).await;
    for sequence in 0..=limits::PEER_STREAM_FRAMES_MAX as u32 {
        assert_eq!(one.peers.counters().garbage, 0, "the window is full at {sequence}");
        let head = Head::new(Kind::Append, 5).at(sequence);
        append.send(&Outgoing::new(head, Bytes::from_static(b"wait"))).await;
    }
    assert!(append.next().await.is_none());
    assert_eq!(one.peers.counters().garbage, 1);
    one.handler.gate.notify_one();
}
