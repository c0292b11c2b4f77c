//! Bad input: status and code of the contract, the place, and nothing stored.

use axum::body::Body;

use super::Api;

const BATCH: (&str, &str) = ("content-type", "application/vnd.pointsman.batch+json");
const JSON: (&str, &str) = ("content-type", "application/json");
const PUBLISH: &str = "POST ~/topics/orders/messages";

async fn check(api: &Api, line: &str, headers: &[(&str, &str)], body: &str, expected: (u16, &str, &str)) {
    let answer = api.send(line, headers, body.to_owned()).await;
    let (status, code, pointer) = answer.problem();
    assert_eq!(
        (status, code.as_str(), pointer.as_str()),
        expected,
        "{line} {headers:?} {body:.80}: {:?}",
        answer.bytes
    );
}

#[tokio::test]
async fn publishing() {
    let api = Api::with_orders().await;
    for (headers, body, expected) in [
        (&[BATCH][..], "{", (400, "invalid-request", "")),
        (&[BATCH], r#"{"messages":[{"data":1,"nope":1}]}"#, (400, "invalid-request", "/messages/0/nope")),
        (&[BATCH], r#"{"messages":[{"data":{"a":1,"a":1}}]}"#, (400, "invalid-request", "/messages/0/data/a")),
        (
            &[BATCH],
            r#"{"messages":[{"data":1,"delay_level":19}]}"#,
            (400, "invalid-request", "/messages/0/delay_level"),
        ),
        (
            &[BATCH],
            r#"{"messages":[{"data":1},{"data":1,"deliver_at":"2099-01-01T00:00:00Z"}]}"#,
            (400, "invalid-request", "/messages/1/deliver_at"),
        ),
        (&[("pm-deliver-at", "2099-01-01T00:00:00Z")], "x", (400, "invalid-request", "Pm-Deliver-At")),
        (&[("pm-delay-ms", "5"), ("pm-delay-level", "5")], "x", (400, "invalid-request", "Pm-Delay-Level")),
        (&[BATCH, ("pm-tag", "x")], r#"{"messages":[{"data":1}]}"#, (400, "invalid-request", "Pm-Tag")),
        (
            &[BATCH, ("idempotency-key", "a b")],
            r#"{"messages":[{"data":1}]}"#,
            (400, "invalid-request", "Idempotency-Key"),
        ),
        (
            &[BATCH, ("accept", "application/x-ndjson")],
            r#"{"messages":[{"data":1}]}"#,
            (406, "not-acceptable", "Accept"),
        ),
        (&[BATCH, ("accept", "text/html")], r#"{"messages":[{"data":1}]}"#, (406, "not-acceptable", "Accept")),
        (&[BATCH, ("content-encoding", "br")], "x", (415, "unsupported-media-type", "Content-Encoding")),
        (&[("pm-queue", "2")], "x", (400, "invalid-request", "Pm-Queue")),
        (&[("pm-nope", "2")], "x", (400, "invalid-request", "Pm-Nope")),
        (&[("pm-tag", "a"), ("pm-tag", "b")], "x", (400, "invalid-request", "Pm-Tag")),
        (&[("pm-tag", "a|b")], "x", (400, "invalid-request", "Pm-Tag")),
        (&[("pm-delay-ms", "31536000001")], "x", (400, "invalid-request", "Pm-Delay-Ms")),
        (&[("idempotency-key", "")], "x", (400, "invalid-request", "Idempotency-Key")),
        (&[("pm-timeout-ms", "60001")], "x", (400, "invalid-request", "Pm-Timeout-Ms")),
        (&[("pm-timeout-ms", "0")], "x", (400, "invalid-request", "Pm-Timeout-Ms")),
        (&[("content-type", "application/cloudevents+json")], "{}", (400, "invalid-request", "/specversion")),
        (&[("ce-specversion", "1.0")], "{}", (400, "invalid-request", "ce-id")),
    ] {
        check(&api, PUBLISH, headers, body, expected).await;
    }
    check(&api, "POST ~/topics/orders/messages?ack=all", &[], "x", (400, "invalid-request", "ack")).await;
    check(&api, "POST ~/topics/orders/messages?atomic=1", &[], "x", (400, "invalid-request", "atomic")).await;
    check(&api, "POST ~/topics/orders/messages?nope=1", &[], "x", (400, "invalid-request", "nope")).await;
    check(&api, "POST ~/topics/orders/messages?ack=none&ack=none", &[], "x", (400, "invalid-request", "ack")).await;
    let queues = api.call("GET ~/topics/orders/queues").await.json();
    for queue in queues["items"].as_array().expect("items") {
        assert_eq!(queue["latest"], "0", "nothing stored");
    }
}

#[tokio::test]
async fn the_first_check_that_fails_answers() {
    let api = Api::with_orders().await;
    // Path, credentials, tenant, query, resource, body.
    let steps = [
        ("/v1/tenants/9/topics/no/messages?x=1", &[("authorization", "Bearer x"), BATCH][..], (400, "invalid-name")),
        ("/v1/tenants/no/topics/no/messages?x=1", &[("authorization", "Bearer x"), BATCH], (401, "unauthenticated")),
        ("/v1/tenants/no/topics/no/messages?x=1", &[BATCH], (404, "tenant-not-found")),
        ("/v1/tenants/default/topics/no/messages?x=1", &[BATCH], (400, "invalid-request")),
        ("/v1/tenants/default/topics/no/messages", &[BATCH], (404, "topic-not-found")),
        ("/v1/tenants/default/topics/orders/messages", &[BATCH], (400, "invalid-request")),
    ];
    for (path, headers, (status, code)) in steps {
        let answer = api.send(&format!("POST {path}"), headers, "{").await;
        let found = answer.problem();
        assert_eq!((found.0, found.1.as_str()), (status, code), "{path}");
    }
    for path in ["leases", "settle"] {
        check(&api, &format!("POST ~/groups/no/{path}"), &[], "{", (404, "group-not-found", "")).await;
        check(&api, &format!("POST ~/groups/g/{path}"), &[], "{", (400, "invalid-request", "")).await;
    }
    check(&api, "PATCH ~/topics/no", &[("if-match", "\"r1\"")], "{", (404, "topic-not-found", "")).await;
    check(&api, "PATCH ~/topics/orders", &[("if-match", "\"r0\"")], "{", (400, "invalid-request", "")).await;
    check(&api, "PATCH ~/topics/orders", &[("if-match", "\"r0\"")], "{}", (412, "precondition-failed", "")).await;
}

#[tokio::test]
async fn leases_and_settlements() {
    let api = Api::with_orders().await;
    for (body, pointer) in [
        (r#"{"max_messages":0}"#, "/max_messages"),
        (r#"{"max_messages":1001}"#, "/max_messages"),
        (r#"{"max_messages":-1}"#, "/max_messages"),
        (r#"{"max_bytes":16777217}"#, "/max_bytes"),
        (r#"{"wait_ms":60001}"#, "/wait_ms"),
        (r#"{"lease_ms":0}"#, "/lease_ms"),
        (r#"{"lease_ms":43200001}"#, "/lease_ms"),
        (r#"{"client_id":""}"#, "/client_id"),
        (r#"{"nope":1}"#, "/nope"),
        ("[]", ""),
    ] {
        check(&api, "POST ~/groups/g/leases", &[JSON], body, (400, "invalid-request", pointer)).await;
    }
    for (item, pointer) in [
        (r#"{"receipt":"r","op":"ack","delay_ms":1}"#, "/items/0/delay_ms"),
        (r#"{"receipt":"r","op":"ack","lease_ms":1}"#, "/items/0/lease_ms"),
        (r#"{"receipt":"r","op":"release","reason":"x"}"#, "/items/0/reason"),
        (r#"{"receipt":"r","op":"dead-letter","delay_ms":1}"#, "/items/0/delay_ms"),
        (r#"{"receipt":"r","op":"eat"}"#, "/items/0/op"),
        (r#"{"op":"ack"}"#, "/items/0/receipt"),
    ] {
        let body = format!("{{\"items\":[{item}]}}");
        check(&api, "POST ~/groups/g/settle", &[JSON], &body, (400, "invalid-request", pointer)).await;
    }
    for (count, status) in [(1_000, 207), (1_001, 400)] {
        let items = vec![r#"{"receipt":"r","op":"ack"}"#; count].join(",");
        let answer = api.send("POST ~/groups/g/settle", &[JSON], format!("{{\"items\":[{items}]}}")).await;
        assert_eq!(answer.status.as_u16(), status, "{count} items");
    }
    check(
        &api,
        "POST ~/groups/g/leases",
        &[("content-type", "text/plain")],
        "{}",
        (415, "unsupported-media-type", "Content-Type"),
    )
    .await;
    check(
        &api,
        "POST ~/groups/g/leases",
        &[("idempotency-key", "a b")],
        "{}",
        (400, "invalid-request", "Idempotency-Key"),
    )
    .await;
    let large = format!("{{\"client_id\":\"{}\"}}", "x".repeat(1 << 20));
    check(&api, "POST ~/groups/g/leases", &[JSON], &large, (413, "body-too-large", "")).await;
}

#[tokio::test]
async fn configuration() {
    let api = Api::with_orders().await;
    let topic = |fields: &str| format!(r#"{{"topics":[{{"topic":"orders"}}],{fields}}}"#);
    let filter = |filter: &str| format!(r#"{{"topics":[{{"topic":"orders","filter":{filter}}}]}}"#);
    for (line, body, expected) in [
        ("PUT ~/topics/t", r#"{"queues":0}"#, (400, "invalid-request", "/queues")),
        ("PUT ~/topics/t", r#"{"queues":1025}"#, (400, "invalid-request", "/queues")),
        ("PUT ~/topics/orders", r#"{"queues":1}"#, (400, "invalid-request", "/queues")),
        ("PUT ~/topics/t", r#"{"retention_bytes":5}"#, (400, "invalid-request", "/retention_bytes")),
        ("PUT ~/topics/t", r#"{"retention_bytes":"05"}"#, (400, "invalid-request", "/retention_bytes")),
        ("PUT ~/topics/t", r#"{"max_message_bytes":16777217}"#, (400, "invalid-request", "/max_message_bytes")),
        ("PUT ~/topics/t", r#"{"durability":"some"}"#, (400, "invalid-request", "/durability")),
        ("PUT ~/topics/t", r#"{"trace":"all"}"#, (400, "invalid-request", "/trace")),
        ("PUT ~/topics/t", r#"{"name":"u"}"#, (400, "invalid-request", "/name")),
        ("PUT ~/topics/t", r#"{"queues":1,"queues":2}"#, (400, "invalid-request", "/queues")),
        ("PUT ~/topics/pm.t", "{}", (400, "invalid-name", "")),
        ("PUT ~/topics/builtin", "{}", (400, "invalid-name", "")),
        ("PATCH ~/topics/orders", r#"{"nope":1}"#, (400, "invalid-request", "/nope")),
        ("PATCH ~/topics/orders", r#"{"queues":1}"#, (400, "invalid-request", "/queues")),
        ("PUT ~/groups/h", "{}", (400, "invalid-request", "/topics")),
        ("PUT ~/groups/h", r#"{"topics":[]}"#, (400, "invalid-request", "/topics")),
        ("PUT ~/groups/h", r#"{"topics":[{"topic":"no"}]}"#, (404, "topic-not-found", "")),
        ("PUT ~/groups/h", r#"{"topics":[{"topic":"a b"}]}"#, (400, "invalid-name", "/topics/0/topic")),
        ("PUT ~/groups/h", &topic(r#""ordering":"topic""#), (400, "invalid-request", "/ordering")),
        ("PUT ~/groups/h", &topic(r#""start":"soon""#), (400, "invalid-request", "/start")),
        ("PUT ~/groups/h", &topic(r#""max_retries":1001"#), (400, "invalid-request", "/max_retries")),
        ("PUT ~/groups/h", &filter(r#"{"sql":"a = 1"}"#), (400, "invalid-request", "/topics/0/filter/sql")),
        ("PUT ~/groups/h", &filter("{}"), (400, "invalid-request", "/topics/0/filter")),
        ("PUT ~/groups/h", &filter(r#"{"tags":"a","plugin":"p"}"#), (400, "invalid-request", "/topics/0/filter")),
        ("PUT ~/groups/h", &filter(r#"{"tags":"a","config":{}}"#), (400, "invalid-request", "/topics/0/filter/config")),
        ("PUT ~/groups/h", &filter(r#"{"plugin":"no"}"#), (404, "plugin-not-found", "")),
        (
            "PUT ~/bindings/b",
            r#"{"slot":"assign","plugin":"p","version":"1.0.0","group":"g"}"#,
            (400, "invalid-request", "/slot"),
        ),
        (
            "PUT ~/bindings/b",
            r#"{"slot":"retry","plugin":"p","version":"1.0.0","group":"g","topic":"orders"}"#,
            (400, "invalid-request", "/topic"),
        ),
        ("PUT ~/bindings/b", r#"{"slot":"retry","plugin":"p","version":"1.0.0"}"#, (400, "invalid-request", "/group")),
        (
            "PUT ~/bindings/b",
            r#"{"slot":"retry","plugin":"p","version":"1.0.0","group":"g","on_failure":"keep"}"#,
            (400, "invalid-request", "/on_failure"),
        ),
        ("PUT ~/bindings/b", r#"{"slot":"dedup","plugin":"p","version":"1.0.0"}"#, (400, "invalid-request", "/topic")),
        (
            "PUT ~/bindings/b",
            r#"{"slot":"check-back","plugin":"p","version":"1.0.0","topic":"orders","group":"g"}"#,
            (400, "invalid-request", "/group"),
        ),
        ("PUT ~/bindings/b", r#"{"slot":"filter","plugin":"p","version":"1.0.0"}"#, (400, "invalid-request", "/group")),
        (
            "PUT ~/bindings/b",
            r#"{"slot":"selector","plugin":"p","version":"1.0.0"}"#,
            (400, "invalid-request", "/topic"),
        ),
        ("PUT ~/bindings/b", r#"{"slot":"selector","plugin":"p"}"#, (400, "invalid-request", "/version")),
        (
            "PUT ~/bindings/b",
            r#"{"slot":"selector","topic":"orders","plugin":"p","version":"1.0.0","mode":"shadow"}"#,
            (400, "invalid-request", "/mode"),
        ),
        (
            "PUT ~/bindings/b",
            r#"{"slot":"selector","topic":"orders","plugin":"p","version":"1.0.0","on_failure":"skip"}"#,
            (400, "invalid-request", "/on_failure"),
        ),
        (
            "PUT ~/bindings/b",
            r#"{"slot":"selector","topic":"orders","plugin":"p","version":"1.0.0"}"#,
            (404, "plugin-not-found", ""),
        ),
        ("PUT ~/bindings/g:orders", "{}", (400, "invalid-name", "")),
        ("POST ~/bindings/no/promote", "{}", (404, "binding-not-found", "")),
        ("PUT /v1/tenants/builtin", "{}", (400, "invalid-name", "")),
        ("PUT /v1/tenants/t", r#"{"created_at":"2020-01-01T00:00:00Z"}"#, (400, "invalid-request", "/created_at")),
        ("PUT /v1/tenants/t", "[]", (400, "invalid-request", "")),
        ("DELETE /v1/tenants/default", "", (409, "in-use", "")),
    ] {
        check(&api, line, &[JSON], body, expected).await;
    }
    let bad_tags = api.send("PUT ~/groups/h", &[JSON], filter(r#"{"tags":"a || "}"#)).await;
    assert_eq!(bad_tags.problem().1, "invalid-filter", "{:?}", bad_tags.bytes);
    for line in ["GET ~/topics/t", "GET ~/groups/h", "GET ~/bindings/b", "GET /v1/tenants/t"] {
        assert_eq!(api.call(line).await.status, 404, "nothing stored: {line}");
    }
}

#[tokio::test]
async fn plugins() {
    let api = Api::new().await;
    let put = "PUT ~/plugins/p/versions/1.0.0";
    let wasm = ("content-type", "application/wasm");
    check(&api, put, &[], "x", (415, "unsupported-media-type", "Content-Type")).await;
    check(&api, put, &[JSON], "x", (415, "unsupported-media-type", "Content-Type")).await;
    let answer = api.send(put, &[wasm], "random bytes").await;
    assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str()), (422, Some("plugin-invalid")));
    assert_eq!(answer.json()["errors"][0]["code"], "not-a-component");
    let large = Body::from(vec![0; (4 << 20) + 1]);
    assert_eq!(api.send(put, &[wasm], large).await.problem().1, "plugin-too-large");
    check(&api, "PUT ~/plugins/p/versions/one", &[wasm], "x", (400, "invalid-request", "")).await;
    check(&api, "PUT ~/plugins/pm-p/versions/1.0.0", &[wasm], "x", (400, "invalid-name", "")).await;
    check(&api, "GET ~/plugins/p", &[], "", (404, "plugin-not-found", "")).await;
    check(&api, "GET ~/plugins/p/versions/1.0.0/wasm", &[], "", (404, "plugin-not-found", "")).await;
}

#[tokio::test]
async fn look_ups_and_streams() {
    let api = Api::with_orders().await;
    for (line, expected) in [
        ("GET ~/messages/nonsense", (404, "message-not-found", "")),
        ("GET /v1/tenants/no/messages/nonsense", (404, "tenant-not-found", "")),
        ("GET ~/topics/orders/messages", (400, "invalid-request", "queue")),
        ("GET ~/topics/orders/messages?queue=0&key=k", (400, "invalid-request", "key")),
        ("GET ~/topics/orders/messages?queue=2", (400, "invalid-request", "queue")),
        ("GET ~/topics/orders/messages?queue=0&limit=0", (400, "invalid-request", "limit")),
        ("GET ~/topics/orders/messages?queue=0&limit=1001", (400, "invalid-request", "limit")),
        ("GET ~/topics/orders/messages?tag=t", (400, "invalid-request", "tag")),
        ("GET ~/topics/orders/messages?queue=0&cursor=p1.x", (400, "invalid-cursor", "cursor")),
        ("GET ~/topics?cursor=nonsense", (400, "invalid-cursor", "cursor")),
        ("GET ~/topics/orders/offsets", (400, "invalid-request", "time")),
        ("GET ~/topics/orders/offsets?time=now", (400, "invalid-request", "time")),
        ("GET ~/topics/no/stream", (404, "topic-not-found", "")),
        ("GET ~/topics/orders/stream?from=soon", (400, "invalid-request", "from")),
        ("GET ~/topics/orders/stream?from=c1.x", (400, "invalid-cursor", "cursor")),
        ("GET ~/topics/orders/stream?last_event_id=x%20y", (400, "invalid-cursor", "cursor")),
        ("GET ~/topics/orders/stream?until=noon", (400, "invalid-request", "until")),
        ("GET ~/topics/orders/stream?max_events=0", (400, "invalid-request", "max_events")),
        ("GET ~/topics/orders/stream?queues=0,x", (400, "invalid-request", "queues")),
        ("GET ~/topics/orders/stream?ticket=t", (401, "unauthenticated", "Authorization")),
        ("GET ~/topics/orders/stream?filter=%7B%22tags%22", (400, "invalid-request", "filter/tags")),
    ] {
        check(&api, line, &[], "", expected).await;
    }
    let answer = api.send("GET ~/topics/orders/stream", &[("accept", "application/json")], "").await;
    assert_eq!(answer.problem().1, "not-acceptable");
}
