//! openraft over the CommitLog: one Raft group a shard.
//!
//! # How it works
//!
//! A [`Shard`] is opened from its directory: [`Recovery`] brings log, state and sidecars to agree, and openraft is started
//! on them. On a node alone the call returns when this node leads and everything committed is applied. Then
//!
//! ```text
//! propose ─ stamp ─► openraft ─► log_store ─► CommitLog ─ fdatasync ─► openraft ─► applier ─► outcome
//!                        │                                                ▲
//!                        └─► network ─► Transport ─► serve ─► openraft ───┘   on each follower the same, without the stamp
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `shard` | [`Shard`]: opening, proposing (`propose`), the broker's port (`port`) |
//! | `node` | [`Node`]: the shards of one data directory |
//! | `network` | openraft's network over a [`transport`]: streams of appends, votes, checkpoints in pieces; their bytes |
//! | `serve` | the other end of it |
//! | `read_index` | how fresh a read must be, asked of the leader for all who wait |
//! | `hand_over` | leadership goes to another voter |
//! | `caretaker` | what a leader looks after: members, replaced nodes, who should lead |
//! | `log_store` | the CommitLog as openraft's log storage |
//! | `applier` | the state machine as openraft drives it |
//! | `snapshot` | checkpoints as openraft's snapshots |
//! | `boundary` | when they are taken, and which are kept |
//! | `house` | what a replica does beside its entries: sealing, checkpoints, purges |
//! | `derived` | queues, keys and positions: made again, sealed, dropped |
//! | `recovery` | what is there after a crash, and what may stay |
//! | `leadership` | whether this node leads and may propose |
//! | `background` | where blocking work goes |
//! | `repair` `doubts` | a damaged log is repaired from other replicas |
//! | `vigil` | what a running replica asks the others: may it vote, does it differ |
//! | `questions` | what replicas ask each other beside Raft |
//! | `outcomes` | hashes of what `apply` came to, compared between replicas |
//! | `vote_gate` | whether this node may vote after it cut its tail |
//! | [`transport`] | the way to other nodes, as a port |
//! | `core` | what these parts share |
//! | `entry` `membership` `progress` `reply` `raft_types` `config` `runtime` | what openraft's generics stand for |
//!
//! # Invariants
//!
//! * Nothing answers before the flush callback: openraft counts an entry as ours only when the writer called back after
//!   its fdatasync, and an outcome leaves only after `apply`.
//! * Derived state never outruns the fsynced log: the state store asks [`pointsman_storage::log::CommitLog::flushed`]
//!   before each flush, a checkpoint waits for it, and state found ahead of the log is deleted before openraft starts.
//! * Entries are applied in order, each once. openraft alone never purges.
//! * A follower writes the bytes it was sent, to the position the leader has them at, or stops.
//! * A leader proposes and confirms reads only while a quorum that answered it lately cannot have elected another.
//!
//! # What it is not
//!
//! It knows no HTTP, no Wasm and no use case. openraft is pinned and known to this crate only.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should"))]

mod applier;
mod background;
mod boundary;
mod caretaker;
mod config;
mod core;
mod derived;
mod doubts;
mod entry;
mod error;
mod hand_over;
mod house;
mod leadership;
mod log_store;
mod membership;
mod network;
mod node;
mod outcomes;
mod progress;
mod questions;
mod raft_types;
mod read_index;
mod recovery;
mod repair;
mod reply;
mod runtime;
mod serve;
mod shard;
mod snapshot;
mod sync_times;
pub mod transport;
mod vigil;
mod vote_gate;

pub use background::Background;
pub use config::{Cluster, ShardConfig};
pub use error::Error;
pub use node::{Node, NodeConfig};
pub use pointsman_broker::ports::Role;
pub use recovery::Recovery;
pub use shard::Shard;
pub use shard::metrics::ShardMetrics;
pub use sync_times::{SYNC_BUCKETS, SyncTimes};

#[cfg(test)]
mod tests;
