//! What takes entries away or closes a segment: truncate, purge, reset, seal.

use std::path::Path;
use std::sync::Arc;

use parking_lot::MutexGuard;
use pointsman_model::ids::{LogIndex, LogPosition, Term};
use pointsman_model::limits;

use super::Inner;
use super::mutant::Mutant;
use super::scan::TailEntry;
use super::segment::{Segment, Source, file_offset, path};
use super::segment_header::Watermark;
use super::state::State;
use super::writer::{Active, Writer};
use crate::Error;
use crate::base::Base;
use crate::disk::DiskFile;

impl Inner {
    pub(crate) fn truncate_after(&self, last: Option<LogIndex>) -> Result<Option<LogPosition>, Error> {
        let mut writer = self.writer.lock();
        self.drain(&mut writer)?;
        let state = self.state.lock();
        self.check_writable(&state)?;
        if let (Some(last), Some(purged)) = (last, state.purged)
            && last < purged.index
        {
            return Err(Error::NotInLog { index: last });
        }
        let last = last.or(state.purged.map(|base| base.index));
        let Some((_, end, _)) = state.last() else { return Ok(None) };
        if last.is_some_and(|last| last >= end) {
            return Ok(None);
        }
        let first_gone = last.map(LogIndex::next).or(state.first_index());
        drop(state);
        let done = match last {
            None => self.remove_all(&mut writer, None).map(|()| None),
            Some(last) => self.cut(&mut writer, last),
        };
        tracing::info!(log.dir = %self.config.dir.display(), log.index = first_gone.map(LogIndex::get), "truncated the log");
        done.map_err(|error| self.poison(error, Vec::new(), Vec::new()))
    }

    /// Cuts behind `last`, an entry that is in the log or purged.
    fn cut(&self, writer: &mut Writer, last: LogIndex) -> Result<Option<LogPosition>, Error> {
        let gone = last.next();
        let (_, cut) = self.header_at(gone)?;
        let kept = self.entry_before(gone)?;
        let dir = self.config.segments_dir();

        let mut state = self.state.lock();
        state.cuts += 1;
        let mut removed = Vec::new();
        while state.segments.len() > 1 && state.segments.back().is_some_and(|segment| segment.base_index >= gone) {
            removed.extend(state.segments.pop_back());
        }
        let Some(segment) = state.segments.back_mut() else { unreachable!("one segment is always kept") };
        let old_end = segment.end;
        let (base, was_sealed) = (segment.base, segment.sealed);
        assert!(!was_sealed || cut == old_end, "entries of a sealed segment are applied and cannot be cut");
        if cut < old_end {
            segment.cut(gone, cut);
        }
        if was_sealed {
            (segment.sealed, segment.source) = (false, None);
        }
        state.position = cut;
        state.tail_entry = kept;
        state.tail.truncate_after(Some(last));
        state.flushed = Some(last);
        drop(state);

        // From the newest on, each durable before the next: a gap between segments would look like a lost file.
        for segment in removed {
            let path = segment.path(&dir);
            self.disk.unlink(&path).map_err(Error::io("remove", &path))?;
            self.disk.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
        }
        self.reactivate(writer, base, was_sealed)?;
        if let Some(active) = &mut writer.active {
            let slot = Watermark { counter: active.counter + 1, position: cut };
            self.write_watermark(active, slot)?;
            self.zero(&*active.file, &path(&dir, base), file_offset(base, cut), file_offset(base, old_end))?;
            active.durable = cut;
        }
        Ok(was_sealed.then_some(base))
    }

    /// The last frame before `index`, as the next one must follow it.
    fn entry_before(&self, index: LogIndex) -> Result<Option<TailEntry>, Error> {
        let Some(before) = index.0.checked_sub(1).map(LogIndex) else { return Ok(None) };
        let state = self.state.lock();
        let purged = state.purged.filter(|base| base.index == before);
        drop(state);
        match (self.header_at(before), purged) {
            (Ok((header, _)), _) => Ok(Some(TailEntry::of(&header))),
            (Err(Error::NotInLog { .. }), base) => Ok(base.map(entry_of)),
            (Err(error), _) => Err(error),
        }
    }

