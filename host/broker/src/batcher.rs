//! The batcher of one shard: many requests, one entry.
//!
//! A request's records are written straight into the open entry, in the order of the calls. With fewer than
//! [`ENTRIES_PIPELINED_MAX`] entries under way the open one is proposed at once, so nothing waits when idle; else it
//! collects until one of them is answered or [`limits::ENTRY_BYTES_TARGET`] is reached. All records of a request lie in
//! one entry. Bytes proposed or collected and not yet answered are bounded, and one tenant holds at most half.
//!
//! The log takes only so much at once; past that, requests wait in a lane a tenant ([`lanes`]) and fill the next entries
//! by deficit round robin. While several tenants write the log takes less at once, so that one with a little to say does
//! not wait behind the heap of one with much. A tenant alone has the whole of it, and no lane unless the log is behind.
//!
//! INVARIANT: entries are proposed under the lock, and the requests of a tenant lie in them in their order.

mod early;
mod entry;
mod lanes;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pointsman_model::{LogIndex, TenantId, Term, limits};
use pointsman_state_machine::Outcome;
use pointsman_state_machine::command::{self, Durability};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

pub(crate) use early::Early;
use early::EarlyWaiters;
pub(crate) use entry::RecordWriter;
use entry::{Mark, OpenEntry, Waiter};
use lanes::{Lanes, Next};

use crate::error::Error;
use crate::ports::{Committed, Proposal, ProposeError, Shard};

/// Entries under way past which small ones collect: one is on the disk, the next is behind it. Four were no faster.
const ENTRIES_PIPELINED_MAX: usize = 2;
/// Bytes proposed at once while one tenant writes: as many as one sync takes.
const PROPOSED_BYTES_MAX: usize = limits::GROUP_COMMIT_BYTES_MAX;
/// Bytes proposed at once while several tenants write: what the last of them waits for.
const PROPOSED_BYTES_SHARED_MAX: usize = 512 << 10;
/// How long a tenant counts as writing after its last request.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// Proposes the entries of one shard.
pub(crate) struct Batcher {
    shard: Arc<dyn Shard>,
    tasks: TaskTracker,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    open: OpenEntry,
    /// Requests that neither the log nor the open entry takes now.
    lanes: Lanes,
    /// Entries proposed and not answered.
    entries: usize,
    /// Their bytes.
    proposed_bytes: usize,
    /// Who wrote last, and until when the log is shared because someone else did before.
    last_tenant: Option<TenantId>,
    shared_until: Option<Instant>,
    /// Bytes collected or proposed, and not answered.
    bytes: usize,
    bytes_of: HashMap<TenantId, usize>,
    last_ticket: u64,
    /// No more requests: the broker stops.
    closed: bool,
}

/// Who asks for an entry's records, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Whose share of the bytes it takes.
    pub(crate) tenant: TenantId,
    /// The term in which its records were decided.
    pub(crate) term: Term,
    /// Not proposed after this.
    pub(crate) deadline: Instant,
    /// Anything weaker than quorum is told early, too.
    pub(crate) ack: Durability,
}

/// Something that is dropped once a request's records are applied or surely never are.
pub(crate) type Held = Arc<dyn std::any::Any + Send + Sync>;

/// A request that lies in an entry.
pub(crate) struct Ticket {
    number: u64,
    answer: oneshot::Receiver<Result<Answer, Error>>,
    /// Hears of the entry before it is committed, if a weaker ack was asked for.
    pub(crate) early: Option<oneshot::Receiver<Result<Early, Error>>>,
}

/// The records of a request in a committed entry.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) entry: Arc<Committed>,
    records: Range<u32>,
}

impl Answer {
    /// The place of its first record.
    pub(crate) fn place(&self) -> command::Place {
        let ordinal = u16::try_from(self.records.start).unwrap_or(u16::MAX);
        command::Place { term: self.entry.term.0, index: self.entry.index.0, ordinal }
    }

    /// One outcome a record, in the order they were written.
    pub(crate) fn outcomes(&self) -> &[Outcome] {
        self.entry.outcomes.get(self.records.start as usize..self.records.end as usize).unwrap_or_default()
    }
}

