//! What the use cases need from outside: a replicated shard, and judges.
//!
//! `consensus` implements [`Shard`]; the binary adapts `plugin-host` to [`Judges`] and `peer` to [`NodeCalls`]; tests fake
//! all of them.

mod judges;
mod nodes;
mod replica;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::MappedRwLockReadGuard;
use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::record::Record;
use pointsman_model::{
    GroupId, LogIndex, LogPosition, NodeId, Ordinal, QueueId, QueueOffset, ShardId, TenantId, Term, Timestamp, TopicId,
};
use pointsman_state_machine::command::DedupBy;
use pointsman_state_machine::outcome::Blocker;
use pointsman_state_machine::state::{
    AuditRow, DeadLetter, DueTransaction, Held, Moved, Owed, Parked, Part, Remembered, Retry, Timer, Transaction,
    TransactionState,
};
use pointsman_state_machine::{Outcome, State};
use tokio::sync::{oneshot, watch};

pub use judges::{Builtin, Inspection, Judge, JudgeSpec, JudgeStats, Judges, LogLine, Outside};
pub use nodes::{NodeCallError, NodeCalls};
pub use replica::{BarrierError, Replica, Role, ShardStatus, TransferError};

/// A future behind a port.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One Raft group with its log and its state.
pub trait Shard: Send + Sync + 'static {
    /// Which shard.
    fn id(&self) -> ShardId;

    /// The term this node leads in, with everything applied that was committed before it; `None` elsewhere.
    fn leadership(&self) -> Option<Term>;

    /// The node that leads, as far as this one has heard; it may be this one before [`Self::leadership`] says so.
    fn leader(&self) -> Option<NodeId>;

    /// Waits until everything that was committed anywhere when the call came is applied here (ReadIndex).
    fn barrier(&self, within: Duration) -> BoxFuture<'_, Result<(), BarrierError>>;

    /// Gives leadership to another node and waits until it leads. Does nothing where that one leads already.
    fn transfer(&self, to: NodeId, within: Duration) -> BoxFuture<'_, Result<(), TransferError>>;

    /// What this node knows of the shard's replicas.
    fn status(&self) -> ShardStatus;

    /// Hands an entry to the log. Entries are proposed in the order of these calls; the call itself never waits.
    /// The reply comes after fsync on a majority and `apply`, or says that nothing was proposed.
    fn propose(&self, proposal: Proposal, reply: oneshot::Sender<Result<Committed, ProposeError>>);

    /// The applied state, locked for reading: short use, never across an await.
    fn state(&self) -> MappedRwLockReadGuard<'_, State>;

    /// The stamp that an entry proposed now would get: what leases and due times are compared with.
    fn now(&self) -> Timestamp;

    /// Entries of a queue from `from` upward, at most `max`; empty at the tail.
    ///
    /// # Errors
    /// [`ReadError::Expired`] below the first offset kept.
    fn queue(
        &self,
        topic: TopicId,
        queue: QueueId,
        from: QueueOffset,
        max: usize,
    ) -> Result<Vec<QueueEntry>, ReadError>;

    /// The entry of a message that a group waits for, also below the queue's first offset; `None` if it is gone.
    ///
    /// # Errors
    /// Damage or a failed read.
    fn owed_entry(&self, topic: TopicId, queue: QueueId, offset: QueueOffset) -> Result<Option<QueueEntry>, ReadError>;

    /// What needs the segments that start below a position; `None` if they may go.
    ///
    /// # Errors
    /// A failed read.
    fn blocker(&self, base: LogPosition) -> Result<Option<Blocker>, ReadError>;

    /// Records below a position that are owed, at most `max`, the oldest first.
    ///
    /// # Errors
    /// A failed read.
    fn owed(&self, below: LogPosition, max: usize) -> Result<Vec<Owed>, ReadError>;

    /// First offset of a queue whose message lies after this place of the log; the end if there is none. It may be one
    /// that is not kept any more, as long as anything here knows of it.
    ///
    /// # Errors
    /// Damage or a failed read.
    fn offset_after(
        &self,
        topic: TopicId,
        queue: QueueId,
        place: (LogIndex, Ordinal),
    ) -> Result<QueueOffset, ReadError>;

    /// First offset of a queue stored at or after a time; the end if there is none.
    ///
    /// # Errors
    /// Damage or a failed read.
    fn offset_at(&self, topic: TopicId, queue: QueueId, time: Timestamp) -> Result<QueueOffset, ReadError>;

    /// The verified record of a queue entry.
    ///
    /// # Errors
    /// Damage or a failed read.
    fn record(&self, entry: &QueueEntry) -> Result<Record, ReadError>;

    /// The record of a queue entry whose body need not be verified: the filter wants its head alone. The body may be empty.
    ///
    /// # Errors
    /// Damage or a failed read.
    fn record_head(&self, entry: &QueueEntry) -> Result<Record, ReadError> {
        self.record(entry)
    }

    /// The visible message with this place, with its offset; `None` if there is none, or if it was refused. A message
    /// that was parked is found by the place of the record that made it visible.
    ///
    /// # Errors
    /// Damage or a failed read.
    fn find(&self, term: Term, index: LogIndex, ordinal: Ordinal) -> Result<Option<Found>, ReadError>;

    /// Places of messages of a topic with this key hash, newest first. Equal hashes are the caller's to tell apart.
    ///
    /// # Errors
    /// Damage or a failed read.
    fn by_key(&self, topic: TopicId, key_hash: u64, max: usize) -> Result<Vec<(LogIndex, Ordinal)>, ReadError>;

    /// Messages of a group whose next attempt is due, the earliest first.
    ///
    /// # Errors
    /// A failed read.
    fn due(&self, group: GroupId, now: Timestamp, max: usize) -> Result<Vec<Retry>, ReadError>;

    /// When the next message of a group's retry set is due after a time.
    ///
    /// # Errors
    /// A failed read.
    fn next_due(&self, group: GroupId, after: Timestamp) -> Result<Option<Timestamp>, ReadError>;

    /// The retry row of one message.
    ///
    /// # Errors
    /// A failed read.
    fn retry(
        &self,
        group: GroupId,
        topic: TopicId,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<Option<Retry>, ReadError>;

    /// Messages of a group's retry set in one queue, by offset.
    ///
    /// # Errors
    /// A failed read.
    fn retries(&self, group: GroupId, topic: TopicId, queue: QueueId, max: usize) -> Result<Vec<Retry>, ReadError>;

    /// The dead letter of a group whose message has this place, redriven or not.
    ///
    /// # Errors
    /// A failed read.
    fn dead_letter(&self, group: GroupId, index: LogIndex, ordinal: Ordinal) -> Result<Option<DeadLetter>, ReadError>;

    /// Dead letters of a group behind `after`, in the order of the log.
    ///
    /// # Errors
    /// A failed read.
    fn dead_letters(
        &self,
        group: GroupId,
        after: Option<(LogIndex, Ordinal)>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ReadError>;

    /// Index and ordinal of dead letters whose retention is over.
    ///
    /// # Errors
    /// A failed read.
    fn expired_dead_letters(&self, group: GroupId, now: Timestamp, max: usize) -> Result<Vec<(u64, u16)>, ReadError>;

    /// The message that a record holds, while it waits to become visible. Its bytes are read as [`Parked::entry`].
    ///
    /// # Errors
    /// A failed read.
    fn parked(&self, tenant: TenantId, index: LogIndex, ordinal: Ordinal) -> Result<Option<Parked>, ReadError>;

    /// Where a message that was parked in this record is visible.
    ///
    /// # Errors
    /// A failed read.
    fn moved(&self, tenant: TenantId, index: LogIndex, ordinal: Ordinal) -> Result<Option<Moved>, ReadError>;

    /// Parked messages of all tenants whose time has come, the earliest first.
    ///
    /// # Errors
    /// A failed read.
    fn timers_due(&self, now: Timestamp, max: usize) -> Result<Vec<Timer>, ReadError>;

    /// When the next parked message of any tenant is due.
    ///
    /// # Errors
    /// A failed read.
    fn next_timer(&self) -> Result<Option<Timestamp>, ReadError>;

    /// Parked messages of a tenant that wait for a time, behind `after`, the earliest first.
    ///
    /// # Errors
    /// A failed read.
    fn timers(
        &self,
        tenant: TenantId,
        after: Option<(Timestamp, LogIndex, Ordinal)>,
        max: usize,
    ) -> Result<Vec<Timer>, ReadError>;

    /// The transaction that starts with a record.
    ///
    /// # Errors
    /// A failed read.
    fn transaction(
        &self,
        tenant: TenantId,
        index: LogIndex,
        ordinal: Ordinal,
    ) -> Result<Option<Transaction>, ReadError>;

    /// The transaction that a producer gave this name, at this topic.
    ///
    /// # Errors
    /// A failed read.
    fn transaction_by_name(
        &self,
        tenant: TenantId,
        topic: TopicId,
        name: &str,
    ) -> Result<Option<Transaction>, ReadError>;

    /// The messages of a transaction, in order.
    ///
    /// # Errors
    /// A failed read.
    fn transaction_parts(&self, tenant: TenantId, transaction: &Transaction) -> Result<Vec<Part>, ReadError>;

    /// Transactions of all tenants about which something is due, at most `max` of each tenant.
    ///
    /// # Errors
    /// A failed read.
    fn transactions_due(&self, now: Timestamp, max: usize) -> Result<Vec<DueTransaction>, ReadError>;

    /// Prepared transactions that need a topic, at most `max`.
    ///
    /// # Errors
    /// A failed read.
    fn transactions_of_topic(
        &self,
        tenant: TenantId,
        topic: TopicId,
        max: usize,
    ) -> Result<Vec<Transaction>, ReadError>;

    /// Transactions of a tenant behind `after`, at most `max`: those in a state by the time they came into it, or all by
    /// the time they were prepared.
    ///
    /// # Errors
    /// A failed read.
    fn transactions(
        &self,
        tenant: TenantId,
        state: Option<TransactionState>,
        after: Option<(Timestamp, LogIndex, Ordinal)>,
        max: usize,
    ) -> Result<Vec<Transaction>, ReadError>;
    /// The held row of one message of a group that keeps an order.
    ///
    /// # Errors
    /// A failed read.
    fn held(
        &self,
        group: GroupId,
        topic: TopicId,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<Option<Held>, ReadError>;

    /// The held rows of a group behind a place, in order of topic, queue and offset.
    ///
    /// # Errors
    /// A failed read.
    fn held_after(
        &self,
        group: GroupId,
        after: Option<(TopicId, QueueId, QueueOffset)>,
        max: usize,
    ) -> Result<Vec<Held>, ReadError>;

    /// The message that a topic remembers under a key now, as of the last applied entry.
    ///
    /// # Errors
    /// A failed read.
    fn remembered(
        &self,
        tenant: TenantId,
        topic: TopicId,
        by: DedupBy,
        key: &str,
    ) -> Result<Option<Remembered>, ReadError>;

    /// The bytes of an uploaded component.
    ///
    /// # Errors
    /// A failed read.
    fn plugin_bytes(&self, tenant: TenantId, digest: &[u8; 32]) -> Result<Option<Bytes>, ReadError>;

    /// Changes of the configuration, the newest first, from the one after `after` on; at most `max`.
    ///
    /// # Errors
    /// A failed read.
    fn audit(
        &self,
        after: Option<(LogIndex, Ordinal)>,
        max: usize,
    ) -> Result<Vec<(LogIndex, Ordinal, AuditRow)>, ReadError>;

    /// Follows the index of the last applied entry.
    fn applied(&self) -> watch::Receiver<LogIndex>;
}

/// An entry to propose.
pub struct Proposal {
    /// The term in which everything in it was decided; refused in another.
    pub term: Term,
    /// How many records.
    pub count: u32,
    /// The records, one after another (`model::record`).
    pub records: Bytes,
    /// `model::record::records_crc` of them.
    pub records_crc: u32,
    /// Told earlier than the reply, for weaker acks.
    pub early: Option<Arc<dyn EarlyAck>>,
}

/// Hears what the log does with an entry before it is committed.
pub trait EarlyAck: Send + Sync + 'static {
    /// The entry has its place in the log, in memory.
    fn appended(&self, term: Term, index: LogIndex);
    /// This node has fsynced the entry, or failed to.
    fn fsynced(&self, ok: bool);
}

/// A committed and applied entry.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its term.
    pub term: Term,
    /// Its index.
    pub index: LogIndex,
    /// Its stamp.
    pub stamp: Timestamp,
    /// One outcome a record.
    pub outcomes: Vec<Outcome>,
}

/// Why an entry has no outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProposeError {
    /// Surely not proposed: this node does not lead, or no longer in that term.
    NotLeader,
    /// Surely not proposed: too much is under way.
    Overloaded,
    /// Surely not proposed: no room for the next segment.
    DiskFull,
    /// A write or fsync failed earlier; the shard takes no more here.
    StorageFailed(String),
    /// Proposed; nobody knows what became of it.
    OutcomeUnknown,
}

/// Why something stored could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Trimmed or purged.
    #[error("below {earliest}, the first offset kept")]
    Expired {
        /// First offset kept.
        earliest: QueueOffset,
    },
    /// Its segment is gone: retention took it since the entry was read.
    #[error("the record is no longer kept")]
    Gone,
    /// Damaged, or the disk failed.
    #[error("{0}")]
    Storage(String),
}

/// A message found by its id.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its record.
    pub record: Record,
    /// Its offset.
    pub offset: QueueOffset,
    /// Its store time.
    pub stored_at: Timestamp,
}
