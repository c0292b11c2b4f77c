//! CloudEvents 1.0: an event is a message. Source: the CloudEvents specification 1.0.2, its JSON format and HTTP binding.
//!
//! `source`, a space and `id` make the idempotency key (their fingerprint where they are no key), `type` the tag,
//! `subject` a key, `partitionkey` the ordering key; every attribute is kept as the property `ce-<name>`.

use std::fmt;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use percent_encoding::percent_decode_str;
use pointsman_api_types::decode;
use pointsman_api_types::text::Text;
use pointsman_model::message::{Invalid, NewMessage, check_idempotency_key};
use pointsman_model::{hash, limits};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::batch::{BYTES_TYPE, JSON_TYPE, payload};
use super::{BatchLimits, MessageInput};
use crate::failure::Failure;
use crate::headers::{self, utf8};

/// What properties and headers of attributes start with.
const PREFIX: &str = "ce-";
/// The attributes that every event has.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// An event in JSON: attributes as text, and the data.
#[derive(Default)]
struct Event<'a> {
    attributes: Vec<(String, String)>,
    data: Option<&'a RawValue>,
    data_base64: Option<Text<'a>>,
}

/// A batch, as this module wraps it.
#[derive(serde::Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    messages: Vec<Event<'a>>,
}

/// The event of a structured body.
pub(crate) fn event(body: &Bytes, trace: Option<&str>) -> Result<NewMessage, Failure> {
    let event = decode(body, limits::JSON_DEPTH_MAX).map_err(pointsman_api_types::Problem::from)?;
    message(event, body, trace, String::new)
}

/// The events of a batch.
pub(crate) fn events(body: &Bytes, trace: Option<&str>) -> Result<Vec<NewMessage>, Failure> {
    // As the list of an object, places in it read as in every batch.
    let body = Bytes::from([b"{\"messages\":", &body[..], b"}"].concat());
    let batch: Batch<'_> = decode(&body, limits::JSON_DEPTH_MAX + 1).map_err(pointsman_api_types::Problem::from)?;
    if batch.messages.is_empty() {
        return Err(Failure::invalid("/messages", "at least one event"));
    }
    let mut counted = BatchLimits::default();
    let mut messages = Vec::with_capacity(batch.messages.len());
    for (i, event) in batch.messages.into_iter().enumerate() {
        let message = message(event, &body, trace, || format!("/messages/{i}"))?;
        counted.add(&message.body)?;
        messages.push(message);
    }
    Ok(messages)
}

/// The event whose attributes are headers; the body is its data, untouched.
pub(crate) fn binary(headers: &HeaderMap, body: Bytes, trace: Option<&str>) -> Result<NewMessage, Failure> {
    let mut attributes = Vec::new();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix(PREFIX) else { continue };
        if attributes.iter().any(|(name, _)| name == attribute) {
            return Err(Failure::invalid(name.as_str(), "the header is there twice"));
        }
        let value = percent_decode_str(utf8(value, name.as_str())?).decode_utf8();
        let value = value.map_err(|_| Failure::invalid(name.as_str(), "no UTF-8 once its escapes are read"))?;
        attributes.push((attribute.to_owned(), value.into_owned()));
    }
    let content_type = headers::text(headers, &header::CONTENT_TYPE)?.unwrap_or(BYTES_TYPE).to_owned();
    described(attributes, body, content_type, trace, |attribute| format!("{PREFIX}{attribute}"))
}

fn message(
    event: Event<'_>,
    body: &Bytes,
    trace: Option<&str>,
    pointer: impl Fn() -> String,
) -> Result<NewMessage, Failure> {
    let given = event.attributes.iter().find(|(name, _)| name == "datacontenttype").map(|(_, kind)| kind.clone());
    let (data, content_type) = if event.data.is_none() && event.data_base64.is_none() {
        (Bytes::new(), given.unwrap_or_else(|| BYTES_TYPE.to_owned()))
    } else {
        // JSON is what data is where no type is given, a string too; bytes say nothing of themselves.
        let content_type = given.or_else(|| event.data.map(|_| JSON_TYPE.to_owned()));
        let mut input = MessageInput { data: event.data, data_base64: event.data_base64, ..MessageInput::default() };
        payload(&mut input, content_type, body, &pointer)?
    };
    described(event.attributes, data, content_type, trace, |attribute| format!("{}/{attribute}", pointer()))
}

/// The message of an event; `place` names an attribute's place.
fn described(
    attributes: Vec<(String, String)>,
    body: Bytes,
    content_type: String,
    trace: Option<&str>,
    place: impl Fn(&str) -> String,
) -> Result<NewMessage, Failure> {
    let get = |name: &str| attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    for name in REQUIRED {
        if get(name).is_none_or(|value| value.is_empty()) {
            return Err(Failure::invalid(place(name), "every event has this attribute"));
        }
    }
    if get("specversion").as_deref() != Some("1.0") {
        return Err(Failure::invalid(place("specversion"), "`1.0`"));
    }
    let key = format!("{} {}", get("source").unwrap_or_default(), get("id").unwrap_or_default());
    let key = match check_idempotency_key(&key) {
        Ok(()) => key,
        Err(_) => format!("{:032x}", hash::fingerprint(key.as_bytes())),
    };
    let message = NewMessage {
        content_type: Some(content_type),
        body,
        tag: get("type"),
        keys: get("subject").into_iter().collect(),
        ordering_key: get("partitionkey"),
        idempotency_key: Some(key),
        properties: attributes.into_iter().map(|(name, value)| (format!("{PREFIX}{name}"), value)).collect(),
        trace: trace.map(str::to_owned),
        ..NewMessage::default()
    };
    message.validate().map_err(|Invalid { field, reason }| {
        let attribute = match field.split('/').next() {
            Some("tag") => "type",
            Some("keys") => "subject",
            Some("ordering_key") => "partitionkey",
            Some("content_type") => "datacontenttype",
            _ => field.strip_prefix("properties/ce-").unwrap_or(&field),
        };
        Failure::invalid(place(attribute), reason)
    })?;
    Ok(message)
}

impl<'de: 'a, 'a> Deserialize<'de> for Event<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Event<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event<'de>, A::Error> {
                let mut event = Event::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "data" => event.data = map.next_value::<Option<&'de RawValue>>()?,
                        "data_base64" => event.data_base64 = map.next_value::<Option<Text<'de>>>()?,
                        _ => {
                            if !is_attribute_name(&name) {
                                return Err(A::Error::custom("attributes are lower-case letters and digits"));
                            }
                            match map.next_value::<Value>()? {
                                Value::Null => {}
                                Value::String(text) => event.attributes.push((name, text)),
                                Value::Bool(value) => event.attributes.push((name, value.to_string())),
                                Value::Number(n) if n.is_i64() => event.attributes.push((name, n.to_string())),
                                _ => return Err(A::Error::custom("an attribute is a text, an integer or a boolean")),
                            }
                        }
                    }
                }
                Ok(event)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// CloudEvents 1.0, Naming Conventions.
fn is_attribute_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}
