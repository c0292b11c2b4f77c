//! Publish a stream of messages: NDJSON lines, or frames without end. Each message has its own outcome.
//!
//! What has come is published in groups, in order, and reported in order: a line each as it is known, or one JSON
//! answer at the end. `Pm-Timeout-Ms` bounds each group, not the stream.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderValue};
use pointsman_api_types::publish::NDJSON_TYPE;
use pointsman_api_types::{Code, Problem};
use pointsman_broker::Error;
use pointsman_broker::command::Durability;
use pointsman_broker::view::{Publish, PublishReceipt};
use pointsman_model::limits;
use pointsman_model::message::NewMessage;

use super::{detached, write_result, write_serde};
use crate::body::{self, Cap};
use crate::context::{self, Cx};
use crate::failure::Failure;
use crate::publish::pieces::{Cut, Piece, Pieces};
use crate::publish::{batch, frames, idempotency_key, number_key, trace};
use crate::{answer, headers, json};

/// Payload of one group, about.
const GROUP_BYTES: usize = 1 << 20;
const _: () = assert!(GROUP_BYTES + limits::MESSAGE_BYTES_CAP as usize > limits::BATCH_BYTES_MAX);

pub(super) async fn publish(
    cx: Cx,
    body: Body,
    cut: Cut,
    ack: Option<Durability>,
    reports: bool,
) -> Result<Response, Failure> {
    cx.app.broker.check_publish(&cx.call, cx.tenant(), cx.path("topic")).await?;
    // One answer at the end means all results are held until then, and a compressed body is unpacked whole: bounded.
    let body = if reports && !cx.headers.contains_key(header::CONTENT_ENCODING) {
        body
    } else {
        Body::from(body::read(&cx.app.bodies, &cx.headers, body, Cap::PUBLISH).await?)
    };
    let pieces = Pieces::new(body, cut, &cx.app.bodies);
    let trace = trace(&cx.headers);
    let key = idempotency_key(&cx.headers)?.map(str::to_owned);
    let timeout = cx.call.deadline.saturating_duration_since(context::now());
    let run = Run { pieces, cut, ack, trace, key, timeout, next: 0, accepted: 0, rejected: 0, done: false, cx };
    if reports {
        let mut response = Response::new(Body::from_stream(futures_util::stream::unfold(run, Run::report)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON_TYPE));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return Ok(response);
    }
    run.answer().await
}

/// A stream that is being published.
struct Run {
    cx: Cx,
    pieces: Pieces,
    cut: Cut,
    ack: Option<Durability>,
    trace: Option<String>,
    /// `Idempotency-Key` of the stream.
    key: Option<String>,
    timeout: Duration,
    /// Place of the next message in the stream.
    next: usize,
    accepted: u64,
    rejected: u64,
    done: bool,
}

