//! Who is let in: every route without a token, with a stranger's, and with one that lacks the scope.

use std::sync::Arc;

use axum::body::Body;
use http::Method;
use pointsman_broker::testing::fixture::Fixture;
use pointsman_broker::{Action, BrokerConfig, OperatorToken};
use serde_json::json;

use super::Api;
use crate::{ApiConfig, access, openapi, router};

const OPERATOR: &str = "pm_root_0123456789abcdef";

impl Api {
    /// With the token of an operator file, hence closed to everyone else.
    async fn guarded() -> Self {
        let operator_token = Some(OperatorToken::parse(OPERATOR).expect("a token"));
        let fixture = Fixture::with(BrokerConfig { operator_token, ..BrokerConfig::default() }).await;
        let config = ApiConfig::default();
        let shutdown = config.shutdown.clone();
        let router = router(Arc::new(fixture.broker.clone()), config);
        let api = Self { fixture, router, shutdown };
        for (line, body) in [
            ("PUT /v1/tenants/other", "{}"),
            ("PUT ~/topics/orders", r#"{"queues":1}"#),
            ("PUT ~/groups/g", r#"{"topics":[{"topic":"orders"}]}"#),
        ] {
            assert_eq!(api.with(OPERATOR, line, body).await.status, 201, "{line}");
        }
        api
    }

    async fn with(&self, token: &str, line: &str, body: &str) -> super::Answer {
        let authorization = format!("Bearer {token}");
        self.send(line, &[("authorization", &authorization), ("content-type", "application/json")], body.to_owned())
            .await
    }

    /// A new token of a tenant.
    async fn token(&self, tenant: &str, scopes: &[&str]) -> String {
        let body = json!({ "scopes": scopes }).to_string();
        let made = self.with(OPERATOR, &format!("POST /v1/tenants/{tenant}/tokens"), &body).await;
        assert_eq!(made.status, 201, "{:?}", made.bytes);
        made.json()["token"].as_str().expect("a token").to_owned()
    }
}

/// A call of an operation, its parameters filled in, with a query that no route knows: the order of checks is tested, too.
fn line(method: &str, path: &str) -> String {
    let path: Vec<_> = path
        .split('/')
        .map(|part| match part {
            "{tenant}" => "default",
            "{topic}" => "orders",
            "{group}" => "g",
            part if part.starts_with('{') => "x1",
            part => part,
        })
        .collect();
    format!("{} {}?nonsense=1", method.to_uppercase(), path.join("/"))
}

fn action_of<'a>(method: &str, path: &str, parameters: &'a access::Path) -> Action<'a> {
    access::action(path, &Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method"), parameters)
}

#[tokio::test]
async fn no_route_but_health_and_version_answers_without_a_token() {
    let api = Api::guarded().await;
    for (method, path) in openapi::operations() {
        let answer = api.send(&line(method, path), &[], Body::empty()).await;
        if access::is_open(path) {
            assert_ne!(answer.status, 401, "{method} {path}");
            continue;
        }
        assert_eq!(answer.status, 401, "{method} {path}: {:?}", answer.bytes);
        if method != "head" {
            assert_eq!(answer.problem().1, "unauthenticated", "{method} {path}");
        }
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{method} {path}");
    }
}

#[tokio::test]
async fn a_stranger_finds_no_tenant_on_any_route() {
    let api = Api::guarded().await;
    let everything = ["admin:*", "consume:*", "publish:*", "plugin:write", "admin:tokens"];
    let stranger = api.token("other", &everything).await;
    let mut walked = 0;
    for (method, path) in openapi::operations().filter(|(_, path)| path.starts_with("/v1/tenants/{tenant}")) {
        let line = line(method, path);
        let theirs = api.with(&stranger, &line, "{").await;
        assert_eq!((theirs.status.as_u16(), theirs.problem().1.as_str()), (404, "tenant-not-found"), "{line}");
        let unknown = api.with(&stranger, &line.replacen("/default", "/nobody", 1), "{").await;
        let shape = |answer: &super::Answer| {
            let mut problem = answer.json();
            problem["request_id"].take();
            problem
        };
        assert_eq!(shape(&theirs), shape(&unknown), "{line}");
        walked += 1;
    }
    assert!(walked > 40, "{walked}");
}

#[tokio::test]
async fn a_missing_scope_is_forbidden_before_query_and_body() {
    let api = Api::guarded().await;
    let plugins = api.token("default", &["plugin:write"]).await;
    let publisher = api.token("default", &["publish:nothing-of-the-kind"]).await;
    let parameters: Vec<_> = ["default", "orders", "x"].map(|value| ("", value.to_owned())).into();
    let (mut forbidden, mut read) = (0, 0);
    for (method, path) in openapi::operations().filter(|(_, path)| !access::is_open(path)) {
        let line = line(method, path);
        let action = action_of(method, path, &parameters);
        let token = if action == Action::PluginWrite { &publisher } else { &plugins };
        let answer = api.with(token, &line, "{").await;
        if action == Action::Read {
            assert!(!matches!(answer.status.as_u16(), 401 | 403), "{line}: {:?}", answer.bytes);
            read += 1;
        } else {
            assert_eq!((answer.status.as_u16(), answer.problem().1.as_str()), (403, "forbidden"), "{line}");
            forbidden += 1;
        }
    }
    assert!(forbidden > 20 && read > 15, "{forbidden} {read}");
}

#[tokio::test]
async fn scopes_say_which_topic_and_which_group() {
    let api = Api::guarded().await;
    let publisher = api.token("default", &["publish:orders"]).await;
    let sent = api.with(&publisher, "POST ~/topics/orders/messages", "{}").await;
    assert_eq!(sent.status, 201, "{:?}", sent.bytes);
    let id = sent.json()["id"].as_str().expect("an id").to_owned();
    for (scope, line, status) in [
        ("publish:bills", "POST ~/topics/orders/messages", 403),
        ("consume:g", "POST ~/groups/g/leases", 200),
        ("consume:orders", "POST ~/groups/g/leases", 403),
        ("consume:orders", "GET ~/topics/orders/messages?queue=0&offset=0", 200),
        ("consume:g", "GET ~/topics/orders/messages?queue=0&offset=0", 403),
        ("admin:orders", "PUT ~/topics/orders", 200),
        ("admin:g", "PUT ~/topics/orders", 403),
        ("admin:*", "GET ~/tokens", 200),
        ("admin:orders", "GET ~/tokens", 403),
        ("operator", "PUT ~/topics/orders", 200),
        ("operator", "GET /v1/audit", 200),
        ("admin:*", "GET /v1/audit", 403),
    ] {
        let token = api.token("default", &[scope]).await;
        let answer = api.with(&token, line, "{}").await;
        assert_eq!(answer.status.as_u16(), status, "{scope}: {line}: {:?}", answer.bytes);
    }
    for (scope, status) in [("consume:orders", 200), ("consume:g", 403), ("consume:*", 200)] {
        let token = api.token("default", &[scope]).await;
        let answer = api.with(&token, &format!("GET ~/messages/{id}"), "").await;
        assert_eq!(answer.status.as_u16(), status, "{scope}: {:?}", answer.bytes);
    }
}

#[tokio::test]
async fn tokens_over_http() {
    let api = Api::guarded().await;
    let made = api.with(OPERATOR, "POST ~/tokens", r#"{"scopes":["publish:*"]}"#).await;
    let fields = made.json();
    let id = fields["id"].as_str().expect("an id");
    assert_eq!(made.header("location"), Some(format!("/v1/tenants/default/tokens/{id}").as_str()));
    let token = fields["token"].as_str().expect("a token");
    assert!(token.starts_with(&format!("pm_{id}_")));
    assert_eq!((&fields["scopes"], &fields["expires_at"]), (&json!(["publish:*"]), &json!(null)));
    let whoami = api.with(token, "GET /v1/whoami", "").await.json();
    assert_eq!(whoami, json!({"tenant": "default", "token": id, "scopes": ["publish:*"]}));
    let whoami = api.with(OPERATOR, "GET /v1/whoami", "").await.json();
    assert_eq!(whoami, json!({"tenant": null, "token": "root", "scopes": ["operator"]}));

    let listed = api.with(OPERATOR, "GET ~/tokens?limit=1", "").await;
    assert_eq!(listed.json()["items"][0]["id"], id);
    assert!(!listed.text().contains(token), "the secret is shown once");
    let dry = api.with(OPERATOR, &format!("DELETE ~/tokens/{id}?dry_run=true"), "").await;
    assert_eq!((dry.status.as_u16(), dry.json()["would"].as_str()), (200, Some("delete")));
    assert_eq!(api.with(token, "GET /v1/whoami", "").await.status, 200, "nothing was done");
    assert_eq!(api.with(OPERATOR, &format!("DELETE ~/tokens/{id}"), "").await.status, 204);
    assert_eq!(api.with(token, "GET /v1/whoami", "").await.problem().1, "token-revoked");
    assert_eq!(api.with(OPERATOR, &format!("DELETE ~/tokens/{id}"), "").await.problem().1, "token-not-found");

    for (body, status, pointer) in [
        (r#"{"scopes":[]}"#, 400, "/scopes"),
        (r#"{"scopes":["everything"]}"#, 400, "/scopes/0"),
        (r#"{"scopes":["publish:*"],"expires_at":"2001-01-01T00:00:00Z"}"#, 400, "/expires_at"),
        (r#"{"scopes":["publish:*"],"name":"x"}"#, 400, "/name"),
        ("{}", 400, "/scopes"),
    ] {
        let refused = api.with(OPERATOR, "POST ~/tokens", body).await.problem();
        assert_eq!((refused.0, refused.2.as_str()), (status, pointer), "{body}");
    }
    for (value, code) in [
        ("Basic dXNlcjpwYXNz", "unauthenticated"),
        ("Bearer", "unauthenticated"),
        ("Bearer nonsense", "unauthenticated"),
        ("Bearer a.b.c", "unauthenticated"),
    ] {
        let refused = api.send("GET /v1/whoami", &[("authorization", value)], "").await.problem();
        assert_eq!((refused.0, refused.1.as_str()), (401, code), "{value}");
    }
    assert_eq!(api.send("GET /health/live", &[("authorization", "Bearer nonsense")], "").await.status, 200);
}

#[tokio::test]
async fn a_token_brings_its_bearer_past_the_origin() {
    let api = Api::new().await;
    let foreign = ("origin", "https://example.com");
    assert_eq!(api.send("GET /v1/tenants", &[foreign], "").await.problem().1, "forbidden");
    let made = api.json("POST ~/tokens", r#"{"scopes":["publish:*"]}"#, 201).await;
    let bearer = format!("Bearer {}", made["token"].as_str().expect("a token"));
    let known = api.send("GET /v1/tenants", &[foreign, ("authorization", &bearer)], "").await;
    assert_eq!(known.status, 200, "{:?}", known.bytes);
    assert_eq!(api.send("GET /v1/tenants", &[foreign], "").await.problem().1, "forbidden", "no operator token yet");
    let made = api.json("POST ~/tokens", r#"{"scopes":["operator"]}"#, 201).await;
    assert!(made["token"].is_string());
    assert_eq!(api.call("GET /v1/tenants").await.problem().1, "unauthenticated", "now there is one");
}

#[tokio::test]
async fn tickets_open_streams_and_nothing_else() {
    let api = Api::guarded().await;
    let token = api.token("default", &["consume:orders"]).await;
    let path = "/v1/tenants/default/topics/orders/stream";
    let ticket = async || {
        let made = api.with(&token, "POST ~/stream-tickets", &json!({ "path": path }).to_string()).await;
        assert_eq!(made.status, 201, "{:?}", made.bytes);
        assert!(made.json()["expires_at"].is_string());
        made.json()["ticket"].as_str().expect("a ticket").to_owned()
    };
    let once = ticket().await;
    let open = format!("GET {path}?until=tail&from=earliest&ticket={once}");
    let opened = api.send(&open, &[("origin", "https://example.com")], "").await;
    assert_eq!(opened.status, 200, "{:?}", opened.bytes);
    assert!(opened.text().contains("event: open"));
    assert_eq!(api.call(&open).await.status, 401, "used");
    let other = format!("GET ~/topics/orders?ticket={}", ticket().await);
    assert_eq!(api.call(&other).await.status, 401, "no stream");
    for (path, status, code) in [
        ("/v1/tenants/default/topics/bills/stream", 403, "forbidden"),
        ("/v1/tenants/other/topics/orders/stream", 400, "invalid-request"),
        ("/v1/tenants/default/topics/orders/stream?from=earliest", 400, "invalid-request"),
        ("/v1/tenants/default/topics/orders/messages", 400, "invalid-request"),
        ("/v1/tenants/default/topics/0/stream", 400, "invalid-request"),
    ] {
        let refused = api.with(&token, "POST ~/stream-tickets", &json!({ "path": path }).to_string()).await.problem();
        assert_eq!((refused.0, refused.1.as_str()), (status, code), "{path}");
    }
}

#[tokio::test]
async fn quota_and_usage_over_http() {
    let api = Api::guarded().await;
    let before = api.with(OPERATOR, "GET ~/quota", "").await;
    assert_eq!(before.header("etag"), Some("\"r0\""));
    insta::assert_json_snapshot!("quota", before.json());
    let missing = api.with(OPERATOR, "PUT ~/quota", r#"{"topics":1}"#).await.problem();
    assert_eq!((missing.0, missing.1.as_str()), (428, "precondition-required"));
    let put = async |tag: &str, body: &str| {
        let authorization = format!("Bearer {OPERATOR}");
        api.send("PUT ~/quota", &[("authorization", &authorization), ("if-match", tag)], body.to_owned()).await
    };
    let written = put("\"r0\"", r#"{"topics":1,"messages_per_s":2,"storage_bytes":"100000"}"#).await;
    assert_eq!(written.status, 200, "{:?}", written.bytes);
    assert_eq!(put("\"r0\"", "{}").await.problem().1, "precondition-failed");
    let tag = written.header("etag").expect("a tag").to_owned();
    let again = put(&tag, written.text()).await;
    assert_eq!((again.status.as_u16(), again.header("etag")), (200, Some(tag.as_str())), "what GET shows PUT takes");
    let second = api.with(OPERATOR, "PUT ~/topics/more", "{}").await;
    assert_eq!((second.status.as_u16(), second.problem().1.as_str()), (429, "quota-exceeded"));
    assert!(second.header("retry-after").is_some());
    for _ in 0..2 {
        assert_eq!(api.with(OPERATOR, "POST ~/topics/orders/messages", "1").await.status, 201);
    }
    let third = api.with(OPERATOR, "POST ~/topics/orders/messages", "1").await;
    assert_eq!((third.status.as_u16(), third.problem().1.as_str()), (429, "quota-exceeded"));
    assert_eq!((third.header("retry-after"), third.json()["retry_after_ms"].as_u64()), (Some("1"), Some(500)));
    let mut usage = api.with(OPERATOR, "GET ~/usage", "").await.json();
    for bytes in ["/bytes/used", "/storage_bytes/used"] {
        let used = usage.pointer_mut(bytes).expect("bytes");
        assert!(used.as_str().is_some_and(|text| text.parse::<u64>().is_ok_and(|n| n > 100)), "{used}");
        *used = "…".into();
    }
    insta::assert_json_snapshot!("usage", usage);
    for (body, pointer) in
        [(r#"{"topics":-1}"#, "/topics"), (r#"{"storage_bytes":5}"#, "/storage_bytes"), (r#"{"speed":1}"#, "/speed")]
    {
        let refused = put(&tag, body).await.problem();
        assert_eq!((refused.0, refused.2.as_str()), (400, pointer), "{body}");
    }
}

#[tokio::test]
async fn a_tenant_is_deleted_when_nothing_is_in_it() {
    let api = Api::guarded().await;
    let held = api.with(OPERATOR, "DELETE ~?dry_run=true", "").await;
    assert_eq!((held.status.as_u16(), held.json()["users"].clone()), (409, json!(["orders", "g"])));
    let operator = api.token("other", &["operator"]).await;
    let held = api.with(OPERATOR, "DELETE /v1/tenants/other", "").await;
    assert_eq!(held.problem().1, "in-use", "an operator token lives in it");
    let id = operator.split('_').nth(1).expect("an id").to_owned();
    assert_eq!(api.with(OPERATOR, &format!("DELETE /v1/tenants/other/tokens/{id}"), "").await.status, 204);
    let token = api.token("other", &["publish:*"]).await;
    let dry = api.with(OPERATOR, "DELETE /v1/tenants/other?dry_run=true", "").await;
    assert_eq!((dry.status.as_u16(), dry.json()), (200, json!({"dry_run": true, "would": "delete"})));
    assert_eq!(api.with(OPERATOR, "GET /v1/tenants/other", "").await.status, 200);
    assert_eq!(api.with(OPERATOR, "DELETE /v1/tenants/other", "").await.status, 204);
    assert_eq!(api.with(OPERATOR, "GET /v1/tenants/other", "").await.problem().1, "tenant-not-found");
    assert_eq!(api.with(&token, "GET /v1/whoami", "").await.status, 401, "its tokens went along");
    assert_eq!(api.with(OPERATOR, "PUT /v1/tenants/other", "{}").await.status, 201, "and it may be made again");
    let audit = api.with(OPERATOR, "GET /v1/audit?limit=2", "").await.json();
    let told: Vec<_> = audit["items"].as_array().expect("items").iter().map(|row| row["action"].clone()).collect();
    assert_eq!(told, ["create", "delete"]);
    assert_eq!((&audit["items"][0]["by"], &audit["items"][0]["target"]), (&json!("root"), &json!("tenant")));
}
