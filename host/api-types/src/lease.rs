//! Leases and settlements.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::message::Message;
use crate::{Time, number, object};

/// Body of a lease call; every field is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseInput {
    /// Messages at most.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000, default = 32)]
    pub max_messages: Option<u32>,
    /// Payload bytes at most; the first message is always given.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 16777216, default = 4194304)]
    pub max_bytes: Option<u32>,
    /// How long to wait for a first message.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 60000, default = 0)]
    pub wait_ms: Option<u64>,
    /// Lease time; the group's if absent.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 43200000)]
    pub lease_ms: Option<u64>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub client_id: Option<String>,
}

/// Answer of a lease call.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Leases {
    /// The leases; may be empty.
    pub leases: Vec<Lease>,
}

/// A lease.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// What settles it.
    pub receipt: String,
    /// When it runs out.
    pub expires_at: Time,
    /// Which delivery this is, from 1.
    pub attempt: u16,
    /// The message.
    pub message: Message,
}

/// Body of a settle call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleInput {
    /// At most 1,000.
    #[serde(deserialize_with = "object::list")]
    #[schema(max_items = 1000)]
    pub items: Vec<SettleItem>,
}

/// A consumer's word about one lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleItem {
    /// As given out.
    pub receipt: String,
    /// The word.
    pub op: SettleOp,
    /// Nack, release: when again.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Extend: for how long from now on.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Nack, dead-letter: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1024)]
    pub reason: Option<String>,
}

/// What a consumer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SettleOp {
    /// Done.
    Ack,
    /// Not done; counts.
    Nack,
    /// More time.
    Extend,
    /// Given back; does not count.
    Release,
    /// To the dead-letter queue at once.
    DeadLetter,
}

/// Answer of a settle call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Settled {
    /// One an item, in order.
    pub results: Vec<SettleResult>,
}

/// What became of one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettleResult {
    /// As given.
    pub receipt: String,
    /// What became of it.
    pub status: SettleStatus,
    /// After an extension: when it runs out now.
    pub expires_at: Option<Time>,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SettleStatus {
    /// Ended now.
    Settled,
    /// Runs on.
    Extended,
    /// Had ended before; no failure.
    AlreadySettled,
    /// Had run out.
    LeaseExpired,
    /// No receipt of this group.
    Invalid,
}

impl SettleStatus {
    /// True if the item did not do what it asked for.
    #[must_use]
    pub const fn failed(self) -> bool {
        matches!(self, Self::LeaseExpired | Self::Invalid)
    }
}
