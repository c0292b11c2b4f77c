//! Checkpoints as of a segment boundary: taken by `apply`, written beside it, and kept as long as they are of use.
//!
//! Before the first entry of a new segment is applied, and if one is due, `apply` takes a snapshot of the state: that
//! costs no copy. It is written to a file off the apply path, once this node's own fsync covers its last entry. Nothing
//! waits for it; if a later boundary comes first, that one's is written instead.
//!
//! Kept are the one at the log's base, which is truth like the log, the newest two, and between them one for each
//! sixteenth of the retained bytes: a trim purges to the newest one at or below its index, so there must be some.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pointsman_model::{LogIndex, LogPosition, Timestamp, limits};
use pointsman_storage::checkpoint::Meta;
use pointsman_storage::state::Snapshot;
use tokio::sync::Notify;

use crate::Error;
use crate::core::Core;
use crate::progress::Progress;

/// The newest checkpoints that are kept whatever they are worth, so that one may turn out to be damaged.
const GENERATIONS: usize = 2;

/// The checkpoint that is due, and what is known of those that were made.
#[derive(Default)]
pub(crate) struct Boundary {
    due: Mutex<Option<Due>>,
    /// One thread writes at a time.
    writing: Mutex<()>,
    /// Stamp and end of the newest one, made or due.
    last: Mutex<Option<(Timestamp, LogPosition)>>,
    made: AtomicU64,
    /// There is something to write.
    pub(crate) wake: Notify,
    /// Which one openraft is to hear of next.
    pub(crate) offered: Mutex<Option<LogIndex>>,
}

/// A state that is to be written.
struct Due {
    snapshot: Box<dyn Snapshot>,
    progress: Progress,
}

impl Boundary {
    /// Checkpoints written since the start.
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// True if a state waits to be written.
    pub(crate) fn is_due(&self) -> bool {
        self.due.lock().is_some()
    }

    /// The state was replaced by that of this entry: what was due is of another past.
    pub(crate) fn replaced(&self, by: &Progress) {
        let _writing = self.writing.lock();
        *self.due.lock() = None;
        *self.last.lock() = Some((by.stamp, by.end));
    }
}

impl Core {
    /// Takes the state before the first entry of a segment is applied, if a checkpoint of it is due. The caller holds
    /// `machine`, so that no entry lies between snapshot and progress.
    pub(crate) fn note_boundary(&self, before: &Progress) {
        let first = self.log.segments().first().map_or(before.end, |segment| segment.base);
        let retained = before.end.0.saturating_sub(first.0);
        let mut last = self.boundary.last.lock();
        let due = last.is_none_or(|(stamp, end)| {
            before.stamp.since_ms(stamp) >= limits::CHECKPOINT_MS
                || before.end.0.saturating_sub(end.0) >= retained / limits::CHECKPOINT_PART
        });
        if due {
            *last = Some((before.stamp, before.end));
            *self.boundary.due.lock() = Some(Due { snapshot: self.state.snapshot(), progress: before.clone() });
            self.boundary.wake.notify_one();
        }
    }

    /// Remembers which checkpoint is the newest, after a start.
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn find_last_checkpoint(&self) -> Result<(), Error> {
        if let Some(newest) = self.checkpoints.list()?.last()
            && let Some(progress) = self.progress_of(*newest)
        {
            *self.boundary.last.lock() = Some((progress.stamp, progress.end));
        }
        Ok(())
    }

    /// What a checkpoint says of itself; `None` if it is damaged.
    fn progress_of(&self, index: LogIndex) -> Option<Progress> {
        let import = self.checkpoints.import(index).ok()?;
        Progress::decode(index, &import.meta().extra).ok()
    }

    /// Writes the checkpoint that is due, if this node has fsynced its last entry. Blocks.
    ///
    /// # Errors
    /// I/O. The state is dropped then, and the next boundary brings another.
    pub(crate) fn write_due_checkpoint(&self) -> Result<(), Error> {
        let _writing = self.boundary.writing.lock();
        let ready = {
            let mut due = self.boundary.due.lock();
            // INVARIANT: derived state never outruns the fsynced log.
            let covered = |due: &Due| self.log.flushed().is_some_and(|flushed| flushed >= due.progress.index);
            if due.as_ref().is_some_and(covered) { due.take() } else { None }
        };
        let Some(Due { snapshot, progress }) = ready else { return Ok(()) };
        let meta = Meta { term: progress.term, index: progress.index, extra: progress.meta()? };
        let checkpoint = self.checkpoints.export(&*snapshot, &meta)?;
        self.boundary.made.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            shard.id = self.shard.0,
            checkpoint.index = progress.index.0,
            checkpoint.bytes = checkpoint.bytes,
            "a checkpoint"
        );
        self.drop_old_checkpoints()
    }

    /// Removes the checkpoints that are of no use any more.
    ///
    /// # Errors
    /// I/O.
    pub(crate) fn drop_old_checkpoints(&self) -> Result<(), Error> {
        let kept = self.useful(&self.checkpoints.list()?);
        Ok(self.checkpoints.retain(|index| kept.contains(&index))?)
    }

    /// Which of these are of use.
    fn useful(&self, found: &[LogIndex]) -> BTreeSet<LogIndex> {
        let purged = self.log.purged().map(|base| base.index);
        let base = found.iter().rposition(|index| Some(*index) <= purged).unwrap_or_default();
        let found = &found[base..];
        let newest = &found[found.len().saturating_sub(GENERATIONS)..];
        let mut kept: BTreeSet<LogIndex> = newest.iter().chain(found.first()).copied().collect();
        let first = self.log.segments().first().map_or(LogPosition(0), |segment| segment.base);
        let step = self.log.end().0.saturating_sub(first.0) / limits::CHECKPOINT_PART;
        let mut next = first.0;
        for index in found {
            let Some(progress) = self.progress_of(*index) else { continue };
            if progress.end.0 >= next {
                kept.insert(*index);
                next = progress.end.0.saturating_add(step);
            }
        }
        kept
    }
}
