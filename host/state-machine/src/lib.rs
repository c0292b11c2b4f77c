//! The replicated rules: what a committed entry does to a shard's state.
//!
//! `apply` is a pure function of (state, entry): no clock, no randomness, no I/O but reads of its own state
//! through [`Store`], no plugin. Plugins judged before the entry was proposed; their decision and the generation
//! it was taken under lie in the record, and `apply` refuses another generation as stale.
//!
//! * [`command`]: the heads of the records, as postcard writes them.
//! * [`outcome`]: what a record came to, and why one is refused.
//! * [`state`]: what a shard knows: tenants, topics, groups, cursors, bindings, plugin versions.
//! * [`machine`]: [`Machine`] = typed state in memory + [`Store`] for what is large; `apply` returns the rows to
//!   write, the queue and key entries to append, and one [`Outcome`] a record.
//! * [`table`]: keys and values of the stored rows. `FORMATS.md`, State.
//!
//! Never here: tokio, clocks, randomness, files, plugins, HTTP.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should"))]

pub mod command;
mod error;
pub mod machine;
pub mod outcome;
pub mod state;
pub mod table;

pub use error::Error;
pub use machine::{Applied, EntryMeta, KeyAppend, Machine, QueueAppend, SegmentWalk, Store, StoreError};
pub use outcome::{Outcome, Refusal};
pub use state::State;
