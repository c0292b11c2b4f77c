//! One segment as the open log knows it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pointsman_model::ids::{LogIndex, LogPosition};
use pointsman_model::limits;

use super::segment_header::HEADER_PAGE_BYTES;
use crate::disk::DiskFile;

/// Where one frame of every 64 KiB lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Index of the frame.
    pub index: LogIndex,
    /// Its first byte.
    pub position: LogPosition,
}

/// What others may know of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Position of its first frame; names its file.
    pub base: LogPosition,
    /// Index of its first frame.
    pub first_index: LogIndex,
    /// Index of its last frame; below `first_index` if it has none.
    pub last_index: LogIndex,
    /// Where its last frame ends.
    pub end: LogPosition,
    /// True once it is read-only and mapped.
    pub sealed: bool,
}

/// Where the bytes of a segment come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Mapped(Bytes),
    File(Arc<dyn DiskFile>),
}

/// One segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: LogPosition,
    pub(crate) base_index: LogIndex,
    /// Where its last appended frame ends.
    pub(crate) end: LogPosition,
    /// Index of the next frame.
    pub(crate) next_index: LogIndex,
    /// None while it is yet to be created, or sealed and not read since the start.
    pub(crate) source: Option<Source>,
    pub(crate) sealed: bool,
    /// Ascending; `None` for a sealed segment nobody asked by index yet.
    pub(crate) marks: Option<Vec<Mark>>,
}

impl Segment {
    /// A segment without frames.
    pub(crate) fn empty(base: LogPosition, base_index: LogIndex) -> Self {
        Self {
            base,
            base_index,
            end: base,
            next_index: base_index,
            source: None,
            sealed: false,
            marks: Some(Vec::new()),
        }
    }

    /// Path of its file.
    pub(crate) fn path(&self, dir: &Path) -> PathBuf {
        path(dir, self.base)
    }

    /// True if it holds no frame.
    pub(crate) fn is_empty(&self) -> bool {
        self.end == self.base
    }

    /// Notes a frame that was appended or found.
    pub(crate) fn push(&mut self, index: LogIndex, position: LogPosition, end: LogPosition) {
        if let Some(marks) = &mut self.marks {
            push_mark(marks, Mark { index, position });
        }
        self.end = end;
        self.next_index = index.next();
    }

    /// Forgets the frames from `index` on, which starts at `position`.
    pub(crate) fn cut(&mut self, index: LogIndex, position: LogPosition) {
        if let Some(marks) = &mut self.marks {
            marks.retain(|mark| mark.position < position);
        }
        self.end = position;
        self.next_index = index;
    }

    /// The last mark at or before an index; `None` if the marks are not known.
    pub(crate) fn mark_before(&self, index: LogIndex) -> Option<Mark> {
        let marks = self.marks.as_ref()?;
        let at = marks.partition_point(|mark| mark.index <= index);
        Some(at.checked_sub(1).map_or(Mark { index: self.base_index, position: self.base }, |at| marks[at]))
    }

    /// What others may know.
    pub(crate) fn info(&self) -> SegmentInfo {
        SegmentInfo {
            base: self.base,
            first_index: self.base_index,
            last_index: LogIndex(self.next_index.0.saturating_sub(1)),
            end: self.end,
            sealed: self.sealed,
        }
    }
}

/// Adds a mark unless the one before is near.
pub(crate) fn push_mark(marks: &mut Vec<Mark>, mark: Mark) {
    if marks.last().is_none_or(|last| mark.position.0 >= last.position.0 + limits::MARK_SPACING_BYTES) {
        marks.push(mark);
    }
}

/// Path of the segment that starts at `base`.
pub(crate) fn path(dir: &Path, base: LogPosition) -> PathBuf {
    dir.join(format!("{:020}.seg", base.0))
}

/// The base position in a segment's file name.
pub(crate) fn base_of(name: &str) -> Option<LogPosition> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok().map(LogPosition))?
}

/// Where a position lies in the file of the segment that starts at `base`.
pub(crate) fn file_offset(base: LogPosition, position: LogPosition) -> u64 {
    HEADER_PAGE_BYTES + (position.0 - base.0)
}
