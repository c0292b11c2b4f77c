//! One message: the body is the payload, untouched; headers describe it.

use bytes::Bytes;
use http::header::{self, HeaderMap};
use pointsman_api_types::time::NotTime;
use pointsman_model::message::{Invalid, NewMessage};
use pointsman_model::{QueueId, limits};

use super::batch::BYTES_TYPE;
use super::delay::Forms;
use crate::failure::Failure;
use crate::headers::{self, PROPERTY_PREFIX, title_case, utf8};
use crate::query::number_in;

/// The message.
pub(crate) fn parse(headers: &HeaderMap, body: Bytes, trace: Option<&str>) -> Result<NewMessage, Failure> {
    let content_type = headers::text(headers, &header::CONTENT_TYPE)?.map_or(BYTES_TYPE, |kind| kind);
    let mut message = NewMessage {
        content_type: Some(content_type.to_owned()),
        body,
        trace: trace.map(str::to_owned),
        idempotency_key: super::idempotency_key(headers)?.map(str::to_owned),
        ..NewMessage::default()
    };
    let mut forms = Forms::default();
    for (name, value) in headers {
        let name = name.as_str();
        let Some(part) = name.strip_prefix("pm-") else { continue };
        match part {
            "tag" => message.tag = Some(utf8(value, name)?.to_owned()),
            "key" => message.keys.push(utf8(value, name)?.to_owned()),
            "ordering-key" => message.ordering_key = Some(utf8(value, name)?.to_owned()),
            "queue" => message.queue = Some(QueueId(number(value, name, u64::from(u16::MAX))? as u16)),
            "delay-ms" => forms.delay_ms = Some(number(value, name, limits::DELAY_MS_MAX)?),
            "delay-level" => forms.delay_level = Some(number(value, name, u64::from(u8::MAX))? as u8),
            "deliver-at" => {
                let at = utf8(value, name)?.parse();
                forms.deliver_at =
                    Some(at.map_err(|error: NotTime| Failure::invalid(title_case(name), error.to_string()))?);
            }
            "ttl-ms" => message.ttl_ms = Some(number(value, name, limits::TTL_MS_MAX)?).filter(|ttl| *ttl > 0),
            "priority" => message.priority = number(value, name, u64::from(limits::PRIORITY_MAX))? as u8,
            _ => {
                if let Some(property) = name.strip_prefix(PROPERTY_PREFIX) {
                    message.properties.push((property.to_owned(), utf8(value, name)?.to_owned()));
                }
            }
        }
    }
    message.delay = forms.one(header_of)?;
    message.validate().map_err(|Invalid { field, reason }| Failure::invalid(header_of(&field), reason))?;
    Ok(message)
}

fn number(value: &http::HeaderValue, name: &str, max: u64) -> Result<u64, Failure> {
    number_in(utf8(value, name)?, &(0..=max)).map_err(|detail| Failure::invalid(title_case(name), detail))
}

/// The header that carries a field.
pub(crate) fn header_of(field: &str) -> String {
    let (field, part) = field.split_once('/').unwrap_or((field, ""));
    match field {
        "tag" => "Pm-Tag".to_owned(),
        "keys" => "Pm-Key".to_owned(),
        "ordering_key" => "Pm-Ordering-Key".to_owned(),
        "properties" => format!("Pm-Prop-{part}"),
        "ttl_ms" => "Pm-Ttl-Ms".to_owned(),
        "queue" => "Pm-Queue".to_owned(),
        "delay_ms" => "Pm-Delay-Ms".to_owned(),
        "delay_level" => "Pm-Delay-Level".to_owned(),
        "deliver_at" => "Pm-Deliver-At".to_owned(),
        "priority" => "Pm-Priority".to_owned(),
        "content_type" => "Content-Type".to_owned(),
        other => other.to_owned(),
    }
}
