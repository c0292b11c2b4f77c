//! Publishing: messages in, receipts out.

use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::text::Text;
use crate::{Decimal, Problem, Time, number, object, text};

/// `application/vnd.pointsman.batch+json`.
pub const BATCH_TYPE: &str = "application/vnd.pointsman.batch+json";
/// `application/vnd.pointsman.frames`.
pub const FRAMES_TYPE: &str = "application/vnd.pointsman.frames";
/// `application/x-ndjson`.
pub const NDJSON_TYPE: &str = "application/x-ndjson";

/// Body of a batch.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch<'a> {
    /// 1 to 1,000 messages.
    #[serde(borrow, deserialize_with = "object::list")]
    pub messages: Vec<MessageInput<'a>>,
}

/// A message as a producer writes it. Exactly one of `data` and `data_base64`; none of them in the meta of a frame.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageInput<'a> {
    /// In a transaction: another topic of the tenant than the path's. Refused elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// A string without a JSON `content_type`: its bytes. Any other value, or a JSON `content_type`: the JSON text.
    #[serde(default, borrow, deserialize_with = "text::present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value)]
    pub data: Option<&'a RawValue>,
    /// The payload's bytes.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub data_base64: Option<Text<'a>>,
    /// Media type of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Keys for look-ups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
    /// Messages of one ordering key keep their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordering_key: Option<String>,
    /// An explicit queue.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub queue: Option<u16>,
    /// Free names and values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    pub properties: Option<Properties>,
    /// Deliver so much later.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Deliver later, by level.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub delay_level: Option<u8>,
    /// Deliver at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_at: Option<Time>,
    /// Expires so long after it was stored; 0 is never.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// 0 to 9.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Publishing it twice stores it once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// Names and values in the order given; a null value is an absent one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(pub Vec<(String, String)>);

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Properties;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Properties, A::Error> {
                let mut pairs: Vec<(String, String)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Option<String>>()? {
                    if pairs.iter().any(|(n, _)| *n == name) {
                        return Err(de::Error::custom("the key is there twice"));
                    }
                    pairs.extend(value.map(|value| (name, value)));
                }
                Ok(Properties(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// What an answer stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AckedDurability {
    /// Fsynced on a majority and applied on the leader.
    QuorumFsync,
    /// Fsynced on the leader.
    LeaderFsync,
    /// Taken by the leader.
    None,
}

/// Answer to one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// Id.
    pub id: Option<String>,
    /// Topic of the first target.
    pub topic: String,
    /// Its queue.
    pub queue: Option<u16>,
    /// Its offset.
    pub offset: Option<Decimal>,
    /// When it was stored.
    pub stored_at: Option<Time>,
    /// When it is delivered, if it waits; it has no queue and offset before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_at: Option<Time>,
    /// It had been stored before; null where the ack came too early to know.
    pub duplicate: Option<bool>,
    /// What this answer stands for.
    pub durability: AckedDurability,
    /// More than one target: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
}

/// Answer to "what became of the publish with this idempotency key".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishOutcome {
    /// How far it is.
    pub state: KeyState,
    /// If it is committed: the receipt, as a duplicate gets it.
    pub result: Option<Receipt>,
}

/// How far a publish is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// A message is stored under the key.
    Committed,
    /// One is under way.
    InFlight,
    /// Neither: final once the publish's own time is up.
    Absent,
}

/// One place a message went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Target {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue: u16,
    /// Offset.
    pub offset: Option<Decimal>,
}

/// Answer to many messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishAnswer {
    /// Messages taken.
    pub accepted: u32,
    /// Messages refused.
    pub rejected: u32,
    /// One a message, in order; with `Prefer: return=minimal` the refused ones only.
    pub results: Vec<PublishResult>,
}

/// What became of one message of many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishResult {
    /// Which message, from 0.
    pub index: u32,
    /// The status it would have got alone.
    pub status: u16,
    /// If it was taken.
    #[serde(flatten)]
    pub receipt: Option<Receipt>,
    /// If it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}
