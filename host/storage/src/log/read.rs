//! Reading: the tail cache first, then the durable part of the files.

use std::ops::Range;

use bytes::Bytes;
use pointsman_model::ids::{LogIndex, LogPosition, Term};

use super::Inner;
use super::cursor::{Cursor, Stop};
use super::frame::{Frame, FrameHeader, Location};
use super::segment::{Mark, Segment, Source, path, push_mark};
use super::segment_header::HEADER_PAGE_BYTES;
use super::state::State;
use crate::Error;

/// A segment as a reader took it, free of the lock.
struct View {
    base: LogPosition,
    base_index: LogIndex,
    next_index: LogIndex,
    end: LogPosition,
    source: Option<Source>,
    /// Where to start looking for an index.
    mark: Option<Mark>,
    /// [`State::cuts`] at that moment.
    cuts: u64,
}

impl Inner {
    pub(crate) fn read(&self, range: Range<LogIndex>, bytes_max: usize) -> Result<Vec<Frame>, Error> {
        let mut out = Vec::new();
        let mut room = bytes_max;
        let mut next = None;
        loop {
            let state = self.state.lock();
            let (Some(first), Some((_, last, _))) = (state.first_index(), state.last()) else { return Ok(out) };
            let at = next.unwrap_or(range.start.max(first));
            let end = range.end.min(last.next());
            // A purge between two rounds ends the run: it must stay without gaps.
            if at >= end || at < first {
                return Ok(out);
            }
            if state.tail.get(at).is_some() {
                take_from_tail(&state, at..end, &mut room, &mut out);
                return Ok(out);
            }
            let view = self.view(&state, at)?;
            // What the tail holds may not be on disk yet.
            let on_disk = state.tail.first().map_or(end, |tail| tail.min(end));
            drop(state);
            let before = out.len();
            if let Err(error) = self.read_file(&view, at..on_disk, &mut room, &mut out) {
                if self.was_cut(&view) {
                    out.truncate(before);
                    continue;
                }
                // What was read before the bad bytes is good.
                return if out.is_empty() { Err(error) } else { Ok(out) };
            }
            match out.last() {
                Some(frame) if room > 0 && frame.index.next() < end && out.len() > before => {
                    next = Some(frame.index.next())
                }
                _ => return Ok(out),
            }
        }
    }

    pub(crate) fn read_record(&self, position: LogPosition, length: usize) -> Result<Bytes, Error> {
        let missing = || Error::NoSuchRecord { position, length };
        let state = self.state.lock();
        if let Some(bytes) = state.tail.bytes_at(position, length) {
            return Ok(bytes);
        }
        let at =
            state.segments.partition_point(|segment| segment.base <= position).checked_sub(1).ok_or_else(missing)?;
        let segment = &state.segments[at];
        let end = position.0.checked_add(length as u64).ok_or_else(missing)?;
        if end > segment.end.0 {
            return Err(missing());
        }
        let view = self.view_of(&state, segment, None);
        drop(state);
        let source = self.source(&view)?;
        let mut cursor = Cursor::new(source, self.config.owner(), view.base, position, LogPosition(end));
        cursor.bytes(position, length).map_err(Error::io("read", &path(&self.config.segments_dir(), view.base)))
    }

    pub(crate) fn term_at(&self, index: LogIndex) -> Result<Term, Error> {
        let state = self.state.lock();
        if let Some(base) = state.purged.filter(|base| base.index == index) {
            return Ok(base.term);
        }
        if state.first_index().is_none_or(|first| index < first) {
            return Err(Error::NotInLog { index });
        }
        drop(state);
        Ok(self.header_at(index)?.0.term)
    }

    pub(crate) fn term_starts(&self, first: LogIndex, last: LogIndex) -> Result<Vec<(Term, LogIndex)>, Error> {
        let (mut at, mut term) = (first, self.term_at(first)?);
        let last_term = self.term_at(last)?;
        let mut out = vec![(term, first)];
        // Terms never go back: look for each next one by halves.
        while term < last_term {
            let (mut low, mut high) = (at, last);
            while low.next() < high {
                let middle = LogIndex(low.0 + (high.0 - low.0) / 2);
                if self.term_at(middle)? > term { high = middle } else { low = middle }
            }
            (at, term) = (high, self.term_at(high)?);
            out.push((term, at));
        }
        Ok(out)
    }

    /// Header and place of a frame that the segments hold, purged or not.
    pub(crate) fn header_at(&self, index: LogIndex) -> Result<(FrameHeader, LogPosition), Error> {
        loop {
            let state = self.state.lock();
            if let Some(frame) = state.tail.get(index) {
                return Ok((frame.header(&self.config.owner()), frame.location.position));
            }
            let view = self.view(&state, index)?;
            drop(state);
            let found = self.find(&view, index).and_then(|mut cursor| {
                let header = cursor.header().map_err(|stop| self.stopped(view.base, cursor.position, stop))?;
                Ok((header, cursor.position))
            });
            if found.is_ok() || !self.was_cut(&view) {
                return found;
            }
        }
    }

    pub(crate) fn marks(&self, base: LogPosition) -> Result<Vec<Mark>, Error> {
        let state = self.state.lock();
        let Some(segment) = state.segments.iter().find(|segment| segment.base == base) else { return Ok(Vec::new()) };
        if let Some(marks) = &segment.marks {
            return Ok(marks.clone());
        }
        let view = self.view_of(&state, segment, None);
        drop(state);
        self.walk_marks(&view)
    }

