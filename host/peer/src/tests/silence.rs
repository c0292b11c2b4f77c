//! Peers that are there and say nothing.

use std::time::Duration;

use bytes::Bytes;
use pointsman_model::{NodeId, limits};
use tokio::net::TcpStream;

use super::fake::Fake;
use super::{LONG, SHARD, listener, pace, start, until};
use crate::error::CallError;
use crate::frame::write::Outgoing;
use crate::frame::{Head, Kind};
use crate::handler::Service;
use crate::lane::Lane;
use crate::pace::Pace;

fn impatient() -> Pace {
    Pace { ping: Duration::from_millis(20), silence_ticks: 5, ..pace() }
}

#[tokio::test]
async fn a_peer_that_accepts_and_never_answers_holds_no_call() {
    let (port, address) = listener().await;
    let one = start(1, listener().await.0, &[(2, address.to_string())], None, impatient());
    // It says hello on every lane and nothing after it, like a process that was stopped.
    let (_bulk, _others) = Fake::accept(&port, 2, Lane::Bulk).await;
    super::connected(&one, 2).await;
    let call = |service| one.peers.call(NodeId(2), service, SHARD, vec![Bytes::from_static(b"hm")], LONG);
    let began = std::time::Instant::now();
    let answers = tokio::join!(call(Service::Bulk), call(Service::Control), call(Service::Node));
    assert!(matches!(answers, (Err(CallError::Unanswered), Err(CallError::Unanswered), Err(CallError::Unanswered))));
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    assert!(one.peers.counters().silent >= 2);
}

#[tokio::test]
async fn a_node_that_dialed_and_fell_silent_is_forgotten_and_one_that_pings_is_not() {
    let (port, address) = listener().await;
    let one = start(1, port, &[(2, "127.0.0.1:1".to_owned())], None, impatient());
    let mut silent = Fake::welcome(address, Lane::Append, 2, 1).await;
    let mut lively = Fake::welcome(address, Lane::Control, 2, 1).await;
    let pings = async {
        for sequence in 0.. {
            lively.send(&Outgoing::bare(Head::new(Kind::Ping, 0).at(sequence))).await;
            let pong = lively.next().await.unwrap();
            assert_eq!((pong.head.kind, pong.head.sequence), (Kind::Pong, sequence));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = pings => {}
        end = silent.next() => assert!(end.is_none()),
    }
    until("one is counted", || one.peers.counters().silent == 1).await;
    assert_eq!(one.peers.counters().connections, 1);
}

#[tokio::test]
async fn a_peer_that_never_says_hello_is_dialed_again() {
    let (port, address) = listener().await;
    let one = start(1, listener().await.0, &[(2, address.to_string())], None, pace());
    let mut held: Vec<TcpStream> = Vec::new();
    while held.len() < 7 {
        held.push(tokio::time::timeout(LONG, port.accept()).await.unwrap().unwrap().0);
    }
    assert!(!one.peers.seen(NodeId(2)).unwrap().connected);
}

#[tokio::test]
async fn a_peer_that_asks_and_reads_no_answer_is_closed() {
    let (port, address) = listener().await;
    let one = start(1, port, &[(2, "127.0.0.1:1".to_owned())], None, impatient());
    let bulk = Fake::welcome(address, Lane::Bulk, 2, 1).await;
    let Fake { reader, mut writer } = bulk;
    let request = Outgoing::new(Head::new(Kind::Bulk, 1), Bytes::from(vec![9; 1 << 20]));
    let bytes = super::fake::bytes(&request);
    let ask = async { while tokio::io::AsyncWriteExt::write_all(&mut writer, &bytes).await.is_ok() {} };
    tokio::time::timeout(LONG, ask).await.expect("it is closed");
    until("it is gone", || one.peers.counters().connections == 0).await;
    drop(reader);
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_but_not_each() {
    let (port, address) = listener().await;
    let one = start(1, port, &[(2, "127.0.0.1:1".to_owned())], None, pace());
    let mut control = Fake::welcome(address, Lane::Control, 2, 1).await;
    let count = 2 * limits::PEER_QUEUE_FRAMES_MAX as u32;
    let pings: Vec<u8> = (0..count)
        .flat_map(|sequence| super::fake::bytes(&Outgoing::bare(Head::new(Kind::Ping, 0).at(sequence))))
        .collect();
    tokio::io::AsyncWriteExt::write_all(&mut control.writer, &pings).await.unwrap();
    control.send(&Outgoing::new(Head::new(Kind::Control, 1), Bytes::from_static(b"still here"))).await;
    while control.next().await.unwrap().head.kind == Kind::Pong {}
    assert_eq!(one.peers.counters().garbage, 0);
}
