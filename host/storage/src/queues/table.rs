//! Which segments there are, and which offsets of a queue lie in which.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{LogPosition, QueueOffset};

use super::memory::QueueKey;
use super::sidecar::{DirectoryEntry, Sidecar};
use super::{Frame, QueueRange, Result, SegmentEntries};
use crate::Error;

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) segments: BTreeMap<LogPosition, Segment>,
    /// For each queue the segments it has entries in, ascending. Offsets go on from one to the next.
    pub(super) queues: HashMap<QueueKey, Vec<Extent>>,
}

#[derive(Debug)]
pub(super) enum Segment {
    /// Takes entries.
    Open(SegmentEntries),
    /// Full, and being written; served from memory until the files are there.
    Full(Arc<SegmentEntries>),
    Sealed(Arc<Sidecar>),
}

/// The entries of a queue in one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) segment: LogPosition,
    pub(super) first: QueueOffset,
    /// In memory the number of the run, in a sidecar the number of the first entry.
    pub(super) start: u32,
    /// In a sidecar the number of entries; in memory the run knows.
    pub(super) count: u32,
}

/// Where an extent's entries are.
pub(super) enum Place<'a> {
    Memory(&'a [QueueEntry]),
    Sidecar(Arc<Sidecar>, Extent),
}

impl Table {
    /// As [`QueueIndex::append`](super::QueueIndex::append).
    pub(super) fn append(&mut self, frame: &Frame<'_>) {
        let Self { segments, queues } = self;
        let newest = segments.last_key_value().map(|(base, _)| *base);
        assert!(newest.is_none_or(|newest| newest <= frame.segment), "a frame of an earlier segment");
        if newest != Some(frame.segment) {
            segments.insert(frame.segment, Segment::Open(SegmentEntries::new(frame.segment)));
        }
        let Some(Segment::Open(entries)) = segments.get_mut(&frame.segment) else {
            panic!("a frame at {} for a segment that takes no more", frame.position);
        };
        let mut opened = Vec::new();
        entries.append_with(frame, |queue, first, run| opened.push((queue, first, run)));
        for (queue, first, run) in opened {
            let end = queues.get(&queue).and_then(|extents| extents.last()).map(|last| end_of(segments, last));
            assert!(
                end.is_none_or(|end| end == first),
                "offset {first} of topic {} queue {} after {end:?}",
                queue.0,
                queue.1
            );
            queues.entry(queue).or_default().push(Extent { segment: frame.segment, first, start: run, count: 0 });
        }
    }

    /// Takes over a sidecar, also in place of what was in memory or damaged.
    pub(super) fn insert(&mut self, sidecar: Sidecar, directory: &[DirectoryEntry]) {
        let segment = sidecar.sealed().base;
        self.segments.insert(segment, Segment::Sealed(Arc::new(sidecar)));
        for entry in directory {
            let extent = Extent { segment, first: entry.first, start: entry.start, count: entry.count };
            let extents = self.queues.entry(entry.queue).or_default();
            match extents.binary_search_by_key(&segment, |extent| extent.segment) {
                Ok(at) => extents[at] = extent,
                Err(at) => extents.insert(at, extent),
            }
        }
    }

    pub(super) fn check_neighbours(&self, entries: &SegmentEntries) -> Result<()> {
        for run in entries.sorted_runs() {
            let Some(extents) = self.queues.get(&run.queue) else { continue };
            let (topic, queue) = run.queue;
            let at = extents.partition_point(|extent| extent.segment < entries.base());
            let before = at.checked_sub(1).map(|at| end_of(&self.segments, &extents[at]));
            let after = extents[at..].iter().find(|extent| extent.segment > entries.base()).map(|extent| extent.first);
            // A neighbour may itself be missing still, so a gap is no contradiction, an overlap is.
            for (expected, found) in [(before, Some(run.first)), (Some(run.end()), after)] {
                if let (Some(expected), Some(found)) = (expected, found)
                    && found < expected
                {
                    return Err(Error::QueueGap { topic, queue, expected, found });
                }
            }
        }
        Ok(())
    }

    pub(super) fn range(&self, queue: QueueKey) -> Option<QueueRange> {
        let extents = self.queues.get(&queue)?;
        let (first, last) = (extents.first()?, extents.last()?);
        Some(QueueRange { earliest: first.first, end: end_of(&self.segments, last) })
    }

    /// The extent that holds an offset, or would if the queue were longer.
    pub(super) fn extent(&self, queue: QueueKey, offset: QueueOffset) -> Option<Extent> {
        let extents = self.queues.get(&queue)?;
        let at = extents.partition_point(|extent| extent.first <= offset).checked_sub(1)?;
        Some(extents[at])
    }

    pub(super) fn place(&self, extent: Extent) -> Place<'_> {
        match self.segments.get(&extent.segment) {
            Some(Segment::Open(entries)) => Place::Memory(&entries.run(extent.start).entries),
            Some(Segment::Full(entries)) => Place::Memory(&entries.run(extent.start).entries),
            Some(Segment::Sealed(sidecar)) => Place::Sidecar(Arc::clone(sidecar), extent),
            None => Place::Memory(&[]),
        }
    }
}

fn end_of(segments: &BTreeMap<LogPosition, Segment>, extent: &Extent) -> QueueOffset {
    match segments.get(&extent.segment) {
        Some(Segment::Open(entries)) => entries.run(extent.start).end(),
        Some(Segment::Full(entries)) => entries.run(extent.start).end(),
        _ => QueueOffset(extent.first.0 + u64::from(extent.count)),
    }
}
