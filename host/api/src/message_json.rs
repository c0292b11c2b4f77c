//! A stored message as JSON, borrowed from its record and written by hand: lease answers carry tens of thousands of
//! them a second. The shape is [`pointsman_api_types::message::Message`]; a test holds the two together.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pointsman_broker::command::PublishHead;
use pointsman_broker::view::{Lease, PreparedMessage, ScheduledMessage, StoredMessage};
use pointsman_model::record::Record;
use pointsman_model::{MessageId, limits};
use serde::de::IgnoredAny;

use crate::failure::Failure;
use crate::json;

/// What becomes of line breaks inside a JSON payload, which stand between its tokens only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breaks {
    /// The text stays as it was published.
    Keep,
    /// One line: NDJSON.
    Blank,
    /// Server-sent events: each break starts another `data:` line, which the client joins again.
    Sse,
}

/// Whether the payload is part of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    Included(Breaks),
    /// The payload follows elsewhere, as in frames.
    Apart,
}

/// Bytes around a payload, roughly.
const AROUND_BYTES: usize = 640;

/// Room that a message takes, roughly.
pub(crate) fn size_hint(message: &StoredMessage) -> usize {
    AROUND_BYTES + message.record.head.len() + message.record.body.len() + message.record.body.len() / 8
}

/// Appends a lease.
pub(crate) fn lease(out: &mut Vec<u8>, lease: &Lease, data: Data) -> Result<(), Failure> {
    json::raw(out, "{\"receipt\":");
    json::string(out, &lease.receipt);
    json::raw(out, ",\"expires_at\":");
    json::time(out, lease.expires_at);
    json::raw(out, ",\"attempt\":");
    json::number(out, u64::from(lease.attempt));
    json::raw(out, ",\"message\":");
    message(out, &lease.message, data)?;
    out.push(b'}');
    Ok(())
}

/// Appends a message.
pub(crate) fn message(out: &mut Vec<u8>, message: &StoredMessage, data: Data) -> Result<(), Failure> {
    let head = message.head()?;
    names(out, message.id, message.topic.as_str());
    json::raw(out, ",\"queue\":");
    json::number(out, u64::from(message.record.header.queue.0));
    json::raw(out, ",\"offset\":");
    json::decimal(out, message.offset.0);
    content(out, &message.record, &head, data);
    json::raw(out, ",\"stored_at\":");
    json::time(out, message.stored_at);
    json::raw(out, ",\"expires_at\":");
    match message.expires_at(&head) {
        Some(at) => json::time(out, at),
        None => json::raw(out, "null"),
    }
    end(out, &head);
    Ok(())
}

/// Appends a message that waits for its time: without what it gets when it is delivered.
pub(crate) fn scheduled(out: &mut Vec<u8>, message: &ScheduledMessage) -> Result<(), Failure> {
    let head = message.head()?;
    names(out, message.id, message.topic.as_str());
    json::raw(out, ",\"queue\":null,\"offset\":null");
    content(out, &message.record, &head, Data::Included(Breaks::Keep));
    json::raw(out, ",\"stored_at\":null,\"deliver_at\":");
    json::time(out, message.deliver_at);
    json::raw(out, ",\"expires_at\":null");
    end(out, &head);
    Ok(())
}

/// Appends a message of a transaction that nobody has committed: without what it gets with the commit.
pub(crate) fn prepared(out: &mut Vec<u8>, message: &PreparedMessage, breaks: Breaks) -> Result<(), Failure> {
    let head = message.head()?;
    names(out, message.id, message.topic.as_str());
    json::raw(out, ",\"queue\":");
    json::number(out, u64::from(message.record.header.queue.0));
    json::raw(out, ",\"offset\":null");
    content(out, &message.record, &head, Data::Included(breaks));
    json::raw(out, ",\"stored_at\":null,\"expires_at\":null");
    end(out, &head);
    Ok(())
}

fn names(out: &mut Vec<u8>, id: MessageId, topic: &str) {
    json::raw(out, "{\"id\":");
    json::plain(out, id);
    json::raw(out, ",\"topic\":");
    json::string(out, topic);
}

