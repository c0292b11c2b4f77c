//! Publishing the same again over HTTP.

use serde_json::{Value, json};

use super::Api;

const PUBLISH: &str = "POST ~/topics/orders/messages";
const BATCH: (&str, &str) = ("content-type", "application/vnd.pointsman.batch+json");
const FRAMES: (&str, &str) = ("content-type", "application/vnd.pointsman.frames");
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");

fn statuses(answer: &Value) -> Vec<(u64, Option<bool>)> {
    let results = answer["results"].as_array().expect("results");
    results.iter().map(|r| (r["status"].as_u64().expect("a status"), r["duplicate"].as_bool())).collect()
}

#[tokio::test]
async fn a_duplicate_is_200_with_the_original_and_other_bytes_are_422() {
    let api = Api::with_orders().await;
    let key = [("idempotency-key", "order-1"), ("pm-queue", "1")];
    let first = api.send(PUBLISH, &key, "x").await;
    assert_eq!(first.status, 201);
    let mut expected = first.json();
    assert_eq!(expected["duplicate"], false);
    expected["duplicate"] = true.into();
    for headers in [&key[..], &key[..1], &[key[0], ("pm-tag", "other"), ("pm-prop-a", "b")]] {
        let again = api.send(PUBLISH, headers, "x").await;
        assert_eq!((again.status.as_u16(), again.json()), (200, expected.clone()), "{headers:?}");
        assert_eq!(again.header("location"), first.header("location"));
    }
    let early = api.send("POST ~/topics/orders/messages?ack=none", &key, "x").await;
    assert_eq!((early.status.as_u16(), early.json()), (200, expected.clone()), "known before it was proposed");
    let other = api.send(PUBLISH, &key, "y").await;
    assert_eq!(other.problem(), (422, "idempotency-mismatch".into(), String::new()));
    let queues = api.call("GET ~/topics/orders/queues").await.json();
    assert_eq!((&queues["items"][0]["latest"], &queues["items"][1]["latest"]), (&json!("0"), &json!("1")));

    let asked = api.call("GET ~/topics/orders/publishes/order-1").await;
    assert_eq!((asked.status.as_u16(), asked.json()), (200, json!({"state": "committed", "result": expected})));
}

#[tokio::test]
async fn of_many_each_has_its_key_and_its_own_status() {
    let api = Api::with_orders().await;
    let body = r#"{"messages":[{"data":"a"},{"data":"b","idempotency_key":"own"},{"data":"c"}]}"#;
    let many = [BATCH, ("idempotency-key", "call")];
    let answer = api.send(PUBLISH, &many, body).await;
    assert_eq!((answer.status.as_u16(), statuses(&answer.json())), (201, vec![(201, Some(false)); 3]));
    let again = api.send(PUBLISH, &many, body).await;
    assert_eq!((again.status.as_u16(), statuses(&again.json())), (201, vec![(200, Some(true)); 3]));
    assert_eq!((&again.json()["accepted"], &again.json()["rejected"]), (&json!(3), &json!(0)));
    let atomic = api.send("POST ~/topics/orders/messages?atomic=true", &many, body).await;
    assert_eq!((atomic.status.as_u16(), statuses(&atomic.json())), (201, vec![(200, Some(true)); 3]));
    for (key, state) in [("call%2F0", "committed"), ("own", "committed"), ("call%2F1", "absent"), ("call", "absent")] {
        let asked = api.call(&format!("GET ~/topics/orders/publishes/{key}")).await;
        assert_eq!(asked.json()["state"], state, "{key}");
    }
    let mixed = r#"{"messages":[{"data":"z"},{"data":"b","idempotency_key":"own"}]}"#;
    let answer = api.send(PUBLISH, &many, mixed).await;
    assert_eq!(answer.status, 207);
    assert_eq!(answer.json()["results"][0]["problem"]["code"], "idempotency-mismatch");
    assert_eq!(
        (&answer.json()["results"][0]["status"], &answer.json()["results"][1]["status"]),
        (&json!(422), &json!(200))
    );
    let atomic = api.send("POST ~/topics/orders/messages?atomic=true", &many, mixed).await;
    assert_eq!(atomic.problem(), (422, "idempotency-mismatch".into(), String::new()));
}

