//! What a record came to, and why one is refused.

use pointsman_model::{
    Generation, GroupId, LogIndex, LogPosition, Ordinal, QueueId, QueueOffset, TenantId, Term, Timestamp, TopicId,
};

use crate::command::Place;
use crate::state::Remembered;
use crate::state::TransactionState;

/// What one record came to. In the order of the records of an entry.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// A message is visible.
    Published(Published),
    /// A message is stored under the same key; this one is not.
    Duplicate(Duplicate),
    /// A message is stored and not visible yet.
    Parked(ParkedAt),
    /// Each item of a settle or expire record, in order.
    Settled(Vec<Settlement>),
    /// Each item of a dead-letter-change record, in order.
    DeadLetters(Vec<LetterFate>),
    /// A range is skipped.
    Skipped,
    /// Each item of a grant record, in order: whether it is leased now.
    Granted(Vec<bool>),
    /// A configuration object is written.
    Configured {
        /// It is new.
        created: bool,
        /// Nothing differed, so nothing changed.
        unchanged: bool,
        /// Its revision now.
        revision: u64,
        /// Its id.
        id: u32,
    },
    /// A configuration object is gone.
    Deleted,
    /// A piece of a plugin is stored.
    ChunkStored,
    /// A parked message is due at another time; at none if it is cancelled.
    TimerChanged {
        /// When it is due now.
        deliver_at: Option<Timestamp>,
    },
    /// A transaction has its verdict.
    Resolved {
        /// Its first record, whose place is its id.
        place: Place,
        /// What became of it.
        state: TransactionState,
        /// It had this verdict before, so nothing happened.
        repeated: bool,
    },
    /// A transaction is asked about.
    Checked,
    /// A schedule is due next at this time.
    ScheduleRan {
        /// When; `None` is never.
        next: Option<Timestamp>,
    },
    /// First offsets moved, or segments may go.
    Trimmed(Trimmed),
    /// So many rows refer to a copy of their message now.
    Carried(u32),
    /// Nothing happened, for this reason.
    Refused(Refusal),
}

/// What a trim came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// Queues whose first offset moved.
    pub queues: u32,
    /// Why no segment goes, if one should have.
    pub blocked: Option<Blocker>,
    /// Rows of segments that are gone are left.
    pub left: bool,
}

/// What needs a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// It is none, or the one that is written.
    NotThere,
    /// A queue starts in it or before it.
    Queue(TopicId, QueueId),
    /// A message of a queue in it waits for another attempt of a group.
    Retrying(GroupId),
    /// It holds a message that is owed: parked, or a dead letter.
    Owed(LogPosition),
}

/// A visible message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Term of its entry.
    pub term: Term,
    /// Index of its entry.
    pub index: LogIndex,
    /// Its place in the entry.
    pub ordinal: Ordinal,
    /// Its topic.
    pub topic: TopicId,
    /// Its queue.
    pub queue: QueueId,
    /// Its offset.
    pub offset: QueueOffset,
    /// Its store time.
    pub stored_at: Timestamp,
}

/// The message that another is a duplicate of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// Its record; the first one, if a selector named several targets.
    pub place: Place,
    /// Its topic.
    pub topic: TopicId,
    /// Its queue and offset, once it is visible.
    pub at: Option<(QueueId, QueueOffset)>,
    /// Its store time.
    pub stored_at: Timestamp,
}

impl Duplicate {
    /// The message that a row remembers.
    #[must_use]
    pub fn of(row: &Remembered) -> Self {
        Self { place: row.place, topic: row.topic(), at: row.at(), stored_at: row.stored_at() }
    }
}

/// A message that is stored and not visible yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkedAt {
    /// Its record, whose place is its id.
    pub place: Place,
    /// Its topic.
    pub topic: TopicId,
    /// The queue it was placed in.
    pub queue: QueueId,
    /// When it was stored; its store time as readers see it is that of its delivery.
    pub stored_at: Timestamp,
    /// When it is delivered, if it waits for a time.
    pub deliver_at: Option<Timestamp>,
}

/// What became of one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It ended now.
    Settled,
    /// It had ended by its consumer's word.
    AlreadySettled,
    /// It had run out.
    Expired,
    /// Topic, queue or offset are not the group's.
    Unknown,
    /// The group's retry set is full; nothing changed.
    RetrySetFull,
    /// It ended now, and its message is in the group's dead-letter queue.
    DeadLettered,
}

/// What became of one dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterFate {
    /// The group gets it again.
    Redriven,
    /// It was redriven before; nothing changed.
    AlreadyRedriven,
    /// It is forgotten.
    Forgotten,
    /// There is none, or it is not to be forgotten yet.
    NotFound,
    /// The group no longer has its topic.
    NotSubscribed,
    /// The group's retry set is full; nothing changed.
    RetrySetFull,
}

/// Why nothing happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Decided under another generation; decide again. Holds the one that is.
    Stale(Generation),
    /// The record makes no sense to this release. Holds what.
    Malformed(String),
    /// No such tenant.
    TenantNotFound,
    /// No such topic. Holds the name, or nothing where the record has an id.
    TopicNotFound(String),
    /// No such group.
    GroupNotFound,
    /// No such binding.
    BindingNotFound,
    /// No such plugin version. Holds `name@version`.
    PluginNotFound(String),
    /// The topic has no such queue.
    QueueNotFound(QueueId),
    /// Queues only grow. Holds how many there are.
    FewerQueues(u16),
    /// Another object holds the name or the place. Holds its name.
    AlreadyExists(String),
    /// Others use it. Holds their names.
    InUse(Vec<String>),
    /// Revision or presence is not what the caller demands.
    PreconditionFailed,
    /// The plugin is of another kind than the slot.
    WrongSlot,
    /// Pieces of the plugin are missing.
    PluginIncomplete,
    /// Another record of the same unit was refused.
    UnitRefused,
    /// The producer's key stands for another payload.
    IdempotencyMismatch,
    /// The topic remembers as many dedup keys as it may.
    TooManyKeys,
    /// What the message comes from waits for it no more: visible, cancelled, or due later.
    SourceClosed,
    /// The message waits for no time: it is visible already.
    AlreadyDelivered,
    /// No message waits for a time there, nor did one.
    NotScheduled,
    /// No such schedule.
    ScheduleNotFound,
    /// The tenant has as many schedules as it may.
    TooManySchedules,
    /// No such transaction.
    TransactionNotFound,
    /// The transaction has another verdict.
    TransactionResolved(TransactionState),
    /// It was prepared before under that name.
    TransactionExists {
        /// Its first record, whose place is its id.
        place: Place,
        /// What became of it.
        state: TransactionState,
    },
    /// The name stands for something else.
    NameTaken,
    /// It is not the time for this check, or for the end.
    NotDue,
    /// An id is taken by another tenant. Holds the id.
    TenantIdTaken(TenantId),
    /// No such token of the tenant.
    TokenNotFound,
    /// The tenant has as many as it may have. Holds of what, and how many.
    QuotaExceeded(&'static str, u64),
}
