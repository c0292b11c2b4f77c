//! The contract's edges: bad input answers the status and code of the contract and stores nothing.

use serde_json::{Value, json};

use crate::publish::latest;
use crate::server::{Server, T};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const BATCH: (&str, &str) = ("Content-Type", "application/vnd.pointsman.batch+json");

#[track_caller]
fn check(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
    expected: (u16, &str),
) -> Value {
    server.call(method, path, headers, body.as_bytes()).expect_problem(expected.0, expected.1)
}

#[test]
fn bad_json_is_400_with_a_pointer() {
    let server = Server::start();
    server.topic("orders", &json!({}));
    let topic = format!("{T}/topics/new");
    let invalid = (400, "invalid-request");
    check(&server, "PUT", &topic, &[JSON], "{", invalid);
    check(&server, "PUT", &topic, &[JSON], "[]", invalid);
    let unknown = check(&server, "PUT", &topic, &[JSON], r#"{"queus":4}"#, invalid);
    assert_eq!(unknown["errors"][0]["pointer"], "/queus", "{unknown}");
    let twice = check(&server, "PUT", &topic, &[JSON], r#"{"queues":4,"queues":5}"#, invalid);
    assert_eq!(twice["errors"][0]["pointer"], "/queues", "{twice}");
    let range = check(&server, "PUT", &topic, &[JSON], r#"{"queues":-1}"#, invalid);
    assert_eq!(range["errors"][0]["pointer"], "/queues", "{range}");
    for queues in ["0", "1025", "\"4\"", "1.5"] {
        check(&server, "PUT", &topic, &[JSON], &format!(r#"{{"queues":{queues}}}"#), invalid);
    }
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    check(&server, "PUT", &topic, &[JSON], &deep, (400, "too-deep"));
    server.get(&topic).expect_problem(404, "topic-not-found");
    server.call("PUT", &topic, &[JSON], br#"{"queues":17.0}"#).expect(201);

    let path = format!("{T}/topics/orders/messages");
    let bad = check(&server, "POST", &path, &[BATCH], r#"{"messages":[{"data":1},{"data":1,"tag":"a|b"}]}"#, invalid);
    assert_eq!(bad["errors"][0]["pointer"], "/messages/1/tag", "{bad}");
    for message in ["{}", r#"{"data":1,"data_base64":"AA=="}"#, r#"{"data_base64":"A"}"#, r#"{"data":1,"priority":10}"#]
    {
        check(&server, "POST", &path, &[BATCH], &format!(r#"{{"messages":[{message}]}}"#), invalid);
    }
    assert_eq!(latest(&server, "orders"), [0; 4], "nothing was stored");
}

#[test]
fn names_and_places_that_do_not_exist() {
    let server = Server::start();
    server.topic("orders", &json!({}));
    for (path, code) in [
        ("/v1/tenants/nobody/topics", "tenant-not-found"),
        ("/v1/tenants/default/topics/none", "topic-not-found"),
        ("/v1/tenants/default/groups/none", "group-not-found"),
        ("/v1/tenants/default/plugins/none", "plugin-not-found"),
        ("/v1/tenants/default/bindings/none", "binding-not-found"),
        ("/v1/tenants/default/messages/m000000000000000000000000000000", "message-not-found"),
        ("/v1/nothing/here", "not-found"),
    ] {
        server.get(path).expect_problem(404, code);
    }
    for name in ["9x", "a%20b", "a%2Fb", &"a".repeat(128)] {
        server.get(&format!("{T}/topics/{name}")).expect_problem(400, "invalid-name");
        server.json("PUT", &format!("{T}/topics/{name}"), &json!({})).expect_problem(400, "invalid-name");
    }
    for name in ["pm.x", "pm-x", "pointsman", "builtin"] {
        server.json("PUT", &format!("{T}/topics/{name}"), &json!({})).expect_problem(400, "invalid-name");
    }
    server.json("POST", &format!("{T}/groups/none/leases"), &json!({})).expect_problem(404, "group-not-found");
    server.call("POST", &format!("{T}/topics/none/messages"), &[], b"x").expect_problem(404, "topic-not-found");
    let group = json!({"topics": [{"topic": "none"}]});
    server.json("PUT", &format!("{T}/groups/g"), &group).expect_problem(404, "topic-not-found");
    let group = json!({"topics": [{"topic": "orders", "filter": {"plugin": "none"}}]});
    server.json("PUT", &format!("{T}/groups/g"), &group).expect_problem(404, "plugin-not-found");
    server.get(&format!("{T}/groups/g")).expect_problem(404, "group-not-found");
    assert_eq!(server.call("DELETE", "/version", &[], b"").expect_problem(405, "method-not-allowed")["status"], 405);
}

#[test]
fn what_is_not_built_yet_is_refused_and_never_ignored() {
    let server = Server::start();
    server.topic("orders", &json!({}));
    let refused = |answer: crate::http::Answer| {
        let problem = answer.expect_problem(400, "invalid-request");
        assert!(problem.to_string().contains("not supported yet"), "{problem}");
        problem
    };
    for (mode, slot, pointer) in
        [("shadow", "selector", "/mode"), ("canary", "selector", "/mode"), ("active", "admit", "/slot")]
    {
        let body = json!({"slot": slot, "topic": "orders", "plugin": "builtin/hash", "version": "0.1.0", "mode": mode});
        let problem = refused(server.json("PUT", &format!("{T}/bindings/b"), &body));
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    assert_eq!(latest(&server, "orders"), [0; 4], "nothing was stored");
}

#[test]
fn sizes_one_below_at_and_above() {
    let server = Server::start();
    server.topic("orders", &json!({"max_message_bytes": 1000, "queues": 1}));
    let path = format!("{T}/topics/orders/messages");
    for (bytes, ok) in [(999, true), (1000, true), (1001, false)] {
        let answer = server.call("POST", &path, &[], &vec![b'x'; bytes]);
        if ok {
            answer.expect(201);
        } else {
            answer.expect_problem(413, "message-too-large");
        }
    }
    for (messages, ok) in [(999, true), (1000, true), (1001, false)] {
        let body = format!(r#"{{"messages":[{}]}}"#, vec![r#"{"data":1}"#; messages].join(","));
        let answer = server.call("POST", &path, &[BATCH, ("Prefer", "return=minimal")], body.as_bytes());
        if ok {
            answer.expect(201);
        } else {
            answer.expect_problem(413, "batch-too-large");
        }
    }
    for (length, ok) in [(127, true), (128, true), (129, false)] {
        let tag = "t".repeat(length);
        let answer = server.call("POST", &path, &[("Pm-Tag", &tag)], b"x");
        if ok {
            answer.expect(201);
        } else {
            answer.expect_problem(400, "invalid-request");
        }
    }
    let topic = format!("{T}/topics/big");
    let body = format!(r#"{{"queues":4,"name":"{}"}}"#, "x".repeat(1 << 20));
    check(&server, "PUT", &topic, &[JSON], &body, (413, "body-too-large"));
}

#[test]
fn etags_and_preconditions() {
    let server = Server::start();
    let path = format!("{T}/topics/orders");
    let created = server.json("PUT", &path, &json!({"queues": 2}));
    let first = created.header("etag").expect("etag").to_owned();
    created.expect(201);
    let same = server.json("PUT", &path, &json!({"queues": 2}));
    assert_eq!((same.status, same.header("etag")), (200, Some(&*first)), "an identical PUT keeps the ETag");
    assert_eq!(server.call("GET", &path, &[("If-None-Match", &first)], b"").status, 304);
    let headers = [JSON, ("If-None-Match", "*")];
    server.call("PUT", &path, &headers, b"{}").expect_problem(412, "precondition-failed");
    let patch = server.call(
        "PATCH",
        &path,
        &[("Content-Type", "application/merge-patch+json"), ("If-Match", &first)],
        br#"{"queues":4}"#,
    );
    assert_eq!(patch.expect(200)["queues"], 4);
    let late = server.call(
        "PATCH",
        &path,
        &[("Content-Type", "application/merge-patch+json"), ("If-Match", &first)],
        br#"{"queues":5}"#,
    );
    late.expect_problem(412, "precondition-failed");
    check(&server, "PUT", &path, &[JSON], r#"{"queues":1}"#, (400, "invalid-request"));
    let kept = server.json("PUT", &path, &json!({})).expect(200);
    assert_eq!(kept["queues"], 4, "a PUT without queues keeps the number");
    let again = server.json("PUT", &path, &server.get(&path).json());
    again.expect(200);
}

#[test]
fn a_web_page_may_not_reach_a_developers_broker() {
    let server = Server::start();
    for header in [("Origin", "https://evil.example"), ("Host", "evil.example")] {
        server.call("GET", &format!("{T}/topics"), &[header], b"").expect_problem(403, "forbidden");
        for open in ["/health/live", "/version"] {
            server.call("GET", open, &[header], b"").expect(200);
        }
    }
    server.call("GET", &format!("{T}/topics"), &[("Host", server.address())], b"").expect(200);
}

#[test]
fn lists_have_pages() {
    let server = Server::start();
    for i in 0..5 {
        server.topic(&format!("t{i}"), &json!({}));
    }
    let first = server.get(&format!("{T}/topics?limit=2")).expect(200);
    assert_eq!(first["items"].as_array().map(Vec::len), Some(2));
    let cursor = first["next_cursor"].as_str().expect("cursor");
    let second = server.get(&format!("{T}/topics?limit=2&cursor={cursor}")).expect(200);
    assert_eq!(second["items"][0]["name"], "t2");
    server.get(&format!("{T}/topics?limit=0")).expect_problem(400, "invalid-request");
    server.get(&format!("{T}/topics?limit=1001")).expect_problem(400, "invalid-request");
    server.get(&format!("{T}/topics?cursor=p1.x")).expect_problem(400, "invalid-cursor");
    server.get(&format!("{T}/topics?colour=red")).expect_problem(400, "invalid-request");
    server.get(&format!("{T}/groups?cursor={cursor}")).expect_problem(400, "invalid-cursor");
}

#[test]
fn documents() {
    let server = Server::start();
    assert_eq!(server.get("/health/live").status, 200);
    assert_eq!(server.get("/health/ready").status, 200);
    let version = server.get("/version").expect(200);
    assert!(version["version"].is_string() && version["feature_level"].is_number(), "{version}");
    let openapi = server.get("/openapi.json").expect(200);
    assert_eq!(openapi["openapi"], "3.1.0");
    let metrics = server.get("/metrics");
    assert!(metrics.header("content-type").is_some_and(|t| t.starts_with("application/openmetrics-text")));
    assert!(String::from_utf8_lossy(&metrics.body).ends_with("# EOF\n"));
}
