//! Publish, lease, settle, look up.

use serde_json::{Value, json};

use super::Api;

#[tokio::test]
async fn one_raw_message_from_publish_to_ack() {
    let api = Api::with_orders().await;
    let headers = [
        ("content-type", "application/json"),
        ("pm-tag", "paid"),
        ("pm-key", "k1"),
        ("pm-key", "k2"),
        ("pm-queue", "1"),
        ("pm-prop-shop", "berlin"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let published = api.send("POST ~/topics/orders/messages", &headers, r#"{"n": 1}"#).await;
    assert_eq!(published.status, 201, "{:?}", published.bytes);
    let receipt = published.json();
    let id = receipt["id"].as_str().expect("an id").to_owned();
    assert_eq!(published.header("location"), Some(format!("/v1/tenants/default/messages/{id}").as_str()));
    let expected = json!({"id": id, "topic": "orders", "queue": 1, "offset": "0", "stored_at": receipt["stored_at"],
        "duplicate": false, "durability": "quorum-fsync"});
    assert_eq!(receipt, expected);

    let leased = api.send("POST ~/groups/g/leases", &[], "").await;
    assert_eq!(leased.status, 200);
    assert!(leased.text().contains(r#""data":{"n": 1},"#), "the text exactly as sent: {}", leased.text());
    let lease = &leased.json()["leases"][0];
    assert_eq!(lease["attempt"], 1);
    let message = &lease["message"];
    let expected = json!({"id": id, "topic": "orders", "queue": 1, "offset": "0", "tag": "paid", "keys": ["k1", "k2"],
        "ordering_key": null, "properties": {"shop": "berlin"}, "priority": 0, "content_type": "application/json",
        "data": {"n": 1}, "born_at": message["born_at"], "stored_at": receipt["stored_at"], "expires_at": null,
        "trace": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"});
    assert_eq!(*message, expected);

    assert_eq!(api.call(&format!("GET ~/messages/{id}")).await.json(), expected);
    let payload = api.call(&format!("GET ~/messages/{id}/payload")).await;
    assert_eq!((payload.text(), payload.header("content-type")), (r#"{"n": 1}"#, Some("application/json")));
    assert_eq!(payload.header("x-content-type-options"), Some("nosniff"));
    let listed = api.call("GET ~/topics/orders/messages?queue=1&offset=0").await.json();
    assert_eq!(listed, json!({"items": [expected], "next_cursor": null}));
    let by_key = api.call("GET ~/topics/orders/messages?key=k2").await.json();
    assert_eq!(by_key["items"][0]["id"], id.as_str());

    let receipt = lease["receipt"].as_str().expect("a receipt");
    let items = json!({"items": [{"receipt": receipt, "op": "ack"}]}).to_string();
    let settled = api.json("POST ~/groups/g/settle", &items, 200).await;
    assert_eq!(settled, json!({"results": [{"receipt": receipt, "status": "settled", "expires_at": null}]}));
    let again = api.json("POST ~/groups/g/settle", &items, 200).await;
    assert_eq!(again["results"][0]["status"], "already-settled", "no failure");
}

#[tokio::test]
async fn settle_answers_in_order_and_207_if_one_failed() {
    let api = Api::with_orders().await;
    api.send("POST ~/topics/orders/messages", &[], "x").await;
    let leased = api.json("POST ~/groups/g/leases", r#"{"max_messages": 1.0, "client_id": "c"}"#, 200).await;
    let receipt = leased["leases"][0]["receipt"].as_str().expect("a receipt");
    let items = json!({"items": [
        {"receipt": "r1.forged", "op": "ack"},
        {"receipt": receipt, "op": "extend", "lease_ms": 60_000},
        {"receipt": receipt, "op": "nack", "delay_ms": 5, "reason": "later"},
    ]});
    let settled = api.json("POST ~/groups/g/settle", &items.to_string(), 207).await;
    let words: Vec<_> = settled["results"].as_array().expect("results").iter().map(|r| &r["status"]).collect();
    assert_eq!(words, ["invalid", "extended", "settled"]);
    assert!(settled["results"][1]["expires_at"].is_string());
}

#[tokio::test]
async fn a_batch_has_a_result_for_each_message() {
    let api = Api::with_orders().await;
    api.json("PUT ~/topics/orders", r#"{"max_message_bytes": 4}"#, 200).await;
    let batch = [("content-type", "application/vnd.pointsman.batch+json")];
    let good = r#"{"messages":[{"data":"a","queue":0},{"data":"b","queue":0}]}"#;
    let answer = api.send("POST ~/topics/orders/messages", &batch, good).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["results"][1]["offset"], "1");
    let mixed = r#"{"messages":[{"data":"c","queue":0},{"data":"too long"}]}"#;
    let answer = api.send("POST ~/topics/orders/messages", &batch, mixed).await;
    assert_eq!(answer.status, 207, "{:?}", answer.bytes);
    let body = answer.json();
    assert_eq!((&body["accepted"], &body["rejected"]), (&json!(1), &json!(1)));
    assert_eq!(body["results"][1]["problem"]["code"], "message-too-large");
    assert_eq!(body["results"][1]["status"], 413);
    let minimal = [batch[0], ("prefer", "return=minimal")];
    let body = api.send("POST ~/topics/orders/messages", &minimal, mixed).await.json();
    assert_eq!(body["results"].as_array().map(Vec::len), Some(1));
    assert_eq!(body["results"][0]["index"], 1);
    let atomic = api.send("POST ~/topics/orders/messages?atomic=true", &batch, mixed).await;
    assert_eq!(atomic.problem(), (413, "message-too-large".into(), String::new()));
    let queues = api.call("GET ~/topics/orders/queues").await.json();
    assert_eq!(queues["items"][0], json!({"queue": 0, "earliest": "0", "latest": "4", "leader": 1}));
}

#[tokio::test]
async fn frames_in_and_out() {
    let api = Api::with_orders().await;
    let mut body = Vec::new();
    for (meta, payload) in [("{}", "one"), (r#"{"tag":"t","content_type":"text/plain"}"#, "two")] {
        body.extend_from_slice(&((4 + meta.len() + payload.len()) as u32).to_le_bytes());
        body.extend_from_slice(&(meta.len() as u32).to_le_bytes());
        body.extend_from_slice(meta.as_bytes());
        body.extend_from_slice(payload.as_bytes());
    }
    let kind = [("content-type", "application/vnd.pointsman.frames")];
    let answer = api.send("POST ~/topics/orders/messages", &kind, body).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["accepted"]), (201, &json!(2)));
    let accept = [("accept", "application/vnd.pointsman.frames"), ("accept-encoding", "gzip")];
    let answer = api.send("POST ~/groups/g/leases", &accept, "{}").await;
    assert_eq!(answer.header("content-type"), Some("application/vnd.pointsman.frames"));
    let (mut at, mut payloads) = (0, Vec::new());
    while at < answer.bytes.len() {
        let u32_at = |at: usize| u32::from_le_bytes(answer.bytes[at..at + 4].try_into().expect("4")) as usize;
        let (n, m) = (u32_at(at), u32_at(at + 4));
        let meta: Value = serde_json::from_slice(&answer.bytes[at + 8..at + 8 + m]).expect("meta");
        assert_eq!(meta["attempt"], 1);
        payloads.push(String::from_utf8_lossy(&answer.bytes[at + 8 + m..at + 4 + n]).into_owned());
        at += 4 + n;
    }
    payloads.sort();
    assert_eq!(payloads, ["one", "two"]);
}

#[tokio::test]
async fn a_weaker_ack_is_202_with_nulls() {
    let api = Api::with_orders().await;
    let answer = api.send("POST ~/topics/orders/messages?ack=none", &[], "x").await;
    assert_eq!(answer.status, 202);
    let receipt = answer.json();
    assert_eq!((&receipt["offset"], &receipt["duplicate"]), (&Value::Null, &Value::Null));
    assert_eq!(receipt["durability"], "none");
}

#[tokio::test]
async fn lists_by_offset_page_by_cursor() {
    let api = Api::with_orders().await;
    for n in 0..5 {
        api.send("POST ~/topics/orders/messages", &[("pm-queue", "0")], n.to_string()).await;
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.call(&format!("GET ~/topics/orders/messages?queue=0&limit=2{cursor}")).await.json();
        seen.extend(page["items"].as_array().expect("items").iter().map(|m| m["offset"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4"]);
    let foreign = api.call(&format!("GET ~/topics/orders/messages?queue=1{cursor}")).await;
    assert_eq!(foreign.problem().1, "invalid-cursor");
    for n in 0..3 {
        api.send("POST ~/topics/orders/messages", &[("pm-key", "k")], n.to_string()).await;
    }
    let first = api.call("GET ~/topics/orders/messages?key=k&limit=2").await.json();
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let second = api.call(&format!("GET ~/topics/orders/messages?key=k&limit=2&cursor={cursor}")).await.json();
    let shown = |page: &Value| -> Vec<_> {
        page["items"].as_array().expect("items").iter().map(|m| m["data_base64"].clone()).collect()
    };
    assert_eq!([shown(&first), shown(&second)].concat(), ["Mg==", "MQ==", "MA=="], "newest first");
    assert_eq!(second["next_cursor"], Value::Null);
}

#[tokio::test]
async fn a_publish_whose_client_left_is_stored_and_answered_to_nobody() {
    let api = Api::with_orders().await;
    api.fixture.shard.hold();
    let pending = api.send("POST ~/topics/orders/messages", &[("pm-queue", "0")], "x");
    let gave_up = tokio::time::timeout(std::time::Duration::from_millis(100), pending).await;
    assert!(gave_up.is_err(), "held");
    api.fixture.shard.release();
    for _ in 0..100 {
        let queues = api.call("GET ~/topics/orders/queues").await.json();
        if queues["items"][0]["latest"] == "1" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the message was dropped midway");
}

#[tokio::test]
async fn a_long_poll_ends_with_a_message_or_with_the_node() {
    let api = Api::with_orders().await;
    let poll = api.send("POST ~/groups/g/leases", &[], r#"{"wait_ms":30000}"#);
    let publish = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        api.send("POST ~/topics/orders/messages", &[], "x").await
    };
    let (leased, _) = tokio::join!(poll, publish);
    assert_eq!(leased.json()["leases"].as_array().map(Vec::len), Some(1));
    let poll = api.send("POST ~/groups/g/leases", &[], r#"{"wait_ms":30000}"#);
    let stop = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        api.shutdown.cancel();
    };
    let (leased, ()) = tokio::join!(poll, stop);
    assert_eq!((leased.status.as_u16(), leased.json()), (200, json!({"leases": []})));
}
