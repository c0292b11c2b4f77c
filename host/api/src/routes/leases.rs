//! Leases. The poll is not a task of its own: a client that hung up leases nothing.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use pointsman_api_types::lease::LeaseInput;
use pointsman_api_types::publish::FRAMES_TYPE;
use pointsman_broker::view::{Lease, LeaseRequest};
use pointsman_model::limits;

use super::{check_range, control_body, from_json};
use crate::answer;
use crate::context::Cx;
use crate::failure::Failure;
use crate::headers::{self, IDEMPOTENCY_KEY};
use crate::message_json::{self, Breaks, Data};

/// What every JSON answer has beside its leases.
const ENVELOPE_BYTES: usize = 16;

pub(crate) async fn lease(mut cx: Cx, body: Body) -> Result<Response, Failure> {
    cx.query(&[]).await?;
    let form = cx.accept(&["application/json", FRAMES_TYPE]).await?;
    let request = match request(&cx, body).await {
        Ok(request) => request,
        Err(failure) => return Err(cx.after_group(failure).await),
    };
    cx.extend_deadline(Duration::from_millis(request.wait_ms));
    let waited = request.wait_ms > 0;
    let polled = cx.app.broker.lease(&cx.call, cx.tenant(), cx.path("group"), request);
    let leases = if waited {
        tokio::select! {
            leases = polled => leases?,
            // A long poll of a node that shuts down ends with nothing, at once.
            () = cx.app.config.shutdown.cancelled() => Vec::new(),
        }
    } else {
        polled.await?
    };
    if form == FRAMES_TYPE { as_frames(&leases) } else { as_json(&leases) }
}

async fn request(cx: &Cx, body: Body) -> Result<LeaseRequest, Failure> {
    let idempotency_key = idempotency_key(cx)?;
    let bytes = control_body(cx, body, &[]).await?;
    let input: LeaseInput = from_json(&bytes)?;
    check_range(input.max_messages, 1..=u64::from(limits::LEASE_MESSAGES_MAX), "/max_messages")?;
    check_range(input.max_bytes, 1..=u64::from(limits::LEASE_BYTES_MAX), "/max_bytes")?;
    check_range(input.wait_ms, 0..=limits::WAIT_MS_MAX, "/wait_ms")?;
    check_range(input.lease_ms, limits::LEASE_MS_MIN..=limits::LEASE_MS_MAX, "/lease_ms")?;
    if input.client_id.as_ref().is_some_and(|id| !(1..=limits::CLIENT_ID_BYTES_MAX).contains(&id.len())) {
        return Err(Failure::invalid("/client_id", format!("1 to {} bytes", limits::CLIENT_ID_BYTES_MAX)));
    }
    Ok(LeaseRequest {
        max_messages: input.max_messages,
        max_bytes: input.max_bytes,
        wait_ms: input.wait_ms.unwrap_or(0),
        lease_ms: input.lease_ms,
        client_id: input.client_id,
        idempotency_key,
    })
}

/// The key that replays a lost answer.
fn idempotency_key(cx: &Cx) -> Result<Option<String>, Failure> {
    let Some(key) = headers::text(&cx.headers, &IDEMPOTENCY_KEY)? else { return Ok(None) };
    let fine =
        (1..=limits::IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    if !fine {
        let detail = format!("1 to {} visible ASCII characters", limits::IDEMPOTENCY_KEY_BYTES_MAX);
        return Err(Failure::invalid("Idempotency-Key", detail));
    }
    Ok(Some(key.to_owned()))
}

fn as_json(leases: &[Lease]) -> Result<Response, Failure> {
    let room = leases.iter().map(|lease| message_json::size_hint(&lease.message)).sum::<usize>();
    let mut out = Vec::with_capacity(ENVELOPE_BYTES + room);
    out.extend_from_slice(b"{\"leases\":[");
    for (i, lease) in leases.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        message_json::lease(&mut out, lease, Data::Included(Breaks::Keep))?;
    }
    out.extend_from_slice(b"]}");
    Ok(answer::bytes_of(StatusCode::OK, "application/json", out))
}

fn as_frames(leases: &[Lease]) -> Result<Response, Failure> {
    let mut out = Vec::with_capacity(leases.iter().map(|lease| message_json::size_hint(&lease.message)).sum());
    for lease in leases {
        message_json::lease_frame(&mut out, lease)?;
    }
    Ok(answer::bytes_of(StatusCode::OK, FRAMES_TYPE, out))
}
