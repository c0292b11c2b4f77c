//! What a node answers before it is part of a cluster: that it lives, and that it takes no work yet.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use pointsman_api_types::Code;
use pointsman_api_types::node::{Check, Health, HealthStatus, Version};
use tower::ServiceExt;

use crate::failure::Failure;
use crate::{ApiConfig, answer, edge};

/// What the routes share until the node is formed.
struct Forming {
    version: Version,
    formed: Arc<OnceLock<Router>>,
}

/// A router that answers 503 `no-leader`, but for `/health/live` and `/version`, until `formed` holds the router of the
/// node; from then on it is that one.
pub fn forming(config: &ApiConfig, formed: Arc<OnceLock<Router>>) -> Router {
    let version =
        Version { version: config.version.clone(), commit: config.commit.clone(), feature_level: config.feature_level };
    Router::new().fallback(serve).with_state(Arc::new(Forming { version, formed }))
}

async fn serve(State(forming): State<Arc<Forming>>, request: Request) -> Response {
    if let Some(router) = forming.formed.get() {
        // A router never fails.
        return router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    }
    let answered = match request.uri().path() {
        "/health/live" => answer::json(StatusCode::OK, &Health { status: HealthStatus::Ok, checks: Vec::new() }),
        "/version" => answer::json(StatusCode::OK, &forming.version),
        "/health/ready" => {
            let check = Check {
                name: "formation".to_owned(),
                ok: false,
                detail: Some("the cluster is not formed yet, or this node is not in it".to_owned()),
            };
            let health = Health { status: HealthStatus::Unavailable, checks: vec![check] };
            answer::json(StatusCode::SERVICE_UNAVAILABLE, &health)
        }
        _ => Err(Failure::new(Code::NoLeader, "the cluster is not formed yet")),
    };
    edge::plain(answered.unwrap_or_else(IntoResponse::into_response))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use http::Request;

    use super::*;

    #[tokio::test]
    async fn until_it_is_formed_a_node_lives_and_takes_no_work() {
        let formed = Arc::new(OnceLock::new());
        let router = forming(&ApiConfig::default(), Arc::clone(&formed));
        let status = |path: &'static str| {
            let request = Request::get(path).body(Body::empty()).expect("a request");
            let answer = router.clone().oneshot(request);
            async move { answer.await.expect("infallible") }
        };
        assert_eq!(status("/health/live").await.status(), 200);
        assert_eq!(status("/version").await.status(), 200);
        assert_eq!(status("/health/ready").await.status(), 503);
        let refused = status("/v1/tenants").await;
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after") && refused.headers().contains_key("pm-request-id"));
        formed.set(Router::new().route("/v1/tenants", get(|| async { "here" }))).expect("once");
        assert_eq!(status("/v1/tenants").await.status(), 200);
    }
}
