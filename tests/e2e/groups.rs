//! Where a group stands: offsets, seek, lag, pause; explain and trace.

use serde_json::{Value, json};

use crate::server::{Server, T};

fn start() -> Server {
    let server = Server::start_with(&["time_scale=0.001"]);
    server.topic("orders", &json!({"queues": 1}));
    server
        .group("workers", &json!({"topics": [{"topic": "orders", "filter": {"tags": "a || b"}}], "start": "earliest"}));
    server
}

fn read(server: &Server, path: &str) -> Value {
    server.get(&format!("{T}/{path}")).expect(200)
}

fn ack_all(server: &Server, leases: &[Value]) {
    let items: Vec<_> = leases.iter().map(|lease| json!({"receipt": lease["receipt"], "op": "ack"})).collect();
    assert_eq!(server.settle("workers", &json!(items)), vec!["settled"; items.len()]);
}

#[test]
fn seek_back_and_forth_survives_a_kill() {
    let mut server = start();
    let ids: Vec<_> =
        ["a", "b", "c"].iter().map(|tag| server.publish("orders", &[("Pm-Tag", tag)], tag)["id"].clone()).collect();
    assert_eq!(read(&server, "groups/workers/lag")["total"], "2");
    ack_all(&server, &server.lease("workers", &json!({})));
    assert_eq!(read(&server, "groups/workers/lag")["total"], "0");

    let before = server.get(&format!("{T}/groups/workers"));
    let tag = before.header("etag").expect("a tag").to_owned();
    let path = format!("{T}/groups/workers/seek");
    let to_b = json!({"to": {"message_id": ids[1]}}).to_string();
    let bare = server.json("POST", &path, &json!({"to": {"earliest": true}}));
    assert_eq!((bare.status, bare.json()["code"].clone()), (428, json!("precondition-required")));
    let headers = [("Content-Type", "application/json"), ("If-Match", tag.as_str())];
    let sought = server.call("POST", &path, &headers, to_b.as_bytes());
    assert_eq!(sought.expect(200)["items"][0]["to"], "1");
    let stale = server.call("POST", &path, &headers, to_b.as_bytes());
    assert_eq!(stale.status, 412, "the tag moved");

    let lease = server.lease("workers", &json!({"wait_ms": 2000})).remove(0);
    assert_eq!(lease["message"]["id"], ids[1]);
    server.kill();
    server.restart();
    let offsets = read(&server, "groups/workers/offsets");
    assert_eq!((&offsets["items"][0]["committed"], &offsets["items"][0]["latest"]), (&json!("1"), &json!("3")));
    let (code, out, err) = server.cli(&["group", "seek", "workers", "--earliest", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON")["items"][0]["to"], "0");
    assert_eq!(
        server.settle("workers", &json!([{"receipt": lease["receipt"], "op": "ack"}])),
        ["lease-expired"],
        "a lease from before the seek, and of a process before this one"
    );
    let all = server.lease("workers", &json!({"wait_ms": 2000}));
    assert_eq!(all.len(), 2, "a and b again, c does not pass");
    ack_all(&server, &all);
}

#[test]
fn lag_leases_members_and_pause() {
    let mut server = start();
    for tag in ["a", "b", "c", "a"] {
        server.publish("orders", &[("Pm-Tag", tag)], tag);
    }
    assert_eq!(server.lease("workers", &json!({"max_messages": 1, "client_id": "c1"})).len(), 1);
    let lag = read(&server, "groups/workers/lag");
    assert_eq!((&lag["total"], &lag["exact"], &lag["items"][0]["inflight"]), (&json!("3"), &json!(true), &json!(1)));
    assert_eq!(read(&server, "groups/workers/inflight")["items"][0]["client_id"], "c1");
    assert_eq!(read(&server, "groups/workers/members")["items"][0]["client_id"], "c1");
    let (code, ..) = server.cli(&["group", "pause", "workers"]);
    assert_eq!(code, Some(0));
    server.kill();
    server.restart();
    assert!(server.lease("workers", &json!({"wait_ms": 20000})).is_empty(), "still paused, and at once");
    assert_eq!(read(&server, "groups/workers/lag")["paused"], true);
    let (code, out, _) = server.cli(&["group", "lag", "workers"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("orders"), "{out}");
    let (code, ..) = server.cli(&["group", "resume", "workers"]);
    assert_eq!(code, Some(0));
    assert_eq!(server.lease("workers", &json!({"wait_ms": 5000})).len(), 3);
}

#[test]
fn explain_and_trace_name_what_decided() {
    let server = start();
    let taken = server.publish("orders", &[("Pm-Tag", "a")], "x")["id"].as_str().expect("id").to_owned();
    let other = server.publish("orders", &[("Pm-Tag", "c")], "x")["id"].as_str().expect("id").to_owned();
    let explain = |id: &str| read(&server, &format!("messages/{id}/explain?group=workers"));
    let skipped = explain(&other);
    assert_eq!((&skipped["verdict"], &skipped["recomputed"]), (&json!("skip"), &json!(true)));
    assert_eq!((&skipped["plugin"], &skipped["state"]), (&json!("builtin/tags"), &json!("skipped")));
    assert!(skipped["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")));
    let lease = server.lease("workers", &json!({"client_id": "c1"})).remove(0);
    assert_eq!((&explain(&taken)["state"], &explain(&taken)["client_id"]), (&json!("leased"), &json!("c1")));
    let nack = json!([{"receipt": lease["receipt"], "op": "nack", "reason": "busy", "delay_ms": 60000}]);
    assert_eq!(server.settle("workers", &nack), ["settled"]);
    let retrying = explain(&taken);
    assert_eq!((&retrying["state"], &retrying["attempt"]), (&json!("retrying"), &json!(2)));
    assert_eq!(retrying["history"][0]["reason"], "busy");
    let trace = read(&server, &format!("messages/{taken}/trace"));
    let events: Vec<_> = trace["items"].as_array().expect("items").iter().map(|e| e["event"].clone()).collect();
    assert_eq!(events, ["published", "routed", "delivered", "nacked"]);
    let (code, out, err) = server.cli(&["explain", &taken, "--group", "workers"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("retrying") && out.contains("busy"), "{out}");
    let (code, out, _) = server.cli(&["trace", &taken]);
    assert_eq!(code, Some(0));
    assert!(out.contains("nacked"), "{out}");
}
