//! Keys and values of the stored rows. `FORMATS.md`, State; for operators: `docs/reference/state.md`.
//!
//! A key is `table u8 | tenant u32 | …`, numbers big-endian, so that a tenant is one range of every table and numbers
//! sort. A value is `version u8 | postcard`. Rows that belong to the shard and to no tenant have tenant 0. Table 0 is
//! not this crate's: what stores the rows keeps its own there (the last applied entry).
//!
//! | table | key after the table | value |
//! |---|---|---|
//! | 1 shard | `0` | [`State::counters`], outcome hash |
//! | 2 tenant | `tenant` | name, created, revision |
//! | 3 tenant home | `tenant` | name, home shard, created, revision |
//! | 4 cluster key | `0`, id u8 | the secret |
//! | 5 topic | `tenant`, topic u32 | name, settings, generation, revision, created, key slots |
//! | 6 group | `tenant`, group u32 | name, settings, ids of its topics, generation, revision, created |
//! | 7 binding | `tenant`, binding u32 | name, settings, targets, digest, generation, revision, created, shorthand |
//! | 8 plugin version | `tenant`, version u32 | what was committed, created |
//! | 9 plugin chunk | `tenant`, digest 32, chunk u32 | a piece of a component |
//! | 10 queue | `tenant`, topic u32, queue u16 | earliest, latest |
//! | 11 cursor | `tenant`, group u32, topic u32, queue u16 | floor, last seek |
//! | 12 cursor block | `tenant`, group u32, topic u32, queue u16, block u64 | 128 bytes: bit `i` of the little-endian words is offset 1,024 × block + i |
//! | 13 retry | `tenant`, group u32, topic u32, queue u16, offset u64 | [`Retry`] |
//! | 14 due | `tenant`, group u32, due u64, topic u32, queue u16, offset u64 | nothing |
//! | 15 retrying | `tenant`, group u32 | how many rows of tables 13 and 32 |
//! | 16 segment queue | `0`, segment base u64, topic u32, queue u16 | offset of the queue's first message in the segment |
//! | 17 refused | `0`, segment base u64, index u64, ordinal u16 | nothing: a publish record that came to nothing |
//! | 18 dedup | `tenant`, topic u32, xxh3-128 of (who named it u8, key) | [`Remembered`] |
//! | 19 dedup expiry | `tenant`, topic u32, expires u64, index u64, list u16 | hashes of table 18 that are forgotten then, 16 bytes each |
//! | 20 dedup count | `tenant`, topic u32 | how many rows of table 18 |
//! | 21 parked | `tenant`, index u64, ordinal u16 | [`Parked`]: a message that is stored and not visible yet |
//! | 22 timer | `tenant`, due u64, index u64, ordinal u16 | its topic u32 |
//! | 23 moved | `tenant`, index u64, ordinal u16 of the parked record | [`Moved`]: where that message is visible |
//! | 24 timers | `tenant` | how many rows of table 22 |
//! | 38 schedule | `tenant`, schedule u32 | name, settings, revision, created |
//! | 39 schedule run | `tenant`, schedule u32 | when it is due next, when the last run was due |
//! | 29 dead letter | `tenant`, group u32, index u64, ordinal u16 | [`DeadLetter`], by the message's record |
//! | 30 dead-letter expiry | `tenant`, group u32, expires u64, index u64, ordinal u16 | nothing; orders table 29 by time |
//! | 31 dead count | `tenant`, group u32 | how many rows of table 29 |
//! | 32 held | `tenant`, group u32, topic u32, queue u16, offset u64 | [`Held`] |
//! | 25 transaction | `tenant`, index u64, ordinal u16 | [`Transaction`] |
//! | 26 transaction due | `tenant`, due u64, index u64, ordinal u16 | nothing: a prepared one is asked about then, or ends |
//! | 27 transaction since | `tenant`, state u8, since u64, index u64, ordinal u16 | nothing; orders table 25 by state and time |
//! | 28 transaction counts | `tenant` | how many in each state; messages discarded and checks, ever |
//! | 40 transaction of topic | `tenant`, topic u32, index u64, ordinal u16 | nothing: a prepared one needs the topic |
//! | 41 transaction name | `tenant`, topic u32, xxh3-128 of the name | index, ordinal of what a producer prepared under it |
//! | 42 node | `0`, node u32 | incarnation, addresses, revision |
//! | 33 token | `0`, id | tenant and its name, hash of the secret, scopes, created, expires, revoked, revision |
//! | 34 quota | `tenant` | the quota, revision |
//! | 35 usage | `tenant` | [`Usage`] |
//! | 36 audit | `0`, !index u64, !ordinal u16 | [`AuditRow`]; the newest sorts first |
//! | 37 audit of a tenant | `tenant`, index u64, ordinal u16 | nothing; the oldest sorts first |
//! | 43 segments of queue | `0`, topic u32, queue u16, segment base u64 | as table 16, by queue |
//! | 44 segment | `0`, segment base u64 | index of its first entry |
//! | 45 owed | `0`, position u64, tenant u32, kind u8, group u32 | [`OwedBy`] and the length of the record there: a row that refers to it |
//! | 46 moved of segment | `0`, segment base u64, tenant u32, index u64, ordinal u16 | nothing: a row of table 23 whose message is visible in that segment |
//! | 47 released | `0` | [`Released`] |
//!
//! Tables 16, 17, 43, 44 and 46 go with their segment, hence are the shard's. A block without a set bit has no row, and
//! no bit below the floor is set.
//!
//! [`State::counters`]: crate::State::counters
//! [`Retry`]: crate::state::Retry
//! [`Remembered`]: crate::state::Remembered
//! [`Parked`]: crate::state::Parked
//! [`Moved`]: crate::state::Moved
//! [`DeadLetter`]: crate::state::DeadLetter
//! [`Held`]: crate::state::Held
//! [`Transaction`]: crate::state::Transaction
//! [`OwedBy`]: crate::state::OwedBy
//! [`Released`]: crate::state::Released
//! [`Usage`]: crate::state::Usage
//! [`AuditRow`]: crate::state::AuditRow

