//! What the use cases take and answer: plain values, without JSON.

mod cluster;
mod configuration;
mod delivery;
mod explained;
mod lease;
mod stream;
mod transaction;

use bytes::Bytes;
use pointsman_model::message::NewMessage;
use pointsman_model::record::Record;
use pointsman_model::{MessageId, QueueId, QueueOffset, Timestamp};
use pointsman_state_machine::command::{Durability, PublishHead};

pub use cluster::{ReplicaOf, ReplicaView, ShardView};
pub use configuration::{BindingSettings, GroupSettings, PluginVersionView, Precondition, QueueView, ScheduleSettings};
pub use lease::{Lease, LeaseRequest, SettleOp, SettleRequest, SettleResult, SettleStatus};
pub use stream::{GroupStreamRequest, StreamFrom, StreamRequest};
pub use transaction::{
    HalfMessage, HalfPart, Prepare, PreparedMessage, PreparedTransaction, ProducerCheck, TransactionStats,
    TransactionView, Verdict,
};

pub use delivery::{
    AttemptView, DeadLetterView, GroupOffset, InflightView, Lag, MemberView, QueueLag, Redrive, RedriveStatus,
    RedriveTo, Redriven, SeekRequest, SeekTo, Sought, SoughtQueue, TopicStats,
};
pub use explained::{Deduplicated, Explained, FilterSaid, JudgedBy, Routed, Standing, TraceEvent};

/// A written object and what the write was.
#[derive(Clone, Debug, PartialEq)]
pub struct Written<T> {
    /// The object as it is now.
    pub object: T,
    /// It is new (201), else it was replaced (200).
    pub created: bool,
}

/// A token just made.
#[derive(Clone, PartialEq)]
pub struct NewToken {
    /// What its bearer presents. Shown once.
    pub bearer: String,
    /// The token.
    pub token: pointsman_state_machine::state::Token,
}

/// What a tenant uses, beside what it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What it may use.
    pub quota: pointsman_state_machine::command::Quota,
    /// Messages stored since it was created.
    pub messages: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Messages published in the last second.
    pub messages_per_s: u64,
    /// Bytes of payload published in the last second.
    pub bytes_per_s: u64,
    /// Bytes that its stored messages take.
    pub storage_bytes: u64,
    /// Topics.
    pub topics: u64,
    /// Groups.
    pub groups: u64,
    /// Uploaded plugin versions.
    pub plugins: u64,
    /// Open streams on this node.
    pub connections: u64,
    /// Fuel that its plugins burnt in the last second on this node.
    pub plugin_fuel_per_s: u64,
    /// Memory that its bindings may take.
    pub plugin_memory_bytes: u64,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The items, in order of their names.
    pub items: Vec<T>,
    /// Where the next page starts, opaque and signed; `None` on the last.
    pub next_cursor: Option<String>,
}

/// What a list call asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Items at most; 0 is the default.
    pub limit: u32,
    /// Where to go on.
    pub cursor: Option<String>,
}

/// One publish call.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The messages; their shape is checked by the caller ([`NewMessage::validate`]).
    pub messages: Vec<NewMessage>,
    /// The ack asked for; the topic's durability if absent.
    pub ack: Option<Durability>,
    /// All or nothing.
    pub atomic: bool,
}

/// A message taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishReceipt {
    /// Its id; `None` where the ack came too early to know.
    pub id: Option<MessageId>,
    /// Topic of the first target.
    pub topic: String,
    /// Its queue, if known.
    pub queue: Option<QueueId>,
    /// Its offset, if known.
    pub offset: Option<QueueOffset>,
    /// Its store time, if known.
    pub stored_at: Option<Timestamp>,
    /// When it will be delivered, if it waits.
    pub deliver_at: Option<Timestamp>,
    /// What the answer stands for.
    pub durability: Durability,
    /// A message was stored under the same key before, and this is its receipt; `None` where the ack came too early to
    /// know.
    pub duplicate: Option<bool>,
    /// More than one target: all of them, the first included.
    pub targets: Vec<PublishTarget>,
}

