//! Transactions over HTTP.

use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::Api;

const ENVELOPE: (&str, &str) = ("content-type", "application/vnd.pointsman.transaction+json");

impl Api {
    async fn prepared(&self, headers: &[(&str, &str)], body: &'static str) -> String {
        let answer = self.send("POST ~/topics/orders/transactions", headers, body).await;
        assert_eq!(answer.status, 201, "{:?}", answer.bytes);
        let body = answer.json();
        let id = body["transaction"].as_str().expect("an id").to_owned();
        assert_eq!(body, json!({"transaction": id, "state": "prepared"}));
        assert_eq!(answer.header("location"), Some(format!("/v1/tenants/default/transactions/{id}").as_str()));
        id
    }

    async fn leased(&self) -> Vec<Value> {
        let leased = self.json("POST ~/groups/g/leases", "{}", 200).await;
        leased["leases"].as_array().expect("leases").iter().map(|lease| lease["message"].clone()).collect()
    }
}

#[tokio::test]
async fn a_raw_message_from_prepare_to_commit() {
    let api = Api::with_orders().await;
    let headers = [
        ("content-type", "text/plain"),
        ("pm-tag", "paid"),
        ("pm-producer-group", "shop"),
        ("pm-check-after-ms", "500"),
        ("idempotency-key", "order-1"),
    ];
    let id = api.prepared(&headers, "hello").await;
    assert!(api.leased().await.is_empty());
    let got = api.call(&format!("GET ~/transactions/{id}")).await.json();
    let message = got["messages"][0].clone();
    let expected = json!({"transaction": id, "state": "prepared", "topic": "orders", "producer_group": "shop",
        "idempotency_key": "order-1", "attempts": 0, "prepared_at": got["prepared_at"],
        "next_check_at": got["next_check_at"], "resolved_at": null, "resolved_by": null,
        "check": {"after_ms": 500, "interval_ms": 30000, "max": 15, "via": "producer"},
        "messages": [{"id": message["id"], "topic": "orders", "queue": message["queue"], "offset": null}]});
    assert_eq!(got, expected);
    let by_id = format!("GET ~/messages/{}", message["id"].as_str().expect("an id"));
    assert_eq!(api.call(&by_id).await.problem().1, "message-not-found");

    let again = api.send("POST ~/topics/orders/transactions", &headers, "hello").await;
    assert_eq!((again.status.as_u16(), again.json()), (200, json!({"transaction": id, "state": "prepared"})));
    let other = api.send("POST ~/topics/orders/transactions", &headers, "other").await;
    assert_eq!(other.problem().1, "idempotency-mismatch");

    let commit = format!("POST ~/transactions/{id}/commit");
    let done = api.send(&commit, &[], "").await;
    assert_eq!(done.status, 200, "{:?}", done.bytes);
    let mut visible = message.clone();
    visible["offset"] = json!("0");
    assert_eq!(done.json(), json!({"transaction": id, "state": "committed", "messages": [visible]}));
    assert_eq!(api.send(&commit, &[], "{}").await.json(), done.json(), "twice is once");
    let opposite = api.send(&format!("POST ~/transactions/{id}/rollback"), &[], "").await;
    assert_eq!(opposite.problem(), (409, "transaction-resolved".into(), String::new()));
    assert_eq!(opposite.json()["state"], "committed");
    let leased = api.leased().await;
    assert_eq!((leased.len(), &leased[0]["id"], &leased[0]["data"]), (1, &message["id"], &json!("hello")));
    assert_eq!(leased[0]["tag"], "paid");
    assert_eq!(api.call(&by_id).await.json()["offset"], "0");
    let again = api.send("POST ~/topics/orders/transactions", &headers, "hello").await;
    assert_eq!((again.status.as_u16(), &again.json()["state"]), (200, &json!("committed")));
}

#[tokio::test]
async fn an_envelope_over_topics_lists_and_in_use() {
    let api = Api::with_orders().await;
    api.json("PUT ~/topics/stock", "{}", 201).await;
    let body = r#"{"messages":[{"data":"a","queue":1},{"topic":"stock","data":{"n":1},"tag":"t"}],
        "producer_group":"shop","check":{"after_ms":1,"interval_ms":2,"max":3,"via":"producer"}}"#;
    let id = api.prepared(&[ENVELOPE], body).await;
    let got = api.call(&format!("GET ~/transactions/{id}")).await.json();
    assert_eq!(got["check"], json!({"after_ms": 1, "interval_ms": 2, "max": 3, "via": "producer"}));
    let topics: Vec<_> = got["messages"].as_array().expect("messages").iter().map(|m| &m["topic"]).collect();
    assert_eq!(topics, ["orders", "stock"]);
    for line in ["DELETE ~/topics/stock", "DELETE ~/topics/stock?dry_run=true"] {
        let refused = api.call(line).await;
        assert_eq!((refused.problem().1.as_str(), &refused.json()["users"]), ("in-use", &json!([id])), "{line}");
    }
    let second = api.prepared(&[], "x").await;
    api.json(&format!("POST ~/transactions/{id}/rollback"), "{}", 200).await;
    for (query, ids) in [
        ("", vec![&id, &second]),
        ("?state=prepared", vec![&second]),
        ("?state=rolled-back", vec![&id]),
        ("?state=committed", vec![]),
        ("?state=expired&limit=1", vec![]),
    ] {
        let listed = api.call(&format!("GET ~/transactions{query}")).await.json();
        let found: Vec<_> = listed["items"].as_array().expect("items").iter().map(|t| &t["transaction"]).collect();
        assert_eq!(found, ids, "{query}");
        assert!(listed["items"].as_array().expect("items").iter().all(|t| t["messages"].is_null()));
    }
    let page = api.call("GET ~/transactions?limit=1").await.json();
    let next = page["next_cursor"].as_str().expect("more");
    let rest = api.call(&format!("GET ~/transactions?limit=1&cursor={next}")).await.json();
    assert_eq!((&rest["items"][0]["transaction"], &rest["next_cursor"]), (&json!(second), &Value::Null));
    assert_eq!(api.call("DELETE ~/topics/stock").await.status, 204);
}

