//! Settings of topics and groups.

use serde::{Deserialize, Serialize};

use super::BindingConfig;

/// Settings of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfig {
    /// `None` keeps the number, or takes the default for a new topic.
    pub queues: Option<u16>,
    /// How long messages are kept.
    pub retention_ms: u64,
    /// How many bytes are kept.
    pub retention_bytes: Option<u64>,
    /// Largest body.
    pub max_message_bytes: u32,
    /// How long a dedup key is remembered.
    pub dedup_window_ms: u64,
    /// What an acknowledged publish means by default.
    pub durability: Durability,
    /// Whether deliveries are traced.
    pub trace_all: bool,
}

/// What an acknowledged publish means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// Fsynced on a majority and applied on the leader.
    #[default]
    Quorum,
    /// Fsynced on the leader.
    Leader,
    /// Taken by the leader.
    None,
}

/// Settings of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupConfig {
    /// The topics and their filters.
    pub topics: Vec<GroupTopic>,
    /// Where a new topic of the group starts.
    pub start: Start,
    /// Default lease time.
    pub lease_ms: u64,
    /// Deliveries are 1 + this.
    pub max_retries: u16,
    /// Most leases at once.
    pub max_inflight: u32,
    /// How long dead letters are kept.
    pub dlq_retention_ms: u64,
    /// What keeps its order.
    pub ordering: Ordering,
}

/// What keeps its order in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ordering {
    /// Nothing.
    #[default]
    None,
    /// One message of an ordering key at a time; those without are free.
    Key,
    /// One run of a queue at a time.
    Queue,
}

/// A topic of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupTopic {
    /// Name of the topic.
    pub topic: String,
    /// The filter, as given and as resolved by the leader.
    pub filter: Option<Shorthand>,
    /// For [`Start::Time`]: first offset at or after it, per queue, found by the leader.
    pub start_offsets: Vec<u64>,
}

/// A filter written in a group; stored as the binding `{group}:{topic}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shorthand {
    /// `Some` if it was written as `{"tags": …}`: the expression as given.
    pub tags: Option<String>,
    /// What it stands for.
    pub binding: BindingConfig,
}

/// Where a group starts in a topic that is new to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// At the end.
    #[default]
    Latest,
    /// At the first message kept.
    Earliest,
    /// At the first message stored at or after this time, ms.
    Time(u64),
}
