//! Groups that keep an order, and group streams.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::Connection;
use crate::server::{Server, T};

/// Ordering keys of the big run.
const KEYS: usize = 100;
/// Messages of each key; `xtask bench --only ordering` runs 2,000.
const MESSAGES: usize = 60;
const CONSUMERS: u64 = 10;
/// An answer that took longer may hold leases that are about to run out.
const LATE: Duration = Duration::from_millis(600);

fn server(ordering: &str) -> Server {
    let server = Server::start_with(&["time_scale=0.001"]);
    server.topic("orders", &json!({"queues": 4}));
    server.group("workers", &json!({"topics": [{"topic": "orders"}], "ordering": ordering, "start": "earliest"}));
    server
}

fn publish(server: &Server, bodies: &[&str]) {
    for body in bodies {
        server.publish("orders", &[("Pm-Ordering-Key", &body[..1])], body);
    }
}

fn bodies(leases: &[Value]) -> Vec<String> {
    let mut all: Vec<_> =
        leases.iter().map(|lease| lease["message"]["data"].as_str().expect("text").to_owned()).collect();
    all.sort();
    all
}

fn settle(server: &Server, lease: &Value, op: &str) -> String {
    server.settle("workers", &json!([{"receipt": lease["receipt"], "op": op}])).remove(0)
}

/// What consumers saw: for each key the last message delivered, and how many are settled.
#[derive(Default)]
struct Seen {
    last: Mutex<HashMap<usize, usize>>,
    settled: AtomicUsize,
    nacked: AtomicUsize,
    crashed: AtomicUsize,
}

/// 100 ordering keys, consumers that crash and nack: no message comes before all ahead of it in its key are settled.
#[test]
fn order_by_key_is_kept_by_consumers_that_crash_and_nack() {
    let server = server("key");
    for n in 0..MESSAGES {
        let message = |key: usize| json!({"data": format!("{key} {n}"), "ordering_key": format!("key-{key}")});
        let batch = json!({"messages": (0..KEYS).map(message).collect::<Vec<_>>()}).to_string();
        let headers = [("Content-Type", "application/vnd.pointsman.batch+json"), ("Prefer", "return=minimal")];
        server.call("POST", &format!("{T}/topics/orders/messages"), &headers, batch.as_bytes()).expect(201);
    }
    let seen = Seen::default();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for consumer in 0..CONSUMERS {
            let (server, seen) = (&server, &seen);
            scope.spawn(move || consume(server, seen, consumer));
        }
    });
    assert_eq!(seen.settled.load(Ordering::SeqCst), KEYS * MESSAGES, "each once");
    let last = seen.last.lock().expect("no test panicked");
    assert!((0..KEYS).all(|key| last.get(&key) == Some(&(MESSAGES - 1))));
    let (nacked, crashed) = (seen.nacked.load(Ordering::SeqCst), seen.crashed.load(Ordering::SeqCst));
    assert!(nacked > 20 && crashed > 20, "{nacked} nacks and {crashed} crashes are no test");
    assert!(server.lease("workers", &json!({})).is_empty());
    println!("{} messages, {nacked} nacks, {crashed} crashes in {:?}", KEYS * MESSAGES, start.elapsed());
}

