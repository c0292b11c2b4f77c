//! Tests of the topic stream: what resumes, what ends it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::ClientOptions;

const OPEN: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Reads one request head.
async fn head(socket: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(socket.read_u8().await.expect("a request"));
    }
    String::from_utf8(text).expect("ascii")
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A server that answers one connection after another with these texts; gives the heads it saw.
async fn serve(answers: Vec<String>) -> (Client, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let seen = tokio::spawn(async move {
        let mut heads = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().await.expect("a client");
            heads.push(head(&mut socket).await);
            socket.write_all(answer.as_bytes()).await.expect("written");
        }
        heads
    });
    (Client::new(&url, ClientOptions::default()).expect("a URL"), seen)
}

fn stream(client: &Client, options: StreamOptions) -> TopicStream {
    client.tenant("default").stream("orders", options)
}

#[tokio::test]
async fn a_broken_connection_is_resumed_after_the_last_id() {
    let first = [OPEN, &chunk("retry: 1\n\n"), &chunk("event: message\nid: c1.a\ndata: 1\n\n"), &chunk("event: mess")];
    let second = [OPEN, &chunk("event: message\nid: c1.b\ndata: 2\n\n"), "0\r\n\r\n"];
    let (client, seen) = serve(vec![first.concat(), second.concat()]).await;
    let mut stream =
        stream(&client, StreamOptions { from: Some("earliest".into()), max_events: Some(3), ..Default::default() });
    let mut data = Vec::new();
    while let Some(event) = stream.next().await.expect("events") {
        data.push(event.data);
    }
    assert_eq!(data, ["1", "2"]);
    assert_eq!(stream.last_id(), Some("c1.b"));
    let heads = seen.await.expect("two requests");
    assert!(
        heads[0].starts_with("GET /v1/tenants/default/topics/orders/stream?from=earliest&max_events=3 "),
        "{}",
        heads[0]
    );
    assert!(!heads[0].contains("last-event-id"), "{}", heads[0]);
    assert!(heads[1].contains("max_events=2 "), "what was given counts: {}", heads[1]);
    assert!(heads[1].contains("last-event-id: c1.a\r\n"), "{}", heads[1]);
}

#[tokio::test]
async fn a_drain_is_no_end() {
    let first = [OPEN, &chunk("retry: 1\n\nevent: drain\ndata: {}\n\n"), "0\r\n\r\n"];
    let second = [OPEN, &chunk("data: 1\n\n"), "0\r\n\r\n"];
    let (client, _seen) = serve(vec![first.concat(), second.concat()]).await;
    let mut stream = stream(&client, StreamOptions { max_events: Some(1), ..Default::default() });
    assert_eq!(stream.next().await.expect("drain").expect("an event").event, "drain");
    assert_eq!(stream.next().await.expect("message").expect("an event").data, "1");
    assert_eq!(stream.next().await.expect("the bound"), None);
}

#[tokio::test]
async fn a_refusal_is_given_up_on() {
    let body = serde_json::to_string(&pointsman_api_types::Problem::new(
        pointsman_api_types::Code::TopicNotFound,
        "no topic `orders`",
    ))
    .expect("JSON");
    let answer = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (client, _seen) = serve(vec![answer]).await;
    let error = stream(&client, StreamOptions::default()).next().await.expect_err("refused");
    assert_eq!(error.to_string(), "no topic `orders` (topic-not-found)");
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    let client = Client::new("http://127.0.0.1:1", ClientOptions::default()).expect("a URL");
    let error = stream(&client, StreamOptions::default()).next().await.expect_err("nobody");
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}
