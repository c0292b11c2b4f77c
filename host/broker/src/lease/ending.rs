//! Leases that run out and offsets that are skipped: what the broker itself writes to the log of a group.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::record::{Header, kind};
use pointsman_model::{Generation, GroupId, QueueId, TenantId, Term, Timestamp, TopicId, limits};
use pointsman_state_machine::command::{
    AttemptEnd, DecidedBy, Decision, Durability, Expire, LeaseRef, RecordRef, Settle, SettleItem, SettleOp, Skip,
};
use pointsman_state_machine::outcome::{Outcome, Settlement};

use super::GroupRuntime;
use super::memory::{Memory, Place};
use super::policy::{At, Undecided};
use crate::batcher::{Answer, RecordWriter, Request};
use crate::error::Error;

/// How long the broker's own records may wait to be proposed.
pub(super) const DEADLINE: Duration = Duration::from_millis(limits::TIMEOUT_MS_DEFAULT);

/// Records of a group that go into one entry together.
pub(super) struct Endings {
    epoch: u64,
    tenant: TenantId,
    term: Term,
    generation: Generation,
    revision: u64,
    pub(super) settle: Vec<SettleItem>,
    pub(super) expire: Vec<(LeaseRef, AttemptEnd)>,
    /// Which of them ended badly: what comes of those is decided once nobody holds the memory.
    pub(super) undecided: Vec<Undecided>,
    skips: Vec<SkippedQueue>,
}

/// Skipped ranges of one queue.
struct SkippedQueue {
    topic: TopicId,
    queue: QueueId,
    ranges: Vec<(u64, u64)>,
}

impl Endings {
    /// Nothing yet, under the view that is read now.
    pub(super) fn begin(memory: &Memory) -> Option<Self> {
        let view = memory.view.as_ref()?;
        Some(Self {
            epoch: memory.epoch,
            tenant: view.tenant,
            term: view.term,
            generation: view.generation,
            revision: view.revision,
            settle: Vec::new(),
            expire: Vec::new(),
            undecided: Vec::new(),
            skips: Vec::new(),
        })
    }

    /// The group's generation that decisions are taken under.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Goes on under the view that is read now: what was decided under another is decided again. Leases are still as
    /// of the first look; skipped ranges are judged anew.
    pub(super) fn renew(&mut self, memory: &Memory) {
        if let Some(view) = &memory.view {
            self.generation = view.generation;
        }
        self.skips.clear();
    }

    /// Adds a lease that ends badly.
    pub(super) fn push_nack(&mut self, lease: LeaseRef, end: AttemptEnd, entry: QueueEntry, base: u16) {
        let (at, asks) = (At::Settle(self.settle.len()), end.by != DecidedBy::Consumer);
        self.undecided.push(Undecided { at, entry, base, asks });
        self.settle.push(SettleItem { lease, op: SettleOp::Nack(end) });
    }

    /// Adds a lease that ran out.
    pub(super) fn push_expired(&mut self, lease: LeaseRef, end: AttemptEnd, entry: QueueEntry, base: u16) {
        self.undecided.push(Undecided { at: At::Expire(self.expire.len()), entry, base, asks: true });
        self.expire.push((lease, end));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.settle.is_empty() && self.expire.is_empty() && self.skips.is_empty()
    }

    /// Takes the skipped ranges along.
    pub(super) fn take_skips(&mut self, memory: &mut Memory, now: Timestamp) {
        for of_queue in memory.queues.iter_mut().filter(|queue| !queue.skipped.is_empty()) {
            let ranges = std::mem::take(&mut of_queue.skipped).into_iter().collect();
            self.skips.push(SkippedQueue { topic: of_queue.topic, queue: of_queue.queue, ranges });
        }
        memory.skips_flushed = now;
    }

    fn write(&self, group: GroupId, writer: &mut RecordWriter<'_>) {
        let header = |kind| Header { kind, tenant: self.tenant, generation: self.generation, ..Header::default() };
        if !self.settle.is_empty() {
            let head = Settle { group: group.0, revision: self.revision, items: self.settle.clone() };
            writer.write(&header(kind::SETTLE), &head, &[]);
        }
        if !self.expire.is_empty() {
            let head = Expire { group: group.0, revision: self.revision, items: self.expire.clone() };
            writer.write(&header(kind::EXPIRE), &head, &[]);
        }
        for SkippedQueue { topic, queue, ranges } in &self.skips {
            let head = Skip { group: group.0, ranges: ranges.clone() };
            writer.write(&Header { topic: *topic, queue: *queue, ..header(kind::SKIP) }, &head, &[]);
        }
    }
}

