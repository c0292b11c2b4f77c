//! Reads of a group's dead letters, and of its retry set by queue.

use pointsman_model::{GroupId, QueueId, TenantId, Timestamp, TopicId};

use super::dead_letter::of_expiry;
use super::{Machine, Store};
use crate::error::Error;
use crate::state::{DeadLetter, Retry};
use crate::table;

impl Machine {
    /// The dead letter of a message's record (index, ordinal), redriven or not.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn dead_letter(&self, store: &dyn Store, group: GroupId, key: (u64, u16)) -> Result<Option<DeadLetter>, Error> {
        let Some(tenant) = self.tenant_with_dead(group) else {
            return Ok(None);
        };
        let key = table::dead_letter_key(tenant, group, key);
        store.get(&key)?.map(|value| table::decode(&key, &value)).transpose()
    }

    /// Dead letters of a group behind `after`, in the order their messages were stored, at most `limit`.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn dead_letters(
        &self,
        store: &dyn Store,
        group: GroupId,
        after: Option<(u64, u16)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        let Some(tenant) = self.tenant_with_dead(group) else {
            return Ok(Vec::new());
        };
        let prefix = table::dead_letter_prefix(tenant, group);
        let from = after.map_or_else(
            || prefix.clone(),
            |after| {
                let mut from = table::dead_letter_key(tenant, group, after);
                // The least key behind it.
                from.push(0);
                from
            },
        );
        rows(store, &from, &table::after(&prefix), limit)
    }

    /// Index and ordinal of dead letters whose retention is over, at most `limit`, the oldest first.
    ///
    /// # Errors
    /// A failed read or a damaged key.
    pub fn expired_dead_letters(
        &self,
        store: &dyn Store,
        group: GroupId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(u64, u16)>, Error> {
        let Some(tenant) = self.tenant_with_dead(group) else {
            return Ok(Vec::new());
        };
        let from = table::dead_letter_expiry_prefix(tenant, group);
        let to = table::dead_letter_expiry_key(tenant, group, now.0, (u64::MAX, u16::MAX));
        let mut keys = Vec::new();
        store.scan(&from, &to, &mut |key, _| {
            if keys.len() < limit {
                keys.push(key.to_vec());
            }
            keys.len() < limit
        })?;
        keys.iter().map(|key| of_expiry(key).map(|(_, key)| key)).collect()
    }

    /// Retry rows of a group in one queue by offset, at most `limit`.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn retries(
        &self,
        store: &dyn Store,
        group: GroupId,
        topic: TopicId,
        queue: QueueId,
        limit: usize,
    ) -> Result<Vec<Retry>, Error> {
        let Some(tenant) = self.retrying_tenant(group) else {
            return Ok(Vec::new());
        };
        let prefix = table::retry_queue_prefix(tenant, group, topic, queue);
        rows(store, &prefix, &table::after(&prefix), limit)
    }

    /// The tenant of a group that has dead letters.
    fn tenant_with_dead(&self, group: GroupId) -> Option<TenantId> {
        let some = self.state.dead.contains_key(&group);
        self.state.groups.get(&group).filter(|_| some).map(|group| group.tenant)
    }
}

/// Rows from `from` to before `to`, at most `limit`.
fn rows<T: serde::de::DeserializeOwned>(
    store: &dyn Store,
    from: &[u8],
    to: &[u8],
    limit: usize,
) -> Result<Vec<T>, Error> {
    let mut found = Vec::new();
    let mut failed = None;
    store.scan(from, to, &mut |key, value| {
        if found.len() < limit {
            match table::decode(key, value) {
                Ok(row) => found.push(row),
                Err(error) => failed = Some(error),
            }
        }
        found.len() < limit && failed.is_none()
    })?;
    failed.map_or(Ok(found), Err)
}
