//! Reads of parked messages and of the times they wait for.

use pointsman_model::{LogIndex, Ordinal, TenantId, Timestamp, TopicId};

use super::{Machine, Store};
use crate::error::Error;
use crate::state::{Moved, Parked, Timer};
use crate::table;

impl Machine {
    /// The parked message of a record, if it waits still.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn parked(
        &self,
        store: &dyn Store,
        tenant: TenantId,
        index: LogIndex,
        ordinal: Ordinal,
    ) -> Result<Option<Parked>, Error> {
        let key = table::parked_key(tenant, index.0, ordinal.0);
        store.get(&key)?.map(|value| table::decode(&key, &value)).transpose()
    }

    /// Where a message that was parked in a record is visible, if it is.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn moved(
        &self,
        store: &dyn Store,
        tenant: TenantId,
        index: LogIndex,
        ordinal: Ordinal,
    ) -> Result<Option<Moved>, Error> {
        let key = table::moved_key(tenant, index.0, ordinal.0);
        store.get(&key)?.map(|value| table::decode(&key, &value)).transpose()
    }

    /// The parked messages of all tenants that are due at `now`, at most `limit`, the earliest first.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn timers_due(&self, store: &dyn Store, now: Timestamp, limit: usize) -> Result<Vec<Timer>, Error> {
        let mut found = Vec::new();
        for tenant in self.state.timers.keys() {
            let to = now.0.checked_add(1);
            let to =
                to.map_or_else(|| table::after(&table::timer_prefix(*tenant)), |to| table::timer_from(*tenant, to));
            found.extend(scan(store, &table::timer_prefix(*tenant), &to, limit)?);
            found.sort_unstable();
            found.truncate(limit);
        }
        Ok(found)
    }

    /// When the next parked message of any tenant is due.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn next_timer(&self, store: &dyn Store) -> Result<Option<Timestamp>, Error> {
        let mut next: Option<Timestamp> = None;
        for tenant in self.state.timers.keys() {
            let prefix = table::timer_prefix(*tenant);
            let first = scan(store, &prefix, &table::after(&prefix), 1)?.first().map(|timer| timer.due);
            next = match (next, first) {
                (Some(next), Some(first)) => Some(next.min(first)),
                (next, first) => next.or(first),
            };
        }
        Ok(next)
    }

    /// The timers of a tenant behind `after`, at most `limit`, the earliest first.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn timers(
        &self,
        store: &dyn Store,
        tenant: TenantId,
        after: Option<(Timestamp, LogIndex, Ordinal)>,
        limit: usize,
    ) -> Result<Vec<Timer>, Error> {
        let prefix = table::timer_prefix(tenant);
        let from = after.map_or_else(
            || prefix.clone(),
            |(due, index, ordinal)| {
                // Keys have one length, so a longer one lies right behind.
                let mut key = table::timer_key(tenant, due.0, index.0, ordinal.0);
                key.push(0);
                key
            },
        );
        scan(store, &from, &table::after(&prefix), limit)
    }
}

fn scan(store: &dyn Store, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Timer>, Error> {
    let mut found = Vec::new();
    let mut failed = None;
    store.scan(from, to, &mut |key, value| {
        if found.len() >= limit {
            return false;
        }
        match timer(key, value) {
            Ok(timer) => found.push(timer),
            Err(error) => failed = Some(error),
        }
        failed.is_none() && found.len() < limit
    })?;
    failed.map_or(Ok(found), Err)
}

fn timer(key: &[u8], value: &[u8]) -> Result<Timer, Error> {
    let mut numbers = table::KeyReader::new(key);
    let tenant = TenantId(numbers.u32()?);
    let due = Timestamp(numbers.u64()?);
    let (index, ordinal) = (LogIndex(numbers.u64()?), Ordinal(numbers.u16()?));
    Ok(Timer { due, index, ordinal, tenant, topic: TopicId(table::decode(key, value)?) })
}
