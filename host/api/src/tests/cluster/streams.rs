//! Streams through another node: what was delivered counts, what was not goes back, and bodies without end flow.

use axum::body::BodyDataStream;
use tokio::sync::mpsc;

use super::*;

/// The next piece of a body, as text.
async fn piece(body: &mut BodyDataStream) -> String {
    let piece = tokio::time::timeout(Duration::from_secs(5), body.next()).await.expect("in time");
    String::from_utf8(piece.expect("a piece").expect("whole").to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn a_group_stream_that_hangs_up_gives_back_what_was_not_delivered() {
    let cluster = Cluster::with_orders(2).await;
    let headers = [("accept", "application/x-ndjson")];
    let stream = cluster.open(2, "GET ~/groups/g/stream?max_inflight=10", &headers, Body::empty()).await;
    assert_eq!(stream.headers()["content-type"], "application/x-ndjson");
    let mut body = stream.into_body().into_data_stream();
    let mut seen = piece(&mut body).await;
    while !seen.contains("caught-up") {
        seen += &piece(&mut body).await;
    }
    cluster.publish(1, "a").await;
    assert!(piece(&mut body).await.contains("\"data\":\"a\""));
    // Nobody asks for the next piece, so nothing counts as written.
    for text in ["b", "c"] {
        cluster.publish(1, text).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(body);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let leases = cluster.json(1, "POST ~/groups/g/leases", "{}", 200).await;
    let leases = leases["leases"].as_array().expect("leases");
    let given: Vec<_> = leases.iter().map(|lease| (&lease["message"]["data"], &lease["attempt"])).collect();
    assert_eq!(given, [(&"b".into(), &1.into()), (&"c".into(), &1.into())], "free at once and uncounted");
    assert_eq!(cluster.json(1, "GET ~/groups/g/inflight", "", 200).await["items"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn a_group_stream_flows_and_its_leases_are_settled_anywhere() {
    let cluster = Cluster::with_orders(2).await;
    for n in 0..20 {
        cluster.publish(1, &format!("m{n}")).await;
    }
    let headers = [("accept", "application/x-ndjson")];
    let answer = cluster.send(2, "GET ~/groups/g/stream?max_inflight=100&max_events=20", &headers, "").await;
    let leases: Vec<serde_json::Value> = answer
        .text()
        .lines()
        .filter(|line| line.contains("\"event\":\"message\""))
        .map(|line| serde_json::from_str(line).expect("a line"))
        .collect();
    assert_eq!(leases.len(), 20);
    let items: Vec<_> =
        leases.iter().map(|lease| serde_json::json!({"receipt": lease["data"]["receipt"], "op": "ack"})).collect();
    let settle = serde_json::json!({ "items": items }).to_string();
    let settled = cluster.json(2, "POST ~/groups/g/settle", &settle, 200).await;
    assert!(settled["results"].as_array().expect("results").iter().all(|result| result["status"] == "settled"));
}

#[tokio::test]
async fn a_publish_without_end_is_answered_line_by_line() {
    let cluster = Cluster::with_orders(2).await;
    for (kind, item) in [
        ("application/x-ndjson", Bytes::from_static(b"{\"data\":\"x\",\"queue\":0}\n")),
        ("application/vnd.pointsman.frames", Bytes::from_static(b"\x0f\0\0\0\x0b\0\0\0{\"tag\":\"a\"}")),
    ] {
        let (send, receive) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
        let body = futures_util::stream::unfold(receive, |mut receive| async move {
            let piece = receive.recv().await?;
            Some((piece, receive))
        });
        let headers = [("content-type", kind), ("accept", "application/x-ndjson")];
        let answer =
            cluster.open(2, "POST ~/topics/orders/messages", &headers, Body::from_stream(Box::pin(body))).await;
        assert_eq!(answer.status().as_u16(), 200, "before the body ends");
        let mut reports = answer.into_body().into_data_stream();
        for index in 0..3 {
            send.send(Ok(item.clone())).await.expect("taken");
            let report = piece(&mut reports).await;
            assert!(report.contains(&format!("\"index\":{index}")), "{kind}: {report}");
        }
        drop(send);
        assert!(piece(&mut reports).await.starts_with("{\"done\":true"), "{kind}");
    }
    assert_eq!(cluster.metric(1, "forwards_served").await, 2, "sent once each");
}

#[tokio::test(start_paused = true)]
async fn a_publish_without_end_is_not_sent_twice() {
    let cluster = Cluster::with_orders(2).await;
    let headers = [("content-type", "application/x-ndjson"), ("accept", "application/x-ndjson")];
    let body = || Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("{\"data\":\"x\"}\n")]));
    cluster.faults(&[Fault::NotSent]);
    let refused = cluster.send(2, "POST ~/topics/orders/messages", &headers, body()).await;
    assert_eq!(refused.problem().1, "no-leader", "none of it was taken");
    cluster.faults(&[Fault::Lost]);
    let lost = cluster.send(2, "POST ~/topics/orders/messages", &headers, body()).await;
    assert_eq!(lost.problem().1, "outcome-unknown");
    assert_eq!(cluster.metric(2, "forwards_sent").await, 2);
}

#[tokio::test]
async fn producers_are_asked_through_any_node() {
    let cluster = Cluster::with_orders(2).await;
    let half = r#"{"messages":[{"data":"x"}],"check":{"after_ms":1,"interval_ms":1000,"max":3,"via":"producer"}}"#;
    let kind = [("content-type", "application/vnd.pointsman.transaction+json")];
    let prepared = cluster.send(2, "POST ~/topics/orders/transactions", &kind, half).await;
    assert_eq!(prepared.status.as_u16(), 201, "{}", prepared.text());
    cluster.0.nodes.clock.advance_ms(10);
    let stream = cluster.send(2, "GET ~/producer-groups/default/checks?max_events=1", &[], "").await;
    assert!(stream.text().contains("event: check"), "{}", stream.text());
    let tx = prepared.json()["transaction"].as_str().expect("an id").to_owned();
    let committed = cluster.json(2, &format!("POST ~/transactions/{tx}/commit"), "", 200).await;
    assert_eq!(committed["state"], "committed");
    assert_eq!(cluster.lease(2, "{}").await, ["x"]);
}

#[tokio::test]
async fn a_stream_of_one_node_goes_on_at_another() {
    let cluster = Cluster::with_orders(2).await;
    for text in ["a", "b", "c"] {
        cluster.publish(1, text).await;
    }
    let headers = [("accept", "application/x-ndjson")];
    let first = cluster.send(1, "GET ~/topics/orders/stream?from=earliest&max_events=2", &headers, "").await;
    let line = first.text().lines().last().expect("a line");
    let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let cursor = event["id"].as_str().expect("a cursor");
    cluster.shard(1, 2).set_lagging(true);
    cluster.publish(1, "d").await;
    let path = format!("GET ~/topics/orders/stream?last_event_id={cursor}&until=tail");
    let rest = cluster.send(2, &path, &headers, "").await;
    let texts: Vec<_> = ["a", "b", "c", "d"].map(|text| rest.text().contains(&format!("\"data\":\"{text}\""))).into();
    assert_eq!(texts, [false, false, true, true], "{}", rest.text());
}
