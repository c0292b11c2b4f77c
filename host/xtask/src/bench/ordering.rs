//! What order costs: 100 ordering keys × 2,000 messages and ten consumers that crash and nack, in a group of ordering
//! `key` beside one of ordering `none`. With `key` every delivery is checked: no message before all ahead of it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use super::Options;
use super::connection::{Connection, find, request};
use super::figures::{Figure, Table};
use super::load::topic;
use super::server::Server;

const KEYS: usize = 100;
const MESSAGES: usize = 2_000;
const CONSUMERS: u64 = 10;
const JSON: (&str, &str) = ("Content-Type", "application/json");
/// One message of so many is the last that its consumer sees.
const CRASH_EVERY: u64 = 5_000;
/// One lease call of so many is hung up on before its answer.
const HANG_UP_EVERY: u64 = 500;
/// One message of so many is nacked.
const NACK_EVERY: u64 = 50;
/// Leases end so soon after a crash.
const LEASE_MS: u64 = 500;
/// An answer that took longer may hold leases that are about to run out.
const LATE: Duration = Duration::from_millis(300);
/// No consumer works longer.
const LENGTH_MAX: Duration = Duration::from_secs(300);

/// What consumers saw.
#[derive(Default)]
struct Seen {
    last: HashMap<usize, usize>,
    settled: usize,
    nacked: usize,
    crashed: usize,
    latencies: Vec<Duration>,
}

