//! What an entry has changed so far: rows to write, and what becomes a row once at its end.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_model::{GroupId, QueueId, TenantId, TopicId};

use super::{KeyAppend, QueueAppend, Store};
use crate::error::Error;
use crate::outcome::Outcome;
use crate::state::{State, Touched};
use crate::table;

/// Rows by key; `None` is a row that goes.
pub(super) type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Key and value.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// The changes of one entry.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) queue: Vec<QueueAppend>,
    pub(super) keys: Vec<KeyAppend>,
    pub(super) config_changed: bool,
    /// Rows whose value is known. What follows from the typed state is added at the end.
    rows: Rows,
    /// Queues whose ends differ.
    pub(super) queues: BTreeSet<(TopicId, QueueId)>,
    /// Cursors that differ, and in which blocks.
    pub(super) cursors: BTreeMap<(GroupId, TopicId, QueueId), Touched>,
    /// Where in table 27 this entry has forgotten transactions up to, by prefix.
    pub(super) forgotten: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Groups whose number of retry rows differs.
    pub(super) retrying: BTreeSet<GroupId>,
    /// Dedup keys this entry brought, by topic and the time at which they are forgotten.
    pub(super) dedup_lists: BTreeMap<(TenantId, TopicId, u64), Vec<u128>>,
    /// How many of them each topic got.
    pub(super) dedup_new: BTreeMap<(TenantId, TopicId), usize>,
    /// Topics whose number of dedup rows differs.
    pub(super) dedup_counts: BTreeSet<(TenantId, TopicId)>,
    /// Tenants whose number of timers differs.
    pub(super) timers: BTreeSet<TenantId>,
    /// Groups whose number of dead letters differs.
    pub(super) dead: BTreeSet<GroupId>,
    /// Tenants that have used something.
    pub(super) usage: BTreeSet<TenantId>,
}

impl Changes {
    /// Writes a row.
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.rows.insert(key, Some(value));
    }

    /// Deletes a row that may be there.
    pub(super) fn delete(&mut self, key: Vec<u8>) {
        self.rows.insert(key, None);
    }

    /// A row, as this entry has left it.
    pub(super) fn get(&self, store: &dyn Store, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.rows.get(key) {
            Some(value) => Ok(value.clone()),
            None => Ok(store.get(key)?),
        }
    }

    /// All rows whose key starts with `prefix`, as this entry has left them.
    pub(super) fn scan(&self, store: &dyn Store, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        self.scan_range(store, prefix, &table::after(prefix))
    }

    /// All rows from `from` to before `to`, as this entry has left them.
    pub(super) fn scan_range(
        &self,
        store: &dyn Store,
        from: &[u8],
        to: &[u8],
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        let mut found = BTreeMap::new();
        store.scan(from, to, &mut |key, value| {
            found.insert(key.to_vec(), value.to_vec());
            true
        })?;
        for (key, value) in self.rows.range(from.to_vec()..to.to_vec()) {
            match value {
                Some(value) => drop(found.insert(key.clone(), value.clone())),
                None => drop(found.remove(key)),
            }
        }
        Ok(found)
    }

    /// At most `limit` keys from `from` to before `to`, as this entry has left them, the least first.
    pub(super) fn keys(
        &self,
        store: &dyn Store,
        (from, to): (&[u8], &[u8]),
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, Error> {
        Ok(self.first(store, from, to, limit)?.into_iter().map(|(key, _)| key).collect())
    }

    /// The first rows from `from` to before `to`, at most `max`, as this entry has left them.
    pub(super) fn first(&self, store: &dyn Store, from: &[u8], to: &[u8], max: usize) -> Result<Vec<Row>, Error> {
        let mut found = Vec::new();
        store.scan(from, to, &mut |key, value| {
            if !self.rows.contains_key(key) {
                found.push((key.to_vec(), value.to_vec()));
            }
            found.len() < max
        })?;
        let own = self.rows.range(from.to_vec()..to.to_vec());
        found.extend(own.filter_map(|(key, value)| Some((key.clone(), value.clone()?))).take(max));
        found.sort_unstable();
        found.truncate(max);
        Ok(found)
    }

    /// Encodes what is written once an entry, and hands over all rows.
    pub(super) fn take_rows(&mut self, state: &State) -> Rows {
        self.queue_rows(state);
        self.cursor_rows(state);
        for group in std::mem::take(&mut self.retrying) {
            let Some(tenant) = state.groups.get(&group).map(|group| group.tenant) else {
                continue;
            };
            let key = table::retrying_key(tenant, group);
            match state.retrying.get(&group) {
                Some(count) => self.put(key, table::encode(count)),
                None => self.delete(key),
            }
        }
        for (tenant, topic) in std::mem::take(&mut self.dedup_counts) {
            if let Some(count) = state.dedup_keys.get(&topic) {
                self.put(table::dedup_count_key(tenant, topic), table::encode(count));
            }
        }
        for tenant in std::mem::take(&mut self.timers) {
            let key = table::timers_key(tenant);
            match state.timers.get(&tenant) {
                Some(count) => self.put(key, table::encode(count)),
                None => self.delete(key),
            }
        }
        for group in std::mem::take(&mut self.dead) {
            let Some(tenant) = state.groups.get(&group).map(|group| group.tenant) else {
                continue;
            };
            let key = table::dead_count_key(tenant, group);
            match state.dead.get(&group) {
                Some(count) => self.put(key, table::encode(count)),
                None => self.delete(key),
            }
        }
        for tenant in std::mem::take(&mut self.usage) {
            if let Some(usage) = state.usage.get(&tenant) {
                self.put(table::usage_key(tenant), table::encode(usage));
            }
        }
        self.put(table::shard_key(), table::encode(&table::ShardRow::of(state)));
        std::mem::take(&mut self.rows)
    }

    fn queue_rows(&mut self, state: &State) {
        for (topic, queue) in std::mem::take(&mut self.queues) {
            // A topic deleted later in the entry took its rows along.
            let Some(tenant) = state.topics.get(&topic).map(|topic| topic.tenant) else {
                continue;
            };
            self.put(table::queue_key(tenant, topic, queue), table::encode(&state.ends(topic, queue)));
        }
    }

    fn cursor_rows(&mut self, state: &State) {
        for ((group, topic, queue), touched) in std::mem::take(&mut self.cursors) {
            let Some(tenant) = state.groups.get(&group).map(|group| group.tenant) else {
                continue;
            };
            let Some(cursor) = state.cursors.get(&(group, topic, queue)) else {
                continue;
            };
            self.put(
                table::cursor_key(tenant, group, topic, queue),
                table::encode(&(cursor.floor().0, cursor.sought())),
            );
            for (block, existed) in touched {
                let key = table::cursor_block_key(tenant, group, topic, queue, block);
                match cursor.block_bytes(block) {
                    Some(bytes) => self.put(key, table::encode_block(&bytes)),
                    None if existed => self.delete(key),
                    None => {}
                }
            }
        }
    }
}
