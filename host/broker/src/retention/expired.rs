//! What is over: messages older than their topic keeps them, and the oldest of a topic that holds too many bytes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{LogIndex, Ordinal, QueueId, QueueOffset, Timestamp, TopicId, limits};
use pointsman_state_machine::command::TrimStep;
use pointsman_state_machine::state::QueueEnds;

use crate::error::Error;
use crate::ports::{ReadError, Shard};

/// Entries read at once.
const READ_ENTRIES: usize = 1_024;

/// The store time of each queue's first message, with its offset: most looks end here.
#[derive(Default)]
pub(super) struct Known(HashMap<(TopicId, QueueId), (u64, Timestamp)>);

/// What goes.
#[derive(Default)]
pub(super) struct Expired {
    pub(super) steps: Vec<TrimStep>,
    /// How many messages that is.
    pub(super) messages: u64,
    /// There is more.
    pub(super) more: bool,
}

/// A topic's retention, and its queues with messages.
struct Topic {
    id: TopicId,
    retention_ms: u64,
    /// Bytes that are too many.
    over: u64,
    queues: Vec<(QueueId, QueueEnds)>,
}

/// A queue that is read from its first message on.
struct Front {
    queue: QueueId,
    ends: QueueEnds,
    /// The offset of the first of `read`.
    next: u64,
    bytes: u64,
    read: VecDeque<QueueEntry>,
}

impl Known {
    /// What is over now, as much as one look takes.
    pub(super) async fn expired(&mut self, port: &dyn Shard, retention_ms_max: u64) -> Result<Expired, Error> {
        let topics = topics(port, retention_ms_max);
        self.0.retain(|(topic, _), _| topics.binary_search_by_key(topic, |topic| topic.id).is_ok());
        let now = port.now();
        let mut expired = Expired::default();
        let mut room = limits::TRIM_ENTRIES_MAX;
        for topic in topics {
            if room == 0 || expired.steps.len() + topic.queues.len() > limits::TRIM_QUEUES_MAX {
                expired.more = true;
                break;
            }
            self.of_topic(port, now, &topic, &mut room, &mut expired)?;
            tokio::task::yield_now().await;
        }
        expired.more |= room == 0;
        Ok(expired)
    }

    fn of_topic(
        &mut self,
        port: &dyn Shard,
        now: Timestamp,
        topic: &Topic,
        room: &mut usize,
        expired: &mut Expired,
    ) -> Result<(), Error> {
        let mut fronts = Vec::new();
        for (queue, ends) in &topic.queues {
            let due = self.first_stored(port, topic.id, *queue, ends)?.plus_ms(topic.retention_ms) <= now;
            if due || topic.over > 0 {
                fronts.push(Front { queue: *queue, ends: *ends, next: ends.earliest, bytes: 0, read: VecDeque::new() });
            }
        }
        let mut freed = 0;
        for front in &mut fronts {
            while *room > 0
                && let Some(entry) = front.first(port, topic.id)?
                && entry.stamp.plus_ms(topic.retention_ms) <= now
            {
                freed += front.take(&entry);
                *room -= 1;
            }
        }
        take_oldest(port, topic, &mut fronts, freed, room)?;
        for front in fronts.iter().filter(|front| front.next > front.ends.earliest) {
            expired.messages += front.next - front.ends.earliest;
            expired.steps.push(TrimStep {
                topic: topic.id.0,
                queue: front.queue.0,
                from: front.ends.earliest,
                to: front.next,
                bytes: front.bytes,
            });
        }
        Ok(())
    }

    /// When the first message of a queue was stored.
    fn first_stored(
        &mut self,
        port: &dyn Shard,
        topic: TopicId,
        queue: QueueId,
        ends: &QueueEnds,
    ) -> Result<Timestamp, Error> {
        if let Some((earliest, stored)) = self.0.get(&(topic, queue))
            && *earliest == ends.earliest
        {
            return Ok(*stored);
        }
        let stored =
            read(port, topic, queue, ends.earliest, 1)?.first().map_or(Timestamp(u64::MAX), |entry| entry.stamp);
        self.0.insert((topic, queue), (ends.earliest, stored));
        Ok(stored)
    }
}

/// Topics with messages, by id.
fn topics(port: &dyn Shard, retention_ms_max: u64) -> Vec<Topic> {
    let state = port.state();
    let topics = state.topics.values().filter_map(|topic| {
        let places = (topic.id, QueueId(0))..=(topic.id, QueueId(u16::MAX));
        let queues: Vec<_> = state.queues.range(places).map(|((_, queue), ends)| (*queue, *ends)).collect();
        let bytes: u64 = queues.iter().map(|(_, ends)| ends.bytes).sum();
        let queues: Vec<_> = queues.into_iter().filter(|(_, ends)| ends.earliest < ends.latest).collect();
        let over = topic.config.retention_bytes.map_or(0, |max| bytes.saturating_sub(max));
        let retention_ms = topic.config.retention_ms.min(retention_ms_max);
        (!queues.is_empty()).then_some(Topic { id: topic.id, retention_ms, over, queues })
    });
    topics.collect()
}

impl Front {
    /// The first message that is left.
    fn first(&mut self, port: &dyn Shard, topic: TopicId) -> Result<Option<QueueEntry>, Error> {
        if self.read.is_empty() && self.next < self.ends.latest {
            let n = usize::try_from(self.ends.latest - self.next).unwrap_or(usize::MAX).min(READ_ENTRIES);
            self.read = read(port, topic, self.queue, self.next, n)?.into();
        }
        Ok(self.read.front().copied())
    }

    /// Takes it; returns its bytes.
    fn take(&mut self, entry: &QueueEntry) -> u64 {
        self.read.pop_front();
        self.next += 1;
        self.bytes += u64::from(entry.length);
        u64::from(entry.length)
    }
}

/// Takes the oldest messages of a topic, whichever queue they are in, until the rest fits.
fn take_oldest(
    port: &dyn Shard,
    topic: &Topic,
    fronts: &mut [Front],
    mut freed: u64,
    room: &mut usize,
) -> Result<(), Error> {
    if freed >= topic.over {
        return Ok(());
    }
    let mut oldest: BinaryHeap<Reverse<((LogIndex, Ordinal), usize)>> = BinaryHeap::new();
    for (at, front) in fronts.iter_mut().enumerate() {
        if let Some(entry) = front.first(port, topic.id)? {
            oldest.push(Reverse((entry.log_place(), at)));
        }
    }
    while freed < topic.over
        && *room > 0
        && let Some(Reverse((_, at))) = oldest.pop()
    {
        let Some(entry) = fronts[at].first(port, topic.id)? else { continue };
        freed += fronts[at].take(&entry);
        *room -= 1;
        if let Some(next) = fronts[at].first(port, topic.id)? {
            oldest.push(Reverse((next.log_place(), at)));
        }
    }
    Ok(())
}

/// Entries of a queue; none of what was trimmed meanwhile.
fn read(port: &dyn Shard, topic: TopicId, queue: QueueId, from: u64, max: usize) -> Result<Vec<QueueEntry>, Error> {
    match port.queue(topic, queue, QueueOffset(from), max) {
        Err(ReadError::Expired { .. }) => Ok(Vec::new()),
        read => Ok(read?),
    }
}