#[tokio::test]
async fn frames_and_lines_are_numbered_alike() {
    let api = Api::with_orders().await;
    let key = ("idempotency-key", "call");
    let mut frames = Vec::new();
    for (meta, payload) in [("{}", "a"), (r#"{"idempotency_key":"own"}"#, "b"), ("", "c")] {
        frames.extend_from_slice(&((4 + meta.len() + payload.len()) as u32).to_le_bytes());
        frames.extend_from_slice(&(meta.len() as u32).to_le_bytes());
        frames.extend_from_slice(meta.as_bytes());
        frames.extend_from_slice(payload.as_bytes());
    }
    let answer = api.send(PUBLISH, &[FRAMES, key], frames).await;
    assert_eq!(statuses(&answer.json()), [(201, Some(false)); 3]);
    // A line that is none takes its number along.
    let lines = "{\"data\":\"a\"}\nnot a message\n{\"data\":\"c\"}\n{\"data\":\"d\"}\n";
    let answer = api.send(PUBLISH, &[LINES, key], lines).await;
    assert_eq!(statuses(&answer.json()), [(200, Some(true)), (400, None), (200, Some(true)), (201, Some(false))]);
}

#[tokio::test]
async fn a_key_in_the_path_is_a_key() {
    let api = Api::with_orders().await;
    let absent = api.call("GET ~/topics/orders/publishes/none").await;
    assert_eq!((absent.status.as_u16(), absent.json()), (200, json!({"state": "absent", "result": null})));
    for (path, expected) in [
        ("~/topics/orders/publishes/a%20b", (400, "invalid-request")),
        ("~/topics/orders/publishes/%C3%A9", (400, "invalid-request")),
        (&format!("~/topics/orders/publishes/{}", "k".repeat(278)), (400, "invalid-request")),
        ("~/topics/missing/publishes/k", (404, "topic-not-found")),
        ("/v1/tenants/nobody/topics/orders/publishes/k", (404, "tenant-not-found")),
        ("~/topics/orders/publishes/k?x=1", (400, "invalid-request")),
    ] {
        let (status, code, _) = api.call(&format!("GET {path}")).await.problem();
        assert_eq!((status, code.as_str()), expected, "{path}");
    }
    let long = "k".repeat(256);
    assert_eq!(api.send(PUBLISH, &[("idempotency-key", &long)], "x").await.status, 201);
    assert_eq!(
        api.send(PUBLISH, &[BATCH, ("idempotency-key", &long)], r#"{"messages":[{"data":1}]}"#).await.status,
        201
    );
    for found in [long.clone(), format!("{long}%2F0")] {
        assert_eq!(api.call(&format!("GET ~/topics/orders/publishes/{found}")).await.json()["state"], "committed");
    }
    let longer = "k".repeat(257);
    let refused = api.send(PUBLISH, &[("idempotency-key", &longer)], "x").await;
    assert_eq!(refused.problem(), (400, "invalid-request".into(), "Idempotency-Key".into()));
}

#[tokio::test]
async fn under_way_is_said_until_it_is_stored() {
    let api = Api::with_orders().await;
    api.fixture.shard.hold();
    let short = [("idempotency-key", "k"), ("pm-timeout-ms", "30")];
    let unknown = api.send(PUBLISH, &short, "x").await;
    assert_eq!(unknown.problem(), (504, "outcome-unknown".into(), String::new()));
    let asked = api.call("GET ~/topics/orders/publishes/k").await.json();
    assert_eq!(asked, json!({"state": "in-flight", "result": null}));
    api.fixture.shard.release();
    let asked = api.call("GET ~/topics/orders/publishes/k").await.json();
    assert_eq!(asked["state"], "committed");
    let again = api.send(PUBLISH, &short[..1], "x").await;
    assert_eq!((again.status.as_u16(), &again.json()), (200, &asked["result"]));
}
