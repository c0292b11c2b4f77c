//! The head of a `trim` record: what retention takes. `DESIGN.md` §4.

use serde::{Deserialize, Serialize};

/// First offsets move, and segments may go. Of the shard, so the record has tenant 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trim {
    /// Queues whose first offset moves.
    pub queues: Vec<TrimStep>,
    /// Segments that start below this position may go, if nothing needs them.
    pub base: Option<u64>,
}

/// The first offset of a queue moves: compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrimStep {
    /// The topic.
    pub topic: u32,
    /// The queue.
    pub queue: u16,
    /// Its first offset as the leader saw it. A step of another one does nothing.
    pub from: u64,
    /// Its first offset from now on.
    pub to: u64,
    /// Bytes of the records between.
    pub bytes: u64,
}
