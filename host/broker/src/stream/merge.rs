//! The queues of a topic in log order.

use std::collections::{HashMap, VecDeque};

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{LogIndex, QueueId, QueueOffset, TopicId, limits};

use crate::error::Error;
use crate::ports::{ReadError, Shard};

/// A message of one of the queues.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merged {
    pub(super) queue: QueueId,
    pub(super) offset: u64,
    pub(super) entry: QueueEntry,
}

/// What retention took from a queue: from, to.
pub(super) type Gap = (QueueId, u64, u64);

/// Reads queues side by side.
pub(super) struct Merge {
    topic: TopicId,
    queues: Vec<Reader>,
    /// Queues that the topic grows by are shown, too.
    grows: bool,
}

struct Reader {
    queue: QueueId,
    /// First offset not read.
    next: u64,
    ahead: VecDeque<Merged>,
    /// There was more than was read.
    more: bool,
    /// The applied index when it was read: nothing up to there is missing but what `more` says.
    read_at: LogIndex,
}

impl Merge {
    pub(super) fn new(topic: TopicId, from: Vec<(QueueId, u64)>, grows: bool) -> Self {
        let queues = from.into_iter().map(|(queue, next)| Reader::new(queue, next)).collect();
        Self { topic, queues, grows }
    }

    /// Reads ahead where nothing is left of a queue. `applied` was read before.
    pub(super) fn fill(&mut self, port: &dyn Shard, applied: LogIndex) -> Result<Vec<Gap>, Error> {
        let ends = self.ends(port);
        let mut gaps = Vec::new();
        for (reader, latest) in self.queues.iter_mut().zip(ends) {
            if !reader.ahead.is_empty() {
                continue;
            }
            reader.read_at = applied;
            reader.more = false;
            if reader.next < latest
                && let Some(gap) = reader.fill(port, self.topic)?
            {
                gaps.push(gap);
            }
        }
        Ok(gaps)
    }

    /// Where the queues end, those included that are new.
    fn ends(&mut self, port: &dyn Shard) -> Vec<u64> {
        let state = port.state();
        let queues = state.topics.get(&self.topic).map_or(0, pointsman_state_machine::state::Topic::queues);
        if self.grows {
            let known = self.queues.len() as u16;
            let new = (known..queues).map(|queue| Reader::new(QueueId(queue), 0));
            self.queues.extend(new);
        }
        self.queues.iter().map(|reader| state.ends(self.topic, reader.queue).latest).collect()
    }

    /// True if a queue holds something that is not shown.
    pub(super) fn has_more(&mut self, port: &dyn Shard) -> bool {
        let ends = self.ends(port);
        self.queues.iter().zip(ends).any(|(reader, latest)| !reader.ahead.is_empty() || reader.next < latest)
    }

    /// True if every queue is shown up to there.
    pub(super) fn has_reached(&self, tail: &HashMap<QueueId, u64>) -> bool {
        let shown = |reader: &Reader| reader.ahead.front().map_or(reader.next, |merged| merged.offset);
        self.queues.iter().all(|reader| tail.get(&reader.queue).is_none_or(|tail| shown(reader) >= *tail))
    }

    /// The next message in log order, if it is surely the next: no later than `applied`, and no queue may hold an
    /// earlier one that was not read.
    pub(super) fn pop(&mut self, applied: LogIndex) -> Option<Merged> {
        if self.queues.iter().any(|reader| reader.ahead.is_empty() && (reader.more || reader.read_at < applied)) {
            return None;
        }
        let first = |reader: &Reader| reader.ahead.front().map(|merged| merged.entry.log_place());
        let with_first = self.queues.iter_mut().filter_map(|reader| Some((first(reader)?, reader)));
        let (_, reader) = with_first.min_by_key(|(place, _)| *place)?;
        let merged = reader.ahead.front().copied().filter(|merged| merged.entry.index <= applied)?;
        reader.ahead.pop_front();
        Some(merged)
    }
}

impl Reader {
    fn new(queue: QueueId, next: u64) -> Self {
        Self { queue, next, ahead: VecDeque::new(), more: false, read_at: LogIndex(0) }
    }

    /// Reads on; answers what retention took.
    fn fill(&mut self, port: &dyn Shard, topic: TopicId) -> Result<Option<Gap>, Error> {
        let read = |next| port.queue(topic, self.queue, QueueOffset(next), limits::STREAM_AHEAD_ENTRIES);
        let (gap, entries) = match read(self.next) {
            Ok(entries) => (None, entries),
            Err(ReadError::Expired { earliest }) => {
                let gap = (self.queue, self.next, earliest.0);
                let entries = read(earliest.0)?;
                self.next = earliest.0;
                (Some(gap), entries)
            }
            Err(error) => return Err(error.into()),
        };
        self.more = entries.len() == limits::STREAM_AHEAD_ENTRIES;
        for entry in entries {
            self.ahead.push_back(Merged { queue: self.queue, offset: self.next, entry });
            self.next += 1;
        }
        Ok(gap)
    }
}
