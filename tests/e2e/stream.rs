//! Topic streams: SSE and NDJSON, from every place, resumed.

use serde_json::{Value, json};

use crate::http::Connection;
use crate::server::{Server, T};

/// One SSE event.
#[derive(Debug)]
struct Event {
    name: String,
    id: Option<String>,
    data: Value,
}

/// Reads a stream that ends by itself.
fn events(server: &Server, query: &str, headers: &[(&str, &str)]) -> Vec<Event> {
    let mut all = vec![("Accept", "text/event-stream")];
    all.extend_from_slice(headers);
    let answer = server.call("GET", &format!("{T}/topics/orders/stream?{query}"), &all, b"");
    assert_eq!(answer.status, 200, "{answer}");
    assert!(answer.header("content-type").is_some_and(|t| t.starts_with("text/event-stream")));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    let text = String::from_utf8(answer.body).expect("UTF-8");
    text.split("\n\n").filter_map(parse).collect()
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(|v| v.trim_start().to_owned());
    let data = field("data:").map_or(Value::Null, |data| serde_json::from_str(&data).expect("JSON data"));
    Some(Event { name: field("event:")?, id: field("id:"), data })
}

fn messages(events: &[Event]) -> Vec<String> {
    let data = |e: &Event| e.data["data"].as_str().expect("text").to_owned();
    events.iter().filter(|e| e.name == "message").map(data).collect()
}

fn server() -> Server {
    let server = Server::start();
    server.topic("orders", &json!({"queues": 3}));
    for i in 0..20 {
        server.publish("orders", &[("Pm-Tag", if i % 2 == 0 { "even" } else { "odd" })], &format!("m{i}"));
    }
    server
}

#[test]
fn a_stream_shows_log_order_and_resumes_after_every_event() {
    let server = server();
    let all = events(&server, "from=earliest&until=tail", &[]);
    assert_eq!(all[0].name, "open");
    assert_eq!(all[0].data, json!({"topics": ["orders"], "resumed": false}));
    let expected: Vec<String> = (0..20).map(|i| format!("m{i}")).collect();
    assert_eq!(messages(&all), expected, "log order over three queues");
    assert_eq!(all.iter().filter(|e| e.name == "caught-up").count(), 1);
    for (i, event) in all.iter().filter(|e| e.name == "message").enumerate() {
        let id = event.id.as_deref().expect("a message moves the cursor");
        let rest = events(&server, "until=tail", &[("Last-Event-ID", id)]);
        assert_eq!(rest[0].data["resumed"], true);
        assert_eq!(messages(&rest), expected[i + 1..], "after event {i}");
    }
}

#[test]
fn a_stream_is_filtered_and_bounded() {
    let server = server();
    assert_eq!(messages(&events(&server, "from=earliest&until=tail&tags=odd", &[])).len(), 10);
    assert_eq!(messages(&events(&server, "from=earliest&max_events=3", &[])).len(), 3);
    assert_eq!(messages(&events(&server, "max_ms=200", &[])), Vec::<String>::new(), "from defaults to latest");
    let two = events(&server, "from=earliest&until=tail&queues=0,1", &[]);
    assert!(two.iter().filter(|e| e.name == "message").all(|e| e.data["queue"] != 2));
}

#[test]
fn ndjson_is_the_same_as_lines() {
    let server = server();
    let answer = server.call(
        "GET",
        &format!("{T}/topics/orders/stream?from=earliest&until=tail"),
        &[("Accept", "application/x-ndjson")],
        b"",
    );
    assert_eq!(answer.status, 200, "{answer}");
    let text = String::from_utf8(answer.body).expect("UTF-8");
    let lines: Vec<Value> =
        text.lines().filter(|l| !l.is_empty()).map(|l| serde_json::from_str(l).expect("a line")).collect();
    assert_eq!(lines.iter().filter(|l| l["event"] == "message").count(), 20);
    assert_eq!(lines[0]["event"], "open");
}

#[test]
fn a_live_stream_shows_what_is_published_later() {
    let server = server();
    let mut connection = Connection::open(server.address()).expect("connect");
    let path = format!("{T}/topics/orders/stream?from=latest&max_events=1");
    connection.send("GET", &path, &[("Accept", "text/event-stream")], b"").expect("send");
    let (status, _) = connection.head().expect("head");
    assert_eq!(status, 200);
    let first = connection.chunk().expect("chunk").expect("open event");
    assert!(
        String::from_utf8_lossy(&first).contains("event: open") || String::from_utf8_lossy(&first).contains("retry:")
    );
    server.publish("orders", &[], "later");
    let mut text = String::from_utf8_lossy(&first).into_owned();
    while let Some(chunk) = connection.chunk().expect("chunk") {
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(text.contains("later"), "{text}");
}

#[test]
fn a_cursor_of_another_topic_is_refused() {
    let server = server();
    let all = events(&server, "from=earliest&max_events=1", &[]);
    let id = all.iter().find_map(|e| e.id.clone()).expect("cursor");
    server.topic("others", &json!({}));
    let headers = [("Accept", "text/event-stream"), ("Last-Event-ID", id.as_str())];
    server.call("GET", &format!("{T}/topics/others/stream"), &headers, b"").expect_problem(400, "invalid-cursor");
    let path = format!("{T}/topics/orders/stream?from=c1.nonsense");
    server.call("GET", &path, &headers[..1], b"").expect_problem(400, "invalid-cursor");
    server.get(&format!("{T}/topics/nowhere/stream")).expect_problem(404, "topic-not-found");
}
