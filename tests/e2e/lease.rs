//! Leasing and settling.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::Connection;
use crate::server::{Server, T};

fn server_with_group(group: &Value) -> Server {
    let server = Server::start_with(&["time_scale=0.001"]);
    server.topic("orders", &json!({"queues": 2}));
    server.group("workers", group);
    server
}

fn plain_group() -> Value {
    json!({"topics": [{"topic": "orders"}], "start": "earliest"})
}

#[test]
fn an_acked_message_never_comes_again_and_a_nacked_one_does() {
    let server = server_with_group(&plain_group());
    for i in 0..10 {
        server.publish("orders", &[], &format!("m{i}"));
    }
    let leases = server.lease("workers", &json!({"max_messages": 10}));
    assert_eq!(leases.len(), 10);
    assert!(leases.iter().all(|l| l["attempt"] == 1));
    assert!(server.lease("workers", &json!({})).is_empty(), "all are leased");
    let items: Vec<Value> = leases
        .iter()
        .enumerate()
        .map(|(i, l)| json!({"receipt": l["receipt"], "op": if i < 9 { "ack" } else { "nack" }, "reason": null}))
        .collect();
    assert_eq!(server.settle("workers", &json!(items)), vec!["settled"; 10]);
    assert_eq!(server.settle("workers", &json!(items[..1])), ["already-settled"]);
    let again = server.lease("workers", &json!({"wait_ms": 5000}));
    assert_eq!(again.len(), 1);
    assert_eq!((&again[0]["attempt"], &again[0]["message"]["id"]), (&json!(2), &leases[9]["message"]["id"]));
    assert_eq!(server.settle("workers", &json!([items[9]])), ["already-settled"], "attempt 1 was nacked");
}

#[test]
fn a_nack_waits_as_long_as_it_says() {
    let server = server_with_group(&plain_group());
    server.publish("orders", &[], "x");
    let lease = &server.lease("workers", &json!({}))[0];
    let start = Instant::now();
    assert_eq!(
        server.settle("workers", &json!([{"receipt": lease["receipt"], "op": "nack", "delay_ms": 400}])),
        ["settled"]
    );
    assert!(server.lease("workers", &json!({})).is_empty());
    let again = server.lease("workers", &json!({"wait_ms": 5000}));
    assert_eq!(again[0]["attempt"], 2);
    assert!(start.elapsed() >= Duration::from_millis(400), "never early");
}

#[test]
fn a_lease_that_runs_out_comes_again_and_its_receipt_is_late() {
    let server = server_with_group(&plain_group());
    server.publish("orders", &[], "x");
    let lease = &server.lease("workers", &json!({"lease_ms": 100}))[0];
    let again = server.lease("workers", &json!({"wait_ms": 5000}));
    assert_eq!(again[0]["attempt"], 2);
    assert_eq!(server.settle("workers", &json!([{"receipt": lease["receipt"], "op": "ack"}])), ["lease-expired"]);
    assert_eq!(server.settle("workers", &json!([{"receipt": again[0]["receipt"], "op": "ack"}])), ["settled"]);
}

#[test]
fn extend_and_release() {
    let server = server_with_group(&plain_group());
    server.publish("orders", &[], "x");
    let lease = &server.lease("workers", &json!({"lease_ms": 300}))[0];
    let receipt = &lease["receipt"];
    assert_eq!(
        server.settle("workers", &json!([{"receipt": receipt, "op": "extend", "lease_ms": 60000}])),
        ["extended"]
    );
    std::thread::sleep(Duration::from_millis(500));
    assert!(server.lease("workers", &json!({})).is_empty(), "the lease was extended");
    assert_eq!(server.settle("workers", &json!([{"receipt": receipt, "op": "release"}])), ["settled"]);
    let again = server.lease("workers", &json!({"wait_ms": 1000}));
    assert_eq!(again[0]["attempt"], 1, "a release does not count");
}

#[test]
fn a_long_poll_is_woken_by_a_publish_and_ends_empty() {
    let server = server_with_group(&plain_group());
    let start = Instant::now();
    assert!(server.lease("workers", &json!({"wait_ms": 300})).is_empty());
    assert!(start.elapsed() >= Duration::from_millis(300));
    std::thread::scope(|scope| {
        let poll = scope.spawn(|| server.lease("workers", &json!({"wait_ms": 20000})));
        std::thread::sleep(Duration::from_millis(200));
        server.publish("orders", &[], "x");
        assert_eq!(poll.join().expect("poll").len(), 1);
    });
    assert!(start.elapsed() < Duration::from_secs(15), "woken, not timed out");
}

