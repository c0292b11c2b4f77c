//! Keys of transactions.

use pointsman_model::TenantId;

use super::{
    Key, TRANSACTION, TRANSACTION_COUNTS, TRANSACTION_DUE, TRANSACTION_NAME, TRANSACTION_SINCE, TRANSACTION_TOPIC,
};
use crate::state::TransactionState;

/// All transactions of a tenant: a prefix of [`transaction_key`].
pub(crate) fn transaction_prefix(tenant: TenantId) -> Vec<u8> {
    Key::new(TRANSACTION, tenant).0
}

pub(crate) fn transaction_key(tenant: TenantId, index: u64, ordinal: u16) -> Vec<u8> {
    Key::new(TRANSACTION, tenant).u64(index).u16(ordinal).0
}

/// All due rows of a tenant.
pub(crate) fn transaction_due_prefix(tenant: TenantId) -> Vec<u8> {
    Key::new(TRANSACTION_DUE, tenant).0
}

/// Where the due rows of a tenant from that time on start.
pub(crate) fn transaction_due_from(tenant: TenantId, due: u64) -> Vec<u8> {
    Key::new(TRANSACTION_DUE, tenant).u64(due).0
}

pub(crate) fn transaction_due_key(tenant: TenantId, due: u64, index: u64, ordinal: u16) -> Vec<u8> {
    Key(transaction_due_from(tenant, due)).u64(index).u16(ordinal).0
}

/// All transactions of a tenant in one state, by the time they came into it.
pub(crate) fn transaction_since_prefix(tenant: TenantId, state: TransactionState) -> Vec<u8> {
    let mut key = Key::new(TRANSACTION_SINCE, tenant).0;
    key.push(state as u8);
    key
}

/// Where those from that time on start.
pub(crate) fn transaction_since_from(tenant: TenantId, state: TransactionState, since: u64) -> Vec<u8> {
    Key(transaction_since_prefix(tenant, state)).u64(since).0
}

pub(crate) fn transaction_since_key(
    tenant: TenantId,
    state: TransactionState,
    since: u64,
    index: u64,
    ordinal: u16,
) -> Vec<u8> {
    Key(transaction_since_from(tenant, state, since)).u64(index).u16(ordinal).0
}

pub(crate) fn transaction_counts_key(tenant: TenantId) -> Vec<u8> {
    Key::new(TRANSACTION_COUNTS, tenant).0
}

/// The prepared transactions of a topic: a prefix of [`transaction_topic_key`].
pub(crate) fn transaction_topic_prefix(tenant: TenantId, topic: u32) -> Vec<u8> {
    Key::new(TRANSACTION_TOPIC, tenant).u32(topic).0
}

pub(crate) fn transaction_topic_key(tenant: TenantId, topic: u32, index: u64, ordinal: u16) -> Vec<u8> {
    Key(transaction_topic_prefix(tenant, topic)).u64(index).u16(ordinal).0
}

/// The transaction that a producer named: by topic and the xxh3-128 of the name.
pub(crate) fn transaction_name_key(tenant: TenantId, topic: u32, name: u128) -> Vec<u8> {
    let mut key = Key::new(TRANSACTION_NAME, tenant).u32(topic);
    key.0.extend_from_slice(&name.to_be_bytes());
    key.0
}