/// Both groups, each against a fresh server.
pub(crate) async fn measure(root: &Path, scratch: &Path, options: &Options, table: &mut Table) -> Result<(), String> {
    if !options.wants("ordering") {
        return Ok(());
    }
    let mut options = options.clone();
    options.set.push("time_scale=0.001".to_owned());
    for ordering in ["none", "key"] {
        let data = scratch.join(format!("ordering-{ordering}"));
        let server = Server::start(root, &data, &options).await?;
        topic(&server, false).await?;
        let mut connection = Connection::open(&server.address).await?;
        let group = format!(
            r#"{{"topics":[{{"topic":"bench"}}],"start":"earliest","max_inflight":100000,"ordering":"{ordering}"}}"#
        );
        connection.must(&request("PUT", "/v1/tenants/default/groups/bench", &[JSON], group.as_bytes())).await?;
        for n in 0..MESSAGES {
            connection.must(&round(n)).await?;
        }
        let seen = Rc::new(RefCell::new(Seen::default()));
        let start = Instant::now();
        let consumers = LocalSet::new();
        let mut tasks = Vec::new();
        for consumer in 0..CONSUMERS {
            let (address, seen) = (server.address.clone(), Rc::clone(&seen));
            tasks.push(consumers.spawn_local(async move { consume(&address, &seen, consumer, ordering).await }));
        }
        consumers.await;
        for task in tasks {
            task.await.map_err(|e| e.to_string())??;
        }
        let elapsed = start.elapsed();
        let mut seen = seen.borrow_mut();
        let figure = Figure::of(std::mem::take(&mut seen.latencies), 1, elapsed);
        let remark = format!(
            "{KEYS} keys × {MESSAGES}, {CONSUMERS} consumers, {} nacks, {} crashes, all settled once; latency is of a \
             lease and its settle; RSS {} MiB",
            seen.nacked,
            seen.crashed,
            server.memory_mib().0
        );
        table.row(&format!("ordering `{ordering}`, crashes and nacks"), "messages", figure, &remark);
        drop(server);
        std::fs::remove_dir_all(&data).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// The n-th message of every key.
fn round(n: usize) -> Vec<u8> {
    let message = |key: usize| format!(r#"{{"data":"{key} {n}","ordering_key":"key-{key}"}}"#);
    let body = format!("{{\"messages\":[{}]}}", (0..KEYS).map(message).collect::<Vec<_>>().join(","));
    let headers = [("Content-Type", "application/vnd.pointsman.batch+json"), ("Prefer", "return=minimal")];
    request("POST", "/v1/tenants/default/topics/bench/messages", &headers, body.as_bytes())
}

async fn consume(address: &str, seen: &RefCell<Seen>, consumer: u64, ordering: &str) -> Result<(), String> {
    let body = format!(r#"{{"max_messages":100,"lease_ms":{LEASE_MS},"wait_ms":100,"client_id":"c{consumer}"}}"#);
    let lease = request("POST", "/v1/tenants/default/groups/bench/leases", &[JSON], body.as_bytes());
    let mut connection = Connection::open(address).await?;
    let mut dice = dice(consumer);
    let start = Instant::now();
    while seen.borrow().settled < KEYS * MESSAGES {
        if start.elapsed() > LENGTH_MAX {
            return Err(format!("{} of {} messages settled in time", seen.borrow().settled, KEYS * MESSAGES));
        }
        if dice().is_multiple_of(HANG_UP_EVERY) {
            // Hangs up before the answer.
            connection.send(&lease).await?;
            connection = Connection::open(address).await?;
            seen.borrow_mut().crashed += 1;
            continue;
        }
        let asked = Instant::now();
        let leases = leases(connection.must(&lease).await?)?;
        if asked.elapsed() > LATE {
            continue;
        }
        let mut items = Vec::new();
        for (receipt, key, n) in leases {
            let mut seen = seen.borrow_mut();
            let before = seen.last.insert(key, n);
            let fits = n == before.map_or(0, |before| before + 1) || Some(n) == before;
            if ordering == "key" && !fits {
                return Err(format!("key {key}: {n} after {before:?}"));
            }
            let op = match dice() % CRASH_EVERY {
                0 => {
                    // Crashes in the middle of its work: nothing of it is settled, and its keys wait for the leases to end.
                    seen.crashed += 1;
                    items.clear();
                    break;
                }
                n if n.is_multiple_of(NACK_EVERY) => "nack",
                _ => "ack",
            };
            items.push((receipt, op));
        }
        if items.is_empty() {
            continue;
        }
        let list: Vec<_> = items.iter().map(|(r, op)| format!(r#"{{"receipt":"{r}","op":"{op}"}}"#)).collect();
        let body = format!("{{\"items\":[{}]}}", list.join(","));
        let settle = request("POST", "/v1/tenants/default/groups/bench/settle", &[JSON], body.as_bytes());
        let answer = String::from_utf8_lossy(connection.must(&settle).await?).into_owned();
        let statuses = answer.split("\"status\":\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default());
        let mut seen = seen.borrow_mut();
        for ((_, op), status) in items.iter().zip(statuses) {
            match (*op, status) {
                ("ack", "settled") => {
                    seen.settled += 1;
                    seen.latencies.push(asked.elapsed());
                }
                ("nack", "settled") => seen.nacked += 1,
                // Late: it ran out, and perhaps another has settled it since.
                (_, "lease-expired" | "already-settled") => {}
                (op, status) => return Err(format!("{op} came to {status}")),
            }
        }
    }
    Ok(())
}

/// Receipt, key and number of each lease of an answer.
fn leases(answer: &[u8]) -> Result<Vec<(String, usize, usize)>, String> {
    let mut all = Vec::new();
    let mut rest = answer;
    while let Some((receipt, behind)) = text_of(rest, b"\"receipt\":\"") {
        let (data, behind) = text_of(behind, b"\"data\":\"").ok_or("a lease without data")?;
        let (key, n) = data.split_once(' ').ok_or("foreign data")?;
        let number = |text: &str| text.parse().map_err(|_| format!("no number: {text}"));
        all.push((receipt, number(key)?, number(n)?));
        rest = behind;
    }
    Ok(all)
}

/// The text behind a name, and what follows it.
fn text_of<'a>(bytes: &'a [u8], name: &[u8]) -> Option<(String, &'a [u8])> {
    let rest = &bytes[find(bytes, name)? + name.len()..];
    let end = rest.iter().position(|b| *b == b'"')?;
    Some((String::from_utf8_lossy(&rest[..end]).into_owned(), &rest[end..]))
}

/// Numbers that a seed tells.
fn dice(seed: u64) -> impl FnMut() -> u64 {
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    }
}
