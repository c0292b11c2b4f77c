//! Topic streams as server-sent events and as NDJSON.

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::Api;

/// An event as an `EventSource` would see it.
#[derive(Debug, Default, PartialEq)]
struct Event {
    name: String,
    id: Option<String>,
    data: String,
}

fn events(text: &str) -> Vec<Event> {
    let mut all = Vec::new();
    for block in text.split("\n\n").filter(|block| !block.is_empty()) {
        let mut event = Event::default();
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("data", data)) => {
                    event.data.push_str(if event.data.is_empty() { "" } else { "\n" });
                    event.data.push_str(data);
                }
                _ => assert!(line.starts_with("retry: ") || line.starts_with(':'), "{line}"),
            }
        }
        if !event.name.is_empty() {
            all.push(event);
        }
    }
    all
}

async fn with_messages() -> Api {
    let api = Api::with_orders().await;
    for (tag, body) in [("a", "one"), ("b", "two"), ("a", "three")] {
        let headers = [("pm-tag", tag), ("content-type", "text/plain")];
        api.send("POST ~/topics/orders/messages", &headers, body).await;
    }
    api
}

#[tokio::test]
async fn a_bounded_stream_from_the_start() {
    let api = with_messages().await;
    let answer = api.call("GET ~/topics/orders/stream?from=earliest&until=tail").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    assert!(answer.text().starts_with("retry: "));
    let all = events(answer.text());
    let names: Vec<_> = all.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names[..4], ["open", "message", "message", "message"]);
    assert_eq!(
        serde_json::from_str::<Value>(&all[0].data).expect("JSON"),
        json!({"topics": ["orders"], "resumed": false})
    );
    let bodies: Vec<Value> =
        all[1..4].iter().map(|e| serde_json::from_str::<Value>(&e.data).expect("JSON")["data"].clone()).collect();
    assert_eq!(bodies, ["one", "two", "three"], "log order");

    let cursor = all[1].id.as_deref().expect("a cursor");
    for (path, headers) in [
        ("GET ~/topics/orders/stream?until=tail&from=earliest", vec![("last-event-id", cursor)]),
        (&*format!("GET ~/topics/orders/stream?until=tail&from=latest&last_event_id={cursor}"), vec![]),
        (&*format!("GET ~/topics/orders/stream?until=tail&from={cursor}"), vec![]),
    ] {
        let resumed = events(api.send(path, &headers, "").await.text());
        assert_eq!(serde_json::from_str::<Value>(&resumed[0].data).expect("JSON")["resumed"], true, "{path}");
        assert_eq!(resumed[1], all[2], "{path}");
    }
    let bounded = events(api.call("GET ~/topics/orders/stream?from=earliest&max_events=1").await.text());
    assert_eq!(bounded.iter().filter(|event| event.name == "message").count(), 1);
}

#[tokio::test]
async fn filters_and_ndjson() {
    let api = with_messages().await;
    let ndjson = [("accept", "application/x-ndjson")];
    for parameter in ["tags=a", "filter=%7B%22tags%22%3A%22a%22%7D"] {
        let line = format!("GET ~/topics/orders/stream?from=earliest&until=tail&{parameter}");
        let answer = api.send(&line, &ndjson, "").await;
        assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
        let lines: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
        assert_eq!(lines[0], json!({"event": "open", "id": null, "data": {"topics": ["orders"], "resumed": false}}));
        let bodies: Vec<_> = lines.iter().filter(|l| l["event"] == "message").map(|l| &l["data"]["data"]).collect();
        assert_eq!(bodies, ["one", "three"], "{parameter}");
    }
}

#[tokio::test]
async fn a_live_stream_follows_beats_and_drains() {
    let api = Api::with_orders().await;
    let request = Api::request("GET ~/topics/orders/stream", &[], "");
    let mut body = api.router.clone().oneshot(request).await.expect("infallible").into_body();
    let mut text = String::new();
    let mut read = async |until: &str| {
        while !text.contains(until) {
            let frame = tokio::time::timeout(std::time::Duration::from_secs(60), body.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("no {until} in {text}")).expect("goes on").expect("a frame");
            text.push_str(std::str::from_utf8(frame.data_ref().expect("data")).expect("UTF-8"));
        }
    };
    read("event: caught-up").await;
    api.send("POST ~/topics/orders/messages", &[("content-type", "application/json")], "{\n\"n\":1}").await;
    read("event: message").await;
    tokio::time::pause();
    read("\n:\n\n").await;
    tokio::time::resume();
    api.shutdown.cancel();
    read("event: drain").await;
    let all = events(&text);
    assert!(all[2].data.contains("\"data\":{\n\"n\":1}"), "the text as it was published: {text}");
}

#[tokio::test]
async fn a_passing_refusal_is_told_inside_the_stream() {
    let api = Api::with_orders().await;
    api.fixture.broker.shutdown().await;
    let answer = api.call("GET ~/topics/orders/stream").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some("text/event-stream")));
    assert!(answer.text().contains("retry: "));
    let all = events(answer.text());
    assert_eq!((all.len(), all[0].name.as_str()), (1, "error"));
    let problem: Value = serde_json::from_str(&all[0].data).expect("JSON");
    assert_eq!(
        (&problem["code"], problem["request_id"].as_str()),
        (&json!("draining"), answer.header("pm-request-id"))
    );
}