    /// Makes the last segment the one that is written.
    fn reactivate(&self, writer: &mut Writer, base: LogPosition, was_sealed: bool) -> Result<(), Error> {
        if writer.active.as_ref().is_some_and(|active| active.base == base) {
            return Ok(());
        }
        let path = path(&self.config.segments_dir(), base);
        if was_sealed {
            self.disk.set_read_only(&path, false).map_err(Error::io("make writable", &path))?;
        }
        let file = self.disk.open(&path).map_err(Error::io("open", &path))?;
        let counter = newest_counter(&*file, &path, self, base)?;
        let mut state = self.state.lock();
        if let Some(segment) = state.segments.back_mut() {
            segment.source = Some(Source::File(Arc::clone(&file)));
        }
        let durable = state.position;
        writer.active = Some(Active { base, file, durable, counter });
        Ok(())
    }

    fn write_watermark(&self, active: &mut Active, slot: Watermark) -> Result<(), Error> {
        let path = path(&self.config.segments_dir(), active.base);
        let bytes = slot.encode(&self.config.owner(), active.base);
        active.file.write_all_at(&bytes, slot.offset()).map_err(Error::io("write", &path))?;
        self.sync(&*active.file).map_err(Error::io("sync", &path))?;
        active.counter = slot.counter;
        Ok(())
    }

    /// Zeroes a range and syncs, so that no old frame can stand where a new one ends.
    fn zero(&self, file: &dyn DiskFile, path: &Path, from: u64, to: u64) -> Result<(), Error> {
        if self.mutated(Mutant::NoZeroingAfterCut) {
            return Ok(());
        }
        zero_range(file, path, from, to)?;
        self.sync(file).map_err(Error::io("sync", path))
    }

    pub(crate) fn purge(&self, upto: (Term, LogIndex)) -> Result<(), Error> {
        let (term, index) = upto;
        let mut writer = self.writer.lock();
        self.drain(&mut writer)?;
        let state = self.state.lock();
        self.check_writable(&state)?;
        if state.purged.is_some_and(|base| base.index >= index) {
            return Ok(());
        }
        let end = state.position;
        let stamp = state.tail_entry.map_or_else(Default::default, |tail| tail.stamp);
        let held = state.segment_of(index).is_some();
        drop(state);
        if !held {
            return self.forget_all(&mut writer, Base { term, index, end, stamp, crc: 0 });
        }
        let (header, position) = self.header_at(index)?;
        let end = LogPosition(position.0 + header.bytes());
        let base = Base { term, index, end, stamp: header.stamp, crc: header.header_crc };
        self.forget(&mut writer, base).map_err(|error| self.poison(error, Vec::new(), Vec::new()))
    }

    /// Purges entries of which the last is in the log.
    fn forget(&self, writer: &mut Writer, base: Base) -> Result<(), Error> {
        let dir = self.config.segments_dir();
        if !self.mutated(Mutant::UnlinkBeforeBase) {
            writer.base_file.save(base)?;
        }
        let mut state = self.state.lock();
        state.purged = Some(base);
        state.tail.purge(base.index);
        let mut removed = Vec::new();
        while state.segments.len() > 1 && state.segments[0].next_index.0 <= base.index.0 + 1 {
            removed.extend(state.segments.pop_front());
        }
        drop(state);
        self.unlink_all(&dir, &removed)?;
        if self.mutated(Mutant::UnlinkBeforeBase) {
            writer.base_file.save(base)?;
        }
        Ok(())
    }

