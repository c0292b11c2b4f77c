//! Accepting frames: where each goes is decided here, and whether there is room.

use std::sync::Arc;

use pointsman_model::ids::{LogIndex, LogPosition};
use pointsman_model::limits;

use super::frame::{Frame, Location, frame_bytes};
use super::scan::TailEntry;
use super::segment::{Segment, Source};
use super::segment_header::{HEADER_PAGE_BYTES, Predecessor, SegmentHeader};
use super::spare::Spare;
use super::state::{Job, State};
use super::{Inner, OnFlushed};
use crate::Error;

/// The end of the log while frames are placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Base of the active segment; none if there is none yet.
    pub(crate) base: Option<LogPosition>,
    pub(crate) position: LogPosition,
}

impl Place {
    fn of(state: &State) -> Self {
        Self { base: state.segments.back().map(|segment| segment.base), position: state.position }
    }

    /// Puts a frame of `bytes` here; true if it opens a segment. A segment takes any frame as its first.
    pub(crate) fn put(&mut self, bytes: u64, segment_bytes: u64) -> bool {
        let opens = match self.base {
            None => true,
            Some(base) if base == self.position => false,
            Some(base) => HEADER_PAGE_BYTES + (self.position.0 - base.0) + bytes > segment_bytes,
        };
        if opens {
            self.base = Some(self.position);
        }
        self.position.0 += bytes;
        opens
    }
}

impl Inner {
    pub(crate) fn append(&self, frames: Vec<Frame>, on_flushed: OnFlushed) -> Result<(), Error> {
        let mut state = self.state.lock();
        self.check_writable(&state)?;
        check_order(&state, &frames)?;
        let spares = self.reserve(&mut state, frames.iter().map(|frame| frame.bytes() as u64))?;
        let mut spares = spares.into_iter();
        for frame in frames {
            // Before the writer can see the frame, so that a ticket hears of its sync last.
            if let Some(ticket) = &frame.ticket {
                ticket.appended(frame.term, frame.index);
            }
            self.accept(&mut state, frame, &mut spares);
        }
        state.queue.push_back(Job::Call(on_flushed));
        drop(state);
        self.queued.notify_one();
        Ok(())
    }

    pub(crate) fn check_room(&self, records_bytes: usize) -> Result<(), Error> {
        let mut state = self.state.lock();
        self.check_writable(&state)?;
        let bytes = frame_bytes(records_bytes) as u64;
        if Place::of(&state).put(bytes, self.config.segment_bytes) {
            let spare = self.next_spare(&mut state, HEADER_PAGE_BYTES + bytes)?;
            state.spare = Some(spare);
        }
        Ok(())
    }

    pub(crate) fn check_writable(&self, state: &State) -> Result<(), Error> {
        state.check_poison()?;
        if state.damages.is_empty() {
            return Ok(());
        }
        Err(Error::ReadOnly { path: self.config.segments_dir(), ranges: state.damages.len() })
    }

    /// A file for every segment that frames of these sizes open, before any of them is accepted.
    fn reserve(&self, state: &mut State, sizes: impl Iterator<Item = u64>) -> Result<Vec<Arc<Spare>>, Error> {
        let mut place = Place::of(state);
        let mut spares = Vec::new();
        for bytes in sizes {
            let opens = place.put(bytes, self.config.segment_bytes);
            let taken = if opens {
                self.next_spare(state, HEADER_PAGE_BYTES + bytes).map(|spare| spares.push(spare))
            } else {
                self.reserve_first(state, place, bytes)
            };
            if let Err(error) = taken {
                self.give_back(state, spares);
                return Err(error);
            }
        }
        Ok(spares)
    }

    /// Keeps one of the files that are not needed after all, and removes the others.
    fn give_back(&self, state: &mut State, spares: Vec<Arc<Spare>>) {
        for spare in spares {
            if state.spare.is_none() {
                state.spare = Some(spare);
            } else if let Err(error) = self.disk.unlink(&spare.path) {
                tracing::warn!(file.path = %spare.path.display(), %error, "cannot remove a spare segment");
            }
        }
    }

    /// Room for a frame that is longer than a segment, and the first of one that is there already.
    fn reserve_first(&self, state: &State, place: Place, bytes: u64) -> Result<(), Error> {
        let end = HEADER_PAGE_BYTES + bytes;
        let first = place.base.is_some_and(|base| place.position.0 == base.0 + bytes);
        if !first || end <= self.config.segment_bytes {
            return Ok(());
        }
        let Some(segment) = state.segments.back() else { return Ok(()) };
        let Some(Source::File(file)) = &segment.source else { return Ok(()) };
        file.reserve(end).map_err(|error| {
            let path = segment.path(&self.config.segments_dir());
            if crate::error::is_no_space(&error) {
                Error::DiskFull { path, needed: end }
            } else {
                Error::io("reserve", &path)(error)
            }
        })
    }

    /// The spare at hand if it is long enough, else a new one.
    fn next_spare(&self, state: &mut State, bytes: u64) -> Result<Arc<Spare>, Error> {
        let len = bytes.max(self.config.segment_bytes);
        if state.spare.as_ref().is_some_and(|spare| spare.len() >= len && !spare.is_bad())
            && let Some(spare) = state.spare.take()
        {
            return Ok(spare);
        }
        let number = state.spare_number;
        state.spare_number += 1;
        let made = Spare::create(&*self.disk, &self.config.segments_dir(), number, len);
        state.spare_refused = made.is_err();
        made.map(Arc::new)
    }

    fn accept(&self, state: &mut State, mut frame: Frame, spares: &mut impl Iterator<Item = Arc<Spare>>) {
        let mut place = Place::of(state);
        let position = place.position;
        if place.put(frame.bytes() as u64, self.config.segment_bytes)
            && let Some(spare) = spares.next()
        {
            let previous =
                state.tail_entry.map(|tail| Predecessor { term: tail.term, index: tail.index, crc: tail.crc });
            let header = SegmentHeader {
                segment_bytes: self.config.segment_bytes,
                base: position,
                base_index: frame.index,
                previous,
            };
            state.segments.push_back(Segment::empty(position, frame.index));
            state.queue.push_back(Job::Open(header, spare));
        }
        let Some(segment) = state.segments.back_mut() else { unreachable!("a frame has a segment: it was just made") };
        frame.location = Location { position, segment_base: segment.base };
        segment.push(frame.index, position, frame.end());
        state.position = frame.end();
        let header = frame.header(&self.config.owner());
        debug_assert_eq!(header.verify_records(&frame.records), Ok(()), "{frame:?} would be damage after a restart");
        state.tail_entry = Some(TailEntry::of(&header));
        state.tail.push(Frame { ticket: None, ..frame.clone() });
        state.queue.push_back(Job::Write(frame, header.encode()));
    }
}

fn check_order(state: &State, frames: &[Frame]) -> Result<(), Error> {
    let mut expected: Option<LogIndex> = state.next_index();
    let mut term = state.tail_entry.map(|tail| tail.term).max(state.purged.map(|base| base.term)).unwrap_or_default();
    for frame in frames {
        if let Some(expected) = expected.filter(|expected| *expected != frame.index) {
            return Err(Error::NotContiguous { expected, found: frame.index });
        }
        if frame.term < term {
            return Err(Error::TermWentBack { last: term, found: frame.term });
        }
        if frame.bytes() > limits::FRAME_BYTES_MAX {
            return Err(Error::FrameTooLarge { bytes: frame.bytes() });
        }
        (expected, term) = (Some(frame.index.next()), frame.term);
    }
    Ok(())
}
