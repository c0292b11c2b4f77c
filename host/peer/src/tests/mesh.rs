//! Who gets in, and what the two sides know of each other.

use std::time::Duration;

use bytes::Bytes;
use pointsman_model::{NodeId, limits};

use super::fake::{Fake, greeting};
use super::{CLUSTER, connected, echo, listener, pace, pair, start, until};
use crate::config::PeersConfig;
use crate::error::Error;
use crate::frame::Kind;
use crate::handler::{Handler, Service};
use crate::hello::Greeting;
use crate::lane::Lane;
use crate::peers::Peers;

#[tokio::test]
async fn both_sides_know_what_the_other_said() {
    let (one, two) = pair().await;
    let mut changed = one.peers.changed();
    let seen = one.peers.seen(NodeId(2)).unwrap();
    assert_eq!(seen.hello.as_ref(), Some(&*two.handler.hello.lock()));
    assert_eq!(seen.refused, None);
    assert_eq!(one.peers.seen(NodeId(3)), None);
    until("all six", || one.peers.counters().connections == 6).await;
    until("a ping came back", || one.peers.seen(NodeId(2)).unwrap().round_trip.is_some()).await;
    // A new hello reaches the other without a new connection.
    let connections = one.peers.counters().connected;
    changed.mark_unchanged();
    two.handler.hello.lock().note = Bytes::from_static(b"formed");
    two.peers.announce();
    tokio::time::timeout(super::LONG, changed.changed()).await.unwrap().unwrap();
    assert_eq!(one.peers.seen(NodeId(2)).unwrap().hello.unwrap().note, "formed");
    assert_eq!(one.peers.counters().connected, connections);
}

