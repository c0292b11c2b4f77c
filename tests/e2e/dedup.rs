//! Publishing the same again: over every form, at once, over kills, past the window, by a plugin's word.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Answer, Connection};
use crate::server::{Server, T};

fn publish(server: &Server, key: &str, body: &str) -> Answer {
    server.call("POST", &format!("{T}/topics/orders/messages"), &[("Idempotency-Key", key)], body.as_bytes())
}

fn state_of(server: &Server, key: &str) -> Value {
    server.get(&format!("{T}/topics/orders/publishes/{key}")).expect(200)
}

fn stored(server: &Server) -> u64 {
    let queues = server.get(&format!("{T}/topics/orders/queues")).expect(200);
    let latest = |queue: &Value| queue["latest"].as_str().expect("latest").parse::<u64>().expect("a number");
    queues["items"].as_array().expect("items").iter().map(latest).sum()
}

#[test]
fn a_duplicate_answers_the_original_and_other_bytes_are_refused() {
    let server = Server::start();
    server.topic("orders", &json!({}));
    let first = publish(&server, "k", "body").expect(201);
    let again = publish(&server, "k", "body").expect(200);
    assert_eq!((&again["id"], &again["offset"], &again["queue"]), (&first["id"], &first["offset"], &first["queue"]));
    assert_eq!((&first["duplicate"], &again["duplicate"]), (&json!(false), &json!(true)));
    publish(&server, "k", "other").expect_problem(422, "idempotency-mismatch");
    assert_eq!(stored(&server), 1);

    let batch = json!({"messages": [{"data": "a"}, {"data": "a"}, {"data": "b", "idempotency_key": "k"}]});
    let headers = [("Content-Type", "application/vnd.pointsman.batch+json"), ("Idempotency-Key", "call")];
    let path = format!("{T}/topics/orders/messages");
    for (status, duplicate) in [(201, false), (200, true)] {
        let answer = server.call("POST", &path, &headers, batch.to_string().as_bytes()).expect(207);
        for i in [0, 1] {
            let result = &answer["results"][i];
            assert_eq!((&result["status"], &result["duplicate"]), (&json!(status), &json!(duplicate)));
        }
        assert_eq!(answer["results"][2]["problem"]["code"], "idempotency-mismatch");
    }
    assert_eq!(stored(&server), 3);
    assert_eq!(state_of(&server, "call%2F1")["state"], "committed");
    let metrics = server.get("/metrics");
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(text.lines().any(|line| line == "pointsman_publish_duplicates_total 3"), "{text}");
}

