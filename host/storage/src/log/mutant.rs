//! Seeded bugs. Each must turn a test red, or the tests prove nothing. Outside tests and simulations none can be switched on.

use super::frame::{FRAME_HEADER_BYTES, Frame};
use super::{Inner, LogConfig, OnFlushed};

/// A bug that can be switched on in a test.
#[cfg_attr(not(any(test, feature = "sim")), expect(unreachable_pub, reason = "simulations alone may see it"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutant {
    /// The callbacks run before the sync.
    AckBeforeSync,
    /// A failed sync is taken for a good one.
    SyncErrorIgnored,
    /// The directory is not synced after a segment was created.
    DirectoryNotSynced,
    /// Recovery cuts at the first bad frame, wherever it is.
    CutBelowWatermark,
    /// Recovery and truncation leave the bytes behind the new end.
    NoZeroingAfterCut,
    /// The watermark names the end of the group commit it is written with.
    WatermarkTooEarly,
    /// Recovery takes what it can read for durable without syncing it.
    RecoveryNotSynced,
    /// Recovery takes what it can read for written, though a failed sync may have dropped it.
    RecoveryTrustsCache,
    /// A segment is unlinked before the base is saved.
    UnlinkBeforeBase,
}

impl LogConfig {
    /// True if the bug is switched on.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn mutated(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Never true here.
    #[cfg(not(any(test, feature = "sim")))]
    #[expect(clippy::unused_self, reason = "the version for tests reads the configuration")]
    pub(crate) const fn mutated(&self, _: Mutant) -> bool {
        false
    }
}

impl Inner {
    pub(crate) fn mutated(&self, mutant: Mutant) -> bool {
        self.config.mutated(mutant)
    }

    /// The callbacks that are still to be called after the sync.
    pub(crate) fn mutated_calls(
        &self,
        frames: &[(Frame, [u8; FRAME_HEADER_BYTES])],
        calls: Vec<OnFlushed>,
    ) -> Vec<OnFlushed> {
        if !self.mutated(Mutant::AckBeforeSync) {
            return calls;
        }
        if let Some((last, _)) = frames.last() {
            self.state.lock().flushed = Some(last.index);
        }
        calls.into_iter().for_each(|call| call(Ok(())));
        Vec::new()
    }
}
