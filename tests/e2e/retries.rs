//! Retries, dead letters and the way back, under a scaled table, with the process killed midway.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Server, T};

fn start(max_retries: u16) -> Server {
    let server = Server::start_with(&["time_scale=0.0002"]);
    server.topic("orders", &json!({"queues": 1}));
    let group = json!({"topics": [{"topic": "orders"}], "start": "earliest", "max_retries": max_retries});
    server.group("workers", &group);
    server
}

fn dlq(server: &Server) -> Vec<Value> {
    let list = server.get(&format!("{T}/groups/workers/dlq")).expect(200);
    list["items"].as_array().expect("items").clone()
}

fn item(lease: &Value, op: &str) -> Value {
    json!({"receipt": lease["receipt"], "op": op})
}

#[test]
fn seventeen_deliveries_through_kills_then_the_dead_letter_queue_then_redriven() {
    let mut server = start(16);
    let poison = server.publish("orders", &[], "poison")["id"].clone();
    let good = server.publish("orders", &[], "good")["id"].clone();
    let mut deliveries: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let (mut kills, started) = (0, Instant::now());
    while dlq(&server).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(120), "{deliveries:?}");
        for lease in server.lease("workers", &json!({"wait_ms": 1000, "client_id": "c"})) {
            let id = lease["message"]["id"].as_str().expect("id").to_owned();
            let attempt = lease["attempt"].as_u64().expect("attempt");
            deliveries.entry(id.clone()).or_default().push(attempt);
            let op = if json!(id) == poison { "nack" } else { "ack" };
            assert_eq!(server.settle("workers", &json!([item(&lease, op)])), ["settled"]);
            // What was answered is in the log: a kill after it neither loses nor repeats an attempt.
            if op == "nack" && (attempt == 3 || attempt == 11) {
                server.kill();
                server.restart();
                kills += 1;
            }
        }
    }
    assert_eq!(kills, 2);
    assert_eq!(deliveries[poison.as_str().expect("id")], (1..=17).collect::<Vec<_>>());
    assert_eq!(deliveries[good.as_str().expect("id")], [1]);
    std::thread::sleep(Duration::from_secs(2));
    assert!(server.lease("workers", &json!({})).is_empty(), "none extra");

    server.kill();
    server.restart();
    let dead = dlq(&server);
    assert_eq!(dead.len(), 1);
    assert_eq!((&dead[0]["id"], &dead[0]["reason"]), (&poison, &json!("attempts-exhausted")));
    let history = dead[0]["history"].as_array().expect("history");
    assert_eq!(history.len(), 17);
    for (at, ended) in history.iter().enumerate() {
        assert_eq!((&ended["attempt"], &ended["outcome"]), (&json!(at + 1), &json!("nack")));
        assert_eq!(ended["client_id"], "c");
    }
    assert_eq!(dead[0]["origin"], json!({"topic": "orders", "queue": 0, "offset": "0"}));

    let redrive = |server: &Server| server.json("POST", &format!("{T}/groups/workers/dlq/redrive"), &json!({}));
    let ids = json!({"ids": [poison]});
    assert_eq!(redrive(&server).expect(200)["redriven"], 1);
    server.kill();
    server.restart();
    let again = server.json("POST", &format!("{T}/groups/workers/dlq/redrive"), &ids).expect(200);
    assert_eq!(again["results"], json!([{"id": poison, "status": "already-redriven"}]), "a repeat after a crash");
    let lease = server.lease("workers", &json!({"wait_ms": 5000})).remove(0);
    assert_eq!((&lease["attempt"], &lease["message"]["id"]), (&json!(1), &poison));
    assert_eq!(server.settle("workers", &json!([item(&lease, "ack")])), ["settled"]);
    assert!(dlq(&server).is_empty());
}

#[test]
fn an_expiry_under_way_at_a_kill_counts_once() {
    let mut server = start(1);
    server.publish("orders", &[], "x");
    assert_eq!(server.lease("workers", &json!({"lease_ms": 300})).len(), 1);
    server.kill();
    server.restart();
    // The lease died with its leader: the same attempt is given again, and that is the one more the contract allows.
    let first = server.lease("workers", &json!({"lease_ms": 100, "wait_ms": 5000})).remove(0);
    assert_eq!(first["attempt"], 1);
    let second = server.lease("workers", &json!({"lease_ms": 100, "wait_ms": 5000})).remove(0);
    assert_eq!(second["attempt"], 2);
    let started = Instant::now();
    while dlq(&server).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(50));
    }
    let outcomes: Vec<_> = dlq(&server)[0]["history"].as_array().expect("history").clone();
    assert!(outcomes.iter().all(|ended| ended["outcome"] == "expired"), "{outcomes:?}");
    assert_eq!(server.settle("workers", &json!([item(&second, "ack")])), ["lease-expired"]);
}

#[test]
fn a_policy_of_ones_own_gives_up_at_once_and_the_command_line_brings_back() {
    let server = start(16);
    let id = server.publish("orders", &[("Pm-Tag", "a")], "x")["id"].as_str().expect("id").to_owned();
    let lease = server.lease("workers", &json!({})).remove(0);
    let mut dead = item(&lease, "dead-letter");
    dead["reason"] = json!("cannot be read");
    assert_eq!(server.settle("workers", &json!([dead])), ["settled"]);
    let (code, out, err) = server.cli(&["dlq", "list", "workers", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let list: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&list["items"][0]["id"], &list["items"][0]["reason"]), (&json!(id), &json!("cannot be read")));
    let (code, out, _) = server.cli(&["dlq", "get", "workers", &id]);
    assert_eq!(code, Some(0));
    assert!(out.contains("dead-letter"), "{out}");
    let (code, out, _) = server.cli(&["dlq", "redrive", "workers", "--dry-run", "--json"]);
    let dry: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &dry["redriven"], &dry["dry_run"]), (Some(0), &json!(1), &json!(true)));
    let (code, out, _) = server.cli(&["dlq", "redrive", "workers", "--tags", "a", "--to-topic"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("redriven"), "{out}");
    let lease = server.lease("workers", &json!({"wait_ms": 5000})).remove(0);
    assert_ne!(lease["message"]["id"], json!(id), "a new message");
    assert_eq!((&lease["message"]["data"], &lease["attempt"]), (&json!("x"), &json!(1)));
    let (code, _, err) = server.cli(&["dlq", "delete", "workers", &id]);
    assert_eq!(code, Some(1), "it left: {err}");
}