#[test]
fn a_poll_whose_client_hung_up_leases_nothing() {
    let server = server_with_group(&plain_group());
    let mut gone = Connection::open(server.address()).expect("connect");
    let headers = [("Content-Type", "application/json")];
    gone.send("POST", &format!("{T}/groups/workers/leases"), &headers, br#"{"wait_ms":30000}"#).expect("send");
    std::thread::sleep(Duration::from_millis(200));
    drop(gone);
    std::thread::sleep(Duration::from_millis(200));
    server.publish("orders", &[], "x");
    assert_eq!(server.lease("workers", &json!({"wait_ms": 5000})).len(), 1);
}

#[test]
fn forged_and_foreign_receipts_are_invalid() {
    let server = server_with_group(&plain_group());
    server.group("others", &plain_group());
    server.publish("orders", &[], "x");
    let receipt = server.lease("workers", &json!({}))[0]["receipt"].as_str().expect("receipt").to_owned();
    let settle = |group: &str, receipt: &str| server.settle(group, &json!([{"receipt": receipt, "op": "ack"}]));
    assert_eq!(settle("others", &receipt), ["invalid"], "of another group");
    let mut forged = receipt.clone().into_bytes();
    for at in [3, forged.len() / 2, forged.len() - 2] {
        let was = forged[at];
        forged[at] = if was == b'A' { b'B' } else { b'A' };
        assert_eq!(settle("workers", std::str::from_utf8(&forged).expect("ascii")), ["invalid"], "byte {at}");
        forged[at] = was;
    }
    for nonsense in ["", "r1.", "r1.AAAA", "x", "ü"] {
        assert_eq!(settle("workers", nonsense), ["invalid"]);
    }
    assert_eq!(settle("workers", &receipt), ["settled"]);
}

#[test]
fn tags_are_judged_exactly_and_the_floor_moves_past_what_is_refused() {
    let server = Server::start();
    server.topic("orders", &json!({"queues": 1}));
    server.group(
        "paid",
        &json!({"topics": [{"topic": "orders", "filter": {"tags": "paid || refunded"}}], "start": "earliest"}),
    );
    for tag in ["paid", "sent", "refunded", "lost"] {
        server.publish("orders", &[("Pm-Tag", tag)], tag);
    }
    server.publish("orders", &[], "untagged");
    let leases = server.lease("paid", &json!({"wait_ms": 2000}));
    let tags: Vec<_> = leases.iter().map(|l| l["message"]["tag"].clone()).collect();
    assert_eq!(tags, [json!("paid"), json!("refunded")]);
    let bad = server.json(
        "PUT",
        &format!("{T}/groups/bad"),
        &json!({"topics": [{"topic": "orders", "filter": {"tags": "a || || b"}}]}),
    );
    bad.expect_problem(400, "invalid-filter");
}

#[test]
fn priority_goes_first_and_an_expired_message_goes_nowhere() {
    let server = Server::start();
    server.topic("orders", &json!({"queues": 1}));
    server.group("workers", &plain_group());
    server.publish("orders", &[("Pm-Ttl-Ms", "1")], "gone");
    server.publish("orders", &[], "low");
    server.publish("orders", &[("Pm-Priority", "9")], "high");
    std::thread::sleep(Duration::from_millis(50));
    let leases = server.lease("workers", &json!({}));
    let data: Vec<_> = leases.iter().map(|l| l["message"]["data"].clone()).collect();
    assert_eq!(data, [json!("high"), json!("low")]);
}

#[test]
fn in_flight_is_bounded() {
    let server = Server::start();
    server.topic("orders", &json!({}));
    server.group("workers", &json!({"topics": [{"topic": "orders"}], "start": "earliest", "max_inflight": 3}));
    for _ in 0..5 {
        server.publish("orders", &[], "x");
    }
    let leases = server.lease("workers", &json!({"max_messages": 5}));
    assert_eq!(leases.len(), 3);
    let full = server.json("POST", &format!("{T}/groups/workers/leases"), &json!({}));
    full.expect_problem(429, "too-many-inflight");
    assert!(full.header("retry-after").is_some());
    server.settle("workers", &json!([{"receipt": leases[0]["receipt"], "op": "ack"}]));
    assert_eq!(server.lease("workers", &json!({"max_messages": 5})).len(), 1);
}
