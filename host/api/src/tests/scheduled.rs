//! Delayed messages: publish, list, look at, change, cancel.

use serde_json::{Value, json};

use super::Api;

const BATCH: (&str, &str) = ("content-type", "application/vnd.pointsman.batch+json");
/// The fixture's clock.
const NOW: &str = "2023-11-14T22:13:20.000Z";

async fn delayed(api: &Api, ms: &str) -> String {
    let answer = api.send("POST ~/topics/orders/messages", &[("pm-delay-ms", ms)], "late").await;
    assert_eq!(answer.status, 201, "{:?}", answer.bytes);
    answer.json()["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn one_delayed_message_from_publish_to_delivery() {
    let api = Api::with_orders().await;
    let headers = [("pm-delay-ms", "90000"), ("content-type", "text/plain"), ("pm-tag", "t")];
    let answer = api.send("POST ~/topics/orders/messages", &headers, "late").await;
    let receipt = answer.json();
    let id = receipt["id"].as_str().expect("an id").to_owned();
    let at = "2023-11-14T22:14:50.000Z";
    let expected = json!({"id": id, "topic": "orders", "queue": null, "offset": null, "stored_at": null,
        "deliver_at": at, "duplicate": false, "durability": "quorum-fsync"});
    assert_eq!((answer.status.as_u16(), receipt), (201, expected));
    assert_eq!(answer.header("location"), Some(format!("/v1/tenants/default/messages/{id}").as_str()));

    let waiting = json!({"id": id, "topic": "orders", "queue": null, "offset": null, "tag": "t", "keys": [],
        "ordering_key": null, "properties": {}, "priority": 0, "content_type": "text/plain", "data": "late",
        "born_at": NOW, "stored_at": null, "deliver_at": at, "expires_at": null, "trace": null});
    for path in ["messages", "scheduled"] {
        assert_eq!(api.json(&format!("GET ~/{path}/{id}"), "", 200).await, waiting);
    }
    assert_eq!(api.call(&format!("GET ~/messages/{id}/payload")).await.text(), "late");
    let list = api.json("GET ~/topics/orders/scheduled", "", 200).await;
    assert_eq!(list, json!({"items": [waiting], "next_cursor": null}));
    assert_eq!(api.json("POST ~/groups/g/leases", "", 200).await, json!({"leases": []}));

    api.fixture.pass(90_000).await;
    let leased = api.json("POST ~/groups/g/leases", "", 200).await;
    let message = &leased["leases"][0]["message"];
    assert_eq!((&message["id"], &message["stored_at"]), (&json!(id), &json!(at)));
    assert_eq!(api.json(&format!("GET ~/messages/{id}"), "", 200).await, *message);
    assert_eq!(api.json("GET ~/topics/orders/scheduled", "", 200).await["items"], json!([]));
    for (method, body) in [("GET", ""), ("PATCH", r#"{"delay_ms":1}"#), ("DELETE", ""), ("DELETE", "?dry_run=true")] {
        let (query, body) = if body.starts_with('?') { (body, "") } else { ("", body) };
        let answer = api.send(&format!("{method} ~/scheduled/{id}{query}"), &[], body).await;
        assert_eq!(answer.problem(), (409, "already-delivered".into(), String::new()), "{method}");
    }
}

#[tokio::test]
async fn the_forms_of_a_batch() {
    let api = Api::with_orders().await;
    let body = r#"{"messages":[{"data":1,"delay_level":3},{"data":2,"deliver_at":"2023-11-14T23:13:20+00:00"},
        {"data":3,"deliver_at":"2020-01-01T00:00:00Z"},{"data":4,"delay_ms":0},{"data":5}]}"#;
    let answer = api.send("POST ~/topics/orders/messages", &[BATCH], body).await;
    assert_eq!(answer.status, 201);
    let body = answer.json();
    let results = body["results"].as_array().expect("results");
    assert_eq!(results[0]["deliver_at"], "2023-11-14T22:13:30.000Z");
    assert_eq!(results[1]["deliver_at"], "2023-11-14T23:13:20.000Z");
    assert!(results[..2].iter().all(|r| r["queue"].is_null() && r["offset"].is_null() && r["status"] == 201));
    assert!(results[2..].iter().all(|r| r["offset"].is_string() && r.get("deliver_at").is_none()), "at once");
}

