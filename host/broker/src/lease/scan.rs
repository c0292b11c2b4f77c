//! Judging ahead: the next offsets of a group's queues, and what its filter says of them.
//!
//! A scan claims ranges under the lock, judges them outside, and files what came of it under the lock again, unless
//! the group's configuration changed meanwhile. One scan at a time; one that is dropped has changed nothing.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use pointsman_model::judge::{OnFailure, Verdict};
use pointsman_model::queue_entry::{FLAG_TTL, QueueEntry};
use pointsman_model::record::Record;
use pointsman_model::{GroupId, QueueId, QueueOffset, Timestamp, hash, limits};
use pointsman_state_machine::State;
use pointsman_state_machine::command::PublishHead;

use super::GroupRuntime;
use super::memory::{Candidate, Memory, TopicView};
use crate::columns::{Columns, Facts, wants_body, wants_record};
use crate::error::Error;
use crate::judging::on_failure_of;
use crate::ports::{Judge, ReadError};

/// Fewest offsets of a queue in one scan.
const SHARE_MIN: u64 = 16;

/// Ranges that are being judged.
pub(super) struct Scan {
    epoch: u64,
    now: Timestamp,
    claims: Vec<Claim>,
    /// Hints are not believed, but compared.
    audit: bool,
}

/// A range of one queue.
struct Claim {
    topic: TopicView,
    queue: QueueId,
    from: u64,
    to: u64,
    /// Offsets that are settled, leased or given back already.
    known: HashSet<u64>,
}

/// What a message came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Deliver,
    Skip,
    /// It is not judged, and nothing behind it in its queue is.
    Stop,
}

/// One message that is being judged.
struct Subject {
    offset: u64,
    entry: QueueEntry,
    expires_at: Option<Timestamp>,
    fate: Option<Fate>,
    /// The hint would have skipped it.
    hinted_away: bool,
}

/// Sets `scanning` back if the scan is dropped.
struct Running<'a> {
    group: &'a GroupRuntime,
    epoch: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        {
            let mut memory = self.group.memory.lock();
            if memory.epoch == self.epoch {
                memory.scanning = false;
            }
        }
        // Others may have waited for what it found, or may scan now.
        self.group.signal.wake();
    }
}

impl Scan {
    /// Claims the next offsets, dealt to the queues in turn; `None` if there are none.
    pub(super) fn claim(memory: &mut Memory, id: GroupId, state: &State, now: Timestamp) -> Option<Self> {
        let view = memory.view.as_ref()?;
        let mut open = Vec::new();
        for at in 0..memory.queues.len() {
            let at = (memory.next_queue + at) % memory.queues.len();
            let queue = &memory.queues[at];
            let (topic, number) = (queue.topic, queue.queue);
            let cursor = state.cursor(id, topic, number);
            let floor = state.floor(id, topic, number).0;
            let next = cursor.map_or(queue.next, |cursor| cursor.next_unsettled(QueueOffset(queue.next)).0);
            let end = state.ends(topic, number).latest.min(floor + limits::LEASE_WINDOW_OFFSETS);
            if next < end {
                open.push((at, next, end, cursor));
            }
        }
        let share = (limits::LEASE_AHEAD_MESSAGES as u64 / (open.len() as u64).max(1)).max(SHARE_MIN);
        let mut left = limits::LEASE_AHEAD_MESSAGES as u64;
        let mut claims = Vec::new();
        for (at, from, end, cursor) in open {
            let to = end.min(from + share.min(left));
            if from >= to {
                break;
            }
            let queue = &memory.queues[at];
            let (topic, number) = (queue.topic, queue.queue);
            let known = |offset: &u64| {
                let place = (topic, number, *offset);
                memory.leases.contains_key(&place)
                    || memory.delayed.contains_key(&place)
                    || memory.lanes.as_ref().is_some_and(|lanes| lanes.was_held(&place))
                    || cursor.is_some_and(|cursor| cursor.is_settled(QueueOffset(*offset)))
            };
            let Some(topic) = view.topic(topic).cloned() else { continue };
            claims.push(Claim { topic, queue: number, from, to, known: (from..to).filter(known).collect() });
            left -= to - from;
        }
        memory.next_queue = memory.next_queue.wrapping_add(1) % memory.queues.len().max(1);
        if claims.is_empty() {
            return None;
        }
        memory.scans += 1;
        let audit = memory.scans.is_multiple_of(limits::PLUGIN_AUDIT_CALLS);
        Some(Self { epoch: memory.epoch, now, claims, audit })
    }
}

