//! Stream: a topic in log order, from any place, resumable.
//!
//! The queues of the topic are merged by their place in the log (`merge`). Only entries up to an applied index that
//! was read before the queues are shown, so no queue can be ahead of another. A filter judges in batches; what is
//! judged waits in the stream, so that dropping [`TopicStream::next`] loses nothing.

pub(crate) mod group;
mod merge;
mod slot;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pointsman_model::judge::Verdict;
use pointsman_model::queue_entry::{FLAG_TTL, QueueEntry};
use pointsman_model::record::Record;
use pointsman_model::{QueueId, QueueOffset, Timestamp, hash, limits};
use pointsman_state_machine::command::PublishHead;
use pointsman_state_machine::state::Topic;
use tokio::time::Instant;

use crate::broker::Home;
use crate::columns::{Columns, Facts, wants_body, wants_record};
use crate::cursor::{StreamCursor, topic_scope};
use crate::filter::Filter;
use crate::lease::head;
use crate::lookup::id_of;
use crate::ports::Judge;
use crate::view::{FilterSpec, StoredMessage, StreamEvent, StreamFrom, StreamRequest};
use crate::watch::Signal;
use crate::{Action, Broker, Call, Error, Principal};
use merge::{Merge, Merged};
pub use slot::StreamSlot;

/// How often a stream at the tail looks for itself.
const POLL: Duration = Duration::from_millis(limits::STREAM_POLL_MS);

/// An open topic stream.
pub struct TopicStream {
    broker: Broker,
    /// Whose stream it is: it ends with its token.
    principal: Principal,
    home: Home,
    topic: Topic,
    scope: u64,
    merge: Merge,
    /// All of these must pass a message.
    judges: Vec<Arc<dyn Judge>>,
    signal: Arc<Signal>,
    /// Taken from the queues, not judged yet.
    unjudged: VecDeque<Merged>,
    /// Judged, and to be shown.
    events: VecDeque<Pending>,
    /// Where the topic ended at opening, if the stream ends there.
    tail: Option<HashMap<QueueId, u64>>,
    events_left: Option<u64>,
    until: Option<Instant>,
    caught_up: bool,
    state: Phase,
    _slot: StreamSlot,
}

/// What is said next.
enum Pending {
    Event(StreamEvent),
    Message(Merged),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open { resumed: bool },
    Running,
    Ended,
}

impl Broker {
    /// Opens a stream of a topic.
    ///
    /// # Errors
    /// A permanent refusal: unknown topic, foreign cursor, bad filter, too many streams.
    pub async fn open_stream(
        &self,
        call: &Call,
        tenant: &str,
        topic: &str,
        request: StreamRequest,
    ) -> Result<TopicStream, Error> {
        self.authorize(call, tenant, Action::Consume(topic))?;
        let (home, topic) = self.topic_here(tenant, topic).await?;
        // Where the log can be asked, the stream begins with all that was committed when it was opened.
        let fresh = home.shard.catch_up().await;
        if let Some(queue) = request.queues.iter().find(|queue| queue.0 >= topic.queues()) {
            return Err(Error::invalid("queues", format!("the topic has no queue {queue}")));
        }
        let slot = StreamSlot::take(&self.inner.streams, home.tenant, self.connections_max(&home))?;
        let scope = topic_scope(home.tenant, topic.id);
        let resumed = matches!(request.from, StreamFrom::Cursor(_));
        let from = self.starts(&home, &topic, scope, &request, fresh)?;
        let judges = self.stream_judges(&home, &request).await?;
        let signal = Arc::<Signal>::default();
        home.shard.parts.watch.subscribe(&signal, &[topic.id]);
        let tail = request.until_tail.then(|| ends(&home, &topic, &from));
        Ok(TopicStream {
            broker: self.clone(),
            principal: call.principal.clone(),
            scope,
            merge: Merge::new(topic.id, from, request.queues.is_empty()),
            home,
            topic,
            judges,
            signal,
            unjudged: VecDeque::new(),
            events: VecDeque::new(),
            tail,
            events_left: request.max_events,
            until: request.max_ms.map(|ms| Instant::now() + Duration::from_millis(ms)),
            caught_up: false,
            state: Phase::Open { resumed },
            _slot: slot,
        })
    }

