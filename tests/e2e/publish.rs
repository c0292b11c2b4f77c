//! Publishing: every form, placement, and what is refused.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Server, T};

#[test]
fn a_raw_message_keeps_everything_its_headers_say() {
    let server = Server::start();
    server.topic("orders", &json!({}));
    let headers = [
        ("Pm-Tag", "paid"),
        ("Pm-Key", "a,b"),
        ("Pm-Key", "c"),
        ("Pm-Ordering-Key", "customer-7"),
        ("Pm-Prop-Region", "eu"),
        ("Pm-Priority", "3"),
        ("Pm-Ttl-Ms", "60000"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let answer = server.call("POST", &format!("{T}/topics/orders/messages"), &headers, b"\x00\xFF");
    let receipt = answer.expect(201);
    let id = receipt["id"].as_str().expect("id");
    assert_eq!(answer.header("location"), Some(&*format!("{T}/messages/{id}")));
    assert_eq!(receipt["duplicate"], false);
    assert_eq!(receipt["durability"], "quorum-fsync");
    assert_eq!(receipt["offset"], "0");

    let message = server.get(&format!("{T}/messages/{id}")).expect(200);
    assert_eq!(message["id"], id);
    assert_eq!(message["tag"], "paid");
    assert_eq!(message["keys"], json!(["a,b", "c"]));
    assert_eq!(message["ordering_key"], "customer-7");
    assert_eq!(message["properties"], json!({"region": "eu"}));
    assert_eq!(message["priority"], 3);
    assert_eq!(message["content_type"], "application/octet-stream");
    assert_eq!(message["data_base64"], "AP8=");
    assert!(message["expires_at"].is_string());
    assert_eq!(message["trace"], headers[7].1);
    let payload = server.get(&format!("{T}/messages/{id}/payload"));
    assert_eq!((payload.status, &payload.body[..]), (200, &b"\x00\xFF"[..]));
}

#[test]
fn a_batch_is_one_call_with_one_result_a_message() {
    let server = Server::start();
    server.topic("orders", &json!({"max_message_bytes": 1024}));
    let body = json!({"messages": [
        {"data": {"amount": 7}, "tag": "paid"},
        {"data": "text"},
        {"data_base64": "AAEC"},
        {"data": "x".repeat(1025)},
    ]});
    let path = format!("{T}/topics/orders/messages");
    let headers = [("Content-Type", "application/vnd.pointsman.batch+json")];
    let answer = server.call("POST", &path, &headers, body.to_string().as_bytes()).expect(207);
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(3), &json!(1)));
    assert_eq!(answer["results"][3]["problem"]["code"], "message-too-large");
    for (i, (field, value, kind)) in [
        ("data", json!({"amount": 7}), "application/json"),
        ("data", json!("text"), "text/plain; charset=utf-8"),
        ("data_base64", json!("AAEC"), "application/octet-stream"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = answer["results"][i]["id"].as_str().expect("id");
        let message = server.get(&format!("{T}/messages/{id}")).expect(200);
        assert_eq!((&message[field], &message["content_type"]), (&value, &json!(kind)), "message {i}");
    }
    let none = server.call("POST", &format!("{path}?atomic=true"), &headers, body.to_string().as_bytes());
    none.expect_problem(413, "message-too-large");
    let total: u64 = latest(&server, "orders").iter().sum();
    assert_eq!(total, 3, "the refused atomic batch stored nothing");
}

#[test]
fn frames_are_the_binary_form_of_the_same() {
    let server = Server::start();
    server.topic("orders", &json!({"queues": 1}));
    let mut body = Vec::new();
    for i in 0..3_u8 {
        let meta = format!(r#"{{"tag":"t{i}"}}"#);
        body.extend_from_slice(&(4 + meta.len() as u32 + 2).to_le_bytes());
        body.extend_from_slice(&(meta.len() as u32).to_le_bytes());
        body.extend_from_slice(meta.as_bytes());
        body.extend_from_slice(&[i, 0xFF]);
    }
    let headers = [("Content-Type", "application/vnd.pointsman.frames")];
    let path = format!("{T}/topics/orders/messages");
    let answer = server.call("POST", &path, &headers, &body).expect(201);
    assert_eq!(answer["accepted"], 3);
    let offsets: Vec<_> = answer["results"].as_array().expect("results").iter().map(|r| r["offset"].clone()).collect();
    assert_eq!(offsets, [json!("0"), json!("1"), json!("2")]);
    let listed = server.get(&format!("{path}?queue=0&offset=1")).expect(200);
    assert_eq!(listed["items"][0]["tag"], "t1");
    assert_eq!(listed["items"][1]["data_base64"], "Av8=");
    body.truncate(body.len() - 1);
    server.call("POST", &path, &headers, &body).expect_problem(400, "invalid-request");
}

#[test]
fn a_queue_beats_an_ordering_key_and_an_ordering_key_stays_in_one_queue() {
    let server = Server::start();
    server.topic("orders", &json!({"queues": 8}));
    let of = |headers: &[(&str, &str)]| server.publish("orders", headers, "x")["queue"].as_u64().expect("queue");
    assert_eq!(of(&[("Pm-Queue", "5"), ("Pm-Ordering-Key", "k")]), 5);
    let first = of(&[("Pm-Ordering-Key", "k")]);
    for _ in 0..5 {
        assert_eq!(of(&[("Pm-Ordering-Key", "k")]), first);
    }
    let spread: std::collections::BTreeSet<u64> =
        (0..64).map(|i| of(&[("Pm-Ordering-Key", &format!("k{i}"))])).collect();
    assert!(spread.len() > 4, "64 keys fell into {spread:?}");
    let bad = server.call("POST", &format!("{T}/topics/orders/messages"), &[("Pm-Queue", "8")], b"x");
    bad.expect_problem(400, "invalid-request");
}

#[test]
fn a_weaker_ack_says_so() {
    let server = Server::start();
    server.topic("orders", &json!({}));
    for (ack, durability) in [("leader", "leader-fsync"), ("none", "none")] {
        let path = format!("{T}/topics/orders/messages?ack={ack}");
        let receipt = server.call("POST", &path, &[], b"x").expect(202);
        assert_eq!(receipt["durability"], durability);
        assert!(receipt["offset"].is_null() && receipt["duplicate"].is_null(), "{receipt}");
    }
    server.call("POST", &format!("{T}/topics/orders/messages?ack=quorum"), &[], b"x").expect(201);
    server
        .call("POST", &format!("{T}/topics/orders/messages?ack=all"), &[], b"x")
        .expect_problem(400, "invalid-request");
}

/// The `latest` offsets of a topic's queues.
pub(crate) fn latest(server: &Server, topic: &str) -> Vec<u64> {
    let queues = server.get(&format!("{T}/topics/{topic}/queues")).expect(200);
    let items = queues["items"].as_array().expect("items").clone();
    items.iter().map(|q| q["latest"].as_str().and_then(|n| n.parse().ok()).expect("latest")).collect()
}

#[test]
fn lines_are_reported_while_more_are_sent() {
    let server = Server::start();
    server.topic("orders", &json!({}));
    let mut stream = TcpStream::connect(server.address()).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    let head = format!(
        "POST {T}/topics/orders/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
         Accept: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("head");
    let mut reader = BufReader::new(stream.try_clone().expect("clone"));
    let mut report = || loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).expect("the server answers") > 0, "the answer ended");
        if line.starts_with('{') {
            break serde_json::from_str::<Value>(&line).expect("JSON");
        }
    };
    for i in 0..3 {
        let line = format!("{{\"data\":{i}}}\n");
        write!(stream, "{:x}\r\n{line}\r\n", line.len()).expect("a chunk");
        let told = report();
        assert_eq!((&told["index"], &told["status"]), (&json!(i), &json!(201)), "told before the next is sent");
    }
    stream.write_all(b"0\r\n\r\n").expect("the end");
    assert_eq!(report(), json!({"done": true, "accepted": 3, "rejected": 0}));
}