#[tokio::test]
async fn a_node_that_comes_back_is_connected_again() {
    let ((first, first_at), (second, second_at)) = (listener().await, listener().await);
    let one = start(1, first, &[(2, second_at.to_string())], None, pace());
    let two = start(2, second, &[(1, first_at.to_string())], None, pace());
    connected(&one, 2).await;
    two.peers.shutdown().await;
    drop(two);
    until("disconnected", || !one.peers.seen(NodeId(2)).unwrap().connected).await;
    let second = tokio::net::TcpListener::bind(second_at).await.unwrap();
    let two = start(2, second, &[(1, first_at.to_string())], None, pace());
    connected(&one, 2).await;
    connected(&two, 1).await;
    assert!(echo(&one, 2, Service::Control).await.is_ok());
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_both_ways() {
    let ((first, first_at), (second, second_at)) = (listener().await, listener().await);
    let one = start(1, first, &[(2, second_at.to_string())], None, pace());
    let two = start(2, second, &[(1, first_at.to_string())], None, pace());
    connected(&one, 2).await;
    connected(&two, 1).await;
    // It turns out that they are not of one cluster.
    two.handler.hello.lock().cluster = Some([9; 16]);
    two.peers.announce();
    for (node, other) in [(&one, 2), (&two, 1)] {
        until("disconnected", || {
            !node.peers.seen(NodeId(other)).unwrap().connected
                || node.peers.seen(NodeId(other)).unwrap().refused.is_some()
        })
        .await;
        until("both know why", || {
            let seen = node.peers.seen(NodeId(other)).unwrap();
            seen.refused.is_some_and(|reason| reason.contains("another cluster"))
        })
        .await;
    }
    // One without a cluster is welcome, and so is the same one.
    for cluster in [None, Some(CLUSTER)] {
        two.handler.hello.lock().cluster = cluster;
        two.peers.announce();
        connected(&one, 2).await;
        connected(&two, 1).await;
        until("not refused", || one.peers.seen(NodeId(2)).unwrap().refused.is_none()).await;
    }
}

#[tokio::test]
async fn the_handler_may_refuse() {
    let (one, two) = pair().await;
    *one.handler.refuses.lock() = Some("not with you".to_owned());
    two.peers.announce();
    until("it is told", || {
        two.peers.seen(NodeId(1)).unwrap().refused.is_some_and(|reason| reason.contains("not with you"))
    })
    .await;
    *one.handler.refuses.lock() = None;
    until("again", || one.peers.seen(NodeId(2)).unwrap().connected && two.peers.seen(NodeId(1)).unwrap().connected)
        .await;
}

/// A hello that is refused, with these words.
async fn check_refused(greeting: Greeting, words: &str) {
    let (port, address) = listener().await;
    let one = start(1, port, &[(2, "127.0.0.1:1".to_owned())], None, pace());
    let mut fake = Fake::dial(address, &greeting).await;
    let answer = fake.next().await.unwrap();
    assert_eq!(answer.head.kind, Kind::Refusal);
    let reason = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(reason.contains(words), "{reason}");
    assert!(fake.next().await.is_none());
    assert_eq!((one.peers.counters().refused, one.peers.counters().garbage), (1, 0));
    assert!(one.peers.seen(NodeId(2)).unwrap().hello.is_none());
}

#[tokio::test]
async fn strangers_are_refused_in_words() {
    let good = || greeting(Lane::Control, 2, 1);
    check_refused(greeting(Lane::Control, 3, 1), "not among the --peers").await;
    check_refused(greeting(Lane::Control, 1, 1), "itself").await;
    check_refused(greeting(Lane::Control, 2, 3), "is node 1's, not node 3's").await;
    check_refused(Greeting { protocols: (0, 0), ..good() }, "speaks the peer protocols 0 to 0").await;
    check_refused(Greeting { protocols: (2, 9), ..good() }, "speaks the peer protocols 2 to 9").await;
    let mut other = good();
    other.hello.cluster = Some([1; 16]);
    check_refused(other, "another cluster").await;
}

#[tokio::test]
async fn a_node_that_dials_itself_or_another_than_it_thinks_says_so() {
    // Node 1's list says that node 2 is at node 1's own address.
    let (port, address) = listener().await;
    let one = start(1, port, &[(2, address.to_string())], None, pace());
    until("it knows", || one.peers.seen(NodeId(2)).unwrap().refused.is_some_and(|reason| reason.contains("itself")))
        .await;
}

#[tokio::test]
async fn without_tls_only_this_machine_is_talked_to() {
    let handler = super::TestHandler::new(NodeId(1));
    for listen in ["0.0.0.0:0", "[::]:0", "10.1.2.3:0"] {
        let listen = listen.parse().unwrap();
        let config = PeersConfig { node: NodeId(1), listen, peers: Default::default(), tls: None };
        let result = Peers::start(config, std::sync::Arc::clone(&handler) as _).await;
        assert!(matches!(result, Err(Error::PlainBeyondLoopback { .. })), "{listen}");
    }
    // Nor is anybody dialed elsewhere. The address is one of those for documentation.
    let one = start(1, listener().await.0, &[(2, "192.0.2.1:9".to_owned())], None, pace());
    until("it says why", || one.peers.seen(NodeId(2)).unwrap().refused.is_some_and(|reason| reason.contains("no TLS")))
        .await;
}

#[tokio::test]
async fn a_later_connection_of_a_node_replaces_the_earlier() {
    let (port, address) = listener().await;
    let one = start(1, port, &[(2, "127.0.0.1:1".to_owned())], None, pace());
    let mut first = Fake::welcome(address, Lane::Control, 2, 1).await;
    let mut other_lane = Fake::welcome(address, Lane::Bulk, 2, 1).await;
    let mut second = Fake::welcome(address, Lane::Control, 2, 1).await;
    assert!(first.next().await.is_none());
    for fake in [&mut second, &mut other_lane] {
        fake.send(&crate::frame::write::Outgoing::bare(crate::frame::Head::new(Kind::Ping, 0).at(77))).await;
        assert_eq!(fake.next().await.unwrap().head.sequence, 77);
    }
    drop((first, second, other_lane));
    until("none is left", || one.peers.counters().connections == 0).await;
}

#[tokio::test]
async fn a_note_that_is_too_long_is_left_out() {
    let handler = super::TestHandler::new(NodeId(1));
    for (length, kept) in [(limits::PEER_NOTE_BYTES_MAX, true), (limits::PEER_NOTE_BYTES_MAX + 1, false)] {
        handler.hello.lock().note = Bytes::from(vec![1; length]);
        let greeting = Greeting::ours(Lane::Bulk, NodeId(2), handler.hello());
        assert_eq!(greeting.hello.note.len(), if kept { length } else { 0 });
        assert_eq!(Greeting::decode(greeting.encode()), Ok(greeting));
    }
}

#[tokio::test]
async fn shutdown_lets_go_of_everything() {
    let (one, two) = pair().await;
    let address = one.peers.local_addr();
    let call = one.peers.call(NodeId(2), Service::Bulk, super::SHARD, vec![Bytes::from_static(b"hang")], super::LONG);
    let shutdown = async {
        until("it hangs", || two.handler.hanging() == 1).await;
        let began = std::time::Instant::now();
        one.peers.shutdown().await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    };
    let (answer, ()) = tokio::join!(call, shutdown);
    assert_eq!(answer, Err(crate::error::CallError::Unanswered));
    assert_eq!(one.peers.counters().connections, 0);
    // Its port is free again.
    tokio::net::TcpListener::bind(address).await.unwrap();
    assert!(echo(&one, 2, Service::Bulk).await.is_err());
}
