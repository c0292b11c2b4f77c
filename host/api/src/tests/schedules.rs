//! Schedules over HTTP.

use serde_json::{Value, json};

use super::Api;

const BODY: &str = r#"{"cron":"*/5 * * * *","topic":"orders","message":{"data":{"n": 1},"tag":"tick","keys":["k"]}}"#;

#[tokio::test]
async fn a_schedule_from_put_to_delete() {
    let api = Api::with_orders().await;
    let put = api.json("PUT ~/schedules/report", BODY, 201).await;
    let expected = json!({"name": "report", "cron": "*/5 * * * *", "timezone": "UTC", "topic": "orders",
        "message": {"data": {"n": 1}, "content_type": "application/json", "tag": "tick", "keys": ["k"]},
        "next_at": "2023-11-14T22:15:00.000Z", "last_at": null});
    assert_eq!(put, expected);
    let got = api.call("GET ~/schedules/report").await;
    assert_eq!((got.status.as_u16(), got.json()), (200, expected.clone()));
    let etag = got.header("etag").expect("an ETag").to_owned();
    assert_eq!(api.json("PUT ~/schedules/report", got.text(), 200).await, expected, "what GET gave");
    assert_eq!(api.call("GET ~/schedules/report").await.header("etag"), Some(etag.as_str()), "nothing changed");
    assert_eq!(api.send("GET ~/schedules/report", &[("if-none-match", &etag)], "").await.status, 304);
    let list = api.json("GET ~/schedules", "", 200).await;
    assert_eq!(list, json!({"items": [expected], "next_cursor": null}));

    api.fixture.clock.advance_ms(120_000);
    for _ in 0..100 {
        let leased = api.json("POST ~/groups/g/leases", r#"{"wait_ms": 100}"#, 200).await;
        let Some(lease) = leased["leases"].as_array().and_then(|leases| leases.first()) else { continue };
        assert_eq!((&lease["message"]["tag"], &lease["message"]["data"]), (&json!("tick"), &json!({"n": 1})));
        let ran = api.json("GET ~/schedules/report", "", 200).await;
        assert_eq!((&ran["last_at"], &ran["next_at"]), (&put["next_at"], &json!("2023-11-14T22:20:00.000Z")));
        let dry = api.json("DELETE ~/schedules/report?dry_run=true", "", 200).await;
        assert_eq!(dry, json!({"dry_run": true, "would": "delete"}));
        let stale = api.send("DELETE ~/schedules/report", &[("if-match", "\"999\"")], "").await;
        assert_eq!(stale.problem().1, "precondition-failed");
        assert_eq!(api.call("DELETE ~/schedules/report").await.status, 204);
        assert_eq!(api.call("GET ~/schedules/report").await.problem().1, "schedule-not-found");
        return;
    }
    panic!("it never ran");
}

#[tokio::test]
async fn payloads_of_every_form_come_back_as_they_were() {
    let api = Api::with_orders().await;
    for (message, form) in [
        (r#"{"data":"text"}"#, json!({"data": "text", "content_type": "text/plain; charset=utf-8"})),
        (r#"{"data_base64":"/w=="}"#, json!({"data_base64": "/w==", "content_type": "application/octet-stream"})),
        (r#"{"data":null,"queue":1}"#, json!({"data": null, "content_type": "application/json", "queue": 1})),
    ] {
        let body = format!(r#"{{"cron":"* * * * *","timezone":"Europe/Berlin","topic":"orders","message":{message}}}"#);
        let put = api.send("PUT ~/schedules/s", &[], body).await;
        assert_eq!(put.json()["message"], form, "{:?}", put.bytes);
        assert_eq!(api.json("PUT ~/schedules/s", put.text(), 200).await["message"], form);
    }
}

#[tokio::test]
async fn what_is_refused() {
    let api = Api::with_orders().await;
    let with = |field: &str, value: Value| {
        let mut body: Value = serde_json::from_str(BODY).expect("JSON");
        body[field] = value;
        body.to_string()
    };
    for (body, code, pointer) in [
        ("{}".to_owned(), "invalid-request", "/cron"),
        (with("cron", json!("* * * *")), "invalid-request", "/cron"),
        (with("timezone", json!("Mars/Base")), "invalid-request", "/timezone"),
        (with("topic", json!("9")), "invalid-name", "/topic"),
        (with("topic", json!("no")), "topic-not-found", ""),
        (with("name", json!("other")), "invalid-request", "/name"),
        (with("message", json!({})), "invalid-request", "/message/data"),
        (with("message", json!({"data": 1, "tag": "*"})), "invalid-request", "/message/tag"),
        (with("message", json!({"data": 1, "delay_ms": 1})), "invalid-request", "/message/delay_ms"),
        (with("message", json!({"data": 1, "idempotency_key": "k"})), "invalid-request", "/message/idempotency_key"),
        (with("nope", json!(1)), "invalid-request", "/nope"),
    ] {
        let answer = api.send("PUT ~/schedules/s", &[], body.clone()).await;
        let (_, found, at) = answer.problem();
        assert_eq!((found.as_str(), at.as_str()), (code, pointer), "{body}");
    }
    for line in ["GET ~/schedules/s", "DELETE ~/schedules/s", "DELETE ~/schedules/s?dry_run=true"] {
        assert_eq!(api.call(line).await.problem().1, "schedule-not-found", "{line}");
    }
    assert_eq!(api.call("GET ~/schedules/9").await.problem().1, "invalid-name");
    assert_eq!(api.send("PUT ~/schedules/pm.x", &[], BODY).await.problem().1, "invalid-name", "reserved");
    assert_eq!(api.json("GET ~/schedules", "", 200).await["items"], json!([]));
}
