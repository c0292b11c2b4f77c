//! Retention on three nodes: all of them let go of the same, and one that was away comes back through a checkpoint.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::HOME;
use super::nodes::{Cluster, NODES};
use crate::server::T;

const MESSAGES: usize = 120;
const BODY_BYTES: usize = 64 << 10;

/// Positions of the first and the last of the data shard's segments on disk, and bytes of all.
fn segments(data: &Path) -> (u64, u64, u64) {
    let files = std::fs::read_dir(data.join("shards/1/log")).expect("the log");
    let files: Vec<_> = files.map(|file| file.expect("a file")).collect();
    let bytes = files.iter().map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum();
    let names = files.iter().filter_map(|file| file.file_name().to_str()?.strip_suffix(".seg")?.parse().ok());
    let bases: Vec<u64> = names.collect();
    (bases.iter().copied().min().expect("a segment"), bases.iter().copied().max().expect("a segment"), bytes)
}

fn until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Publishes the messages of these numbers, each under a key of its own.
fn publish(cluster: &Cluster, node: u32, numbers: std::ops::Range<usize>) {
    let body = vec![b'x'; BODY_BYTES];
    for n in numbers {
        let key = format!("message-{n}");
        let headers = [("Content-Type", "text/plain"), ("Idempotency-Key", &*key)];
        let started = Instant::now();
        // A call that a change of leaders meets is made again, under its key.
        loop {
            let answer = cluster.call(node, "POST", &format!("{T}/topics/orders/messages"), &headers, &body);
            match answer.status {
                200 | 201 => break,
                503 | 504 => assert!(started.elapsed() < Duration::from_secs(30), "{answer}"),
                _ => panic!("{answer}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Ends of the queue as a node tells them.
fn ends(cluster: &Cluster, node: u32) -> (u64, u64) {
    let queue = &cluster.get(node, &format!("{T}/topics/orders/queues")).expect(200)["items"][0];
    let end = |name: &str| queue[name].as_str().and_then(|text| text.parse().ok()).expect("an offset");
    (end("earliest"), end("latest"))
}

/// Ids of everything from an offset on, as this node itself has it.
fn ids(cluster: &Cluster, node: u32, from: u64) -> Vec<String> {
    let mut out = Vec::new();
    let mut next = from;
    loop {
        let path = format!("{T}/topics/orders/messages?queue=0&offset={next}&limit=10");
        let page = cluster.get(node, &path).expect(200);
        let items = page["items"].as_array().expect("items");
        if items.is_empty() {
            return out;
        }
        next += items.len() as u64;
        out.extend(items.iter().map(|message: &Value| message["id"].to_string()));
    }
}

/// The ends once nothing expires any more: the segment that is written stays.
fn at_rest(cluster: &Cluster) -> (u64, u64) {
    let started = Instant::now();
    loop {
        let before = ends(cluster, 1);
        std::thread::sleep(Duration::from_secs(3));
        if ends(cluster, 1) == before {
            return before;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "it goes on expiring");
    }
}

/// The same ends and the same messages at every node.
fn agree(cluster: &Cluster) -> (u64, u64) {
    let first = at_rest(cluster);
    let (from, expected) = (first.0, ids(cluster, 1, first.0));
    assert_eq!(expected.len() as u64, first.1 - first.0);
    for node in NODES {
        until("a node that is behind catches up", || ids(cluster, node, from).len() == expected.len());
        assert_eq!(ids(cluster, node, from), expected, "node {node}");
        let below = cluster.get(node, &format!("{T}/topics/orders/messages?queue=0&offset=0"));
        below.expect_problem(410, "offset-expired");
    }
    first
}

#[test]
fn three_nodes_let_go_of_the_same_and_who_missed_it_gets_a_checkpoint() {
    let mut cluster = Cluster::start_with(&["segment_bytes=1048576"]);
    cluster.json(1, "PUT", &format!("{T}/topics/orders"), &json!({"queues": 1, "retention_ms": 4000})).expect(201);
    publish(&cluster, 1, 0..4);
    let (leader, _) = cluster.leader(HOME);
    let away = leader % 3 + 1;
    cluster.kill(away);
    let held = segments(cluster.data(away));

    publish(&cluster, leader, 4..MESSAGES);
    let there: Vec<u32> = NODES.into_iter().filter(|node| *node != away).collect();
    until("segments go on both nodes", || there.iter().all(|node| segments(cluster.data(*node)).0 > held.1));
    for node in &there {
        let (_, _, bytes) = segments(cluster.data(*node));
        assert!(bytes < (MESSAGES * BODY_BYTES) as u64 / 2, "node {node} keeps {bytes} bytes");
    }

    cluster.spawn(away, &[]);
    cluster.wait_until_whole();
    publish(&cluster, away, MESSAGES..MESSAGES + 3);
    let whole = agree(&cluster);
    assert!(whole.0 > 0 && whole.1 == (MESSAGES + 3) as u64, "{whole:?}");
    assert!(segments(cluster.data(away)).0 > held.1, "what it had was given up, and came as a checkpoint");

    // All of them at once, and the one that installed the checkpoint serves what it has.
    NODES.into_iter().for_each(|node| cluster.kill(node));
    NODES.into_iter().for_each(|node| cluster.spawn(node, &[]));
    cluster.wait_until_whole();
    publish(&cluster, away, MESSAGES + 3..MESSAGES + 4);
    let after = agree(&cluster);
    assert!(after.0 >= whole.0 && after.1 == whole.1 + 1, "{whole:?}, then {after:?}");
}
