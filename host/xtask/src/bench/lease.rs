//! Leases and their settles, with and without a retry policy bound.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Options;
use super::connection::{Connection, find, request};
use super::figures::{Figure, Table};
use super::load::{BATCH_MESSAGES, JSON, body_text, frames, topic};
use super::server::Server;

const CONNECTIONS: usize = 4;

/// One kind of consumer.
struct Case {
    name: &'static str,
    /// Whether `builtin/backoff` is bound to the group.
    policy: bool,
    /// Of each lease of 100 messages so many are nacked.
    nacks: usize,
}

const CASES: [Case; 4] = [
    Case { name: "lease+ack", policy: false, nacks: 0 },
    Case { name: "lease+ack, builtin/backoff bound", policy: true, nacks: 0 },
    Case { name: "lease+ack, 1 % nacks", policy: false, nacks: 1 },
    Case { name: "lease+ack, 1 % nacks, builtin/backoff bound", policy: true, nacks: 1 },
];

/// All cases; their runs take turns, so that a machine that slows down slows them all.
pub(crate) async fn measure(root: &Path, scratch: &Path, options: &Options, table: &mut Table) -> Result<(), String> {
    let wanted: Vec<_> = CASES.iter().filter(|case| options.wants(case.name)).collect();
    let mut runs = vec![Vec::new(); wanted.len()];
    let mut memory = vec![(0, 0); wanted.len()];
    for run in 0..options.runs {
        for (i, case) in wanted.iter().enumerate() {
            let data = scratch.join(format!("lease-{run}-{i}"));
            let server = Server::start(root, &data, options).await?;
            prepare(&server, case, options.seconds * 1_000).await?;
            runs[i].push(drain(&server.address, case.nacks, options.length()).await?);
            memory[i] = server.memory_mib();
            drop(server);
            std::fs::remove_dir_all(&data).map_err(|e| e.to_string())?;
        }
    }
    for ((case, runs), memory) in wanted.iter().zip(runs).zip(memory) {
        let remark =
            format!("100 a call, JSON, 1 KiB bodies; latency is of a lease and its settle; RSS {} MiB", memory.0);
        table.row(case.name, "messages", Figure::median(runs), &remark);
    }
    Ok(())
}

/// A topic full of messages, and the group that reads them.
async fn prepare(server: &Server, case: &Case, batches: u64) -> Result<(), String> {
    topic(server, false).await?;
    let mut connection = Connection::open(&server.address).await?;
    let group = br#"{"topics":[{"topic":"bench"}],"start":"earliest","max_inflight":10000}"#;
    connection.must(&request("PUT", "/v1/tenants/default/groups/bench", &[JSON], group)).await?;
    if case.policy {
        let policy = request("GET", "/v1/tenants/default/plugins/builtin/backoff", &[], b"");
        let policy: Value = serde_json::from_slice(connection.must(&policy).await?).map_err(|e| e.to_string())?;
        let binding =
            format!(r#"{{"slot":"retry","group":"bench","plugin":"builtin/backoff","version":{}}}"#, policy["latest"]);
        let binding = request("PUT", "/v1/tenants/default/bindings/bench-retry", &[JSON], binding.as_bytes());
        connection.must(&binding).await?;
    }
    let batch = frames(&body_text());
    for _ in 0..batches {
        connection.must(&batch).await?;
    }
    Ok(())
}

/// Leases and settles until the time is over or the group is empty.
async fn drain(address: &str, nacks: usize, length: Duration) -> Result<Figure, String> {
    let lease = request(
        "POST",
        "/v1/tenants/default/groups/bench/leases",
        &[JSON],
        format!(r#"{{"max_messages":{BATCH_MESSAGES}}}"#).as_bytes(),
    );
    let start = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let (mut connection, lease) = (Connection::open(address).await?, lease.clone());
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while start.elapsed() < length {
                let before = Instant::now();
                let Some((settle, leased)) = settle(connection.must(&lease).await?, nacks) else {
                    break;
                };
                connection.must(&settle).await?;
                latencies.extend(std::iter::repeat_n(before.elapsed(), leased));
            }
            Ok::<_, String>(latencies)
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.map_err(|e| e.to_string())??);
    }
    Ok(Figure::of(latencies, 1, start.elapsed()))
}

/// The settle request for every receipt of a lease answer, and how many there are: the first `nacks` are nacked, which
/// asks the retry policy, the others acked.
pub(crate) fn settle(answer: &[u8], nacks: usize) -> Option<(Vec<u8>, usize)> {
    const RECEIPT: &[u8] = b"\"receipt\":\"";
    let mut body = b"{\"items\":[".to_vec();
    let (mut rest, mut leased) = (answer, 0);
    while let Some(at) = find(rest, RECEIPT) {
        rest = &rest[at + RECEIPT.len()..];
        let end = rest.iter().position(|b| *b == b'"')?;
        if leased > 0 {
            body.push(b',');
        }
        body.extend_from_slice(b"{\"receipt\":\"");
        body.extend_from_slice(&rest[..end]);
        body.extend_from_slice(if leased < nacks { b"\",\"op\":\"nack\"}" } else { b"\",\"op\":\"ack\"}" });
        rest = &rest[end..];
        leased += 1;
    }
    body.extend_from_slice(b"]}");
    (leased > 0).then(|| (request("POST", "/v1/tenants/default/groups/bench/settle", &[JSON], &body), leased))
}
