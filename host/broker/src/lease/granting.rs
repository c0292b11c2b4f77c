//! Leases of groups that keep an order: written to the log before they are answered.
//!
//! The record is written by a task of its own, so a call that is dropped does not lose what the log already says. What
//! then was leased and reaches nobody is given back at once, uncounted.

use std::cmp::Reverse;
use std::sync::Arc;

use pointsman_model::record::{Header, Record, kind};
use pointsman_model::{QueueOffset, TenantId, Term, Timestamp, limits};
use pointsman_state_machine::command::{Durability, Grant, LeaseRef, SettleItem, SettleOp};
use pointsman_state_machine::outcome::{Outcome, Refusal};
use tokio::sync::oneshot;

use super::ending::{DEADLINE, Endings};
use super::memory::{Candidate, LeaseMemory, Place};
use super::{GroupRuntime, Wanted};
use crate::batcher::{Answer, Request};
use crate::error::Error;
use crate::lookup::id_of;
use crate::receipt::Receipt;
use crate::signing::Key;
use crate::view::{Lease, StoredMessage};

/// Leases on their way to whoever asked. Dropped before they arrive, they are given back.
pub(crate) struct Handover {
    group: Arc<GroupRuntime>,
    leases: Vec<Lease>,
    given: Vec<Given>,
}

/// A lease that the log has: its message and its session.
pub(crate) type Given = (Place, u64);

impl Handover {
    /// They have arrived.
    pub(crate) fn take(mut self) -> Vec<Lease> {
        self.given.clear();
        std::mem::take(&mut self.leases)
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if !self.given.is_empty() {
            self.group.give_back_unseen(&self.given);
        }
    }
}

/// A grant that is about to be written.
struct Draft {
    epoch: u64,
    tenant: TenantId,
    term: Term,
    header: Header,
    expires: Timestamp,
    client: Option<Arc<str>>,
    key: Key,
    /// The session of each.
    messages: Vec<(Candidate, Record, u64)>,
}

impl GroupRuntime {
    /// Leases what was taken from the lanes; none if all of it turned out to be gone or taken.
    ///
    /// # Errors
    /// A failed read, if nothing else could be given; a failed write.
    pub(super) async fn grant_ordered(
        self: &Arc<Self>,
        wanted: &Wanted,
        epoch: u64,
        taken: Vec<Candidate>,
    ) -> Result<Vec<Lease>, Error> {
        let Some(draft) = self.draft(wanted, epoch, taken)? else { return Ok(Vec::new()) };
        let (reply, answer) = oneshot::channel();
        let group = Arc::clone(self);
        self.parts.tasks.spawn(async move {
            // Whoever asked may be gone: then what was given is dropped here, and given back.
            let _ = reply.send(group.write_grant(draft).await);
        });
        answer.await.unwrap_or(Err(Error::OutcomeUnknown)).map(Handover::take)
    }

    /// Reads the bodies of what was taken, and puts back what is not leased now.
    fn draft(self: &Arc<Self>, wanted: &Wanted, epoch: u64, taken: Vec<Candidate>) -> Result<Option<Draft>, Error> {
        let popped = taken.len();
        let now = self.parts.port.now();
        let key = self.parts.keys.newest();
        let sorted = self.sort(wanted, now, taken);
        let mut memory = self.memory.lock();
        if memory.epoch != epoch {
            return Ok(None);
        }
        let (mut given, mut back) = (sorted.given, sorted.back);
        let key = key.inspect_err(|_| back.extend(given.drain(..).map(|(candidate, _)| candidate)));
        memory.granting -= popped - given.len();
        for candidate in back {
            memory.wait_again(self.id, &self.parts, candidate, now);
        }
        for dead in sorted.dead {
            if let Some(lane) = memory.lane_of(dead.place(), &dead.entry) {
                memory.bury_ordered(self.id, &self.parts, dead.place(), lane, now);
            }
        }
        let Some(view) = memory.view.as_ref().filter(|_| !given.is_empty()) else {
            return sorted.failed.map_or(key.map(|_| None), Err);
        };
        let (tenant, term) = (view.tenant, view.term);
        let lease_ms = wanted.lease_ms.unwrap_or(view.lease_ms).min(limits::LEASE_MS_MAX);
        let header = Header { kind: kind::GRANT, tenant, generation: view.generation, ..Header::default() };
        let messages = given.into_iter().map(|(candidate, record)| {
            let session = memory.next_session();
            (candidate, record, session)
        });
        let messages = messages.collect();
        let client = wanted.client.clone();
        Ok(Some(Draft { epoch, tenant, term, header, expires: now.plus_ms(lease_ms), client, key: key?, messages }))
    }

    /// Writes a grant, and notes what came of it.
    async fn write_grant(self: Arc<Self>, draft: Draft) -> Result<Handover, Error> {
        let deadline = crate::call::now() + DEADLINE;
        let head = Grant {
            group: self.id.0,
            until: draft.expires.0,
            client_id: draft.client.as_deref().map(str::to_owned),
            items: draft.messages.iter().map(|(candidate, _, session)| (candidate.lease_ref(), *session)).collect(),
        };
        let request = Request { tenant: draft.tenant, term: draft.term, deadline, ack: Durability::Quorum };
        let submitted = self.parts.batcher.submit(request, 0, |writer| writer.write(&draft.header, &head, &[]));
        let answer = match submitted {
            Ok(ticket) => self.parts.batcher.wait(ticket, deadline).await,
            Err(error) => Err(error),
        };
        let noted = self.note_granted(draft, answer);
        // Others may have waited for what was not given.
        self.signal.wake();
        noted
    }

