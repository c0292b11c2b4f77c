//! Topics and their queues.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Decimal, number};

/// What an acknowledged publish stands for by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Fsynced on a majority.
    #[default]
    Quorum,
    /// Fsynced on the leader.
    Leader,
    /// Taken by the leader.
    None,
}

/// Whether deliveries are traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trace {
    /// No.
    #[default]
    Off,
    /// All of them.
    All,
}

/// Body of a topic's PUT. Absent fields take their defaults; `queues` keeps its number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicInput {
    /// Equal to the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of queues; only grows.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1024)]
    pub queues: Option<u16>,
    /// How long messages are kept.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<u64>,
    /// How many bytes are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<Decimal>,
    /// Largest body.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub max_message_bytes: Option<u32>,
    /// How long an idempotency key is remembered.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub dedup_window_ms: Option<u64>,
    /// What an acknowledged publish stands for by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// Whether deliveries are traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// Number of queues.
    pub queues: u16,
    /// How long messages are kept.
    pub retention_ms: u64,
    /// How many bytes are kept.
    pub retention_bytes: Option<Decimal>,
    /// Largest body.
    pub max_message_bytes: u32,
    /// How long an idempotency key is remembered.
    pub dedup_window_ms: u64,
    /// What an acknowledged publish stands for by default.
    pub durability: Durability,
    /// Whether deliveries are traced.
    pub trace: Trace,
}

/// One queue of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    /// Queue.
    pub queue: u16,
    /// First offset kept.
    pub earliest: Decimal,
    /// The offset the next message gets.
    pub latest: Decimal,
    /// Node that leads its shard; null while there is none.
    pub leader: Option<u32>,
}

/// What a topic holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopicStats {
    /// Topic.
    pub topic: String,
    /// Its queues.
    pub queues: u16,
    /// Messages kept.
    pub messages: Decimal,
    /// Messages ever made visible.
    pub published: Decimal,
    /// Groups that read it, by name.
    pub groups: Vec<String>,
}

/// Where a time lies in one queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueOffset {
    /// Queue.
    pub queue: u16,
    /// First offset stored at or after the time; `latest` if there is none.
    pub offset: Decimal,
}
