//! Dead letters: messages that a group gave up, what becomes of them, and how they are forgotten.
//!
//! A dead letter refers to its message's record (`docs/adr/0010-dead-letters-refer.md`). Redriven to its group it gets
//! a retry row (in a group that keeps an order a held row) that is due at once and counts deliveries anew; its own row stays until its retention ends, so that a
//! second redrive is told from the first.

use pointsman_model::record::Header;
use pointsman_model::{GroupId, QueueId, QueueOffset, TenantId, TopicId};

use super::entry::{Entry, Stop};
use crate::command::{DeadLetterChange, DeadLetterOp, LeaseRef, Place, RecordRef};
use crate::error::Error;
use crate::outcome::{LetterFate, Outcome};
use crate::state::{DeadLetter, DeadReason, EndedAttempt, OwedBy, Retry};
use crate::table::{self, KeyReader};

/// Rows past their retention that one new dead letter takes along.
const FORGOTTEN_PER_LETTER: usize = 2;

/// What is known of a message that is given up, beside its lease.
pub(super) struct Burial {
    pub(super) record: RecordRef,
    pub(super) base: u16,
    pub(super) reason: DeadReason,
    pub(super) history: Vec<EndedAttempt>,
}

impl Entry<'_> {
    /// Puts a message into the group's dead-letter queue, in place of an earlier death of the same message.
    pub(super) fn bury(
        &mut self,
        tenant: TenantId,
        group: GroupId,
        lease: &LeaseRef,
        burial: Burial,
    ) -> Result<(), Error> {
        self.forget_expired(tenant, group)?;
        let Burial { record, base, reason, history } = burial;
        // Retention has taken it while it was leased.
        if self.is_released(record.position) {
            return Ok(());
        }
        let key = (record.place.index, record.place.ordinal);
        if let Some(before) = self.dead_letter(tenant, group, key)? {
            self.forget(tenant, group, &before);
        }
        let retention = self.state.groups.get(&group).map_or(0, |group| group.config.dlq_retention_ms);
        let LeaseRef { topic, queue, offset, attempt } = *lease;
        let (dead_at, expires) = (self.now().0, self.now().plus_ms(retention).0);
        let redriven_at = None;
        let letter =
            DeadLetter { record, topic, queue, offset, attempt, base, reason, dead_at, expires, redriven_at, history };
        self.changes.put(table::dead_letter_key(tenant, group, key), table::encode(&letter));
        self.changes.put(table::dead_letter_expiry_key(tenant, group, expires, key), table::encode(&()));
        self.owe(tenant, record.position, record.length, OwedBy::DeadLetter(group.0, key.0, key.1));
        let count = self.state.dead.entry(group).or_default();
        count.open += 1;
        count.rows += 1;
        self.changes.dead.insert(group);
        Ok(())
    }

    pub(super) fn dead_letter_change(&mut self, header: &Header, change: &DeadLetterChange) -> Result<Outcome, Stop> {
        let group = GroupId(change.group);
        let tenant = self.group_of(header, group)?.tenant;
        let mut fates = Vec::with_capacity(change.letters.len());
        for key in &change.letters {
            let letter = self.dead_letter(tenant, group, *key)?;
            fates.push(match (letter, change.op) {
                (None, _) => LetterFate::NotFound,
                (Some(letter), DeadLetterOp::Redrive) => self.redrive(tenant, group, letter)?,
                (Some(letter), DeadLetterOp::Delete) if letter.redriven_at.is_none() => {
                    self.forget(tenant, group, &letter);
                    LetterFate::Forgotten
                }
                (Some(letter), DeadLetterOp::Expire) if letter.expires <= self.now().0 => {
                    self.forget(tenant, group, &letter);
                    LetterFate::Forgotten
                }
                (Some(_), DeadLetterOp::Delete | DeadLetterOp::Expire) => LetterFate::NotFound,
            });
        }
        Ok(Outcome::DeadLetters(fates))
    }

    /// Gives a dead letter to its group again.
    fn redrive(&mut self, tenant: TenantId, group: GroupId, letter: DeadLetter) -> Result<LetterFate, Error> {
        let fate = self.may_redrive(group, &letter);
        if fate != LetterFate::Redriven {
            return Ok(fate);
        }
        let DeadLetter { topic, queue, offset, attempt, .. } = letter;
        let lease = LeaseRef { topic, queue, offset, attempt };
        let (topic_id, queue_id) = (TopicId(topic), QueueId(queue));
        let cursor = self.state.cursor(group, topic_id, queue_id);
        let settled = cursor.is_some_and(|cursor| cursor.is_settled(QueueOffset(offset)));
        // After a seek the message may be on its way already.
        if settled && self.keeps_order(group) {
            if !self.hold_redriven(tenant, group, &lease, letter.record, letter.history.clone())? {
                return Ok(LetterFate::RetrySetFull);
            }
        } else if settled && self.read_retry(tenant, group, &lease)?.is_none() {
            if self.is_retry_set_full(group) {
                return Ok(LetterFate::RetrySetFull);
            }
            let (next, due, history) = (attempt.saturating_add(1), self.now().0, letter.history.clone());
            let record = Some(letter.record);
            let retry = Retry { topic, queue, offset, attempt: next, base: attempt, due, record, history };
            self.put_retry(tenant, group, &retry);
        }
        self.mark_redriven(tenant, group, letter);
        Ok(LetterFate::Redriven)
    }

    /// Whether a dead letter may leave for its group or topic.
    pub(super) fn may_redrive(&self, group: GroupId, letter: &DeadLetter) -> LetterFate {
        let topic = TopicId(letter.topic);
        let subscribed = self.state.groups.get(&group).is_some_and(|group| group.topic_ids.contains(&topic));
        match letter.redriven_at {
            Some(_) => LetterFate::AlreadyRedriven,
            None if letter.expires <= self.now().0 => LetterFate::NotFound,
            None if !subscribed => LetterFate::NotSubscribed,
            None => LetterFate::Redriven,
        }
    }

    /// True if a message of this topic may be a dead letter of that place again.
    pub(super) fn is_open(&self, header: &Header, group: GroupId, place: Place) -> Result<bool, Error> {
        if self.state.groups.get(&group).is_none_or(|group| group.tenant != header.tenant) {
            return Ok(false);
        }
        let letter = self.dead_letter(header.tenant, group, (place.index, place.ordinal))?;
        let letter = letter.filter(|letter| letter.record.place == place && letter.topic == header.topic.0);
        Ok(letter.is_some_and(|letter| self.may_redrive(group, &letter) == LetterFate::Redriven))
    }

    /// Notes that a dead letter went to its topic again.
    pub(super) fn redriven(&mut self, tenant: TenantId, group: GroupId, place: Place) -> Result<(), Error> {
        if let Some(letter) = self.dead_letter(tenant, group, (place.index, place.ordinal))? {
            self.mark_redriven(tenant, group, letter);
        }
        Ok(())
    }

    /// Notes that a dead letter left.
    pub(super) fn mark_redriven(&mut self, tenant: TenantId, group: GroupId, letter: DeadLetter) {
        let key = (letter.record.place.index, letter.record.place.ordinal);
        self.forgive(tenant, letter.record.position, OwedBy::DeadLetter(group.0, key.0, key.1));
        let letter = DeadLetter { redriven_at: Some(self.now().0), ..letter };
        self.changes.put(table::dead_letter_key(tenant, group, key), table::encode(&letter));
        if let Some(count) = self.state.dead.get_mut(&group) {
            count.open = count.open.saturating_sub(1);
        }
        self.changes.dead.insert(group);
    }

    pub(super) fn dead_letter(
        &self,
        tenant: TenantId,
        group: GroupId,
        key: (u64, u16),
    ) -> Result<Option<DeadLetter>, Error> {
        if !self.state.dead.contains_key(&group) {
            return Ok(None);
        }
        let key = table::dead_letter_key(tenant, group, key);
        let value = self.changes.get(self.store, &key)?;
        value.map(|value| table::decode(&key, &value)).transpose()
    }

    fn forget(&mut self, tenant: TenantId, group: GroupId, letter: &DeadLetter) {
        let key = (letter.record.place.index, letter.record.place.ordinal);
        self.changes.delete(table::dead_letter_key(tenant, group, key));
        self.forgive(tenant, letter.record.position, OwedBy::DeadLetter(group.0, key.0, key.1));
        self.changes.delete(table::dead_letter_expiry_key(tenant, group, letter.expires, key));
        if let Some(count) = self.state.dead.get_mut(&group) {
            count.rows = count.rows.saturating_sub(1);
            count.open = count.open.saturating_sub(u64::from(letter.redriven_at.is_none()));
            if count.rows == 0 {
                self.state.dead.remove(&group);
            }
        }
        self.changes.dead.insert(group);
    }

    /// Forgets a few rows whose retention is over, so that a queue nobody looks at stays small.
    fn forget_expired(&mut self, tenant: TenantId, group: GroupId) -> Result<(), Error> {
        if !self.state.dead.contains_key(&group) {
            return Ok(());
        }
        let from = table::dead_letter_expiry_prefix(tenant, group);
        let to = table::dead_letter_expiry_key(tenant, group, self.now().0, (u64::MAX, u16::MAX));
        for expiry in self.changes.keys(self.store, (&from, &to), FORGOTTEN_PER_LETTER)? {
            let (_, key) = of_expiry(&expiry)?;
            match self.dead_letter(tenant, group, key)? {
                Some(letter) => self.forget(tenant, group, &letter),
                None => return Err(Error::MissingRow { key: expiry }),
            }
        }
        Ok(())
    }

    /// Forgets all dead letters of a group that goes.
    pub(super) fn drop_dead_letters(&mut self, tenant: TenantId, group: GroupId) -> Result<(), Error> {
        for (key, value) in self.changes.scan(self.store, &table::dead_letter_prefix(tenant, group))? {
            let letter: DeadLetter = table::decode(&key, &value)?;
            let place = letter.record.place;
            self.forgive(tenant, letter.record.position, OwedBy::DeadLetter(group.0, place.index, place.ordinal));
            self.changes.delete(key);
        }
        for key in self.changes.scan(self.store, &table::dead_letter_expiry_prefix(tenant, group))?.into_keys() {
            self.changes.delete(key);
        }
        self.state.dead.remove(&group);
        self.changes.delete(table::dead_count_key(tenant, group));
        Ok(())
    }
}

/// When a dead letter is forgotten, and its index and ordinal, of a key of table [`table::DEAD_LETTER_EXPIRY`].
pub(super) fn of_expiry(key: &[u8]) -> Result<(u64, (u64, u16)), Error> {
    let mut numbers = KeyReader::new(key);
    let (_tenant, _group) = (numbers.u32()?, numbers.u32()?);
    Ok((numbers.u64()?, (numbers.u64()?, numbers.u16()?)))
}
