//! Three nodes under load whose connections are cut anywhere and whose processes come and go.
//!
//! Every node is reached through a relay that cuts. Whatever happens, every call ends, what is said not to have been delivered
//! was not, what is said to have been done was, and nobody takes a broken connection for garbage.

mod relay;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use parking_lot::Mutex;
use pointsman_model::{NodeId, ShardId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use relay::relay;

use super::{CLUSTER, LONG, listener, pace, until};
use crate::body::Body;
use crate::config::PeersConfig;
use crate::error::{CallError, ForwardError};
use crate::handler::{BoxFuture, ForwardAnswer, Forwarded, Handler, Hello, Service};
use crate::pace::Pace;
use crate::peers::Peers;

const NODES: u32 = 3;
const TIME: Duration = Duration::from_secs(4);

/// What handlers did, by the number of the request.
#[derive(Default)]
struct Done {
    begun: Mutex<HashSet<u64>>,
    whole: Mutex<HashSet<u64>>,
}

struct Recorder {
    node: NodeId,
    done: Arc<Done>,
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

impl Handler for Recorder {
    fn hello(&self) -> Hello {
        let note = Bytes::new();
        Hello { cluster: Some(CLUSTER), node: self.node, incarnation: 0, feature_level: 0, wall_ms: 0, note }
    }

    fn admit(&self, _: &Hello) -> Result<(), String> {
        Ok(())
    }

    fn call(
        &self,
        _: NodeId,
        _: Service,
        _: ShardId,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, String>> {
        self.done.begun.lock().insert(number(&request));
        Box::pin(async move { Ok(vec![request]) })
    }

    fn append_stream(
        &self,
        _: NodeId,
        _: ShardId,
        mut requests: mpsc::Receiver<Bytes>,
        answers: mpsc::Sender<Vec<Bytes>>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut next = 0;
            while let Some(request) = requests.recv().await {
                assert_eq!(number(&request), next, "in order, and none is missing");
                next += 1;
                if answers.send(vec![request.slice(..8)]).await.is_err() {
                    return;
                }
            }
        })
    }

    fn forward(&self, _: NodeId, request: Forwarded) -> BoxFuture<'static, ForwardAnswer> {
        let done = Arc::clone(&self.done);
        Box::pin(async move {
            let (id, mut body) = (number(&request.head), request.body);
            done.begun.lock().insert(id);
            let mut bytes = BytesMut::new();
            while let Some(piece) = body.next().await {
                match piece {
                    Ok(piece) => bytes.extend_from_slice(&piece),
                    Err(_) => return ForwardAnswer { head: request.head, body: Body::empty() },
                }
            }
            done.whole.lock().insert(id);
            ForwardAnswer { head: request.head, body: bytes.freeze().into() }
        })
    }
}

/// The nodes, and what every request was said to have come to.
struct World {
    nodes: Mutex<BTreeMap<u32, Arc<Peers>>>,
    done: Arc<Done>,
    next: AtomicU64,
    /// Requests that ended well, and those that did not.
    counts: [AtomicU64; 2],
}

impl World {
    fn node(&self, node: u32) -> Arc<Peers> {
        Arc::clone(&self.nodes.lock()[&node])
    }

    fn count(&self, well: bool) {
        self.counts[usize::from(!well)].fetch_add(1, Ordering::Relaxed);
    }

