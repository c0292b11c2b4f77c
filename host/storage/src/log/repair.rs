//! Repairing a log with entries of another replica: what is missing, writing it anew, going on with it.
//!
//! A log that recovery found damaged is read-only until [`CommitLog::reopen`]; its gaps are filled before, each by a
//! [`Rebuild`]. A sealed segment that is found damaged later is replaced while the log is in use: the new file takes the
//! name, readers that hold the old one keep it, and everyone else opens the new one.

use std::sync::Arc;

use pointsman_model::ids::{LogIndex, LogPosition};

use super::config::{Damage, RecoveryReport};
use super::cursor::Cursor;
use super::recovery::{Found, look, recover};
use super::scan::TailEntry;
use super::segment::path;
use super::state::State;
use super::survey::{Gap, GapEnd, survey};
use super::{CommitLog, Inner, Rebuild};
use crate::Error;
use crate::base::Base;

impl CommitLog {
    /// What is missing from a log that recovery found damaged, oldest first. Reads every segment whole; changes nothing.
    ///
    /// # Errors
    /// I/O.
    pub fn gaps(&self) -> Result<Vec<Gap>, Error> {
        let inner = &self.0.inner;
        survey(&*inner.disk, &inner.config).map(|survey| survey.gaps)
    }

    /// Starts to fill a gap.
    ///
    /// # Errors
    /// I/O; [`Error::DamagedFile`] if no entries can fill it, because what lies on its two sides contradicts itself.
    pub fn rebuild(&self, gap: Gap) -> Result<Rebuild, Error> {
        let inner = &self.0.inner;
        let behind = match gap.end {
            GapEnd::Segment { base, .. } => Some(inner.look_at(base)?.header),
            GapEnd::Log { .. } => None,
        };
        Rebuild::new(Arc::clone(&inner.disk), inner.config.clone(), gap, behind)
    }

    /// Opens a damaged log again, after its gaps were filled. If it is still damaged, it stays as it is.
    ///
    /// # Errors
    /// As [`CommitLog::open`]; [`Error::ReadOnly`] if there is still damage.
    pub fn reopen(&self) -> Result<RecoveryReport, Error> {
        let inner = &self.0.inner;
        let mut writer = inner.writer.lock();
        let mut state = inner.state.lock();
        assert!(!state.damages.is_empty(), "only a log that takes nothing can be opened again");
        let recovered = recover(&*inner.disk, &inner.config)?;
        if !recovered.report.damages.is_empty() {
            return Err(Error::ReadOnly { path: inner.config.segments_dir(), ranges: recovered.report.damages.len() });
        }
        let (spare_number, cuts, closing) = (state.spare_number, state.cuts + 1, state.closing);
        *state = State { spare_number, cuts, closing, ..recovered.state };
        *writer = recovered.writer;
        Ok(recovered.report)
    }

    /// A sealed segment as a gap: all of it has to come again.
    ///
    /// # Errors
    /// [`Error::NotInLog`] if no sealed segment starts there; I/O, or the segment behind it is damaged too.
    pub fn gap_of_sealed(&self, base: LogPosition, reason: &'static str) -> Result<Gap, Error> {
        let inner = &self.0.inner;
        let state = inner.state.lock();
        let at = state.segments.iter().position(|segment| segment.base == base && segment.sealed);
        let missing = || Error::NotInLog { index: LogIndex(0) };
        let at = at.filter(|at| at + 1 < state.segments.len()).ok_or_else(missing)?;
        let (this, next) = (&state.segments[at], &state.segments[at + 1]);
        let (first, end) = (this.base_index, GapEnd::Segment { base: next.base, index: next.base_index });
        let (to, next_index) = (next.base, Some(next.base_index));
        let purged = state.purged;
        drop(state);
        let path = path(&inner.config.segments_dir(), base);
        let previous = inner.before(base, first, purged)?;
        let damage = Damage { path, from: base, to, first_index: first, next_index, reason };
        Ok(Gap { damage, end, open: None, previous, stray: Vec::new() })
    }

    /// Swaps in a sealed segment that was written anew.
    ///
    /// # Errors
    /// As [`Rebuild::finish`]; [`Error::NotInLog`] if the segment was dropped meanwhile.
    pub fn replace_sealed(&self, rebuild: Rebuild) -> Result<(), Error> {
        let inner = &self.0.inner;
        let base = rebuild.gap().damage.from;
        // The writer's lock keeps truncation, purge and sealing away.
        let _writer = inner.writer.lock();
        let state = inner.state.lock();
        let there = state.segments.iter().any(|segment| segment.base == base && segment.sealed);
        drop(state);
        if !there {
            return Err(Error::NotInLog { index: rebuild.gap().damage.first_index });
        }
        rebuild.finish_read_only()?;
        let mut state = inner.state.lock();
        state.cuts += 1;
        if let Some(segment) = state.segments.iter_mut().find(|segment| segment.base == base) {
            (segment.source, segment.marks) = (None, None);
        }
        Ok(())
    }

    /// Reads and verifies every frame of a sealed segment; another one is not looked at.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::DamagedFile`], [`Error::Foreign`] for its first page; I/O.
    pub fn verify_sealed(&self, base: LogPosition) -> Result<(), Error> {
        let inner = &self.0.inner;
        let state = inner.state.lock();
        let Some(segment) = state.segments.iter().find(|segment| segment.base == base && segment.sealed) else {
            return Ok(());
        };
        let (end, mut next) = (segment.end, segment.base_index);
        drop(state);
        inner.look_at(base)?;
        // Through a handle of its own, so that a scan of everything does not fill the map of the process.
        let path = path(&inner.config.segments_dir(), base);
        let file = inner.disk.open_read(&path).map_err(Error::io("open", &path))?;
        let mut cursor = Cursor::new(super::segment::Source::File(file), inner.config.owner(), base, base, end);
        while cursor.position < end {
            let at = cursor.position;
            let header = cursor.header().map_err(|stop| inner.stopped(base, at, stop))?;
            if header.index != next {
                return Err(inner.out_of_order(base, at));
            }
            cursor.records(&header).map_err(|stop| inner.stopped(base, at, stop))?;
            cursor.skip(&header);
            next = next.next();
        }
        Ok(())
    }
}

impl Inner {
    fn look_at(&self, base: LogPosition) -> Result<Found, Error> {
        look(&*self.disk, &self.config, path(&self.config.segments_dir(), base), base)
    }

    /// The last entry before a segment: from its own header, else from the frame itself.
    fn before(&self, base: LogPosition, first: LogIndex, purged: Option<Base>) -> Result<Option<TailEntry>, Error> {
        if let Ok(found) = self.look_at(base) {
            return Ok(super::survey::named(&found.header));
        }
        let Some(before) = first.0.checked_sub(1).map(LogIndex) else { return Ok(None) };
        if let Some(base) = purged.filter(|base| base.index == before) {
            return Ok(Some(TailEntry { term: base.term, index: base.index, stamp: base.stamp, crc: base.crc }));
        }
        match self.header_at(before) {
            Ok((header, _)) => Ok(Some(TailEntry::of(&header))),
            Err(Error::NotInLog { .. }) if purged.is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