#[test]
fn of_a_hundred_at_once_one_is_stored() {
    let server = Server::start();
    server.topic("orders", &json!({}));
    let (connections, rounds) = (100, 5);
    for round in 0..rounds {
        let together = Arc::new(Barrier::new(connections));
        let key = format!("round-{round}");
        let calls: Vec<_> = (0..connections)
            .map(|_| {
                let (address, key, together) = (server.address().to_owned(), key.clone(), Arc::clone(&together));
                std::thread::spawn(move || {
                    let mut connection = Connection::open(&address).expect("connects");
                    together.wait();
                    let path = format!("{T}/topics/orders/messages");
                    connection.call("POST", &path, &[("Idempotency-Key", &key)], b"body").expect("an answer")
                })
            })
            .collect();
        let answers: Vec<_> = calls.into_iter().map(|call| call.join().expect("no panic")).collect();
        let winners = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(winners, 1, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
        let id = answers[0].json()["id"].clone();
        for answer in &answers {
            let receipt = answer.json();
            assert_eq!((&receipt["id"], &receipt["duplicate"]), (&id, &json!(answer.status == 200)));
        }
    }
    assert_eq!(stored(&server), rounds);
}

#[test]
fn a_kill_forgets_no_key() {
    let mut server = Server::start_with(&["segment_bytes=1048576"]);
    server.topic("orders", &json!({"queues": 2}));
    let mut receipts: Vec<Value> = Vec::new();
    for round in 0..3 {
        for n in 0..40 {
            let body = format!("{round}-{n} {}", "x".repeat(8 << 10));
            receipts.push(publish(&server, &format!("{round}-{n}"), &body).expect(201));
        }
        publish(&server, &format!("{round}-0"), "other").expect_problem(422, "idempotency-mismatch");
        server.kill();
        server.restart();
        for (i, first) in receipts.iter().enumerate() {
            let (round, n) = (i / 40, i % 40);
            let again = publish(&server, &format!("{round}-{n}"), &format!("{round}-{n} {}", "x".repeat(8 << 10)));
            let mut expected = first.clone();
            expected["duplicate"] = json!(true);
            assert_eq!(again.expect(200), expected);
        }
        assert_eq!(stored(&server), receipts.len() as u64);
    }
    let expected = json!({"state": "absent", "result": null});
    assert_eq!(state_of(&server, "never"), expected);
    assert_eq!(state_of(&server, "2-39")["result"]["id"], receipts[119]["id"]);
    // What was refused as a duplicate is no message, also for who walks the log at the start.
    let read = server.get(&format!("{T}/topics/orders/messages?queue=0&offset=0&limit=1000")).expect(200);
    let ids: Vec<_> = read["items"].as_array().expect("items").iter().map(|item| item["id"].clone()).collect();
    let of_queue: Vec<_> = receipts.iter().filter(|r| r["queue"] == 0).map(|r| r["id"].clone()).collect();
    assert_eq!(ids, of_queue);
}

#[test]
fn after_its_window_a_key_is_a_new_message() {
    let mut server = Server::start();
    server.topic("orders", &json!({"dedup_window_ms": 1500}));
    let start = Instant::now();
    let first = publish(&server, "k", "a").expect(201);
    assert_eq!(publish(&server, "k", "a").expect(200)["id"], first["id"]);
    server.kill();
    server.restart();
    while start.elapsed() < Duration::from_millis(1_600) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(state_of(&server, "k")["state"], "absent");
    let second = publish(&server, "k", "b").expect(201);
    assert_ne!(second["id"], first["id"]);
    assert_eq!(stored(&server), 2);
}

#[test]
fn a_plugin_of_the_topic_names_the_key() {
    let server = Server::start();
    server.topic("orders", &json!({}));
    let version = server.get(&format!("{T}/plugins/builtin/fingerprint")).expect(200)["latest"].clone();
    let binding = json!({"slot": "dedup", "topic": "orders", "plugin": "builtin/fingerprint", "version": version});
    server.json("PUT", &format!("{T}/bindings/once"), &binding).expect(201);
    let path = format!("{T}/topics/orders/messages");
    let first = server.call("POST", &path, &[], b"same").expect(201);
    let again = server.call("POST", &path, &[], b"same").expect(200);
    assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)));
    server.call("POST", &path, &[], b"other").expect(201);
    assert_eq!(publish(&server, "k", "same").expect(201)["duplicate"], false, "the producer's word comes first");
    assert_eq!(stored(&server), 3);
}

#[test]
fn the_command_line_publishes_once_and_asks() {
    let server = Server::start();
    server.topic("orders", &json!({}));
    for (n, duplicate) in [(0, false), (1, true)] {
        let (code, out, error) = server.cli(&["publish", "orders", "x", "--idempotency-key", "k", "--json"]);
        assert_eq!(code, Some(0), "{error}");
        let receipt: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(receipt["duplicate"], duplicate, "call {n}");
    }
    let (code, out, _) = server.cli(&["publish", "orders", "x", "--idempotency-key", "k"]);
    assert!(code == Some(0) && out.contains("a duplicate"), "{out}");
    let (code, out, error) = server.cli(&["publish", "orders", "y", "--idempotency-key", "k"]);
    assert!(code == Some(1) && error.contains("idempotency"), "{out} {error}");
    let (code, out, _) = server.cli(&["published", "orders", "k"]);
    assert!(code == Some(0) && out.starts_with("committed\n"), "{out}");
    let (_, out, _) = server.cli(&["published", "orders", "never", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON"), json!({"state": "absent", "result": null}));
    assert_eq!(stored(&server), 1);
}
