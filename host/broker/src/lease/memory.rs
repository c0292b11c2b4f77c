//! What the leader remembers of a group.
//!
//! All of it may be lost: a new leader starts from the floors and the retry set, and leases that it does not know are
//! adopted when their receipts are shown.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{Generation, GroupId, Name, QueueId, TenantId, Term, Timestamp, TopicId, limits};
use pointsman_state_machine::State;
use pointsman_state_machine::command::{LeaseRef, Ordering};
use pointsman_state_machine::state::{Binding, Cursor, Group};

use super::Wanted;
use super::lanes::Lanes;
use super::replay::Replay;
use super::scan::Scan;
use super::session::Orphan;
use crate::error::Error;
use crate::shard::ShardParts;

/// Fewer ends of leases than four times this are not worth compacting.
const EXPIRIES_COMPACTED_MIN: usize = 1_024;

/// A message of a group.
pub(super) type Place = (TopicId, QueueId, u64);

/// What the leader remembers of a group.
pub(super) struct Memory {
    /// What it was read under.
    pub(super) view: Option<View>,
    /// Counts changes of the view: what was begun under another is dropped.
    pub(super) epoch: u64,
    /// High half of a lease's session: tells the leases of this memory from those of others.
    pub(super) nonce: u32,
    /// Low half: the last lease given.
    pub(super) last_lease: u32,
    pub(super) queues: Vec<QueueMemory>,
    /// Where the next scan starts.
    pub(super) next_queue: usize,
    pub(super) scanning: bool,
    pub(super) scans: u64,
    /// The filter failed under the policy `pause`; nothing new is judged before.
    pub(super) paused_until: Timestamp,
    /// Judged and not leased, in the order they are given.
    pub(super) ready: BTreeMap<Turn, Candidate>,
    pub(super) last_turn: u64,
    /// Popped from `ready`, not leased yet: counted as leased.
    pub(super) granting: usize,
    pub(super) leases: HashMap<Place, LeaseMemory>,
    /// When leases run out; those that ended or were extended are told by their lease.
    pub(super) expiries: BinaryHeap<Reverse<(Timestamp, Place, u64)>>,
    /// Given back, to be given out again later.
    pub(super) delayed: HashMap<Place, (Timestamp, Candidate)>,
    /// When to look at the retry set again.
    pub(super) retry_at: Timestamp,
    pub(super) skips_flushed: Timestamp,
    /// Retries whose message is gone: acked by the broker itself.
    pub(super) buried: Vec<LeaseRef>,
    /// When each `client_id` last asked for leases.
    pub(super) members: HashMap<Arc<str>, Timestamp>,
    /// Groups that keep an order: what waits, instead of `ready` and `delayed`. `None` until the held rows are read.
    pub(super) lanes: Option<Lanes>,
    /// Leases of streams whose client hung up, by its `client_id`.
    pub(super) orphans: HashMap<Arc<str>, Vec<Orphan>>,
    /// Answers to lease calls by their `Idempotency-Key`.
    pub(super) replays: HashMap<String, Replay>,
}

/// The configuration as it was last read.
pub(super) struct View {
    pub(super) tenant: TenantId,
    pub(super) term: Term,
    pub(super) generation: Generation,
    /// The group's: queues sought since then have no leases of ours.
    pub(super) revision: u64,
    /// Of all its topics together: queues come with a new generation of their topic.
    topic_generations: u64,
    pub(super) lease_ms: u64,
    pub(super) max_inflight: usize,
    pub(super) ordering: Ordering,
    pub(super) topics: Vec<TopicView>,
}

/// A topic of the group.
#[derive(Clone)]
pub(super) struct TopicView {
    pub(super) id: TopicId,
    pub(super) name: Name,
    pub(super) filter: Option<Arc<Binding>>,
}

/// A queue of the group.
pub(super) struct QueueMemory {
    pub(super) topic: TopicId,
    pub(super) queue: QueueId,
    /// The first offset not judged yet.
    pub(super) next: u64,
    /// Refused by the filter or expired by TTL, and not settled yet: disjoint ranges by start.
    pub(super) skipped: BTreeMap<u64, u64>,
}

/// The order in which messages are given: retries first, then by priority, then as they were judged.
pub(super) type Turn = (bool, Reverse<u8>, u64);

/// A message that may be leased.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) topic: TopicId,
    pub(super) queue: QueueId,
    pub(super) offset: u64,
    pub(super) entry: QueueEntry,
    pub(super) attempt: u16,
    /// Attempts before it was last redriven: consumers see `attempt − base`.
    pub(super) base: u16,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) turn: u64,
}

impl Candidate {
    pub(super) fn place(&self) -> Place {
        (self.topic, self.queue, self.offset)
    }

    pub(super) fn turn(&self) -> Turn {
        (self.attempt <= 1, Reverse(self.entry.priority), self.turn)
    }
}

