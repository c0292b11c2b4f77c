//! What an idempotency key costs: a message's worth of time and memory, and a million of them with every tenth a repeat.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Options;
use super::connection::{Connection, find, request};
use super::figures::{Figure, Table};
use super::load::topic;
use super::server::Server;

const CONNECTIONS: u64 = 8;
const BATCH_MESSAGES: u64 = 100;
/// One message of so many repeats the key of an earlier one.
const REPEATS_EVERY: u64 = 10;
const BODY_BYTES: usize = 100;

/// Messages with and without keys, in batches, each against a fresh server.
pub(crate) async fn measure(root: &Path, scratch: &Path, options: &Options, table: &mut Table) -> Result<(), String> {
    let name = "dedup-million";
    if !options.wants(name) {
        return Ok(());
    }
    let total = options.messages / (CONNECTIONS * BATCH_MESSAGES) * CONNECTIONS * BATCH_MESSAGES;
    let mut runs = Vec::new();
    for keyed in [false, true] {
        let data = scratch.join(format!("dedup-{keyed}"));
        let server = Server::start(root, &data, options).await?;
        topic(&server, false).await?;
        let before = server.memory_mib();
        let run = run(&server.address, total, keyed).await?;
        let stored = stored(&server).await?;
        let expected = if keyed { total - total / REPEATS_EVERY } else { total };
        if stored != expected || run.duplicates != total - stored {
            return Err(format!("{stored} stored and {} duplicates of {total} messages", run.duplicates));
        }
        let after = server.memory_mib();
        let state = bytes_below(&data.join("shards"), "state")?;
        let kind = if keyed { "10 % repeats, each stored once" } else { "without keys" };
        let remark = format!(
            "{stored} stored; RSS {} MiB before, {} after, most {}; state on disk {} MiB",
            before.0,
            after.0,
            after.1,
            state >> 20
        );
        table.row(&format!("{name}: {total} messages in batches of 100, {kind}"), "messages", run.figure, &remark);
        runs.push((run.elapsed, after.1, state));
        drop(server);
        std::fs::remove_dir_all(&data).map_err(|e| e.to_string())?;
    }
    if let [plain, keyed] = runs[..] {
        let nanos = |elapsed: Duration| elapsed.as_nanos() as f64 / total as f64;
        let keys = (total - total / REPEATS_EVERY) as f64;
        let text = format!(
            "time      {:8.0} ns a message more than without ({:.0} and {:.0})\nmemory    {:8.1} bytes a key more at most\ndisk      {:8.1} bytes a key of state",
            nanos(keyed.0) - nanos(plain.0),
            nanos(keyed.0),
            nanos(plain.0),
            (keyed.1 as f64 - plain.1 as f64) * f64::from(1 << 20) / keys,
            (keyed.2 as f64 - plain.2 as f64) / keys,
        );
        eprintln!("{text}");
        table.appendix("What a key costs", &text);
    }
    Ok(())
}

struct Run {
    figure: Figure,
    elapsed: Duration,
    duplicates: u64,
}

async fn run(address: &str, total: u64, keyed: bool) -> Result<Run, String> {
    let share = total / CONNECTIONS;
    let start = Instant::now();
    let mut tasks = Vec::new();
    for of in 0..CONNECTIONS {
        let mut connection = Connection::open(address).await?;
        tasks.push(tokio::spawn(async move {
            let (mut latencies, mut duplicates) = (Vec::new(), 0);
            for first in (0..share).step_by(BATCH_MESSAGES as usize) {
                let request = batch(of, first, keyed);
                let before = Instant::now();
                let answer = connection.must(&request).await?;
                latencies.push(before.elapsed());
                duplicates += count(answer, b"\"duplicate\":true");
            }
            Ok::<_, String>((latencies, duplicates))
        }));
    }
    let (mut latencies, mut duplicates) = (Vec::new(), 0);
    for task in tasks {
        let (more, repeated) = task.await.map_err(|e| e.to_string())??;
        latencies.extend(more);
        duplicates += repeated;
    }
    let elapsed = start.elapsed();
    Ok(Run { figure: Figure::of(latencies, BATCH_MESSAGES as usize, elapsed), elapsed, duplicates })
}

/// The frames of messages `first..` of one connection. Every tenth repeats the key and the payload of one before it,
/// near for half of them and anywhere for the rest.
fn batch(of: u64, first: u64, keyed: bool) -> Vec<u8> {
    let mut body = Vec::with_capacity(BATCH_MESSAGES as usize * (BODY_BYTES + 64));
    for n in first..first + BATCH_MESSAGES {
        let key = match n % REPEATS_EVERY {
            9 if keyed && n % 20 == 9 => n - 1,
            9 if keyed => n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (n / 10) * 10,
            _ => n,
        };
        let meta = if keyed { format!(r#"{{"idempotency_key":"{of}-{key:012}"}}"#) } else { "{}".to_owned() };
        let payload = format!("{of}-{key:012} {:width$}", "", width = BODY_BYTES - 15);
        body.extend_from_slice(&((4 + meta.len() + payload.len()) as u32).to_le_bytes());
        body.extend_from_slice(&(meta.len() as u32).to_le_bytes());
        body.extend_from_slice(meta.as_bytes());
        body.extend_from_slice(payload.as_bytes());
    }
    let kind = ("Content-Type", "application/vnd.pointsman.frames");
    request("POST", "/v1/tenants/default/topics/bench/messages", &[kind], &body)
}

fn count(mut bytes: &[u8], needle: &[u8]) -> u64 {
    let mut count = 0;
    while let Some(at) = find(bytes, needle) {
        bytes = &bytes[at + needle.len()..];
        count += 1;
    }
    count
}

/// Messages in all queues of the topic.
async fn stored(server: &Server) -> Result<u64, String> {
    let mut connection = Connection::open(&server.address).await?;
    let answer = connection.must(&request("GET", "/v1/tenants/default/topics/bench/queues", &[], b"")).await?;
    let mut rest = answer;
    let mut sum = 0;
    const LATEST: &[u8] = b"\"latest\":\"";
    while let Some(at) = find(rest, LATEST) {
        rest = &rest[at + LATEST.len()..];
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let number = std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse::<u64>().ok());
        sum += number.ok_or("a queue without an end")?;
    }
    Ok(sum)
}

/// Bytes of all files in directories of this name.
fn bytes_below(directory: &Path, name: &str) -> Result<u64, String> {
    fn walk(directory: &Path, name: &str, inside: bool, sum: &mut u64) -> std::io::Result<()> {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                walk(&entry.path(), name, inside || entry.file_name() == name, sum)?;
            } else if inside {
                *sum += entry.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        Ok(())
    }
    let mut sum = 0;
    walk(directory, name, false, &mut sum).map_err(|e| format!("{}: {e}", directory.display()))?;
    Ok(sum)
}
