//! Any node answers any call, and sees at once what was written at another.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::HOME;
use super::nodes::{Cluster, NODES};
use super::whole::number;
use crate::http::Connection;
use crate::server::T;

/// How often a change at one node must be seen by the next call at another.
const TURNS: usize = 12;
const LINES: (&str, &str) = ("Accept", "application/x-ndjson");

#[test]
fn any_node_answers_any_call() {
    let cluster = Cluster::start();
    messages(&cluster);
    idempotency_and_delay(&cluster);
    transactions(&cluster);
    configuration(&cluster);
    bindings(&cluster);
    tenants_and_tickets(&cluster);
    streams(&cluster);
    long_polls(&cluster);
    transfer(&cluster);
}

fn publish(cluster: &Cluster, node: u32, topic: &str, headers: &[(&str, &str)], body: &str) -> Value {
    let mut all = vec![("Content-Type", "text/plain")];
    all.extend_from_slice(headers);
    let answer = cluster.call(node, "POST", &format!("{T}/topics/{topic}/messages"), &all, body.as_bytes());
    assert!(matches!(answer.status, 200 | 201), "node {node}: {answer}");
    answer.json()
}

fn lease(cluster: &Cluster, node: u32, group: &str, body: &Value) -> Vec<Value> {
    let answer = cluster.json(node, "POST", &format!("{T}/groups/{group}/leases"), body).expect(200);
    answer["leases"].as_array().expect("leases").clone()
}

fn settle(cluster: &Cluster, node: u32, group: &str, lease: &Value) -> Value {
    let body = json!({"items": [{"receipt": lease["receipt"], "op": "ack"}]});
    let answer = cluster.json(node, "POST", &format!("{T}/groups/{group}/settle"), &body);
    answer.json()["results"][0]["status"].clone()
}

fn messages(cluster: &Cluster) {
    cluster.json(1, "PUT", &format!("{T}/topics/orders"), &json!({"queues": 2})).expect(201);
    let group = json!({"topics": [{"topic": "orders"}], "start": "earliest"});
    cluster.json(2, "PUT", &format!("{T}/groups/workers"), &group).expect(201);
    let receipt = publish(cluster, 2, "orders", &[("Pm-Tag", "paid")], "first");
    let leases = lease(cluster, 3, "workers", &json!({"wait_ms": 2_000}));
    assert_eq!((leases.len(), &leases[0]["message"]["id"]), (1, &receipt["id"]));
    assert_eq!(settle(cluster, 1, "workers", &leases[0]), "settled");
    assert_eq!(settle(cluster, 2, "workers", &leases[0]), "already-settled");
    let id = receipt["id"].as_str().expect("an id");
    for node in NODES {
        let message = cluster.get(node, &format!("{T}/messages/{id}")).expect(200);
        assert_eq!((&message["data"], &message["tag"]), (&json!("first"), &json!("paid")), "node {node}");
        let payload = cluster.get(node, &format!("{T}/messages/{id}/payload"));
        assert_eq!((payload.status, &payload.body[..]), (200, &b"first"[..]), "node {node}");
        let explained = cluster.get(node, &format!("{T}/messages/{id}/explain?group=workers")).expect(200);
        assert_eq!(explained["id"], receipt["id"], "node {node}");
        let lag = cluster.get(node, &format!("{T}/groups/workers/lag")).expect(200);
        assert_eq!(lag["total"], "0", "node {node}");
        cluster.get(node, &format!("{T}/topics/nowhere")).expect_problem(404, "topic-not-found");
        cluster.get(node, "/v1/tenants/nobody/topics/orders").expect_problem(404, "tenant-not-found");
        let bad = cluster.call(node, "POST", &format!("{T}/topics/orders/messages"), &[("Pm-Queue", "9")], b"x");
        bad.expect_problem(400, "invalid-request");
    }
}