#[tokio::test]
async fn checks_by_lease_and_by_stream() {
    let api = Api::with_orders().await;
    let shop = [("pm-producer-group", "shop"), ("content-type", "application/json")];
    let id = api.prepared(&shop, r#"{"n": 1}"#).await;
    let lease = "POST ~/producer-groups/shop/checks/lease";
    assert_eq!(api.json(lease, "", 200).await, json!({"checks": []}));
    api.fixture.pass(6_000).await;
    let leased = api.json(lease, r#"{"max_checks": 5, "wait_ms": 0}"#, 200).await;
    let check = &leased["checks"][0];
    let message = &check["messages"][0];
    assert_eq!((&check["transaction"], &check["attempt"]), (&json!(id), &json!(1)));
    assert_eq!(
        (&message["data"], &message["offset"], &message["stored_at"]),
        (&json!({"n": 1}), &Value::Null, &Value::Null)
    );
    assert!(check["prepared_at"].is_string() && message["id"].is_string());
    assert_eq!(api.json(lease, "", 200).await, json!({"checks": []}), "once");
    assert_eq!(api.json("POST ~/producer-groups/other/checks/lease", "", 200).await, json!({"checks": []}));

    api.fixture.pass(30_000).await;
    let stream = api.call("GET ~/producer-groups/shop/checks?max_events=1").await;
    assert_eq!((stream.status.as_u16(), stream.header("content-type")), (200, Some("text/event-stream")));
    assert!(
        stream.text().contains(&format!("event: check\ndata: {{\"transaction\":\"{id}\",\"attempt\":2,")),
        "{}",
        stream.text()
    );
    let accept = [("accept", "application/x-ndjson")];
    api.fixture.pass(30_000).await;
    let lines = api.send("GET ~/producer-groups/shop/checks?max_ms=50", &accept, Body::empty()).await;
    let line = lines.text().lines().find(|line| !line.is_empty()).expect("an event");
    let event: Value = serde_json::from_str(line).expect("a line");
    assert_eq!((&event["event"], &event["data"]["attempt"]), (&json!("check"), &json!(3)));

    // A stream that is open hears of the next one.
    let request = Api::request("GET ~/producer-groups/shop/checks", &[], Body::empty());
    let mut body = api.router.clone().oneshot(request).await.expect("infallible").into_body();
    let first = body.frame().await.expect("a frame").expect("bytes").into_data().expect("data");
    assert!(first.starts_with(b"retry: "));
    let next = tokio::spawn(async move { body.frame().await.expect("a frame").expect("bytes").into_data() });
    tokio::task::yield_now().await;
    api.fixture.pass(30_000).await;
    let next = next.await.expect("ends").expect("data");
    assert!(next.starts_with(b"event: check\n"), "{next:?}");
}

#[tokio::test]
async fn bad_input() {
    let api = Api::with_orders().await;
    let line = "POST ~/topics/orders/transactions";
    for kind in [
        "application/vnd.pointsman.batch+json",
        "application/vnd.pointsman.frames",
        "application/x-ndjson",
        "application/cloudevents-batch+json",
    ] {
        let refused = api.send(line, &[("content-type", kind)], "{}").await;
        assert_eq!(refused.problem(), (415, "unsupported-media-type".into(), "Content-Type".into()), "{kind}");
    }
    for (body, code, pointer) in [
        (r#"{"messages":[]}"#, "invalid-request", "/messages"),
        ("{}", "invalid-request", "/messages"),
        (r#"{"messages":[{"data":"x"},{"data":"x","tag":"a|b"}]}"#, "invalid-request", "/messages/1/tag"),
        (r#"{"messages":[{"tag":"x"}]}"#, "invalid-request", "/messages/0/data"),
        (r#"{"messages":[{"data":"x","topic":"a b"}]}"#, "invalid-name", "/messages/0/topic"),
        (r#"{"messages":[{"data":"x","topic":"nowhere"}]}"#, "topic-not-found", ""),
        (r#"{"messages":[{"data":"x"}],"producer_group":"a b"}"#, "invalid-name", "/producer_group"),
        (r#"{"messages":[{"data":"x"}],"check":{"after_ms":0}}"#, "invalid-request", "/check/after_ms"),
        (r#"{"messages":[{"data":"x"}],"check":{"max":1001}}"#, "invalid-request", "/check/max"),
        (r#"{"messages":[{"data":"x"}],"check":{"via":"plugin"}}"#, "invalid-request", "/check/via"),
        (r#"{"messages":[{"data":"x"}],"check":{"via":"nobody"}}"#, "invalid-request", "/check/via"),
        (r#"{"messages":[{"data":"x"}],"nope":1}"#, "invalid-request", "/nope"),
        (r#"{"messages":[{"data":"x","delay_ms":1,"delay_level":1}]}"#, "invalid-request", "/messages/0/delay_level"),
    ] {
        let problem = api.send(line, &[ENVELOPE], body).await.problem();
        assert_eq!((problem.1.as_str(), problem.2.as_str()), (code, pointer), "{body}");
    }
    for (headers, pointer) in [
        (vec![("pm-producer-group", "a b")], "Pm-Producer-Group"),
        (vec![("pm-producer-group", "a"), ("pm-producer-group", "b")], "Pm-Producer-Group"),
        (vec![("pm-check-after-ms", "0")], "Pm-Check-After-Ms"),
        (vec![("pm-check-after-ms", "x")], "Pm-Check-After-Ms"),
        (vec![("idempotency-key", "a b")], "Idempotency-Key"),
        (vec![ENVELOPE, ("pm-producer-group", "a")], "Pm-Producer-Group"),
        (vec![ENVELOPE, ("pm-tag", "a")], "Pm-Tag"),
    ] {
        let problem = api.send(line, &headers, r#"{"messages":[{"data":"x"}]}"#).await.problem();
        assert_eq!(problem.2, pointer, "{headers:?}");
    }
    let many = vec![r#"{"data":"x"}"#; 1_001].join(",");
    let refused = api.send(line, &[ENVELOPE], format!(r#"{{"messages":[{many}]}}"#)).await;
    assert_eq!(refused.problem().1, "batch-too-large");
    let unknown = api.send("POST ~/topics/nowhere/transactions", &[], "x").await;
    assert_eq!(unknown.problem().1, "topic-not-found");
    for id in ["nope", "t0000000000000000000000000000"] {
        for line in [format!("GET ~/transactions/{id}"), format!("POST ~/transactions/{id}/commit")] {
            assert_eq!(api.send(&line, &[], "").await.problem().1, "transaction-not-found", "{line}");
        }
    }
    let id = api.prepared(&[], "x").await;
    let commit = format!("POST ~/transactions/{id}/commit");
    assert_eq!(api.send(&format!("{commit}?override=maybe"), &[], "").await.problem().2, "override");
    assert_eq!(api.send(&commit, &[], r#"{"x":1}"#).await.problem().2, "/x");
    assert_eq!(api.send("GET ~/transactions?state=open", &[], "").await.problem().2, "state");
    let lease = "POST ~/producer-groups/shop/checks/lease";
    assert_eq!(api.send(lease, &[], r#"{"max_checks":0}"#).await.problem().2, "/max_checks");
    assert_eq!(api.send(lease, &[], r#"{"wait_ms":60001}"#).await.problem().2, "/wait_ms");
    assert_eq!(api.send("POST ~/producer-groups/a%20b/checks/lease", &[], "").await.problem().1, "invalid-name");
    let topic = api
        .send(
            "POST ~/topics/orders/messages",
            &[("content-type", "application/vnd.pointsman.batch+json")],
            r#"{"messages":[{"data":"x","topic":"orders"}]}"#,
        )
        .await;
    assert_eq!(topic.problem().2, "/messages/0/topic", "a batch has one topic");
}

#[tokio::test]
async fn an_expired_one_may_be_overruled() {
    let api = Api::with_orders().await;
    let body = r#"{"messages":[{"data":"x"}],"check":{"after_ms":10,"interval_ms":10,"max":1}}"#;
    let id = api.prepared(&[ENVELOPE], body).await;
    api.fixture.pass(10).await;
    api.fixture.pass(10).await;
    let commit = format!("POST ~/transactions/{id}/commit");
    let refused = api.send(&commit, &[], "").await;
    assert_eq!((refused.problem().1.as_str(), &refused.json()["state"]), ("transaction-resolved", &json!("expired")));
    let done = api.json(&format!("{commit}?override=true"), "", 200).await;
    assert_eq!((&done["state"], &done["messages"][0]["offset"]), (&json!("committed"), &json!("0")));
    let got = api.call(&format!("GET ~/transactions/{id}")).await.json();
    assert_eq!(got["resolved_by"], "operator");
}
