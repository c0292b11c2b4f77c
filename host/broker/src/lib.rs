//! The use cases: publish, lease, settle, stream, look up, configure, bind.
//!
//! A [`Broker`] knows shards and judges only through [`ports`]; it never sees HTTP, openraft or wasmtime. Every
//! call takes a [`Call`] (who, until when) and answers a value or an [`Error`] that maps to one code of the contract.
//!
//! * **Publish** (`publish`, `batcher`): one judging worker a topic keeps arrival order and calls the selector once for
//!   all that wait; the shard's batcher turns many publishes into one entry; the answer comes after fsync and `apply`.
//! * **Lease** (`lease`, `settle`): leases are memory of the leader, settlements are log. A group's dispatcher reads
//!   the queues past its floor, lets the filter judge, and hands out receipts; refused offsets are settled by `skip`
//!   records.
//! * **Dead letters** (`dlq`), **progress** (`progress`): what a group gave up and where it stands; redrive, seek, lag.
//! * **Stream** ([`stream`]): log order, from any place, resumable by cursor.
//! * **Delay** (`timers`, `scheduled`): what is due is appended again, at the head of the log. **Schedules** (`schedules`)
//!   publish on a timetable.
//! * **Access** ([`Action`], `token`): one function says who may do what; each use case asks it first.
//! * **Configure** (`configure`): tenants, topics, groups, bindings, plugin versions: entries like all else.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should"))]

mod access;
mod audit;
mod batcher;
mod broker;
pub mod call;
mod cluster;
mod columns;
mod configure;
mod cursor;
mod dlq;
pub mod error;
mod explain;
mod filter;
mod fresh;
mod judging;
mod lease;
mod lookup;
mod nodes;
mod passing;
pub mod ports;
mod progress;
mod publish;
mod quota;
mod receipt;
mod refusal;
mod retention;
mod scheduled;
mod schedules;
mod settle;
mod shard;
mod signing;
pub mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod ticket;
mod timers;
mod token;
mod transact;
pub mod view;
mod watch;

pub use access::Action;
pub use broker::{Broker, BrokerConfig, ShardHealth};
pub use call::{Bearer, Call, Principal, WirePrincipal};
pub use configure::NodeEntry;
pub use error::Error;
pub use pointsman_state_machine::{command, state};
pub use retention::RetentionStats;
pub use shard::DeliveryStats;
pub use stream::group::{GroupEvent, GroupStream, Unseen};
pub use stream::{StreamSlot, TopicStream};
pub use timers::{LATE_BUCKETS_MS, TimerStats};
pub use token::OperatorToken;
