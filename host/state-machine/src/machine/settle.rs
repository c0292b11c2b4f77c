//! Settle, expire and skip: what a group has done with its messages. `DESIGN.md` §5, ordering `none`.
//!
//! A message is *fresh* while its bit in the cursor is unset; attempt 1 is its current one. A nack or an expiry sets
//! the bit and writes a retry row with the next attempt, which is current from then on, until an ack removes the row.
//! So each attempt ends once, and what comes late learns how it ended. Whether there is a next attempt was decided
//! before; only the number of deliveries is counted here, and past the last one the message is a dead letter. Groups that
//! keep an order: [`super::held`].

use pointsman_model::record::Header;
use pointsman_model::{GroupId, QueueId, QueueOffset, TenantId, TopicId, limits};

use super::dead_letter::Burial;
use super::entry::{Entry, Stop};
use crate::command::{AttemptEnd, DecidedBy, Decision, Expire, LeaseRef, RecordRef, Settle, SettleOp, Skip};
use crate::error::Error;
use crate::outcome::{Outcome, Refusal, Settlement};
use crate::state::{Cursor, DeadReason, EndedAttempt, Group, Retry};
use crate::table;

/// The attempt before the first retry row.
pub(super) const FIRST_ATTEMPT: u16 = 1;
/// Ended attempts a retry row remembers.
const HISTORY_MAX: usize = 32;

/// How one attempt ends.
pub(super) enum Ending {
    /// The consumer is done.
    Acked,
    /// Not done, by its consumer's word or because its lease ran out.
    Failed { expired: bool, end: AttemptEnd },
    /// Ordered groups: given back, uncounted; again after so many ms.
    Released(u64),
    /// Ordered groups: it does not end yet, but at this time.
    Extended(u64),
}

/// What was before the attempt that ends.
#[derive(Default)]
pub(super) struct Before {
    /// As in [`Retry::base`].
    pub(super) base: u16,
    /// As in [`Retry::record`].
    pub(super) record: Option<RecordRef>,
    pub(super) history: Vec<EndedAttempt>,
}

/// What comes of a message whose attempt ended badly.
pub(super) enum Fate {
    Again { delay_ms: u64 },
    Dead(DeadReason),
    Dropped,
}

