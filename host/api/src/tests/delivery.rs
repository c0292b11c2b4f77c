//! Dead letters, seek, lag, pause, explain and trace.

use serde_json::{Value, json};

use super::{Answer, Api};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Publishes and gives up one message; its id.
async fn dead(api: &Api, body: &str) -> String {
    let sent = api.json("POST ~/topics/orders/messages", body, 201).await;
    let leases = api.json("POST ~/groups/g/leases", "{}", 200).await;
    let receipt = leases["leases"][0]["receipt"].as_str().expect("a lease").to_owned();
    let items = json!({"items": [{"receipt": receipt, "op": "dead-letter", "reason": "cannot be read"}]});
    let settled = api.json("POST ~/groups/g/settle", &items.to_string(), 200).await;
    assert_eq!(settled["results"][0]["status"], "settled");
    sent["id"].as_str().expect("an id").to_owned()
}

fn told(answer: &Answer) -> (u16, String) {
    let (status, code, _) = answer.problem();
    (status, code)
}

#[tokio::test]
async fn dead_letters_are_listed_read_redriven_and_deleted() {
    let api = Api::with_orders().await;
    let (a, b) = (dead(&api, "a").await, dead(&api, "b").await);
    let list = api.call("GET ~/groups/g/dlq?limit=1").await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let next = format!("GET ~/groups/g/dlq?cursor={}", list["next_cursor"].as_str().unwrap());
    let second = api.call(&next).await.json();
    assert_eq!((&second["items"][0]["id"], &second["next_cursor"]), (&json!(b), &Value::Null));

    let mut one = api.call(&format!("GET ~/groups/g/dlq/{a}")).await.json();
    assert_eq!(one["message"]["id"], json!(a));
    assert_eq!(one["message"]["data_base64"], "YQ==");
    for field in ["id", "message", "dead_at", "expires_at"] {
        one.as_object_mut().unwrap().remove(field).expect(field);
    }
    let ended = one["history"][0].as_object_mut().unwrap();
    assert!(ended.remove("delivered_at").unwrap().is_string() && ended.remove("ended_at").unwrap().is_string());
    let queue = one["origin"]["queue"].take();
    assert!(queue.is_number());
    assert_eq!(
        one,
        json!({
            "reason": "cannot be read",
            "origin": {"topic": "orders", "queue": null, "offset": "0"},
            "attempts": 1,
            "history": [{
                "attempt": 1, "outcome": "dead-letter", "reason": "cannot be read", "client_id": null,
                "decision": "dead-letter", "delay_ms": null, "decided_by": "consumer", "binding": null,
                "generation": null,
            }],
        })
    );

    let ask = json!({"ids": [a, "nonsense"]}).to_string();
    let dry = api.json("POST ~/groups/g/dlq/redrive?dry_run=true", &ask, 200).await;
    let of_both = json!([{"id": a, "status": "redriven"}, {"id": "nonsense", "status": "not-found"}]);
    assert_eq!(dry, json!({"redriven": 1, "results": of_both, "more": false, "dry_run": true}));
    let done = api.json("POST ~/groups/g/dlq/redrive", &ask, 200).await;
    assert_eq!(done, json!({"redriven": 1, "results": of_both, "more": false}));
    let again = api.json("POST ~/groups/g/dlq/redrive", &ask, 200).await;
    assert_eq!((&again["redriven"], &again["results"][0]["status"]), (&json!(0), &json!("already-redriven")));
    assert_eq!(told(&api.call(&format!("GET ~/groups/g/dlq/{a}")).await), (404, "message-not-found".to_owned()));
    let lease = api.json("POST ~/groups/g/leases", "{}", 200).await;
    assert_eq!((&lease["leases"][0]["attempt"], &lease["leases"][0]["message"]["id"]), (&json!(1), &json!(a)));

    let dry = api.call(&format!("DELETE ~/groups/g/dlq/{b}?dry_run=true")).await.json();
    assert_eq!((&dry["dry_run"], &dry["would"]), (&json!(true), &json!("delete")));
    assert_eq!(api.call(&format!("DELETE ~/groups/g/dlq/{b}")).await.status, 204);
    assert_eq!(api.call(&format!("DELETE ~/groups/g/dlq/{b}")).await.problem().1, "message-not-found");
    assert_eq!(api.call("GET ~/groups/g/dlq").await.json()["items"], json!([]));
    let none = api.json("POST ~/groups/g/dlq/redrive", "", 200).await;
    assert_eq!(none, json!({"redriven": 0, "results": [], "more": false}));
}

