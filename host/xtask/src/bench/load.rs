//! Closed-loop load: so many connections, each with one call under way.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Options;
use super::connection::{Connection, find, request};
use super::figures::{Figure, Table};
use super::server::Server;

const BODY_BYTES: usize = 1 << 10;
/// Messages of a batch.
pub(crate) const BATCH_MESSAGES: usize = 100;
/// Connections of single publishes.
pub(crate) const SINGLE_CONNECTIONS: usize = 64;
/// Connections of batches.
pub(crate) const BATCH_CONNECTIONS: usize = 8;
/// Stands for a key in a request.
const KEY: &[u8; 16] = b"0000-00000000000";
/// What a body of configuration is.
pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");

/// All closed-loop figures, each against a fresh server.
pub(crate) async fn measure(root: &Path, scratch: &Path, options: &Options, table: &mut Table) -> Result<(), String> {
    let text = body_text();
    let single = single(&text);
    let plain = "single publish, 64 connections, no selector";
    let selected = "single publish, 64 connections, custom selector";
    let once = "single publish, 64 connections, idempotency keys";
    let (frames, batch) = (frames(&text), batch(&text));
    let cases = [
        (plain, single.clone(), SINGLE_CONNECTIONS, 1, false),
        (once, keyed(&single), SINGLE_CONNECTIONS, 1, false),
        (selected, single, SINGLE_CONNECTIONS, 1, true),
        ("batch publish 100 × 1 KiB, frames", frames.clone(), BATCH_CONNECTIONS, BATCH_MESSAGES, false),
        (
            "batch publish 100 × 1 KiB, frames, idempotency keys",
            keyed(&frames),
            BATCH_CONNECTIONS,
            BATCH_MESSAGES,
            false,
        ),
        ("batch publish 100 × 1 KiB, JSON", batch, BATCH_CONNECTIONS, BATCH_MESSAGES, false),
    ];
    for (name, request, connections, messages, selector) in cases {
        if !options.wants(name) {
            continue;
        }
        let mut runs = Vec::new();
        let mut memory = (0, 0);
        for run in 0..options.runs {
            let data = scratch.join(format!("load-{run}"));
            let server = Server::start(root, &data, options).await?;
            topic(&server, selector).await?;
            let nodes = std::slice::from_ref(&server.address);
            runs.push(closed_loop(nodes, &request, connections, messages, options.length()).await?);
            memory = server.memory_mib();
            drop(server);
            std::fs::remove_dir_all(&data).map_err(|e| e.to_string())?;
        }
        table.row(name, "messages", Figure::median(runs), &format!("RSS {} MiB, most {} MiB", memory.0, memory.1));
    }
    Ok(())
}

/// A topic of four queues named `bench`, with the demo's selector if asked for.
pub(crate) async fn topic(server: &Server, selector: bool) -> Result<(), String> {
    let mut connection = Connection::open(&server.address).await?;
    connection.must(&request("PUT", "/v1/tenants/default/topics/bench", &[JSON], b"{}")).await?;
    if selector {
        server.upload_example("route-by-repository")?;
        let binding = br#"{"slot":"selector","topic":"bench","plugin":"route-by-repository","version":"1.0.0","config":{"property":"repository"}}"#;
        connection.must(&request("PUT", "/v1/tenants/default/bindings/bench-selector", &[JSON], binding)).await?;
    }
    Ok(())
}

/// So many connections, dealt to the nodes, each with one call under way.
pub(crate) async fn closed_loop(
    nodes: &[String],
    request: &[u8],
    connections: usize,
    messages: usize,
    length: Duration,
) -> Result<Figure, String> {
    let start = Instant::now();
    let mut tasks = Vec::new();
    for of in 0..connections {
        let mut connection = Connection::open(&nodes[of % nodes.len()]).await?;
        let mut request = request.to_vec();
        let key = find(&request, KEY);
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while start.elapsed() < length {
                if let Some(at) = key {
                    let fresh = format!("{of:04}-{:011}", latencies.len());
                    request[at..at + KEY.len()].copy_from_slice(fresh.as_bytes());
                }
                let before = Instant::now();
                connection.must(&request).await?;
                latencies.push(before.elapsed());
            }
            Ok::<_, String>(latencies)
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.map_err(|e| e.to_string())??);
    }
    Ok(Figure::of(latencies, messages, start.elapsed()))
}

/// The same request with an idempotency key, which is another one in each call.
fn keyed(request: &[u8]) -> Vec<u8> {
    let line = request.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
    let header = [&b"Idempotency-Key: "[..], KEY, b"\r\n"].concat();
    [&request[..line], &header[..], &request[line..]].concat()
}

/// A body of 1 KiB.
pub(crate) fn body_text() -> String {
    "The quick brown fox jumps over the lazy dog. ".chars().cycle().take(BODY_BYTES).collect()
}

/// The publish of one message.
pub(crate) fn single(text: &str) -> Vec<u8> {
    let headers = [("Content-Type", "text/plain"), ("Pm-Tag", "push"), ("Pm-Prop-repository", "octo/hello")];
    request("POST", "/v1/tenants/default/topics/bench/messages", &headers, text.as_bytes())
}

/// The publish of a batch as frames.
pub(crate) fn frames(text: &str) -> Vec<u8> {
    let meta = br#"{"tag":"push","content_type":"text/plain"}"#;
    let mut body = Vec::new();
    for _ in 0..BATCH_MESSAGES {
        body.extend_from_slice(&((4 + meta.len() + text.len()) as u32).to_le_bytes());
        body.extend_from_slice(&(meta.len() as u32).to_le_bytes());
        body.extend_from_slice(meta);
        body.extend_from_slice(text.as_bytes());
    }
    publish("application/vnd.pointsman.frames", &body)
}

fn batch(text: &str) -> Vec<u8> {
    let message = format!(r#"{{"data":"{text}","tag":"push"}}"#);
    let body = format!(r#"{{"messages":[{}]}}"#, vec![message; BATCH_MESSAGES].join(","));
    publish("application/vnd.pointsman.batch+json", body.as_bytes())
}

fn publish(content_type: &str, body: &[u8]) -> Vec<u8> {
    let headers = [("Content-Type", content_type), ("Prefer", "return=minimal")];
    request("POST", "/v1/tenants/default/topics/bench/messages", &headers, body)
}
