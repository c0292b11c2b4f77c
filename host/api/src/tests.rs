//! The routes over the real broker on faked ports.

mod access;
mod bad_input;
mod cloudevents;
mod cluster;
mod configure;
mod conventions;
mod dedup;
mod delivery;
mod group_stream;
mod messages;
mod ndjson;
mod scheduled;
mod schedules;
mod stream;
mod transactions;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use pointsman_broker::testing::fixture::Fixture;
use serde_json::Value;
use tower::ServiceExt;

use crate::{ApiConfig, router};

/// A router over fakes, with the tenant `default`.
struct Api {
    fixture: Fixture,
    router: Router,
    shutdown: tokio_util::sync::CancellationToken,
}

/// A whole answer.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {:?}", self.bytes))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("UTF-8")
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    /// Status and code of a problem, and the first pointer.
    fn problem(&self) -> (u16, String, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{:?}", self.bytes);
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["request_id"].as_str(), self.header("pm-request-id"));
        assert!(problem["type"].as_str().is_some_and(|url| url.starts_with("https://")));
        let pointer = problem["errors"][0]["pointer"].as_str().unwrap_or_default();
        (self.status.as_u16(), problem["code"].as_str().unwrap_or_default().to_owned(), pointer.to_owned())
    }
}

impl Api {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let config = ApiConfig::default();
        let shutdown = config.shutdown.clone();
        let router = router(Arc::new(fixture.broker.clone()), config);
        Self { fixture, router, shutdown }
    }

    /// With a topic `orders` of two queues and a group `g` on it.
    async fn with_orders() -> Self {
        let api = Self::new().await;
        api.fixture.topic("orders", 2).await;
        api.fixture.group("g", "orders", None).await;
        api
    }

    /// `"GET /path"`, or below the tenant `"GET ~/topics"`.
    fn request(line: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let path = path.replacen('~', "/v1/tenants/default", 1);
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body.into()).expect("a request")
    }

    async fn send(&self, line: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let response = self.router.clone().oneshot(Self::request(line, headers, body)).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    /// Without body and headers.
    async fn call(&self, line: &str) -> Answer {
        self.send(line, &[], Body::empty()).await
    }

    /// With a JSON body; the answer must have this status.
    async fn json(&self, line: &str, body: &str, status: u16) -> Value {
        let answer = self.send(line, &[("content-type", "application/json")], body.to_owned()).await;
        assert_eq!(answer.status.as_u16(), status, "{line}: {:?}", answer.bytes);
        if answer.bytes.is_empty() { Value::Null } else { answer.json() }
    }
}
