//! Files: the CommitLog, ConsumeQueues, derived state, checkpoints, and recovery of all of them.
//!
//! # How it works
//!
//! * [`disk`] is the seam: every byte of the log goes through [`disk::Disk`], so that a simulated disk can keep, drop,
//!   tear and reorder what was not synced. [`disk::RealDisk`] is production.
//! * [`log`] is the Raft log of one shard: one writer, `pwritev` and one `fdatasync` for all that queued, then the callbacks.
//!   Recovery cuts a torn tail and never cuts damage; the watermark alone tells one from the other.
//! * [`vote`] and [`base`] are two small files with two slots each: what this node voted, and what the log no longer holds.
//! * [`identity`] says whose directory this is; its lock keeps a second process out.
//! * [`queues`] are the sidecars of a segment, [`state`] is what `apply` derived, [`checkpoint`] is its sorted export.
//!
//! Layouts: `docs/reference/disk-format.md`.
//!
//! # What it is not
//!
//! It never knows tokio, HTTP, Raft rules or plugins. It blocks; callers bring the threads. It reads no clock.

pub mod base;
pub mod checkpoint;
pub mod disk;
mod error;
pub mod identity;
pub mod log;
mod mmap;
pub mod queues;
mod slots;
pub mod state;
pub mod vote;

#[cfg(test)]
mod scratch;
#[cfg(test)]
mod tests;

pub use error::Error;
