//! A message as readers see it.
//!
//! The server writes this shape by hand, straight from the stored record; this type is for clients, for the schema,
//! and for the test that compares both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{Decimal, Time};

/// A stored message. Exactly one of `data` and `data_base64`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// Id.
    pub id: String,
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue: Option<u16>,
    /// Offset.
    pub offset: Option<Decimal>,
    /// Tag.
    pub tag: Option<String>,
    /// Keys for look-ups.
    pub keys: Vec<String>,
    /// Messages of one ordering key keep their order.
    pub ordering_key: Option<String>,
    /// Free names and values.
    pub properties: BTreeMap<String, String>,
    /// 0 to 9.
    pub priority: u8,
    /// Media type of the payload.
    pub content_type: Option<String>,
    /// The payload: a string for `text/*`, the value for JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value)]
    pub data: Option<Box<RawValue>>,
    /// The payload's bytes, for all else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// When the producer's call arrived.
    pub born_at: Time,
    /// When it became visible.
    pub stored_at: Option<Time>,
    /// When it is delivered, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_at: Option<Time>,
    /// When it expires.
    pub expires_at: Option<Time>,
    /// The producer's `traceparent`.
    pub trace: Option<String>,
}
