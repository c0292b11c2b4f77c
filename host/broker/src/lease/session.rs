//! What a group remembers of its streams: who is there, and whose leases are about to end.
//!
//! When a client hangs up, what was written to it ends within [`limits::STREAM_HANGUP_MS`], unless a stream of the same
//! `client_id` is open by then: that one takes the leases over, as they were.

use std::cmp::Reverse;
use std::sync::Arc;

use pointsman_model::{QueueOffset, Timestamp, limits};

use super::GroupRuntime;
use super::granting::Given;
use super::memory::Memory;
use crate::receipt::Receipt;
use crate::view::Lease;

/// A lease whose client hung up, and when it would have ended.
pub(super) struct Orphan {
    given: Given,
    expires: Timestamp,
}

impl Memory {
    pub(super) fn runs(&self, (place, session): &Given) -> bool {
        self.leases.get(place).is_some_and(|lease| lease.session == *session && !lease.expiring)
    }

    /// Forgets clients whose leases are over.
    pub(super) fn forget_orphans(&mut self) {
        let mut orphans = std::mem::take(&mut self.orphans);
        for of_client in orphans.values_mut() {
            of_client.retain(|orphan| self.runs(&orphan.given));
        }
        orphans.retain(|_, of_client| !of_client.is_empty());
        self.orphans = orphans;
    }

    fn end_at(&mut self, (place, session): Given, expires: Timestamp) {
        if let Some(lease) = self.leases.get_mut(&place) {
            lease.expires = expires;
            self.expiries.push(Reverse((expires, place, session)));
        }
    }
}

impl GroupRuntime {
    /// A client opened a stream. Answers the leases that it takes over.
    pub(crate) fn come_back(&self, client: Option<&Arc<str>>) -> Vec<Given> {
        let Some(client) = client else { return Vec::new() };
        *self.streams.lock().entry(Arc::clone(client)).or_default() += 1;
        let mut memory = self.memory.lock();
        let orphans = memory.orphans.remove(client).unwrap_or_default();
        let mut taken = Vec::with_capacity(orphans.len());
        for Orphan { given, expires } in orphans {
            if memory.runs(&given) {
                memory.end_at(given, expires);
                taken.push(given);
            }
        }
        taken
    }

    /// A client's stream is over. With `hung_up` what was written to it ends soon.
    pub(crate) fn leave(&self, client: Option<&Arc<str>>, written: &[Given], hung_up: bool) {
        let still_there = client.is_some_and(|client| {
            let mut streams = self.streams.lock();
            let left = streams.get(client).copied().unwrap_or_default().saturating_sub(1);
            if left == 0 {
                streams.remove(client);
            } else {
                streams.insert(Arc::clone(client), left);
            }
            left > 0
        });
        if !hung_up || still_there {
            return;
        }
        let soon = self.parts.port.now().plus_ms(limits::STREAM_HANGUP_MS);
        let mut memory = self.memory.lock();
        let mut orphans = Vec::new();
        for given in written {
            let Some(expires) = memory.leases.get(&given.0).map(|lease| lease.expires) else { continue };
            if memory.runs(given) && soon < expires {
                memory.end_at(*given, soon);
                orphans.push(Orphan { given: *given, expires });
            }
        }
        if let Some(client) = client.filter(|_| !orphans.is_empty()) {
            memory.orphans.entry(Arc::clone(client)).or_default().extend(orphans);
        }
    }

    /// Forgets those that ended, and counts the others.
    pub(crate) fn running(&self, given: &mut Vec<Given>) -> usize {
        let memory = self.memory.lock();
        given.retain(|given| memory.runs(given));
        given.len()
    }

    /// What a lease is in memory.
    pub(crate) fn given(&self, lease: &Lease) -> Option<Given> {
        let Receipt { topic, queue, offset: QueueOffset(offset), session, .. } =
            Receipt::open(&lease.receipt, &self.parts.keys)?;
        Some(((topic, queue, offset), session))
    }
}
