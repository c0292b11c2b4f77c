//! Questions to producers about their transactions: one call, or a stream of them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use pointsman_api_types::publish::NDJSON_TYPE;
use pointsman_api_types::transaction::ChecksInput;
use pointsman_broker::view::{ProducerCheck, StreamEvent};
use pointsman_broker::{Call, Error, StreamSlot};
use pointsman_model::limits;

use super::writer::Writer;
use super::{Counted, HEARTBEAT, SSE_TYPE, passing_refusal, response};
use crate::context::{self, Cx};
use crate::failure::Failure;
use crate::message_json::{Breaks, prepared};
use crate::routes::{check_range, control_body, from_json};
use crate::{App, answer, json};

/// Checks that a stream takes at a time.
const CHECKS_AT_A_TIME: u32 = 16;

/// `POST …/checks/lease`. Not a task of its own: a client that hung up is asked nothing.
pub(crate) async fn lease(mut cx: Cx, body: Body) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let input = match input(&cx, body).await {
        Ok(input) => input,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let wait = Duration::from_millis(input.wait_ms.unwrap_or(0));
    cx.extend_deadline(wait);
    let max = input.max_checks.unwrap_or(limits::CHECKS_LEASED_DEFAULT);
    let checks = cx.app.broker.lease_checks(&cx.call, cx.tenant(), cx.path("pg"), max, wait).await?;
    let mut out = b"{\"checks\":[".to_vec();
    for (i, check) in checks.iter().enumerate() {
        json::raw(&mut out, if i == 0 { "" } else { "," });
        write(&mut out, check, Breaks::Keep)?;
    }
    out.extend_from_slice(b"]}");
    Ok(answer::bytes_of(StatusCode::OK, "application/json", out))
}

async fn input(cx: &Cx, body: Body) -> Result<ChecksInput, Failure> {
    let bytes = control_body(cx, body, &[]).await?;
    let input: ChecksInput = from_json(&bytes)?;
    check_range(input.max_checks, 1..=limits::CHECKS_AT_ONCE_MAX as u64, "/max_checks")?;
    check_range(input.wait_ms, 0..=limits::WAIT_MS_MAX, "/wait_ms")?;
    Ok(input)
}

/// `GET …/checks`.
pub(crate) async fn stream(cx: Cx) -> Result<Response, Failure> {
    let query = cx.query_with(&["max_events", "max_ms"], &[], false).await?;
    let form = cx.accept(&[SSE_TYPE, NDJSON_TYPE]).await?;
    let bounds = query.number("max_events", 1..=u64::MAX).and_then(|n| Ok((n, query.number("max_ms", 1..=u64::MAX)?)));
    let (max_events, max_ms) = match bounds {
        Ok(bounds) => bounds,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let writer = Writer { ndjson: form == NDJSON_TYPE, request_id: cx.call.request_id.clone() };
    let body = match cx.app.broker.open_checks(&cx.call, cx.tenant()).await {
        Ok(slot) => {
            cx.connection.bound_send_buffer();
            let running = Running {
                app: Arc::clone(&cx.app),
                call: cx.call.clone(),
                tenant: cx.tenant().to_owned(),
                group: cx.path("pg").to_owned(),
                writer,
                left: max_events.unwrap_or(u64::MAX),
                until: max_ms.and_then(|ms| context::now().checked_add(Duration::from_millis(ms))),
                fresh: true,
                _slot: slot,
                _counted: Counted::new(&cx.app),
            };
            Body::from_stream(futures_util::stream::unfold(Some(running), Running::piece))
        }
        Err(error) => passing_refusal(&writer, error.into())?,
    };
    Ok(response(form == NDJSON_TYPE, body))
}

/// A stream of questions being written.
struct Running {
    app: Arc<App>,
    call: Call,
    tenant: String,
    group: String,
    writer: Writer,
    /// Questions until its bound.
    left: u64,
    until: Option<Instant>,
    fresh: bool,
    _slot: StreamSlot,
    _counted: Counted,
}

impl Running {
    /// The next piece of the body: the questions that are there, or a sign of life.
    async fn piece(running: Option<Self>) -> Option<(Result<Bytes, Infallible>, Option<Self>)> {
        let mut running = running?;
        let mut out = Vec::new();
        if std::mem::take(&mut running.fresh) {
            running.writer.retry(&mut out);
            running.writer.heartbeat(&mut out);
            return Some((Ok(out.into()), Some(running)));
        }
        let goes_on = match running.next().await {
            Ok(checks) => running.write(&mut out, checks),
            Err(Error::Draining) => {
                // The event's own words cannot fail to be written.
                let _ = running.writer.event(&mut out, StreamEvent::Drain);
                false
            }
            Err(error) => {
                running.writer.failed(&mut out, error.into());
                false
            }
        };
        let goes_on = goes_on && running.left > 0 && running.until.is_none_or(|until| context::now() < until);
        Some((Ok(out.into()), goes_on.then_some(running)))
    }

    /// Asks the broker anew each time, so that a token that is gone ends the stream.
    async fn next(&self) -> Result<Vec<ProducerCheck>, Error> {
        let now = context::now();
        let wait = self.until.map_or(HEARTBEAT, |until| until.saturating_duration_since(now).min(HEARTBEAT));
        let deadline = now + wait + Duration::from_millis(limits::TIMEOUT_MS_DEFAULT);
        let call = Call { deadline, ..self.call.clone() };
        let max = u32::try_from(self.left).unwrap_or(u32::MAX).min(CHECKS_AT_A_TIME);
        let broker = &self.app.broker;
        tokio::select! {
            checks = broker.lease_checks(&call, &self.tenant, &self.group, max, wait) => checks,
            () = self.app.config.shutdown.cancelled() => Err(Error::Draining),
        }
    }

    /// Writes questions; false if the stream ends with them.
    fn write(&mut self, out: &mut Vec<u8>, checks: Vec<ProducerCheck>) -> bool {
        if checks.is_empty() {
            self.writer.heartbeat(out);
        }
        let breaks = if self.writer.ndjson { Breaks::Blank } else { Breaks::Sse };
        for check in checks {
            let start = out.len();
            self.left = self.left.saturating_sub(1);
            self.writer.start(out, "check", None);
            if let Err(failure) = write(out, &check, breaks) {
                out.truncate(start);
                self.writer.failed(out, failure);
                return false;
            }
            self.writer.end(out);
        }
        true
    }
}

fn write(out: &mut Vec<u8>, check: &ProducerCheck, breaks: Breaks) -> Result<(), Failure> {
    json::raw(out, "{\"transaction\":");
    json::plain(out, check.id);
    json::raw(out, ",\"attempt\":");
    json::number(out, u64::from(check.attempt));
    json::raw(out, ",\"prepared_at\":");
    json::time(out, check.prepared_at);
    json::raw(out, ",\"messages\":[");
    for (i, message) in check.messages.iter().enumerate() {
        json::raw(out, if i == 0 { "" } else { "," });
        prepared(out, message, breaks)?;
    }
    json::raw(out, "]}");
    Ok(())
}