mod dedup;
mod keys;
mod node;
mod retention;
mod rows;
mod transaction;

pub(crate) use dedup::{
    DedupList, dedup_count_key, dedup_key, dedup_list_key, dedup_lists_of, dedup_lists_prefix, dedup_prefix,
};
pub(crate) use keys::*;
pub(crate) use node::{NodeRow, node_key};
pub(crate) use retention::{
    moved_of_segment_key, owed_from, owed_key, owed_prefix, queue_segment_key, queue_segment_prefix, released_key,
    rows_of_segments_below, segment_key, segment_queue_prefix,
};
pub(crate) use rows::{BindingRow, GroupRow, HomeRow, PluginRow, ScheduleRow, ShardRow, TenantRow, TokenRow, TopicRow};
pub(crate) use transaction::{
    transaction_counts_key, transaction_due_from, transaction_due_key, transaction_due_prefix, transaction_key,
    transaction_name_key, transaction_prefix, transaction_since_from, transaction_since_key, transaction_since_prefix,
    transaction_topic_key, transaction_topic_prefix,
};

use pointsman_model::TenantId;
use serde::de::{Deserialize, DeserializeOwned};
use serde::ser::Serialize;

use crate::error::Error;
use crate::state::BLOCK_BYTES;

/// The layout of values this release writes.
const VERSION: u8 = 1;

/// Ids, revisions and the outcome hash.
pub const SHARD: u8 = 1;
/// Tenants at home here.
pub const TENANT: u8 = 2;
/// Metadata shard: where tenants live.
pub const TENANT_HOME: u8 = 3;
/// Metadata shard: signing keys.
pub const CLUSTER_KEY: u8 = 4;
/// Topics.
pub const TOPIC: u8 = 5;
/// Groups.
pub const GROUP: u8 = 6;
/// Bindings.
pub const BINDING: u8 = 7;
/// Plugin versions.
pub const PLUGIN: u8 = 8;
/// Pieces of plugin components.
pub const PLUGIN_CHUNK: u8 = 9;
/// Ends of queues.
pub const QUEUE: u8 = 10;
/// Floors of cursors.
pub const CURSOR: u8 = 11;
/// Settled offsets above the floors.
pub const CURSOR_BLOCK: u8 = 12;
/// Messages that wait for their next attempt.
pub const RETRY: u8 = 13;
/// The same by the time they are due.
pub const DUE: u8 = 14;
/// How many of them a group has.
pub const RETRYING: u8 = 15;
/// First offset of each queue in each segment.
pub const SEGMENT_QUEUE: u8 = 16;
/// Publish records that came to nothing.
pub const REFUSED: u8 = 17;
/// What topics remember of dedup keys.
pub const DEDUP: u8 = 18;
/// The same by the time they are forgotten.
pub const DEDUP_EXPIRY: u8 = 19;
/// How many of them a topic has.
pub const DEDUP_COUNT: u8 = 20;
/// Messages that are stored and not visible yet.
pub const PARKED: u8 = 21;
/// Those of them that wait for a time, by that time.
pub const TIMER: u8 = 22;
/// Where messages that were parked are visible.
pub const MOVED: u8 = 23;
/// How many timers a tenant has.
pub const TIMERS: u8 = 24;
/// Schedules.
pub const SCHEDULE: u8 = 38;
/// When schedules are due.
pub const SCHEDULE_RUN: u8 = 39;
/// Messages that a group gave up.
pub const DEAD_LETTER: u8 = 29;
/// The same by the time they are forgotten.
pub const DEAD_LETTER_EXPIRY: u8 = 30;
/// How many of them a group has.
pub const DEAD_COUNT: u8 = 31;
/// Ordered groups: messages that are leased, or were and wait for their next attempt.
pub const HELD: u8 = 32;
/// Transactions.
pub const TRANSACTION: u8 = 25;
/// Prepared ones by the time of their next check.
pub const TRANSACTION_DUE: u8 = 26;
/// All of them by state and time.
pub const TRANSACTION_SINCE: u8 = 27;
/// How many of them a tenant has.
pub const TRANSACTION_COUNTS: u8 = 28;
/// Prepared ones by the topics they need.
pub const TRANSACTION_TOPIC: u8 = 40;
/// Those that their producers named.
pub const TRANSACTION_NAME: u8 = 41;
/// Metadata shard: nodes of the cluster.
pub const NODE: u8 = 42;
/// Metadata shard: tokens.
pub const TOKEN: u8 = 33;
/// Quotas.
pub const QUOTA: u8 = 34;
/// What tenants have used.
pub const USAGE: u8 = 35;
/// Changes of the configuration, the newest first.
pub const AUDIT: u8 = 36;
/// The same by tenant, the oldest first.
pub const AUDIT_OF_TENANT: u8 = 37;
/// First offset of each segment's part of a queue.
pub const QUEUE_SEGMENT: u8 = 43;
/// Segments of the log.
pub const SEGMENT: u8 = 44;
/// What refers to records that must stay readable, by position.
pub const OWED: u8 = 45;
/// Rows of [`MOVED`] by the segment of the visible message.
pub const MOVED_OF_SEGMENT: u8 = 46;
/// What retention has given up.
pub const RELEASED: u8 = 47;

