//! Trim: what retention takes from the queues at once, and which segments of the log may go.
//!
//! The leader says how far; `apply` decides, because a seek, a nack or a new dead letter may have come between. A queue's
//! first offset moves by compare-and-set. Segments are *released* only if no queue starts in them, no message of theirs
//! waits for another attempt, and nothing in them is owed. Files go later, on each replica by itself; the rows that
//! describe them go here, a bounded number at a time, and nobody walks a released segment.

use std::collections::BTreeSet;

use pointsman_model::{LogPosition, QueueId, QueueOffset, TenantId, TopicId, limits};

use super::changes::Changes;
use super::entry::{Entry, Stop};
use super::{Machine, Store};
use crate::command::{Trim, TrimStep};
use crate::error::Error;
use crate::outcome::{Blocker, Outcome, Refusal, Trimmed};
use crate::state::State;
use crate::table::{self, KeyReader};

impl Machine {
    /// What needs the segments that start below a position; `None` if they may go.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn blocker(&self, store: &dyn Store, base: LogPosition) -> Result<Option<Blocker>, Error> {
        Look { state: &self.state, changes: &Changes::default(), store }.blocker(base)
    }
}

/// The shard, as an entry has left it so far.
struct Look<'a> {
    state: &'a State,
    changes: &'a Changes,
    store: &'a dyn Store,
}

