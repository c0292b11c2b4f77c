//! Carry: what is owed in old segments is copied to the log's head, so that they can go.
//!
//! Worth it only where it is little: less than a quarter of the segments that the copies free. A copy is the record as it
//! was, with the position it stands for; `apply` makes whoever refers to that one refer to the copy, once.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::record::{Header, Record, kind};
use pointsman_model::{LogIndex, LogPosition, Ordinal, TenantId, Term, Timestamp, limits};
use pointsman_state_machine::command::Durability;
use pointsman_state_machine::outcome::{Outcome, Refusal};
use pointsman_state_machine::state::Owed;

use super::NO_TENANT;
use crate::batcher::Request;
use crate::error::Error;
use crate::lease::head;
use crate::ports::Shard;
use crate::shard::ShardParts;

/// Carries what is owed below a position, if that is worth it; returns how many messages.
pub(super) async fn carry(parts: &ShardParts, term: Term, below: LogPosition) -> Result<u64, Error> {
    let owed = parts.port.owed(below, limits::OWED_ROWS_MAX)?;
    let Some(below) = worth_it(&*parts.port, &owed, below) else { return Ok(0) };
    let mut batches: BTreeMap<TenantId, BTreeMap<LogPosition, Record>> = BTreeMap::new();
    let (mut bytes, mut messages) = (0, 0);
    for owed in owed.iter().take_while(|owed| owed.position < below) {
        if messages == limits::CARRY_MESSAGES_MAX || bytes >= limits::CARRY_BYTES_MAX {
            break;
        }
        let batch = batches.entry(owed.tenant).or_default();
        // Several groups may have given up the same message.
        if batch.contains_key(&owed.position) {
            continue;
        }
        batch.insert(owed.position, parts.port.record(&entry(owed))?);
        bytes += owed.length as usize;
        messages += 1;
    }
    let mut carried = 0;
    for (tenant, batch) in &batches {
        carried += submit(parts, term, *tenant, batch).await?;
    }
    Ok(carried)
}

/// The position up to which what is owed is less than a part of what goes for it.
fn worth_it(port: &dyn Shard, owed: &[Owed], below: LogPosition) -> Option<LogPosition> {
    let bases: Vec<LogPosition> = port.state().segments.keys().take_while(|base| **base <= below).copied().collect();
    let first = bases.first()?.0;
    let (mut sum, mut rows) = (0, owed.iter().peekable());
    let mut worth = None;
    for base in &bases[1..] {
        while let Some(owed) = rows.next_if(|owed| owed.position < *base) {
            sum += u64::from(owed.length);
        }
        if sum * limits::CARRY_PART < base.0 - first {
            worth = Some(*base);
        }
    }
    worth
}

/// Where an owed record lies: an entry of no queue.
fn entry(owed: &Owed) -> QueueEntry {
    QueueEntry {
        position: owed.position,
        index: LogIndex(0),
        length: owed.length,
        term: Term(0),
        ordinal: Ordinal(0),
        priority: 0,
        flags: 0,
        tag_hash: 0,
        ordering_key_hash: 0,
        stamp: Timestamp(0),
    }
}

/// Appends copies of one tenant's messages.
async fn submit(
    parts: &ShardParts,
    term: Term,
    tenant: TenantId,
    batch: &BTreeMap<LogPosition, Record>,
) -> Result<u64, Error> {
    debug_assert_ne!(tenant, NO_TENANT, "only tenants have messages");
    let mut copies = Vec::with_capacity(batch.len());
    for (position, record) in batch {
        let mut head = head(&record.head)?;
        head.carried = Some(position.0);
        copies.push((Header { kind: kind::PUBLISH_PARKED, flags: 0, ..record.header }, head, &record.body));
    }
    let deadline = crate::call::now() + Duration::from_millis(limits::TIMEOUT_MS_DEFAULT);
    let request = Request { tenant, term, deadline, ack: Durability::Quorum };
    let bytes = copies.iter().map(|(_, _, body)| body.len()).sum();
    let ticket = parts.batcher.submit(request, bytes, |writer| {
        copies.iter().for_each(|(header, head, body)| writer.write(header, head, body));
    })?;
    let answer = parts.batcher.wait(ticket, deadline).await?;
    let mut carried = 0;
    for outcome in answer.outcomes() {
        match outcome {
            Outcome::Carried(_) => carried += 1,
            // It was delivered, redriven or cancelled meanwhile.
            Outcome::Refused(Refusal::SourceClosed) => {}
            other => return Err(Error::Internal(format!("a copy came to {other:?}"))),
        }
    }
    Ok(carried)
}
