//! Settle, expire and skip: what a group has done with its messages. `DESIGN.md` §5, ordering `none`.
//!
//! A message is *fresh* while its bit in the cursor is unset; attempt 1 is its current one. A nack or an expiry sets
//! the bit and writes a retry row with the next attempt, which is current from then on, until an ack removes the row.
//! So each attempt ends once, and what comes late learns how it ended.

use pointsman_model::record::Header;
use pointsman_model::{GroupId, QueueId, QueueOffset, TenantId, TopicId, limits};

use super::entry::{Entry, Stop};
use crate::command::{AttemptEnd, Expire, LeaseRef, Settle, SettleOp, Skip};
use crate::error::Error;
use crate::outcome::{Outcome, Refusal, Settlement};
use crate::state::{EndedAttempt, Group, Retry};
use crate::table;

/// The attempt before the first retry row.
const FIRST_ATTEMPT: u16 = 1;
/// Ended attempts a retry row remembers.
const HISTORY_MAX: usize = 32;

/// How one attempt ends.
enum Ending {
    /// The consumer is done.
    Acked,
    /// Not done, by its consumer's word or because its lease ran out.
    Again { expired: bool, end: AttemptEnd },
}

impl Entry<'_> {
    pub(super) fn settle(&mut self, header: &Header, settle: Settle) -> Result<Outcome, Stop> {
        let endings = settle.items.into_iter().map(|item| {
            let ending = match item.op {
                SettleOp::Ack => Ending::Acked,
                SettleOp::Nack(end) => Ending::Again { expired: false, end },
            };
            (item.lease, ending)
        });
        self.end_all(header, GroupId(settle.group), endings)
    }

    pub(super) fn expire(&mut self, header: &Header, expire: Expire) -> Result<Outcome, Stop> {
        let endings = expire.items.into_iter().map(|(lease, end)| (lease, Ending::Again { expired: true, end }));
        self.end_all(header, GroupId(expire.group), endings)
    }

    fn end_all(
        &mut self,
        header: &Header,
        group: GroupId,
        endings: impl Iterator<Item = (LeaseRef, Ending)>,
    ) -> Result<Outcome, Stop> {
        let tenant = self.group_of(header, group)?.tenant;
        let settlements: Result<Vec<_>, Error> =
            endings.map(|(lease, ending)| self.end(tenant, group, &lease, ending)).collect();
        Ok(Outcome::Settled(settlements?))
    }

    /// Ends one attempt, if it is the current one.
    fn end(&mut self, tenant: TenantId, group: GroupId, lease: &LeaseRef, ending: Ending) -> Result<Settlement, Error> {
        let (topic, queue, offset) = (TopicId(lease.topic), QueueId(lease.queue), QueueOffset(lease.offset));
        let of_group = self.state.groups.get(&group).is_some_and(|group| group.topic_ids.contains(&topic));
        if !of_group || offset.0 >= self.state.ends(topic, queue).latest || lease.attempt < FIRST_ATTEMPT {
            return Ok(Settlement::Unknown);
        }
        let settled = self.state.cursor(group, topic, queue).is_some_and(|cursor| cursor.is_settled(offset));
        if settled {
            return self.end_again(tenant, group, lease, ending);
        }
        if lease.attempt != FIRST_ATTEMPT {
            return Ok(Settlement::Unknown);
        }
        if let Ending::Again { expired, end } = ending {
            if self.state.retrying.get(&group).is_some_and(|count| *count >= limits::RETRY_SET_MAX) {
                return Ok(Settlement::RetrySetFull);
            }
            self.write_retry(tenant, group, lease, Vec::new(), expired, end);
            self.count_retrying(group, true);
        }
        self.settle_range(group, topic, queue, offset.0..offset.0 + 1);
        Ok(Settlement::Settled)
    }

    /// Ends an attempt of a message whose bit is set: current only if its retry row says so.
    fn end_again(
        &mut self,
        tenant: TenantId,
        group: GroupId,
        lease: &LeaseRef,
        ending: Ending,
    ) -> Result<Settlement, Error> {
        let Some(retry) = self.read_retry(tenant, group, lease)? else {
            return Ok(Settlement::AlreadySettled);
        };
        if lease.attempt > retry.attempt {
            return Ok(Settlement::Unknown);
        }
        if lease.attempt < retry.attempt {
            let ended = retry.history.iter().find(|ended| ended.attempt == lease.attempt);
            // An attempt older than the history: its lease is long gone.
            let expired = ended.is_none_or(|ended| ended.expired);
            return Ok(if expired { Settlement::Expired } else { Settlement::AlreadySettled });
        }
        self.changes.delete(table::due_key(tenant, group, retry.due, lease.topic, lease.queue, lease.offset));
        match ending {
            Ending::Acked => {
                self.changes.delete(table::retry_key(tenant, group, lease.topic, lease.queue, lease.offset));
                self.count_retrying(group, false);
            }
            Ending::Again { expired, end } => self.write_retry(tenant, group, lease, retry.history, expired, end),
        }
        Ok(Settlement::Settled)
    }

    fn read_retry(&self, tenant: TenantId, group: GroupId, lease: &LeaseRef) -> Result<Option<Retry>, Error> {
        if !self.state.retrying.contains_key(&group) {
            return Ok(None);
        }
        let key = table::retry_key(tenant, group, lease.topic, lease.queue, lease.offset);
        let value = self.changes.get(self.store, &key)?;
        value.map(|value| table::decode(&key, &value)).transpose()
    }

    /// Writes the row of the attempt after this one. A counter at its end stays there rather than start again.
    fn write_retry(
        &mut self,
        tenant: TenantId,
        group: GroupId,
        lease: &LeaseRef,
        mut history: Vec<EndedAttempt>,
        expired: bool,
        end: AttemptEnd,
    ) {
        let LeaseRef { topic, queue, offset, attempt } = *lease;
        let due = self.now().plus_ms(end.delay_ms).0;
        history.push(EndedAttempt { attempt, expired, ended_at: self.now().0, end });
        history.drain(..history.len().saturating_sub(HISTORY_MAX));
        let retry = Retry { topic, queue, offset, attempt: attempt.saturating_add(1), due, history };
        self.changes.put(table::retry_key(tenant, group, topic, queue, offset), table::encode(&retry));
        self.changes.put(table::due_key(tenant, group, due, topic, queue, offset), table::encode(&()));
    }

    /// Counts a retry row that came or went.
    pub(super) fn count_retrying(&mut self, group: GroupId, came: bool) {
        let count = self.state.retrying.entry(group).or_default();
        *count = if came { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.state.retrying.remove(&group);
        }
        self.changes.retrying.insert(group);
    }

    fn settle_range(&mut self, group: GroupId, topic: TopicId, queue: QueueId, range: std::ops::Range<u64>) {
        let place = (group, topic, queue);
        let touched = self.changes.cursors.entry(place).or_default();
        self.state.cursors.entry(place).or_default().settle(range, touched);
    }

    pub(super) fn skip(&mut self, header: &Header, skip: &Skip) -> Result<Outcome, Stop> {
        let (topic, queue) = (header.topic, header.queue);
        let group = self.group_of(header, GroupId(skip.group))?;
        if group.generation != header.generation {
            return Err(Refusal::Stale(group.generation).into());
        }
        if !group.topic_ids.contains(&topic) {
            return Err(Refusal::TopicNotFound(String::new()).into());
        }
        if self.state.topics.get(&topic).is_none_or(|topic| queue.0 >= topic.queues()) {
            return Err(Refusal::QueueNotFound(queue).into());
        }
        let mut past = 0;
        for (from, to) in &skip.ranges {
            if *from < past || to <= from || *to > self.state.ends(topic, queue).latest {
                return Err(Refusal::Malformed(format!("no range to skip: {from} to {to}")).into());
            }
            past = *to;
        }
        for (from, to) in &skip.ranges {
            self.settle_range(GroupId(skip.group), topic, queue, *from..*to);
        }
        Ok(Outcome::Skipped)
    }

    /// A group of the record's tenant.
    fn group_of(&self, header: &Header, group: GroupId) -> Result<&Group, Refusal> {
        let group = self.state.groups.get(&group).filter(|group| group.tenant == header.tenant);
        group.ok_or(Refusal::GroupNotFound)
    }
}
