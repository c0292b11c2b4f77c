//! Forgetting dedup keys: by lists of what an entry brought, little by little.
//!
//! The keys that one entry brings and that are forgotten at one time are one list (or a few, each of at most
//! [`limits::DEDUP_LIST_KEYS_MAX`]), so a key costs a part of a row here and not one of its own. A list names exactly
//! the rows that are forgotten with it. An entry that brings n keys removes whole lists until 2 n keys are gone, or
//! nothing is left that is not live: so what is remembered does not grow, and no entry pays for many others.

use std::collections::BTreeMap;

use pointsman_model::{LogIndex, TenantId, TopicId, limits};

use super::super::entry::Entry;
use crate::error::Error;
use crate::state::{DedupId, Remembered};
use crate::table::{self, DedupList, KeyReader};

/// Lists that are read at once.
const LISTS_AT_ONCE: usize = 4;

/// Where the first list of each topic is: what lies before are traces of removed rows, slow to pass by. A cache.
#[derive(Debug, Default)]
pub(in crate::machine) struct Fronts {
    lists: BTreeMap<TopicId, Front>,
    /// Of the topic whose rows are swept: where its keys and lists start.
    swept: Option<(TopicId, [Vec<u8>; 2])>,
}

/// The first list of a topic.
#[derive(Debug)]
enum Front {
    /// Not before this key.
    At(Vec<u8>),
    /// There is none.
    None,
}

impl Fronts {
    /// A list was written.
    fn note(&mut self, topic: TopicId, key: &[u8]) {
        if let Some(front) = self.lists.get_mut(&topic)
            && !matches!(front, Front::At(first) if first.as_slice() <= key)
        {
            *front = Front::At(key.to_vec());
        }
    }
}