impl Run {
    /// The next lines of the report.
    async fn report(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.done {
            return None;
        }
        let first = self.next;
        let mut out = Vec::new();
        let end = match self.group().await {
            Ok(Some(results)) => results.into_iter().enumerate().try_for_each(|(i, result)| {
                write_result(&mut out, first + i, result)?;
                out.push(b'\n');
                Ok(())
            }),
            Ok(None) => {
                self.done = true;
                json::raw(&mut out, "{\"done\":true,");
                self.counts(&mut out);
                json::raw(&mut out, "}\n");
                Ok(())
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = end {
            self.broken_off(&mut out, failure);
        }
        Some((Ok(out.into()), self))
    }

    /// All results at once.
    async fn answer(mut self) -> Result<Response, Failure> {
        let minimal = headers::prefers_minimal(&self.cx.headers);
        let mut results = Vec::new();
        loop {
            let first = self.next;
            let Some(group) = self.group().await? else { break };
            for (i, result) in group.into_iter().enumerate() {
                if minimal && result.is_ok() {
                    continue;
                }
                let separator = if results.is_empty() { "" } else { "," };
                json::raw(&mut results, separator);
                write_result(&mut results, first + i, result)?;
            }
        }
        if self.next == 0 {
            return Err(Failure::invalid("", "at least one message"));
        }
        let mut out = Vec::with_capacity(results.len() + 64);
        out.push(b'{');
        self.counts(&mut out);
        json::raw(&mut out, ",\"results\":[");
        out.append(&mut results);
        json::raw(&mut out, "]}");
        let status = if self.rejected > 0 { StatusCode::MULTI_STATUS } else { StatusCode::CREATED };
        let mut response = answer::bytes_of(status, "application/json", out);
        if minimal {
            response.headers_mut().insert("preference-applied", HeaderValue::from_static("return=minimal"));
        }
        Ok(response)
    }

    /// Publishes what has come, at least one message; `None` at the end.
    ///
    /// # Errors
    /// The stream cannot be read on.
    async fn group(&mut self) -> Result<Option<Vec<Result<PublishReceipt, Failure>>>, Failure> {
        let Some(mut piece) = self.pieces.next().await? else { return Ok(None) };
        let (mut parsed, mut bytes) = (Vec::new(), 0);
        loop {
            let mut message = self.parse(piece);
            if let Ok(message) = &mut message {
                number_key(self.key.as_deref(), self.next + parsed.len(), message);
            }
            bytes += message.as_ref().map_or(0, |message| message.body.len());
            parsed.push(message);
            if parsed.len() == limits::JUDGE_MESSAGES_MAX || bytes >= GROUP_BYTES {
                break;
            }
            match self.pieces.ready() {
                Ok(Some(next)) => piece = next,
                // What is wrong with the rest is told once this is published.
                Ok(None) | Err(_) => break,
            }
        }
        let results = self.send(parsed).await;
        self.next += results.len();
        let accepted = results.iter().filter(|result| result.is_ok()).count() as u64;
        self.accepted += accepted;
        self.rejected += results.len() as u64 - accepted;
        Ok(Some(results))
    }

    fn parse(&self, piece: Piece) -> Result<NewMessage, Failure> {
        let trace = self.trace.as_deref();
        match (piece, self.cut) {
            (Piece::TooLong, _) => Err(Failure::new(Code::MessageTooLarge, "the line is too long for any message")),
            (Piece::Whole(line), Cut::Lines) => batch::line(&line, trace),
            (Piece::Whole(frame), Cut::Frames) => frames::frame(frame, trace),
        }
    }

    /// Publishes the messages among these; the others keep their refusal.
    async fn send(&mut self, parsed: Vec<Result<NewMessage, Failure>>) -> Vec<Result<PublishReceipt, Failure>> {
        let mut messages = Vec::with_capacity(parsed.len());
        let refusals: Vec<Option<Failure>> =
            parsed.into_iter().map(|parsed| parsed.map(|message| messages.push(message)).err()).collect();
        let mut call = self.cx.call.clone();
        call.deadline = context::now() + self.timeout;
        let (broker, tenant, topic) = (self.cx.broker(), self.cx.tenant().to_owned(), self.cx.path("topic").to_owned());
        let publish = Publish { messages, ack: self.ack, atomic: false };
        let published = match publish.messages.is_empty() {
            true => Ok(Vec::new()),
            false => detached(async move { broker.publish(&call, &tenant, &topic, publish).await }).await,
        };
        let mut published = published.map(Vec::into_iter);
        let of_broker = || Err(Failure::from(Error::OutcomeUnknown));
        refusals
            .into_iter()
            .map(|refusal| match (refusal, &mut published) {
                (Some(refusal), _) => Err(refusal),
                (None, Ok(published)) => {
                    published.next().map_or_else(of_broker, |result| result.map_err(Failure::from))
                }
                (None, Err(failure)) => Err(failure.clone()),
            })
            .collect()
    }

    fn counts(&self, out: &mut Vec<u8>) {
        json::raw(out, "\"accepted\":");
        json::number(out, self.accepted);
        json::raw(out, ",\"rejected\":");
        json::number(out, self.rejected);
    }

    /// The last line where the stream could not be read to its end.
    fn broken_off(&mut self, out: &mut Vec<u8>, failure: Failure) {
        self.done = true;
        let mut problem: Problem = failure.into_problem();
        problem.request_id = Some(self.cx.call.request_id.clone());
        json::raw(out, "{\"done\":false,");
        self.counts(out);
        json::raw(out, ",\"problem\":");
        if write_serde(out, &problem).is_err() {
            json::raw(out, "null");
        }
        json::raw(out, "}\n");
    }
}
