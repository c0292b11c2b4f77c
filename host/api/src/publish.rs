//! From the body of a publish to messages. The `Content-Type` says what the body is.

pub(crate) mod batch;
pub(crate) mod cloudevents;
pub(crate) mod delay;
pub(crate) mod frames;
pub(crate) mod pieces;
pub(crate) mod raw;
pub(crate) mod transaction;

use bytes::Bytes;
use http::HeaderMap;
use pointsman_api_types::Code;
use pointsman_api_types::publish::{BATCH_TYPE, FRAMES_TYPE, MessageInput, NDJSON_TYPE};
use pointsman_api_types::transaction::TRANSACTION_TYPE;
use pointsman_model::message::{Invalid, NewMessage, check_idempotency_key};
use pointsman_model::{QueueId, limits};

use crate::failure::Failure;
use crate::headers;

/// One CloudEvent, and many.
const EVENT_TYPE: &str = "application/cloudevents+json";
const EVENTS_TYPE: &str = "application/cloudevents-batch+json";

/// What the body of a publish is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One message, untouched.
    Raw,
    /// `{"messages": […]}`.
    Batch,
    /// Binary frames.
    Frames,
    /// A message a line.
    Lines,
    /// One CloudEvent in JSON.
    Event,
    /// One CloudEvent whose attributes are headers.
    BinaryEvent,
    /// `[…]` of CloudEvents in JSON.
    Events,
    /// A transaction in its envelope, which has a URL of its own.
    Transaction,
}

impl Shape {
    /// One message, answered by one receipt.
    pub(crate) fn is_one(self) -> bool {
        matches!(self, Self::Raw | Self::Event | Self::BinaryEvent)
    }
}

/// The shape that the headers announce.
pub(crate) fn shape(headers: &HeaderMap) -> Result<Shape, Failure> {
    let media_type = headers::media_type(headers)?.unwrap_or_default();
    Ok(match media_type.as_str() {
        EVENT_TYPE => Shape::Event,
        EVENTS_TYPE => Shape::Events,
        _ if headers.contains_key("ce-specversion") => Shape::BinaryEvent,
        TRANSACTION_TYPE => Shape::Transaction,
        BATCH_TYPE => Shape::Batch,
        FRAMES_TYPE => Shape::Frames,
        NDJSON_TYPE => Shape::Lines,
        _ => Shape::Raw,
    })
}

/// The caller's `traceparent`; one that is malformed is ignored, as W3C Trace Context wants it.
pub(crate) fn trace(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(headers::TRACEPARENT)?.to_str().ok()?;
    let fine = text.len() <= limits::TRACE_BYTES_MAX && !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    fine.then(|| text.to_owned())
}

/// A message of the contract without its payload, checked. `pointer` leads to the message.
pub(crate) fn describe(
    input: MessageInput<'_>,
    body: Bytes,
    content_type: Option<String>,
    trace: Option<&str>,
    pointer: impl Fn() -> String,
) -> Result<NewMessage, Failure> {
    if input.topic.is_some() {
        return Err(Failure::invalid(
            format!("{}/topic", pointer()),
            "only the messages of a transaction name a topic",
        ));
    }
    let forms = delay::Forms { delay_ms: input.delay_ms, delay_level: input.delay_level, deliver_at: input.deliver_at };
    let delay = forms.one(|field| format!("{}/{field}", pointer()))?;
    let message = NewMessage {
        content_type,
        body,
        tag: input.tag,
        keys: input.keys.unwrap_or_default(),
        ordering_key: input.ordering_key,
        queue: input.queue.map(QueueId),
        properties: input.properties.unwrap_or_default().0,
        delay,
        ttl_ms: input.ttl_ms.filter(|ttl| *ttl > 0),
        idempotency_key: input.idempotency_key,
        priority: input.priority.unwrap_or(0),
        trace: trace.map(str::to_owned),
    };
    message
        .validate()
        .map_err(|Invalid { field, reason }| Failure::invalid(format!("{}/{field}", pointer()), reason))?;
    Ok(message)
}

/// `Idempotency-Key`, checked.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let Some(key) = headers::text(headers, &headers::IDEMPOTENCY_KEY)? else { return Ok(None) };
    check_idempotency_key(key).map_err(|reason| Failure::invalid("Idempotency-Key", reason))?;
    Ok(Some(key))
}

/// Message i of many gets the key `{header}/{i}`, unless it has its own.
pub(crate) fn number_key(header: Option<&str>, i: usize, message: &mut NewMessage) {
    if let (Some(header), None) = (header, &message.idempotency_key) {
        message.idempotency_key = Some(format!("{header}/{i}"));
    }
}

/// Counts messages and payload bytes of one call against the limits of a batch.
#[derive(Default)]
struct BatchLimits {
    messages: usize,
    bytes: usize,
}

impl BatchLimits {
    fn add(&mut self, body: &Bytes) -> Result<(), Failure> {
        self.messages += 1;
        self.bytes += body.len();
        if self.messages > limits::BATCH_MESSAGES_MAX {
            return Err(Failure::new(Code::BatchTooLarge, format!("at most {} messages", limits::BATCH_MESSAGES_MAX)));
        }
        if self.bytes > limits::BATCH_BYTES_MAX {
            return Err(Failure::new(
                Code::BatchTooLarge,
                format!("at most {} bytes of payload", limits::BATCH_BYTES_MAX),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
