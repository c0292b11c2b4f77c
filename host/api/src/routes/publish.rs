//! Publish: one URL, the `Content-Type` says what the body is.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{self, HeaderValue};
use pointsman_api_types::publish::{AckedDurability, KeyState, NDJSON_TYPE, PublishOutcome, Receipt, Target};
use pointsman_api_types::{Code, Decimal, Time};
use pointsman_broker::Error;
use pointsman_broker::command::Durability;
use pointsman_broker::view::{Publish, PublishReceipt, PublishState};
use pointsman_model::message::NewMessage;

mod stream;

use super::detached;
use crate::body::{self, Cap};
use crate::context::Cx;
use crate::failure::Failure;
use crate::publish::pieces::Cut;
use crate::publish::{Shape, batch, cloudevents, frames, idempotency_key, number_key, raw, shape, trace};
use crate::{answer, headers, json};

type Results = Vec<Result<PublishReceipt, Error>>;

pub(crate) async fn publish(cx: Cx, body: Body) -> Result<Response, Failure> {
    let shape = match headers::check(&cx.headers, true).and_then(|()| shape(&cx.headers)) {
        Ok(shape) => shape,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let query = cx.query_with(&["ack", "atomic"], &[], shape == Shape::Raw).await?;
    let ack = match query.get("ack") {
        None => Ok(None),
        Some("quorum") => Ok(Some(Durability::Quorum)),
        Some("leader") => Ok(Some(Durability::Leader)),
        Some("none") => Ok(Some(Durability::None)),
        Some(_) => Err(Failure::invalid("ack", "`quorum`, `leader` or `none`")),
    };
    let checked = ack.and_then(|ack| {
        let atomic = query.flag("atomic")?;
        let reports = reports(&cx, shape)?;
        if atomic && (reports || shape == Shape::Lines) {
            return Err(Failure::invalid("atomic", "a stream of messages is never all or nothing"));
        }
        Ok((ack, atomic, reports))
    });
    let (ack, atomic, reports) = match checked {
        Ok(checked) => checked,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    match shape {
        Shape::Lines => return stream::publish(cx, body, Cut::Lines, ack, reports).await,
        Shape::Frames if reports => return stream::publish(cx, body, Cut::Frames, ack, reports).await,
        _ => {}
    }
    let messages = match messages(&cx, body, shape).await {
        Ok(messages) => messages,
        Err(failure) => return Err(cx.after_topic(failure).await),
    };
    let count = messages.len();
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, topic) = (cx.tenant().to_owned(), cx.path("topic").to_owned());
    let publish = Publish { messages, ack, atomic };
    let results = detached(async move {
        let published = broker.publish(&call, &tenant, &topic, publish).await;
        published.map_err(|error| if shape == Shape::Raw { by_header(error) } else { error })
    });
    let results = results.await?;
    if results.len() != count {
        return Err(crate::failure::internal("a publish without a result for each message"));
    }
    if shape.is_one() { one(&cx, results) } else { many(&cx, results, atomic) }
}

/// Whether the answer is a report a line; else it is one JSON object.
fn reports(cx: &Cx, shape: Shape) -> Result<bool, Failure> {
    let streams = matches!(shape, Shape::Lines | Shape::Frames);
    let offered: &[&str] = if streams { &["application/json", NDJSON_TYPE] } else { &["application/json"] };
    Ok(headers::accept(&cx.headers, offered)? == NDJSON_TYPE)
}

async fn messages(cx: &Cx, body: Body, shape: Shape) -> Result<Vec<NewMessage>, Failure> {
    if shape == Shape::Transaction {
        let detail = "a transaction is posted to `…/topics/{topic}/transactions`";
        return Err(Failure::at(Code::UnsupportedMediaType, "Content-Type", detail));
    }
    let key = idempotency_key(&cx.headers)?;
    let cap = if matches!(shape, Shape::Raw | Shape::BinaryEvent) { Cap::MESSAGE } else { Cap::PUBLISH };
    let bytes = body::read(&cx.app.bodies, &cx.headers, body, cap).await?;
    let trace = trace(&cx.headers);
    let mut messages = match shape {
        Shape::Batch => batch::parse(&bytes, trace.as_deref())?,
        Shape::Frames => frames::parse(bytes, trace.as_deref())?,
        Shape::Event => vec![cloudevents::event(&bytes, trace.as_deref())?],
        Shape::Events => cloudevents::events(&bytes, trace.as_deref())?,
        Shape::BinaryEvent => vec![cloudevents::binary(&cx.headers, bytes, trace.as_deref())?],
        _ => return raw::parse(&cx.headers, bytes, trace.as_deref()).map(|message| vec![message]),
    };
    messages.iter_mut().enumerate().for_each(|(i, message)| number_key(key, i, message));
    Ok(messages)
}

/// What became of a publish with an idempotency key.
pub(crate) async fn state(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let (broker, tenant, topic) = (&cx.app.broker, cx.tenant(), cx.path("topic"));
    let (state, result) = match broker.publish_state(&cx.call, tenant, topic, cx.path("key")).await? {
        PublishState::Committed(receipt) => (KeyState::Committed, Some(shown(receipt))),
        PublishState::InFlight => (KeyState::InFlight, None),
        PublishState::Absent => (KeyState::Absent, None),
    };
    answer::json(StatusCode::OK, &PublishOutcome { state, result })
}

fn acked(durability: Durability) -> AckedDurability {
    match durability {
        Durability::Quorum => AckedDurability::QuorumFsync,
        Durability::Leader => AckedDurability::LeaderFsync,
        Durability::None => AckedDurability::None,
    }
}

/// 202 stands for less than the full durability, 200 for a duplicate.
fn status(receipt: &PublishReceipt) -> StatusCode {
    match (receipt.duplicate, receipt.durability) {
        (Some(true), _) => StatusCode::OK,
        (_, Durability::Quorum) => StatusCode::CREATED,
        (_, Durability::Leader | Durability::None) => StatusCode::ACCEPTED,
    }
}

fn shown(receipt: PublishReceipt) -> Receipt {
    Receipt {
        id: receipt.id.map(|id| id.to_string()),
        topic: receipt.topic,
        queue: receipt.queue.map(|queue| queue.0),
        offset: receipt.offset.map(|offset| Decimal(offset.0)),
        stored_at: receipt.stored_at.map(|at| Time(at.0)),
        deliver_at: receipt.deliver_at.map(|at| Time(at.0)),
        duplicate: receipt.duplicate,
        durability: acked(receipt.durability),
        targets: receipt
            .targets
            .into_iter()
            .map(|t| Target { topic: t.topic, queue: t.queue.0, offset: t.offset.map(|offset| Decimal(offset.0)) })
            .collect(),
    }
}

fn one(cx: &Cx, results: Results) -> Result<Response, Failure> {
    let receipt = results.into_iter().next().unwrap_or(Err(Error::OutcomeUnknown)).map_err(by_header)?;
    let status = status(&receipt);
    let receipt = shown(receipt);
    let mut response = answer::json(status, &receipt)?;
    if let Some(id) = receipt.id
        && let Ok(location) = HeaderValue::try_from(format!("/v1/tenants/{}/messages/{id}", cx.tenant()))
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// One raw message has headers where the broker speaks of fields.
fn by_header(error: Error) -> Error {
    match error {
        Error::InvalidRequest { pointer, detail } if pointer.starts_with('/') => {
            let field = pointer.strip_prefix("/messages/0/").unwrap_or(&pointer[1..]);
            Error::InvalidRequest { pointer: raw::header_of(field), detail }
        }
        other => other,
    }
}

/// A message of many has its place.
fn by_index(error: Error, index: usize) -> Error {
    match error {
        Error::InvalidRequest { pointer, detail } if pointer.starts_with('/') => {
            Error::InvalidRequest { pointer: format!("/messages/{index}{pointer}"), detail }
        }
        other => other,
    }
}

fn many(cx: &Cx, results: Results, atomic: bool) -> Result<Response, Failure> {
    let refusal = results.iter().enumerate().find_map(|(i, result)| Some((i, result.as_ref().err()?)));
    if atomic && let Some((index, refusal)) = refusal {
        return Err(by_index(refusal.clone(), index).into());
    }
    let minimal = headers::prefers_minimal(&cx.headers);
    let rejected = results.iter().filter(|result| result.is_err()).count();
    let mut out = Vec::with_capacity(64 + results.len() * 224);
    json::raw(&mut out, "{\"accepted\":");
    json::number(&mut out, (results.len() - rejected) as u64);
    json::raw(&mut out, ",\"rejected\":");
    json::number(&mut out, rejected as u64);
    json::raw(&mut out, ",\"results\":[");
    let mut first = true;
    for (index, result) in results.into_iter().enumerate() {
        if minimal && result.is_ok() {
            continue;
        }
        json::raw(&mut out, if std::mem::take(&mut first) { "" } else { "," });
        write_result(&mut out, index, result.map_err(|error| by_index(error, index).into()))?;
    }
    json::raw(&mut out, "]}");
    let status = if rejected > 0 { StatusCode::MULTI_STATUS } else { StatusCode::CREATED };
    let mut response = answer::bytes_of(status, "application/json", out);
    if minimal {
        response.headers_mut().insert("preference-applied", HeaderValue::from_static("return=minimal"));
    }
    Ok(response)
}

/// The shape of `publish::PublishResult`, by hand: a batch has many.
fn write_result(out: &mut Vec<u8>, index: usize, result: Result<PublishReceipt, Failure>) -> Result<(), Failure> {
    json::raw(out, "{\"index\":");
    json::number(out, index as u64);
    json::raw(out, ",\"status\":");
    match result {
        Ok(receipt) => {
            json::number(out, u64::from(status(&receipt).as_u16()));
            json::raw(out, ",\"id\":");
            optional(out, receipt.id, json::plain);
            json::raw(out, ",\"topic\":");
            json::string(out, &receipt.topic);
            json::raw(out, ",\"queue\":");
            optional(out, receipt.queue, |out, queue| json::number(out, u64::from(queue.0)));
            json::raw(out, ",\"offset\":");
            optional(out, receipt.offset, |out, offset| json::decimal(out, offset.0));
            json::raw(out, ",\"stored_at\":");
            optional(out, receipt.stored_at, json::time);
            if let Some(at) = receipt.deliver_at {
                json::raw(out, ",\"deliver_at\":");
                json::time(out, at);
            }
            json::raw(
                out,
                match receipt.duplicate {
                    Some(true) => ",\"duplicate\":true",
                    Some(false) => ",\"duplicate\":false",
                    None => ",\"duplicate\":null",
                },
            );
            json::raw(out, ",\"durability\":");
            write_serde(out, &acked(receipt.durability))?;
            if !receipt.targets.is_empty() {
                json::raw(out, ",\"targets\":");
                write_serde(out, &shown(receipt).targets)?;
            }
        }
        Err(failure) => {
            let problem = failure.into_problem();
            json::number(out, u64::from(problem.status));
            json::raw(out, ",\"problem\":");
            write_serde(out, &problem)?;
        }
    }
    out.push(b'}');
    Ok(())
}

fn optional<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        Some(value) => write(out, value),
        None => json::raw(out, "null"),
    }
}

fn write_serde<T: serde::Serialize>(out: &mut Vec<u8>, value: &T) -> Result<(), Failure> {
    serde_json::to_writer(out, value).map_err(|error| crate::failure::internal(&error.to_string()))
}

#[cfg(test)]
mod tests;