/// What its producer said, up to when.
fn content(out: &mut Vec<u8>, record: &Record, head: &PublishHead<'_>, data: Data) {
    let header = &record.header;
    json::raw(out, ",\"tag\":");
    json::optional_string(out, head.tag);
    json::raw(out, ",\"keys\":[");
    for (i, key) in head.keys.iter().enumerate() {
        json::raw(out, if i == 0 { "" } else { "," });
        json::string(out, key);
    }
    json::raw(out, "],\"ordering_key\":");
    json::optional_string(out, head.ordering_key);
    json::raw(out, ",\"properties\":{");
    for (i, (name, value)) in head.properties.iter().enumerate() {
        json::raw(out, if i == 0 { "" } else { "," });
        json::string(out, name);
        out.push(b':');
        json::string(out, value);
    }
    json::raw(out, "},\"priority\":");
    json::number(out, u64::from(header.priority));
    json::raw(out, ",\"content_type\":");
    json::optional_string(out, head.content_type);
    if let Data::Included(breaks) = data {
        payload(out, head.content_type, &record.body, breaks);
    }
    json::raw(out, ",\"born_at\":");
    json::time(out, header.born);
}

fn end(out: &mut Vec<u8>, head: &PublishHead<'_>) {
    json::raw(out, ",\"trace\":");
    json::optional_string(out, head.trace);
    out.push(b'}');
}

/// Appends `data` or `data_base64`.
fn payload(out: &mut Vec<u8>, content_type: Option<&str>, body: &[u8], breaks: Breaks) {
    match form(content_type) {
        Form::Json => {
            if let Some(text) = json_text(body) {
                json::raw(out, ",\"data\":");
                return json_value(out, text, breaks);
            }
        }
        Form::Text => {
            if let Ok(text) = std::str::from_utf8(body) {
                json::raw(out, ",\"data\":");
                return json::string(out, text);
            }
        }
        Form::Bytes => {}
    }
    json::raw(out, ",\"data_base64\":\"");
    let start = out.len();
    out.resize(start + body.len().div_ceil(3) * 4, 0);
    // The room is exactly what padded base64 takes.
    let written = STANDARD.encode_slice(body, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

/// The payload as text if it is one JSON value that readers of the contract can parse.
fn json_text(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    Some(text.trim_matches([' ', '\n', '\r', '\t']))
}

fn json_value(out: &mut Vec<u8>, text: &str, breaks: Breaks) {
    if breaks == Breaks::Keep || !text.contains(['\n', '\r']) {
        return json::raw(out, text);
    }
    for byte in text.bytes() {
        match byte {
            b'\n' if breaks == Breaks::Sse => out.extend_from_slice(b"\ndata: "),
            b'\n' | b'\r' => out.push(b' '),
            byte => out.push(byte),
        }
    }
}

/// How a payload of a type is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Text,
    Bytes,
}

/// JSON: subtype `json` or `…+json`. Text: `text/*`.
pub(crate) fn form(content_type: Option<&str>) -> Form {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().as_bytes();
    let Some(slash) = essence.iter().position(|b| *b == b'/') else { return Form::Bytes };
    let (family, subtype) = (&essence[..slash], &essence[slash + 1..]);
    let suffix = |suffix: &[u8]| {
        subtype.len() >= suffix.len() && subtype[subtype.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
    };
    if subtype.eq_ignore_ascii_case(b"json") || suffix(b"+json") {
        Form::Json
    } else if family.eq_ignore_ascii_case(b"text") {
        Form::Text
    } else {
        Form::Bytes
    }
}

/// Appends a frame: `u32 n · u32 m · meta · payload`, n = 4 + m + payload length.
pub(crate) fn lease_frame(out: &mut Vec<u8>, granted: &Lease) -> Result<(), Failure> {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    lease(out, granted, Data::Apart)?;
    let meta = (out.len() - start - 8) as u32;
    out.extend_from_slice(&granted.message.record.body);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&meta.to_le_bytes());
    Ok(())
}

const _: () = assert!(limits::LEASE_BYTES_MAX < u32::MAX / 2, "a frame's lengths are u32");

#[cfg(test)]
mod tests;
