//! Writes the segments of a [`Gap`] anew and swaps them in.
//!
//! Everything is written beside the log, under names that a start removes, and synced. Only when the entries lead from
//! the last good one before the gap to the good segment behind it, checksum by checksum, are the files renamed, each over
//! the damaged one it replaces. A crash in between leaves a log with a smaller gap. Where a frame lies, and in which
//! segment, is a pure function of the entries: a segment written anew equals that of every other replica.

use std::path::PathBuf;
use std::sync::Arc;

use pointsman_model::ids::{LogIndex, LogPosition};
use pointsman_model::limits;

use super::append::Place;
use super::config::LogConfig;
use super::frame::{FRAME_HEADER_BYTES, Frame, Location};
use super::scan::TailEntry;
use super::segment::{file_offset, path};
use super::segment_header::{HEADER_PAGE_BYTES, Predecessor, SegmentHeader, Watermark};
use super::survey::{Gap, GapEnd, follows};
use crate::Error;
use crate::disk::{Disk, DiskFile};
use crate::identity::Owner;

const PREFIX: &str = "repair-";

/// True for the names of segments that are being written anew.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// A segment in the making.
#[derive(Debug)]
struct Written {
    base: LogPosition,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    end: LogPosition,
}

/// Fills one gap. Dropped unfinished, it has changed nothing but files that a start removes.
#[derive(Debug)]
pub struct Rebuild {
    disk: Arc<dyn Disk>,
    config: LogConfig,
    gap: Gap,
    /// The header behind the gap.
    behind: Option<SegmentHeader>,
    written: Vec<Written>,
    place: Place,
    next: LogIndex,
    previous: Option<TailEntry>,
}