impl Batcher {
    pub(crate) fn new(shard: Arc<dyn Shard>, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self { shard, tasks, queue: Mutex::default() })
    }

    /// Puts the records that `write` writes into an entry.
    ///
    /// # Errors
    /// [`Error::Overloaded`] past the bounds, [`Error::Draining`] when the broker stops: surely not proposed.
    pub(crate) fn submit(
        self: &Arc<Self>,
        request: Request,
        body_bytes: usize,
        write: impl FnOnce(&mut RecordWriter<'_>),
    ) -> Result<Ticket, Error> {
        self.submit_held(request, None, body_bytes, write)
    }

    /// The same, and keeps `hold` until the records are applied or surely never are.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub(crate) fn submit_held(
        self: &Arc<Self>,
        request: Request,
        hold: Option<Held>,
        body_bytes: usize,
        write: impl FnOnce(&mut RecordWriter<'_>),
    ) -> Result<Ticket, Error> {
        let (reply, answer) = oneshot::channel();
        let (early_reply, early) = match request.ack {
            Durability::Quorum => (None, None),
            Durability::Leader | Durability::None => {
                let (reply, early) = oneshot::channel();
                (Some((request.ack, reply)), Some(early))
            }
        };
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(Error::Draining);
        }
        // Not even tried: copying what will not fit would cost those that wait for the lock.
        queue.check_room(request.tenant, body_bytes)?;
        queue.note_writer(request.tenant);
        let number = queue.last_ticket + 1;
        let (tenant, deadline) = (request.tenant, request.deadline);
        let waiter = |records, bytes| Waiter {
            ticket: number,
            tenant,
            bytes,
            records,
            deadline,
            reply,
            early: early_reply,
            _hold: hold,
        };
        let full = queue.open.bytes() >= limits::ENTRY_BYTES_TARGET;
        let closed = !queue.open.is_empty() && (queue.open.term != request.term || !queue.open.takes(body_bytes));
        if queue.lanes.has(tenant) || ((full || closed) && !queue.log_takes_more()) {
            let mut alone = OpenEntry::of_term(request.term);
            write(&mut RecordWriter::new(&mut alone));
            queue.check_room(tenant, alone.bytes())?;
            queue.take_room(tenant, alone.bytes());
            queue.last_ticket = number;
            alone.finish(&Mark::default(), waiter);
            queue.lanes.push(tenant, alone);
            return Ok(Ticket { number, answer, early });
        }
        if closed {
            self.propose(&mut queue);
        }
        queue.open.term = request.term;
        let mut before = queue.open.mark();
        write(&mut RecordWriter::new(&mut queue.open));
        if !queue.open.within_records_max() && before.count > 0 {
            // Only now is it known that the records do not fit beside those before; they go into the next entry.
            let moved = queue.open.split_off(&before);
            self.propose(&mut queue);
            queue.open = moved;
            before = Mark::default();
        }
        let bytes = queue.open.bytes_since(&before);
        if let Err(refused) = queue.check_room(request.tenant, bytes) {
            queue.open.rewind(&before);
            return Err(refused);
        }
        queue.take_room(tenant, bytes);
        queue.last_ticket = number;
        queue.open.finish(&before, waiter);
        self.advance(&mut queue);
        Ok(Ticket { number, answer, early })
    }

    /// Waits for the outcome of a request.
    ///
    /// # Errors
    /// Why it has none. Past the deadline: [`Error::Overloaded`] if it was surely not proposed, else
    /// [`Error::OutcomeUnknown`].
    pub(crate) async fn wait(&self, ticket: Ticket, deadline: Instant) -> Result<Answer, Error> {
        let number = ticket.number;
        match tokio::time::timeout_at(deadline.into(), ticket.answer).await {
            Ok(answer) => answer.unwrap_or(Err(Error::OutcomeUnknown)),
            Err(_) if self.queue.lock().withdraw(number) => Err(past_deadline()),
            Err(_) => Err(Error::OutcomeUnknown),
        }
    }

    /// Takes no more requests; those that wait are proposed.
    pub(crate) fn close(self: &Arc<Self>) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        loop {
            queue.fill();
            if queue.open.is_empty() {
                return;
            }
            self.propose(&mut queue);
        }
    }

    /// Proposes what the log takes now.
    fn advance(self: &Arc<Self>, queue: &mut Queue) {
        loop {
            // What waits in lanes behind an entry that is not full wants another.
            let complete = queue.fill() || queue.open.bytes() >= limits::ENTRY_BYTES_TARGET;
            let goes = queue.entries < ENTRIES_PIPELINED_MAX || (complete && queue.log_takes_more());
            if queue.open.is_empty() || !goes {
                return;
            }
            self.propose(queue);
        }
    }

    /// Proposes the open entry, without the requests whose deadline has passed.
    fn propose(self: &Arc<Self>, queue: &mut Queue) {
        let mut entry = queue.open.take();
        for late in entry.drop_late(crate::call::now()) {
            queue.give_room_back(&late);
            // Whoever withdrew it hears it twice and listens once.
            let _ = late.reply.send(Err(past_deadline()));
        }
        if entry.is_empty() {
            return;
        }
        let early = EarlyWaiters::of(&mut entry.waiters);
        let (reply, answer) = oneshot::channel();
        queue.entries += 1;
        let (records, buffer) = entry.freeze();
        let bytes = records.len();
        queue.proposed_bytes += bytes;
        queue.open.collect_in(buffer);
        let (count, records_crc, term) = (entry.count(), entry.crc(), entry.term);
        let heard = early.clone().map(|early| early as Arc<dyn crate::ports::EarlyAck>);
        self.shard.propose(Proposal { term, count, records, records_crc, early: heard }, reply);
        let batcher = Arc::clone(self);
        let waiters = entry.waiters;
        self.tasks.spawn(async move {
            let result = answer.await.unwrap_or(Err(ProposeError::OutcomeUnknown));
            batcher.finish(result, bytes, waiters, early.as_deref());
        });
    }

    /// Starts the next entry, then tells everyone what became of this one.
    fn finish(
        self: &Arc<Self>,
        result: Result<Committed, ProposeError>,
        bytes: usize,
        waiters: Vec<Waiter>,
        early: Option<&EarlyWaiters>,
    ) {
        {
            let mut queue = self.queue.lock();
            queue.entries -= 1;
            queue.proposed_bytes -= bytes;
            waiters.iter().for_each(|waiter| queue.give_room_back(waiter));
            self.advance(&mut queue);
        }
        let result = result.map(Arc::new).map_err(Error::from);
        if let Some(early) = early {
            early.finish(&result);
        }
        for waiter in waiters {
            let answer = result.clone().map(|entry| Answer { entry, records: waiter.records });
            // A caller that went away needs no answer.
            let _ = waiter.reply.send(answer);
        }
    }
}

