//! Applies committed entries to the state of one shard.
//!
//! Small tables live in memory as [`State`]; what is large (retry rows, plugin pieces, the bases of segments) is read
//! through [`Store`], seen through the rows that the entry itself has written so far. Every change is written
//! through: [`Machine::apply`] returns the rows, and state in memory plus rows in the store agree after each entry.
//!
//! | part | holds |
//! |---|---|
//! | `entry` | one entry: its records in order, units, and the commands that are one call |
//! | `changes` | what the entry has changed so far, and its rows |
//! | `publish` `park` `settle` `held` `seek` `dead_letter` `config` `plugin` | the commands |
//! | `trim` `owed` | what retention takes, what it must leave, and how that is carried to the log's head |
//! | `dedup` | keys under which messages are stored once, and when they are forgotten |
//! | `audit` `usage` `outcome_hash` | who changed what, how much each tenant has used, what replicas compare |
//! | `timers` `dead_letters` | reads of parked messages, and of those a group gave up |
//! | `load` `walk` | typed state from rows; queue and key entries of entries that are applied already |
//!
//! INVARIANT: a record that is refused has changed nothing; every command checks all before its first change.

mod audit;
mod changes;
mod config;
mod dead_letter;
mod dead_letters;
mod dedup;
mod entry;
mod held;
mod load;
mod outcome_hash;
mod owed;
mod park;
mod plugin;
mod publish;
mod seek;
mod settle;
mod timers;
mod transaction;
mod transactions;
mod trim;
mod usage;
mod walk;

use std::collections::BTreeSet;

use bytes::Bytes;
use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{
    GroupId, LogIndex, LogPosition, Ordinal, QueueId, QueueOffset, ShardId, TenantId, Term, Timestamp, TopicId,
};

use crate::error::Error;
use crate::outcome::Outcome;
use crate::state::{AuditRow, Retry, State};
use crate::table;
use entry::Entry;
pub use walk::SegmentWalk;

/// Reads of the shard's own rows, as of the last applied entry.
pub trait Store: Send {
    /// The row of that key.
    ///
    /// # Errors
    /// It could not be read; the shard is poisoned.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The rows from `from` to before `to`, ascending, until `visit` returns false.
    ///
    /// # Errors
    /// One could not be read; the shard is poisoned.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StoreError>;
}

/// A failed read, in the words of what failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// What an entry is, beside its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryMeta {
    /// Its shard.
    pub shard: ShardId,
    /// Its term.
    pub term: Term,
    /// Its index.
    pub index: LogIndex,
    /// Its leader's stamp: the time of all that happens in it.
    pub stamp: Timestamp,
    /// Where its frame starts; the records follow [`pointsman_model::record::FRAME_HEADER_BYTES`] later.
    pub position: LogPosition,
    /// First position of the segment that holds it.
    pub segment_base: LogPosition,
}

/// A message that became visible in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueAppend {
    /// The topic.
    pub topic: TopicId,
    /// The queue.
    pub queue: QueueId,
    /// Its offset.
    pub offset: QueueOffset,
    /// Where it lies.
    pub entry: QueueEntry,
}

/// A key of a message that became visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyAppend {
    /// The topic.
    pub topic: TopicId,
    /// [`pointsman_model::hash::hash`] of the key.
    pub key_hash: u64,
    /// The message: index and ordinal.
    pub place: (LogIndex, Ordinal),
}

/// What an entry came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// One for each record.
    pub outcomes: Vec<Outcome>,
    /// Rows to write (`Some`) and to delete (`None`), by key, each key once.
    pub writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Queue entries, in log order.
    pub queue: Vec<QueueAppend>,
    /// Key entries, in log order.
    pub keys: Vec<KeyAppend>,
    /// Some configuration object or generation differs now.
    pub config_changed: bool,
    /// Running hash of all outcomes up to here.
    pub outcome_hash: u64,
}

/// The state of one shard and the rules that change it.
#[derive(Debug)]
pub struct Machine {
    shard: ShardId,
    state: State,
    segment: SegmentQueues,
    fronts: dedup::Fronts,
    poisoned: bool,
}

/// Queues known to have a row in table [`table::SEGMENT_QUEUE`] for the segment that is written now. A cache.
#[derive(Debug, Default)]
struct SegmentQueues {
    base: LogPosition,
    started: BTreeSet<(TopicId, QueueId)>,
}

impl SegmentQueues {
    fn open(&mut self, base: LogPosition) {
        if self.base != base {
            self.base = base;
            self.started.clear();
        }
    }
}

impl Machine {
    /// Rebuilds the state from the rows of an earlier run; from none, an empty state.
    ///
    /// # Errors
    /// A row could not be read or makes no sense.
    pub fn load(store: &dyn Store, shard: ShardId) -> Result<Self, Error> {
        let state = load::load(store)?;
        Ok(Self { shard, state, segment: SegmentQueues::default(), fronts: dedup::Fronts::default(), poisoned: false })
    }

