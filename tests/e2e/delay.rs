//! Delayed messages: on time, changed, cancelled, over kills and restarts, by every reader under one id.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Server, T};

fn server() -> Server {
    let server = Server::start_with(&["time_scale=0.01"]);
    server.topic("orders", &json!({"queues": 1}));
    server.group("workers", &json!({"topics": [{"topic": "orders"}], "start": "earliest"}));
    server
}

fn id(receipt: &Value) -> String {
    receipt["id"].as_str().expect("an id").to_owned()
}

fn bodies(leases: &[Value]) -> Vec<&str> {
    leases.iter().map(|lease| lease["message"]["data"].as_str().expect("text")).collect()
}

/// Ids of the events of a stream up to its tail.
fn streamed(server: &Server) -> Vec<String> {
    let path = format!("{T}/topics/orders/stream?from=earliest&until=tail");
    let answer = server.call("GET", &path, &[("Accept", "application/x-ndjson")], b"");
    assert_eq!(answer.status, 200, "{answer}");
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["event"] == "message").map(|event| id(&event["data"])).collect()
}

#[test]
fn it_comes_on_time_and_every_reader_sees_the_same_id() {
    let server = server();
    let start = Instant::now();
    let receipt = server.publish("orders", &[("Pm-Delay-Ms", "700"), ("Pm-Key", "k")], "late");
    let id = id(&receipt);
    assert!(receipt["deliver_at"].is_string() && receipt["queue"].is_null() && receipt["offset"].is_null());
    assert_eq!(server.get(&format!("{T}/messages/{id}")).expect(200)["deliver_at"], receipt["deliver_at"]);
    assert!(server.lease("workers", &json!({})).is_empty());
    assert_eq!(server.get(&format!("{T}/topics/orders/messages?key=k")).expect(200)["items"], json!([]));
    assert_eq!(streamed(&server), Vec::<String>::new());

    let leases = server.lease("workers", &json!({"wait_ms": 10_000}));
    let waited = start.elapsed();
    assert_eq!(bodies(&leases), ["late"]);
    assert!(waited >= Duration::from_millis(700), "early: {waited:?}");
    assert!(waited < Duration::from_millis(1_700), "more than a second late: {waited:?}");
    let message = &leases[0]["message"];
    assert_eq!(message["id"], id.as_str());
    assert!(message["stored_at"].as_str() >= receipt["deliver_at"].as_str(), "by its own store time too");
    assert_eq!(server.get(&format!("{T}/messages/{id}")).expect(200), *message);
    assert_eq!(server.get(&format!("{T}/topics/orders/messages?key=k")).expect(200)["items"][0]["id"], id.as_str());
    assert_eq!(streamed(&server), std::slice::from_ref(&id));
    let gone = server.json("PATCH", &format!("{T}/scheduled/{id}"), &json!({"delay_ms": 1}));
    assert_eq!((gone.status, &gone.json()["code"]), (409, &json!("already-delivered")));
}

#[test]
fn levels_are_scaled_and_come_in_their_order() {
    let server = server();
    let start = Instant::now();
    // 30 s, 5 s and 10 s at a hundredth.
    for (level, body) in [("4", "c"), ("2", "a"), ("3", "b")] {
        server.publish("orders", &[("Pm-Delay-Level", level)], body);
    }
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let leases = server.lease("workers", &json!({"wait_ms": 10_000}));
        assert!(!leases.is_empty(), "{seen:?}");
        seen.extend(bodies(&leases).into_iter().map(str::to_owned));
    }
    assert_eq!(seen, ["a", "b", "c"]);
    assert!(start.elapsed() >= Duration::from_millis(300));
    let refused = server.call("POST", &format!("{T}/topics/orders/messages"), &[("Pm-Delay-Level", "19")], b"x");
    assert_eq!(refused.status, 400, "{refused}");
}

