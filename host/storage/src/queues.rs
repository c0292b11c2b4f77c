//! ConsumeQueues, the key index and the position index of a shard.
//!
//! While a segment takes entries, what is derived from it lies in memory ([`SegmentEntries`]). When it is sealed,
//! one immutable file of each kind is written beside the log and served from there: files count with segments and
//! not with queues, retention drops them with their segment, and a start walks the unsealed segments only.
//!
//! A sidecar is a pure function of its segment (and of what `apply` refused in it), so a damaged or missing one is
//! built again, byte for byte: walk the segment into [`SegmentEntries`] and hand it to [`QueueIndex::rebuild`].
//!
//! | module | holds |
//! |---|---|
//! | `memory` | the entries of one segment while they are in memory |
//! | `file` | the checksummed sidecar file: header, body, block checksums |
//! | `sidecar` | what the three files of a segment hold |
//! | `table` | the segments in order, and which offsets of a queue lie in which |
//! | `index` | [`QueueIndex`], over all of them |
//!
//! Layout of the files: `docs/reference/disk-format.md`.

mod file;
mod index;
mod memory;
mod sidecar;
mod table;

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{LogIndex, LogPosition, Ordinal, QueueId, QueueOffset, TopicId};

pub use index::QueueIndex;
pub use memory::SegmentEntries;

type Result<T> = std::result::Result<T, crate::Error>;

/// The position index holds the first frame of a segment, and then one frame for each of these bytes.
pub const POSITION_DISTANCE_BYTES: u64 = 64 << 10;

/// What one applied frame adds.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Base position of the segment that holds the frame.
    pub segment: LogPosition,
    /// Index of the entry.
    pub index: LogIndex,
    /// First byte of the frame.
    pub position: LogPosition,
    /// The messages that became visible, in log order; offsets are dense in each queue.
    pub entries: &'a [(TopicId, QueueId, QueueOffset, QueueEntry)],
    /// The keys of those messages.
    pub keys: &'a [(TopicId, u64, Ordinal)],
}

/// A sealed segment of the log, as the log knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its base position.
    pub base: LogPosition,
    /// Index of its first entry.
    pub first: LogIndex,
    /// Index of its last entry.
    pub last: LogIndex,
}

/// What a read of a queue found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueRead {
    /// Entries of consecutive offsets, the first one being the offset asked for. Empty at and past the end.
    Entries(Vec<QueueEntry>),
    /// The offset was dropped with its segment; the queue goes on from here.
    Below {
        /// The first offset that is still there.
        earliest: QueueOffset,
    },
}

/// The offsets of a queue that are here: from `earliest` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueRange {
    /// The first offset.
    pub earliest: QueueOffset,
    /// The offset that the next message gets.
    pub end: QueueOffset,
}

/// The hash of a key as the key index holds it.
#[must_use]
pub fn key_hash(key: &str) -> u64 {
    pointsman_model::hash::hash(key.as_bytes())
}

#[cfg(test)]
mod tests;
