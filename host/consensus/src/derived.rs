//! Queues, keys and positions beside the log: made again at start, sealed when a segment is done, dropped with it.
//!
//! A sidecar is a pure function of its segment and of two tables of the state, so entries that are applied already are
//! walked and not applied again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pointsman_model::{LogIndex, LogPosition, Term};
use pointsman_state_machine::SegmentWalk;
use pointsman_storage::log::{CommitLog, SegmentInfo};
use pointsman_storage::queues::{Frame, Sealed, SegmentEntries};

use crate::Error;
use crate::applier::entry_meta;
use crate::core::Core;
use crate::entry::{Entry, Payload};
use crate::log_store::entry_of;

/// Record bytes read at once while a segment is walked.
const WALK_BYTES_MAX: usize = 4 << 20;

/// Segments whose sidecars may be there: not active, not given up, and every entry is in the state.
pub(crate) fn expected_sidecars(log: &CommitLog, applied: Option<LogIndex>, released: LogPosition) -> Vec<Sealed> {
    let mut segments = log.segments();
    segments.pop();
    segments.retain(|segment| segment.base >= released);
    segments.retain(|segment| applied.is_some_and(|applied| segment.last_index <= applied));
    let sealed =
        |segment: &SegmentInfo| Sealed { base: segment.base, first: segment.first_index, last: segment.last_index };
    segments.iter().map(sealed).collect()
}

impl Core {
    /// Makes what is missing after a start: sidecars of sealed segments, and in memory what belongs to the others, up
    /// to the last applied entry. `apply` does the rest.
    ///
    /// # Errors
    /// What reading the log or the state says.
    pub(crate) fn derive_missing(&self, missing: &[LogPosition]) -> Result<(), Error> {
        let applied = self.applied_index();
        let machine = self.machine.write();
        let released = machine.state().released.base();
        // Offsets go on from one segment to the next, so nothing behind a hole is known.
        let hole = self.log.damages().iter().map(|damage| damage.from).min();
        // The rows that a walk of released segments needs are gone.
        let derived = |base: LogPosition| base >= released && hole.is_none_or(|hole| base < hole);
        for segment in self.log.segments().into_iter().filter(|segment| derived(segment.base)) {
            let whole = applied.is_some_and(|applied| segment.last_index <= applied);
            let active = self.log.segments().last().is_some_and(|last| last.base == segment.base);
            if missing.contains(&segment.base) {
                self.queues.rebuild(self.walk_into_memory(&segment)?)?;
            } else if (active || !whole) && applied.is_some_and(|applied| segment.first_index <= applied) {
                self.walk(&segment, applied, &mut |frame| self.queues.append(frame))?;
            }
        }
        Ok(())
    }

    /// Everything derived from the log anew, after the log was repaired.
    ///
    /// # Errors
    /// What reading the log or the state says; [`Error::Malformed`] if the state is ahead of the log.
    pub(crate) fn derive_all(&self) -> Result<(), Error> {
        let applied = self.applied_index();
        if applied > self.log.last().map(|(_, last, _)| last).max(self.log.purged().map(|base| base.index)) {
            return Err(Error::Malformed("repair: the log does not reach the state"));
        }
        self.queues.clear()?;
        let expected: Vec<LogPosition> =
            expected_sidecars(&self.log, applied, self.released()).iter().map(|sealed| sealed.base).collect();
        self.derive_missing(&expected)
    }

    /// The sidecars of one segment anew, after one was found damaged.
    ///
    /// # Errors
    /// What reading the log or the state says.
    pub(crate) fn rebuild_sidecars(&self, base: LogPosition) -> Result<(), Error> {
        let Some(segment) = self.log.segments().into_iter().find(|segment| segment.base == base) else {
            return Ok(());
        };
        self.queues.rebuild(self.walk_into_memory(&segment)?)?;
        Ok(())
    }

    /// A sealed segment became the active one again: what is derived from it goes back to memory.
    ///
    /// # Errors
    /// What reading the log or the state says.
    pub(crate) fn derive_again(&self, base: LogPosition) -> Result<(), Error> {
        let _sealing = self.sealing.lock();
        let _machine = self.machine.write();
        self.queues.drop_segment(base)?;
        let segment = self.log.segments().into_iter().find(|segment| segment.base == base);
        let Some(segment) = segment else {
            return Ok(());
        };
        self.walk(&segment, self.applied_index(), &mut |frame| self.queues.append(frame))
    }

