//! What holds for every call.

use axum::body::Body;
use serde_json::json;

use super::Api;

#[tokio::test]
async fn every_operation_of_the_document_is_there() {
    let api = Api::with_orders().await;
    let document = api.call("GET /openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut operations = 0;
    for (template, item) in document["paths"].as_object().expect("paths") {
        let path = template
            .replace("{tenant}", "default")
            .replace("{topic}", "orders")
            .replace("{group}", "g")
            .replace("{", "")
            .replace("}", "");
        for (method, operation) in item.as_object().expect("operations") {
            let bounded = match path.rsplit_once('/') {
                Some((_, "stream")) => "?until=tail",
                Some((_, "checks")) => "?max_ms=1",
                _ => "",
            };
            let line = format!("{} {path}{bounded}", method.to_uppercase());
            let answer = api.call(&line).await;
            let status = answer.status.as_u16().to_string();
            assert!(operation["responses"][&status].is_object(), "{line} answers {status}, which is not described");
            assert_ne!(status, "405", "{line}");
            if !answer.status.is_success() {
                assert_ne!(answer.problem().1, "not-found", "{line}");
            }
            operations += 1;
        }
    }
    assert!(operations > 40, "{operations}");
}

#[tokio::test]
async fn unknown_routes_and_methods() {
    let api = Api::new().await;
    for line in ["GET /", "GET /v1", "GET ~/nope", "GET ~/topics/", "GET ~/topics/t/nope", "POST ~/nope"] {
        assert_eq!(api.call(line).await.problem(), (404, "not-found".into(), String::new()), "{line}");
    }
    let answer = api.call("POST ~/topics/t").await;
    assert_eq!(answer.problem().1, "method-not-allowed");
    let mut allowed: Vec<_> = answer.header("allow").expect("Allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD", "PATCH", "PUT"]);
    assert_eq!(api.call("OPTIONS ~/topics").await.problem().1, "method-not-allowed");
}

#[tokio::test]
async fn malformed_names_are_400_on_every_method() {
    let api = Api::new().await;
    let long = "a".repeat(128);
    for name in ["9a", "a%20b", "%C3%A9", "a%2Fb", "a%00", ".a", "a:b", &long] {
        for line in [
            format!("GET ~/topics/{name}"),
            format!("PUT ~/topics/{name}"),
            format!("DELETE ~/topics/{name}"),
            format!("POST ~/topics/{name}"),
            format!("GET /v1/tenants/{name}/topics"),
            format!("POST ~/groups/{name}/leases"),
            format!("GET ~/plugins/{name}"),
        ] {
            assert_eq!(api.call(&line).await.problem().1, "invalid-name", "{line}");
        }
    }
    assert_eq!(api.call("GET ~/topics/%FF").await.problem().1, "invalid-name");
    assert_eq!(api.call("GET ~/bindings/a:b").await.problem().1, "binding-not-found");
    assert_eq!(api.call("GET ~/bindings/a:b:c").await.problem().1, "invalid-name");
}

#[tokio::test]
async fn foreign_origins_and_hosts_are_refused() {
    let api = Api::new().await;
    for header in [("host", "evil.example"), ("origin", "https://evil.example"), ("origin", "null")] {
        for line in ["GET ~/topics", "POST ~/topics/t/messages", "GET /openapi.json", "GET /metrics", "GET /nope"] {
            assert_eq!(api.send(line, &[header], "").await.problem().1, "forbidden", "{line} {header:?}");
        }
        for line in ["GET /health/live", "GET /health/ready", "GET /version"] {
            assert_eq!(api.send(line, &[header], "").await.status, 200, "{line} {header:?}");
        }
    }
    let ours = [("host", "127.0.0.1:7070"), ("origin", "http://localhost:5173")];
    assert_eq!(api.send("GET ~/topics", &ours, "").await.status, 200);
}

#[tokio::test]
async fn request_ids() {
    let api = Api::new().await;
    let own = api.send("GET /version", &[("pm-request-id", "my-id.1")], "").await;
    assert_eq!(own.header("pm-request-id"), Some("my-id.1"));
    let (first, second) = (api.call("GET /version").await, api.call("GET /version").await);
    assert_ne!(first.header("pm-request-id"), second.header("pm-request-id"));
    for bad in ["", "a b", "\u{e9}", &"x".repeat(65)] {
        let answer = api.send("GET ~/topics", &[("pm-request-id", bad)], "").await;
        assert_eq!(answer.problem(), (400, "invalid-request".into(), "Pm-Request-Id".into()), "{bad}");
    }
}

#[tokio::test]
async fn bodies_and_answers_may_be_compressed() {
    let api = Api::with_orders().await;
    let packed = zstd::encode_all(&b"{\"messages\":[{\"data\":\"x\"}]}"[..], 1).expect("in memory");
    let headers = [("content-type", "application/vnd.pointsman.batch+json"), ("content-encoding", "zstd")];
    assert_eq!(api.send("POST ~/topics/orders/messages", &headers, packed).await.status, 201);
    let answer = api.send("GET /openapi.json", &[("accept-encoding", "gzip")], "").await;
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (Some("gzip"), Some("accept-encoding")));
    let mut plain = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&answer.bytes[..]), &mut plain).expect("gzip");
    assert!(plain.starts_with("{\"components\""));
}

#[tokio::test]
async fn health_version_and_metrics() {
    let api = Api::new().await;
    let expected = json!({"version": env!("CARGO_PKG_VERSION"), "commit": "unknown", "feature_level": 1});
    assert_eq!(api.call("GET /version").await.json(), expected);
    assert_eq!(api.call("GET /health/live").await.json(), json!({"status": "ok", "checks": []}));
    assert_eq!(api.call("GET /health/ready").await.status, 200);
    api.fixture.shard.set_term(None);
    let unready = api.call("GET /health/ready").await;
    assert_eq!((unready.status.as_u16(), &unready.json()["status"]), (503, &json!("unavailable")));
    let failing: Vec<_> = unready.json()["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .filter(|c| c["ok"] == false)
        .map(|c| c["name"].clone())
        .collect();
    assert_eq!(failing, ["shard-1-leader"]);
    let refused = api.send("POST ~/topics/t/messages", &[], Body::from("x")).await;
    assert_eq!(refused.problem().1, "no-leader");
    assert!(refused.header("retry-after").is_some());
    let metrics = api.call("GET /metrics").await;
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    let text = metrics.text();
    for line in [
        r#"pointsman_http_requests_total{route="/version",method="GET",status="2xx"} 1"#,
        r#"pointsman_http_request_duration_seconds_count{route="/version",method="GET"} 1"#,
        r#"pointsman_http_problems_total{code="no-leader"} 1"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_problem_has_every_field() {
    let api = Api::new().await;
    let answer = api.send("GET ~/topics?limit=0", &[("pm-request-id", "r")], "").await;
    insta::assert_json_snapshot!(answer.json());
}