impl Look<'_> {
    /// What is owed comes last: it may be carried elsewhere, the rest is waited for.
    fn blocker(&self, base: LogPosition) -> Result<Option<Blocker>, Error> {
        if !self.state.segments.contains_key(&base) {
            return Ok(Some(Blocker::NotThere));
        }
        for (topic, queue) in self.queues_below(base)? {
            if self.state.topics.contains_key(&topic)
                && self.state.ends(topic, queue).earliest < self.first_kept(topic, queue, base)?.0
            {
                return Ok(Some(Blocker::Queue(topic, queue)));
            }
        }
        if let Some(blocker) = self.retrying(base)? {
            return Ok(Some(blocker));
        }
        let owed = self.changes.keys(self.store, (&table::owed_from(LogPosition(0)), &table::owed_from(base)), 1)?;
        if let Some(key) = owed.first() {
            let mut numbers = KeyReader::new(key);
            let _shard = numbers.u32()?;
            return Ok(Some(Blocker::Owed(LogPosition(numbers.u64()?))));
        }
        Ok(None)
    }

    /// Queues with a message in a segment that starts below.
    fn queues_below(&self, base: LogPosition) -> Result<BTreeSet<(TopicId, QueueId)>, Error> {
        let mut found = BTreeSet::new();
        for segment in self.state.segments.range(..base).map(|(segment, _)| *segment) {
            let prefix = table::segment_queue_prefix(segment);
            for key in self.changes.keys(self.store, (&prefix, &table::after(&prefix)), usize::MAX)? {
                let mut numbers = KeyReader::new(&key);
                let (_shard, _segment) = (numbers.u32()?, numbers.u64()?);
                found.insert((TopicId(numbers.u32()?), QueueId(numbers.u16()?)));
            }
        }
        Ok(found)
    }

    /// The first offset of a queue that lies in the segments from there on.
    fn first_kept(&self, topic: TopicId, queue: QueueId, base: LogPosition) -> Result<QueueOffset, Error> {
        let from = table::queue_segment_key(topic, queue, base);
        let to = table::after(&table::queue_segment_prefix(topic, queue));
        match self.changes.first(self.store, &from, &to, 1)?.first() {
            Some((key, value)) => Ok(QueueOffset(table::decode(key, value)?)),
            None => Ok(QueueOffset(self.state.ends(topic, queue).latest)),
        }
    }

    /// A group with a message below that waits for another attempt. Its row names an offset, also where the record has
    /// been carried: such a message is short-lived, because only a redrive makes one.
    fn retrying(&self, base: LogPosition) -> Result<Option<Blocker>, Error> {
        for id in self.state.retrying.keys() {
            let Some(group) = self.state.groups.get(id) else { continue };
            for topic in &group.topic_ids {
                let queues = self.state.topics.get(topic).map_or(0, crate::state::Topic::queues);
                for queue in (0..queues).map(QueueId) {
                    let kept = self.first_kept(*topic, queue, base)?.0;
                    let retry = |offset| table::retry_key(group.tenant, *id, topic.0, queue.0, offset);
                    let held = |offset| table::held_key(group.tenant, *id, topic.0, queue.0, offset);
                    for (from, to) in [(retry(0), retry(kept)), (held(0), held(kept))] {
                        if !self.changes.keys(self.store, (&from, &to), 1)?.is_empty() {
                            return Ok(Some(Blocker::Retrying(*id)));
                        }
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Entry<'_> {
    /// Notes that a segment was begun, with its first entry.
    pub(super) fn open_segment(&mut self) {
        let base = self.meta.segment_base;
        if self.state.segments.last_key_value().is_none_or(|(last, _)| *last < base) {
            self.state.segments.insert(base, self.meta.index);
            self.changes.put(table::segment_key(base), table::encode(&self.meta.index.0));
        }
    }

    pub(super) fn trim(&mut self, trim: &Trim) -> Result<Outcome, Stop> {
        if trim.queues.len() > limits::TRIM_QUEUES_MAX {
            return Err(Refusal::Malformed(format!("{} queues to trim", trim.queues.len())).into());
        }
        let mut queues = 0;
        for step in &trim.queues {
            queues += u32::from(self.trim_queue(step));
        }
        let blocked = match trim.base {
            Some(base) => self.release(LogPosition(base))?,
            None => None,
        };
        self.sweep()?;
        self.state.released.at = self.now().0;
        self.changes.put(table::released_key(), table::encode(&self.state.released));
        Ok(Outcome::Trimmed(Trimmed { queues, blocked, left: self.state.released.left }))
    }

    /// Moves the first offset of a queue, if it is where the leader saw it.
    fn trim_queue(&mut self, step: &TrimStep) -> bool {
        let place = (TopicId(step.topic), QueueId(step.queue));
        let Some(tenant) = self.state.topics.get(&place.0).map(|topic| topic.tenant) else { return false };
        let Some(ends) = self.state.queues.get_mut(&place) else { return false };
        if ends.earliest != step.from || step.to <= step.from || step.to > ends.latest {
            return false;
        }
        let bytes = if step.to == ends.latest { ends.bytes } else { step.bytes.min(ends.bytes) };
        ends.earliest = step.to;
        ends.bytes -= bytes;
        // A publish later in this entry writes the row once more.
        self.changes.put(table::queue_key(tenant, place.0, place.1), table::encode(ends));
        self.give_back_stored(tenant, bytes);
        true
    }

    /// Gives up the segments that start below a position; answers why not.
    fn release(&mut self, base: LogPosition) -> Result<Option<Blocker>, Error> {
        if base <= self.state.released.base() {
            return Ok(None);
        }
        if self.state.segments.range(..base).count() > limits::TRIM_SEGMENTS_MAX {
            return Ok(Some(Blocker::NotThere));
        }
        let look = Look { state: self.state, changes: &self.changes, store: self.store };
        if let Some(blocker) = look.blocker(base)? {
            return Ok(Some(blocker));
        }
        let kept = self.state.segments.split_off(&base);
        let first = kept.first_key_value().map(|(_, index)| *index);
        self.state.segments = kept;
        self.state.released.base = base.0;
        self.state.released.upto = first.and_then(|first| first.0.checked_sub(1));
        self.state.released.left = true;
        Ok(None)
    }

    /// Removes rows of segments that were given up.
    fn sweep(&mut self) -> Result<(), Error> {
        if !self.state.released.left {
            return Ok(());
        }
        let mut room = limits::TRIM_SWEEP_ROWS;
        for (from, to) in table::rows_of_segments_below(self.state.released.base()) {
            let keys = self.changes.keys(self.store, (&from, &to), room)?;
            room -= keys.len();
            for key in keys {
                self.sweep_row(key)?;
            }
            if room == 0 {
                return Ok(());
            }
        }
        self.state.released.left = false;
        Ok(())
    }

    fn sweep_row(&mut self, key: Vec<u8>) -> Result<(), Error> {
        let mut numbers = KeyReader::new(&key);
        let (_shard, segment) = (numbers.u32()?, LogPosition(numbers.u64()?));
        match key.first() {
            Some(&table::SEGMENT_QUEUE) => {
                let (topic, queue) = (TopicId(numbers.u32()?), QueueId(numbers.u16()?));
                self.changes.delete(table::queue_segment_key(topic, queue, segment));
            }
            Some(&table::MOVED_OF_SEGMENT) => {
                let tenant = TenantId(numbers.u32()?);
                self.changes.delete(table::moved_key(tenant, numbers.u64()?, numbers.u16()?));
            }
            _ => {}
        }
        self.changes.delete(key);
        Ok(())
    }

    /// True if retention has taken the message of an offset.
    pub(super) fn is_trimmed(&self, topic: TopicId, queue: QueueId, offset: u64) -> bool {
        offset < self.state.ends(topic, queue).earliest
    }

    /// True if a record lies in a segment that may be gone.
    pub(super) fn is_released(&self, position: u64) -> bool {
        position < self.state.released.base
    }
}