    /// Applies the next entry. `records` are its records as they lie in the log; none for a blank or a membership.
    ///
    /// # Errors
    /// A failed read, a damaged row, a record that does not match its checksum, an unknown command: the shard is
    /// poisoned on this node and every later call fails.
    pub fn apply(&mut self, store: &dyn Store, meta: &EntryMeta, records: &Bytes) -> Result<Applied, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        if meta.shard != self.shard {
            return Err(Error::WrongShard { expected: self.shard, found: meta.shard });
        }
        self.segment.open(meta.segment_base);
        let applied = Entry::new(&mut self.state, &mut self.segment, &mut self.fronts, store, meta).apply(records);
        self.poisoned = applied.is_err();
        applied
    }

    /// What the shard knows.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The retry row of a message, if it waits for another attempt.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn retry(
        &self,
        store: &dyn Store,
        group: GroupId,
        topic: TopicId,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<Option<Retry>, Error> {
        let Some(tenant) = self.retrying_tenant(group) else {
            return Ok(None);
        };
        let key = table::retry_key(tenant, group, topic.0, queue.0, offset.0);
        store.get(&key)?.map(|value| table::decode(&key, &value)).transpose()
    }

    /// At most `limit` retry rows of a group that are due at `now`, the earliest first.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn due(&self, store: &dyn Store, group: GroupId, now: Timestamp, limit: usize) -> Result<Vec<Retry>, Error> {
        let Some(tenant) = self.retrying_tenant(group) else {
            return Ok(Vec::new());
        };
        let prefix = table::due_prefix(tenant, group);
        let to = now.0.checked_add(1).map_or_else(|| table::after(&prefix), |end| table::due_from(tenant, group, end));
        let mut found = Vec::new();
        store.scan(&prefix, &to, &mut |key, _| {
            if found.len() < limit {
                found.push(key.to_vec());
            }
            found.len() < limit
        })?;
        found.iter().take(limit).map(|key| self.retry_of_due(store, tenant, group, key)).collect()
    }

    /// When the next retry row of a group is due after a time.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn next_due(&self, store: &dyn Store, group: GroupId, after: Timestamp) -> Result<Option<Timestamp>, Error> {
        let (Some(tenant), Some(from)) = (self.retrying_tenant(group), after.0.checked_add(1)) else {
            return Ok(None);
        };
        let from = table::due_from(tenant, group, from);
        let mut first = None;
        store.scan(&from, &table::after(&table::due_prefix(tenant, group)), &mut |key, _| {
            first = Some(key.to_vec());
            false
        })?;
        first.map(|key| due_of(&key).map(|(due, ..)| Timestamp(due))).transpose()
    }

    /// The bytes of an uploaded component, if a version of the tenant has that digest.
    ///
    /// # Errors
    /// A failed read, or a piece is missing.
    pub fn plugin_bytes(
        &self,
        store: &dyn Store,
        tenant: TenantId,
        digest: &[u8; 32],
    ) -> Result<Option<Vec<u8>>, Error> {
        plugin::bytes(&self.state, store, tenant, digest)
    }

    /// At most `limit` changes of the configuration, the newest first, from the one after `after` on.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn audit(
        &self,
        store: &dyn Store,
        after: Option<(LogIndex, Ordinal)>,
        limit: usize,
    ) -> Result<Vec<(LogIndex, Ordinal, AuditRow)>, Error> {
        audit::newest(store, after, limit)
    }

    /// The tenant of a group that has retry rows.
    fn retrying_tenant(&self, group: GroupId) -> Option<TenantId> {
        let some = self.state.retrying.get(&group).is_some_and(|count| *count > 0);
        self.state.groups.get(&group).filter(|_| some).map(|group| group.tenant)
    }

    fn retry_of_due(&self, store: &dyn Store, tenant: TenantId, group: GroupId, due: &[u8]) -> Result<Retry, Error> {
        let (_, topic, queue, offset) = due_of(due)?;
        let key = table::retry_key(tenant, group, topic, queue, offset);
        let value = store.get(&key)?.ok_or_else(|| Error::MissingRow { key: key.clone() })?;
        table::decode(&key, &value)
    }
}

/// Due time, topic, queue and offset of a key of table [`table::DUE`].
fn due_of(key: &[u8]) -> Result<(u64, u32, u16, u64), Error> {
    let mut numbers = table::KeyReader::new(key);
    let (_tenant, _group) = (numbers.u32()?, numbers.u32()?);
    Ok((numbers.u64()?, numbers.u32()?, numbers.u16()?, numbers.u64()?))
}

#[cfg(test)]
mod tests;
