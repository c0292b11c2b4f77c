//! Dead letters.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use pointsman_api_types::dlq::{
    Attempt, DeadLetter, Origin, RedriveInput, RedriveResult, RedriveStatus, RedriveTo, Redriven,
};
use pointsman_api_types::tenant::DryDelete;
use pointsman_api_types::{Decimal, List, Time};
use pointsman_broker::Error;
use pointsman_broker::view::{self, AttemptView, DeadLetterView};
use pointsman_model::{MessageId, limits};
use serde_json::value::RawValue;

use super::{control_body, detached, from_json, groups};
use crate::answer;
use crate::context::Cx;
use crate::failure::{Failure, internal};
use crate::message_json::{Breaks, Data, message};

fn shown(dead: &DeadLetterView) -> Result<DeadLetter<Box<RawValue>>, Failure> {
    let mut json = Vec::new();
    message(&mut json, &dead.message, Data::Included(Breaks::Keep))?;
    let text = String::from_utf8(json).map_err(|error| internal(&error.to_string()))?;
    Ok(DeadLetter {
        id: dead.message.id.to_string(),
        message: RawValue::from_string(text).map_err(|error| internal(&error.to_string()))?,
        reason: dead.reason.clone(),
        origin: Origin {
            topic: dead.message.topic.as_str().to_owned(),
            queue: dead.message.record.header.queue.0,
            offset: Decimal(dead.message.offset.0),
        },
        attempts: dead.attempts,
        dead_at: Time(dead.dead_at.0),
        expires_at: Time(dead.expires_at.0),
        history: dead.history.iter().map(attempt).collect(),
    })
}

/// An attempt that ended badly.
pub(super) fn attempt(ended: &AttemptView) -> Attempt {
    Attempt {
        attempt: ended.attempt,
        delivered_at: ended.delivered_at.map(|at| Time(at.0)),
        ended_at: Time(ended.ended_at.0),
        outcome: ended.outcome.to_owned(),
        reason: ended.reason.clone(),
        client_id: ended.client_id.clone(),
        decision: ended.decision.to_owned(),
        delay_ms: ended.delay_ms,
        decided_by: ended.decided_by.to_owned(),
        binding: ended.binding.clone(),
        generation: ended.generation,
    }
}

/// The id of the path. It is opaque: one that is none names no message.
async fn id(cx: &Cx) -> Result<MessageId, Failure> {
    match MessageId::parse(cx.path("id")) {
        Some(id) => Ok(id),
        None => Err(cx.after_group(Error::MessageNotFound.into()).await),
    }
}

pub(crate) async fn list(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    let page = cx.app.broker.list_dead_letters(&cx.call, cx.tenant(), cx.path("group"), &page).await?;
    let items = page.items.iter().map(shown).collect::<Result<_, _>>()?;
    answer::json(StatusCode::OK, &List { items, next_cursor: page.next_cursor })
}

pub(crate) async fn get(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let id = id(&cx).await?;
    let dead = cx.app.broker.get_dead_letter(&cx.call, cx.tenant(), cx.path("group"), id).await?;
    answer::json(StatusCode::OK, &shown(&dead)?)
}

pub(crate) async fn delete(cx: Cx) -> Result<Response, Failure> {
    let query = cx.query(&["dry_run"]).await?;
    let dry = match query.flag("dry_run") {
        Ok(dry) => dry,
        Err(failure) => return Err(cx.after_group(failure).await),
    };
    let id = id(&cx).await?;
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, group) = (cx.tenant().to_owned(), cx.path("group").to_owned());
    if dry {
        broker.get_dead_letter(&call, &tenant, &group, id).await?;
        let would = "delete".to_owned();
        return answer::json(StatusCode::OK, &DryDelete { dry_run: true, would, messages: None, bindings: None });
    }
    detached(async move { broker.delete_dead_letter(&call, &tenant, &group, id).await }).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn redrive(cx: Cx, body: Body) -> Result<Response, Failure> {
    let query = cx.json_query(&["dry_run"]).await?;
    let checked = async {
        let dry_run = query.flag("dry_run")?;
        let bytes = control_body(&cx, body, &[]).await?;
        asked(from_json(&bytes)?, dry_run)
    };
    let ask = match checked.await {
        Ok(ask) => ask,
        Err(failure) => return Err(cx.after_group(failure).await),
    };
    let dry_run = ask.dry_run;
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, group) = (cx.tenant().to_owned(), cx.path("group").to_owned());
    let done = detached(async move { broker.redrive(&call, &tenant, &group, ask).await }).await?;
    let left = done.results.iter().filter(|(_, status)| *status == view::RedriveStatus::Redriven).count();
    let results = done.results.into_iter().map(|(id, status)| RedriveResult { id, status: word(status) }).collect();
    answer::json(StatusCode::OK, &Redriven { redriven: left as u64, results, more: done.more, dry_run })
}

fn asked(input: RedriveInput, dry_run: bool) -> Result<view::Redrive, Failure> {
    if input.rate_per_s.is_some() {
        return Err(Failure::unsupported("/rate_per_s", "redrive at a rate"));
    }
    if input.ids.as_ref().is_some_and(|ids| ids.len() > limits::SETTLE_ITEMS_MAX) {
        return Err(Failure::invalid("/ids", format!("at most {}", limits::SETTLE_ITEMS_MAX)));
    }
    Ok(view::Redrive {
        ids: input.ids,
        filter: input.filter.map(|filter| groups::filter(filter, "/filter")).transpose()?,
        to: match input.to.unwrap_or_default() {
            RedriveTo::Group => view::RedriveTo::Group,
            RedriveTo::Topic => view::RedriveTo::Topic,
        },
        dry_run,
    })
}

fn word(status: view::RedriveStatus) -> RedriveStatus {
    match status {
        view::RedriveStatus::Redriven => RedriveStatus::Redriven,
        view::RedriveStatus::AlreadyRedriven => RedriveStatus::AlreadyRedriven,
        view::RedriveStatus::NotFound => RedriveStatus::NotFound,
        view::RedriveStatus::NotSubscribed => RedriveStatus::NotSubscribed,
    }
}
