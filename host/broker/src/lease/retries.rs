//! Messages of the retry set whose next attempt is due.

use std::cmp::Reverse;
use std::collections::HashSet;

use pointsman_model::{GroupId, QueueId, QueueOffset, Timestamp, TopicId, limits};
use pointsman_state_machine::command::LeaseRef;
use pointsman_state_machine::state::Retry;

use super::memory::{Candidate, Memory};
use crate::error::Error;
use crate::shard::ShardParts;

impl Memory {
    /// Fetches messages of the retry set that are due and neither ready nor leased.
    pub(super) fn fetch_retries(&mut self, id: GroupId, parts: &ShardParts, now: Timestamp) -> Result<(), Error> {
        if now < self.retry_at {
            return Ok(());
        }
        if !parts.port.state().retrying.contains_key(&id) {
            self.retry_at = now.plus_ms(limits::RETRY_POLL_MS);
            return Ok(());
        }
        // Rows of retries that are leased stay due, and come before those that are not.
        let known = self.leases.values().filter(|lease| lease.candidate.attempt > 1).count()
            + self.delayed.len()
            + self.ready.range(..(true, Reverse(u8::MAX), 0)).count()
            + self.granting;
        let limit = known + limits::LEASE_AHEAD_MESSAGES;
        let rows = parts.port.due(id, now, limit)?;
        let more = rows.len() == limit;
        let ready: HashSet<_> =
            self.ready.range(..(true, Reverse(u8::MAX), 0)).map(|(_, candidate)| candidate.place()).collect();
        for row in rows {
            let place = (TopicId(row.topic), QueueId(row.queue), row.offset);
            let known = self.leases.contains_key(&place) || self.delayed.contains_key(&place) || ready.contains(&place);
            if !known {
                self.push_retry(parts, &row)?;
            }
        }
        let next = parts.port.next_due(id, now)?;
        self.retry_at = if more { now } else { next.unwrap_or_else(|| now.plus_ms(limits::RETRY_POLL_MS)) };
        Ok(())
    }

    fn push_retry(&mut self, parts: &ShardParts, row: &Retry) -> Result<(), Error> {
        let (topic, queue) = (TopicId(row.topic), QueueId(row.queue));
        let entry = match row.record {
            Some(record) => Some(record.entry()),
            // What retention took from the queue is owed to the group all the same.
            None => parts.port.owed_entry(topic, queue, QueueOffset(row.offset))?,
        };
        let Some(entry) = entry else {
            self.buried.push(LeaseRef { topic: row.topic, queue: row.queue, offset: row.offset, attempt: row.attempt });
            return Ok(());
        };
        self.last_turn += 1;
        let (attempt, turn) = (row.attempt, self.last_turn);
        let (offset, base) = (row.offset, row.base);
        let candidate = Candidate { topic, queue, offset, entry, attempt, base, expires_at: None, turn };
        self.ready.insert(candidate.turn(), candidate);
        Ok(())
    }
}
