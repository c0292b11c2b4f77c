//! The way of a proposal into the log and of its outcome back.
//!
//! One mutex orders everything: the stamp is given and the entry handed to openraft under it, so stamps grow with
//! indexes. Nothing waits: openraft's channel is longer than what may be in flight. Everything in a proposal was
//! decided in one term, and openraft refuses it in another (`with_leader`).

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use parking_lot::Mutex;
use pointsman_broker::ports::{Committed, Proposal, ProposeError};
use pointsman_model::time::{SharedClock, Stamper};
use pointsman_model::{LogIndex, Term, Timestamp, limits, record};

use super::answers::{Answer, Answers};
use super::{Raft, SEGMENT_OVERHEAD_BYTES};
use crate::core::Core;
use crate::entry::{Batch, Promise, Ticket};
use crate::raft_types::Types;
use crate::reply::Reply;

/// Entries of a shard not yet answered. Far below openraft's channel of 65,536, so that handing one over never waits.
const INFLIGHT_ENTRIES_MAX: usize = 16_384;

/// Proposes entries in order.
pub(super) struct Proposer {
    raft: Raft,
    core: Arc<Core>,
    clock: SharedClock,
    segment_bytes: u64,
    inflight: Arc<Inflight>,
    answers: Arc<Answers>,
    /// Record bytes handed to openraft and not yet to the log.
    promised: Arc<AtomicUsize>,
    /// The term that stamps are given for, and who gives them. Held while an entry is handed over.
    stamper: Mutex<(Term, Stamper)>,
}

/// What is proposed and not yet answered.
#[derive(Default)]
struct Inflight {
    entries: AtomicUsize,
    bytes: AtomicUsize,
}

/// Gives its share of [`Inflight`] back.
struct Share {
    inflight: Arc<Inflight>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.inflight.entries.fetch_sub(1, Ordering::Relaxed);
        self.inflight.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Inflight {
    /// A share, unless too much is under way. One entry always fits, whatever its size.
    fn take(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        let entries = self.entries.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let share = Share { inflight: Arc::clone(self), bytes };
        let fits = before == 0 || before + bytes <= limits::SHARD_INFLIGHT_BYTES_MAX;
        (entries < INFLIGHT_ENTRIES_MAX && fits).then_some(share)
    }
}

impl Proposer {
    pub(super) fn new(raft: Raft, core: Arc<Core>, clock: SharedClock, segment_bytes: u64) -> Self {
        let stamper = Stamper::anchored(core.log.last_stamp(), &*clock);
        Self {
            raft,
            core,
            clock,
            segment_bytes,
            inflight: Arc::default(),
            answers: Arc::default(),
            promised: Arc::default(),
            stamper: Mutex::new((Term(0), stamper)),
        }
    }

    /// The answers that proposals wait for.
    pub(super) fn answers(&self) -> Arc<Answers> {
        Arc::clone(&self.answers)
    }

    /// The stamp of an entry proposed now.
    pub(super) fn now(&self) -> Timestamp {
        let mut stamper = self.stamper.lock();
        self.anchor(&mut stamper);
        stamper.1.stamp(&*self.clock)
    }

    /// In a new term stamps go on from max(the log's tail, the wall clock). Returns the term led now.
    fn anchor(&self, (term, stamper): &mut (Term, Stamper)) -> Option<Term> {
        let led = self.core.leadership.term()?;
        if led != *term {
            // Nothing of this term was proposed yet, so the tail is the last word of the terms before.
            *stamper = Stamper::anchored(self.core.log.last_stamp(), &*self.clock);
            *term = led;
        }
        Some(led)
    }

    pub(super) fn propose(&self, proposal: Proposal, answer: Answer) {
        if let Err((answer, error)) = self.try_propose(proposal, answer) {
            // A caller that went away needs no answer.
            let _ = answer.send(Err(error));
        }
    }

