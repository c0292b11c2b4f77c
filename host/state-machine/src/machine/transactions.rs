//! Reads of transactions.

use pointsman_model::{LogIndex, Ordinal, TenantId, Timestamp, TopicId, hash};

use super::{Machine, Store};
use crate::error::Error;
use crate::state::{DueTransaction, Part, Transaction, TransactionState};
use crate::table;

impl Machine {
    /// The transaction that starts with a record.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn transaction(
        &self,
        store: &dyn Store,
        tenant: TenantId,
        index: LogIndex,
        ordinal: Ordinal,
    ) -> Result<Option<Transaction>, Error> {
        read(store, tenant, index.0, ordinal.0)
    }

    /// The transaction that a producer gave this name, at this topic.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn transaction_by_name(
        &self,
        store: &dyn Store,
        tenant: TenantId,
        topic: TopicId,
        name: &str,
    ) -> Result<Option<Transaction>, Error> {
        let key = table::transaction_name_key(tenant, topic.0, hash::fingerprint(name.as_bytes()));
        let Some(value) = store.get(&key)? else { return Ok(None) };
        let (index, ordinal): (u64, u16) = table::decode(&key, &value)?;
        read(store, tenant, index, ordinal)
    }

    /// The messages of a transaction, in order: where they wait, or where they are visible. What is gone is left out.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn transaction_parts(
        &self,
        store: &dyn Store,
        tenant: TenantId,
        transaction: &Transaction,
    ) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::with_capacity(usize::from(transaction.parts));
        for place in transaction.places() {
            let (index, ordinal) = (LogIndex(place.index), Ordinal(place.ordinal));
            if let Some(parked) = self.parked(store, tenant, index, ordinal)? {
                parts.push(Part::Parked(parked));
            } else if let Some(moved) = self.moved(store, tenant, index, ordinal)? {
                parts.push(Part::Moved(index, ordinal, moved));
            }
        }
        Ok(parts)
    }

    /// Transactions of all tenants about which something is due at `now`, at most `limit` of each tenant.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn transactions_due(
        &self,
        store: &dyn Store,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<DueTransaction>, Error> {
        let mut due = Vec::new();
        for (tenant, counts) in &self.state.transactions {
            if counts.of(TransactionState::Prepared) == 0 {
                continue;
            }
            let to = table::transaction_due_from(*tenant, now.0.saturating_add(1));
            for key in keys(store, &table::transaction_due_prefix(*tenant), &to, limit)? {
                let mut numbers = table::KeyReader::new(&key);
                let (_tenant, _due) = (numbers.u32()?, numbers.u64()?);
                due.push(DueTransaction { tenant: *tenant, transaction: found(store, *tenant, &mut numbers)? });
            }
        }
        Ok(due)
    }

    /// The prepared transactions that need a topic, at most `limit`.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn transactions_of_topic(
        &self,
        store: &dyn Store,
        tenant: TenantId,
        topic: TopicId,
        limit: usize,
    ) -> Result<Vec<Transaction>, Error> {
        let prefix = table::transaction_topic_prefix(tenant, topic.0);
        let mut transactions = Vec::new();
        for key in keys(store, &prefix, &table::after(&prefix), limit)? {
            let mut numbers = table::KeyReader::new(&key);
            let (_tenant, _topic) = (numbers.u32()?, numbers.u32()?);
            transactions.push(found(store, tenant, &mut numbers)?);
        }
        Ok(transactions)
    }

    /// Transactions of a tenant behind `after`, at most `limit`: those in a state by the time they came into it, or all
    /// by the time they were prepared. `after` is the last one of the page before.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn transactions(
        &self,
        store: &dyn Store,
        tenant: TenantId,
        state: Option<TransactionState>,
        after: Option<(Timestamp, LogIndex, Ordinal)>,
        limit: usize,
    ) -> Result<Vec<Transaction>, Error> {
        let prefix = match state {
            Some(state) => table::transaction_since_prefix(tenant, state),
            None => table::transaction_prefix(tenant),
        };
        let from = match (after, state) {
            (None, _) => prefix.clone(),
            (Some((since, index, ordinal)), Some(state)) => {
                table::behind(table::transaction_since_key(tenant, state, since.0, index.0, ordinal.0))
            }
            (Some((_, index, ordinal)), None) => table::behind(table::transaction_key(tenant, index.0, ordinal.0)),
        };
        let mut transactions = Vec::new();
        for key in keys(store, &from, &table::after(&prefix), limit)? {
            let mut numbers = table::KeyReader::new(&key);
            let _tenant = numbers.u32()?;
            if state.is_some() {
                let (_state, _since) = (numbers.u8()?, numbers.u64()?);
            }
            transactions.push(found(store, tenant, &mut numbers)?);
        }
        Ok(transactions)
    }
}

fn keys(store: &dyn Store, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, Error> {
    let mut keys = Vec::new();
    if limit > 0 {
        store.scan(from, to, &mut |key, _| {
            keys.push(key.to_vec());
            keys.len() < limit
        })?;
    }
    Ok(keys)
}

fn read(store: &dyn Store, tenant: TenantId, index: u64, ordinal: u16) -> Result<Option<Transaction>, Error> {
    let key = table::transaction_key(tenant, index, ordinal);
    store.get(&key)?.map(|value| table::decode(&key, &value)).transpose()
}

/// The transaction whose index and ordinal are the rest of a key.
fn found(store: &dyn Store, tenant: TenantId, numbers: &mut table::KeyReader<'_>) -> Result<Transaction, Error> {
    let (index, ordinal) = (numbers.u64()?, numbers.u16()?);
    let found = read(store, tenant, index, ordinal)?;
    found.ok_or_else(|| Error::MissingRow { key: table::transaction_key(tenant, index, ordinal) })
}
