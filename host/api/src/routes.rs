//! The routes: one file a resource, one function a verb.

mod bindings;
mod cluster;
mod dead_letters;
mod dry_run;
mod explain;
mod groups;
mod leases;
mod messages;
mod node;
mod plugins;
mod progress;
mod publish;
mod quota;
mod scheduled;
mod schedules;
mod settle;
mod streams;
mod tenants;
mod tokens;
mod topics;
mod transactions;

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Body;
use axum::routing::{MethodRouter, delete, get, post};
use bytes::Bytes;
use pointsman_api_types::{Code, Problem, decode};
use pointsman_model::limits;
use serde::Deserialize;

use crate::body::{self, Cap};
use crate::context::Cx;
pub(crate) use crate::detached::detached;
use crate::failure::Failure;
use crate::{App, edge, forward, headers};

/// A path below a tenant.
macro_rules! t {
    ($path:literal) => {
        concat!("/v1/tenants/{tenant}", $path)
    };
}

/// Every route with its methods.
pub(crate) fn table() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/v1/tenants", get(tenants::list)),
        (t!(""), get(tenants::get).put(tenants::put).delete(tenants::delete)),
        ("/v1/whoami", get(tokens::whoami)),
        ("/v1/audit", get(quota::audit)),
        ("/v1/cluster", get(cluster::get)),
        ("/v1/cluster/shards/{shard}/transfer", post(cluster::transfer)),
        ("/v1/cluster/nodes", post(cluster::unsupported)),
        ("/v1/cluster/nodes/{node}", delete(cluster::unsupported)),
        ("/v1/cluster/nodes/{node}/drain", post(cluster::unsupported)),
        (t!("/tokens"), get(tokens::list).post(tokens::create)),
        (t!("/tokens/{id}"), get(tokens::get).delete(tokens::delete)),
        (t!("/quota"), get(quota::get).put(quota::put)),
        (t!("/usage"), get(quota::usage)),
        (t!("/stream-tickets"), post(tokens::ticket)),
        (t!("/topics"), get(topics::list)),
        (t!("/topics/{topic}"), get(topics::get).put(topics::put).patch(topics::patch).delete(topics::delete)),
        (t!("/topics/{topic}/queues"), get(topics::queues)),
        (t!("/topics/{topic}/offsets"), get(topics::offsets)),
        (t!("/topics/{topic}/stats"), get(topics::stats)),
        (t!("/topics/{topic}/messages"), post(publish::publish).get(messages::list)),
        (t!("/topics/{topic}/publishes/{key}"), get(publish::state)),
        (t!("/topics/{topic}/stream"), get(streams::topic)),
        (t!("/groups/{group}/stream"), get(streams::group)),
        (t!("/topics/{topic}/scheduled"), get(scheduled::list)),
        (t!("/schedules"), get(schedules::list)),
        (t!("/schedules/{schedule}"), get(schedules::get).put(schedules::put).delete(schedules::delete)),
        (t!("/scheduled/{id}"), get(scheduled::get).patch(scheduled::patch).delete(scheduled::delete)),
        (t!("/topics/{topic}/transactions"), post(transactions::prepare)),
        (t!("/transactions"), get(transactions::list)),
        (t!("/transactions/{tx}"), get(transactions::get)),
        (t!("/transactions/{tx}/commit"), post(transactions::commit)),
        (t!("/transactions/{tx}/rollback"), post(transactions::rollback)),
        (t!("/producer-groups/{pg}/checks/lease"), post(streams::checks::lease)),
        (t!("/producer-groups/{pg}/checks"), get(streams::checks::stream)),
        (t!("/messages/{id}"), get(messages::get)),
        (t!("/messages/{id}/payload"), get(messages::payload)),
        (t!("/messages/{id}/explain"), get(explain::explain)),
        (t!("/messages/{id}/trace"), get(explain::trace)),
        (t!("/groups"), get(groups::list)),
        (t!("/groups/{group}"), get(groups::get).put(groups::put).delete(groups::delete)),
        (t!("/groups/{group}/leases"), post(leases::lease)),
        (t!("/groups/{group}/settle"), post(settle::settle)),
        (t!("/groups/{group}/offsets"), get(progress::offsets)),
        (t!("/groups/{group}/seek"), post(progress::seek)),
        (t!("/groups/{group}/lag"), get(progress::lag)),
        (t!("/groups/{group}/inflight"), get(progress::inflight)),
        (t!("/groups/{group}/members"), get(progress::members)),
        (t!("/groups/{group}/pause"), post(progress::pause)),
        (t!("/groups/{group}/resume"), post(progress::resume)),
        (t!("/groups/{group}/dlq"), get(dead_letters::list)),
        (t!("/groups/{group}/dlq/{id}"), get(dead_letters::get).delete(dead_letters::delete)),
        (t!("/groups/{group}/dlq/redrive"), post(dead_letters::redrive)),
        (t!("/plugins"), get(plugins::list)),
        (t!("/plugins/{plugin}"), get(plugins::get)),
        (t!("/plugins/{plugin}/versions"), get(plugins::versions)),
        (
            t!("/plugins/{plugin}/versions/{version}"),
            get(plugins::get_version).put(plugins::put_version).delete(plugins::delete_version),
        ),
        (t!("/plugins/{plugin}/versions/{version}/wasm"), get(plugins::wasm)),
        (t!("/plugins/builtin/{builtin}"), get(plugins::get)),
        (t!("/plugins/builtin/{builtin}/versions"), get(plugins::versions)),
        (t!("/plugins/builtin/{builtin}/versions/{version}"), get(plugins::get_version)),
        (t!("/plugins/builtin/{builtin}/versions/{version}/wasm"), get(plugins::wasm)),
        (t!("/bindings"), get(bindings::list)),
        (t!("/bindings/{binding}"), get(bindings::get).put(bindings::put).delete(bindings::delete)),
        (t!("/bindings/{binding}/stats"), get(bindings::stats)),
        (t!("/bindings/{binding}/logs"), get(bindings::logs)),
        (t!("/bindings/{binding}/promote"), post(bindings::unsupported)),
        (t!("/bindings/{binding}/rollback"), post(bindings::unsupported)),
        (t!("/bindings/{binding}/quarantine"), post(bindings::unsupported)),
        (t!("/bindings/{binding}/resume"), post(bindings::unsupported)),
        ("/health/live", get(node::live)),
        ("/health/ready", get(node::ready)),
        ("/metrics", get(node::metrics)),
        ("/openapi.json", get(node::openapi)),
        ("/version", get(node::version)),
    ]
}

