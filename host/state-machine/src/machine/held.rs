//! Groups of ordering `key` and `queue`: leases are entries too. `DESIGN.md` §5.
//!
//! What is leased has a *held* row, and keeps it until it is settled: after a nack or an expiry the row has the next
//! attempt, after a release the same. The cursor's bit stays unset meanwhile, so the message blocks its key or queue
//! and nothing else. A new leader reads the rows and knows who holds what.
//!
//! A nack, release or expiry of one message of a queue group ends the later leases of its queue without counting them.

use pointsman_model::record::Header;
use pointsman_model::{GroupId, QueueId, QueueOffset, TenantId, TopicId, limits};

use super::dead_letter::Burial;
use super::entry::{Entry, Stop};
use super::settle::{Before, Ending, FIRST_ATTEMPT, Fate};
use super::{Machine, Store};
use crate::command::{AttemptEnd, DecidedBy, Decision, Grant, LeaseRef, Ordering, RecordRef};
use crate::error::Error;
use crate::outcome::{Outcome, Refusal, Settlement};
use crate::state::{EndedAttempt, Held, HeldGrant, Retry};
use crate::table;

impl Machine {
    /// The held row of a message.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn held(
        &self,
        store: &dyn Store,
        group: GroupId,
        topic: TopicId,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<Option<Held>, Error> {
        let Some(tenant) = self.retrying_tenant(group) else {
            return Ok(None);
        };
        let key = table::held_key(tenant, group, topic.0, queue.0, offset.0);
        store.get(&key)?.map(|value| table::decode(&key, &value)).transpose()
    }

    /// At most `limit` held rows of a group behind that place, in order of topic, queue and offset.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn held_after(
        &self,
        store: &dyn Store,
        group: GroupId,
        after: Option<(TopicId, QueueId, QueueOffset)>,
        limit: usize,
    ) -> Result<Vec<Held>, Error> {
        let Some(tenant) = self.retrying_tenant(group) else {
            return Ok(Vec::new());
        };
        let prefix = table::held_prefix(tenant, group, None, None);
        let from = after.map_or(prefix.clone(), |(topic, queue, offset)| {
            table::after(&table::held_key(tenant, group, topic.0, queue.0, offset.0))
        });
        let mut found = Ok(Vec::new());
        store.scan(&from, &table::after(&prefix), &mut |key, value| {
            let Ok(rows) = &mut found else { return false };
            if rows.len() == limit {
                return false;
            }
            match table::decode(key, value) {
                Ok(row) => rows.push(row),
                Err(error) => found = Err(error),
            }
            true
        })?;
        found
    }
}