impl GroupRuntime {
    /// Ends leases that ran out, and settles what was skipped a while ago.
    pub(crate) fn tick(self: &Arc<Self>) {
        let Some(term) = self.parts.port.leadership() else { return };
        let now = self.parts.port.now();
        let endings = {
            let mut memory = self.memory.lock();
            let Some(mut endings) = Endings::begin(&memory).filter(|endings| endings.term == term) else { return };
            take_expired(&mut memory, &mut endings, now);
            memory.forget_orphans();
            let buried = std::mem::take(&mut memory.buried).into_iter();
            endings.settle = buried.map(|lease| SettleItem { lease, op: SettleOp::Ack }).collect();
            if now >= memory.skips_flushed.plus_ms(limits::SKIP_INTERVAL_MS) {
                endings.take_skips(&mut memory, now);
            }
            endings
        };
        if !endings.is_empty() {
            self.end_in_background(endings);
        }
    }

    /// Settles skipped ranges at once where the window of leasing is full of them.
    pub(super) fn flush_skips(&self, memory: &mut Memory, now: Timestamp) -> Option<Endings> {
        let skipped: u64 = memory.queues.iter().flat_map(|q| q.skipped.iter()).map(|(from, to)| to - from).sum();
        if skipped < limits::LEASE_WINDOW_OFFSETS / 2 {
            return None;
        }
        let mut endings = Endings::begin(memory)?;
        endings.take_skips(memory, now);
        Some(endings)
    }

    pub(super) fn end_in_background(self: &Arc<Self>, endings: Endings) {
        let group = Arc::clone(self);
        self.parts.tasks.spawn(async move {
            let mut endings = endings;
            if let Err(error) = group.end(&mut endings, crate::call::now() + DEADLINE).await {
                tracing::debug!(group.id = %group.id, %error, "leases that ran out are tried again");
            }
        });
    }

    /// Decides what is left to decide, writes endings to the log, and remembers what came of them.
    pub(super) async fn end(&self, endings: &mut Endings, deadline: Instant) -> Result<Answer, Error> {
        let answer = match self.decide(endings).await {
            Ok(()) => self.write(endings, deadline).await,
            Err(error) => Err(error),
        };
        let mut memory = self.memory.lock();
        if memory.epoch_term() != Some(endings.term) {
            return answer;
        }
        match &answer {
            Ok(answer) => self.ended(&mut memory, endings, answer),
            Err(_) => give_back(&mut memory, endings),
        }
        drop(memory);
        // Room came free, the window moved, or something is due at another time.
        self.wake();
        answer
    }

    async fn write(&self, endings: &Endings, deadline: Instant) -> Result<Answer, Error> {
        let request = Request { tenant: endings.tenant, term: endings.term, deadline, ack: Durability::Quorum };
        let submitted = self.parts.batcher.submit(request, 0, |writer| endings.write(self.id, writer));
        self.parts.batcher.wait(submitted?, deadline).await
    }

    /// Counts what became of attempts that ended badly.
    fn count(&self, endings: &Endings, answer: &Answer) {
        let nacks = endings.settle.iter().map(|item| match &item.op {
            SettleOp::Nack(end) => delay_of(&end.decision).is_some(),
            _ => false,
        });
        let expired = endings.expire.iter().map(|(_, end)| delay_of(&end.decision).is_some());
        let settlements = answer.outcomes().iter().filter_map(|outcome| match outcome {
            Outcome::Settled(settlements) => Some(settlements),
            _ => None,
        });
        let (mut retries, mut dead) = (0, 0);
        for (again, settlement) in nacks.chain(expired).zip(settlements.flatten()) {
            retries += u64::from(again && *settlement == Settlement::Settled);
            dead += u64::from(*settlement == Settlement::DeadLettered);
        }
        self.parts.ended.retries.fetch_add(retries, Ordering::Relaxed);
        self.parts.ended.dead_letters.fetch_add(dead, Ordering::Relaxed);
    }

    fn ended(&self, memory: &mut Memory, endings: &Endings, answer: &Answer) {
        self.count(endings, answer);
        if memory.lanes.is_some() {
            return self.ended_ordered(memory, endings, answer);
        }
        let mut outcomes = answer.outcomes().iter();
        if !endings.settle.is_empty() {
            let ends = endings.settle.iter().map(|item| match &item.op {
                SettleOp::Ack => (item.lease, None),
                SettleOp::Nack(end) => (item.lease, delay_of(&end.decision)),
                SettleOp::Release(delay_ms) => (item.lease, Some(*delay_ms)),
                SettleOp::Extend(_) => (item.lease, None),
            });
            note_ended(memory, outcomes.next(), ends, answer.entry.stamp);
        }
        if !endings.expire.is_empty() {
            let ends = endings.expire.iter().map(|(lease, end)| (*lease, delay_of(&end.decision)));
            let outcome = outcomes.next();
            if let Some(Outcome::Refused(refusal)) = outcome {
                tracing::debug!(group.id = %self.id, ?refusal, "leases that ran out are decided again");
                look_again(memory, endings);
            }
            note_ended(memory, outcome, ends, answer.entry.stamp);
        }
        self.note_skips(endings, outcomes);
    }