/// Rows without a tenant.
const NO_TENANT: TenantId = TenantId(0);
/// Longest key: [`PLUGIN_CHUNK`].
const KEY_BYTES: usize = 1 + 4 + 32 + 4;

/// A key in the making.
struct Key(Vec<u8>);

impl Key {
    fn new(table: u8, tenant: TenantId) -> Self {
        let mut key = Vec::with_capacity(KEY_BYTES);
        key.push(table);
        key.extend_from_slice(&tenant.0.to_be_bytes());
        Self(key)
    }

    fn u16(mut self, n: u16) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    fn u32(mut self, n: u32) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    fn u64(mut self, n: u64) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }
}

/// The first key after all that start with `prefix`. Our tables are below 255, so there is one.
pub(crate) fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// The first key behind this one. Keys of a table have one length.
pub(crate) fn behind(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// Reads the numbers of a stored key.
pub(crate) struct KeyReader<'a> {
    key: &'a [u8],
    rest: &'a [u8],
}

impl<'a> KeyReader<'a> {
    /// Starts behind the table.
    pub(crate) fn new(key: &'a [u8]) -> Self {
        Self { key, rest: key.get(1..).unwrap_or_default() }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| damaged(self.key))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        Ok(u8::from_be_bytes(self.take()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    /// What is left, as text.
    pub(crate) fn text(&mut self) -> Result<&'a str, Error> {
        let rest = std::mem::take(&mut self.rest);
        std::str::from_utf8(rest).map_err(|_| damaged(self.key))
    }
}

/// The error of a row that makes no sense.
pub(crate) fn damaged(key: &[u8]) -> Error {
    Error::DamagedRow { key: key.to_vec() }
}

/// A value: version and postcard.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    // Our rows are plain structs of known length, so postcard has nothing to refuse.
    postcard::to_extend(value, vec![VERSION]).expect("rows serialize in memory")
}

/// A value that is bytes alone, as postcard writes them, without visiting each.
pub(crate) fn encode_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(bytes.len() + 6);
    value.extend_from_slice(&encode(&(bytes.len() as u64)));
    value.extend_from_slice(bytes);
    value
}

/// A cursor block: 128 bytes, a tuple to postcard and hence without a length.
pub(crate) fn encode_block(bytes: &[u8; BLOCK_BYTES]) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + BLOCK_BYTES);
    value.push(VERSION);
    value.extend_from_slice(bytes);
    value
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, Error> {
    decode_borrowed(key, value)
}

/// Reads what [`encode`] or [`encode_bytes`] wrote, without a copy.
pub(crate) fn decode_borrowed<'a, T: Deserialize<'a>>(key: &[u8], value: &'a [u8]) -> Result<T, Error> {
    match value.split_first() {
        Some((&VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((value, [])) => Ok(value),
            _ => Err(damaged(key)),
        },
        _ => Err(damaged(key)),
    }
}

/// Reads what [`encode_block`] wrote.
pub(crate) fn decode_block<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8; BLOCK_BYTES], Error> {
    match value.split_first() {
        Some((&VERSION, rest)) => rest.try_into().map_err(|_| damaged(key)),
        _ => Err(damaged(key)),
    }
}

#[cfg(test)]
mod tests;