fn idempotency_and_delay(cluster: &Cluster) {
    let first = publish(cluster, 1, "orders", &[("Idempotency-Key", "one")], "once");
    for node in NODES {
        let again = publish(cluster, node, "orders", &[("Idempotency-Key", "one")], "once");
        assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)), "node {node}");
        let told = cluster.get(node, &format!("{T}/topics/orders/publishes/one")).expect(200);
        assert_eq!((&told["state"], &told["result"]["offset"]), (&json!("committed"), &first["offset"]));
    }
    let delayed = publish(cluster, 2, "orders", &[("Pm-Delay-Ms", "600000")], "later");
    let id = delayed["id"].as_str().expect("an id");
    assert_eq!(cluster.get(3, &format!("{T}/scheduled/{id}")).expect(200)["id"], id);
    cluster.call(1, "DELETE", &format!("{T}/scheduled/{id}"), &[], b"").expect(204);
    assert_eq!(cluster.get(2, &format!("{T}/scheduled/{id}")).status, 404);
    let soon = publish(cluster, 3, "orders", &[("Pm-Delay-Ms", "300")], "soon");
    let id = soon["id"].as_str().expect("an id");
    let start = Instant::now();
    while cluster.get(1, &format!("{T}/messages/{id}")).expect(200)["offset"].is_null() {
        assert!(start.elapsed() < Duration::from_secs(10), "the timer does not fire");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn transactions(cluster: &Cluster) {
    let prepared = cluster.call(1, "POST", &format!("{T}/topics/orders/transactions"), &[], b"half").expect(201);
    let id = prepared["transaction"].as_str().expect("an id");
    assert_eq!(cluster.get(2, &format!("{T}/transactions/{id}")).expect(200)["state"], "prepared");
    cluster.call(2, "POST", &format!("{T}/transactions/{id}/commit"), &[], b"").expect(200);
    for node in NODES {
        assert_eq!(cluster.get(node, &format!("{T}/transactions/{id}")).expect(200)["state"], "committed");
        let opposite = cluster.call(node, "POST", &format!("{T}/transactions/{id}/rollback"), &[], b"");
        opposite.expect_problem(409, "transaction-resolved");
    }
}

/// A topic changed at one node is judged so by the next publish at another.
fn configuration(cluster: &Cluster) {
    for turn in 0..TURNS {
        let (writer, reader) = (NODES[turn % 3], NODES[(turn + 1 + turn / 3 % 2) % 3]);
        let most = if turn % 2 == 0 { 8 } else { 64 };
        let put = cluster.json(writer, "PUT", &format!("{T}/topics/sized"), &json!({"max_message_bytes": most}));
        assert!(matches!(put.status, 200 | 201), "{put}");
        let answer = cluster.call(reader, "POST", &format!("{T}/topics/sized/messages"), &[], &[b'x'; 32]);
        let expected = if most == 8 { 413 } else { 201 };
        assert_eq!(answer.status, expected, "turn {turn}, written at {writer}, published at {reader}: {answer}");
        let read = cluster.get(reader, &format!("{T}/topics/sized"));
        assert_eq!((read.header("etag"), &read.json()["max_message_bytes"]), (put.header("etag"), &json!(most)));
    }
}

/// A binding changed at one node judges the next publish at another.
fn bindings(cluster: &Cluster) {
    cluster.json(2, "PUT", &format!("{T}/topics/judged"), &json!({"queues": 1})).expect(201);
    let version = cluster.get(3, &format!("{T}/plugins/builtin/fingerprint")).expect(200)["latest"].clone();
    let binding = json!({"slot": "dedup", "topic": "judged", "plugin": "builtin/fingerprint", "version": version});
    for turn in 0..TURNS {
        let node = |step: usize| NODES[(turn + step) % 3];
        let body = format!("the same {turn}");
        let put = cluster.json(node(0), "PUT", &format!("{T}/bindings/once"), &binding);
        assert_eq!(put.status, 201, "{put}");
        assert_eq!(publish(cluster, node(1), "judged", &[], &body)["duplicate"], false, "turn {turn}");
        assert_eq!(publish(cluster, node(2), "judged", &[], &body)["duplicate"], true, "turn {turn}");
        cluster.call(node(1), "DELETE", &format!("{T}/bindings/once"), &[], b"").expect(204);
        assert_eq!(publish(cluster, node(2), "judged", &[], &body)["duplicate"], false, "turn {turn}");
    }
}

fn tenants_and_tickets(cluster: &Cluster) {
    for (n, name) in ["acme", "globex", "initech"].into_iter().enumerate() {
        let node = |step: usize| NODES[(n + step) % 3];
        cluster.json(node(0), "PUT", &format!("/v1/tenants/{name}"), &json!({})).expect(201);
        cluster.json(node(1), "PUT", &format!("/v1/tenants/{name}/topics/t"), &json!({})).expect(201);
        let path = format!("/v1/tenants/{name}/topics/t/messages");
        cluster.call(node(2), "POST", &path, &[], b"x").expect(201);
        let in_use = cluster.call(node(1), "DELETE", &format!("/v1/tenants/{name}"), &[], b"");
        in_use.expect_problem(409, "in-use");
        let token =
            cluster.json(node(1), "POST", &format!("/v1/tenants/{name}/tokens"), &json!({"scopes": ["publish:*"]}));
        let token = token.expect(201);
        let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
        let headers = [("Authorization", bearer.as_str())];
        cluster.call(node(2), "POST", &path, &headers, b"x").expect(201);
        cluster
            .call(node(0), "POST", &format!("{T}/topics/orders/messages"), &headers, b"x")
            .expect_problem(404, "tenant-not-found");
        let revoke = format!("/v1/tenants/{name}/tokens/{}", token["id"].as_str().expect("an id"));
        cluster.call(node(0), "DELETE", &revoke, &[], b"").expect(204);
        cluster.call(node(2), "POST", &path, &headers, b"x").expect_problem(401, "token-revoked");
    }
    let path = format!("{T}/topics/orders/stream");
    let ticket = cluster.json(1, "POST", &format!("{T}/stream-tickets"), &json!({"path": path})).expect(201);
    let ticket = ticket["ticket"].as_str().expect("a ticket");
    let open = format!("{path}?from=earliest&until=tail&ticket={ticket}");
    assert_eq!(cluster.call(2, "GET", &open, &[LINES], b"").status, 200, "a ticket of another node");
    assert_eq!(cluster.call(3, "GET", &open, &[LINES], b"").status, 401, "once");
}

/// Messages and cursors of a stream that ends by itself.
fn read(cluster: &Cluster, node: u32, query: &str) -> Vec<(String, String)> {
    let answer = cluster.call(node, "GET", &format!("{T}/topics/lines/stream?{query}"), &[LINES], b"");
    assert_eq!(answer.status, 200, "{answer}");
    let text = String::from_utf8(answer.body).expect("UTF-8");
    let lines = text.lines().filter(|line| !line.is_empty());
    let events = lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let word = |value: &Value| value.as_str().expect("text").to_owned();
    events.filter(|e| e["event"] == "message").map(|e| (word(&e["data"]["data"]), word(&e["id"]))).collect()
}

fn streams(cluster: &Cluster) {
    cluster.json(1, "PUT", &format!("{T}/topics/lines"), &json!({"queues": 3})).expect(201);
    for n in 0..30 {
        publish(cluster, NODES[n % 3], "lines", &[], &format!("m{n}"));
    }
    let expected: Vec<String> = (0..30).map(|n| format!("m{n}")).collect();
    let first = read(cluster, 3, "from=earliest&max_events=10&max_ms=10000");
    assert_eq!(first.len(), 10);
    let (_, cursor) = &first[9];
    let rest = read(cluster, 1, &format!("last_event_id={cursor}&max_events=20&max_ms=10000"));
    let all: Vec<&String> = first.iter().chain(&rest).map(|(body, _)| body).collect();
    assert_eq!(all, expected.iter().collect::<Vec<_>>(), "read at 3, resumed at 1");
}

/// A long poll at one node gets what is published at another, and dies with its client.
fn long_polls(cluster: &Cluster) {
    cluster.json(1, "PUT", &format!("{T}/topics/polled"), &json!({"queues": 1})).expect(201);
    let group = json!({"topics": [{"topic": "polled"}], "start": "earliest"});
    cluster.json(1, "PUT", &format!("{T}/groups/pollers"), &group).expect(201);
    let ask = json!({"wait_ms": 20_000});
    for node in NODES {
        std::thread::scope(|scope| {
            let start = Instant::now();
            let poll = scope.spawn(|| lease(cluster, node, "pollers", &ask));
            std::thread::sleep(Duration::from_millis(300));
            publish(cluster, NODES[node as usize % 3], "polled", &[], "wakes");
            let leases = poll.join().expect("a poll");
            assert_eq!(leases.len(), 1, "node {node}");
            assert!(start.elapsed() < Duration::from_secs(10), "node {node}: {:?}", start.elapsed());
            assert_eq!(settle(cluster, node, "pollers", &leases[0]), "settled");
        });
        let mut gone = Connection::open(cluster.address(node)).expect("connect");
        let path = format!("{T}/groups/pollers/leases");
        let body = ask.to_string();
        gone.send("POST", &path, &[("Content-Type", "application/json")], body.as_bytes()).expect("send");
        std::thread::sleep(Duration::from_millis(300));
        drop(gone);
        std::thread::sleep(Duration::from_millis(700));
        publish(cluster, 1, "polled", &[], "is for who is there");
        let leases = lease(cluster, NODES[node as usize % 3], "pollers", &json!({"wait_ms": 3_000}));
        assert_eq!(leases.len(), 1, "a poll whose client hung up at node {node} took the message");
        assert_eq!(
            (&leases[0]["attempt"], settle(cluster, node, "pollers", &leases[0])),
            (&json!(1), json!("settled"))
        );
    }
}

/// The leader of a shard moves where it is asked to, and every node knows.
fn transfer(cluster: &Cluster) {
    let (leader, term) = cluster.leader(HOME);
    let to = leader % 3 + 1;
    let asked =
        cluster.json(leader % 3 + 1, "POST", &format!("/v1/cluster/shards/{HOME}/transfer"), &json!({"node": to}));
    assert_eq!(number(&asked.expect(200)["leader"]), Some(u64::from(to)));
    let (now, later) = cluster.leader(HOME);
    assert!(now == to && later > term, "asked for {to}, {now} leads; term {term}, then {later}");
    for node in NODES {
        publish(cluster, node, "orders", &[], "after the transfer");
        let queues = cluster.get(node, &format!("{T}/topics/orders/queues")).expect(200);
        assert_eq!(queues["items"][0]["leader"], to, "node {node}");
    }
}
