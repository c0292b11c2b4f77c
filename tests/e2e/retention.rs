//! Retention: old messages go from queues and disk, over kills; what is owed stays.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Server, T};

const MESSAGES: usize = 160;
const BODY_BYTES: usize = 64 << 10;

/// Bytes of the data shard's segments on disk.
fn log_bytes(data: &Path) -> u64 {
    let files = std::fs::read_dir(data.join("shards/1/log")).expect("the log");
    files.map(|file| file.and_then(|file| file.metadata()).map_or(0, |metadata| metadata.len())).sum()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Leases until a message with this payload comes.
fn lease_of(server: &Server, body: &str) -> Value {
    let started = Instant::now();
    loop {
        let leases = server.lease("workers", &json!({"wait_ms": 500, "max_messages": 100}));
        for lease in &leases {
            if lease["message"]["data"] == body {
                return lease.clone();
            }
            server.settle("workers", &json!([{"receipt": lease["receipt"], "op": "ack"}]));
        }
        assert!(started.elapsed() < Duration::from_secs(60), "`{body}` does not come");
    }
}

fn stream(server: &Server, query: &str, headers: &[(&str, &str)]) -> String {
    let mut all = vec![("Accept", "text/event-stream")];
    all.extend_from_slice(headers);
    let answer = server.call("GET", &format!("{T}/topics/orders/stream?{query}"), &all, b"");
    assert_eq!(answer.status, 200, "{answer}");
    String::from_utf8(answer.body).expect("UTF-8")
}

#[test]
fn old_messages_go_from_queues_and_disk_and_what_is_owed_stays() {
    let mut server = Server::start_with(&["segment_bytes=1048576", "time_scale=0.01"]);
    server.topic("orders", &json!({"queues": 1, "retention_ms": 4000}));
    server.group("workers", &json!({"topics": [{"topic": "orders"}], "start": "earliest"}));

    // Owed: a dead letter, and a message that comes when its segment is long gone.
    server.publish("orders", &[], "poison");
    let poison = lease_of(&server, "poison");
    let item = json!([{"receipt": poison["receipt"], "op": "dead-letter"}]);
    assert_eq!(server.settle("workers", &item), ["settled"]);
    let delayed = server.publish("orders", &[("Pm-Delay-Ms", "25000")], "delayed")["id"].clone();
    let first = stream(&server, "from=earliest&max_events=1", &[]);
    let cursor = first.lines().find_map(|line| line.strip_prefix("id:")).expect("a cursor").trim().to_owned();

    let body = "x".repeat(BODY_BYTES);
    for _ in 0..MESSAGES {
        server.publish("orders", &[], &body);
    }
    let peak = log_bytes(server.data());
    assert!(peak > (MESSAGES * BODY_BYTES) as u64, "{peak}");

    let at = |server: &Server, offset: u64| server.get(&format!("{T}/topics/orders/messages?queue=0&offset={offset}"));
    let at_zero = |server: &Server| at(server, 0);
    // More than the one that the cursor is behind.
    until("the first messages expire", || at(&server, 5).status == 410);
    let problem = at_zero(&server).expect_problem(410, "offset-expired");
    assert!(problem["earliest"].as_str().expect("earliest").parse::<u64>().expect("a number") > 0);
    let resumed = stream(&server, "until=tail", &[("Last-Event-ID", &cursor)]);
    let gap = resumed.split("\n\n").find(|event| event.contains("event: gap") || event.contains("event:gap"));
    assert!(gap.is_some_and(|gap| gap.contains("\"retention\"")), "{}", &resumed[..resumed.len().min(600)]);
    until("segments go", || log_bytes(server.data()) < peak / 2);

    // Over a kill the rest is there, the gone stays gone, and offsets go on.
    server.kill();
    server.restart();
    assert_eq!(at_zero(&server).status, 410);
    let receipt = server.publish("orders", &[], "after");
    assert_eq!(receipt["offset"], (MESSAGES + 1).to_string());
    assert!(log_bytes(server.data()) < peak / 2);

    let redriven = server.json("POST", &format!("{T}/groups/workers/dlq/redrive"), &json!({})).expect(200);
    assert!(redriven.to_string().contains("redriven"), "{redriven}");
    assert_eq!(lease_of(&server, "poison")["message"]["id"], poison["message"]["id"]);
    assert_eq!(lease_of(&server, "delayed")["message"]["id"], delayed);
}