    fn walk_into_memory(&self, segment: &SegmentInfo) -> Result<SegmentEntries, Error> {
        let mut entries = SegmentEntries::new(segment.base);
        self.walk(segment, Some(segment.last_index), &mut |frame| entries.append(frame))?;
        Ok(entries)
    }

    /// Hands out what each entry of a segment made visible, up to `last`; all of them are applied.
    fn walk(
        &self,
        segment: &SegmentInfo,
        last: Option<LogIndex>,
        take: &mut dyn FnMut(&Frame<'_>),
    ) -> Result<(), Error> {
        let Some(last) = last else { return Ok(()) };
        let rows = self.rows();
        let mut walk = SegmentWalk::new(&rows, segment.base).map_err(Error::from)?;
        let end = last.min(segment.last_index).next();
        let mut next = segment.first_index;
        while next < end {
            let frames = self.log.read(next..end, WALK_BYTES_MAX)?;
            let Some(read) = frames.last() else { break };
            next = read.index.next();
            for frame in frames {
                let entry = entry_of(frame)?;
                let meta = entry_meta(self, &entry);
                let (queue, keys) = walk.entry(&rows, &meta, &records_of(&entry))?;
                let queue: Vec<_> = queue.iter().map(|a| (a.topic, a.queue, a.offset, a.entry)).collect();
                let keys: Vec<_> = keys.iter().map(|a| (a.topic, a.key_hash, a.place.1)).collect();
                take(&Frame {
                    segment: meta.segment_base,
                    index: meta.index,
                    position: meta.position,
                    entries: &queue,
                    keys: &keys,
                });
            }
        }
        Ok(())
    }

    /// Seals every full segment whose last entry is applied and durable here: sidecars first, then the segment itself.
    /// Returns whether some segment has to wait.
    ///
    /// # Errors
    /// I/O. The segment is served from memory as before, and the next try may succeed.
    pub(crate) fn seal_full_segments(&self) -> Result<bool, Error> {
        let released = self.released();
        let _sealing = self.sealing.lock();
        for segment in self.log.full_segments() {
            let done = |index: Option<LogIndex>| index.is_some_and(|index| segment.last_index <= index);
            if !done(self.applied_index()) || !done(self.log.flushed()) {
                return Ok(true);
            }
            // What was given up may have no queues here any more.
            if segment.base >= released {
                self.queues.seal(segment.base)?;
            }
            self.log.seal(segment.base)?;
        }
        Ok(false)
    }

    /// Starts [`Core::seal_full_segments`] off the reactor if there is something to look at.
    pub(crate) fn seal_in_background(core: &Arc<Self>) {
        if !core.seal_due.swap(false, Ordering::Relaxed) {
            return;
        }
        let background = core.background;
        let core = Arc::clone(core);
        background.spawn(move || match core.seal_full_segments() {
            Ok(waits) => {
                core.seal_due.fetch_or(waits, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!(shard.id = core.shard.0, error = %error, "a full segment is not sealed yet");
                core.seal_due.store(true, Ordering::Relaxed);
            }
        });
    }

    /// Forgets entries that are covered by a checkpoint, and what was derived from them.
    ///
    /// # Errors
    /// What the log says.
    pub(crate) fn purge(&self, term: Term, upto: LogIndex) -> Result<(), Error> {
        let _sealing = self.sealing.lock();
        let installed = self.progress.lock().as_ref().filter(|progress| progress.index == upto).map(|p| p.base());
        let past_the_end = self.log.last().is_none_or(|(_, last, _)| last < upto);
        match installed {
            // The next frame lies where it lies on the other nodes, not where this log happened to end.
            Some(base) if past_the_end && base.end > self.log.end() => self.log.reset(base)?,
            _ => self.log.purge((term, upto))?,
        }
        let kept: Vec<LogPosition> = self.log.segments().iter().map(|segment| segment.base).collect();
        for gone in self.queues.sealed().iter().filter(|sealed| !kept.contains(&sealed.base)) {
            self.queues.drop_segment(gone.base)?;
        }
        self.drop_old_checkpoints()
    }
}

/// What `apply` is given of an entry's records.
fn records_of(entry: &Entry) -> Bytes {
    match &entry.payload {
        Payload::Batch(batch) => batch.records.clone(),
        Payload::Blank | Payload::Membership(_) => Bytes::new(),
    }
}
