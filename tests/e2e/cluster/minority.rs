//! A node without a majority refuses soon, serves what it has, and goes on when the others are back.

use std::time::{Duration, Instant};

use serde_json::json;

use super::HOME;
use super::nodes::{Cluster, NODES};
use crate::http::{Answer, Connection};
use crate::server::T;

/// A minority refuses within that. `PROMISES` 14.
const REFUSES_WITHIN: Duration = Duration::from_secs(2);
/// What a busy machine may add to an answer.
const SLACK: Duration = Duration::from_millis(1_000);

/// A publish, and how long its answer took.
fn publish(cluster: &Cluster, node: u32) -> (Answer, Duration) {
    let begun = Instant::now();
    let mut connection = Connection::open(cluster.address(node)).expect("connect");
    let answer = connection.call("POST", &format!("{T}/topics/orders/messages"), &[], b"x").expect("an answer");
    (answer, begun.elapsed())
}

/// The one that is begun before the loss can have been noticed: its outcome may be unknown.
fn publish_at_once(cluster: &Cluster, node: u32) -> Answer {
    let (answer, took) = publish(cluster, node);
    assert!(matches!(answer.status, 503 | 504), "{answer}");
    assert!(took < REFUSES_WITHIN + SLACK, "the first answer took {took:?}");
    answer
}

/// How many messages a node shows.
fn shown(cluster: &Cluster, node: u32) -> usize {
    let page = cluster.get(node, &format!("{T}/topics/orders/messages?queue=0&offset=0")).expect(200);
    page["items"].as_array().expect("items").len()
}

/// A node without the others. Gives the number of publishes of unknown outcome.
fn refuses(cluster: &Cluster, node: u32, what: &str, committed: usize) -> usize {
    let answer = publish_at_once(cluster, node);
    let unknown = usize::from(answer.status == 504);
    for _ in 0..3 {
        let (answer, took) = publish(cluster, node);
        answer.expect_problem(503, "no-leader");
        assert!(answer.header("retry-after").is_some(), "{answer}");
        assert!(took < REFUSES_WITHIN + SLACK, "{what}: refused after {took:?}");
    }
    cluster.get(node, &format!("{T}/topics/orders")).expect_problem(503, "no-leader");
    assert_eq!(cluster.get(node, "/health/live").status, 200);
    assert_eq!(cluster.get(node, "/health/ready").status, 503);
    assert_eq!(shown(cluster, node), committed, "{what}: exactly what was committed is served");
    unknown
}

#[test]
fn a_minority_refuses_within_two_seconds_and_serves_what_it_has() {
    let mut cluster = Cluster::start();
    cluster.json(1, "PUT", &format!("{T}/topics/orders"), &json!({"queues": 1})).expect(201);
    publish(&cluster, 1).0.expect(201);
    for keep_leader in [true, false] {
        let (leader, _) = cluster.leader(HOME);
        let left = if keep_leader { leader } else { leader % 3 + 1 };
        let gone: Vec<u32> = NODES.into_iter().filter(|node| *node != left).collect();
        let committed = stored_everywhere(&cluster);
        gone.iter().for_each(|node| cluster.stop(*node));
        let what = if keep_leader { "the leader alone" } else { "a follower alone" };
        let unknown = refuses(&cluster, left, what, committed);
        gone.iter().for_each(|node| cluster.go_on(*node));
        cluster.wait_until_whole();
        let after = stored_everywhere(&cluster);
        assert!((committed..=committed + unknown).contains(&after), "{what}: {committed}, then {after} stored");
    }
    for node in &NODES[..2] {
        cluster.kill(*node);
    }
    publish_at_once(&cluster, 3);
    for node in &NODES[..2] {
        cluster.spawn(*node, &[]);
    }
    cluster.wait_until_whole();
    for node in NODES {
        publish(&cluster, node).0.expect(201);
    }
}

/// How many messages there are, when every node shows as many.
fn stored_everywhere(cluster: &Cluster) -> usize {
    let start = Instant::now();
    loop {
        let counts = NODES.map(|node| shown(cluster, node));
        let latest = cluster.get(1, &format!("{T}/topics/orders/queues")).expect(200)["items"][0]["latest"].clone();
        if counts.iter().all(|count| latest.as_str() == Some(&count.to_string())) {
            return counts[0];
        }
        assert!(start.elapsed() < Duration::from_secs(20), "nodes show {counts:?} of {latest}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
