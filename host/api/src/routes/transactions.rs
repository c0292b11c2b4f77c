//! Transactions: prepare, verdicts, look-ups.

use axum::body::Body;
use axum::response::Response;
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};
use pointsman_api_types::transaction::{self as api, CheckInput, TRANSACTION_TYPE};
use pointsman_api_types::{Code, Decimal, Time};
use pointsman_broker::Error;
use pointsman_broker::command::{CheckVia, ResolvedBy};
use pointsman_broker::state::TransactionState;
use pointsman_broker::view::{HalfMessage, HalfPart, PageRequest, Prepare, TransactionView, Verdict};
use pointsman_model::{TransactionId, limits};

use super::{check_range, control_body, detached, from_json};
use crate::body::{self, Cap};
use crate::context::Cx;
use crate::failure::Failure;
use crate::publish::transaction::{Envelope, check_name, parse};
use crate::publish::{Shape, cloudevents, idempotency_key, raw, shape, trace};
use crate::query::number_in;
use crate::{answer, headers};

/// Header of a raw body: who answers for it.
const PRODUCER_GROUP: &str = "pm-producer-group";
/// Header of a raw body: from the prepare to the first check.
const CHECK_AFTER_MS: &str = "pm-check-after-ms";
/// The producer group of those that name none.
const PRODUCER_GROUP_DEFAULT: &str = "default";
pub(crate) async fn prepare(mut cx: Cx, body: Body) -> Result<Response, Failure> {
    let kind = headers::media_type(&cx.headers);
    let enveloped = matches!(&kind, Ok(Some(kind)) if kind == TRANSACTION_TYPE);
    let own = if enveloped { Ok(Own::default()) } else { Own::take(&mut cx.headers) };
    let own = match own.and_then(|own| kind.map(|_| own)) {
        Ok(own) => own,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    cx.query_with(&[], &[], !enveloped).await?;
    cx.accept(&["application/json"]).await?;
    let prepare = match request(&cx, own, body).await {
        Ok(prepare) => prepare,
        Err(failure) => return Err(cx.after_topic(failure).await),
    };
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, topic) = (cx.tenant().to_owned(), cx.path("topic").to_owned());
    let prepared = detached(async move {
        let prepared = broker.prepare(&call, &tenant, &topic, prepare).await;
        prepared.map_err(|error| if enveloped { error } else { by_header(error) })
    })
    .await?;
    let status = if prepared.repeated { StatusCode::OK } else { StatusCode::CREATED };
    let shown = api::Prepared { transaction: prepared.id.to_string(), state: shown_state(prepared.state) };
    let mut response = answer::json(status, &shown)?;
    let location = format!("/v1/tenants/{}/transactions/{}", cx.tenant(), prepared.id);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// A raw message has headers where the broker speaks of the fields of the first message.
fn by_header(error: Error) -> Error {
    match error {
        Error::InvalidRequest { pointer, detail } => {
            let field = pointer.strip_prefix("/messages/0/").map(raw::header_of);
            Error::InvalidRequest { pointer: field.unwrap_or(pointer), detail }
        }
        other => other,
    }
}

/// The headers of a raw body that are about the transaction and not the message.
#[derive(Default)]
struct Own {
    producer_group: Option<String>,
    after_ms: Option<u64>,
}

impl Own {
    fn take(headers: &mut HeaderMap) -> Result<Self, Failure> {
        let mut take = |name: &'static str| {
            if headers.get_all(name).iter().nth(1).is_some() {
                return Err(Failure::invalid(headers::title_case(name), "given twice"));
            }
            let value = headers.remove(name);
            value.map(|value| headers::utf8(&value, name).map(str::to_owned)).transpose()
        };
        let (producer_group, after_ms) = (take(PRODUCER_GROUP)?, take(CHECK_AFTER_MS)?);
        let number = |text: String| {
            number_in(&text, &(1..=limits::DELAY_MS_MAX))
                .map_err(|detail| Failure::invalid(headers::title_case(CHECK_AFTER_MS), detail))
        };
        if let Some(group) = &producer_group {
            check_name(group, &headers::title_case(PRODUCER_GROUP))?;
        }
        Ok(Self { producer_group, after_ms: after_ms.map(number).transpose()? })
    }
}

async fn request(cx: &Cx, own: Own, body: Body) -> Result<Prepare, Failure> {
    let shape = shape(&cx.headers)?;
    if matches!(shape, Shape::Batch | Shape::Frames | Shape::Lines | Shape::Events) {
        let detail = format!("several messages go in `{TRANSACTION_TYPE}`");
        return Err(Failure::at(Code::UnsupportedMediaType, "Content-Type", detail));
    }
    let name = idempotency_key(&cx.headers)?.map(str::to_owned);
    let cap = if matches!(shape, Shape::Raw | Shape::BinaryEvent) { Cap::MESSAGE } else { Cap::PUBLISH };
    let bytes = body::read(&cx.app.bodies, &cx.headers, body, cap).await?;
    let trace = trace(&cx.headers);
    let envelope = if shape == Shape::Transaction {
        parse(&bytes, trace.as_deref())?
    } else {
        // The key names the transaction and not its message.
        let mut of_message = cx.headers.clone();
        of_message.remove(headers::IDEMPOTENCY_KEY);
        let message = match shape {
            Shape::Event => cloudevents::event(&bytes, trace.as_deref())?,
            Shape::BinaryEvent => cloudevents::binary(&of_message, bytes, trace.as_deref())?,
            _ => raw::parse(&of_message, bytes, trace.as_deref())?,
        };
        Envelope {
            messages: vec![HalfMessage { topic: None, message }],
            check: CheckInput { after_ms: own.after_ms, ..CheckInput::default() },
            producer_group: own.producer_group,
        }
    };
    let check = envelope.check;
    check_range(check.after_ms, 1..=limits::DELAY_MS_MAX, "/check/after_ms")?;
    check_range(check.interval_ms, 1..=limits::DELAY_MS_MAX, "/check/interval_ms")?;
    check_range(check.max, 1..=u64::from(limits::CHECKS_MAX), "/check/max")?;
    Ok(Prepare {
        messages: envelope.messages,
        producer_group: envelope.producer_group.unwrap_or_else(|| PRODUCER_GROUP_DEFAULT.to_owned()),
        name,
        after_ms: check.after_ms,
        interval_ms: check.interval_ms,
        max: check.max,
        via: check.via.map(|via| match via {
            api::CheckVia::Plugin => CheckVia::Plugin,
            api::CheckVia::Producer => CheckVia::Producer,
        }),
    })
}

