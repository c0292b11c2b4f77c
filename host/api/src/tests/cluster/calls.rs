//! A node that leads nothing answers like the one that leads.

use std::io::{Read, Write};

use super::*;

#[tokio::test]
async fn every_kind_of_call_on_a_node_that_leads_nothing() {
    let cluster = Cluster::with_orders(2).await;
    cluster.json(2, "PUT ~/topics/paid", "{}", 201).await;
    assert_eq!(cluster.json(1, "GET ~/topics/paid", "", 200).await["queues"], 4);
    assert_eq!(cluster.json(2, "PATCH ~/topics/paid", r#"{"queues":5}"#, 200).await["queues"], 5);
    let listed = cluster.json(2, "GET ~/topics?limit=1", "", 200).await;
    let cursor = listed["next_cursor"].as_str().expect("more").to_owned();
    let rest = cluster.json(1, &format!("GET ~/topics?cursor={cursor}"), "", 200).await;
    assert_eq!(rest["items"][0]["name"], "paid", "a cursor of one node is another's too");

    cluster.publish(2, "a").await;
    let leases = cluster.json(2, "POST ~/groups/g/leases", r#"{"max_messages":1}"#, 200).await;
    let receipt = leases["leases"][0]["receipt"].as_str().expect("a receipt");
    let settle = format!(r#"{{"items":[{{"receipt":"{receipt}","op":"ack"}}]}}"#);
    assert_eq!(cluster.json(2, "POST ~/groups/g/settle", &settle, 200).await["results"][0]["status"], "settled");
    assert_eq!(cluster.json(2, "GET ~/groups/g/offsets", "", 200).await["items"][0]["committed"], "1");

    assert_eq!(cluster.call(2, "DELETE ~/topics/paid").await.status.as_u16(), 204);
    assert_eq!(cluster.call(1, "GET ~/topics/paid").await.problem().1, "topic-not-found");
    assert_eq!(cluster.call(2, "GET ~/topics/paid").await.problem().1, "topic-not-found");
}

#[tokio::test]
async fn answers_are_the_same_to_the_byte() {
    let cluster = Cluster::with_orders(2).await;
    for line in [
        "GET ~/topics/orders",
        "HEAD ~/topics/orders",
        "GET ~/topics/nope",
        "PATCH ~/topics",
        "GET /v1/nothing",
        "GET ~/topics/0bad",
        "GET ~/topics/orders?x=1",
        "GET /v1/tenants/nope/topics",
        "POST ~/topics/orders/messages?ack=never",
        "DELETE ~/topics/orders",
        "GET ~/topics/orders/queues",
        "GET /v1/tenants",
        "GET ~/tokens",
        "GET ~/usage",
    ] {
        let headers = [("pm-request-id", "r"), ("accept", "application/json")];
        let here = cluster.send(1, line, &headers, Body::empty()).await;
        let there = cluster.send(2, line, &headers, Body::empty()).await;
        assert_eq!((here.status, &here.headers, &here.bytes), (there.status, &there.headers, &there.bytes), "{line}");
        assert_eq!(there.header("pm-request-id"), Some("r"), "{line}");
    }
}

#[tokio::test]
async fn conditions_and_tags_go_through() {
    let cluster = Cluster::with_orders(2).await;
    let tag = cluster.call(2, "GET ~/topics/orders").await.header("etag").expect("a tag").to_owned();
    let same = cluster.send(2, "GET ~/topics/orders", &[("if-none-match", &tag)], Body::empty()).await;
    assert_eq!((same.status.as_u16(), same.bytes.len()), (304, 0));
    let headers = [("if-match", "\"0\""), ("content-type", "application/json")];
    let refused = cluster.send(2, "PUT ~/topics/orders", &headers, "{}").await;
    assert_eq!(refused.problem().0, 412);
    let created = cluster.send(2, "POST ~/topics/orders/messages", &[], "x").await;
    assert!(created.header("location").is_some_and(|to| to.starts_with("/v1/tenants/default/messages/")));
}

#[tokio::test]
async fn bodies_go_as_they_are_and_answers_are_compressed_here() {
    let cluster = Cluster::with_orders(2).await;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let text: Vec<u8> = (0..30_000_u32).flat_map(|n| format!("{n} ").into_bytes()).collect();
    packed.write_all(&text).expect("packs");
    let packed = packed.finish().expect("packs");
    let headers = [("content-type", "text/plain"), ("content-encoding", "gzip"), ("pm-queue", "0")];
    assert_eq!(cluster.send(2, "POST ~/topics/orders/messages", &headers, packed).await.status.as_u16(), 201);

    let wants = [("accept-encoding", "gzip")];
    let answer = cluster.send(2, "POST ~/groups/g/leases", &wants, "").await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let mut plain = String::new();
    flate2::read::GzDecoder::new(&answer.bytes[..]).read_to_string(&mut plain).expect("unpacks");
    assert!(plain.len() > 100_000 && plain.starts_with("{\"leases\":["));

    // Larger than what is taken whole.
    let large = vec![b'y'; 2 << 20];
    let headers = [("content-type", "application/octet-stream"), ("pm-queue", "1")];
    let id = cluster.send(2, "POST ~/topics/orders/messages", &headers, large.clone()).await.json();
    let id = id["id"].as_str().expect("an id").to_owned();
    for node in [1, 2] {
        assert_eq!(cluster.call(node, &format!("GET ~/messages/{id}/payload")).await.bytes, large);
        let shown = cluster.call(node, &format!("GET ~/messages/{id}")).await;
        assert!(shown.bytes.len() > large.len());
    }
}

#[tokio::test]
async fn too_large_is_too_large_in_the_same_order() {
    let cluster = Cluster::with_orders(2).await;
    let large = || Body::from(vec![b'x'; (1 << 20) + 1]);
    let streamed =
        || Body::from_stream(futures_util::stream::iter([0; 3].map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1 << 20]))));
    for body in [large as fn() -> Body, streamed] {
        for (line, code) in [
            ("PUT ~/topics/orders", "body-too-large"),
            ("POST ~/groups/g/leases", "body-too-large"),
            ("POST ~/groups/nope/leases", "group-not-found"),
            ("PUT ~/topics/orders?x=1", "invalid-request"),
        ] {
            assert_eq!(cluster.send(2, line, &[], body()).await.problem().1, code, "{line}");
        }
    }
    let announced = [("content-length", "99999999")];
    let refused = cluster.send(
        2,
        "PUT ~/topics/orders",
        &announced,
        Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>()),
    );
    assert_eq!(refused.await.problem().1, "body-too-large", "and it is not read");
}