/// All of it under the one middleware.
pub(crate) fn router(app: Arc<App>) -> Router {
    table()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(edge::no_such_route)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), edge::edge))
        .with_state(app)
}

/// The same routes for requests that another node's edge let pass.
pub(crate) fn inner(app: Arc<App>) -> Router {
    table()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(edge::no_such_route)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), forward::inner_edge))
        .with_state(app)
}

/// The template of a matched path: a closed set.
pub(crate) fn template(path: &str) -> Option<&'static str> {
    static TEMPLATES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| templates().collect());
    TEMPLATES.get(path).copied()
}

/// All of them.
pub(crate) fn templates() -> impl Iterator<Item = &'static str> {
    table().into_iter().map(|(path, _)| path)
}

/// The name of a path parameter: a closed set too.
pub(crate) fn part(name: &str) -> &'static str {
    [
        "tenant", "topic", "group", "plugin", "builtin", "version", "binding", "schedule", "key", "id", "tx", "pg",
        "shard", "node",
    ]
    .into_iter()
    .find(|known| *known == name)
    .unwrap_or("")
}

/// Reads a JSON control body. An absent body is `{}`, an absent type is JSON.
pub(crate) async fn control_body(cx: &Cx, body: Body, more_types: &[&str]) -> Result<Bytes, Failure> {
    if let Some(kind) = headers::media_type(&cx.headers)?
        && kind != "application/json"
        && !more_types.contains(&kind.as_str())
    {
        return Err(Failure::at(Code::UnsupportedMediaType, "Content-Type", "application/json")
            .with_header(http::header::ACCEPT, http::HeaderValue::from_static("application/json")));
    }
    let bytes = body::read(&cx.app.bodies, &cx.headers, body, Cap::CONTROL).await?;
    Ok(if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes })
}

/// Decodes a JSON control body.
pub(crate) fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Failure> {
    decode(bytes, limits::JSON_DEPTH_MAX).map_err(|error| Problem::from(error).into())
}

/// `name` in a body must be the path's.
pub(crate) fn check_name(given: Option<&str>, path: &str) -> Result<(), Failure> {
    match given {
        Some(name) if name != path => Err(Failure::invalid("/name", "must equal the name in the path")),
        _ => Ok(()),
    }
}

/// A number of a body in its range.
pub(crate) fn check_range<T: Into<u64> + Copy>(
    value: Option<T>,
    range: std::ops::RangeInclusive<u64>,
    pointer: &str,
) -> Result<(), Failure> {
    match value.map(Into::into) {
        Some(value) if !range.contains(&value) => {
            Err(Failure::invalid(pointer, format!("from {} to {}", range.start(), range.end())))
        }
        _ => Ok(()),
    }
}