/// A lease that runs.
#[derive(Clone)]
pub(super) struct LeaseMemory {
    pub(super) session: u64,
    pub(super) expires: Timestamp,
    pub(super) delivered_at: Timestamp,
    pub(super) client: Option<Arc<str>>,
    /// What goes back when it is released.
    pub(super) candidate: Candidate,
    /// An `expire` record is under way.
    pub(super) expiring: bool,
}

/// What a lease call does next.
pub(super) enum Step {
    /// Hand these out.
    Take {
        /// What they were judged under.
        epoch: u64,
        taken: Vec<Candidate>,
    },
    /// The same in a group that keeps an order: the log is told first.
    Grant {
        /// What they were taken under.
        epoch: u64,
        taken: Vec<Candidate>,
    },
    /// Judge more.
    Scan(Scan),
    /// The group has as many leases as it may have.
    Full,
    /// The group is paused.
    Paused,
    /// Wait.
    Nothing {
        /// Something is due by then.
        wake_in: Option<Duration>,
    },
}

/// Topics that left and joined the group.
pub(super) type TopicChange = (Vec<TopicId>, Vec<TopicId>);

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            view: None,
            epoch: 0,
            nonce: rand::random(),
            last_lease: 0,
            queues: Vec::new(),
            next_queue: 0,
            scanning: false,
            scans: 0,
            paused_until: Timestamp(0),
            ready: BTreeMap::new(),
            last_turn: 0,
            granting: 0,
            leases: HashMap::new(),
            expiries: BinaryHeap::new(),
            delayed: HashMap::new(),
            retry_at: Timestamp(0),
            skips_flushed: Timestamp(0),
            buried: Vec::new(),
            members: HashMap::new(),
            lanes: None,
            orphans: HashMap::new(),
            replays: HashMap::new(),
        }
    }

    /// Reads the configuration if it changed. Leases outlive another filter, but not another term.
    ///
    /// # Errors
    /// [`Error::NoLeader`], [`Error::GroupNotFound`].
    pub(super) fn refresh(&mut self, id: GroupId, parts: &ShardParts) -> Result<Option<TopicChange>, Error> {
        let term = parts.port.leadership().ok_or(Error::NoLeader)?;
        let state = parts.port.state();
        let group = state.groups.get(&id).ok_or_else(|| Error::GroupNotFound(String::new()))?;
        let topic_generations = topic_generations(&state, group);
        let old = self.view.as_ref();
        if old.is_some_and(|view| {
            view.term == term && view.generation == group.generation && view.topic_generations == topic_generations
        }) {
            return Ok(None);
        }
        let before: Vec<_> = old.map(|view| view.topics.iter().map(|t| t.id).collect()).unwrap_or_default();
        if old.is_none_or(|view| view.term != term) {
            let members = std::mem::take(&mut self.members);
            *self = Self { epoch: self.epoch, members, ..Self::new() };
        }
        self.forget_sought(&state, id);
        self.epoch += 1;
        self.scanning = false;
        self.granting = 0;
        self.ready.clear();
        self.queues.clear();
        self.lanes = None;
        self.retry_at = Timestamp(0);
        self.paused_until = Timestamp(0);
        for topic in group.topic_ids.iter().filter_map(|id| state.topics.get(id)) {
            self.queues.extend((0..topic.queues()).map(|queue| QueueMemory {
                topic: topic.id,
                queue: QueueId(queue),
                next: 0,
                skipped: BTreeMap::new(),
            }));
        }
        self.leases.retain(|place, _| group.topic_ids.contains(&place.0));
        self.delayed.retain(|place, _| group.topic_ids.contains(&place.0));
        self.view = Some(View::read(&state, group, term, topic_generations));
        Ok(Some((before, group.topic_ids.clone())))
    }

    /// What a lease call does next.
    pub(super) fn step(&mut self, id: GroupId, parts: &ShardParts, wanted: &Wanted) -> Result<Step, Error> {
        let Some(view) = &self.view else { return Err(Error::NoLeader) };
        if parts.port.state().groups.get(&id).is_some_and(|group| group.paused) {
            return Ok(Step::Paused);
        }
        let room = view.max_inflight.saturating_sub(self.leases.len() + self.granting);
        if room == 0 {
            return Ok(Step::Full);
        }
        let now = parts.port.now();
        if view.ordering != Ordering::None {
            return self.step_ordered(id, parts, (wanted, room), now);
        }
        self.take_back_delayed(now);
        self.fetch_retries(id, parts, now)?;
        let state = parts.port.state();
        let full_retry_set = state.retrying.get(&id).is_some_and(|count| *count >= limits::RETRY_SET_MAX);
        let paused = full_retry_set || now < self.paused_until;
        let low = self.ready.len() < limits::LEASE_AHEAD_MESSAGES / 2;
        if low
            && !self.scanning
            && !paused
            && let Some(scan) = Scan::claim(self, id, &state, now)
        {
            self.scanning = true;
            return Ok(Step::Scan(scan));
        }
        drop(state);
        let mut taken = Vec::new();
        while taken.len() < wanted.messages.min(room) {
            let Some((turn, candidate)) = self.ready.pop_first() else { break };
            if full_retry_set && turn.0 {
                self.ready.insert(turn, candidate);
                break;
            }
            taken.push(candidate);
        }
        if taken.is_empty() {
            return Ok(Step::Nothing { wake_in: self.wake_in(now) });
        }
        self.granting += taken.len();
        Ok(Step::Take { epoch: self.epoch, taken })
    }

    /// Forgets the leases of queues that were sought since the configuration was last read.
    fn forget_sought(&mut self, state: &State, id: GroupId) {
        let Some(revision) = self.view.as_ref().map(|view| view.revision) else { return };
        let stays = |(topic, queue, _): &Place| {
            let sought = state.cursor(id, *topic, *queue).and_then(Cursor::sought);
            sought.is_none_or(|sought| sought.revision <= revision)
        };
        self.leases.retain(|place, _| stays(place));
        self.delayed.retain(|place, _| stays(place));
        self.buried.retain(|lease| stays(&(TopicId(lease.topic), QueueId(lease.queue), lease.offset)));
    }

    /// When something is due by itself.
    pub(super) fn wake_in(&self, now: Timestamp) -> Option<Duration> {
        let delayed = self.delayed.values().map(|(due, _)| *due).min();
        let paused = (self.paused_until > now).then_some(self.paused_until);
        let lanes = self.lanes.as_ref().and_then(Lanes::next_due);
        let due = [delayed, Some(self.retry_at), paused, lanes].into_iter().flatten().filter(|due| *due > now).min();
        due.map(|due| Duration::from_millis(due.since_ms(now)))
    }

    fn take_back_delayed(&mut self, now: Timestamp) {
        if self.delayed.is_empty() {
            return;
        }
        let due: Vec<_> = self.delayed.extract_if(|_, (due, _)| *due <= now).map(|(_, (_, back))| back).collect();
        due.into_iter().for_each(|back| self.put_back(back));
    }

    /// The session of the next lease.
    pub(super) fn next_session(&mut self) -> u64 {
        self.last_lease = self.last_lease.wrapping_add(1);
        u64::from(self.nonce) << 32 | u64::from(self.last_lease)
    }

    /// Lets a message be given (again), in its old place.
    pub(super) fn put_back(&mut self, candidate: Candidate) {
        self.ready.insert(candidate.turn(), candidate);
    }

    /// Forgets the ends of leases that ended before, once they are most of what is kept.
    pub(super) fn compact_expiries(&mut self) {
        if self.expiries.len() < 4 * self.leases.len().max(EXPIRIES_COMPACTED_MIN) {
            return;
        }
        let runs = self.leases.iter().filter(|(_, lease)| !lease.expiring);
        self.expiries = runs.map(|(place, lease)| Reverse((lease.expires, *place, lease.session))).collect();
    }

    /// Notes offsets that are to be settled without having been leased.
    pub(super) fn note_skipped(&mut self, topic: TopicId, queue: QueueId, from: u64, to: u64) {
        let of_queue = self.queues.iter_mut().find(|memory| memory.topic == topic && memory.queue == queue);
        if let Some(memory) = of_queue.filter(|_| from < to) {
            memory.note_skipped(from, to);
        }
    }
}