#[tokio::test]
async fn a_token_goes_with_the_call() {
    let cluster = Cluster::with_orders(2).await;
    let token = cluster.json(2, "POST ~/tokens", r#"{"scopes":["publish:orders"]}"#, 201).await;
    let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
    let headers = [("authorization", &*bearer), ("pm-queue", "0")];
    assert_eq!(cluster.send(2, "POST ~/topics/orders/messages", &headers, "x").await.status.as_u16(), 201);
    let headers = [("authorization", &*bearer)];
    assert_eq!(cluster.send(2, "POST ~/groups/g/leases", &headers, "").await.problem().1, "forbidden");
    let who = cluster.send(2, "GET /v1/whoami", &headers, "").await.json();
    assert_eq!(who["tenant"], "default");
    let id = token["id"].as_str().expect("an id");
    assert_eq!(cluster.call(2, &format!("DELETE ~/tokens/{id}")).await.status.as_u16(), 204);
    for node in [1, 2] {
        let refused = cluster.send(node, "POST ~/topics/orders/messages", &headers, "x").await;
        assert_eq!(refused.problem().1, "token-revoked");
    }
}

#[tokio::test]
async fn requests_count_where_they_came_in() {
    let cluster = Cluster::with_orders(2).await;
    cluster.publish(2, "a").await;
    cluster.call(2, "GET ~/topics/nope").await;
    assert_eq!(cluster.metric(2, "forwards_sent").await, 2);
    assert_eq!(cluster.metric(1, "forwards_served").await, 2);
    let text = |answer: Answer| answer.text().to_owned();
    let here = text(cluster.call(2, "GET /metrics").await);
    assert!(here.contains(r#"pointsman_http_problems_total{code="topic-not-found"} 1"#), "{here}");
    assert!(here.contains(r#"route="/v1/tenants/{tenant}/topics/{topic}/messages",method="POST",status="2xx"} 1"#));
    let there = text(cluster.call(1, "GET /metrics").await);
    assert!(!there.contains("topic-not-found"), "{there}");
}
