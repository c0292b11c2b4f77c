//! Delayed messages that are due become records at the head of the log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pointsman_model::record::{Header, Record, kind};
use pointsman_model::{Generation, QueueId, TenantId, Term, Timestamp, limits};
use pointsman_state_machine::command::{Cause, Durability, Origin, Placement, PublishHead};
use pointsman_state_machine::outcome::{Outcome, Refusal};
use pointsman_state_machine::state::{Parked, Timer};

use crate::batcher::{Answer, Request};
use crate::error::Error;
use crate::lease::head;
use crate::ports::ReadError;
use crate::shard::ShardParts;

/// Records read before others on the thread have their turn.
const READS_IN_A_ROW: usize = 64;

/// What one round came to.
pub(super) struct Fired {
    /// How late each message that became visible was, ms.
    pub(super) late_ms: Vec<u64>,
    /// Some have to be tried again.
    pub(super) again: bool,
    /// How many cannot be read, and why the last could not. They stay listed: neither lost nor in the others' way.
    pub(super) unreadable: (u64, Option<ReadError>),
}

/// A message on its way, read from the record it is parked in.
struct Ready {
    parked: Parked,
    due: Timestamp,
    record: Record,
}

/// Fires the messages that have been due the longest, as many as one entry a tenant takes.
pub(super) async fn fire(parts: &ShardParts, term: Term) -> Result<Fired, Error> {
    let now = parts.port.now();
    let timers = parts.port.timers_due(now, limits::TIMER_ENTRY_MESSAGES_MAX)?;
    let (mut batches, unreadable) = read(parts, &timers).await?;
    let mut fired = Fired { late_ms: Vec::new(), again: false, unreadable };
    let mut answers = Vec::with_capacity(batches.len());
    for (tenant, batch) in &mut batches {
        match submit(parts, term, *tenant, batch) {
            Ok(Some(ticket)) => answers.push((batch, ticket)),
            Ok(None) => {}
            // The tenant has as much under way as it may; the others have not.
            Err(Error::Overloaded(_)) => fired.again = true,
            Err(error) => return Err(error),
        }
    }
    for (batch, (ticket, deadline)) in answers {
        let answer = parts.batcher.wait(ticket, deadline).await?;
        fired.again |= count(batch, &answer, &mut fired.late_ms);
    }
    Ok(fired)
}

/// Messages by tenant.
type Batches = BTreeMap<TenantId, Vec<Ready>>;

/// The messages of timers, up to the payload of one entry, and how many could not be read.
async fn read(parts: &ShardParts, timers: &[Timer]) -> Result<(Batches, (u64, Option<ReadError>)), Error> {
    let mut batches = Batches::new();
    let (mut bytes, mut unreadable) = (0, (0, None));
    for (i, timer) in timers.iter().enumerate() {
        if (i + 1).is_multiple_of(READS_IN_A_ROW) {
            tokio::task::yield_now().await;
        }
        // Cancelled, changed or delivered since the timers were read.
        let Some(parked) = parts.port.parked(timer.tenant, timer.index, timer.ordinal)? else { continue };
        let Some(due) = parked.deliver_at().filter(|due| *due == timer.due) else { continue };
        let record = match parts.port.record(&parked.entry()) {
            Ok(record) => record,
            Err(error) => {
                unreadable = (unreadable.0 + 1, Some(error));
                continue;
            }
        };
        if bytes > 0 && bytes + record.body.len() > limits::TIMER_ENTRY_BYTES_MAX {
            break;
        }
        bytes += record.body.len();
        batches.entry(timer.tenant).or_default().push(Ready { parked, due, record });
    }
    Ok((batches, unreadable))
}

/// Puts the messages of one tenant into an entry; `None` if their topics are gone.
fn submit(
    parts: &ShardParts,
    term: Term,
    tenant: TenantId,
    batch: &mut Vec<Ready>,
) -> Result<Option<(crate::batcher::Ticket, Instant)>, Error> {
    let mut records: Vec<(Header, PublishHead<'_>, &[u8])> = Vec::with_capacity(batch.len());
    {
        let state = parts.port.state();
        batch.retain(|ready| state.topics.contains_key(&ready.record.header.topic));
        for ready in &*batch {
            let Some(topic) = state.topics.get(&ready.record.header.topic) else { continue };
            let (generation, mut head) = (topic.generation, head(&ready.record.head)?);
            // A topic that grew has moved slots: the message goes where its key's next ones go.
            let queue = match (head.placement, head.ordering_key) {
                (Placement::Slot, Some(key)) => topic.slots.queue_of(key),
                _ => ready.record.header.queue,
            };
            (head.park, head.transaction, head.carried) = (None, None, None);
            head.origin = Some(Origin { place: ready.parked.place, cause: Cause::Timer });
            records.push((header(&ready.record.header, generation, queue), head, &ready.record.body));
        }
    }
    if records.is_empty() {
        return Ok(None);
    }
    let deadline = crate::call::now() + Duration::from_millis(limits::TIMEOUT_MS_DEFAULT);
    let request = Request { tenant, term, deadline, ack: Durability::Quorum };
    let bytes = records.iter().map(|(_, _, body)| body.len()).sum();
    let ticket = parts.batcher.submit(request, bytes, |writer| {
        records.iter().for_each(|(header, head, body)| writer.write(header, head, body));
    })?;
    Ok(Some((ticket, deadline)))
}

fn header(parked: &Header, generation: Generation, queue: QueueId) -> Header {
    Header { kind: kind::PUBLISH_FROM, flags: 0, queue, generation, ..*parked }
}

/// Counts what became visible; true if some of it has to be tried again.
fn count(batch: &[Ready], answer: &Answer, late: &mut Vec<u64>) -> bool {
    let mut again = false;
    for (ready, outcome) in batch.iter().zip(answer.outcomes()) {
        match outcome {
            Outcome::Published(published) => late.push(published.stored_at.since_ms(ready.due)),
            // Cancelled or changed meanwhile, or fired by the leader before.
            Outcome::Refused(Refusal::SourceClosed | Refusal::TopicNotFound(_)) => {}
            Outcome::Refused(Refusal::Stale(_)) => again = true,
            other => {
                tracing::error!(log.index = ready.parked.place.index, outcome = ?other, "a delayed message stays");
                again = true;
            }
        }
    }
    again
}
