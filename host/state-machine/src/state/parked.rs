//! Messages that are stored and not visible yet: what `apply` keeps of them until they are, and after.

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{LogIndex, LogPosition, Ordinal, QueueId, QueueOffset, TenantId, Term, Timestamp, TopicId};
use serde::{Deserialize, Serialize};

use super::DedupId;
use crate::command::{Park, Place};

/// A message that is stored and not visible yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The record that holds it.
    pub place: Place,
    /// Its topic.
    pub topic: u32,
    /// The queue it was placed in.
    pub queue: u16,
    /// What it waits for.
    pub park: Park,
    /// When it was stored, ms.
    pub parked_at: u64,
    /// Where its record starts in the log.
    pub position: u64,
    /// Bytes of its record.
    pub length: u32,
    /// Under which key it is stored once.
    pub dedup: Option<DedupId>,
}

impl Parked {
    /// When it becomes visible, if it waits for a time.
    #[must_use]
    pub fn deliver_at(&self) -> Option<Timestamp> {
        match self.park {
            Park::Until(due) => Some(Timestamp(due)),
            Park::Half(_) => None,
        }
    }

    /// Where to read its record: an entry of no queue.
    #[must_use]
    pub fn entry(&self) -> QueueEntry {
        QueueEntry {
            position: LogPosition(self.position),
            index: LogIndex(self.place.index),
            length: self.length,
            term: Term(self.place.term),
            ordinal: Ordinal(self.place.ordinal),
            priority: 0,
            flags: 0,
            tag_hash: 0,
            ordering_key_hash: 0,
            stamp: Timestamp(self.parked_at),
        }
    }
}

/// Where a message that was parked is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Term of the record it was parked in.
    pub parked_term: u64,
    /// The record that made it visible.
    pub place: Place,
    /// Its topic.
    pub topic: u32,
    /// Its queue.
    pub queue: u16,
    /// Its offset.
    pub offset: u64,
}

impl Moved {
    /// Topic, queue and offset as readers hold them.
    #[must_use]
    pub fn at(&self) -> (TopicId, QueueId, QueueOffset) {
        (TopicId(self.topic), QueueId(self.queue), QueueOffset(self.offset))
    }
}

/// A message that waits for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    /// When it is due.
    pub due: Timestamp,
    /// Index of the record that holds it.
    pub index: LogIndex,
    /// Its place in that entry.
    pub ordinal: Ordinal,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its topic.
    pub topic: TopicId,
}
