//! CloudEvents 1.0 in their three shapes.

use serde_json::{Value, json};

use super::Api;

const PUBLISH: &str = "POST ~/topics/orders/messages";
const EVENT: (&str, &str) = ("content-type", "application/cloudevents+json");
const EVENTS: (&str, &str) = ("content-type", "application/cloudevents-batch+json");

fn event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "order.paid", "subject": "1042",
        "partitionkey": "customer-7", "sequence": 3, "final": true, "absent": null, "data": {"n": 1}})
}

async fn stored(api: &Api, id: &Value) -> Value {
    api.call(&format!("GET ~/messages/{}", id.as_str().expect("an id"))).await.json()
}

#[tokio::test]
async fn an_event_is_a_message_and_stored_once() {
    let api = Api::with_orders().await;
    let published = api.send(PUBLISH, &[EVENT], event("a").to_string()).await;
    assert_eq!(published.status.as_u16(), 201, "{}", published.text());
    let receipt = published.json();
    let message = stored(&api, &receipt["id"]).await;
    let expected = json!({"ce-specversion": "1.0", "ce-id": "a", "ce-source": "/shop", "ce-type": "order.paid",
        "ce-subject": "1042", "ce-partitionkey": "customer-7", "ce-sequence": "3", "ce-final": "true"});
    assert_eq!(message["properties"], expected);
    assert_eq!((&message["tag"], &message["keys"]), (&json!("order.paid"), &json!(["1042"])));
    assert_eq!(message["ordering_key"], "customer-7");
    assert_eq!((&message["data"], &message["content_type"]), (&json!({"n": 1}), &json!("application/json")));

    let again = api.send(PUBLISH, &[EVENT], event("a").to_string()).await;
    let told = again.json();
    assert_eq!((again.status.as_u16(), &told["id"], &told["duplicate"]), (200, &receipt["id"], &json!(true)));
    let other = api.send(PUBLISH, &[EVENT], event("b").to_string()).await;
    assert_eq!(other.status.as_u16(), 201, "another id is another event");
}

#[tokio::test]
async fn the_data_of_an_event() {
    let api = Api::with_orders().await;
    let base = json!({"specversion": "1.0", "source": "/s", "type": "t"});
    for (i, (more, kind, shown)) in [
        (json!({"data": "text"}), "application/json", json!({"data": "text"})),
        (json!({"data": "text", "datacontenttype": "text/plain"}), "text/plain", json!({"data": "text"})),
        (json!({"data_base64": "AP8="}), "application/octet-stream", json!({"data_base64": "AP8="})),
        (json!({}), "application/octet-stream", json!({"data_base64": ""})),
    ]
    .into_iter()
    .enumerate()
    {
        let mut event = base.clone();
        event["id"] = json!(i.to_string());
        event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let published = api.send(PUBLISH, &[EVENT], event.to_string()).await;
        assert_eq!(published.status.as_u16(), 201, "{event}: {}", published.text());
        let message = stored(&api, &published.json()["id"]).await;
        assert_eq!(message["content_type"], kind, "{event}");
        for (field, value) in shown.as_object().expect("an object") {
            assert_eq!(message[field], *value, "{event}");
        }
    }
}

#[tokio::test]
async fn headers_of_an_event() {
    let api = Api::with_orders().await;
    let headers = [
        ("content-type", "text/plain"),
        ("ce-specversion", "1.0"),
        ("ce-id", "a"),
        ("ce-source", "/sh%C3%B6p"),
        ("ce-type", "order.paid"),
    ];
    let published = api.send(PUBLISH, &headers, "body").await;
    assert_eq!(published.status.as_u16(), 201, "{}", published.text());
    let message = stored(&api, &published.json()["id"]).await;
    assert_eq!((&message["data"], &message["tag"]), (&json!("body"), &json!("order.paid")));
    assert_eq!(message["properties"]["ce-source"], "/shöp");
    let twice = [&headers[..], &[("ce-id", "b")]].concat();
    assert_eq!(api.send(PUBLISH, &twice, "body").await.status.as_u16(), 400);
    let tagged = [&headers[..], &[("pm-tag", "x")]].concat();
    assert_eq!(api.send(PUBLISH, &tagged, "body").await.status.as_u16(), 400, "the attributes say it");
}

#[tokio::test]
async fn many_events_and_bad_ones() {
    let api = Api::with_orders().await;
    let many = api.send(PUBLISH, &[EVENTS], json!([event("a"), event("b"), event("a")]).to_string()).await;
    assert_eq!(many.status.as_u16(), 201, "{}", many.text());
    let statuses: Vec<_> =
        many.json()["results"].as_array().expect("results").iter().map(|r| r["status"].clone()).collect();
    assert_eq!(statuses, [201, 201, 200]);
    for (change, pointer) in [
        (json!({"specversion": "0.3"}), "/messages/1/specversion"),
        (json!({"source": null}), "/messages/1/source"),
        (json!({"type": "a|b"}), "/messages/1/type"),
        (json!({"subject": "x".repeat(257)}), "/messages/1/subject"),
        (json!({"time": {}}), "/messages/1/time"),
        (json!({"Upper": 1}), "/messages/1/Upper"),
        (json!({"data_base64": "AA=="}), "/messages/1/data"),
    ] {
        let mut bad = event("c");
        bad.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        let answer = api.send(PUBLISH, &[EVENTS], json!([event("d"), bad]).to_string()).await;
        let problem = answer.json();
        assert_eq!(
            (answer.status.as_u16(), problem["errors"][0]["pointer"].as_str()),
            (400, Some(pointer)),
            "{problem}"
        );
    }
    assert_eq!(api.send(PUBLISH, &[EVENTS], "[]").await.status.as_u16(), 400);
    assert_eq!(api.send(PUBLISH, &[EVENTS], "{}").await.status.as_u16(), 400);
}