impl Entry<'_> {
    pub(super) fn settle(&mut self, header: &Header, settle: Settle) -> Result<Outcome, Stop> {
        let endings = settle.items.into_iter().map(|item| {
            let ending = match item.op {
                SettleOp::Ack => Ending::Acked,
                SettleOp::Nack(end) => Ending::Failed { expired: false, end },
                SettleOp::Release(delay_ms) => Ending::Released(delay_ms),
                SettleOp::Extend(until) => Ending::Extended(until),
            };
            (item.lease, ending)
        });
        self.end_all(header, GroupId(settle.group), settle.revision, endings.collect())
    }

    pub(super) fn expire(&mut self, header: &Header, expire: Expire) -> Result<Outcome, Stop> {
        let endings = expire.items.into_iter().map(|(lease, end)| (lease, Ending::Failed { expired: true, end }));
        self.end_all(header, GroupId(expire.group), expire.revision, endings.collect())
    }

    fn end_all(
        &mut self,
        header: &Header,
        group: GroupId,
        revision: u64,
        endings: Vec<(LeaseRef, Ending)>,
    ) -> Result<Outcome, Stop> {
        let found = self.group_of(header, group)?;
        let fenced = |ending: &Ending| matches!(ending, Ending::Failed { end, .. } if end.by != DecidedBy::Consumer);
        if found.generation != header.generation && endings.iter().any(|(_, ending)| fenced(ending)) {
            return Err(Refusal::Stale(found.generation).into());
        }
        let tenant = found.tenant;
        let settlements: Result<Vec<_>, Error> =
            endings.into_iter().map(|(lease, ending)| self.end(tenant, group, revision, &lease, ending)).collect();
        Ok(Outcome::Settled(settlements?))
    }

    /// Ends one attempt, if it is the current one.
    fn end(
        &mut self,
        tenant: TenantId,
        group: GroupId,
        revision: u64,
        lease: &LeaseRef,
        ending: Ending,
    ) -> Result<Settlement, Error> {
        let (topic, queue, offset) = (TopicId(lease.topic), QueueId(lease.queue), QueueOffset(lease.offset));
        if !self.is_of_group(group, lease) {
            return Ok(Settlement::Unknown);
        }
        let cursor = self.state.cursor(group, topic, queue);
        if cursor.and_then(Cursor::sought).is_some_and(|sought| sought.revision > revision) {
            return Ok(Settlement::Expired);
        }
        if self.keeps_order(group) {
            return self.end_held(tenant, group, lease, ending);
        }
        if cursor.is_some_and(|cursor| cursor.is_settled(offset)) {
            return self.end_again(tenant, group, lease, ending);
        }
        if lease.attempt != FIRST_ATTEMPT {
            return Ok(Settlement::Unknown);
        }
        let settlement = match ending {
            Ending::Acked => Settlement::Settled,
            // Leases of ordering `none` are their leader's memory.
            Ending::Released(_) | Ending::Extended(_) => return Ok(Settlement::Unknown),
            Ending::Failed { expired, end } => self.fail(tenant, group, lease, None, expired, end)?,
        };
        if settlement != Settlement::RetrySetFull {
            self.settle_range(group, topic, queue, offset.0..offset.0 + 1);
        }
        Ok(settlement)
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
        match ending {
            Ending::Acked => {
                self.drop_retry(tenant, group, &retry);
                Ok(Settlement::Settled)
            }
            Ending::Failed { expired, end } => self.fail(tenant, group, lease, Some(retry), expired, end),
            Ending::Released(_) | Ending::Extended(_) => Ok(Settlement::Unknown),
        }
    }

    pub(super) fn read_retry(
        &self,
        tenant: TenantId,
        group: GroupId,
        lease: &LeaseRef,
    ) -> Result<Option<Retry>, Error> {
        if !self.state.retrying.contains_key(&group) {
            return Ok(None);
        }
        let key = table::retry_key(tenant, group, lease.topic, lease.queue, lease.offset);
        let value = self.changes.get(self.store, &key)?;
        value.map(|value| table::decode(&key, &value)).transpose()
    }

    /// Ends an attempt badly: the next one gets a row, or the message is given up. `row` is the one of this attempt.
    fn fail(
        &mut self,
        tenant: TenantId,
        group: GroupId,
        lease: &LeaseRef,
        row: Option<Retry>,
        expired: bool,
        end: AttemptEnd,
    ) -> Result<Settlement, Error> {
        let fresh = row.is_none();
        // Retention has taken it while it was leased: there is no next attempt, nor anything to keep.
        if fresh && self.is_trimmed(TopicId(lease.topic), QueueId(lease.queue), lease.offset) {
            return Ok(Settlement::Settled);
        }
        let base = row.as_ref().map_or(0, |row| row.base);
        match self.fate(group, lease.attempt - base.min(lease.attempt), &end) {
            Fate::Again { delay_ms } => {
                if fresh && self.is_retry_set_full(group) {
                    return Ok(Settlement::RetrySetFull);
                }
                let before = self.take_retry(tenant, group, row);
                let record = before.record;
                let history = self.remember(lease, before, expired, end);
                let LeaseRef { topic, queue, offset, attempt } = *lease;
                let due = self.now().plus_ms(delay_ms).0;
                // A counter at its end stays there rather than start again.
                let attempt = attempt.saturating_add(1);
                self.put_retry(tenant, group, &Retry { topic, queue, offset, attempt, base, due, record, history });
                Ok(Settlement::Settled)
            }
            Fate::Dead(reason) => {
                let leased = end.record;
                let before = self.take_retry(tenant, group, row);
                // The row knows where a dead letter that came back lies by now.
                let record = before.record.unwrap_or(leased);
                let history = self.remember(lease, before, expired, end);
                self.bury(tenant, group, lease, Burial { record, base, reason, history })?;
                Ok(Settlement::DeadLettered)
            }
            Fate::Dropped => {
                self.take_retry(tenant, group, row);
                Ok(Settlement::Settled)
            }
        }
    }

    /// What comes of a message whose `delivery`-th delivery since its last redrive ended badly.
    pub(super) fn fate(&self, group: GroupId, delivery: u16, end: &AttemptEnd) -> Fate {
        let max_retries = self.state.groups.get(&group).map_or(0, |group| group.config.max_retries);
        match &end.decision {
            Decision::Drop => Fate::Dropped,
            Decision::DeadLetter { .. } if end.by == DecidedBy::Consumer => {
                Fate::Dead(DeadReason::Consumer(end.reason.clone()))
            }
            // Without words of its own the policy leaves the consumer's.
            Decision::DeadLetter { reason } => {
                Fate::Dead(DeadReason::Policy(reason.clone().or_else(|| end.reason.clone())))
            }
            Decision::Again { .. } if delivery > max_retries => Fate::Dead(DeadReason::Exhausted),
            Decision::Again { delay_ms } => Fate::Again { delay_ms: *delay_ms },
        }
    }

    pub(super) fn is_retry_set_full(&self, group: GroupId) -> bool {
        self.state.retrying.get(&group).is_some_and(|count| *count >= limits::RETRY_SET_MAX)
    }

    /// The history with the attempt that ends now.
    pub(super) fn remember(
        &self,
        lease: &LeaseRef,
        before: Before,
        expired: bool,
        end: AttemptEnd,
    ) -> Vec<EndedAttempt> {
        let Before { base, mut history, .. } = before;
        let AttemptEnd { decision, by, delivered_at, reason, client_id, .. } = end;
        let (attempt, ended_at) = (lease.attempt, self.now().0);
        let delivery = attempt.saturating_sub(base);
        history.push(EndedAttempt {
            attempt,
            delivery,
            expired,
            delivered_at,
            ended_at,
            reason,
            client_id,
            decision,
            by,
        });
        history.drain(..history.len().saturating_sub(HISTORY_MAX));
        history
    }

    /// Takes the row of the attempt that ends away.
    fn take_retry(&mut self, tenant: TenantId, group: GroupId, row: Option<Retry>) -> Before {
        row.map_or_else(Before::default, |row| {
            self.drop_retry(tenant, group, &row);
            Before { base: row.base, record: row.record, history: row.history }
        })
    }

    pub(super) fn put_retry(&mut self, tenant: TenantId, group: GroupId, retry: &Retry) {
        let Retry { topic, queue, offset, due, .. } = *retry;
        self.changes.put(table::retry_key(tenant, group, topic, queue, offset), table::encode(retry));
        self.changes.put(table::due_key(tenant, group, due, topic, queue, offset), table::encode(&()));
        self.count_retrying(group, true);
    }

    pub(super) fn drop_retry(&mut self, tenant: TenantId, group: GroupId, retry: &Retry) {
        let Retry { topic, queue, offset, due, .. } = *retry;
        self.changes.delete(table::retry_key(tenant, group, topic, queue, offset));
        self.changes.delete(table::due_key(tenant, group, due, topic, queue, offset));
        self.count_retrying(group, false);
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

    pub(super) fn settle_range(&mut self, group: GroupId, topic: TopicId, queue: QueueId, range: std::ops::Range<u64>) {
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
        let tenant = group.tenant;
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
            self.drop_held_range(tenant, GroupId(skip.group), topic, queue, *from..*to)?;
            self.settle_range(GroupId(skip.group), topic, queue, *from..*to);
        }
        Ok(Outcome::Skipped)
    }

    /// A group of the record's tenant.
    pub(super) fn group_of(&self, header: &Header, group: GroupId) -> Result<&Group, Refusal> {
        let group = self.state.groups.get(&group).filter(|group| group.tenant == header.tenant);
        group.ok_or(Refusal::GroupNotFound)
    }
}