impl Entry<'_> {
    /// Puts a key on the list of those that are forgotten with it; written at the end of the entry.
    pub(super) fn list(&mut self, tenant: TenantId, id: DedupId, row: &Remembered) {
        if let Some((expires, _)) = row.listed() {
            self.changes.dedup_lists.entry((tenant, TopicId(id.topic), expires)).or_default().push(id.hash);
        }
    }

    /// Takes a key off its list.
    pub(super) fn unlist(&mut self, tenant: TenantId, id: DedupId, row: &Remembered) -> Result<(), Error> {
        let Some((expires, index)) = row.listed() else { return Ok(()) };
        let topic = TopicId(id.topic);
        if index == self.meta.index.0 {
            if let Some(list) = self.changes.dedup_lists.get_mut(&(tenant, topic, expires)) {
                list.retain(|hash| *hash != id.hash);
            }
            return Ok(());
        }
        let lists = table::dedup_lists_of(tenant, topic, expires, LogIndex(index));
        for (key, value) in self.changes.scan(self.store, &lists)? {
            let mut list = DedupList::decode(&key, &value)?;
            let Some(at) = list.0.iter().position(|hash| *hash == id.hash) else { continue };
            list.0.swap_remove(at);
            if list.0.is_empty() {
                self.changes.delete(key);
            } else {
                self.changes.put(key, list.encode());
            }
            break;
        }
        Ok(())
    }

    /// The last thing an entry does: writes its lists, and forgets what is due.
    pub(in crate::machine) fn dedup_finish(&mut self) -> Result<(), Error> {
        for ((tenant, topic, expires), hashes) in std::mem::take(&mut self.changes.dedup_lists) {
            for (list, hashes) in (0..).zip(hashes.chunks(limits::DEDUP_LIST_KEYS_MAX)) {
                let key = table::dedup_list_key(tenant, topic, expires, self.meta.index, list);
                self.fronts.note(topic, &key);
                self.changes.put(key, DedupList(hashes.to_vec()).encode());
            }
        }
        for ((tenant, topic), keys) in std::mem::take(&mut self.changes.dedup_new) {
            if self.state.topics.contains_key(&topic) {
                self.dedup_forget_expired(tenant, topic, 2 * keys)?;
            }
        }
        self.dedup_sweep()
    }

    /// True if a row of the topic is not live any more and could be removed.
    pub(super) fn dedup_has_expired(&self, tenant: TenantId, topic: TopicId) -> Result<bool, Error> {
        let Some(from) = self.front(tenant, topic) else { return Ok(false) };
        let end = table::after(&table::dedup_lists_prefix(tenant, topic));
        match self.changes.first(self.store, &from, &end, 1)?.first() {
            Some((key, _)) => Ok(expires_of(key)? <= self.now().0),
            None => Ok(false),
        }
    }

    /// Where the topic's lists start; `None` if there are surely none.
    fn front(&self, tenant: TenantId, topic: TopicId) -> Option<Vec<u8>> {
        match self.fronts.lists.get(&topic) {
            Some(Front::At(key)) => Some(key.clone()),
            Some(Front::None) => None,
            None => Some(table::dedup_lists_prefix(tenant, topic)),
        }
    }

    /// Removes lists whose time has passed, with all that is on them, until so many keys are gone.
    fn dedup_forget_expired(&mut self, tenant: TenantId, topic: TopicId, keys_min: usize) -> Result<(), Error> {
        let Some(mut from) = self.front(tenant, topic) else { return Ok(()) };
        if matches!(self.fronts.lists.get(&topic), Some(Front::At(key)) if expires_of(key)? > self.now().0) {
            return Ok(());
        }
        let end = table::after(&table::dedup_lists_prefix(tenant, topic));
        let mut removed = 0;
        loop {
            let lists = self.changes.first(self.store, &from, &end, LISTS_AT_ONCE)?;
            if lists.is_empty() {
                self.fronts.lists.insert(topic, Front::None);
                return Ok(());
            }
            for (key, value) in lists {
                if removed >= keys_min || expires_of(&key)? > self.now().0 {
                    self.fronts.lists.insert(topic, Front::At(key));
                    return Ok(());
                }
                let list = DedupList::decode(&key, &value)?;
                removed += list.0.len();
                for hash in &list.0 {
                    self.changes.delete(table::dedup_key(tenant, topic, *hash));
                }
                let count = list.0.len() as u64;
                self.count_dedup(tenant, DedupId { topic: topic.0, hash: 0 }, |rows| rows.saturating_sub(count));
                from.clone_from(&key);
                from.push(0);
                self.changes.delete(key);
            }
        }
    }

    /// Removes some rows of a deleted topic: all at once would make one entry as slow as there are keys.
    fn dedup_sweep(&mut self) -> Result<(), Error> {
        let Some((topic, tenant)) = self.state.dedup_left.first_key_value().map(|(topic, of)| (*topic, *of)) else {
            return Ok(());
        };
        let prefixes = [table::dedup_prefix(tenant, topic), table::dedup_lists_prefix(tenant, topic)];
        let mut from = match self.fronts.swept.take() {
            Some((of, from)) if of == topic => from,
            _ => prefixes.clone(),
        };
        let mut done = true;
        for (prefix, from) in prefixes.iter().zip(&mut from) {
            let rows = self.changes.first(self.store, from, &table::after(prefix), limits::DEDUP_SWEEP_ROWS_MAX)?;
            done &= rows.len() < limits::DEDUP_SWEEP_ROWS_MAX;
            for (key, _) in rows {
                from.clone_from(&key);
                self.changes.delete(key);
            }
        }
        if done {
            self.state.dedup_left.remove(&topic);
            self.state.dedup_keys.remove(&topic);
            self.fronts.lists.remove(&topic);
            self.changes.delete(table::dedup_count_key(tenant, topic));
        } else {
            self.fronts.swept = Some((topic, from));
        }
        Ok(())
    }
}

/// When the keys of a list are forgotten.
fn expires_of(key: &[u8]) -> Result<u64, Error> {
    let mut numbers = KeyReader::new(key);
    let (_tenant, _topic) = (numbers.u32()?, numbers.u32()?);
    numbers.u64()
}