#[test]
fn cancelled_is_never_and_changed_is_then() {
    let server = server();
    let cancelled = id(&server.publish("orders", &[("Pm-Delay-Ms", "300")], "cancelled"));
    let sooner = id(&server.publish("orders", &[("Pm-Delay-Ms", "3600000")], "sooner"));
    let later = id(&server.publish("orders", &[("Pm-Delay-Ms", "300")], "later"));
    let list = server.get(&format!("{T}/topics/orders/scheduled")).expect(200);
    let ids: Vec<_> = list["items"].as_array().expect("items").iter().map(id).collect();
    assert_eq!(ids, [cancelled.clone(), later.clone(), sooner.clone()], "the earliest first");
    assert_eq!(server.call("DELETE", &format!("{T}/scheduled/{cancelled}"), &[], b"").status, 204);
    assert_eq!(server.get(&format!("{T}/messages/{cancelled}")).status, 404);
    server.json("PATCH", &format!("{T}/scheduled/{sooner}"), &json!({"delay_ms": 400})).expect(200);
    server.json("PATCH", &format!("{T}/scheduled/{later}"), &json!({"deliver_at": "2001-01-01T00:00:00Z"})).expect(200);
    for body in ["later", "sooner"] {
        assert_eq!(bodies(&server.lease("workers", &json!({"wait_ms": 5_000}))), [body]);
    }
    assert!(server.lease("workers", &json!({"wait_ms": 600})).is_empty(), "the cancelled one stays away");
}

#[test]
fn kills_lose_no_timer_and_a_restart_longer_than_the_delay_delivers() {
    let mut server = server();
    let mut ids = Vec::new();
    for i in 0..20 {
        ids.push(id(&server.publish("orders", &[("Pm-Delay-Ms", "500")], &format!("short {i}"))));
    }
    let long = id(&server.publish("orders", &[("Pm-Delay-Ms", "3600000")], "long"));
    server.kill();
    std::thread::sleep(Duration::from_millis(1_000));
    server.restart();
    let mut seen = Vec::new();
    while seen.len() < ids.len() {
        let leases = server.lease("workers", &json!({"wait_ms": 5_000, "max_messages": 100}));
        assert!(!leases.is_empty(), "{} of {} came", seen.len(), ids.len());
        seen.extend(leases.iter().map(|lease| id(&lease["message"])));
    }
    // Killed right after the delivery: what was fired is not fired again.
    server.kill();
    server.restart();
    assert_eq!(streamed(&server), ids, "each once, in the order they were due");
    seen.sort();
    ids.sort();
    assert_eq!(seen, ids);
    let waiting = server.get(&format!("{T}/topics/orders/scheduled")).expect(200);
    assert_eq!(waiting["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(id(&waiting["items"][0]), long);
}

#[test]
fn a_schedule_survives_a_kill() {
    let mut server = server();
    let arguments = ["schedule", "put", "report", "--cron", "0 0 1 1 *", "--topic", "orders", "--data", r#"{"n":1}"#];
    let (code, out, error) = server.cli(&arguments);
    assert!(code == Some(0) && out.contains("NEXT_AT"), "{out}{error}");
    let before = server.get(&format!("{T}/schedules/report")).expect(200);
    assert_eq!((&before["timezone"], &before["message"]["data"]), (&json!("UTC"), &json!({"n": 1})));
    server.kill();
    server.restart();
    assert_eq!(server.get(&format!("{T}/schedules/report")).expect(200), before);
    assert_eq!(server.get(&format!("{T}/schedules")).expect(200)["items"], json!([before]));
    assert_eq!(server.cli(&["schedule", "delete", "report"]).0, Some(0));
    assert_eq!(server.get(&format!("{T}/schedules/report")).status, 404);
}

#[test]
fn by_the_command_line() {
    let server = server();
    let (code, out, error) = server.cli(&["publish", "orders", "late", "--delay-ms", "3600000", "--json"]);
    assert_eq!(code, Some(0), "{error}");
    let id = id(&serde_json::from_str(&out).expect("JSON"));
    let (_, out, _) = server.cli(&["scheduled", "list", "orders"]);
    assert!(out.starts_with("ID") && out.contains(&id) && out.contains("DELIVER_AT"), "{out}");
    let (code, out, error) = server.cli(&["scheduled", "change", &id, "--delay-level", "18", "--json"]);
    assert_eq!(code, Some(0), "{out}{error}");
    assert_eq!(server.cli(&["scheduled", "change", &id]).0, Some(2), "one form is needed");
    assert_eq!(server.cli(&["scheduled", "cancel", &id]).0, Some(0));
    let (code, _, error) = server.cli(&["scheduled", "show", &id]);
    assert!(code == Some(1) && error.contains("message-not-found"), "{error}");
    let (code, out, _) = server.cli(&["publish", "orders", "soon", "--deliver-at", "2001-01-01T00:00:00Z"]);
    assert!(code == Some(0) && out.contains("OFFSET"), "at once: {out}");
}
