//! From candidates to leases: bodies are read outside the lock, leases are noted under it.

use pointsman_model::queue_entry::FLAG_TTL;
use pointsman_model::record::Record;
use pointsman_model::{QueueId, QueueOffset, Timestamp, TopicId, limits};
use pointsman_state_machine::command::{LeaseRef, SettleItem, SettleOp};

use super::ending::Endings;
use super::memory::{Candidate, LeaseMemory, Memory};
use super::scan::head;
use super::{GroupRuntime, Wanted};
use crate::error::Error;
use crate::lookup::id_of;
use crate::ports::ReadError;
use crate::receipt::Receipt;
use crate::signing::Key;
use crate::view::{Lease, StoredMessage};

/// Candidates that were popped, by what becomes of them.
#[derive(Default)]
pub(super) struct Sorted {
    pub(super) given: Vec<(Candidate, Record)>,
    /// Go back: too many bytes, or they could not be read.
    pub(super) back: Vec<Candidate>,
    /// Expired by TTL, or past their retention: settled without having been leased.
    pub(super) dead: Vec<Candidate>,
    pub(super) failed: Option<Error>,
}

impl GroupRuntime {
    /// Leases what was popped from `ready`; none if it all turned out to be gone.
    ///
    /// # Errors
    /// A failed read, if nothing else could be given.
    pub(super) fn grant(
        self: &std::sync::Arc<Self>,
        wanted: &Wanted,
        epoch: u64,
        taken: Vec<Candidate>,
    ) -> Result<Vec<Lease>, Error> {
        let popped = taken.len();
        let now = self.parts.port.now();
        let key = self.parts.keys.newest();
        let sorted = self.sort(wanted, now, taken);
        let mut memory = self.memory.lock();
        if memory.epoch != epoch {
            // Another filter or another term: all of it is judged again.
            return Ok(Vec::new());
        }
        memory.granting -= popped;
        let key = match key {
            Ok(key) => key,
            Err(error) => {
                let given = sorted.given.into_iter().map(|(candidate, _)| candidate);
                sorted.back.into_iter().chain(sorted.dead).chain(given).for_each(|back| memory.put_back(back));
                return Err(error);
            }
        };
        sorted.back.into_iter().for_each(|back| memory.put_back(back));
        let endings = self.bury(&mut memory, sorted.dead);
        let leases = self.note(&mut memory, wanted, now, &key, sorted.given);
        let more = !memory.ready.is_empty();
        drop(memory);
        if more {
            self.signal.wake();
        }
        if let Some(endings) = endings {
            self.end_in_background(endings);
        }
        match sorted.failed {
            Some(error) if leases.is_empty() => Err(error),
            _ => Ok(leases),
        }
    }

    /// Reads the candidates' records.
    pub(super) fn sort(&self, wanted: &Wanted, now: Timestamp, taken: Vec<Candidate>) -> Sorted {
        let mut sorted = Sorted::default();
        let (mut bytes, mut full) = (0, false);
        for candidate in taken {
            if full {
                sorted.back.push(candidate);
                continue;
            }
            match self.read_candidate(&candidate, now) {
                Ok(Some(record)) if !sorted.given.is_empty() && bytes + record.body.len() > wanted.bytes => {
                    full = true;
                    sorted.back.push(candidate);
                }
                Ok(Some(record)) => {
                    bytes += record.body.len();
                    sorted.given.push((candidate, record));
                }
                Ok(None) => sorted.dead.push(candidate),
                Err(error) => {
                    sorted.failed = Some(error);
                    full = true;
                    sorted.back.push(candidate);
                }
            }
        }
        sorted
    }