    pub(crate) fn reset(&self, base: Base) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        self.drain(&mut writer)?;
        let state = self.state.lock();
        self.check_writable(&state)?;
        let expected = state.next_index();
        drop(state);
        if let Some(expected) = expected.filter(|expected| base.index < *expected) {
            return Err(Error::NotContiguous { expected, found: base.index });
        }
        self.forget_all(&mut writer, base)
    }

    fn forget_all(&self, writer: &mut Writer, base: Base) -> Result<(), Error> {
        let done = writer.base_file.save(base).and_then(|()| self.remove_all(writer, Some(base)));
        done.map_err(|error| self.poison(error, Vec::new(), Vec::new()))
    }

    /// Removes every segment. The log goes on after `base`, or is as new.
    fn remove_all(&self, writer: &mut Writer, base: Option<Base>) -> Result<(), Error> {
        let dir = self.config.segments_dir();
        let mut state = self.state.lock();
        state.cuts += 1;
        let removed: Vec<Segment> = state.segments.drain(..).collect();
        state.tail.truncate_after(None);
        state.purged = base;
        state.tail_entry = base.map(entry_of);
        state.position = base.map_or(LogPosition(0), |base| base.end);
        state.flushed = base.map(|base| base.index);
        drop(state);
        writer.active = None;
        if base.is_some() {
            return self.unlink_all(&dir, &removed);
        }
        // Without a base that explains it, a gap would look like a lost file: newest first, each durable before the next.
        for segment in removed.iter().rev() {
            self.unlink_all(&dir, std::slice::from_ref(segment))?;
        }
        Ok(())
    }

    fn unlink_all(&self, dir: &Path, segments: &[Segment]) -> Result<(), Error> {
        for segment in segments {
            let path = segment.path(dir);
            self.disk.unlink(&path).map_err(Error::io("remove", &path))?;
        }
        if segments.is_empty() { Ok(()) } else { self.disk.sync_dir(dir).map_err(Error::io("sync", dir)) }
    }

    pub(crate) fn seal(&self, base: LogPosition) -> Result<(), Error> {
        // The writer's lock keeps a truncation away.
        let _writer = self.writer.lock();
        let state = self.state.lock();
        let (at, next_index, end) = self.full(&state, base)?;
        if state.segments[at].sealed {
            return Ok(());
        }
        drop(state);
        let path = path(&self.config.segments_dir(), base);
        self.disk.set_read_only(&path, true).map_err(Error::io("make read-only", &path))?;
        let source = self.open_source(base, end)?;
        let mut state = self.state.lock();
        if let Some(segment) =
            state.segments.iter_mut().find(|segment| segment.base == base && segment.next_index == next_index)
        {
            (segment.sealed, segment.source) = (true, Some(source));
        }
        Ok(())
    }

    /// A segment that is full and durable.
    fn full(&self, state: &MutexGuard<'_, State>, base: LogPosition) -> Result<(usize, LogIndex, LogPosition), Error> {
        let found = state.segments.iter().position(|segment| segment.base == base);
        let at = found.filter(|at| at + 1 < state.segments.len()).ok_or(Error::NotInLog { index: LogIndex(0) })?;
        let segment = &state.segments[at];
        let last = LogIndex(segment.next_index.0.saturating_sub(1));
        if Self::is_durable(state, last) {
            Ok((at, segment.next_index, segment.end))
        } else {
            Err(Error::NotInLog { index: last })
        }
    }
}

fn entry_of(base: Base) -> TailEntry {
    TailEntry { term: base.term, index: base.index, stamp: base.stamp, crc: base.crc }
}

fn newest_counter(file: &dyn DiskFile, path: &Path, inner: &Inner, base: LogPosition) -> Result<u64, Error> {
    let mut page = [0; super::segment_header::HEADER_PAGE_BYTES as usize];
    file.read_exact_at(&mut page, 0).map_err(Error::io("read", path))?;
    Ok(Watermark::newest(&page, &inner.config.owner(), base).map_or(0, |slot| slot.counter))
}

/// Writes zeros to a range of a file.
pub(crate) fn zero_range(file: &dyn DiskFile, path: &Path, from: u64, to: u64) -> Result<(), Error> {
    let zeros = vec![0; (to.saturating_sub(from)).min(limits::ZERO_STEP_BYTES_MAX as u64) as usize];
    let mut at = from;
    while at < to {
        let step = (to - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..step as usize], at).map_err(Error::io("write", path))?;
        at += step;
    }
    Ok(())
}