    /// The first offset of each queue that is shown.
    fn starts(
        &self,
        home: &Home,
        topic: &Topic,
        scope: u64,
        request: &StreamRequest,
        fresh: Result<(), Error>,
    ) -> Result<Vec<(QueueId, u64)>, Error> {
        let port = &home.shard.port;
        let shown = |queue: &QueueId| request.queues.is_empty() || request.queues.contains(queue);
        let queues = (0..topic.queues()).map(QueueId).filter(shown);
        let cursor = match &request.from {
            StreamFrom::Cursor(text) => Some(StreamCursor::open(text, scope, &self.inner.keys)?),
            _ => None,
        };
        if cursor.is_some_and(|cursor| cursor.shard != port.id()) {
            return Err(Error::InvalidCursor { detail: "a cursor of another shard".into() });
        }
        if cursor.is_some_and(|cursor| cursor.place.0 > *port.applied().borrow()) {
            // What lies before it and is not here yet would be shown again.
            fresh?;
        }
        let (latest, released) = {
            let state = port.state();
            let ends = queues.clone().map(|queue| state.ends(topic.id, queue)).collect::<Vec<_>>();
            (ends, state.released.upto())
        };
        queues
            .zip(latest)
            .map(|(queue, ends)| {
                let from = match (&request.from, cursor) {
                    (_, Some(cursor)) => {
                        let next = port.offset_after(topic.id, queue, cursor.place)?.0;
                        // Of segments that are gone nobody knows more than that there were messages: a gap of one or more.
                        let unknown = next == ends.earliest && Some(cursor.place.0) <= released;
                        if unknown { next.saturating_sub(1) } else { next }
                    }
                    (StreamFrom::Time(time), _) => port.offset_at(topic.id, queue, *time)?.0,
                    (StreamFrom::Earliest, _) => ends.earliest,
                    (StreamFrom::Latest | StreamFrom::Cursor(_), _) => ends.latest,
                };
                Ok((queue, from))
            })
            .collect()
    }

    async fn stream_judges(&self, home: &Home, request: &StreamRequest) -> Result<Vec<Arc<dyn Judge>>, Error> {
        let tags = request.tags.clone().map(FilterSpec::Tags);
        let mut judges = Vec::new();
        for (name, spec) in [("tags", tags.as_ref()), ("filter", request.filter.as_ref())] {
            if let Some(spec) = spec {
                let filter: Filter = self.try_filter(home, name, name, spec).await?;
                let judge = self.inner.bench.bind_stream(home.tenant, &filter.trial(name)).await;
                judges.push(judge.map_err(Error::PluginUnavailable)?);
            }
        }
        Ok(judges)
    }
}

/// Where the shown queues end now.
fn ends(home: &Home, topic: &Topic, shown: &[(QueueId, u64)]) -> HashMap<QueueId, u64> {
    let state = home.shard.port.state();
    shown.iter().map(|(queue, _)| (*queue, state.ends(topic.id, *queue).latest)).collect()
}