fn consume(server: &Server, seen: &Seen, consumer: u64) {
    let mut dice = dice(consumer);
    let path = format!("{T}/groups/workers/leases");
    let json_body = [("Content-Type", "application/json")];
    let lease = json!({"max_messages": 100, "lease_ms": 1_000, "wait_ms": 100, "client_id": format!("c{consumer}")});
    let lease = lease.to_string();
    let give_up = Instant::now() + Duration::from_secs(120);
    while seen.settled.load(Ordering::SeqCst) < KEYS * MESSAGES {
        assert!(Instant::now() < give_up, "consumer {consumer} is stuck");
        let mut connection = Connection::open(server.address()).expect("connect");
        if dice().is_multiple_of(20) {
            // Hangs up before the answer.
            connection.send("POST", &path, &json_body, lease.as_bytes()).expect("send");
            seen.crashed.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        let asked = Instant::now();
        let answer = connection.call("POST", &path, &json_body, lease.as_bytes()).expect("lease").expect(200);
        if asked.elapsed() > LATE {
            // Somebody else may have it before this one looks.
            continue;
        }
        let mut items = Vec::new();
        for lease in answer["leases"].as_array().expect("leases") {
            let data = lease["message"]["data"].as_str().expect("text");
            let (key, n) = data.split_once(' ').expect("a key and a number");
            let (key, n): (usize, usize) = (key.parse().expect("a number"), n.parse().expect("a number"));
            let mut last = seen.last.lock().expect("no test panicked");
            let before = last.insert(key, n);
            let next = before.map_or(0, |before| before + 1);
            assert!(n == next || Some(n) == before, "key {key}: {n} after {before:?}, consumer {consumer}");
            drop(last);
            match dice() % 200 {
                // Crashes in the middle of its work: nothing of it is settled.
                0 => {
                    seen.crashed.fetch_add(1, Ordering::SeqCst);
                    items.clear();
                    break;
                }
                1..=4 => items.push(json!({"receipt": lease["receipt"], "op": "nack"})),
                _ => items.push(json!({"receipt": lease["receipt"], "op": "ack"})),
            }
        }
        if items.is_empty() {
            continue;
        }
        let statuses = server.settle("workers", &json!(items));
        for (item, status) in items.iter().zip(statuses) {
            match (item["op"].as_str(), &*status) {
                (Some("ack"), "settled") => drop(seen.settled.fetch_add(1, Ordering::SeqCst)),
                (Some("nack"), "settled") => drop(seen.nacked.fetch_add(1, Ordering::SeqCst)),
                (_, "lease-expired") => {}
                (op, status) => panic!("{op:?} came to {status}"),
            }
        }
    }
}

#[test]
fn who_holds_a_key_holds_it_over_a_kill() {
    let mut server = server("key");
    publish(&server, &["a1", "a2", "b1", "b2"]);
    let held = server.lease("workers", &json!({"max_messages": 1, "lease_ms": 30_000})).remove(0);
    server.kill();
    server.restart();
    let rest = server.lease("workers", &json!({"wait_ms": 500}));
    let other = if bodies(std::slice::from_ref(&held)) == ["a1"] { "b1" } else { "a1" };
    assert_eq!(bodies(&rest), [other], "the key that is held goes to nobody else");
    assert_eq!(settle(&server, &held, "ack"), "settled", "its receipt outlives the leader");
    assert_eq!(settle(&server, &rest[0], "ack"), "settled");
    assert_eq!(bodies(&server.lease("workers", &json!({"wait_ms": 2_000}))), ["a2", "b2"]);
}

#[test]
fn a_message_that_fails_for_good_is_dead_lettered_and_its_key_flows() {
    let server = server("key");
    let group = json!({
        "topics": [{"topic": "orders"}], "ordering": "key", "start": "earliest", "max_retries": 2,
    });
    server.json("PUT", &format!("{T}/groups/workers"), &group).expect(200);
    publish(&server, &["a1", "a2", "b1"]);
    for attempt in 1..=3 {
        let leases = server.lease("workers", &json!({"wait_ms": 2_000}));
        let bad = leases.iter().find(|lease| lease["message"]["data"] == "a1").expect("a1 comes first");
        assert_eq!(bad["attempt"], attempt);
        assert_eq!(settle(&server, bad, "nack"), "settled");
        for good in leases.iter().filter(|lease| lease["message"]["data"] != "a1") {
            assert_eq!(good["message"]["data"], "b1", "a2 waits behind a1");
            assert_eq!(settle(&server, good, "ack"), "settled");
        }
    }
    let dead = server.get(&format!("{T}/groups/workers/dlq")).expect(200);
    assert_eq!(dead["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(bodies(&server.lease("workers", &json!({"wait_ms": 2_000}))), ["a2"]);
}

#[test]
fn a_queue_gives_runs() {
    let server = Server::start_with(&["time_scale=0.001"]);
    server.topic("orders", &json!({"queues": 1}));
    server.group("workers", &json!({"topics": [{"topic": "orders"}], "ordering": "queue", "start": "earliest"}));
    publish(&server, &["1", "2", "3"]);
    let run = server.lease("workers", &json!({}));
    assert_eq!(run.iter().map(|lease| lease["message"]["offset"].clone()).collect::<Vec<_>>(), ["0", "1", "2"]);
    assert!(server.lease("workers", &json!({})).is_empty());
    let items = json!([{"receipt": run[0]["receipt"], "op": "nack"}, {"receipt": run[1]["receipt"], "op": "ack"}]);
    assert_eq!(server.settle("workers", &items), ["settled", "lease-expired"]);
    let again = server.lease("workers", &json!({"wait_ms": 2_000}));
    assert_eq!(again.iter().map(|lease| lease["attempt"].clone()).collect::<Vec<_>>(), [2, 1, 1]);
}

/// A group stream that is read by hand.
struct Stream {
    connection: Connection,
    text: String,
}

impl Stream {
    fn open(server: &Server, query: &str) -> Self {
        let mut connection = Connection::open(server.address()).expect("connect");
        let path = format!("{T}/groups/workers/stream?{query}");
        connection.send("GET", &path, &[("Accept", "text/event-stream")], b"").expect("send");
        assert_eq!(connection.head().expect("a head").0, 200);
        Self { connection, text: String::new() }
    }

    /// The next event with that name.
    fn next(&mut self, name: &str) -> Value {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                if block.lines().any(|line| line == format!("event: {name}")) {
                    assert!(!block.contains("id: "), "{block}");
                    let data = block.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
                    return serde_json::from_str(data).expect("JSON");
                }
            }
            let chunk = self.connection.chunk().expect("a chunk").expect("goes on");
            self.text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    }
}

#[test]
fn a_group_stream_gives_leases_up_to_its_credit_and_drains() {
    let mut server = server("none");
    publish(&server, &["a1", "a2", "a3"]);
    let mut stream = Stream::open(&server, "max_inflight=2");
    assert_eq!(stream.next("open"), json!({"topics": ["orders"], "resumed": false}));
    let first = [stream.next("message"), stream.next("message")];
    assert_eq!(bodies(&first), ["a1", "a2"]);
    assert_eq!(settle(&server, &first[0], "ack"), "settled");
    let third = stream.next("message");
    assert_eq!(bodies(std::slice::from_ref(&third)), ["a3"]);
    for lease in [&first[1], &third] {
        assert_eq!(settle(&server, lease, "ack"), "settled");
    }
    stream.next("caught-up");
    publish(&server, &["b1"]);
    let live = stream.next("message");
    assert_eq!(settle(&server, &live, "ack"), "settled");
    let reader = std::thread::spawn(move || stream.next("drain"));
    assert_eq!(server.terminate(), Some(0));
    assert!(reader.join().expect("a drain")["reason"].is_string());
}

#[test]
fn a_hang_up_ends_leases_in_five_seconds_unless_the_client_is_back() {
    for ordering in ["none", "key"] {
        let server = server(ordering);
        publish(&server, &["a1", "b1"]);
        let mut stream = Stream::open(&server, "client_id=kept&max_inflight=1");
        let kept = stream.next("message");
        let mut other = Stream::open(&server, "max_inflight=1");
        let lost = other.next("message");
        drop((stream, other));
        std::thread::sleep(Duration::from_millis(1_000));
        let _back = Stream::open(&server, "client_id=kept&max_inflight=1");
        let gone = Instant::now();
        let again = server.lease("workers", &json!({"wait_ms": 10_000}));
        assert!(gone.elapsed() > Duration::from_secs(2), "{ordering}: {:?}", gone.elapsed());
        assert_eq!((again.len(), &again[0]["attempt"]), (1, &json!(2)), "{ordering}: it counts");
        assert_eq!(again[0]["message"]["id"], lost["message"]["id"], "{ordering}");
        assert_eq!(settle(&server, &lost, "ack"), "lease-expired", "{ordering}");
        assert_eq!(settle(&server, &kept, "ack"), "settled", "{ordering}");
    }
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
