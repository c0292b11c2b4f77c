//! What is asked and answered about a group's progress and its dead letters.

use pointsman_model::{MessageId, QueueId, QueueOffset, Timestamp};

use super::{FilterSpec, StoredMessage};

/// A dead letter with its message.
#[derive(Clone, Debug)]
pub struct DeadLetterView {
    /// The message.
    pub message: StoredMessage,
    /// `attempts-exhausted`, or the words of who gave it up.
    pub reason: String,
    /// Its deliveries since it was last redriven.
    pub attempts: u16,
    /// When it was given up.
    pub dead_at: Timestamp,
    /// When it is forgotten.
    pub expires_at: Timestamp,
    /// When it was redriven, if it was.
    pub redriven_at: Option<Timestamp>,
    /// How its attempts ended, the newest last.
    pub history: Vec<AttemptView>,
}

/// How an attempt ended badly, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptView {
    /// Which, from 1; counted anew after a redrive.
    pub attempt: u16,
    /// When it was delivered; `None` if the leader that did is gone.
    pub delivered_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// `nack`, `expired` or `dead-letter`.
    pub outcome: &'static str,
    /// The consumer's words.
    pub reason: Option<String>,
    /// Who had it.
    pub client_id: Option<String>,
    /// `again`, `dead-letter` or `drop`.
    pub decision: &'static str,
    /// When again.
    pub delay_ms: Option<u64>,
    /// `consumer`, `default`, `policy`, `on-failure` or `ttl`.
    pub decided_by: &'static str,
    /// The retry policy that was asked.
    pub binding: Option<String>,
    /// The group's generation when it was.
    pub generation: Option<u32>,
}

/// Which dead letters leave, and where they go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redrive {
    /// These; all if absent.
    pub ids: Option<Vec<String>>,
    /// Of those, the ones that pass.
    pub filter: Option<FilterSpec>,
    /// Where they go.
    pub to: RedriveTo,
    /// Says what would happen.
    pub dry_run: bool,
}

/// Where a dead letter goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedriveTo {
    /// To its group, as the same message.
    #[default]
    Group,
    /// To its topic, as a new message.
    Topic,
}

/// What became of dead letters that were to leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Each by its id, in order.
    pub results: Vec<(String, RedriveStatus)>,
    /// All were asked for and one call takes no more: there are others.
    pub more: bool,
}

/// What became of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedriveStatus {
    /// It left.
    Redriven,
    /// It had left before.
    AlreadyRedriven,
    /// There is no such dead letter.
    NotFound,
    /// The group no longer has its topic.
    NotSubscribed,
}

/// Where a group stands in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue: QueueId,
    /// All below is settled or waits for a retry.
    pub committed: u64,
    /// First offset kept.
    pub earliest: u64,
    /// Offset of the next message.
    pub latest: u64,
}

/// Where a group is to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// At the first message kept.
    Earliest,
    /// After the last message.
    Latest,
    /// At the first message stored at or after a time.
    Time(Timestamp),
    /// At an offset; the nearest end where the queue does not have it.
    Offset(u64),
    /// At a message, in its queue.
    Message(MessageId),
}

/// A seek.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekRequest {
    /// Where to.
    pub to: SeekTo,
    /// In these topics; all of the group if absent.
    pub topics: Option<Vec<String>>,
    /// In these queues; all if absent.
    pub queues: Option<Vec<QueueId>>,
    /// What the caller demands of the group before.
    pub expect: super::Precondition,
    /// Says what would happen.
    pub dry_run: bool,
}

/// What a seek did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sought {
    /// The group's revision now.
    pub revision: u64,
    /// The queues that moved.
    pub moves: Vec<SoughtQueue>,
}

/// A queue that moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoughtQueue {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue: QueueId,
    /// Where the group stood.
    pub from: u64,
    /// Where it stands.
    pub to: u64,
}

/// What a group has before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// By queue.
    pub queues: Vec<QueueLag>,
    /// Nothing is leased until the group is resumed.
    pub paused: bool,
}

/// What a group has before it in one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLag {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue: QueueId,
    /// Not settled, and passing the filter.
    pub messages: u64,
    /// How long the oldest of them is stored; `None` if there is none.
    pub age_ms: Option<u64>,
    /// Leased right now.
    pub inflight: u64,
    /// Waiting for another attempt.
    pub retrying: u64,
    /// Every one was counted; else those past the bound count as passing.
    pub exact: bool,
}

/// A lease that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InflightView {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue: QueueId,
    /// Offset.
    pub offset: QueueOffset,
    /// Which delivery it is.
    pub attempt: u16,
    /// Who has it, if they said.
    pub client_id: Option<String>,
    /// When it was given.
    pub delivered_at: Timestamp,
    /// When it runs out.
    pub expires_at: Timestamp,
}

/// Somebody who leased lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// The `client_id`.
    pub client_id: String,
    /// The last lease call.
    pub last_seen_at: Timestamp,
    /// Leases that run.
    pub inflight: u64,
}

/// What a topic holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStats {
    /// Its queues.
    pub queues: u16,
    /// Messages kept.
    pub messages: u64,
    /// Messages ever made visible.
    pub published: u64,
    /// Groups that read it, by name.
    pub groups: Vec<String>,
}
