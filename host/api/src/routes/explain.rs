//! What happened to a message, and why.

use axum::response::Response;
use http::StatusCode;
use pointsman_api_types::explain::{DedupKey, Explained, JudgedBy, Routed, TraceEvent};
use pointsman_api_types::{Decimal, Time};
use pointsman_broker::Error;
use pointsman_broker::view;
use pointsman_model::{MessageId, Timestamp, name};

use super::dead_letters::attempt;
use super::plugins::digest;
use crate::context::Cx;
use crate::failure::Failure;
use crate::{answer, cursor};

/// The id of the path. It is opaque: one that is none names no message.
async fn id(cx: &Cx) -> Result<MessageId, Failure> {
    match MessageId::parse(cx.path("id")) {
        Some(id) => Ok(id),
        None => Err(cx.after_tenant(Error::MessageNotFound.into()).await),
    }
}

fn time(at: Timestamp) -> Time {
    Time(at.0)
}

fn judged(by: view::JudgedBy) -> JudgedBy {
    JudgedBy {
        binding: by.binding,
        generation: by.generation,
        plugin: by.plugin,
        version: by.version,
        digest: by.digest.as_ref().map(digest),
    }
}

pub(crate) async fn explain(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["group"]).await?;
    let group = match query.get("group") {
        Some(group) if name::is_well_formed(group) => group,
        Some(_) => return Err(cx.after_tenant(Failure::invalid("group", "no name of a group")).await),
        None => return Err(cx.after_tenant(Failure::invalid("group", "is required")).await),
    };
    let id = id(&cx).await?;
    let found = cx.app.broker.explain(&cx.call, cx.tenant(), id, group).await?;
    answer::json(StatusCode::OK, &shown(found))
}

fn shown(found: view::Explained) -> Explained {
    let standing = found.standing;
    let said = found.filter.unwrap_or_default();
    let recomputed = said.judged.is_some();
    let verdict = (!said.verdict.is_empty()).then(|| said.verdict.to_owned());
    let filter = said.judged.map(judged);
    let (binding, plugin, version, digest) =
        filter.map(|by| (by.binding, by.plugin, by.version, by.digest)).unwrap_or_default();
    Explained {
        id: found.id.to_string(),
        topic: found.topic,
        queue: found.queue.map(|queue| queue.0),
        offset: found.offset.map(|offset| Decimal(offset.0)),
        stored_at: found.stored_at.map(time),
        deliver_at: found.deliver_at.map(time),
        routed: Routed {
            by: found.routed.by.to_owned(),
            source: found.routed.source,
            judged: found.routed.judged.into_iter().map(judged).collect(),
        },
        dedup: found.dedup.map(|key| DedupKey { key: key.key, by: key.by.to_owned(), window_ms: key.window_ms }),
        group: found.group,
        generation: found.generation,
        verdict,
        reason: said.reason,
        binding,
        plugin,
        version,
        digest,
        recomputed,
        state: standing.state.to_owned(),
        attempt: standing.attempt,
        due_at: standing.due_at.map(time),
        client_id: standing.client_id,
        delivered_at: standing.delivered_at.map(time),
        lease_expires_at: standing.lease_expires_at.map(time),
        history: standing.history.iter().map(attempt).collect(),
        dead_reason: standing.dead_reason,
        dead_at: standing.dead_at.map(time),
        redriven_at: standing.redriven_at.map(time),
    }
}

pub(crate) async fn trace(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    let id = id(&cx).await?;
    let events = cx.app.broker.trace(&cx.call, cx.tenant(), id).await?;
    answer::list(cursor::page(&cx.list_name("trace"), events, &page)?, |event| TraceEvent {
        at: event.at.map(time),
        event: event.event.to_owned(),
        group: event.group,
        attempt: event.attempt,
        client_id: event.client_id,
        reason: event.reason,
        decision: event.decision,
        delay_ms: event.delay_ms,
        binding: event.binding,
        generation: event.generation,
    })
}