impl Rebuild {
    /// Starts with nothing filled; `behind` is the header of the good segment behind the gap.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        config: LogConfig,
        gap: Gap,
        behind: Option<SegmentHeader>,
    ) -> Result<Self, Error> {
        let place = Place { base: gap.open.map(|open| open.base), position: gap.damage.from };
        let (next, previous) = (gap.damage.first_index, gap.previous);
        let rebuild = Self { disk, config, gap, behind, written: Vec::new(), place, next, previous };
        rebuild.check_end()?;
        Ok(rebuild)
    }

    /// The gap that is filled.
    #[must_use]
    pub fn gap(&self) -> &Gap {
        &self.gap
    }

    /// Index of the next entry that is needed.
    #[must_use]
    pub fn next(&self) -> LogIndex {
        self.next
    }

    /// True once every entry is here that surely was. A gap at the log's end takes more than that.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        match self.gap.end {
            GapEnd::Segment { base, .. } => self.place.position == base,
            GapEnd::Log { durable } => self.place.position >= durable,
        }
    }

    /// Takes the next entry. It is verified, records and all, and must stand where the giver says it stands.
    ///
    /// # Errors
    /// [`Error::NotContiguous`], [`Error::TermWentBack`], [`Error::DamagedFile`] if it is not what belongs here; I/O and
    /// [`Error::DiskFull`]. After any of them this attempt is over.
    pub fn push(&mut self, frame: &Frame) -> Result<(), Error> {
        self.check(frame)?;
        let mut place = self.place;
        let opens = place.put(frame.bytes() as u64, self.config.segment_bytes);
        let position = self.place.position;
        let base = place.base.unwrap_or(position);
        if frame.location != (Location { position, segment_base: base }) {
            return Err(self.refused("an entry lies elsewhere on the other replica"));
        }
        if opens {
            self.create(base, self.next, self.previous)?;
        } else if self.written.is_empty() {
            self.copy_open()?;
        }
        let owner = self.config.owner();
        let header = frame.header(&owner);
        let Some(segment) = self.written.last_mut() else { unreachable!("a frame has a segment: it was just made") };
        let offset = file_offset(base, position);
        let write = Error::io("write", &segment.path);
        let end = offset + frame.bytes() as u64;
        if end > self.config.segment_bytes {
            reserve(&*segment.file, &segment.path, end)?;
        }
        let done = segment.file.write_all_at(&header.encode(), offset);
        done.and_then(|()| segment.file.write_all_at(&frame.records, offset + FRAME_HEADER_BYTES as u64))
            .map_err(write)?;
        segment.end = place.position;
        (self.place, self.next, self.previous) = (place, frame.index.next(), Some(TailEntry::of(&header)));
        self.check_end()
    }

    fn check(&self, frame: &Frame) -> Result<(), Error> {
        if frame.index != self.next {
            return Err(Error::NotContiguous { expected: self.next, found: frame.index });
        }
        let (term, stamp) = self.previous.map(|last| (last.term, last.stamp)).unwrap_or_default();
        if frame.term < term {
            return Err(Error::TermWentBack { last: term, found: frame.term });
        }
        if frame.bytes() > limits::FRAME_BYTES_MAX {
            return Err(Error::FrameTooLarge { bytes: frame.bytes() });
        }
        if frame.stamp < stamp {
            return Err(self.refused("an entry is stamped before the one it follows"));
        }
        frame.header(&self.config.owner()).verify_records(&frame.records).map_err(|bad| self.refused(bad.reason()))
    }

    /// The entries must meet the segment behind the gap exactly.
    fn check_end(&self) -> Result<(), Error> {
        let Some(behind) = &self.behind else { return Ok(()) };
        if self.place.position < behind.base {
            return Ok(());
        }
        let meets = self.place.position == behind.base
            && self.next == behind.base_index
            && match (self.previous, behind.previous) {
                (Some(last), Some(named)) => follows(last, named),
                (last, named) => last.is_none() == named.is_none(),
            };
        if meets { Ok(()) } else { Err(self.refused("the entries do not lead to the segment behind them")) }
    }

    fn refused(&self, reason: &'static str) -> Error {
        Error::DamagedFile { path: self.gap.damage.path.clone(), reason }
    }

    /// A file for the segment that starts here.
    fn create(&mut self, base: LogPosition, index: LogIndex, previous: Option<TailEntry>) -> Result<(), Error> {
        let previous = previous.map(|last| Predecessor { term: last.term, index: last.index, crc: last.crc });
        let header = SegmentHeader { segment_bytes: self.config.segment_bytes, base, base_index: index, previous };
        self.create_with(&header)
    }

    fn create_with(&mut self, header: &SegmentHeader) -> Result<(), Error> {
        let path = self.config.segments_dir().join(format!("{PREFIX}{:020}.tmp", header.base.0));
        if self.disk.info(&path).is_ok() {
            self.disk.unlink(&path).map_err(Error::io("remove", &path))?;
        }
        let file = self.disk.create(&path).map_err(|error| no_room(error, "create", &path, header.segment_bytes))?;
        reserve(&*file, &path, header.segment_bytes)?;
        let page = header.encode_page(&self.config.owner());
        file.write_all_at(&page, 0).map_err(Error::io("write", &path))?;
        self.written.push(Written { base: header.base, path, file, end: header.base });
        Ok(())
    }

    /// Takes over the verified frames of the segment that the gap starts in.
    fn copy_open(&mut self) -> Result<(), Error> {
        let Some(open) = self.gap.open else { return Err(self.refused("the segment of an entry is not known")) };
        self.create_with(&open)?;
        let Some(to) = self.written.last_mut() else { unreachable!("it was just made") };
        let from = path(&self.config.segments_dir(), open.base);
        let file = self.disk.open_read(&from).map_err(Error::io("open", &from))?;
        let end = file_offset(open.base, self.gap.damage.from);
        let mut buffer = vec![0; limits::ZERO_STEP_BYTES_MAX];
        let mut at = HEADER_PAGE_BYTES;
        while at < end {
            let step = (end - at).min(buffer.len() as u64) as usize;
            file.read_exact_at(&mut buffer[..step], at).map_err(Error::io("read", &from))?;
            to.file.write_all_at(&buffer[..step], at).map_err(Error::io("write", &to.path))?;
            at += step as u64;
        }
        to.end = self.gap.damage.from;
        Ok(())
    }

    /// Makes it last: syncs, then the names. At the log's end nothing behind the entries given is kept.
    ///
    /// # Errors
    /// I/O; [`Error::DamagedFile`] if the gap is not filled and is not at the log's end.
    pub fn finish(self) -> Result<(), Error> {
        self.swap_in(false)
    }

    /// As [`Rebuild::finish`], for a segment that is sealed.
    pub(crate) fn finish_read_only(self) -> Result<(), Error> {
        self.swap_in(true)
    }

    fn swap_in(mut self, sealed: bool) -> Result<(), Error> {
        let at_end = matches!(self.gap.end, GapEnd::Log { .. });
        if !at_end && !self.is_filled() {
            return Err(self.refused("entries are still missing"));
        }
        if at_end && self.written.is_empty() && self.gap.open.is_some() {
            self.copy_open()?;
        }
        let (dir, owner) = (self.config.segments_dir(), self.config.owner());
        for (at, segment) in self.written.iter().enumerate() {
            if at_end && at + 1 == self.written.len() {
                write_watermark(segment, &owner)?;
            }
            segment.file.sync_data().map_err(Error::io("sync", &segment.path))?;
        }
        for segment in &self.written {
            if sealed {
                let read_only = self.disk.set_read_only(&segment.path, true);
                read_only.map_err(Error::io("make read-only", &segment.path))?;
            }
            let to = path(&dir, segment.base);
            self.disk.rename(&segment.path, &to).map_err(Error::io("rename", &segment.path))?;
        }
        self.disk.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
        let kept: Vec<PathBuf> = self.written.iter().map(|segment| path(&dir, segment.base)).collect();
        for stray in self.gap.stray.iter().filter(|stray| !kept.contains(stray)) {
            self.disk.unlink(stray).map_err(Error::io("remove", stray))?;
        }
        self.disk.sync_dir(&dir).map_err(Error::io("sync", &dir))
    }
}

/// All frames of the last segment are durable once it has its name.
fn write_watermark(segment: &Written, owner: &Owner) -> Result<(), Error> {
    let slot = Watermark { counter: 1, position: segment.end };
    let bytes = slot.encode(owner, segment.base);
    segment.file.write_all_at(&bytes, slot.offset()).map_err(Error::io("write", &segment.path))
}

fn reserve(file: &dyn DiskFile, path: &std::path::Path, len: u64) -> Result<(), Error> {
    file.reserve(len).map_err(|error| no_room(error, "reserve", path, len))
}

fn no_room(error: std::io::Error, operation: &'static str, path: &std::path::Path, needed: u64) -> Error {
    if crate::error::is_no_space(&error) {
        Error::DiskFull { path: path.to_owned(), needed }
    } else {
        Error::io(operation, path)(error)
    }
}