#[tokio::test]
async fn a_seek_needs_the_tag_and_moves_it() {
    let api = Api::with_orders().await;
    for _ in 0..3 {
        api.json("POST ~/topics/orders/messages", "m", 201).await;
    }
    let tag = api.call("GET ~/groups/g").await.header("etag").unwrap().to_owned();
    let bare = api.send("POST ~/groups/g/seek", &[JSON], r#"{"to":{"latest":true}}"#).await;
    assert_eq!(told(&bare), (428, "precondition-required".to_owned()));
    let foreign = api.send("POST ~/groups/g/seek", &[("if-match", "\"r1\"")], r#"{"to":{"latest":true}}"#).await;
    assert_eq!(told(&foreign), (412, "precondition-failed".to_owned()));
    let ask = r#"{"to":{"latest":true}}"#;
    let dry = api.send("POST ~/groups/g/seek?dry_run=true", &[("if-match", &tag)], ask).await;
    assert_eq!((dry.status.as_u16(), dry.header("etag")), (200, Some(tag.as_str())), "{}", dry.text());
    let done = api.send("POST ~/groups/g/seek", &[("if-match", &tag)], ask).await;
    assert_eq!(done.status, 200);
    assert_ne!(done.header("etag"), Some(tag.as_str()));
    assert_eq!(done.header("etag"), api.call("GET ~/groups/g").await.header("etag"));
    let (mut dry, done) = (dry.json(), done.json());
    assert_eq!(dry.as_object_mut().unwrap().remove("dry_run"), Some(json!(true)));
    assert_eq!(dry, done);
    assert_eq!(done["items"][0].as_object().unwrap().len(), 4);
    let lag = api.call("GET ~/groups/g/lag").await.json();
    assert_eq!((&lag["total"], &lag["exact"], &lag["paused"]), (&json!("0"), &json!(true), &json!(false)));
    let offsets = api.call("GET ~/groups/g/offsets").await.json();
    for item in offsets["items"].as_array().unwrap() {
        assert_eq!(item["committed"], item["latest"]);
    }
    let back = api.send("POST ~/groups/g/seek", &[("if-match", "*")], r#"{"to":{"offset":"0"}}"#).await;
    assert_eq!(back.status, 200);
    assert_eq!(api.call("GET ~/groups/g/lag").await.json()["total"], "3");
}

#[tokio::test]
async fn bad_bodies_and_missing_things() {
    let api = Api::with_orders().await;
    for (body, pointer) in [
        ("{}", "/to"),
        (r#"{"to":{}}"#, "/to"),
        (r#"{"to":[]}"#, "/to"),
        (r#"{"to":{"earliest":false}}"#, "/to/earliest"),
        (r#"{"to":{"earliest":true,"latest":true}}"#, "/to"),
        (r#"{"to":{"offset":7}}"#, "/to/offset"),
        (r#"{"to":{"offset":"-1"}}"#, "/to/offset"),
        (r#"{"to":{"time":"yesterday"}}"#, "/to/time"),
        (r#"{"to":{"latest":true},"queues":[-1]}"#, "/queues/0"),
        (r#"{"to":{"latest":true},"queues":[99]}"#, "/queues/0"),
        (r#"{"to":{"latest":true},"topics":["nope"]}"#, "/topics/0"),
        (r#"{"to":{"latest":true},"topic":"orders"}"#, "/topic"),
    ] {
        let refused = api.send("POST ~/groups/g/seek", &[("if-match", "*")], body).await;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text());
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{body}: {}", refused.text());
    }
    let queue =
        api.send("POST ~/groups/g/seek", &[("if-match", "*")], r#"{"to":{"latest":true},"queues":[0.0]}"#).await;
    assert_eq!(queue.status, 200, "{}", queue.text());
    for (body, pointer) in [
        (r#"{"rate_per_s":5}"#, "/rate_per_s"),
        (r#"{"to":"queue"}"#, "/to"),
        (r#"{"ids":"all"}"#, "/ids"),
        (r#"{"filter":{}}"#, "/filter"),
        (r#"{"filter":{"tags":"||"}}"#, "/filter"),
    ] {
        let refused = api.send("POST ~/groups/g/dlq/redrive", &[JSON], body).await;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text());
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    let gone = r#"{"to":{"message_id":"m00000000000000000000000000000000"}}"#;
    assert_eq!(api.send("POST ~/groups/g/seek", &[("if-match", "*")], gone).await.problem().1, "message-not-found");
    for line in [
        "GET ~/groups/nope/dlq",
        "GET ~/groups/nope/dlq/x",
        "DELETE ~/groups/nope/dlq/x",
        "GET ~/groups/nope/offsets",
        "GET ~/groups/nope/lag",
        "GET ~/groups/nope/inflight",
        "GET ~/groups/nope/members",
        "POST ~/groups/nope/pause",
        "POST ~/groups/nope/resume",
        "POST ~/groups/nope/seek",
        "POST ~/groups/nope/dlq/redrive",
    ] {
        assert_eq!(told(&api.call(line).await), (404, "group-not-found".to_owned()), "{line}");
    }
    for line in ["GET ~/messages/x/trace", "GET ~/messages/x/explain?group=g", "GET ~/groups/g/dlq/x"] {
        assert_eq!(told(&api.call(line).await), (404, "message-not-found".to_owned()), "{line}");
    }
    for (line, parameter) in [
        ("GET ~/messages/x/explain", "group"),
        ("GET ~/messages/x/explain?group=-", "group"),
        ("GET ~/groups/g/lag?limit=1", "limit"),
        ("POST ~/groups/g/pause?dry_run=true", "dry_run"),
        ("GET ~/groups/g/dlq?limit=0", "limit"),
    ] {
        let refused = api.call(line).await;
        assert_eq!(refused.json()["errors"][0]["pointer"], parameter, "{line}: {}", refused.text());
    }
    assert_eq!(api.call("GET ~/groups/g/dlq?cursor=p1.nonsense").await.problem().1, "invalid-cursor");
    assert_eq!(api.send("POST ~/groups/g/pause", &[JSON], r#"{"for":1}"#).await.status, 400);
}

#[tokio::test]
async fn pause_resume_leases_and_members() {
    let api = Api::with_orders().await;
    api.json("POST ~/topics/orders/messages", "m", 201).await;
    let paused = api.json("POST ~/groups/g/pause", "", 200).await;
    assert_eq!(paused, json!({"group": "g", "paused": true}));
    let none = api.json("POST ~/groups/g/leases", r#"{"wait_ms":20000}"#, 200).await;
    assert_eq!(none, json!({"leases": []}));
    assert_eq!(api.json("POST ~/groups/g/resume", "{}", 200).await["paused"], false);
    api.json("POST ~/groups/g/leases", r#"{"client_id":"c1"}"#, 200).await;
    let inflight = api.call("GET ~/groups/g/inflight").await.json();
    assert_eq!((&inflight["items"][0]["client_id"], &inflight["items"][0]["attempt"]), (&json!("c1"), &json!(1)));
    let members = api.call("GET ~/groups/g/members").await.json();
    assert_eq!((&members["items"][0]["client_id"], &members["items"][0]["inflight"]), (&json!("c1"), &json!(1)));
    let stats = api.call("GET ~/topics/orders/stats").await.json();
    assert_eq!(stats, json!({"topic": "orders", "queues": 2, "messages": "1", "published": "1", "groups": ["g"]}));
    assert_eq!(told(&api.call("GET ~/topics/nope/stats").await), (404, "topic-not-found".to_owned()));
    let lag = api.call("GET ~/groups/g/lag").await.json();
    let item = lag["items"].as_array().unwrap().iter().find(|item| item["messages"] == "1").expect("one");
    assert_eq!((&item["inflight"], &item["retrying"], &item["topic"]), (&json!(1), &json!(0), &json!("orders")));
}

#[tokio::test]
async fn explain_and_trace_tell_the_story() {
    let api = Api::with_orders().await;
    let group = r#"{"topics":[{"topic":"orders","filter":{"tags":"a"}}],"start":"earliest"}"#;
    api.json("PUT ~/groups/g", group, 200).await;
    let sent = api.send("POST ~/topics/orders/messages", &[("pm-tag", "b"), ("content-type", "text/plain")], "m").await;
    let id = sent.json()["id"].as_str().unwrap().to_owned();
    let found = api.call(&format!("GET ~/messages/{id}/explain?group=g")).await.json();
    assert_eq!(
        (&found["verdict"], &found["state"], &found["recomputed"]),
        (&json!("skip"), &json!("skipped"), &json!(true))
    );
    assert_eq!((&found["plugin"], &found["binding"]), (&json!("builtin/tags"), &json!("g:orders")));
    assert!(found["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(found["routed"]["by"], "round-robin");
    let unknown = api.call(&format!("GET ~/messages/{id}/explain?group=nope")).await;
    assert_eq!(told(&unknown), (404, "group-not-found".to_owned()));
    let trace = api.call(&format!("GET ~/messages/{id}/trace")).await.json();
    let events: Vec<_> = trace["items"].as_array().unwrap().iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["published", "routed", "skipped"]);
    assert!(trace["items"][0]["at"].is_string() && trace["items"][2]["at"].is_null());
}
