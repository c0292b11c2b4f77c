//! Messages that are stored once: what a topic remembers of dedup keys, and when it forgets them.
//!
//! A key is remembered from the record that is stored under it until its window has passed. Until then another message
//! with it is a duplicate and comes to nothing; a producer's key with another payload is a mistake and refused.
//! *Live* is a matter of the entry's stamp alone. Rows that are not live any more are removed little by little, by
//! entries that bring new keys ([`forget`]): a replaced or removed row changes no outcome.
//!
//! | who | calls |
//! |---|---|
//! | a message that is stored now, visible or parked | [`Entry::dedup_check`], then [`Entry::dedup_reserve`] |
//! | a parked message that becomes visible, a half message that is committed | [`Entry::dedup_settle`] |
//! | a parked message that is cancelled or rolled back | [`Entry::dedup_forget`] |

mod forget;

use std::collections::BTreeMap;

use pointsman_model::{Ordinal, QueueId, QueueOffset, TenantId, Timestamp, TopicId, hash, limits};

use super::entry::Entry;
use super::{Machine, Store};
use crate::command::{Dedup, DedupBy, Place};
use crate::error::Error;
use crate::outcome::{Duplicate, Refusal};
use crate::state::{DedupId, Remembered};
use crate::table;
pub(super) use forget::Fronts;

/// A head's dedup key, as its topic's table names it.
#[derive(Clone, Copy)]
pub(super) struct Keyed {
    /// Its row.
    pub(super) id: DedupId,
    by: DedupBy,
    fingerprint: u128,
    window_ms: u64,
}

impl Keyed {
    /// The key of a message that was published to `topic`: where a selector sent it is another matter. A window of 0 is
    /// none, and then so is the key.
    pub(super) fn of(dedup: &Dedup<'_>, topic: TopicId) -> Result<Option<Self>, Refusal> {
        let Dedup { key, by, fingerprint, window_ms } = *dedup;
        if key.is_empty() || key.len() > limits::IDEMPOTENCY_KEY_STORED_BYTES_MAX {
            return Err(Refusal::Malformed(format!("a dedup key of {} bytes", key.len())));
        }
        if window_ms > limits::DEDUP_WINDOW_MS_MAX {
            return Err(Refusal::Malformed(format!("a dedup window of {window_ms} ms")));
        }
        let keyed = Self { id: DedupId::new(topic, by, key), by, fingerprint, window_ms };
        Ok((window_ms > 0).then_some(keyed))
    }

    /// A plugin's word says what is the same; a producer's key stands for one payload.
    fn mismatches(&self, fingerprint: u128) -> bool {
        self.by == DedupBy::Producer && self.fingerprint != fingerprint
    }
}

impl DedupId {
    /// The row of a key in the table of the topic it was published to.
    #[must_use]
    pub fn new(topic: TopicId, by: DedupBy, key: &str) -> Self {
        let by = match by {
            DedupBy::Producer => 0,
            DedupBy::Plugin => 1,
        };
        Self { topic: topic.0, hash: hash::dedup_hash(by, key) }
    }

    fn key(self, tenant: TenantId) -> Vec<u8> {
        table::dedup_key(tenant, TopicId(self.topic), self.hash)
    }
}

/// What the table says of a message that is not refused.
#[derive(Clone, Copy)]
pub(super) enum Seen {
    /// It has no key.
    Unkeyed,
    /// Its key is free. A row that is not live any more may be in its place.
    Free(Keyed, Option<Remembered>),
    /// An earlier record of the same unit has the same key.
    InUnit(Keyed),
    /// A message is stored under its key.
    Before(Remembered),
}

/// What is known of the records before one in its unit: all are checked before the first is stored.
pub(super) struct UnitKeys {
    records: usize,
    fingerprints: BTreeMap<DedupId, u128>,
    /// By topic, how many rows they add.
    new: BTreeMap<u32, u64>,
}

impl UnitKeys {
    /// Of a record that is the first, or a unit by itself.
    pub(super) fn alone() -> Self {
        Self { records: 0, fingerprints: BTreeMap::new(), new: BTreeMap::new() }
    }

    /// True if no record comes before.
    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Notes a record of the unit, with what was found for it unless it is refused.
    pub(super) fn note(&mut self, seen: Option<&Seen>) {
        self.records += 1;
        if let Some(Seen::Free(keyed, replaced)) = seen {
            self.fingerprints.insert(keyed.id, keyed.fingerprint);
            *self.new.entry(keyed.id.topic).or_default() += u64::from(replaced.is_none());
        }
    }
}

