//! What is derived from one segment, while it is in memory.

use std::collections::HashMap;

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{LogIndex, LogPosition, Ordinal, QueueId, QueueOffset, TopicId};

use super::{Frame, POSITION_DISTANCE_BYTES};

/// One queue of one shard.
pub(super) type QueueKey = (TopicId, QueueId);

/// The entries of one queue in one segment.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) queue: QueueKey,
    pub(super) first: QueueOffset,
    pub(super) entries: Vec<QueueEntry>,
}

impl Run {
    pub(super) fn end(&self) -> QueueOffset {
        QueueOffset(self.first.0 + self.entries.len() as u64)
    }
}

/// A key of a message. Ordered as the key sidecar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyPlace {
    pub(super) hash: u64,
    pub(super) topic: TopicId,
    pub(super) index: LogIndex,
    pub(super) ordinal: Ordinal,
}

/// Ends a chain of keys with equal hash.
const NO_KEY: u32 = u32::MAX;

/// The queue entries, keys and frame positions of one segment.
///
/// The index fills one for each segment that is not sealed; a caller that rebuilds a sidecar fills one by walking the
/// segment.
#[derive(Debug)]
pub struct SegmentEntries {
    base: LogPosition,
    /// First and last index; none before the first frame.
    indexes: Option<(LogIndex, LogIndex)>,
    by_queue: HashMap<QueueKey, u32>,
    runs: Vec<Run>,
    /// Keys in log order, each with the place of the one before it with the same hash.
    keys: Vec<(KeyPlace, u32)>,
    newest_key: HashMap<u64, u32>,
    positions: Vec<(LogIndex, LogPosition)>,
}

impl SegmentEntries {
    /// Nothing yet of the segment at `base`.
    #[must_use]
    pub fn new(base: LogPosition) -> Self {
        Self {
            base,
            indexes: None,
            by_queue: HashMap::new(),
            runs: Vec::new(),
            keys: Vec::new(),
            newest_key: HashMap::new(),
            positions: Vec::new(),
        }
    }

    /// Adds the next frame of the segment.
    ///
    /// # Panics
    /// If the frame is of another segment or not after the last one, or an offset is not the next of its queue.
    pub fn append(&mut self, frame: &Frame<'_>) {
        self.append_with(frame, |_, _, _| {});
    }

    /// As [`SegmentEntries::append`]; calls `opened(queue, first offset, run)` for each queue the segment did not have.
    pub(super) fn append_with(&mut self, frame: &Frame<'_>, mut opened: impl FnMut(QueueKey, QueueOffset, u32)) {
        assert!(frame.segment == self.base && frame.position >= self.base, "a frame of another segment");
        self.append_position(frame);
        for &(topic, queue, offset, entry) in frame.entries {
            assert!(entry.index == frame.index, "a queue entry of another log entry");
            let key = (topic, queue);
            let run = *self.by_queue.entry(key).or_insert_with(|| {
                let run = self.runs.len() as u32;
                self.runs.push(Run { queue: key, first: offset, entries: Vec::new() });
                opened(key, offset, run);
                run
            });
            let run = &mut self.runs[run as usize];
            assert!(offset == run.end(), "offset {offset} of topic {topic} queue {queue} after {}", run.end());
            grow(&mut run.entries);
            run.entries.push(entry);
        }
        for &(topic, hash, ordinal) in frame.keys {
            let before = self.newest_key.insert(hash, self.keys.len() as u32).unwrap_or(NO_KEY);
            grow(&mut self.keys);
            self.keys.push((KeyPlace { hash, topic, index: frame.index, ordinal }, before));
        }
    }

    fn append_position(&mut self, frame: &Frame<'_>) {
        let first = match self.indexes {
            None => frame.index,
            Some((first, last)) => {
                assert!(frame.index > last, "entry {} after {last}", frame.index);
                first
            }
        };
        self.indexes = Some((first, frame.index));
        let far = |&(_, last): &(_, LogPosition)| frame.position.0 >= last.0 + POSITION_DISTANCE_BYTES;
        if self.positions.last().is_none_or(far) {
            self.positions.push((frame.index, frame.position));
        }
    }

    pub(super) fn base(&self) -> LogPosition {
        self.base
    }

    pub(super) fn indexes(&self) -> Option<(LogIndex, LogIndex)> {
        self.indexes
    }

    pub(super) fn run(&self, run: u32) -> &Run {
        &self.runs[run as usize]
    }

    /// Runs in the order of the sidecar.
    pub(super) fn sorted_runs(&self) -> Vec<&Run> {
        let mut runs: Vec<&Run> = self.runs.iter().collect();
        runs.sort_unstable_by_key(|run| run.queue);
        runs
    }

    /// Keys in the order of the sidecar, each once.
    pub(super) fn sorted_keys(&self) -> Vec<KeyPlace> {
        let mut keys: Vec<KeyPlace> = self.keys.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub(super) fn positions(&self) -> &[(LogIndex, LogPosition)] {
        &self.positions
    }

    /// Places of a key, newest first, until `found` holds `limit`.
    pub(super) fn by_key(&self, topic: TopicId, hash: u64, limit: usize, found: &mut Vec<(LogIndex, Ordinal)>) {
        let mut at = self.newest_key.get(&hash).copied().unwrap_or(NO_KEY);
        while at != NO_KEY && found.len() < limit {
            let (key, before) = self.keys[at as usize];
            let place = (key.index, key.ordinal);
            if key.topic == topic && found.last() != Some(&place) {
                found.push(place);
            }
            at = before;
        }
    }
}

/// Grows by a quarter instead of doubling: these vectors reach tens of megabytes and die with their segment.
fn grow<T>(vec: &mut Vec<T>) {
    if vec.len() == vec.capacity() {
        vec.reserve_exact((vec.len() / 4).max(16));
    }
}