    /// The record of a candidate; `None` if it expired or its retention ended.
    fn read_candidate(&self, candidate: &Candidate, now: Timestamp) -> Result<Option<Record>, Error> {
        if candidate.expires_at.is_some_and(|expires| expires <= now) {
            return Ok(None);
        }
        // What waits for another attempt is owed; the rest goes with its queue's first offset.
        if candidate.attempt == 1 && candidate.offset < self.earliest(candidate.topic, candidate.queue) {
            return Ok(None);
        }
        let record = match self.parts.port.record(&candidate.entry) {
            Ok(record) => record,
            Err(ReadError::Expired { .. } | ReadError::Gone) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if candidate.expires_at.is_none() && candidate.entry.flags & FLAG_TTL != 0 {
            let expires = candidate.entry.stamp.plus_ms(head(&record.head)?.ttl_ms);
            return Ok((expires > now).then_some(record));
        }
        Ok(Some(record))
    }

    fn earliest(&self, topic: TopicId, queue: QueueId) -> u64 {
        self.parts.port.state().ends(topic, queue).earliest
    }

    /// Settles what will never be leased: fresh messages are skipped, retries acked by the broker itself.
    fn bury(&self, memory: &mut Memory, dead: Vec<Candidate>) -> Option<Endings> {
        let mut items = Vec::new();
        for candidate in dead {
            if candidate.attempt > 1 {
                items.push(SettleItem { lease: candidate.lease_ref(), op: SettleOp::Ack });
            } else {
                let Candidate { topic, queue, offset, .. } = candidate;
                memory.note_skipped(topic, queue, offset, offset + 1);
            }
        }
        if items.is_empty() {
            return None;
        }
        let mut endings = Endings::begin(memory)?;
        endings.settle = items;
        Some(endings)
    }

    /// Notes the leases, but of what was settled meanwhile.
    fn note(
        &self,
        memory: &mut Memory,
        wanted: &Wanted,
        now: Timestamp,
        key: &Key,
        given: Vec<(Candidate, Record)>,
    ) -> Vec<Lease> {
        let Some(view) = &memory.view else { return Vec::new() };
        let (tenant, term) = (view.tenant, view.term);
        let lease_ms = wanted.lease_ms.unwrap_or(view.lease_ms);
        let expires = now.plus_ms(lease_ms.min(limits::LEASE_MS_MAX));
        let names: Vec<_> = given.iter().map(|(c, _)| view.topic(c.topic).map(|topic| topic.name.clone())).collect();
        let mut leases = Vec::with_capacity(given.len());
        for ((candidate, record), topic) in given.into_iter().zip(names) {
            let Some(topic) = topic.filter(|_| self.is_current(&candidate)) else { continue };
            let session = memory.next_session();
            let (shard, place, entry) = (self.parts.port.id(), candidate.place(), candidate.entry);
            let offset = QueueOffset(candidate.offset);
            let receipt = Receipt {
                shard,
                tenant,
                group: self.id,
                topic: candidate.topic,
                queue: candidate.queue,
                offset,
                attempt: candidate.attempt,
                term,
                session,
                expires,
            };
            let id = id_of(shard, &entry, &record);
            leases.push(Lease {
                receipt: receipt.seal(key),
                expires_at: expires,
                attempt: candidate.attempt.saturating_sub(candidate.base),
                message: StoredMessage { id, topic, offset, stored_at: entry.stamp, record },
            });
            let client = wanted.client.clone();
            let lease = LeaseMemory { session, expires, delivered_at: now, client, candidate, expiring: false };
            memory.leases.insert(place, lease);
            memory.expiries.push(std::cmp::Reverse((expires, place, session)));
        }
        memory.compact_expiries();
        leases
    }

    /// False if a message was settled since it was judged, or its retry row went on.
    pub(super) fn is_current(&self, candidate: &Candidate) -> bool {
        let (topic, queue, offset) = (candidate.topic, candidate.queue, QueueOffset(candidate.offset));
        if candidate.attempt > 1 {
            let row = self.parts.port.retry(self.id, topic, queue, offset);
            return row.is_ok_and(|row| row.is_some_and(|row| row.attempt == candidate.attempt));
        }
        let state = self.parts.port.state();
        !state.cursor(self.id, topic, queue).is_some_and(|cursor| cursor.is_settled(offset))
    }
}

impl Candidate {
    pub(super) fn lease_ref(&self) -> LeaseRef {
        LeaseRef { topic: self.topic.0, queue: self.queue.0, offset: self.offset, attempt: self.attempt }
    }
}
