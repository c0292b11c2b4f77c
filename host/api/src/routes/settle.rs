//! Settlements.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use pointsman_api_types::Time;
use pointsman_api_types::lease::{SettleInput, SettleItem, SettleOp, SettleResult, SettleStatus, Settled};
use pointsman_broker::view;
use pointsman_model::limits;

use super::{check_range, control_body, detached, from_json};
use crate::answer;
use crate::context::Cx;
use crate::failure::Failure;

pub(crate) async fn settle(cx: Cx, body: Body) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let items = match items(&cx, body).await {
        Ok(items) => items,
        Err(failure) => return Err(cx.after_group(failure).await),
    };
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, group) = (cx.tenant().to_owned(), cx.path("group").to_owned());
    let results = detached(async move { broker.settle(&call, &tenant, &group, items).await }).await?;
    let results: Vec<_> = results.into_iter().map(shown).collect();
    let failed = results.iter().any(|result| result.status.failed());
    let status = if failed { StatusCode::MULTI_STATUS } else { StatusCode::OK };
    answer::json(status, &Settled { results })
}

async fn items(cx: &Cx, body: Body) -> Result<Vec<view::SettleRequest>, Failure> {
    let bytes = control_body(cx, body, &[]).await?;
    let input: SettleInput = from_json(&bytes)?;
    if input.items.len() > limits::SETTLE_ITEMS_MAX {
        return Err(Failure::invalid("/items", format!("at most {} items", limits::SETTLE_ITEMS_MAX)));
    }
    input.items.into_iter().enumerate().map(|(i, item)| request(i, item)).collect()
}

/// Checks one item: which fields go with which word.
fn request(i: usize, item: SettleItem) -> Result<view::SettleRequest, Failure> {
    let pointer = |field: &str| format!("/items/{i}/{field}");
    let op = match item.op {
        SettleOp::Ack => view::SettleOp::Ack,
        SettleOp::Nack => view::SettleOp::Nack,
        SettleOp::Extend => view::SettleOp::Extend,
        SettleOp::Release => view::SettleOp::Release,
        SettleOp::DeadLetter => view::SettleOp::DeadLetter,
    };
    let misplaced = [
        ("delay_ms", item.delay_ms.is_some(), matches!(op, view::SettleOp::Nack | view::SettleOp::Release)),
        ("lease_ms", item.lease_ms.is_some(), op == view::SettleOp::Extend),
        ("reason", item.reason.is_some(), matches!(op, view::SettleOp::Nack | view::SettleOp::DeadLetter)),
    ];
    if let Some((field, ..)) = misplaced.iter().find(|(_, given, fits)| *given && !fits) {
        return Err(Failure::invalid(pointer(field), "does not go with this `op`"));
    }
    check_range(item.delay_ms, 0..=limits::DELAY_MS_MAX, &pointer("delay_ms"))?;
    check_range(item.lease_ms, limits::LEASE_MS_MIN..=limits::LEASE_MS_MAX, &pointer("lease_ms"))?;
    if item.reason.as_ref().is_some_and(|reason| reason.len() > limits::REASON_BYTES_MAX) {
        return Err(Failure::invalid(pointer("reason"), format!("at most {} bytes", limits::REASON_BYTES_MAX)));
    }
    Ok(view::SettleRequest {
        receipt: item.receipt,
        op,
        delay_ms: item.delay_ms,
        lease_ms: item.lease_ms,
        reason: item.reason,
    })
}

fn shown(result: view::SettleResult) -> SettleResult {
    SettleResult {
        receipt: result.receipt,
        status: match result.status {
            view::SettleStatus::Settled => SettleStatus::Settled,
            view::SettleStatus::Extended => SettleStatus::Extended,
            view::SettleStatus::AlreadySettled => SettleStatus::AlreadySettled,
            view::SettleStatus::LeaseExpired => SettleStatus::LeaseExpired,
            view::SettleStatus::Invalid => SettleStatus::Invalid,
        },
        expires_at: result.expires_at.map(|at| Time(at.0)),
    }
}