impl GroupRuntime {
    /// Judges what was claimed and files it.
    ///
    /// # Errors
    /// A failed read, if nothing could be judged before it.
    pub(super) async fn scan(self: &Arc<Self>, scan: Scan) -> Result<(), Error> {
        let running = Running { group: self, epoch: scan.epoch };
        let mut failed = None;
        let mut judged = Vec::with_capacity(scan.claims.len());
        for claim in &scan.claims {
            let subjects = match self.read(claim, scan.now) {
                Ok(subjects) => subjects,
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            judged.push((claim, subjects));
        }
        let mut paused = false;
        // Claims of one topic are judged together.
        let topics: Vec<TopicView> = {
            let mut seen = HashSet::new();
            scan.claims.iter().map(|claim| &claim.topic).filter(|topic| seen.insert(topic.id)).cloned().collect()
        };
        for topic in topics {
            let of_topic = judged.iter_mut().filter(|(claim, _)| claim.topic.id == topic.id);
            let subjects: Vec<&mut Subject> = of_topic.flat_map(|(_, found)| found.subjects.iter_mut()).collect();
            let judging = self.judge(&topic, subjects, scan.audit).await;
            match judging {
                Ok(stopped) => paused |= stopped,
                Err(error) => failed = Some(error),
            }
        }
        let found = self.file(&scan, &judged, paused);
        drop(running);
        match failed {
            Some(error) if !found => Err(error),
            _ => Ok(()),
        }
    }

    /// Files what was judged; true if anything was.
    fn file(self: &Arc<Self>, scan: &Scan, judged: &[(&Claim, Found)], paused: bool) -> bool {
        let mut memory = self.memory.lock();
        if memory.epoch != scan.epoch {
            return true;
        }
        if paused {
            memory.paused_until = scan.now.plus_ms(limits::FILTER_PAUSE_MS);
        }
        let mut any = false;
        for (claim, found) in judged {
            let (topic, queue) = (claim.topic.id, claim.queue);
            let mut done = found.from;
            let mut judged_now = Vec::new();
            memory.note_skipped(topic, queue, claim.from.min(found.from), found.from);
            for subject in &found.subjects {
                // What lies between was settled or leased before.
                match subject.fate {
                    Some(Fate::Deliver) => {
                        memory.last_turn += 1;
                        let candidate = Candidate {
                            topic,
                            queue,
                            offset: subject.offset,
                            entry: subject.entry,
                            attempt: 1,
                            base: 0,
                            expires_at: subject.expires_at,
                            turn: memory.last_turn,
                        };
                        judged_now.push(candidate);
                    }
                    Some(Fate::Skip) => memory.note_skipped(topic, queue, subject.offset, subject.offset + 1),
                    Some(Fate::Stop) | None => break,
                }
                done = subject.offset + 1;
            }
            let stopped = found.subjects.iter().any(|subject| matches!(subject.fate, Some(Fate::Stop) | None));
            let done = if stopped { done } else { found.to };
            any |= done > claim.from;
            if let Some(memory) = memory.queues.iter_mut().find(|memory| memory.topic == topic && memory.queue == queue)
            {
                memory.next = memory.next.max(done);
            }
            // Behind the end of what is read, which opens their gate.
            if memory.lanes.is_some() {
                memory.put_judged(self.id, &self.parts, judged_now, scan.now);
            } else {
                memory.ready.extend(judged_now.into_iter().map(|candidate| (candidate.turn(), candidate)));
            }
        }
        let flushed = self.flush_skips(&mut memory, scan.now);
        drop(memory);
        if let Some(endings) = flushed {
            self.end_in_background(endings);
        }
        any
    }

    /// The messages of a claim that are neither settled nor leased.
    fn read(&self, claim: &Claim, now: Timestamp) -> Result<Found, Error> {
        let n = usize::try_from(claim.to - claim.from).unwrap_or(usize::MAX);
        let mut from = claim.from;
        let entries = match self.parts.port.queue(claim.topic.id, claim.queue, QueueOffset(from), n) {
            Ok(entries) => entries,
            // Retention ended for what lies below; the group never gets it.
            Err(ReadError::Expired { earliest }) => {
                from = earliest.0;
                let rest = usize::try_from(claim.to.saturating_sub(from)).unwrap_or_default();
                self.parts.port.queue(claim.topic.id, claim.queue, earliest, rest)?
            }
            Err(error) => return Err(error.into()),
        };
        let to = from + entries.len() as u64;
        let mut subjects = Vec::with_capacity(entries.len());
        for (offset, entry) in (from..).zip(entries) {
            if claim.known.contains(&offset) {
                continue;
            }
            let mut subject = Subject { offset, entry, expires_at: None, fate: None, hinted_away: false };
            if entry.flags & FLAG_TTL != 0 {
                let record = self.parts.port.record_head(&entry)?;
                let ttl_ms = head(&record.head)?.ttl_ms;
                subject.expires_at = (ttl_ms > 0).then(|| entry.stamp.plus_ms(ttl_ms));
                if subject.expires_at.is_some_and(|expires| expires <= now) {
                    subject.fate = Some(Fate::Skip);
                }
            }
            subjects.push(subject);
        }
        Ok(Found { from, to, subjects })
    }

    /// Lets the filter of a topic judge; true if it failed under the policy `pause`.
    async fn judge(&self, topic: &TopicView, mut subjects: Vec<&mut Subject>, audit: bool) -> Result<bool, Error> {
        subjects.retain(|subject| subject.fate.is_none());
        let Some(binding) = &topic.filter else {
            subjects.into_iter().for_each(|subject| subject.fate = Some(Fate::Deliver));
            return Ok(false);
        };
        let failed = match on_failure_of(binding.config.on_failure) {
            OnFailure::Skip => Fate::Skip,
            OnFailure::Pause => Fate::Stop,
            // The others are of other kinds.
            _ => Fate::Deliver,
        };
        let judge = match self.parts.bench.judge(&self.parts.port, binding).await {
            Ok(judge) => judge,
            Err(words) => {
                tracing::warn!(binding.name = %binding.name, %words, "a filter cannot run");
                subjects.into_iter().for_each(|subject| subject.fate = Some(failed));
                return Ok(failed == Fate::Stop);
            }
        };
        heed_hint(&*judge, &mut subjects, audit);
        let mut stopped = false;
        let mut rest = &mut subjects[..];
        while !rest.is_empty() {
            let (taken, call) = self.columns(&*judge, topic, rest)?;
            let (now, later) = rest.split_at_mut(taken);
            let (n, columns) = call;
            let verdicts = judge.filter(n, columns).await;
            for (at, subject) in now.iter_mut().enumerate() {
                let fate = match verdicts.get(at) {
                    Some(Verdict::Answer(true)) => Fate::Deliver,
                    Some(Verdict::Answer(false)) => Fate::Skip,
                    Some(Verdict::Failed(_) | Verdict::Stopped(_)) | None => failed,
                };
                if subject.hinted_away && verdicts.get(at) == Some(&Verdict::Answer(true)) {
                    judge.record_bad_hint();
                }
                stopped |= fate == Fate::Stop;
                subject.fate = Some(fate);
            }
            rest = later;
        }
        Ok(stopped)
    }

    /// The columns of as many messages as fit into one call.
    fn columns(
        &self,
        judge: &dyn Judge,
        topic: &TopicView,
        subjects: &mut [&mut Subject],
    ) -> Result<(usize, (u32, Vec<pointsman_model::judge::Column>)), Error> {
        let plan = judge.plan();
        let (record_wanted, body_wanted) = (wants_record(plan), wants_body(plan));
        let mut columns = Columns::new(plan);
        let mut taken = 0;
        while taken < subjects.len() && !columns.is_full() {
            let subject = &mut subjects[taken];
            let port = &self.parts.port;
            let record = match (record_wanted, body_wanted) {
                (false, _) => None,
                (true, false) => Some(port.record_head(&subject.entry)?),
                (true, true) => Some(port.record(&subject.entry)?),
            };
            push(&mut columns, topic, subject, record.as_ref())?;
            taken += 1;
        }
        Ok((taken, columns.finish()))
    }
}

/// What was read of a claim.
struct Found {
    /// First offset that is still there.
    from: u64,
    to: u64,
    subjects: Vec<Subject>,
}

/// Skips what the hint says cannot pass; in an audit only notes it.
fn heed_hint(judge: &dyn Judge, subjects: &mut Vec<&mut Subject>, audit: bool) {
    let Some(tags) = &judge.plan().tags else { return };
    let wanted: HashSet<u64> = tags.iter().map(|tag| hash::tag_hash(Some(tag))).collect();
    subjects.retain_mut(|subject| {
        subject.hinted_away = !wanted.contains(&subject.entry.tag_hash);
        let skipped = subject.hinted_away && !audit;
        if skipped {
            subject.fate = Some(Fate::Skip);
        }
        !skipped
    });
}

fn push(columns: &mut Columns<'_>, topic: &TopicView, subject: &Subject, record: Option<&Record>) -> Result<(), Error> {
    let none = Bytes::new();
    let (head_bytes, body, born) =
        record.map_or((&none, &none, Timestamp(0)), |record| (&record.head, &record.body, record.header.born));
    let head = if record.is_some() { head(head_bytes)? } else { PublishHead::default() };
    columns.push(&Facts::stored(topic.name.as_str(), &subject.entry, &head, body, born));
    Ok(())
}

/// The head of a stored message.
pub(crate) fn head(bytes: &Bytes) -> Result<PublishHead<'_>, Error> {
    postcard::from_bytes(bytes).map_err(|error| Error::Internal(format!("message head: {error}")))
}