/// What became of a publish with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishState {
    /// A message is stored under the key, and this is its receipt.
    Committed(PublishReceipt),
    /// A message with the key is under way.
    InFlight,
    /// Neither.
    Absent,
}

/// One place a message went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishTarget {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue: QueueId,
    /// Offset, if known.
    pub offset: Option<QueueOffset>,
}

/// A stored message.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Its id.
    pub id: MessageId,
    /// Name of its topic.
    pub topic: pointsman_model::Name,
    /// Its offset.
    pub offset: QueueOffset,
    /// Its store time.
    pub stored_at: Timestamp,
    /// Queue, priority, born time, head and body.
    pub record: Record,
}

impl StoredMessage {
    /// The head, borrowed from the record.
    ///
    /// # Errors
    /// The record's head is not what `publish` writes.
    pub fn head(&self) -> Result<PublishHead<'_>, crate::Error> {
        head(&self.record)
    }

    /// When it expires, if it has a TTL.
    #[must_use]
    pub fn expires_at(&self, head: &PublishHead<'_>) -> Option<Timestamp> {
        (head.ttl_ms > 0).then(|| self.stored_at.plus_ms(head.ttl_ms))
    }
}

/// A message that waits for its time.
#[derive(Clone, Debug)]
pub struct ScheduledMessage {
    /// Its id, which it keeps.
    pub id: MessageId,
    /// Name of its topic.
    pub topic: pointsman_model::Name,
    /// When it is delivered.
    pub deliver_at: Timestamp,
    /// Priority, born time, head and body.
    pub record: Record,
}

impl ScheduledMessage {
    /// The head, borrowed from the record.
    ///
    /// # Errors
    /// The record's head is not what `publish` writes.
    pub fn head(&self) -> Result<PublishHead<'_>, crate::Error> {
        head(&self.record)
    }
}

fn head(record: &Record) -> Result<PublishHead<'_>, crate::Error> {
    postcard::from_bytes(&record.head).map_err(|e| crate::Error::Internal(format!("message head: {e}")))
}

/// A message found by its id.
#[derive(Clone, Debug)]
pub enum MessageById {
    /// It is visible.
    Stored(StoredMessage),
    /// It waits for its time.
    Scheduled(ScheduledMessage),
}

impl MessageById {
    /// Name of its topic.
    pub(crate) fn topic(&self) -> &str {
        match self {
            Self::Stored(stored) => stored.topic.as_str(),
            Self::Scheduled(scheduled) => scheduled.topic.as_str(),
        }
    }
}

/// A filter as a group or a stream names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterSpec {
    /// `{"tags": …}`.
    Tags(String),
    /// `{"plugin": …}`.
    Plugin {
        /// Name, `builtin/…` for a built-in.
        plugin: String,
        /// The newest at PUT time if absent.
        version: Option<String>,
        /// JSON text.
        config: Bytes,
    },
}

/// What a topic stream says.
#[derive(Clone, Debug)]
pub enum StreamEvent {
    /// First event.
    Open {
        /// Topics shown.
        topics: Vec<String>,
        /// It goes on from a cursor.
        resumed: bool,
    },
    /// A message, and the cursor after it.
    Message {
        /// The message.
        message: Box<StoredMessage>,
        /// What `Last-Event-ID` takes to go on after it.
        cursor: String,
    },
    /// The tail is reached; said once.
    CaughtUp,
    /// Offsets `from..to` of a queue are gone.
    Gap {
        /// Topic.
        topic: String,
        /// Queue.
        queue: QueueId,
        /// First offset that is gone.
        from: u64,
        /// First offset that is there.
        to: u64,
        /// `retention`, `purged` or `slow`.
        cause: &'static str,
    },
    /// A passing failure; the stream ends and may be resumed.
    Failed(crate::Error),
    /// The node is shutting down; the stream ends.
    Drain,
}
