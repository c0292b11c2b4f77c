//! Nodes on loopback, and what can go wrong between them.

mod calls;
mod fake;
mod forwards;
mod garbage;
mod handler;
mod load;
mod mesh;
mod silence;
mod streams;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_model::{NodeId, ShardId};
use tokio::net::TcpListener;

use self::handler::TestHandler;
use crate::config::{PeersConfig, TlsFiles};
use crate::error::CallError;
use crate::handler::Service;
use crate::pace::Pace;
use crate::peers::Peers;

pub(in crate::tests) const CLUSTER: [u8; 16] = [7; 16];
pub(in crate::tests) const SHARD: ShardId = ShardId(3);
/// Longer than anything here should take, on a machine that is busy with something else.
pub(in crate::tests) const LONG: Duration = Duration::from_secs(20);

/// Fast, but for silence: a busy machine is silent too.
pub(in crate::tests) fn pace() -> Pace {
    Pace {
        hello: Duration::from_millis(500),
        ping: Duration::from_millis(200),
        silence_ticks: 50,
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(40),
        ..Pace::default()
    }
}

/// A node under test.
pub(in crate::tests) struct TestNode {
    pub(in crate::tests) peers: Arc<Peers>,
    handler: Arc<TestHandler>,
}

pub(in crate::tests) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Starts a node on a socket, with these others.
pub(in crate::tests) fn start(
    node: u32,
    listener: TcpListener,
    others: &[(u32, String)],
    tls: Option<TlsFiles>,
    pace: Pace,
) -> TestNode {
    let handler = TestHandler::new(NodeId(node));
    let peers = others.iter().map(|(node, address)| (NodeId(*node), address.clone())).collect();
    let config = PeersConfig { node: NodeId(node), listen: listener.local_addr().unwrap(), peers, tls };
    let peers = Peers::start_at(config, listener, Arc::clone(&handler) as Arc<_>, pace).unwrap();
    TestNode { peers, handler }
}

/// Two nodes, 1 and 2, connected.
pub(in crate::tests) async fn pair() -> (TestNode, TestNode) {
    let ((first, first_at), (second, second_at)) = (listener().await, listener().await);
    let one = start(1, first, &[(2, second_at.to_string())], None, pace());
    let two = start(2, second, &[(1, first_at.to_string())], None, pace());
    connected(&one, 2).await;
    connected(&two, 1).await;
    (one, two)
}

/// Waits until something holds.
pub(in crate::tests) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(LONG, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited too long until {what}"));
}

pub(in crate::tests) async fn connected(node: &TestNode, to: u32) {
    until("connected", || node.peers.seen(NodeId(to)).unwrap().connected).await;
}

/// One call whose answer is its request.
pub(in crate::tests) async fn echo(node: &TestNode, to: u32, service: Service) -> Result<Bytes, CallError> {
    let request = vec![Bytes::from_static(b"echo "), Bytes::from_static(b"me")];
    node.peers.call(NodeId(to), service, SHARD, request, LONG).await
}
