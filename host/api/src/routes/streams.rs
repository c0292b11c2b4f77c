//! Streams: server-sent events, or the same as NDJSON lines. Of a topic here, of a group in [`mod@group`].

pub(crate) mod checks;
mod group;
mod writer;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use http::StatusCode;
use http::header::{self, HeaderValue};
use pointsman_api_types::group::Filter;
use pointsman_api_types::publish::NDJSON_TYPE;
use pointsman_api_types::{Problem, Time, decode};
use pointsman_broker::TopicStream;
use pointsman_broker::view::{StreamEvent, StreamFrom, StreamRequest};
use pointsman_model::{QueueId, Timestamp, limits};

pub(super) use group::group;
use writer::Writer;

use super::groups;
use crate::context::Cx;
use crate::failure::Failure;
use crate::query::{Query, number_in};
use crate::{App, headers};

const SSE_TYPE: &str = "text/event-stream";
/// A comment, so that proxies and clients know the stream lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events that are ready go out together, up to this many bytes.
const PIECE_BYTES: usize = 32 << 10;
/// Longest cursor worth looking at.
const CURSOR_BYTES_MAX: usize = 1_024;

const PARAMETERS: &[&str] = &["from", "tags", "filter", "queues", "max_events", "max_ms", "until", "last_event_id"];

pub(crate) async fn topic(cx: Cx) -> Result<Response, Failure> {
    let query = cx.query_with(PARAMETERS, &["queues"], false).await?;
    let form = cx.accept(&[SSE_TYPE, NDJSON_TYPE]).await?;
    let request = match request(&cx, &query) {
        Ok(request) => request,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let writer = Writer { ndjson: form == NDJSON_TYPE, request_id: cx.call.request_id.clone() };
    let body = match cx.app.broker.open_stream(&cx.call, cx.tenant(), cx.path("topic"), request).await {
        Ok(stream) => {
            cx.connection.bound_send_buffer();
            let counted = Counted::new(&cx.app);
            let running = Running { stream, writer, app: Arc::clone(&cx.app), state: State::Fresh, _counted: counted };
            Body::from_stream(futures_util::stream::unfold(running, Running::piece))
        }
        Err(error) => passing_refusal(&writer, error.into())?,
    };
    Ok(response(form == NDJSON_TYPE, body))
}

/// An answer that flows.
fn response(ndjson: bool, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(if ndjson { NDJSON_TYPE } else { SSE_TYPE }));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    out.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn until_tail(query: &Query) -> Result<bool, Failure> {
    match query.get("until") {
        None => Ok(false),
        Some("tail") => Ok(true),
        Some(_) => Err(Failure::invalid("until", "`tail`")),
    }
}

/// An `EventSource` gives up for good on any status but 200: what passes is told inside the stream.
fn passing_refusal(writer: &Writer, failure: Failure) -> Result<Body, Failure> {
    if failure.code().status() != StatusCode::SERVICE_UNAVAILABLE.as_u16() {
        return Err(failure);
    }
    let mut out = Vec::new();
    writer.failed(&mut out, failure);
    Ok(Body::from(out))
}

fn request(cx: &Cx, query: &Query) -> Result<StreamRequest, Failure> {
    let filter = query
        .get("filter")
        .map(|text| {
            let input: Filter = decode(text.as_bytes(), limits::JSON_DEPTH_MAX).map_err(|mut error| {
                error.pointer.insert_str(0, "filter");
                Problem::from(error)
            })?;
            groups::filter(input, "filter")
        })
        .transpose()?;
    let tags = query.get("tags").map(str::to_owned);
    if tags.is_some() && filter.is_some() {
        return Err(Failure::invalid("filter", "at most one of `tags` and `filter`"));
    }
    let until_tail = until_tail(query)?;
    let mut queues = Vec::new();
    for item in query.all("queues").flat_map(|list| list.split(',')) {
        let queue = number_in(item, &(0..=u64::from(u16::MAX))).map_err(|detail| Failure::invalid("queues", detail))?;
        queues.push(QueueId(queue as u16));
    }
    Ok(StreamRequest {
        from: from(cx, query)?,
        tags,
        filter,
        queues,
        max_events: query.number("max_events", 1..=u64::MAX)?,
        max_ms: query.number("max_ms", 1..=u64::MAX)?,
        until_tail,
    })
}

/// `Last-Event-ID` beats `last_event_id` beats `from`.
fn from(cx: &Cx, query: &Query) -> Result<StreamFrom, Failure> {
    let header = headers::text(&cx.headers, &headers::LAST_EVENT_ID)?.map(|text| ("Last-Event-ID", text));
    let parameter = query.get("last_event_id").map(|text| ("last_event_id", text));
    // An empty id is what a client sends that has seen none.
    if let Some((_, text)) = header.or(parameter).filter(|(_, text)| !text.is_empty()) {
        return cursor(text);
    }
    match query.get("from") {
        None | Some("latest") => Ok(StreamFrom::Latest),
        Some("earliest") => Ok(StreamFrom::Earliest),
        Some(text) => match text.parse::<Time>() {
            Ok(time) => Ok(StreamFrom::Time(Timestamp(time.0))),
            Err(_) if text.starts_with("c1.") => cursor(text),
            Err(_) => Err(Failure::invalid("from", "`latest`, `earliest`, an RFC 3339 time or a cursor")),
        },
    }
}

fn cursor(text: &str) -> Result<StreamFrom, Failure> {
    let fine = text.len() <= CURSOR_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if fine {
        Ok(StreamFrom::Cursor(text.to_owned()))
    } else {
        Err(pointsman_broker::Error::InvalidCursor { detail: "not a cursor".to_owned() }.into())
    }
}

/// Counts an open stream.
struct Counted(Arc<App>);

impl Counted {
    fn new(app: &Arc<App>) -> Self {
        app.metrics.streams.inc();
        Self(Arc::clone(app))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.streams.dec();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was written yet.
    Fresh,
    Flowing,
    /// What ends the stream was written.
    Ended,
}

/// A stream being written.
struct Running {
    stream: TopicStream,
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
        let mut out = Vec::new();
        if self.state == State::Fresh {
            self.state = State::Flowing;
            self.writer.retry(&mut out);
        }
        let first = tokio::select! {
            event = self.stream.next() => Some(event),
            () = tokio::time::sleep(HEARTBEAT) => None,
            () = self.app.config.shutdown.cancelled() => Some(Some(StreamEvent::Drain)),
        };
        let Some(mut event) = first else {
            self.writer.heartbeat(&mut out);
            return Some((Ok(out.into()), self));
        };
        loop {
            let Some(ready) = event else {
                self.state = State::Ended;
                break;
            };
            if matches!(ready, StreamEvent::Failed(_) | StreamEvent::Drain) {
                self.state = State::Ended;
            }
            if let Err(failure) = self.writer.event(&mut out, ready) {
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
        if out.is_empty() { None } else { Some((Ok(out.into()), self)) }
    }
}
