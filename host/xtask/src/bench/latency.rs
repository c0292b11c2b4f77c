//! Open-loop latency: 1,000 publishes a second, and the time until each is in the consumer's hands.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Options;
use super::connection::{Connection, find, request};
use super::figures::{Figure, Table};
use super::lease::settle;
use super::load::topic;
use super::server::Server;

const RATE_PER_S: u64 = 1_000;
const PUBLISHERS: u64 = 8;
const MARK: &[u8] = b"\"data\":\"#";

/// When each message was due.
type Sent = Mutex<Vec<Option<Instant>>>;

/// How a consumer gets its messages.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    LongPoll,
    Stream,
}

/// Long poll and SSE.
pub(crate) async fn measure(root: &Path, scratch: &Path, options: &Options, table: &mut Table) -> Result<(), String> {
    for (name, way) in
        [("publish→delivery at 1,000/s, long poll", Way::LongPoll), ("publish→delivery at 1,000/s, SSE", Way::Stream)]
    {
        if !options.wants(name) {
            continue;
        }
        let mut runs = Vec::new();
        let mut memory = (0, 0);
        for run in 0..options.runs {
            let data = scratch.join(format!("latency-{run}"));
            let server = Server::start(root, &data, options).await?;
            topic(&server, false).await?;
            runs.push(one(&server.address, way, options.length()).await?);
            memory = server.memory_mib();
            drop(server);
            std::fs::remove_dir_all(&data).map_err(|e| e.to_string())?;
        }
        table.row(name, "messages", Figure::median(runs), &format!("RSS {} MiB", memory.0));
    }
    Ok(())
}

async fn one(address: &str, way: Way, length: Duration) -> Result<Figure, String> {
    let total = RATE_PER_S * length.as_secs();
    let sent = Arc::new(Mutex::new(vec![None; total as usize]));
    let mut consumer = Connection::open(address).await?;
    let json = ("Content-Type", "application/json");
    let group = br#"{"topics":[{"topic":"bench"}],"start":"latest"}"#;
    consumer.must(&request("PUT", "/v1/tenants/default/groups/bench", &[json], group)).await?;
    let receive = tokio::spawn(receive(consumer, way, total, sent.clone()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let start = Instant::now() + Duration::from_millis(10);
    let mut publishers = Vec::new();
    for first in 0..PUBLISHERS {
        let (address, sent) = (address.to_owned(), sent.clone());
        publishers.push(tokio::task::spawn_blocking(move || publish(&address, first, total, start, &sent)));
    }
    for publisher in publishers {
        publisher.await.map_err(|e| e.to_string())??;
    }
    let latencies = tokio::time::timeout(Duration::from_secs(20), receive)
        .await
        .map_err(|_| "messages did not arrive")?
        .map_err(|e| e.to_string())??;
    Ok(Figure::of(latencies, 1, length))
}

/// Publishes every eighth message at its time. A thread of its own: the timers of a runtime are a millisecond coarse.
fn publish(address: &str, first: u64, total: u64, start: Instant, sent: &Sent) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let mut connection = runtime.block_on(Connection::open(address))?;
    for number in (first..total).step_by(PUBLISHERS as usize) {
        let due = start + Duration::from_micros(number * 1_000_000 / RATE_PER_S);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let body = format!("#{number}#{}", "x".repeat(1_000));
        let bytes = request(
            "POST",
            "/v1/tenants/default/topics/bench/messages",
            &[("Content-Type", "text/plain")],
            body.as_bytes(),
        );
        // The clock starts when the message was due, so a stalled server cannot hide behind a stalled client.
        sent.lock().map_err(|e| e.to_string())?[number as usize] = Some(due);
        runtime.block_on(connection.must(&bytes))?;
    }
    Ok(())
}

async fn receive(mut connection: Connection, way: Way, total: u64, sent: Arc<Sent>) -> Result<Vec<Duration>, String> {
    let mut latencies = Vec::with_capacity(total as usize);
    let lease = request(
        "POST",
        "/v1/tenants/default/groups/bench/leases",
        &[("Content-Type", "application/json")],
        br#"{"max_messages":100,"wait_ms":5000}"#,
    );
    if way == Way::Stream {
        let stream = request("GET", "/v1/tenants/default/topics/bench/stream", &[("Accept", "text/event-stream")], b"");
        connection.send(&stream).await?;
    }
    while latencies.len() < total as usize {
        let request = match way {
            Way::LongPoll => {
                let answer = connection.must(&lease).await?;
                let now = Instant::now();
                note(answer, now, &mut latencies, &sent)?;
                settle(answer, 0)
            }
            Way::Stream => {
                let bytes = connection.more().await?;
                let now = Instant::now();
                let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
                note(&bytes[..whole], now, &mut latencies, &sent)?;
                bytes.drain(..whole);
                None
            }
        };
        if let Some((request, _)) = request {
            connection.must(&request).await?;
        }
    }
    Ok(latencies)
}

/// Notes the latency of every numbered message in `bytes`.
fn note(bytes: &[u8], now: Instant, latencies: &mut Vec<Duration>, sent: &Sent) -> Result<(), String> {
    let sent = sent.lock().map_err(|e| e.to_string())?;
    let mut rest = bytes;
    while let Some(at) = find(rest, MARK) {
        rest = &rest[at + MARK.len()..];
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let number = std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse::<usize>().ok());
        if let Some(due) = number.and_then(|number| sent.get(number).copied().flatten()) {
            latencies.push(now.saturating_duration_since(due));
        }
    }
    Ok(())
}