    fn note_granted(self: &Arc<Self>, draft: Draft, answer: Result<Answer, Error>) -> Result<Handover, Error> {
        let outcome = answer.as_ref().map(|answer| answer.outcomes().first());
        let granted = match &outcome {
            Ok(Some(Outcome::Granted(granted))) => granted.clone(),
            _ => Vec::new(),
        };
        let stamp = answer.as_ref().map_or_else(|_| self.parts.port.now(), |answer| answer.entry.stamp);
        let (mut failed, mut orphans) = (None, Vec::new());
        let mut handover = Handover { group: Arc::clone(self), leases: Vec::new(), given: Vec::new() };
        let mut memory = self.memory.lock();
        if memory.view.as_ref().map(|view| view.term) != Some(draft.term) {
            // The leader of the new term finds them in their rows.
            return Err(Error::NoLeader);
        }
        let current = memory.epoch == draft.epoch;
        if current {
            memory.granting -= draft.messages.len();
        }
        for (i, (candidate, record, session)) in draft.messages.into_iter().enumerate() {
            let place = candidate.place();
            let is_granted = granted.get(i) == Some(&true);
            if !current {
                // The lanes are new and know nothing of it: nobody gets it now.
                if is_granted {
                    orphans.push((place, session));
                }
                continue;
            }
            let topic = memory.view.as_ref().and_then(|view| view.topic(place.0)).map(|topic| topic.name.clone());
            let Some(topic) = topic.filter(|_| is_granted) else {
                if let Some(lane) = memory.lane_of(place, &candidate.entry) {
                    memory.end_in_lane(self.id, &self.parts, lane, stamp);
                }
                failed = memory.sync(self.id, &self.parts, place, stamp).err().or(failed);
                continue;
            };
            let receipt = Receipt {
                shard: self.parts.port.id(),
                tenant: draft.tenant,
                group: self.id,
                topic: place.0,
                queue: place.1,
                offset: QueueOffset(place.2),
                attempt: candidate.attempt,
                term: draft.term,
                session,
                expires: draft.expires,
            };
            let entry = candidate.entry;
            let id = id_of(receipt.shard, &entry, &record);
            handover.leases.push(Lease {
                receipt: receipt.seal(&draft.key),
                expires_at: draft.expires,
                attempt: candidate.attempt.saturating_sub(candidate.base),
                message: StoredMessage { id, topic, offset: receipt.offset, stored_at: entry.stamp, record },
            });
            handover.given.push((place, session));
            let (client, expires) = (draft.client.clone(), draft.expires);
            let lease = LeaseMemory { session, expires, delivered_at: stamp, client, candidate, expiring: false };
            memory.leases.insert(place, lease);
            memory.expiries.push(Reverse((expires, place, session)));
        }
        memory.compact_expiries();
        drop(memory);
        self.give_back_unseen(&orphans);
        if let Some(error) = failed.filter(|_| handover.leases.is_empty()) {
            return Err(error);
        }
        match outcome {
            Ok(Some(Outcome::Refused(Refusal::Stale(_)) | Outcome::Granted(_))) => Ok(handover),
            Ok(Some(Outcome::Refused(Refusal::GroupNotFound))) => Err(Error::GroupNotFound(String::new())),
            Ok(other) => Err(Error::Internal(format!("a grant came to {other:?}"))),
            Err(error) => Err(error.clone()),
        }
    }

    /// Gives back leases that nobody saw: free at once, and uncounted.
    pub(crate) fn give_back_unseen(self: &Arc<Self>, given: &[Given]) {
        if given.is_empty() {
            return;
        }
        let endings = {
            let mut memory = self.memory.lock();
            let ordered = memory.lanes.is_some();
            let Some(mut endings) = Endings::begin(&memory) else { return };
            for (place, session) in given {
                let known = memory.leases.get(place).filter(|lease| lease.session == *session);
                let known = known.map(|lease| lease.candidate.lease_ref());
                if !ordered {
                    if let Some(lease) = known.and_then(|_| memory.leases.remove(place)) {
                        memory.put_back(lease.candidate);
                    }
                } else if let Some(lease) = known.or_else(|| self.granted(*place, *session)) {
                    endings.settle.push(SettleItem { lease, op: SettleOp::Release(0) });
                }
            }
            endings
        };
        self.wake();
        if !endings.is_empty() {
            self.end_in_background(endings);
        }
    }

    /// The delivery that the log has in that session.
    fn granted(&self, (topic, queue, offset): Place, session: u64) -> Option<LeaseRef> {
        let row = self.parts.port.held(self.id, topic, queue, QueueOffset(offset)).ok()??;
        let is_it = row.grant.is_some_and(|grant| grant.session == session);
        is_it.then_some(LeaseRef { topic: topic.0, queue: queue.0, offset, attempt: row.attempt })
    }
}