impl Entry<'_> {
    /// Leases what is still as the leader saw it.
    pub(super) fn grant(&mut self, header: &Header, grant: &Grant) -> Result<Outcome, Stop> {
        let id = GroupId(grant.group);
        let group = self.group_of(header, id)?;
        if group.config.ordering == Ordering::None {
            return Err(Refusal::Malformed("a grant in a group of ordering `none`".into()).into());
        }
        if group.generation != header.generation {
            return Err(Refusal::Stale(group.generation).into());
        }
        let tenant = group.tenant;
        let granted = grant.items.iter().map(|(lease, session)| {
            let to = HeldGrant {
                session: *session,
                until: grant.until,
                delivered_at: self.now().0,
                client_id: grant.client_id.clone(),
            };
            self.grant_one(tenant, id, lease, to)
        });
        Ok(Outcome::Granted(granted.collect::<Result<_, Error>>()?))
    }

    fn grant_one(&mut self, tenant: TenantId, group: GroupId, lease: &LeaseRef, to: HeldGrant) -> Result<bool, Error> {
        if !self.is_of_group(group, lease) {
            return Ok(false);
        }
        if let Some(row) = self.read_held(tenant, group, lease)? {
            let free = row.grant.is_none() && row.attempt == lease.attempt;
            if free {
                self.put_held(tenant, group, &Held { grant: Some(to), ..row });
            }
            return Ok(free);
        }
        let full = self.state.retrying.get(&group).is_some_and(|count| *count >= limits::HELD_MAX);
        let trimmed = self.is_trimmed(TopicId(lease.topic), QueueId(lease.queue), lease.offset);
        if full || trimmed || lease.attempt != FIRST_ATTEMPT || self.is_settled(group, lease) {
            return Ok(false);
        }
        let LeaseRef { topic, queue, offset, attempt } = *lease;
        let row = Held {
            topic,
            queue,
            offset,
            attempt,
            base: 0,
            due: self.now().0,
            grant: Some(to),
            record: None,
            history: Vec::new(),
        };
        self.put_held(tenant, group, &row);
        self.count_retrying(group, true);
        Ok(true)
    }

    /// Ends one attempt, or makes its lease longer, if it is the one that runs.
    pub(super) fn end_held(
        &mut self,
        tenant: TenantId,
        group: GroupId,
        lease: &LeaseRef,
        ending: Ending,
    ) -> Result<Settlement, Error> {
        let Some(mut row) = self.read_held(tenant, group, lease)? else {
            let settled = self.is_settled(group, lease);
            return Ok(if settled { Settlement::AlreadySettled } else { Settlement::Expired });
        };
        if lease.attempt > row.attempt {
            return Ok(Settlement::Unknown);
        }
        if lease.attempt < row.attempt {
            let ended = row.history.iter().find(|ended| ended.attempt == lease.attempt);
            // An attempt older than the history: its lease is long gone.
            let expired = ended.is_none_or(|ended| ended.expired);
            return Ok(if expired { Settlement::Expired } else { Settlement::AlreadySettled });
        }
        let Some(grant) = &mut row.grant else {
            // It was released, or ended with one before it.
            return Ok(Settlement::Expired);
        };
        match ending {
            Ending::Extended(until) => {
                grant.until = until;
                self.put_held(tenant, group, &row);
            }
            Ending::Acked => self.settle_held(tenant, group, lease),
            Ending::Released(delay_ms) => {
                self.release_held(tenant, group, row, delay_ms);
                self.end_later(tenant, group, lease)?;
            }
            Ending::Failed { expired, end } => {
                let given_up = end.by == DecidedBy::Consumer && matches!(end.decision, Decision::DeadLetter { .. });
                let settlement = self.fail_held(tenant, group, lease, row, expired, end)?;
                if !given_up {
                    self.end_later(tenant, group, lease)?;
                }
                return Ok(settlement);
            }
        }
        Ok(Settlement::Settled)
    }

    /// Ends an attempt badly: the message is held for the next one, or given up, and then its successors flow.
    fn fail_held(
        &mut self,
        tenant: TenantId,
        group: GroupId,
        lease: &LeaseRef,
        row: Held,
        expired: bool,
        end: AttemptEnd,
    ) -> Result<Settlement, Error> {
        let Held { topic, queue, offset, attempt, base, record, history, .. } = row;
        // The row knows where a dead letter that came back lies by now.
        let message = record.unwrap_or(end.record);
        let fate = self.fate(group, attempt - base.min(attempt), &end);
        let history = self.remember(lease, Before { base, record, history }, expired, end);
        match fate {
            Fate::Again { delay_ms } => {
                let due = self.now().plus_ms(delay_ms).0;
                // A counter at its end stays there rather than start again.
                let attempt = attempt.saturating_add(1);
                let row = Held { topic, queue, offset, attempt, base, due, grant: None, record, history };
                self.put_held(tenant, group, &row);
                Ok(Settlement::Settled)
            }
            Fate::Dead(reason) => {
                self.settle_held(tenant, group, lease);
                self.bury(tenant, group, lease, Burial { record: message, base, reason, history })?;
                Ok(Settlement::DeadLettered)
            }
            Fate::Dropped => {
                self.settle_held(tenant, group, lease);
                Ok(Settlement::Settled)
            }
        }
    }

    /// Holds a dead letter that comes back, due at once, if it is not held already; false if there is no room.
    pub(super) fn hold_redriven(
        &mut self,
        tenant: TenantId,
        group: GroupId,
        last: &LeaseRef,
        record: RecordRef,
        history: Vec<EndedAttempt>,
    ) -> Result<bool, Error> {
        if self.read_held(tenant, group, last)?.is_some() {
            return Ok(true);
        }
        if self.is_retry_set_full(group) {
            return Ok(false);
        }
        let LeaseRef { topic, queue, offset, attempt } = *last;
        let (next, due) = (attempt.saturating_add(1), self.now().0);
        let record = Some(record);
        let row = Held { topic, queue, offset, attempt: next, base: attempt, due, grant: None, record, history };
        self.put_held(tenant, group, &row);
        self.count_retrying(group, true);
        Ok(true)
    }

    /// Settles a held message for good.
    pub(super) fn settle_held(&mut self, tenant: TenantId, group: GroupId, lease: &LeaseRef) {
        let LeaseRef { topic, queue, offset, .. } = *lease;
        self.delete_held(tenant, group, topic, queue, offset);
        self.settle_range(group, TopicId(topic), QueueId(queue), offset..offset + 1);
    }

    /// Takes a lease back without counting it. What then says nothing has no row.
    fn release_held(&mut self, tenant: TenantId, group: GroupId, mut row: Held, delay_ms: u64) {
        let lease = LeaseRef { topic: row.topic, queue: row.queue, offset: row.offset, attempt: row.attempt };
        if row.is_fresh() && delay_ms == 0 && !self.is_settled(group, &lease) {
            self.delete_held(tenant, group, row.topic, row.queue, row.offset);
            return;
        }
        row.grant = None;
        row.due = self.now().plus_ms(delay_ms).0;
        self.put_held(tenant, group, &row);
    }

    /// Queue groups: ends the leases behind this one. They came with one call, so there are few.
    fn end_later(&mut self, tenant: TenantId, group: GroupId, lease: &LeaseRef) -> Result<(), Error> {
        if self.state.groups.get(&group).is_none_or(|group| group.config.ordering != Ordering::Queue) {
            return Ok(());
        }
        let from = table::after(&table::held_key(tenant, group, lease.topic, lease.queue, lease.offset));
        let queue = table::held_prefix(tenant, group, Some(TopicId(lease.topic)), Some(QueueId(lease.queue)));
        for (key, value) in self.changes.scan_range(self.store, &from, &table::after(&queue))? {
            let row: Held = table::decode(&key, &value)?;
            if row.grant.is_some() {
                self.release_held(tenant, group, row, 0);
            }
        }
        Ok(())
    }

    /// Forgets the held rows of offsets that are skipped.
    pub(super) fn drop_held_range(
        &mut self,
        tenant: TenantId,
        group: GroupId,
        topic: TopicId,
        queue: QueueId,
        range: std::ops::Range<u64>,
    ) -> Result<(), Error> {
        if !self.keeps_order(group) || !self.state.retrying.contains_key(&group) {
            return Ok(());
        }
        let key = |offset| table::held_key(tenant, group, topic.0, queue.0, offset);
        for key in self.changes.scan_range(self.store, &key(range.start), &key(range.end))?.into_keys() {
            self.changes.delete(key);
            self.count_retrying(group, false);
        }
        Ok(())
    }

    /// Forgets the held rows of a group, of one topic or of one queue of it.
    pub(super) fn drop_held(
        &mut self,
        tenant: TenantId,
        group: GroupId,
        topic: Option<TopicId>,
        queue: Option<QueueId>,
    ) -> Result<(), Error> {
        if !self.state.retrying.contains_key(&group) {
            return Ok(());
        }
        let prefix = table::held_prefix(tenant, group, topic, queue);
        for key in self.changes.scan(self.store, &prefix)?.into_keys() {
            self.changes.delete(key);
            self.count_retrying(group, false);
        }
        Ok(())
    }

    /// Takes what waits for another attempt along to another ordering; leases that run end without counting.
    pub(super) fn convert_ordering(&mut self, tenant: TenantId, group: GroupId, to: Ordering) -> Result<(), Error> {
        if !self.state.retrying.contains_key(&group) {
            return Ok(());
        }
        for (key, value) in self.changes.scan(self.store, &table::retry_prefix(tenant, group, None))? {
            let Retry { topic, queue, offset, attempt, base, due, record, history } = table::decode(&key, &value)?;
            self.changes.delete(key);
            self.changes.delete(table::due_key(tenant, group, due, topic, queue, offset));
            let row = Held { topic, queue, offset, attempt, base, due, grant: None, record, history };
            self.put_held(tenant, group, &row);
        }
        for (key, value) in self.changes.scan(self.store, &table::held_prefix(tenant, group, None, None))? {
            let row: Held = table::decode(&key, &value)?;
            match to {
                Ordering::Key | Ordering::Queue if row.grant.is_some() => self.release_held(tenant, group, row, 0),
                Ordering::Key | Ordering::Queue => {}
                Ordering::None => self.unhold(tenant, group, row),
            }
        }
        Ok(())
    }

    /// A held message as a group of ordering `none` has it: fresh, or in the retry set.
    fn unhold(&mut self, tenant: TenantId, group: GroupId, row: Held) {
        let fresh = row.is_fresh();
        let Held { topic, queue, offset, attempt, base, due, record, history, .. } = row;
        self.delete_held(tenant, group, topic, queue, offset);
        if fresh {
            return;
        }
        self.put_retry(tenant, group, &Retry { topic, queue, offset, attempt, base, due, record, history });
        self.settle_range(group, TopicId(topic), QueueId(queue), offset..offset + 1);
    }

    pub(super) fn keeps_order(&self, group: GroupId) -> bool {
        self.state.groups.get(&group).is_some_and(|group| group.config.ordering != Ordering::None)
    }

    /// True if a message there is one of the group's.
    pub(super) fn is_of_group(&self, group: GroupId, lease: &LeaseRef) -> bool {
        let (topic, queue) = (TopicId(lease.topic), QueueId(lease.queue));
        let of_group = self.state.groups.get(&group).is_some_and(|group| group.topic_ids.contains(&topic));
        of_group && lease.offset < self.state.ends(topic, queue).latest && lease.attempt >= FIRST_ATTEMPT
    }

    fn is_settled(&self, group: GroupId, lease: &LeaseRef) -> bool {
        let cursor = self.state.cursor(group, TopicId(lease.topic), QueueId(lease.queue));
        cursor.is_some_and(|cursor| cursor.is_settled(QueueOffset(lease.offset)))
    }

    fn read_held(&self, tenant: TenantId, group: GroupId, lease: &LeaseRef) -> Result<Option<Held>, Error> {
        if !self.state.retrying.contains_key(&group) {
            return Ok(None);
        }
        let key = table::held_key(tenant, group, lease.topic, lease.queue, lease.offset);
        let value = self.changes.get(self.store, &key)?;
        value.map(|value| table::decode(&key, &value)).transpose()
    }

    /// Writes a row that is counted already.
    pub(super) fn put_held(&mut self, tenant: TenantId, group: GroupId, row: &Held) {
        self.changes.put(table::held_key(tenant, group, row.topic, row.queue, row.offset), table::encode(row));
    }

    fn delete_held(&mut self, tenant: TenantId, group: GroupId, topic: u32, queue: u16, offset: u64) {
        self.changes.delete(table::held_key(tenant, group, topic, queue, offset));
        self.count_retrying(group, false);
    }
}
