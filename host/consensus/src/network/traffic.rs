//! How much went to and came from other nodes, counted for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one shard.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Bytes of appends sent to followers.
    pub(crate) append_bytes_sent: Counter,
    /// Appends sent on streams.
    pub(crate) appends_sent: Counter,
    /// Bytes of appends received from leaders.
    pub(crate) append_bytes_received: Counter,
    /// Checkpoints taken over from a leader.
    pub(crate) checkpoints_installed: Counter,
}

/// Grows only.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
