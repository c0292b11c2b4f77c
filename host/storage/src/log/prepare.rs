//! Making the next segment before it is needed, on a thread of its own.

use std::sync::Arc;

use super::Inner;
use super::segment_header::HEADER_PAGE_BYTES;
use super::spare::Spare;
use super::state::State;
use crate::Error;

impl Inner {
    /// The thread that makes the next segment.
    pub(crate) fn run_preparer(&self) {
        loop {
            while self.prepare() {}
            let mut state = self.state.lock();
            if state.closing {
                return;
            }
            self.grown.wait(&mut state);
        }
    }

    /// One step towards the next segment, if one is due; true if it was.
    ///
    /// Nothing is done before an eighth of the active segment is used, and zeroing keeps to twice the pace of the appends.
    pub(crate) fn prepare(&self) -> bool {
        let state = self.state.lock();
        let Some(due) = self.due(&state) else { return false };
        match &state.spare {
            Some(spare) if !spare.is_bad() => {
                let spare = Arc::clone(spare);
                drop(state);
                self.config.zero_ahead && spare.zero_step(due)
            }
            _ if state.spare_refused => false,
            _ => self.make_spare(state),
        }
    }

    /// Bytes of the next segment that should be zeroed by now.
    fn due(&self, state: &State) -> Option<u64> {
        if state.closing || state.poison.is_some() || !state.damages.is_empty() {
            return None;
        }
        let active = state.segments.back()?;
        let used = active.end.0 - active.base.0 + HEADER_PAGE_BYTES;
        let start = self.config.segment_bytes / 8;
        (used > start).then(|| (2 * (used - start)).max(1))
    }

    /// A file with a name of its own.
    pub(crate) fn fresh_spare(&self, len: u64) -> Result<Spare, Error> {
        let mut state = self.state.lock();
        let number = state.spare_number;
        state.spare_number += 1;
        drop(state);
        Spare::create(&*self.disk, &self.config.segments_dir(), number, len)
    }

    fn make_spare(&self, mut state: parking_lot::MutexGuard<'_, State>) -> bool {
        state.spare = None;
        drop(state);
        let made = self.fresh_spare(self.config.segment_bytes);
        let mut state = self.state.lock();
        match made {
            Ok(spare) if state.spare.is_none() => {
                state.spare = Some(Arc::new(spare));
                true
            }
            Ok(spare) => {
                // An append was quicker and has its own.
                drop(state);
                if let Err(error) = self.disk.unlink(&spare.path) {
                    tracing::warn!(file.path = %spare.path.display(), %error, "cannot remove a spare segment");
                }
                false
            }
            Err(error) => {
                tracing::warn!(log.dir = %self.config.dir.display(), %error, "cannot make the next segment ahead");
                state.spare_refused = true;
                false
            }
        }
    }
}