    pub(crate) fn restore_marks(&self, base: LogPosition, marks: Vec<Mark>) {
        let mut state = self.state.lock();
        let segment = state.segments.iter_mut().find(|segment| segment.base == base);
        if let Some(segment) = segment.filter(|segment| segment.sealed && segment.marks.is_none()) {
            segment.marks = Some(marks);
        }
    }

    fn view(&self, state: &State, index: LogIndex) -> Result<View, Error> {
        let at = state.segment_of(index).ok_or(Error::NotInLog { index })?;
        Ok(self.view_of(state, &state.segments[at], state.segments[at].mark_before(index)))
    }

    fn view_of(&self, state: &State, segment: &Segment, mark: Option<Mark>) -> View {
        View {
            base: segment.base,
            base_index: segment.base_index,
            next_index: segment.next_index,
            end: segment.end,
            source: segment.source.clone(),
            mark,
            cuts: state.cuts,
        }
    }

    /// True if entries were cut since the view was taken, so that what it met may be zeros.
    fn was_cut(&self, view: &View) -> bool {
        self.state.lock().cuts != view.cuts
    }

    /// Where the bytes are; opens and maps a sealed segment on its first use.
    fn source(&self, view: &View) -> Result<Source, Error> {
        if let Some(source) = &view.source {
            return Ok(source.clone());
        }
        let source = self.open_source(view.base, view.end)?;
        let mut state = self.state.lock();
        if let Some(segment) = state.segments.iter_mut().find(|segment| segment.base == view.base && segment.sealed) {
            segment.source.get_or_insert_with(|| source.clone());
        }
        Ok(source)
    }

    /// Opens a segment for reading, mapped if the disk can.
    pub(crate) fn open_source(&self, base: LogPosition, end: LogPosition) -> Result<Source, Error> {
        let path = path(&self.config.segments_dir(), base);
        let file = self.disk.open_read(&path).map_err(Error::io("open", &path))?;
        let len = HEADER_PAGE_BYTES + (end.0 - base.0);
        match file.map(len as usize) {
            Ok(Some(map)) => Ok(Source::Mapped(map)),
            Ok(None) => Ok(Source::File(file)),
            Err(error) => Err(Error::io("map", &path)(error)),
        }
    }

    /// A cursor at the frame with an index.
    fn find(&self, view: &View, index: LogIndex) -> Result<Cursor, Error> {
        let mark = match view.mark {
            Some(mark) => mark,
            None => {
                let marks = self.walk_marks(view)?;
                let at = marks.partition_point(|mark| mark.index <= index);
                let mark = at.checked_sub(1).map(|at| marks[at]);
                self.restore_marks(view.base, marks);
                mark.unwrap_or(Mark { index: view.base_index, position: view.base })
            }
        };
        let mut cursor = Cursor::new(self.source(view)?, self.config.owner(), view.base, mark.position, view.end);
        let mut next = mark.index;
        while next < index {
            let header = cursor.header().map_err(|stop| self.stopped(view.base, cursor.position, stop))?;
            if header.index != next {
                return Err(self.out_of_order(view.base, cursor.position));
            }
            cursor.skip(&header);
            next = next.next();
        }
        Ok(cursor)
    }

    fn walk_marks(&self, view: &View) -> Result<Vec<Mark>, Error> {
        let mut marks = Vec::new();
        let mut cursor = Cursor::new(self.source(view)?, self.config.owner(), view.base, view.base, view.end);
        while cursor.position < view.end {
            let header = cursor.header().map_err(|stop| self.stopped(view.base, cursor.position, stop))?;
            push_mark(&mut marks, Mark { index: header.index, position: cursor.position });
            cursor.skip(&header);
        }
        Ok(marks)
    }

    /// Reads and verifies frames of one segment.
    fn read_file(
        &self,
        view: &View,
        range: Range<LogIndex>,
        room: &mut usize,
        out: &mut Vec<Frame>,
    ) -> Result<(), Error> {
        let mut cursor = self.find(view, range.start)?;
        let mut next = range.start;
        while next < range.end.min(view.next_index) {
            let header = cursor.header().map_err(|stop| self.stopped(view.base, cursor.position, stop))?;
            if header.index != next {
                return Err(self.out_of_order(view.base, cursor.position));
            }
            if !out.is_empty() && header.bytes() as usize > *room {
                *room = 0;
                return Ok(());
            }
            let rest = cursor.records(&header).map_err(|stop| self.stopped(view.base, cursor.position, stop))?;
            let frame = header.frame(&rest, Location { position: cursor.position, segment_base: view.base });
            *room = room.saturating_sub(frame.bytes());
            out.push(frame);
            cursor.skip(&header);
            next = next.next();
        }
        Ok(())
    }

    pub(crate) fn stopped(&self, base: LogPosition, position: LogPosition, stop: Stop) -> Error {
        let path = path(&self.config.segments_dir(), base);
        match stop {
            Stop::Io(error) => Error::io("read", &path)(error),
            Stop::Bad(bad) => Error::Damaged { path, position, reason: bad.reason() },
        }
    }

    pub(crate) fn out_of_order(&self, base: LogPosition, position: LogPosition) -> Error {
        let path = path(&self.config.segments_dir(), base);
        Error::Damaged { path, position, reason: "the frame does not follow the one before" }
    }
}

fn take_from_tail(state: &State, range: Range<LogIndex>, room: &mut usize, out: &mut Vec<Frame>) {
    let mut at = range.start;
    while at < range.end {
        let Some(frame) = state.tail.get(at) else { return };
        if !out.is_empty() && frame.bytes() > *room {
            return;
        }
        *room = room.saturating_sub(frame.bytes());
        out.push(frame.clone());
        at = at.next();
    }
}
