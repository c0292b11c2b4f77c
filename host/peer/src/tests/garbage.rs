//! What is not a frame closes its own connection and touches no other.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fake::{Fake, bytes, greeting};
use super::{LONG, SHARD, TestNode, echo, pair, until};
use crate::frame::write::Outgoing;
use crate::frame::{Head, Kind};
use crate::handler::Service;
use crate::lane::Lane;
use pointsman_model::{NodeId, limits};

/// Sends these bytes to a node and waits until it hangs up. Meanwhile its real peer is served.
async fn check_hung_up(node: &TestNode, other: &TestNode, garbage: &[u8], what: &str) {
    let address = node.peers.local_addr();
    let before = node.peers.counters().garbage;
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may hang up before it has read everything.
    let _ = stream.write_all(garbage).await;
    assert!(echo(other, 1, Service::Control).await.is_ok(), "{what}");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "{what}: still open");
    assert_eq!(answer, b"", "{what}: garbage is not answered");
    assert!(node.peers.counters().garbage > before, "{what}: not counted");
}

fn hello_bytes() -> Vec<u8> {
    bytes(&Outgoing::new(Head::new(Kind::Hello, 0), greeting(Lane::Control, 2, 1).encode()))
}

#[tokio::test]
async fn garbage_closes_its_connection_and_no_other() {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (one, two) = pair().await;
    for round in 0..20 {
        let garbage: Vec<u8> = (0..random.random_range(24..5_000)).map(|_| random.random()).collect();
        check_hung_up(&one, &two, &garbage, &format!("random bytes, round {round}")).await;
    }
    check_hung_up(&one, &two, b"GET / HTTP/1.1\r\nHost: pointsman\r\n\r\n", "an HTTP request").await;
    check_hung_up(&one, &two, &[0xff; 24], "a huge length").await;
    let mut long = hello_bytes();
    long[0..4].copy_from_slice(&(limits::PEER_HELLO_BYTES_MAX as u32 + 1).to_le_bytes());
    check_hung_up(&one, &two, &long, "a hello one byte too long").await;
    let hello = hello_bytes();
    check_hung_up(&one, &two, &hello[..hello.len() - 1], "half a hello and then nothing").await;
    let call = bytes(&Outgoing::new(Head::new(Kind::Control, 0), Bytes::from_static(b"echo")));
    check_hung_up(&one, &two, &call, "a call before the hello").await;
    let half = Outgoing::new(Head::new(Kind::Hello, 0), greeting(Lane::Control, 2, 1).encode().slice(..20));
    check_hung_up(&one, &two, &bytes(&half), "a hello that is cut off, with a checksum").await;
    let long = Outgoing::new(Head::new(Kind::Hello, 0), Bytes::from(vec![0; limits::PEER_HELLO_BYTES_MAX]));
    check_hung_up(&one, &two, &bytes(&long), "zeros with a checksum").await;
    // None of it was asked of the handler.
    assert!(one.handler.asked.lock().iter().all(|(from, ..)| *from == NodeId(2)));
    assert!(one.peers.seen(NodeId(2)).unwrap().connected && two.peers.seen(NodeId(1)).unwrap().connected);
}

#[tokio::test]
async fn every_flipped_bit_of_a_hello_is_refused() {
    let (one, two) = pair().await;
    let hello = hello_bytes();
    let mut tasks = Vec::new();
    for bit in 0..hello.len() * 8 {
        let mut flipped = hello.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let address = one.peers.local_addr();
        tasks.push(async move { (bit, hung_up(address, &flipped).await) });
    }
    let outcomes = futures_util::StreamExt::buffer_unordered(futures_util::stream::iter(tasks), 16);
    let outcomes: Vec<_> = futures_util::StreamExt::collect(outcomes).await;
    assert!(outcomes.iter().all(|(_, hung_up)| *hung_up), "{outcomes:?}");
    assert!(echo(&two, 1, Service::Control).await.is_ok());
}

async fn hung_up(address: SocketAddr, garbage: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(garbage).await;
    // A flipped length may wait for more: the end says that no more comes.
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer.is_empty()
}

#[tokio::test]
async fn a_slow_loris_runs_out_of_time_and_many_do_not_keep_nodes_out() {
    let (one, two) = pair().await;
    let address = one.peers.local_addr();
    let mut slow = TcpStream::connect(address).await.unwrap();
    let began = std::time::Instant::now();
    for byte in hello_bytes().into_iter().cycle() {
        if slow.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(began.elapsed() < LONG, "it may say hello for ever");
    }
    // More who say nothing than are let in: the oldest go, and a node is welcome at once.
    let mut silent = Vec::new();
    for _ in 0..limits::PEER_STRANGERS_MAX + 1 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(silent[0].read(&mut [0]).await.unwrap(), 0);
    assert!(echo(&two, 1, Service::Control).await.is_ok());
    two.peers.shutdown().await;
    Fake::welcome(address, Lane::Control, 2, 1).await;
}

#[tokio::test]
async fn garbage_from_a_node_that_said_hello_closes_that_connection() {
    let (one, two) = pair().await;
    two.peers.shutdown().await;
    let address = one.peers.local_addr();
    let flip = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] ^= 1;
        bytes
    };
    let call = bytes(&Outgoing::new(Head::new(Kind::Control, 1).of_shard(SHARD), Bytes::from_static(b"echo")));
    let ping = |flag| bytes(&Outgoing::bare(Head::new(Kind::Ping, 0).flagged(flag)));
    let mut reserved = ping(0);
    reserved[14] = 1;
    for (garbage, what) in [
        (flip(call.clone(), 30 - 4), "a flipped bit of a body"),
        (flip(call.clone(), 12), "a flipped bit of a shard"),
        (vec![0xff; 100], "no frame"),
        (ping(1 << 9), "an unknown flag"),
        (reserved, "a reserved field"),
        (bytes(&Outgoing::bare(Head::new(Kind::Reply, 0))), "an answer on the wrong side"),
        (bytes(&Outgoing::bare(Head::new(Kind::Forward, 0))), "a forward on the control connection"),
        (bytes(&Outgoing::new(Head::new(Kind::Hello, 0), greeting(Lane::Control, 3, 1).encode())), "another's hello"),
        (bytes(&Outgoing::new(Head::new(Kind::Hello, 0), Bytes::from_static(b"hm"))), "no hello"),
    ] {
        let mut control = Fake::welcome(address, Lane::Control, 2, 1).await;
        let mut bulk = Fake::welcome(address, Lane::Bulk, 2, 1).await;
        let before = one.peers.counters().garbage;
        control.writer.write_all(&garbage).await.unwrap();
        assert!(control.next().await.is_none(), "{what}");
        until(what, || one.peers.counters().garbage == before + 1).await;
        bulk.send(&Outgoing::new(Head::new(Kind::Bulk, 1), Bytes::from_static(b"still here"))).await;
        assert_eq!(bulk.next().await.unwrap().body, "still here", "{what}");
    }
}
