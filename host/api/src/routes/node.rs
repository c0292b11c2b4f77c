//! What the node says about itself.

use axum::response::Response;
use http::StatusCode;
use pointsman_api_types::node::{Check, Health, HealthStatus, Version};
use pointsman_model::{NodeId, limits};

use crate::context::Cx;
use crate::failure::{Failure, internal};
use crate::{App, answer, metrics, openapi};

pub(crate) async fn version(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let config = &cx.app.config;
    let version =
        Version { version: config.version.clone(), commit: config.commit.clone(), feature_level: config.feature_level };
    answer::json(StatusCode::OK, &version)
}

/// The process answers.
pub(crate) async fn live(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    answer::json(StatusCode::OK, &Health { status: HealthStatus::Ok, checks: Vec::new() })
}

/// The node takes work: every shard has a leader that is reached, this node is not far behind, nothing drains, and what
/// other crates check passes.
pub(crate) async fn ready(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let checks = checks(&cx.app);
    let ok = checks.iter().all(|check| check.ok);
    let (status, word) = if ok {
        (StatusCode::OK, HealthStatus::Ok)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, HealthStatus::Unavailable)
    };
    let mut response = answer::json(status, &Health { status: word, checks })?;
    if !ok {
        response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    }
    Ok(response)
}

fn checks(app: &App) -> Vec<Check> {
    let check = |name: String, ok: bool, why: &str| Check { name, ok, detail: (!ok).then(|| why.to_owned()) };
    let mut checks =
        vec![check("serving".to_owned(), !app.config.shutdown.is_cancelled(), "the node is shutting down")];
    let reached = |node: NodeId| {
        let nodes = app.config.cluster.as_ref().map(|ports| ports.view.nodes()).unwrap_or_default();
        nodes.iter().any(|view| view.node == node && view.up)
    };
    for shard in app.broker.health() {
        let other = shard.leader.filter(|leader| leader.0 != app.config.node_id);
        let (led, why) = match (shard.term, other) {
            (Some(_), _) => (true, String::new()),
            (None, Some(leader)) => (reached(leader), format!("node {leader} leads the shard and is not reached")),
            (None, None) => (false, "the shard has no leader here".to_owned()),
        };
        checks.push(check(format!("shard-{}-leader", shard.shard), led, &why));
        if app.config.cluster.is_some() {
            let why = format!("{} committed entries are not applied here yet", shard.lag);
            checks.push(check(format!("shard-{}-lag", shard.shard), shard.lag <= limits::READY_LAG_ENTRIES_MAX, &why));
        }
    }
    checks.push(check(
        "founded".to_owned(),
        app.broker.is_founded(),
        "what every cluster has from the start is not here yet",
    ));
    for source in &app.config.ready {
        checks.extend(source());
    }
    checks
}

pub(crate) async fn metrics(cx: Cx) -> Result<Response, Failure> {
    cx.query(&[]).await?;
    let text = metrics::render(&cx.app).map_err(|error| internal(&error.to_string()))?;
    Ok(answer::bytes_of(StatusCode::OK, metrics::CONTENT_TYPE, text))
}

pub(crate) async fn openapi(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    Ok(answer::bytes_of(StatusCode::OK, "application/json", openapi::document()))
}
