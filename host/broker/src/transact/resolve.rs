//! A verdict becomes an entry.

use std::time::Instant;

use pointsman_model::record::{FLAG_UNIT_CONTINUES, Header, Record, kind};
use pointsman_model::{Generation, LogIndex, Ordinal, TenantId, Term, Timestamp, TopicId, limits};
use pointsman_state_machine::command::{
    Cause, Delay, Durability, Origin, Park, Placement, PublishHead, ResolvedBy, TransactionResolve, TransactionVerdict,
};
use pointsman_state_machine::outcome::{Outcome, Refusal};
use pointsman_state_machine::state::{Parked, Part, Transaction, TransactionState};

use crate::batcher::{Request, Ticket, past_deadline};
use crate::error::Error;
use crate::lease::head;
use crate::shard::ShardParts;

/// Records read before others on the thread have their turn.
const READS_IN_A_ROW: usize = 64;

/// Someone's word about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Says {
    pub(super) verdict: TransactionVerdict,
    pub(super) by: ResolvedBy,
}

/// What became of a transaction, and whether this word did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// It is as the word wants it.
    Done(TransactionState),
    /// The plugin that gave the word was asked under a configuration that is over.
    Stale,
}

/// A part that becomes visible.
struct Half {
    parked: Parked,
    record: Record,
}

/// Carries a word out; decided again while the configuration of the topics changes.
pub(super) async fn resolve(
    parts: &ShardParts,
    tenant: TenantId,
    id: (u64, u16),
    says: Says,
    deadline: Instant,
) -> Result<Resolved, Error> {
    for _ in 0..=limits::STALE_RETRIES_MAX {
        if crate::call::now() >= deadline {
            return Err(past_deadline());
        }
        let term = parts.port.leadership().ok_or(Error::NoLeader)?;
        let found = parts.port.transaction(tenant, LogIndex(id.0), Ordinal(id.1))?;
        let transaction = found.ok_or(Error::TransactionNotFound)?;
        if transaction.state == state_of(says.verdict) {
            return Ok(Resolved::Done(transaction.state));
        }
        let halves = match says.verdict {
            TransactionVerdict::Commit => read(parts, tenant, &transaction).await?,
            TransactionVerdict::Rollback | TransactionVerdict::Expire => Vec::new(),
        };
        let Some(ticket) = submit(parts, term, tenant, &transaction, says, &halves, deadline)? else {
            return Ok(Resolved::Stale);
        };
        let answer = parts.batcher.wait(ticket, deadline).await?;
        match answer.outcomes().first() {
            Some(Outcome::Resolved { state, .. }) => {
                if let Some(due) = next_due(&transaction, answer.entry.stamp) {
                    parts.timers.expect(due);
                }
                return Ok(Resolved::Done(*state));
            }
            // Its own plugin's word was checked before; then it is a part's topic.
            Some(Outcome::Refused(Refusal::Stale(_))) => {}
            // Another word came first, and is read in the next round.
            Some(Outcome::Refused(Refusal::SourceClosed)) => {}
            Some(Outcome::Refused(refusal)) => return Err(refusal.clone().into()),
            other => return Err(Error::Internal(format!("a verdict came to {other:?}"))),
        }
    }
    Err(Error::Overloaded("the topics' configuration changes faster than messages are placed".into()))
}

fn state_of(verdict: TransactionVerdict) -> TransactionState {
    match verdict {
        TransactionVerdict::Commit => TransactionState::Committed,
        TransactionVerdict::Rollback => TransactionState::RolledBack,
        TransactionVerdict::Expire => TransactionState::Expired,
    }
}

/// The parts that become visible with the commit.
async fn read(parts: &ShardParts, tenant: TenantId, transaction: &Transaction) -> Result<Vec<Half>, Error> {
    let mut halves = Vec::new();
    for (i, part) in parts.port.transaction_parts(tenant, transaction)?.into_iter().enumerate() {
        if (i + 1).is_multiple_of(READS_IN_A_ROW) {
            tokio::task::yield_now().await;
        }
        if let Part::Parked(parked) = part
            && matches!(parked.park, Park::Half(_))
            && transaction.delay(parked.place.ordinal).is_none()
        {
            let record = parts.port.record(&parked.entry())?;
            halves.push(Half { parked, record });
        }
    }
    Ok(halves)
}

/// Puts a verdict and what becomes visible with it into an entry; `None` if a plugin gave it under another generation.
fn submit(
    parts: &ShardParts,
    term: Term,
    tenant: TenantId,
    transaction: &Transaction,
    says: Says,
    halves: &[Half],
    deadline: Instant,
) -> Result<Option<Ticket>, Error> {
    let mut header = Header { kind: kind::TRANSACTION_RESOLVE, tenant, ..Header::default() };
    let mut records: Vec<(Header, PublishHead<'_>, &[u8])> = Vec::with_capacity(halves.len());
    {
        let state = parts.port.state();
        if let ResolvedBy::Plugin(judged) = says.by {
            let topic = TopicId(transaction.topic);
            let now = state.topics.get(&topic).map(|topic| topic.generation);
            if now != Some(Generation(judged.generation)) {
                return Ok(None);
            }
            (header.topic, header.generation) = (topic, Generation(judged.generation));
        }
        for half in halves {
            let topic = state.topics.get(&half.record.header.topic);
            let topic = topic.ok_or_else(|| Error::TopicNotFound(String::new()))?;
            let mut head = head(&half.record.head)?;
            // A topic that grew has moved slots: the message goes where its key's next ones go.
            let queue = match (head.placement, head.ordering_key) {
                (Placement::Slot, Some(key)) => topic.slots.queue_of(key),
                _ => half.record.header.queue,
            };
            (head.park, head.transaction, head.carried) = (None, None, None);
            head.origin = Some(Origin { place: half.parked.place, cause: Cause::Commit });
            let flags = if records.len() + 1 < halves.len() { FLAG_UNIT_CONTINUES } else { 0 };
            let generation = topic.generation;
            let header = Header { kind: kind::PUBLISH_FROM, flags, queue, generation, ..half.record.header };
            records.push((header, head, &half.record.body));
        }
    }
    if !records.is_empty() {
        header.flags = FLAG_UNIT_CONTINUES;
    }
    let resolve = TransactionResolve { transaction: transaction.id(), verdict: says.verdict, by: says.by };
    let request = Request { tenant, term, deadline, ack: Durability::Quorum };
    let bytes = records.iter().map(|(_, _, body)| body.len()).sum();
    let ticket = parts.batcher.submit(request, bytes, |writer| {
        writer.write(&header, &resolve, &[]);
        records.iter().for_each(|(header, head, body)| writer.write(header, head, body));
    })?;
    Ok(Some(ticket))
}

/// When the first of the delayed parts is due, if it is committed at that stamp.
fn next_due(transaction: &Transaction, stamp: Timestamp) -> Option<Timestamp> {
    let due = |delay: &Delay| match delay {
        Delay::For(ms) => stamp.plus_ms(*ms),
        Delay::Until(at) => Timestamp(*at),
    };
    transaction.delays.iter().map(|(_, delay)| due(delay)).min()
}
