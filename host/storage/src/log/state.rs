//! What is known of a log in memory, under one lock.

use std::collections::VecDeque;
use std::sync::Arc;

use pointsman_model::ids::{LogIndex, LogPosition, Term};
use pointsman_model::time::Timestamp;

use super::OnFlushed;
use super::config::Damage;
use super::frame::{FRAME_HEADER_BYTES, Frame};
use super::scan::TailEntry;
use super::segment::Segment;
use super::segment_header::SegmentHeader;
use super::spare::Spare;
use super::tail::Tail;
use crate::Error;
use crate::base::Base;

/// What the writer has to do, in order.
pub(crate) enum Job {
    /// Make a spare the active segment.
    Open(SegmentHeader, Arc<Spare>),
    /// Write a frame, whose header is encoded, to the active segment.
    Write(Frame, [u8; FRAME_HEADER_BYTES]),
    /// Call back when all before is durable.
    Call(OnFlushed),
}

/// The state of an open log.
#[derive(Default)]
pub(crate) struct State {
    /// By base position; the last one is active. At least one, once there was an entry.
    pub(crate) segments: VecDeque<Segment>,
    /// The newest frames.
    pub(crate) tail: Tail,
    /// Not yet taken by the writer.
    pub(crate) queue: VecDeque<Job>,
    /// The last frame, also if it is purged.
    pub(crate) tail_entry: Option<TailEntry>,
    /// Where the next frame goes.
    pub(crate) position: LogPosition,
    /// The last entry purged.
    pub(crate) purged: Option<Base>,
    /// The last durable entry.
    pub(crate) flushed: Option<LogIndex>,
    /// The file of the next segment.
    pub(crate) spare: Option<Arc<Spare>>,
    /// The last try to make a spare failed; tried again when someone needs it.
    pub(crate) spare_refused: bool,
    /// Number of the next spare's name.
    pub(crate) spare_number: u64,
    /// Grows when entries are cut: a reader that met bad bytes looks again.
    pub(crate) cuts: u64,
    /// The first failure.
    pub(crate) poison: Option<Arc<Error>>,
    /// What recovery could not verify.
    pub(crate) damages: Vec<Damage>,
    /// The last handle is gone.
    pub(crate) closing: bool,
}

impl State {
    pub(crate) fn check_poison(&self) -> Result<(), Error> {
        self.poison.as_ref().map_or(Ok(()), |cause| Err(Error::Poisoned(Arc::clone(cause))))
    }

    /// The last entry that is not purged.
    pub(crate) fn last(&self) -> Option<(Term, LogIndex, Timestamp)> {
        let tail = self.tail_entry?;
        self.purged.is_none_or(|base| base.index < tail.index).then_some((tail.term, tail.index, tail.stamp))
    }

    /// Index of the first entry that is not purged.
    pub(crate) fn first_index(&self) -> Option<LogIndex> {
        let first = match self.purged {
            Some(base) => base.index.next(),
            None => self.segments.front()?.base_index,
        };
        (first <= self.last()?.1).then_some(first)
    }

    /// The only index that may come next; `None` if any may.
    pub(crate) fn next_index(&self) -> Option<LogIndex> {
        match (self.last(), self.purged) {
            (Some((_, last, _)), _) => Some(last.next()),
            (None, base) => base.map(|base| base.index.next()),
        }
    }

    /// The segment that holds an index, if it is in the log.
    pub(crate) fn segment_of(&self, index: LogIndex) -> Option<usize> {
        let at = self.segments.partition_point(|segment| segment.base_index <= index).checked_sub(1)?;
        (index < self.segments[at].next_index).then_some(at)
    }
}