impl TopicStream {
    /// The next event; `None` when the stream has ended. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        if let Phase::Open { resumed } = self.state {
            self.state = Phase::Running;
            return Some(StreamEvent::Open { topics: vec![self.topic.name.to_string()], resumed });
        }
        while self.state == Phase::Running {
            if self.events_left == Some(0) {
                self.state = Phase::Ended;
                break;
            }
            if self.broker.inner.stop.is_cancelled() {
                return self.end(StreamEvent::Drain);
            }
            if let Err(error) = self.broker.check_principal(&self.principal) {
                return self.end(StreamEvent::Failed(error));
            }
            if self.until.is_some_and(|until| until <= Instant::now()) {
                self.state = Phase::Ended;
                break;
            }
            match self.pop() {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(error) => return self.end(StreamEvent::Failed(error)),
            }
            match self.fill().await {
                Ok(Fill::More) => {}
                Ok(Fill::CaughtUp) => {
                    if self.tail.is_some() {
                        self.state = Phase::Ended;
                    }
                    if !std::mem::replace(&mut self.caught_up, true) {
                        return Some(StreamEvent::CaughtUp);
                    }
                    self.wait().await;
                }
                Err(error) => return self.end(StreamEvent::Failed(error)),
            }
        }
        None
    }

    fn end(&mut self, event: StreamEvent) -> Option<StreamEvent> {
        self.state = Phase::Ended;
        Some(event)
    }

    /// What is judged already.
    fn pop(&mut self) -> Result<Option<StreamEvent>, Error> {
        while let Some(pending) = self.events.pop_front() {
            let merged = match pending {
                Pending::Event(event) => return Ok(Some(event)),
                Pending::Message(merged) => merged,
            };
            let record = self.home.shard.port.record(&merged.entry)?;
            if is_expired(&merged.entry, &record, self.home.shard.port.now())? {
                continue;
            }
            if let Some(left) = &mut self.events_left {
                *left -= 1;
            }
            let place = merged.entry.log_place();
            let cursor =
                StreamCursor { shard: self.home.shard.port.id(), place }.seal(self.scope, &self.broker.inner.keys)?;
            let message = Box::new(self.message(&merged, record));
            return Ok(Some(StreamEvent::Message { message, cursor }));
        }
        Ok(None)
    }

    fn message(&self, merged: &Merged, record: Record) -> StoredMessage {
        let entry = &merged.entry;
        let shard = self.home.shard.port.id();
        StoredMessage {
            id: id_of(shard, entry, &record),
            topic: self.topic.name.clone(),
            offset: QueueOffset(merged.offset),
            stored_at: entry.stamp,
            record,
        }
    }

    /// Takes some messages and judges them.
    async fn fill(&mut self) -> Result<Fill, Error> {
        if self.unjudged.is_empty() {
            if self.tail.as_ref().is_some_and(|tail| self.merge.has_reached(tail)) {
                return Ok(Fill::CaughtUp);
            }
            let port = &self.home.shard.port;
            // Read first: whatever a queue does not show yet lies behind it.
            let applied = *port.applied().borrow();
            if !port.state().topics.contains_key(&self.topic.id) {
                return Err(Error::TopicNotFound(self.topic.name.to_string()));
            }
            let gaps = self.merge.fill(&**port, applied)?;
            for (queue, from, to) in gaps {
                let topic = self.topic.name.to_string();
                self.events.push_back(Pending::Event(StreamEvent::Gap { topic, queue, from, to, cause: "retention" }));
            }
            while self.unjudged.len() < limits::JUDGE_MESSAGES_MAX {
                let Some(merged) = self.merge.pop(applied) else { break };
                let before_tail =
                    |tail: &HashMap<QueueId, u64>| merged.offset < tail.get(&merged.queue).copied().unwrap_or_default();
                if self.tail.as_ref().is_none_or(before_tail) {
                    self.unjudged.push_back(merged);
                }
            }
            if self.unjudged.is_empty() && self.events.is_empty() {
                return Ok(Fill::CaughtUp);
            }
        }
        let passed = self.judge().await?;
        let judged = std::mem::take(&mut self.unjudged).into_iter().zip(passed);
        self.events.extend(judged.filter(|(_, passed)| *passed).map(|(merged, _)| Pending::Message(merged)));
        // A long run of refused messages must not hold a worker.
        tokio::task::consume_budget().await;
        Ok(Fill::More)
    }

    /// Which of the unjudged messages pass. What a filter cannot judge is shown.
    async fn judge(&self) -> Result<Vec<bool>, Error> {
        let mut passed = vec![true; self.unjudged.len()];
        for judge in &self.judges {
            let tags: Option<HashSet<u64>> =
                judge.plan().tags.as_ref().map(|tags| tags.iter().map(|tag| hash::tag_hash(Some(tag))).collect());
            if let Some(tags) = tags {
                for (passed, merged) in passed.iter_mut().zip(&self.unjudged) {
                    *passed &= tags.contains(&merged.entry.tag_hash);
                }
            }
            let mut asked: Vec<usize> = (0..passed.len()).filter(|i| passed[*i]).collect();
            while !asked.is_empty() {
                let mut columns = Columns::new(judge.plan());
                let mut taken = 0;
                while taken < asked.len() && !columns.is_full() {
                    self.push(&**judge, &mut columns, &self.unjudged[asked[taken]])?;
                    taken += 1;
                }
                let (n, columns) = columns.finish();
                let verdicts = judge.filter(n, columns).await;
                for (i, verdict) in asked.drain(..taken).zip(verdicts) {
                    passed[i] = verdict != Verdict::Answer(false);
                }
            }
        }
        Ok(passed)
    }

    fn push(&self, judge: &dyn Judge, columns: &mut Columns<'_>, merged: &Merged) -> Result<(), Error> {
        let port = &self.home.shard.port;
        let record = match (wants_record(judge.plan()), wants_body(judge.plan())) {
            (false, _) => None,
            (true, false) => Some(port.record_head(&merged.entry)?),
            (true, true) => Some(port.record(&merged.entry)?),
        };
        let topic = self.topic.name.as_str();
        match &record {
            Some(record) => {
                let head = head(&record.head)?;
                columns.push(&Facts::stored(topic, &merged.entry, &head, &record.body, record.header.born));
            }
            None => {
                let head = PublishHead::default();
                columns.push(&Facts::stored(topic, &merged.entry, &head, &[], Timestamp(0)));
            }
        }
        Ok(())
    }

    /// Waits until the topic grows, the stream's time is over or the node stops.
    async fn wait(&mut self) {
        let waiting = self.signal.wait();
        // Once more, now that whatever is applied wakes this stream.
        if self.merge.has_more(&*self.home.shard.port) {
            return;
        }
        let poll = Instant::now() + POLL;
        tokio::select! {
            () = waiting.notified() => {}
            () = tokio::time::sleep_until(self.until.map_or(poll, |until| until.min(poll))) => {}
            () = self.broker.inner.stop.cancelled() => {}
        }
    }
}

/// What a look at the queues came to.
enum Fill {
    More,
    CaughtUp,
}

/// True if a message's TTL is over.
fn is_expired(entry: &QueueEntry, record: &Record, now: Timestamp) -> Result<bool, Error> {
    if entry.flags & FLAG_TTL == 0 {
        return Ok(false);
    }
    let ttl_ms = head(&record.head)?.ttl_ms;
    Ok(ttl_ms > 0 && entry.stamp.plus_ms(ttl_ms) <= now)
}

#[cfg(test)]
mod tests;
