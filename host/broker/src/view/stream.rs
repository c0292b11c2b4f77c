//! Streams: from where, how far.

use pointsman_model::{QueueId, Timestamp};

use super::FilterSpec;

/// Where a topic stream starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StreamFrom {
    /// After the last message.
    #[default]
    Latest,
    /// At the first message kept.
    Earliest,
    /// At the first message stored at or after a time.
    Time(Timestamp),
    /// After the message of a cursor.
    Cursor(String),
}

/// What a group stream gives, defaults filled in where `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStreamRequest {
    /// Who listens.
    pub client_id: Option<String>,
    /// Leases at once.
    pub max_inflight: Option<u32>,
    /// Lease time; the group's if absent.
    pub lease_ms: Option<u64>,
    /// Ends after so many leases.
    pub max_events: Option<u64>,
    /// Ends after so long.
    pub max_ms: Option<u64>,
    /// Ends where nothing is left to lease.
    pub until_tail: bool,
}

/// What a topic stream shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamRequest {
    /// Where it starts.
    pub from: StreamFrom,
    /// A tag expression, judged by the built-in `tags`.
    pub tags: Option<String>,
    /// A group's filter.
    pub filter: Option<FilterSpec>,
    /// Only these queues; all if empty.
    pub queues: Vec<QueueId>,
    /// Ends after so many messages.
    pub max_events: Option<u64>,
    /// Ends after so long.
    pub max_ms: Option<u64>,
    /// Ends where the topic ended when the stream was opened.
    pub until_tail: bool,
}