impl Entry<'_> {
    /// What the table says of a message with this key. `unit` holds what was found for the records before it in its
    /// unit.
    pub(super) fn dedup_check(
        &self,
        tenant: TenantId,
        keyed: Option<&Keyed>,
        unit: &UnitKeys,
    ) -> Result<Result<Seen, Refusal>, Error> {
        let Some(keyed) = keyed else { return Ok(Ok(Seen::Unkeyed)) };
        if let Some(fingerprint) = unit.fingerprints.get(&keyed.id) {
            let same = !keyed.mismatches(*fingerprint);
            return Ok(if same { Ok(Seen::InUnit(*keyed)) } else { Err(Refusal::IdempotencyMismatch) });
        }
        let found = self.dedup_read(tenant, keyed.id)?;
        if let Some(before) = found.filter(|found| found.is_live(self.now())) {
            let same = !keyed.mismatches(before.fingerprint());
            return Ok(if same { Ok(Seen::Before(before)) } else { Err(Refusal::IdempotencyMismatch) });
        }
        if found.is_none() && self.is_full(tenant, keyed.id, unit)? {
            return Ok(Err(Refusal::TooManyKeys));
        }
        Ok(Ok(Seen::Free(*keyed, found)))
    }

    /// True if the topic remembers as many keys as it may, all of them live.
    fn is_full(&self, tenant: TenantId, id: DedupId, unit: &UnitKeys) -> Result<bool, Error> {
        let topic = TopicId(id.topic);
        let new = unit.new.get(&id.topic).copied().unwrap_or_default();
        let rows = self.state.dedup_keys.get(&topic).copied().unwrap_or_default() + new;
        Ok(rows >= limits::DEDUP_KEYS_MAX && !self.dedup_has_expired(tenant, topic)?)
    }

    /// The message that this one is a duplicate of, if it is.
    pub(super) fn dedup_before(&self, tenant: TenantId, seen: &Seen) -> Result<Option<Duplicate>, Error> {
        let before = match seen {
            Seen::Unkeyed | Seen::Free(..) => None,
            Seen::Before(before) => Some(*before),
            Seen::InUnit(keyed) => self.dedup_read(tenant, keyed.id)?,
        };
        Ok(before.map(|before| Duplicate::of(&before)))
    }

    /// Remembers the key of a message that is stored now: the record of this ordinal, or the first of its targets.
    /// `at` is its queue and offset if it is visible; `half` says that its window starts with its commit.
    pub(super) fn dedup_reserve(
        &mut self,
        tenant: TenantId,
        seen: &Seen,
        ordinal: Ordinal,
        topic: TopicId,
        at: Option<(QueueId, QueueOffset)>,
        half: bool,
    ) -> Result<(), Error> {
        let Seen::Free(keyed, replaced) = seen else { return Ok(()) };
        if let Some(replaced) = replaced {
            self.unlist(tenant, keyed.id, replaced)?;
        } else {
            self.count_dedup(tenant, keyed.id, |count| count + 1);
        }
        let place = Place { term: self.meta.term.0, index: self.meta.index.0, ordinal: ordinal.0 };
        let row = Remembered::new(place, topic, at, keyed.fingerprint, self.now(), keyed.window_ms, half);
        self.changes.put(keyed.id.key(tenant), table::encode(&row));
        self.list(tenant, keyed.id, &row);
        *self.changes.dedup_new.entry((tenant, TopicId(keyed.id.topic))).or_default() += 1;
        Ok(())
    }

    /// The message of this place has become visible (`at`), or is a half message that was committed: its window starts.
    /// Nothing happens if its key was forgotten since, or stands for another message by now.
    pub(super) fn dedup_settle(
        &mut self,
        tenant: TenantId,
        id: DedupId,
        place: Place,
        topic: TopicId,
        at: Option<(QueueId, QueueOffset)>,
    ) -> Result<(), Error> {
        let Some(mut row) = self.dedup_of(tenant, id, place)? else { return Ok(()) };
        let waited = row.listed().is_none();
        row.settle(topic, at, self.now(), self.meta.index.0);
        self.changes.put(id.key(tenant), table::encode(&row));
        if waited {
            self.list(tenant, id, &row);
        }
        Ok(())
    }

    /// The parked message of this place never becomes visible: its key is free again.
    pub(super) fn dedup_forget(&mut self, tenant: TenantId, id: DedupId, place: Place) -> Result<(), Error> {
        let Some(row) = self.dedup_of(tenant, id, place)? else { return Ok(()) };
        self.unlist(tenant, id, &row)?;
        self.changes.delete(id.key(tenant));
        self.count_dedup(tenant, id, |count| count.saturating_sub(1));
        Ok(())
    }

    /// The row of a key if it still stands for this message. The rows of a deleted topic are left to who sweeps them.
    fn dedup_of(&self, tenant: TenantId, id: DedupId, place: Place) -> Result<Option<Remembered>, Error> {
        if !self.state.topics.contains_key(&TopicId(id.topic)) {
            return Ok(None);
        }
        Ok(self.dedup_read(tenant, id)?.filter(|row| row.place == place))
    }

    fn dedup_read(&self, tenant: TenantId, id: DedupId) -> Result<Option<Remembered>, Error> {
        let key = id.key(tenant);
        let value = self.changes.get(self.store, &key)?;
        value.map(|value| table::decode(&key, &value)).transpose()
    }

    fn count_dedup(&mut self, tenant: TenantId, id: DedupId, change: impl FnOnce(u64) -> u64) {
        let topic = TopicId(id.topic);
        let count = self.state.dedup_keys.entry(topic).or_default();
        *count = change(*count);
        self.changes.dedup_counts.insert((tenant, topic));
    }
}

impl Machine {
    /// The message that a topic of a tenant remembers under a key at `now`, stored or parked. Needs no machine, so that
    /// a slow read keeps nobody from applying.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn remembered(
        store: &dyn Store,
        (tenant, topic): (TenantId, TopicId),
        by: DedupBy,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Remembered>, Error> {
        let key = DedupId::new(topic, by, key).key(tenant);
        let row: Option<Remembered> = store.get(&key)?.map(|value| table::decode(&key, &value)).transpose()?;
        Ok(row.filter(|row| row.is_live(now)))
    }
}

#[cfg(test)]
impl Entry<'_> {
    /// Remembers a key for the record of ordinal 0, which is parked.
    pub(super) fn reserve_for_test(&mut self, tenant: TenantId, dedup: &Dedup<'_>, topic: TopicId, half: bool) {
        let keyed = Keyed::of(dedup, topic).ok().flatten();
        let seen = self.dedup_check(tenant, keyed.as_ref(), &UnitKeys::alone()).ok().and_then(Result::ok).unwrap();
        self.dedup_reserve(tenant, &seen, Ordinal(0), topic, None, half).unwrap();
    }
}
