//! `application/vnd.pointsman.batch+json`. Payloads are slices of the body where their text allows it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use pointsman_api_types::decode;
use pointsman_api_types::publish::{Batch, MessageInput};
use pointsman_model::limits;
use pointsman_model::message::NewMessage;
use serde_json::value::RawValue;

use super::{BatchLimits, describe};
use crate::failure::Failure;
use crate::message_json::{Form, form};

/// Default type of a payload given as a string.
const TEXT_TYPE: &str = "text/plain; charset=utf-8";
/// Default type of a payload given as another JSON value.
pub(super) const JSON_TYPE: &str = "application/json";
/// Default type of a payload given as bytes.
pub(super) const BYTES_TYPE: &str = "application/octet-stream";

/// The messages of a batch.
pub(crate) fn parse(body: &Bytes, trace: Option<&str>) -> Result<Vec<NewMessage>, Failure> {
    let batch: Batch<'_> = decode(body, limits::JSON_DEPTH_MAX).map_err(pointsman_api_types::Problem::from)?;
    if batch.messages.is_empty() {
        return Err(Failure::invalid("/messages", "at least one message"));
    }
    let mut counted = BatchLimits::default();
    let mut messages = Vec::with_capacity(batch.messages.len());
    for (i, input) in batch.messages.into_iter().enumerate() {
        let message = message(input, body, trace, || format!("/messages/{i}"))?;
        counted.add(&message.body)?;
        messages.push(message);
    }
    Ok(messages)
}

/// One line of NDJSON.
pub(crate) fn line(line: &Bytes, trace: Option<&str>) -> Result<NewMessage, Failure> {
    let input = decode(line, limits::JSON_DEPTH_MAX).map_err(pointsman_api_types::Problem::from)?;
    message(input, line, trace, String::new)
}

/// A message of the contract. `pointer` leads to it; its text is part of `body`.
pub(crate) fn message(
    mut input: MessageInput<'_>,
    body: &Bytes,
    trace: Option<&str>,
    pointer: impl Fn() -> String,
) -> Result<NewMessage, Failure> {
    let content_type = input.content_type.take();
    let (payload, content_type) = payload(&mut input, content_type, body, &pointer)?;
    describe(input, payload, Some(content_type), trace, pointer)
}

pub(super) fn payload(
    input: &mut MessageInput<'_>,
    content_type: Option<String>,
    body: &Bytes,
    pointer: impl Fn() -> String,
) -> Result<(Bytes, String), Failure> {
    match (input.data.take(), input.data_base64.take()) {
        (Some(data), None) => {
            let as_json = content_type.as_deref().is_some_and(|kind| form(Some(kind)) == Form::Json);
            let text = data.get();
            if !text.starts_with('"') || as_json {
                let content_type = content_type.unwrap_or_else(|| JSON_TYPE.to_owned());
                return Ok((body.slice_ref(text.as_bytes()), content_type));
            }
            let content_type = content_type.unwrap_or_else(|| TEXT_TYPE.to_owned());
            Ok((unquote(data, body, pointer)?, content_type))
        }
        (None, Some(text)) => {
            let bytes = match text.0 {
                Cow::Borrowed(text) => STANDARD.decode(text),
                Cow::Owned(text) => STANDARD.decode(text),
            };
            let bytes = bytes.map_err(|error| {
                Failure::invalid(format!("{}/data_base64", pointer()), format!("no padded base64: {error}"))
            })?;
            Ok((bytes.into(), content_type.unwrap_or_else(|| BYTES_TYPE.to_owned())))
        }
        _ => Err(Failure::invalid(format!("{}/data", pointer()), "exactly one of `data` and `data_base64`")),
    }
}

/// The bytes of a JSON string.
fn unquote(data: &RawValue, body: &Bytes, pointer: impl Fn() -> String) -> Result<Bytes, Failure> {
    let text = data.get();
    let inner = &text.as_bytes()[1..text.len() - 1];
    if !inner.contains(&b'\\') {
        return Ok(body.slice_ref(inner));
    }
    serde_json::from_str::<String>(text)
        .map(Bytes::from)
        .map_err(|error| Failure::invalid(format!("{}/data", pointer()), error.to_string()))
}
