//! A quiet tenant beside one whose plugin loops for ever and who publishes without pause.
//!
//! No time is asserted: a test machine is busy. That the quiet one makes progress, is never refused, and that the noisy
//! one is held back, is. The times are `xtask bench --only neighbour`'s to report.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::http::Connection;
use crate::server::{Server, T};

/// Publishes of the quiet tenant.
const QUIET: u64 = 200;

#[test]
fn a_noisy_tenant_hurts_itself_alone() {
    let server = Server::start();
    server.json("PUT", "/v1/tenants/noisy", &json!({})).expect(201);
    server.topic("quiet", &json!({"queues": 1}));
    server.json("PUT", "/v1/tenants/noisy/topics/loud", &json!({"queues": 1})).expect(201);
    let component = std::fs::read(crate::hostile::component()).expect("the component");
    server
        .call(
            "PUT",
            "/v1/tenants/noisy/plugins/misbehave/versions/1.0.0",
            &[("Content-Type", "application/wasm"), ("Pm-Timeout-Ms", "60000")],
            &component,
        )
        .expect(201);
    let group = json!({
        "topics": [{"topic": "loud", "filter": {"plugin": "misbehave", "config": {"mode": "loop"}}}],
        "start": "earliest",
    });
    server.json("PUT", "/v1/tenants/noisy/groups/g", &group).expect(201);
    let quota = [("If-Match", "\"r0\""), ("Content-Type", "application/json")];
    let bounds = br#"{"messages_per_s":2000,"bytes_per_s":4000000}"#;
    server.call("PUT", "/v1/tenants/noisy/quota", &quota, bounds).expect(200);

    let stop = AtomicBool::new(false);
    let (taken, refused, other) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let batch: Vec<_> = (0..200).map(|_| json!({"data": "x".repeat(1_000), "tag": "poison"})).collect();
                let batch = json!({ "messages": batch }).to_string();
                let headers = [("Content-Type", "application/vnd.pointsman.batch+json")];
                let mut connection = Connection::open(server.address()).expect("a connection");
                while !stop.load(Ordering::Relaxed) {
                    let path = "/v1/tenants/noisy/topics/loud/messages";
                    let answer = connection.call("POST", path, &headers, batch.as_bytes()).expect("an answer");
                    match answer.status {
                        201 => taken.fetch_add(1, Ordering::Relaxed),
                        429 | 503 => {
                            assert!(answer.header("retry-after").is_some(), "{answer}");
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                        _ => other.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        }
        scope.spawn(|| {
            let mut connection = Connection::open(server.address()).expect("a connection");
            while !stop.load(Ordering::Relaxed) {
                let body = json!({"max_messages": 100, "wait_ms": 100}).to_string();
                let headers = [("Content-Type", "application/json")];
                let path = "/v1/tenants/noisy/groups/g/leases";
                // Its plugin never comes to an end; whatever this call is told, it is told something.
                connection.call("POST", path, &headers, body.as_bytes()).expect("an answer");
            }
        });
        let mut connection = Connection::open(server.address()).expect("a connection");
        for i in 0..QUIET {
            let path = format!("{T}/topics/quiet/messages");
            let answer =
                connection.call("POST", &path, &[("Content-Type", "text/plain")], b"quiet").expect("an answer");
            if answer.status != 201 {
                stop.store(true, Ordering::Relaxed);
            }
            assert_eq!(answer.status, 201, "publish {i}: {answer}");
        }
        // The noisy one has had the time to be refused by now, or gets it.
        while refused.load(Ordering::Relaxed) == 0 && taken.load(Ordering::Relaxed) < 10_000 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (taken, refused, other) = (taken.into_inner(), refused.into_inner(), other.into_inner());
    assert!(taken > 0 && refused > 0 && other == 0, "{taken} taken, {refused} refused, {other} otherwise");
    let usage = server.get(&format!("{T}/usage")).expect(200);
    assert_eq!(usage["messages"]["used"], QUIET.to_string());
}
