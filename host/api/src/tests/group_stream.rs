//! Ordered groups, group streams and replayed lease answers over HTTP.

use serde_json::{Value, json};

use super::Api;

async fn ordered(ordering: &str) -> Api {
    let api = Api::with_orders().await;
    let group = format!(r#"{{"topics":[{{"topic":"orders"}}],"ordering":"{ordering}","start":"earliest"}}"#);
    let shown = api.json("PUT ~/groups/o", &group, 201).await;
    assert_eq!(shown["ordering"], ordering);
    for (key, body) in [("a", "1"), ("a", "2"), ("b", "3")] {
        let headers = [("pm-ordering-key", key), ("content-type", "text/plain"), ("pm-queue", "0")];
        api.send("POST ~/topics/orders/messages", &headers, body).await;
    }
    api
}

fn bodies(leases: &Value) -> Vec<&str> {
    leases["leases"].as_array().unwrap().iter().map(|lease| lease["message"]["data"].as_str().unwrap()).collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).expect("a line")).collect()
}

#[tokio::test]
async fn ordering_is_set_shown_and_kept() {
    for (ordering, expected) in [("key", vec!["1", "3"]), ("queue", vec!["1", "2", "3"])] {
        let api = ordered(ordering).await;
        let leases = api.json("POST ~/groups/o/leases", "", 200).await;
        assert_eq!(bodies(&leases), expected);
        assert_eq!(bodies(&api.json("POST ~/groups/o/leases", "", 200).await), Vec::<&str>::new());
        let receipt = leases["leases"][0]["receipt"].as_str().unwrap();
        let settle = json!({"items": [{"receipt": receipt, "op": "extend", "lease_ms": 60_000}]}).to_string();
        let settled = api.json("POST ~/groups/o/settle", &settle, 200).await;
        assert_eq!(settled["results"][0]["status"], "extended");
        let settle = json!({"items": [{"receipt": receipt, "op": "ack"}]}).to_string();
        let settled = api.json("POST ~/groups/o/settle", &settle, 200).await;
        assert_eq!(settled["results"][0]["status"], "settled");
    }
}

#[tokio::test]
async fn a_stream_gives_leases_without_ids_that_a_post_settles() {
    for ordering in ["none", "key", "queue"] {
        let api = ordered(ordering).await;
        let answer = api.send("GET ~/groups/o/stream?max_events=1&client_id=c", &[], "").await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some("text/event-stream")));
        let text = answer.text();
        assert!(text.contains("event: open\ndata: {\"topics\":[\"orders\"],\"resumed\":false}\n\n"), "{text}");
        assert!(text.contains("event: message\ndata: {\"receipt\":\"r1.") && !text.contains("id: "), "{text}");

        let ndjson = [("accept", "application/x-ndjson")];
        let path = "GET ~/groups/o/stream?max_inflight=3&lease_ms=60000&until=tail";
        let answer = api.send(path, &ndjson, "").await;
        let lines = lines(answer.text());
        assert_eq!(lines.last().unwrap()["event"], "caught-up");
        let leases: Vec<_> = lines.iter().filter(|line| line["event"] == "message").collect();
        assert_eq!(
            leases.len(),
            match ordering {
                "none" => 2,
                "key" => 1,
                _ => 0,
            },
            "{ordering}: {lines:?}"
        );
        for lease in leases {
            assert_eq!((&lease["id"], &lease["data"]["attempt"]), (&Value::Null, &json!(1)));
            let settle = json!({"items": [{"receipt": lease["data"]["receipt"], "op": "ack"}]}).to_string();
            let settled = api.json("POST ~/groups/o/settle", &settle, 200).await;
            assert_eq!(settled["results"][0]["status"], "settled", "a bound keeps the leases");
        }
    }
}

#[tokio::test]
async fn a_stream_checks_its_query_before_its_group() {
    let api = Api::with_orders().await;
    for (query, pointer) in [
        ("max_inflight=0", "max_inflight"),
        ("max_inflight=1001", "max_inflight"),
        ("lease_ms=0", "lease_ms"),
        ("client_id=", "client_id"),
        ("until=head", "until"),
        ("max_events=0", "max_events"),
        ("from=earliest", "from"),
    ] {
        for group in ["g", "nope"] {
            let answer = api.call(&format!("GET ~/groups/{group}/stream?{query}")).await;
            assert_eq!(answer.problem(), (400, "invalid-request".into(), pointer.into()), "{group} {query}");
        }
    }
    assert_eq!(api.call("GET ~/groups/nope/stream").await.problem().1, "group-not-found");
    assert_eq!(api.call("POST ~/groups/g/stream").await.problem().0, 405);
    let plain = api.send("GET ~/groups/g/stream", &[("accept", "text/plain")], "").await;
    assert_eq!(plain.problem().0, 406);
}

#[tokio::test]
async fn a_lease_call_with_a_key_gives_its_answer_again_while_a_lease_runs() {
    for ordering in ["none", "key"] {
        let api = ordered(ordering).await;
        let key = [("idempotency-key", "k1")];
        let lease = async |headers: &[(&str, &str)]| {
            api.send("POST ~/groups/o/leases", headers, r#"{"max_messages":2}"#).await.json()
        };
        let first = lease(&key).await;
        assert_eq!(bodies(&first).len(), 2, "{ordering}");
        assert_eq!(lease(&key).await, first, "{ordering}");
        let ack = async |i: usize| {
            let settle = json!({"items": [{"receipt": first["leases"][i]["receipt"], "op": "ack"}]}).to_string();
            api.json("POST ~/groups/o/settle", &settle, 200).await
        };
        ack(0).await;
        assert_eq!(lease(&key).await, first, "{ordering}: one still runs");
        ack(1).await;
        let next = lease(&key).await;
        assert_eq!(bodies(&next).len(), 1, "{ordering}: what is left");
        assert_ne!(next, first);
    }
    let api = Api::with_orders().await;
    for key in ["", "a b", &"x".repeat(257)] {
        let answer = api.send("POST ~/groups/g/leases", &[("idempotency-key", key)], "").await;
        assert_eq!(answer.problem().0, 400, "{key:?}");
    }
}
