//! Publishing a stream of messages: lines and frames.

use serde_json::{Value, json};

use super::Api;

const PUBLISH: &str = "POST ~/topics/orders/messages";
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");
const FRAMES: (&str, &str) = ("content-type", "application/vnd.pointsman.frames");
const REPORTS: (&str, &str) = ("accept", "application/x-ndjson");

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn frame(meta: &str, payload: &str) -> String {
    // Small lengths are text as well, so that a string can hold them.
    let n = 4 + meta.len() + payload.len();
    [&(n as u32).to_le_bytes()[..], &(meta.len() as u32).to_le_bytes(), meta.as_bytes(), payload.as_bytes()]
        .iter()
        .map(|part| std::str::from_utf8(part).expect("ASCII"))
        .collect()
}

#[tokio::test]
async fn every_line_has_its_report_in_order() {
    let api = Api::with_orders().await;
    let body = "{\"data\":\"a\",\"tag\":\"t\"}\n\n{\"data\":1,\"nope\":2}\n{broken\n{\"data\":{\"n\": 1}}\n{\"data\":1,\"queue\":9}";
    let answer = api.send(PUBLISH, &[LINES, REPORTS], body).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some("application/x-ndjson")));
    let reports = lines(answer.text());
    let told: Vec<_> = reports[..5].iter().map(|r| (r["index"].as_u64(), r["status"].as_u64())).collect();
    let expected = [(0, 201), (1, 400), (2, 400), (3, 201), (4, 400)];
    assert_eq!(told, expected.map(|(i, s)| (Some(i), Some(s))));
    assert_eq!(reports[1]["problem"]["errors"][0]["pointer"], "/nope");
    assert_eq!(reports[4]["problem"]["errors"][0]["pointer"], "/queue");
    assert_eq!(reports[5], json!({"done": true, "accepted": 2, "rejected": 3}));
    assert_eq!(reports.len(), 6);
    let stored = api.call(&format!("GET ~/messages/{}", reports[3]["id"].as_str().expect("an id"))).await.json();
    assert_eq!((&stored["data"], &stored["content_type"]), (&json!({"n": 1}), &json!("application/json")));
}

#[tokio::test]
async fn without_reports_there_is_one_answer() {
    let api = Api::with_orders().await;
    let many: String = (0..600).map(|i| format!("{{\"data\":{i}}}\n")).collect();
    let answer = api.send(PUBLISH, &[LINES], many).await;
    assert_eq!(answer.status, 201);
    let answer = answer.json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(600), &json!(0)));
    let results = answer["results"].as_array().expect("results");
    assert!(results.iter().enumerate().all(|(i, result)| result["index"] == i), "more than one group, one count");
    let mixed = api.send(PUBLISH, &[LINES, ("prefer", "return=minimal")], "{\"data\":1}\n{}\n").await;
    assert_eq!((mixed.status.as_u16(), mixed.header("preference-applied")), (207, Some("return=minimal")));
    let mixed = mixed.json();
    assert_eq!(mixed["results"].as_array().map(Vec::len), Some(1));
    assert_eq!(mixed["results"][0]["problem"]["errors"][0]["pointer"], "/data");
}

#[tokio::test]
async fn frames_without_end() {
    let api = Api::with_orders().await;
    let body = frame("{\"tag\":\"t\"}", "x") + &frame("{}", "yy") + &frame("{\"tag\":\"|\"}", "z");
    let answer = api.send(PUBLISH, &[FRAMES, REPORTS], body.clone()).await;
    let reports = lines(answer.text());
    let told: Vec<_> = reports[..3].iter().map(|report| report["status"].as_u64()).collect();
    assert_eq!(told, [Some(201), Some(201), Some(400)]);
    assert_eq!(reports[3], json!({"done": true, "accepted": 2, "rejected": 1}));
    let cut = api.send(PUBLISH, &[FRAMES, REPORTS], body[..body.len() - 1].to_owned()).await;
    let reports = lines(cut.text());
    let last = reports.last().expect("a line");
    assert_eq!((&last["done"], &last["accepted"]), (&json!(false), &json!(2)), "what came before is published");
    assert_eq!(last["problem"]["code"], "invalid-request");
}

#[tokio::test]
async fn what_refuses_the_call_comes_before_the_stream() {
    let api = Api::with_orders().await;
    for (line, headers, status, code) in [
        ("POST ~/topics/none/messages", &[LINES, REPORTS][..], 404, "topic-not-found"),
        ("POST ~/topics/orders/messages?atomic=true", &[LINES, REPORTS], 400, "invalid-request"),
        ("POST ~/topics/orders/messages?atomic=true", &[FRAMES, REPORTS], 400, "invalid-request"),
        (PUBLISH, &[LINES, ("pm-tag", "x")], 400, "invalid-request"),
        (PUBLISH, &[LINES, ("accept", "text/html")], 406, "not-acceptable"),
        (PUBLISH, &[("content-type", "application/vnd.pointsman.batch+json"), REPORTS], 406, "not-acceptable"),
        (PUBLISH, &[LINES, ("content-encoding", "br"), REPORTS], 415, "unsupported-media-type"),
    ] {
        let answer = api.send(line, headers, "{\"data\":1}").await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["code"].as_str()),
            (status, Some(code)),
            "{line} {headers:?}"
        );
    }
    let empty = api.send(PUBLISH, &[LINES], "\n").await;
    assert_eq!((empty.status.as_u16(), empty.json()["code"].as_str()), (400, Some("invalid-request")));
    let empty = api.send(PUBLISH, &[LINES, REPORTS], "").await;
    assert_eq!(lines(empty.text()), [json!({"done": true, "accepted": 0, "rejected": 0})]);
}