    fn try_propose(&self, proposal: Proposal, answer: Answer) -> Result<(), (Answer, ProposeError)> {
        let bytes = proposal.records.len();
        check_shape(&proposal);
        assert!(proposal.count as usize <= limits::ENTRY_RECORDS_MAX, "an entry of {} records", proposal.count);
        if let Err(error) = self.check_room(bytes) {
            return Err((answer, error));
        }
        let Some(share) = self.inflight.take(bytes) else {
            return Err((answer, ProposeError::Overloaded));
        };
        let mut stamper = self.stamper.lock();
        if self.anchor(&mut stamper) != Some(proposal.term) {
            return Err((answer, ProposeError::NotLeader));
        }
        let ticket = Arc::new(Ticket::new(proposal.early, Promise::new(&self.promised, bytes)));
        let stamp = stamper.1.stamp(&*self.clock);
        let batch = Batch {
            stamp,
            count: proposal.count,
            records_crc: proposal.records_crc,
            records: proposal.records,
            ticket: Some(Arc::clone(&ticket)),
        };
        let (core, answers, number) = (Arc::downgrade(&self.core), self.answers(), self.answers.keep(answer));
        let reply = Reply::new(move |result| {
            drop(share);
            let failure = || core.upgrade().and_then(|core| core.failure());
            answers.answer(number, outcome(result, &ticket, failure));
        });
        let leader = openraft::vote::leader_id_std::CommittedLeaderId::new(proposal.term.0);
        let write = self.raft.write(batch).responder(reply).with_leader(leader);
        // With room in the channel the first poll hands it over; without, dropping it answers through `Reply`. Both
        // need no waiting, and tokio's cooperative budget must not turn the one into the other.
        let _ = tokio::task::unconstrained(write.into_future()).now_or_never();
        Ok(())
    }

    /// Refuses what the log could not take, counting what is on its way there: openraft does not survive a failed
    /// append, so a full disk must be found before.
    fn check_room(&self, bytes: usize) -> Result<(), ProposeError> {
        if let Some(failure) = self.core.failure() {
            return Err(ProposeError::StorageFailed(failure));
        }
        // More than the next segment need not be there yet, but for an entry that is longer.
        let one_segment = usize::try_from(self.segment_bytes - SEGMENT_OVERHEAD_BYTES).unwrap_or(usize::MAX);
        let ahead = self.promised.load(Ordering::Relaxed).saturating_add(bytes).min(one_segment).max(bytes);
        self.core.check_room(ahead).map_err(|error| match error {
            error if error.is_disk_full() => ProposeError::DiskFull,
            error => ProposeError::StorageFailed(error.to_string()),
        })
    }
}

/// A proposal that contradicts itself would end the shard once it is in the log, so it must not get there.
fn check_shape(proposal: &Proposal) {
    let count = record::ranges(&proposal.records).filter(Result::is_ok).count();
    assert!(count == proposal.count as usize, "{count} records proposed as {}", proposal.count);
    assert!(record::records_crc(&proposal.records) == Ok(proposal.records_crc), "a wrong checksum of the records");
}

/// What to tell the caller. `None`: openraft dropped the proposal without a word.
fn outcome(
    result: Option<ClientWriteResult<Types>>,
    ticket: &Ticket,
    failure: impl FnOnce() -> Option<String>,
) -> Result<Committed, ProposeError> {
    match result {
        Some(Ok(response)) => Ok(Committed {
            term: Term(response.log_id.leader_id.term),
            index: LogIndex(response.log_id.index),
            stamp: response.data.stamp,
            outcomes: response.data.outcomes,
        }),
        // Said before an index is given, by a node that does not lead in the proposal's term, has no quorum, or hands
        // over. Not by one that lost an entry it had: that is `LogEntryDiscarded`, and the entry may be committed elsewhere.
        Some(Err(ClientWriteError::ForwardToLeader(_))) if !ticket.is_handed_over() => Err(ProposeError::NotLeader),
        Some(Err(_)) => Err(ProposeError::OutcomeUnknown),
        None if ticket.is_handed_over() => Err(ProposeError::OutcomeUnknown),
        None => Err(failure().map_or(ProposeError::NotLeader, ProposeError::StorageFailed)),
    }
}
