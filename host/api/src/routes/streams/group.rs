//! A group's stream: leases as they come.
//!
//! A lease counts as written once its piece of the body is taken by the connection. What was leased and not yet written
//! when the client hangs up goes back by being dropped.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use pointsman_api_types::publish::NDJSON_TYPE;
use pointsman_broker::view::{GroupStreamRequest, StreamEvent};
use pointsman_broker::{GroupEvent, GroupStream};
use pointsman_model::limits;

use super::{Counted, HEARTBEAT, PIECE_BYTES, SSE_TYPE, State, Writer, passing_refusal, response, until_tail};
use crate::App;
use crate::context::Cx;
use crate::failure::Failure;
use crate::forward::{Pace, PaceSlot};
use crate::query::Query;

const PARAMETERS: &[&str] = &["client_id", "max_inflight", "lease_ms", "max_events", "max_ms", "until"];

pub(in crate::routes) async fn group(cx: Cx) -> Result<Response, Failure> {
    let query = cx.query_with(PARAMETERS, &[], false).await?;
    let form = cx.accept(&[SSE_TYPE, NDJSON_TYPE]).await?;
    let request = match request(&query) {
        Ok(request) => request,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let writer = Writer { ndjson: form == NDJSON_TYPE, request_id: cx.call.request_id.clone() };
    let body = match cx.app.broker.open_group_stream(&cx.call, cx.tenant(), cx.path("group"), request) {
        Ok(stream) => {
            cx.connection.bound_send_buffer();
            let counted = Counted::new(&cx.app);
            let app = Arc::clone(&cx.app);
            let (pace, state) = (cx.pace.as_ref().and_then(PaceSlot::take), State::Fresh);
            let running = Running { stream, pace, made: 0, writer, app, state, _counted: counted };
            Body::from_stream(futures_util::stream::unfold(running, Running::piece))
        }
        Err(error) => passing_refusal(&writer, error.into())?,
    };
    Ok(response(form == NDJSON_TYPE, body))
}

fn request(query: &Query) -> Result<GroupStreamRequest, Failure> {
    let client_id = query.get("client_id");
    if client_id.is_some_and(|id| !(1..=limits::CLIENT_ID_BYTES_MAX).contains(&id.len())) {
        return Err(Failure::invalid("client_id", format!("1 to {} bytes", limits::CLIENT_ID_BYTES_MAX)));
    }
    let max_inflight = query.number("max_inflight", 1..=u64::from(limits::STREAM_INFLIGHT_MAX))?;
    Ok(GroupStreamRequest {
        client_id: client_id.map(str::to_owned),
        max_inflight: max_inflight.map(|n| n as u32),
        lease_ms: query.number("lease_ms", limits::LEASE_MS_MIN..=limits::LEASE_MS_MAX)?,
        max_events: query.number("max_events", 1..=u64::MAX)?,
        max_ms: query.number("max_ms", 1..=u64::MAX)?,
        until_tail: until_tail(query)?,
    })
}

/// A stream being written.
struct Running {
    stream: GroupStream,
    /// Where the answer goes to another node.
    pace: Option<Pace>,
    /// Bytes made so far.
    made: u64,
    writer: Writer,
    app: Arc<App>,
    state: State,
    _counted: Counted,
}

impl Running {
    /// The next piece of the body: one event, and those that are ready behind it.
    async fn piece(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.state == State::Ended {
            return None;
        }
        if let Some(pace) = &mut self.pace
            && !pace.taken(self.made).await
        {
            return None;
        }
        let mut out = Vec::new();
        if self.state == State::Fresh {
            self.state = State::Flowing;
            self.writer.retry(&mut out);
        }
        let first = tokio::select! {
            event = self.stream.next() => Some(event),
            () = tokio::time::sleep(HEARTBEAT) => None,
            () = self.app.config.shutdown.cancelled() => {
                self.stream.drain();
                Some(Some(GroupEvent::Said(StreamEvent::Drain)))
            }
        };
        let Some(mut event) = first else {
            self.writer.heartbeat(&mut out);
            return self.made(out);
        };
        // Given back if this is dropped before the piece is taken.
        let mut unwritten = Vec::new();
        loop {
            let Some(ready) = event else {
                self.state = State::Ended;
                break;
            };
            if matches!(ready, GroupEvent::Said(StreamEvent::Failed(_) | StreamEvent::Drain)) {
                self.state = State::Ended;
            }
            let written = match ready {
                GroupEvent::Said(event) => self.writer.event(&mut out, event),
                GroupEvent::Lease { lease, unseen } => {
                    let written = self.writer.lease(&mut out, &lease);
                    if written.is_ok() {
                        unwritten.push(unseen);
                    }
                    written
                }
            };
            if let Err(failure) = written {
                self.writer.failed(&mut out, failure);
                self.state = State::Ended;
            }
            if self.state == State::Ended || out.len() >= PIECE_BYTES {
                break;
            }
            match self.stream.next().now_or_never() {
                Some(next) => event = next,
                None => break,
            }
        }
        self.stream.seen(unwritten);
        if out.is_empty() { None } else { self.made(out) }
    }

    fn made(mut self, out: Vec<u8>) -> Option<(Result<Bytes, Infallible>, Self)> {
        self.made += out.len() as u64;
        Some((Ok(out.into()), self))
    }
}