impl QueueMemory {
    fn note_skipped(&mut self, from: u64, to: u64) {
        let mut range = (from, to);
        if let Some((start, end)) = self.skipped.range(..=from).next_back().map(|(start, end)| (*start, *end))
            && end >= from
        {
            range = (start, end.max(to));
        }
        if let Some(end) = self.skipped.remove(&range.1) {
            range.1 = end;
        }
        self.skipped.insert(range.0, range.1);
    }
}

impl View {
    fn read(state: &State, group: &Group, term: Term, topic_generations: u64) -> Self {
        let topics = group.topic_ids.iter().filter_map(|id| state.topics.get(id)).map(|topic| TopicView {
            id: topic.id,
            name: topic.name.clone(),
            filter: state.filter(group.id, topic.id).cloned().map(Arc::new),
        });
        Self {
            tenant: group.tenant,
            term,
            generation: group.generation,
            revision: group.revision,
            topic_generations,
            lease_ms: group.config.lease_ms,
            max_inflight: group.config.max_inflight as usize,
            ordering: group.config.ordering,
            topics: topics.collect(),
        }
    }

    pub(super) fn topic(&self, id: TopicId) -> Option<&TopicView> {
        self.topics.iter().find(|topic| topic.id == id)
    }
}

fn topic_generations(state: &State, group: &Group) -> u64 {
    let generation = |id| state.topics.get(id).map_or(0, |topic| u64::from(topic.generation.0));
    group.topic_ids.iter().map(generation).sum()
}
