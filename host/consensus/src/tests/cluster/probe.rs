//! What the simulation must know of a shard and cannot see from outside, and the bugs it can switch on. Tests only.

use std::sync::atomic::{AtomicU8, Ordering};

use openraft::storage::IOFlushed;
use tokio::sync::Notify;

use crate::raft_types::Types;

/// A seeded bug. Each must turn a run red, or the simulation proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// An entry counts as synced on this node as soon as it is in memory, so that commit is no quorum of disks.
    AckBeforeQuorum = 1,
    /// A fresh read asks nobody, and who led once goes on leading.
    StaleRead = 2,
    /// A checkpoint forgets the keys of messages that are stored once.
    DedupForgotten = 3,
    /// Queues end where the log ends, committed or not.
    ServesUncommitted = 4,
}

/// Part of every shard of a test.
#[derive(Default)]
pub(crate) struct Probe {
    mutant: AtomicU8,
    appended: Notify,
}

impl Probe {
    /// Switches a bug on.
    pub(crate) fn set(&self, mutant: Option<Mutant>) {
        self.mutant.store(mutant.map_or(0, |mutant| mutant as u8), Ordering::Relaxed);
    }

    /// Whether it is on.
    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant.load(Ordering::Relaxed) == mutant as u8
    }

    /// What the log shall call back after its sync.
    pub(crate) fn before_sync(&self, callback: IOFlushed<Types>) -> IOFlushed<Types> {
        if self.is(Mutant::AckBeforeQuorum) {
            callback.io_completed(Ok(()));
            return IOFlushed::noop();
        }
        callback
    }

    /// The log took entries.
    pub(crate) fn notify(&self) {
        self.appended.notify_one();
    }

    /// Waits for entries since the last call.
    pub(crate) async fn appended(&self) {
        self.appended.notified().await;
    }
}
