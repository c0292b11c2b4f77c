//! How fast two nodes in one process talk over loopback: `cargo run -p pointsman-peer --example throughput`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pointsman_model::{NodeId, ShardId};
use pointsman_peer::{Body, BoxFuture, ForwardAnswer, Forwarded, Handler, Hello, Peers, PeersConfig, Service};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const TIME: Duration = Duration::from_secs(2);

struct Mirror(NodeId);

impl Handler for Mirror {
    fn hello(&self) -> Hello {
        let note = Bytes::new();
        Hello { cluster: None, node: self.0, incarnation: 0, feature_level: 0, wall_ms: 0, note }
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
            while let Some(request) = requests.recv().await {
                let length = (request.len() as u64).to_le_bytes();
                if answers.send(vec![Bytes::copy_from_slice(&length)]).await.is_err() {
                    return;
                }
            }
        })
    }

    fn forward(&self, _: NodeId, request: Forwarded) -> BoxFuture<'static, ForwardAnswer> {
        Box::pin(async move { ForwardAnswer { head: request.head, body: request.body } })
    }
}

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (first, second) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    let (first_at, second_at) = (first.local_addr()?, second.local_addr()?);
    let config = |node, listen, other, at: std::net::SocketAddr| {
        let peers = BTreeMap::from([(other, at.to_string())]);
        PeersConfig { node, listen, peers, tls: None }
    };
    let one = Peers::start_on(config(ONE, first_at, TWO, second_at), first, Arc::new(Mirror(ONE))).await?;
    let two = Peers::start_on(config(TWO, second_at, ONE, first_at), second, Arc::new(Mirror(TWO))).await?;
    let mut changed = one.changed();
    while !one.seen(TWO).is_some_and(|seen| seen.connected) {
        changed.changed().await?;
    }
    for (length, pieces) in [(4 << 10, 1), (16 << 10, 1), (64 << 10, 1), (64 << 10, 64), (1 << 20, 1)] {
        append(&one, length, pieces).await?;
    }
    for length in [16, 64 << 10, 1 << 20] {
        call(&one, length).await?;
    }
    for length in [100, 16 << 10, 1 << 20] {
        forward(&one, length).await?;
    }
    one.shutdown().await;
    two.shutdown().await;
    Ok(())
}

async fn append(peers: &Peers, length: usize, pieces: usize) -> Result<(), Failure> {
    let (requests, mut answers) = peers.append_stream(TWO, ShardId(1)).await?;
    let piece = Bytes::from(vec![7; length / pieces]);
    let (began, cpu) = (Instant::now(), cpu_ms());
    let sender = tokio::spawn(async move {
        while began.elapsed() < TIME && requests.send(vec![piece.clone(); pieces]).await.is_ok() {}
    });
    let mut frames = 0_u64;
    while answers.recv().await.is_some() {
        frames += 1;
    }
    sender.await?;
    let seconds = began.elapsed().as_secs_f64();
    let megabytes = frames as f64 * length as f64 / 1e6 / seconds;
    let (user, system) = (cpu_ms().0 - cpu.0, cpu_ms().1 - cpu.1);
    let of = |ms: f64| ms * 1e9 / (frames as f64 * length as f64);
    println!(
        "append  {length:>8} bytes in {pieces:>2}: {megabytes:>5.0} MB/s, CPU of both ends {:>6.0} + {:>6.0} µs/MB",
        of(user),
        of(system)
    );
    Ok(())
}

/// Milliseconds in user mode and in the kernel so far; zeros where there is no `/proc`.
fn cpu_ms() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: Vec<f64> = stat.split_whitespace().skip(13).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
    ticks.first().zip(ticks.get(1)).map_or((0.0, 0.0), |(user, system)| (user * 10.0, system * 10.0))
}

async fn call(peers: &Peers, length: usize) -> Result<(), Failure> {
    let request = Bytes::from(vec![7; length]);
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < TIME {
        let asked = Instant::now();
        peers.call(TWO, Service::Bulk, ShardId(1), vec![request.clone()], TIME).await?;
        times.push(asked.elapsed());
    }
    report("call", length, times);
    Ok(())
}

async fn forward(peers: &Peers, length: usize) -> Result<(), Failure> {
    let request = Bytes::from(vec![7; length]);
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < TIME {
        let asked = Instant::now();
        let mut answer = peers.forward(TWO, Bytes::from_static(b"head"), Body::from(request.clone())).await?;
        while let Some(piece) = answer.body.next().await {
            piece?;
        }
        times.push(asked.elapsed());
    }
    report("forward", length, times);
    Ok(())
}

fn report(what: &str, length: usize, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100].as_micros();
    println!("{what:<7} {length:>8} bytes: {:>6} µs, 99 in 100 within {:>6} µs", at(50), at(99));
}