#[tokio::test]
async fn frames_and_weak_acks_take_a_delay() {
    let api = Api::with_orders().await;
    let (meta, payload) = (r#"{"delay_ms":1000}"#, "x");
    let mut body = ((4 + meta.len() + payload.len()) as u32).to_le_bytes().to_vec();
    body.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    body.extend_from_slice(meta.as_bytes());
    body.extend_from_slice(payload.as_bytes());
    let kind = [("content-type", "application/vnd.pointsman.frames")];
    let answer = api.send("POST ~/topics/orders/messages", &kind, body).await;
    assert_eq!(answer.json()["results"][0]["deliver_at"], "2023-11-14T22:13:21.000Z");
    let weak = api.send("POST ~/topics/orders/messages?ack=leader", &[("pm-delay-ms", "1000")], "x").await;
    assert_eq!((weak.status.as_u16(), &weak.json()["deliver_at"]), (202, &json!("2023-11-14T22:13:21.000Z")));
}

#[tokio::test]
async fn change_and_cancel() {
    let api = Api::with_orders().await;
    let id = delayed(&api, "60000").await;
    let path = format!("~/scheduled/{id}");
    for (body, at) in [
        (r#"{"delay_ms": 1000}"#, "2023-11-14T22:13:21.000Z"),
        (r#"{"delay_level": 5.0, "deliver_at": null}"#, "2023-11-14T22:14:20.000Z"),
        (r#"{"deliver_at": "2023-11-15T00:00:00Z"}"#, "2023-11-15T00:00:00.000Z"),
    ] {
        let changed = api.json(&format!("PATCH {path}"), body, 200).await;
        assert_eq!((&changed["deliver_at"], &changed["id"]), (&json!(at), &json!(id)));
        assert_eq!(api.json(&format!("GET {path}"), "", 200).await, changed);
    }
    let dry = api.json(&format!("DELETE {path}?dry_run=true"), "", 200).await;
    assert_eq!(dry, json!({"dry_run": true, "would": "delete", "messages": "1"}));
    assert_eq!(api.json("GET ~/topics/orders/scheduled", "", 200).await["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(api.call(&format!("DELETE {path}")).await.status, 204);
    for line in [format!("DELETE {path}"), format!("GET {path}"), format!("GET ~/messages/{id}")] {
        assert_eq!(api.call(&line).await.problem().1, "message-not-found", "{line}");
    }
    let past = delayed(&api, "60000").await;
    api.json(&format!("PATCH ~/scheduled/{past}"), r#"{"deliver_at": "2001-01-01T00:00:00Z"}"#, 200).await;
    api.fixture.pass(0).await;
    assert!(api.json(&format!("GET ~/messages/{past}"), "", 200).await["offset"].is_string(), "at once");
}

#[tokio::test]
async fn what_is_refused() {
    let api = Api::with_orders().await;
    let id = delayed(&api, "60000").await;
    for (body, pointer) in [
        ("{}", ""),
        (r#"{"delay_ms":1,"delay_level":1}"#, "/delay_level"),
        (r#"{"delay_ms":31536000001}"#, "/delay_ms"),
        (r#"{"delay_ms":-1}"#, "/delay_ms"),
        (r#"{"delay_level":19}"#, "/delay_level"),
        (r#"{"deliver_at":"2099-01-01T00:00:00Z"}"#, "/deliver_at"),
        (r#"{"deliver_at":"soon"}"#, "/deliver_at"),
        (r#"{"nope":1}"#, "/nope"),
    ] {
        let answer = api.send(&format!("PATCH ~/scheduled/{id}"), &[], body).await;
        assert_eq!(answer.problem(), (400, "invalid-request".into(), pointer.into()), "{body}");
    }
    let (other, unknown) = (id.replacen('m', "m0", 1), "PATCH ~/scheduled/nope");
    for line in [format!("GET ~/scheduled/{other}"), "DELETE ~/scheduled/nope".into()] {
        assert_eq!(api.call(&line).await.problem().1, "message-not-found", "{line}");
    }
    assert_eq!(api.send(unknown, &[], "{").await.problem().1, "message-not-found", "before the body");
    assert_eq!(api.call("GET /v1/tenants/no/scheduled/nope").await.problem().1, "tenant-not-found");
    assert_eq!(api.call("GET ~/scheduled/nope?x=1").await.problem().1, "invalid-request");
    assert_eq!(api.call("GET ~/topics/no/scheduled").await.problem().1, "topic-not-found");
    assert_eq!(api.call("GET ~/topics/orders/scheduled?cursor=p1.x").await.problem().1, "invalid-cursor");
    assert_eq!(api.call("POST ~/topics/orders/scheduled").await.problem().0, 405);
    let list = api.json("GET ~/topics/orders/scheduled", "", 200).await;
    assert_eq!(list["items"][0]["deliver_at"], "2023-11-14T22:14:20.000Z", "nothing changed");
    assert_ne!(list["items"][0]["id"], Value::Null);
}
