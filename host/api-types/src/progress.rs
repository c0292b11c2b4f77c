//! Where a group stands: offsets, seek, lag, leases, members, pause.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Decimal, Time, number, object};

/// Where a group stands in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupOffset {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue: u16,
    /// All below is settled or waits for a retry.
    pub committed: Decimal,
    /// First offset kept.
    pub earliest: Decimal,
    /// The offset the next message gets.
    pub latest: Decimal,
}

/// Where a group is to go on: exactly one field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeekTo {
    /// At the first message kept; `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest: Option<bool>,
    /// After the last message; `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<bool>,
    /// At the first message stored at or after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// At an offset; the nearest end where a queue does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<Decimal>,
    /// At a message, in its queue alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
}

/// Body of a seek.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeekInput {
    /// Where to.
    #[serde(deserialize_with = "object::required")]
    pub to: SeekTo,
    /// In these topics; all of the group if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<Vec<String>>,
    /// In these queues; all if absent.
    #[serde(default, deserialize_with = "number::optional_list", skip_serializing_if = "Option::is_none")]
    pub queues: Option<Vec<u16>>,
}

/// A queue that a seek moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SoughtQueue {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue: u16,
    /// Where the group stood.
    pub from: Decimal,
    /// Where it goes on.
    pub to: Decimal,
}

/// Answer of a seek.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sought {
    /// The queues.
    pub items: Vec<SoughtQueue>,
    /// Nothing was changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What a group has before it in one queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueLag {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue: u16,
    /// Not settled, and passing the filter; leased and retrying ones included.
    pub messages: Decimal,
    /// How long the oldest of them is stored; 0 if there is none.
    pub age_ms: u64,
    /// Leased.
    pub inflight: u64,
    /// Waiting for another attempt.
    pub retrying: u64,
}

/// What a group has before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lag {
    /// By queue.
    pub items: Vec<QueueLag>,
    /// Messages of all queues.
    pub total: Decimal,
    /// Every message was judged; else those past the bound of one call count as passing.
    pub exact: bool,
    /// Nothing is leased until the group is resumed.
    pub paused: bool,
}

/// A lease that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Inflight {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue: u16,
    /// Offset.
    pub offset: Decimal,
    /// Which delivery it is.
    pub attempt: u16,
    /// Who has it.
    pub client_id: Option<String>,
    /// When it was given.
    pub delivered_at: Time,
    /// When it runs out.
    pub expires_at: Time,
}

/// Somebody who leased lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// What they call themselves.
    pub client_id: String,
    /// Their last lease call.
    pub last_seen_at: Time,
    /// Leases that run.
    pub inflight: u64,
}

/// Answer of pause and resume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Paused {
    /// The group.
    pub group: String,
    /// Nothing is leased.
    pub paused: bool,
}
