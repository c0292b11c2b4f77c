//! Lease calls with an `Idempotency-Key`: an answer that got lost is given again while one of its leases runs.

use pointsman_model::{QueueOffset, Timestamp, limits};

use super::memory::{Candidate, Memory};
use super::{Given, GroupRuntime};
use crate::error::Error;
use crate::lookup::id_of;
use crate::view::{Lease, StoredMessage};

/// One lease of an answer, without its body.
#[derive(Clone)]
struct Answered {
    given: Given,
    receipt: String,
    expires_at: Timestamp,
    candidate: Candidate,
}

/// The answer to a lease call.
pub(super) struct Replay {
    leases: Vec<Answered>,
}

impl Replay {
    fn runs(&self, memory: &Memory) -> bool {
        self.leases.iter().any(|lease| memory.runs(&lease.given))
    }
}

impl GroupRuntime {
    /// The answer that was given to this key, if one of its leases runs.
    pub(super) fn answered_before(&self, key: &str) -> Result<Option<Vec<Lease>>, Error> {
        let found = {
            let memory = self.memory.lock();
            let replay = memory.replays.get(key).filter(|replay| replay.runs(&memory));
            let Some(replay) = replay else { return Ok(None) };
            let named = |lease: &Answered| {
                let topic = memory.view.as_ref()?.topic(lease.candidate.topic)?.name.clone();
                // Extended meanwhile, perhaps.
                let runs = memory.leases.get(&lease.given.0).filter(|held| held.session == lease.given.1);
                let expires_at = runs.map_or(lease.expires_at, |held| held.expires);
                Some((Answered { expires_at, ..lease.clone() }, topic))
            };
            replay.leases.iter().filter_map(named).collect::<Vec<_>>()
        };
        let leases = found.into_iter().map(|(Answered { receipt, expires_at, candidate, .. }, topic)| {
            let record = self.parts.port.record(&candidate.entry)?;
            let (id, offset) = (id_of(self.parts.port.id(), &candidate.entry, &record), QueueOffset(candidate.offset));
            let attempt = candidate.attempt.saturating_sub(candidate.base);
            let message = StoredMessage { id, topic, offset, stored_at: candidate.entry.stamp, record };
            Ok(Lease { receipt, expires_at, attempt, message })
        });
        leases.collect::<Result<Vec<_>, Error>>().map(Some)
    }

    /// Remembers an answer. Past the bound those that are over are forgotten, and then this one is not kept.
    pub(super) fn note_answer(&self, key: &str, leases: &[Lease]) {
        let given: Vec<_> = leases.iter().map(|lease| self.given(lease)).collect();
        let mut memory = self.memory.lock();
        if memory.replays.len() >= limits::LEASE_REPLAYS_MAX {
            let mut replays = std::mem::take(&mut memory.replays);
            replays.retain(|_, replay| replay.runs(&memory));
            memory.replays = replays;
            if memory.replays.len() >= limits::LEASE_REPLAYS_MAX {
                return;
            }
        }
        let answered = leases.iter().zip(given).filter_map(|(lease, given)| {
            let given = given?;
            let candidate = memory.leases.get(&given.0)?.candidate.clone();
            Some(Answered { given, receipt: lease.receipt.clone(), expires_at: lease.expires_at, candidate })
        });
        let replay = Replay { leases: answered.collect() };
        memory.replays.insert(key.to_owned(), replay);
    }
}