impl Queue {
    /// Takes note of who writes.
    fn note_writer(&mut self, tenant: TenantId) {
        if let Some(last) = self.last_tenant.replace(tenant)
            && last != tenant
        {
            self.shared_until = Some(crate::call::now() + SHARED_FOR);
        }
    }

    /// True if the log may take one more entry beside those under way.
    fn log_takes_more(&mut self) -> bool {
        if self.entries < ENTRIES_PIPELINED_MAX || self.proposed_bytes < PROPOSED_BYTES_SHARED_MAX {
            return true;
        }
        if self.shared_until.is_some_and(|until| until <= crate::call::now()) {
            self.shared_until = None;
        }
        self.shared_until.is_none() && self.proposed_bytes < PROPOSED_BYTES_MAX
    }

    /// Moves waiting requests into the open entry, by turns, until it is long enough. True if more wait.
    fn fill(&mut self) -> bool {
        while self.open.bytes() < limits::ENTRY_BYTES_TARGET {
            match self.lanes.next(|request| self.open.accepts(request)) {
                Next::Request(request) => self.open.absorb(request),
                Next::Full => return true,
                Next::Empty => return false,
            }
        }
        !self.lanes.is_empty()
    }

    /// Marks a request as not to be proposed; false if it is proposed already.
    fn withdraw(&mut self, ticket: u64) -> bool {
        self.open.withdraw(ticket) || self.lanes.withdraw(ticket)
    }

    /// One request of a tenant always fits, whatever its size.
    fn check_room(&self, tenant: TenantId, bytes: usize) -> Result<(), Error> {
        let held = self.bytes_of.get(&tenant).copied().unwrap_or_default();
        if held > 0 && held + bytes > limits::SHARD_INFLIGHT_BYTES_MAX / 2 {
            return Err(Error::Overloaded("the tenant's share of the shard is used up".into()));
        }
        if self.bytes > 0 && self.bytes + bytes > limits::SHARD_INFLIGHT_BYTES_MAX {
            return Err(Error::Overloaded("the shard has as much under way as it may".into()));
        }
        Ok(())
    }

    fn take_room(&mut self, tenant: TenantId, bytes: usize) {
        self.bytes += bytes;
        *self.bytes_of.entry(tenant).or_default() += bytes;
    }

    fn give_room_back(&mut self, waiter: &Waiter) {
        let bytes = waiter.bytes.len();
        self.bytes -= bytes;
        if let Some(held) = self.bytes_of.get_mut(&waiter.tenant) {
            *held -= bytes;
            if *held == 0 {
                self.bytes_of.remove(&waiter.tenant);
            }
        }
    }
}

/// The refusal of what was surely not proposed in time.
pub(crate) fn past_deadline() -> Error {
    Error::Overloaded("the deadline passed before it was proposed".into())
}

/// Where an entry has its place in the log.
pub(crate) type Place = (Term, LogIndex);

#[cfg(test)]
mod tests;