    /// The same in a group that keeps an order: the log says where each message stands now.
    fn ended_ordered(&self, memory: &mut Memory, endings: &Endings, answer: &Answer) {
        let mut outcomes = answer.outcomes().iter();
        let mut ended: Vec<Place> = Vec::new();
        if !endings.settle.is_empty() {
            outcomes.next();
            ended.extend(endings.settle.iter().map(|item| place_of(&item.lease)));
        }
        if !endings.expire.is_empty() {
            if let Some(Outcome::Refused(refusal)) = outcomes.next() {
                tracing::debug!(group.id = %self.id, ?refusal, "leases that ran out are decided again");
                look_again(memory, endings);
            } else {
                ended.extend(endings.expire.iter().map(|(lease, _)| place_of(lease)));
            }
        }
        memory.sync_ended(self.id, &self.parts, ended, answer.entry.stamp);
        self.note_skips(endings, outcomes);
    }

    fn note_skips<'a>(&self, endings: &Endings, outcomes: impl Iterator<Item = &'a Outcome>) {
        for (skipped, outcome) in endings.skips.iter().zip(outcomes) {
            if let Outcome::Refused(refusal) = outcome {
                // Stale: judged anew. Anything else is a bug, and the offsets come again after the next change.
                tracing::debug!(group.id = %self.id, topic.id = %skipped.topic, ?refusal, "a skip was refused");
            }
        }
    }
}

impl Memory {
    /// The term of what is remembered.
    fn epoch_term(&self) -> Option<Term> {
        self.view.as_ref().map(|view| view.term)
    }
}

/// Takes leases that ran out.
fn take_expired(memory: &mut Memory, endings: &mut Endings, now: Timestamp) {
    while endings.expire.len() < limits::SETTLE_ITEMS_MAX
        && memory.expiries.peek().is_some_and(|Reverse((expires, ..))| *expires <= now)
    {
        let Some(Reverse((_, place, session))) = memory.expiries.pop() else { break };
        let Some(lease) = memory.leases.get_mut(&place).filter(|lease| lease.session == session) else { continue };
        if lease.expires > now {
            // Extended: its later end is in the heap as well.
            continue;
        }
        lease.expiring = true;
        let (entry, base) = (lease.candidate.entry, lease.candidate.base);
        let end = AttemptEnd {
            decision: Decision::default(),
            by: DecidedBy::Table,
            record: RecordRef::of(&entry),
            delivered_at: lease.delivered_at.0,
            reason: None,
            client_id: lease.client.as_deref().map(str::to_owned),
        };
        endings.push_expired(lease.candidate.lease_ref(), end, entry, base);
    }
}

/// Forgets leases that ended. `ends` holds for each the delay of its next attempt, if there is one.
fn note_ended(
    memory: &mut Memory,
    outcome: Option<&Outcome>,
    ends: impl Iterator<Item = (LeaseRef, Option<u64>)>,
    stamp: Timestamp,
) {
    let Some(Outcome::Settled(settlements)) = outcome else { return };
    for ((lease, delay_ms), settlement) in ends.zip(settlements) {
        let place = place_of(&lease);
        if let Some(delay_ms) = delay_ms {
            // Also of a lease that another leader gave.
            memory.retry_at = memory.retry_at.min(stamp.plus_ms(delay_ms));
        }
        let current = memory.leases.get(&place).is_some_and(|held| held.candidate.attempt == lease.attempt);
        if !current {
            continue;
        }
        let Some(held) = memory.leases.remove(&place) else { continue };
        if *settlement == Settlement::RetrySetFull {
            // No room to note a failed attempt, so this one is not counted.
            let due = stamp.plus_ms(delay_ms.unwrap_or_default());
            memory.delayed.insert(place, (due, held.candidate));
        }
    }
}

/// Nothing was written, or nobody knows: skips are tried again, and so are leases that ran out.
fn give_back(memory: &mut Memory, endings: &Endings) {
    if memory.epoch == endings.epoch {
        for SkippedQueue { topic, queue, ranges } in &endings.skips {
            ranges.iter().for_each(|(from, to)| memory.note_skipped(*topic, *queue, *from, *to));
        }
    }
    look_again(memory, endings);
}

/// Leases that ran out and have no ending yet are looked at again.
fn look_again(memory: &mut Memory, endings: &Endings) {
    for (lease, _) in &endings.expire {
        let place = place_of(lease);
        if let Some(held) = memory.leases.get(&place) {
            memory.expiries.push(Reverse((held.expires, place, held.session)));
        }
    }
}

/// The delay of the next attempt, if there is one.
fn delay_of(decision: &Decision) -> Option<u64> {
    match decision {
        Decision::Again { delay_ms } => Some(*delay_ms),
        Decision::DeadLetter { .. } | Decision::Drop => None,
    }
}

fn place_of(lease: &LeaseRef) -> Place {
    (TopicId(lease.topic), QueueId(lease.queue), lease.offset)
}