pub(crate) async fn commit(cx: Cx, body: Body) -> Result<Response, Failure> {
    resolve(cx, body, Verdict::Commit).await
}

pub(crate) async fn rollback(cx: Cx, body: Body) -> Result<Response, Failure> {
    resolve(cx, body, Verdict::Rollback).await
}

async fn resolve(cx: Cx, body: Body, verdict: Verdict) -> Result<Response, Failure> {
    let query = cx.json_query(&["override"]).await?;
    let checked = async {
        let overrule = query.flag("override")?;
        let bytes = control_body(&cx, body, &[]).await?;
        let _: Nothing = from_json(&bytes)?;
        Ok(overrule)
    };
    let overrule = match checked.await {
        Ok(overrule) => overrule,
        Err(failure) => return Err(after_transaction(&cx, failure).await),
    };
    let id = match id(&cx) {
        Ok(id) => id,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let (broker, call, tenant) = (cx.broker(), cx.call.clone(), cx.tenant().to_owned());
    let view = detached(async move { broker.resolve_transaction(&call, &tenant, id, verdict, overrule).await }).await?;
    let resolved = api::Resolved {
        transaction: view.id.to_string(),
        state: shown_state(view.transaction.state),
        messages: view.parts.unwrap_or_default().into_iter().map(shown_part).collect(),
    };
    answer::json(StatusCode::OK, &resolved)
}

/// A body without fields.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The id of the path. It is opaque: one that is none names no transaction.
fn id(cx: &Cx) -> Result<TransactionId, Failure> {
    TransactionId::parse(cx.path("tx")).ok_or_else(|| Error::TransactionNotFound.into())
}

/// `failure`, unless tenant or transaction are not there, which is told first.
async fn after_transaction(cx: &Cx, failure: Failure) -> Failure {
    match id(cx) {
        Ok(id) => {
            let missing = cx.app.broker.get_transaction(&cx.call, cx.tenant(), id).await.err();
            match missing {
                Some(error @ (Error::TenantNotFound | Error::TransactionNotFound)) => error.into(),
                _ => failure,
            }
        }
        Err(missing) => cx.after_tenant(missing).await,
    }
}

pub(crate) async fn get(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let id = match id(&cx) {
        Ok(id) => id,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let view = cx.app.broker.get_transaction(&cx.call, cx.tenant(), id).await?;
    answer::json(StatusCode::OK, &shown(view))
}

pub(crate) async fn list(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["state", "limit", "cursor"]).await?;
    let page: PageRequest = cx.page(&query).await?;
    let state = match query.get("state") {
        None => None,
        Some(text) => match TransactionState::ALL.into_iter().find(|state| state.as_str() == text) {
            Some(state) => Some(state),
            None => {
                let failure = Failure::invalid("state", "`prepared`, `committed`, `rolled-back` or `expired`");
                return Err(cx.after_tenant(failure).await);
            }
        },
    };
    let found = cx.app.broker.list_transactions(&cx.call, cx.tenant(), state, &page).await?;
    answer::list(found, shown)
}

fn shown_state(state: TransactionState) -> api::TransactionState {
    match state {
        TransactionState::Prepared => api::TransactionState::Prepared,
        TransactionState::Committed => api::TransactionState::Committed,
        TransactionState::RolledBack => api::TransactionState::RolledBack,
        TransactionState::Expired => api::TransactionState::Expired,
    }
}

fn shown_part(part: HalfPart) -> api::Part {
    api::Part {
        id: part.id.to_string(),
        topic: part.topic,
        queue: part.queue.0,
        offset: part.offset.map(|offset| Decimal(offset.0)),
    }
}

fn shown(view: TransactionView) -> api::Transaction {
    let TransactionView { id, topic, transaction, parts } = view;
    let prepared = transaction.state == TransactionState::Prepared;
    api::Transaction {
        transaction: id.to_string(),
        state: shown_state(transaction.state),
        topic,
        producer_group: transaction.producer_group,
        idempotency_key: transaction.key,
        check: api::Check {
            after_ms: transaction.check.after_ms,
            interval_ms: transaction.check.interval_ms,
            max: transaction.check.max,
            via: match transaction.check.via {
                CheckVia::Plugin => api::CheckVia::Plugin,
                CheckVia::Producer => api::CheckVia::Producer,
            },
        },
        attempts: transaction.attempt,
        next_check_at: prepared.then_some(Time(transaction.due)),
        prepared_at: Time(transaction.prepared_at),
        resolved_at: (!prepared).then_some(Time(transaction.since)),
        resolved_by: transaction.resolved_by.map(|by| {
            let word = match by {
                ResolvedBy::Producer => "producer",
                ResolvedBy::Plugin(_) => "plugin",
                ResolvedBy::Timetable => "timetable",
                ResolvedBy::Operator => "operator",
            };
            word.to_owned()
        }),
        messages: parts.map(|parts| parts.into_iter().map(shown_part).collect()),
    }
}