    async fn call(&self, random: &mut StdRng, from: u32, to: u32) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut request = vec![1; random.random_range(8..200_000)];
        request[..8].copy_from_slice(&id.to_le_bytes());
        let request = Bytes::from(request);
        let service = [Service::Bulk, Service::Control, Service::Node][random.random_range(0..3)];
        let call = self.node(from);
        let call = call.call(NodeId(to), service, ShardId(1), vec![request.clone()], LONG);
        match tokio::time::timeout(2 * LONG, call).await.expect("a call ends") {
            Ok(answer) => {
                assert!(answer == request);
                self.count(true);
            }
            Err(CallError::Unreachable) => {
                assert!(!self.done.begun.lock().contains(&id), "call {id} was delivered");
                self.count(false);
            }
            Err(CallError::Unanswered) => self.count(false),
            Err(error) => panic!("{error}"),
        }
    }

    async fn forward(&self, random: &mut StdRng, from: u32, to: u32) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let sent = Bytes::from(vec![2; random.random_range(0..700_000)]);
        let body = if random.random() {
            Body::from(sent.clone())
        } else {
            let pieces: Vec<_> =
                sent.chunks(random.random_range(1..100_000)).map(|piece| Ok(sent.slice_ref(piece))).collect();
            Body::new(stream::iter(pieces))
        };
        let head = Bytes::copy_from_slice(&id.to_le_bytes());
        let node = self.node(from);
        let forward = node.forward(NodeId(to), head.clone(), body);
        if random.random_ratio(1, 10) {
            // The client hangs up.
            let _ = tokio::time::timeout(Duration::from_micros(random.random_range(0..2_000)), forward).await;
            return;
        }
        match tokio::time::timeout(LONG, forward).await.expect("a forward ends") {
            Ok(mut answer) => {
                assert_eq!(answer.head, head);
                let mut length = 0;
                let mut broken = false;
                let read = async {
                    while let Some(piece) = answer.body.next().await {
                        match piece {
                            Ok(piece) => length += piece.len(),
                            Err(_) => broken = true,
                        }
                    }
                };
                tokio::time::timeout(LONG, read).await.expect("a body ends");
                assert!(self.done.whole.lock().contains(&id) && (broken || length == sent.len()));
                self.count(!broken);
            }
            Err(ForwardError::NotSent) => {
                assert!(!self.done.whole.lock().contains(&id), "request {id} was delivered whole");
                self.count(false);
            }
            Err(ForwardError::Lost) => self.count(false),
            Err(error) => panic!("{error}"),
        }
    }

    async fn stream(&self, random: &mut StdRng, from: u32, to: u32) {
        let node = self.node(from);
        let Ok((requests, mut answers)) = node.append_stream(NodeId(to), ShardId(1)).await else { return };
        let count: u64 = random.random_range(1..300);
        let body = Bytes::from(vec![3; random.random_range(0..60_000)]);
        let send = async move {
            for number in 0..count {
                if requests.send(vec![Bytes::copy_from_slice(&number.to_le_bytes()), body.clone()]).await.is_err() {
                    return;
                }
            }
        };
        let receive = async {
            let mut next = 0;
            while let Some(answer) = answers.recv().await {
                assert_eq!(number(&answer), next);
                next += 1;
            }
            next
        };
        let both = async { tokio::join!(send, receive).1 };
        let answered = tokio::time::timeout(LONG, both).await.expect("a stream ends");
        assert!(answered <= count);
        self.count(answered == count);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_ends_whatever_is_cut_or_restarted() {
    let seed: u64 = std::env::var("SEED").map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let done = Arc::new(Done::default());
    let calm = Arc::new(AtomicBool::new(false));
    let mut relays = JoinSet::new();
    let (mut ports, mut addresses, mut dialed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for node in 1..=NODES {
        let ((port, address), (relayed, relayed_at)) = (listener().await, listener().await);
        relays.spawn(relay(relayed, address, random.random(), Arc::clone(&calm)));
        ports.insert(node, port);
        addresses.insert(node, address);
        dialed.insert(node, relayed_at);
    }
    let start = |node: u32, port: TcpListener| {
        let peers = dialed.iter().filter(|(other, _)| **other != node);
        let peers = peers.map(|(other, address)| (NodeId(*other), address.to_string())).collect();
        let config = PeersConfig { node: NodeId(node), listen: addresses[&node], peers, tls: None };
        let handler = Recorder { node: NodeId(node), done: Arc::clone(&done) };
        Peers::start_at(config, port, Arc::new(handler), Pace { hello: LONG, ..pace() }).unwrap()
    };
    let nodes = ports.into_iter().map(|(node, port)| (node, start(node, port))).collect();
    let world = Arc::new(World {
        nodes: Mutex::new(nodes),
        done: Arc::clone(&done),
        next: AtomicU64::new(0),
        counts: Default::default(),
    });

    let mut load = JoinSet::new();
    let ends = tokio::time::Instant::now() + TIME;
    for task in 0..12 {
        let (world, mut random) = (Arc::clone(&world), StdRng::seed_from_u64(seed ^ (task + 1)));
        load.spawn(async move {
            while tokio::time::Instant::now() < ends {
                let from = random.random_range(1..=NODES);
                let to = (from + random.random_range(0..NODES - 1)) % NODES + 1;
                match random.random_range(0..3) {
                    0 => world.call(&mut random, from, to).await,
                    1 => world.forward(&mut random, from, to).await,
                    _ => world.stream(&mut random, from, to).await,
                }
                tokio::time::sleep(Duration::from_micros(random.random_range(0..3_000))).await;
            }
        });
    }
    let mut garbage = 0;
    while tokio::time::Instant::now() < ends {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..400))).await;
        let node = random.random_range(1..=NODES);
        let old = world.node(node);
        tokio::time::timeout(LONG, old.shutdown()).await.expect("a shutdown ends");
        garbage += old.counters().garbage;
        assert_eq!(old.counters().connections, 0);
        let port = TcpListener::bind(addresses[&node]).await.unwrap();
        let new = start(node, port);
        world.nodes.lock().insert(node, new);
    }
    calm.store(true, Ordering::Relaxed);
    while let Some(outcome) = load.join_next().await {
        outcome.unwrap();
    }
    let nodes = world.nodes.lock().clone();
    for (node, peers) in &nodes {
        for other in (1..=NODES).filter(|other| other != node) {
            until("all are connected again", || peers.seen(NodeId(other)).unwrap().connected).await;
        }
        garbage += peers.counters().garbage;
    }
    assert_eq!(garbage, 0, "a broken connection is not garbage");
    let [well, not] = &world.counts;
    let (well, not) = (well.load(Ordering::Relaxed), not.load(Ordering::Relaxed));
    println!("{well} ended well, {not} did not");
    assert!(well > 50 && not > 5, "a test of load and of faults: {well} and {not}");
    for peers in nodes.values() {
        peers.shutdown().await;
    }
}
