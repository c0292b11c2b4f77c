//! What a group does with its messages: settle, expire, skip, seek, and its dead letters.

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{LogIndex, LogPosition, Ordinal, Term, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Expect, Judged, Place};

/// Head of a `settle` record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settle {
    /// The group.
    pub group: u32,
    /// The group's revision as the leader knew it: leases of queues sought since then are over.
    pub revision: u64,
    /// Outcomes come back in this order.
    pub items: Vec<SettleItem>,
}

/// One lease that ends by its consumer's word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettleItem {
    /// What was leased.
    pub lease: LeaseRef,
    /// The consumer's word.
    pub op: SettleOp,
}

/// A delivery: which message, and the how-manieth time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseRef {
    /// The topic.
    pub topic: u32,
    /// The queue.
    pub queue: u16,
    /// The offset.
    pub offset: u64,
    /// Settling is compare-and-set on this.
    pub attempt: u16,
}

/// A consumer's word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SettleOp {
    /// Done.
    Ack,
    /// Not done. What comes of it was decided before the proposal.
    Nack(AttemptEnd),
    /// Ordered groups: given back, uncounted; again after so many ms.
    Release(u64),
    /// Ordered groups: runs until this stamp.
    Extend(u64),
}

/// How an attempt ended badly, and what comes of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// The retry decision. Past the group's last attempt `apply` makes a dead letter of [`Decision::Again`].
    pub decision: Decision,
    /// Who took it. A policy's decision is fenced by the group's generation in the header.
    pub by: DecidedBy,
    /// The message's record: what a dead letter refers to.
    pub record: RecordRef,
    /// When the attempt was delivered, ms; 0 if the leader that delivered it is gone.
    pub delivered_at: u64,
    /// The consumer's words.
    pub reason: Option<String>,
    /// Who had it.
    pub client_id: Option<String>,
}

/// The record of a visible message, and where its bytes lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRef {
    /// Its place in the log.
    pub place: Place,
    /// Where it starts.
    pub position: u64,
    /// Its bytes.
    pub length: u32,
    /// When the message became visible, ms.
    pub stored_at: u64,
    /// Its priority.
    pub priority: u8,
    /// The flags of its queue entry.
    pub flags: u8,
    /// The hash of its tag.
    pub tag_hash: u64,
    /// The hash of its ordering key.
    pub ordering_key_hash: u64,
}

impl RecordRef {
    /// The record of a queue entry.
    #[must_use]
    pub fn of(entry: &QueueEntry) -> Self {
        let place = Place { term: entry.term.0, index: entry.index.0, ordinal: entry.ordinal.0 };
        Self {
            place,
            position: entry.position.0,
            length: entry.length,
            stored_at: entry.stamp.0,
            priority: entry.priority,
            flags: entry.flags,
            tag_hash: entry.tag_hash,
            ordering_key_hash: entry.ordering_key_hash,
        }
    }

    /// The queue entry it was made of.
    #[must_use]
    pub fn entry(&self) -> QueueEntry {
        QueueEntry {
            position: LogPosition(self.position),
            index: LogIndex(self.place.index),
            length: self.length,
            term: Term(self.place.term),
            ordinal: Ordinal(self.place.ordinal),
            priority: self.priority,
            flags: self.flags,
            tag_hash: self.tag_hash,
            ordering_key_hash: self.ordering_key_hash,
            stamp: Timestamp(self.stored_at),
        }
    }
}

/// What comes of a message whose attempt ended badly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// Another attempt, so long after the entry's stamp.
    Again {
        /// The delay.
        delay_ms: u64,
    },
    /// The group's dead-letter queue.
    DeadLetter {
        /// The policy's words; the consumer's are the attempt's.
        reason: Option<String>,
    },
    /// Settled as if it were done.
    Drop,
}

impl Default for Decision {
    fn default() -> Self {
        Self::Again { delay_ms: 0 }
    }
}

/// Who took a retry decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DecidedBy {
    /// The consumer: a delay of its own, or the word `dead-letter`.
    #[default]
    Consumer,
    /// The default table: the group has no retry policy.
    Table,
    /// The group's retry policy.
    Policy(Judged),
    /// The binding's `on_failure`: the policy failed.
    OnFailure(Judged),
    /// Nobody: the message's time to live was over.
    TimeToLive,
}

/// Head of a `dead-letter-change` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterChange {
    /// The group.
    pub group: u32,
    /// Index and ordinal of the messages' records. Outcomes come back in this order.
    pub letters: Vec<(u64, u16)>,
    /// What is done with each.
    pub op: DeadLetterOp,
}

/// What is done with a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadLetterOp {
    /// The group gets it again, at once.
    Redrive,
    /// It is forgotten.
    Delete,
    /// It is forgotten if its retention is over.
    Expire,
}

/// Head of a `seek` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seek {
    /// The group.
    pub group: u32,
    /// What the caller demands of the group before.
    pub expect: Expect,
    /// Where each queue goes on. An offset outside the queue is its nearest end.
    pub moves: Vec<SeekMove>,
}

/// One queue of a seek.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeekMove {
    /// The topic.
    pub topic: u32,
    /// The queue.
    pub queue: u16,
    /// The offset that comes next.
    pub to: u64,
}

/// Head of an `expire` record: leases that ran out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expire {
    /// The group.
    pub group: u32,
    /// As in [`Settle::revision`].
    pub revision: u64,
    /// The leases.
    pub items: Vec<(LeaseRef, AttemptEnd)>,
}

/// Head of a `grant` record: messages that a leader leases in a group of ordering `key` or `queue`. Fenced by the group's
/// generation in the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The group.
    pub group: u32,
    /// When the leases run out, ms.
    pub until: u64,
    /// Who gets them.
    pub client_id: Option<String>,
    /// What is leased and in which session. Outcomes come back in this order.
    pub items: Vec<(LeaseRef, u64)>,
}

/// Head of a `skip` record: offsets of the header's topic and queue that the group's filter refused, or that expired by
/// TTL. Fenced by the group's generation in the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Skip {
    /// The group.
    pub group: u32,
    /// Half-open ranges of offsets, ascending.
    pub ranges: Vec<(u64, u64)>,
}
