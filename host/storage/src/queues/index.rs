//! [`QueueIndex`]: the segments of a shard in order, and which offsets of a queue lie in which.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};
use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{LogIndex, LogPosition, Ordinal, QueueId, QueueOffset, Timestamp, TopicId};

use super::file::{Kind, remove};
use super::memory::QueueKey;
use super::sidecar::{self, DirectoryEntry, Sidecar, partition_point};
use super::{Frame, QueueRange, QueueRead, Result, Sealed, SegmentEntries};
use crate::Error;
use crate::disk::Disk;
use crate::identity::Owner;

/// The ConsumeQueues, key index and position index of a shard. Cheap to clone.
///
/// One writer appends as it applies; readers go on meanwhile. Reads of a sealed segment may touch the disk.
#[derive(Clone, Debug)]
pub struct QueueIndex(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    owner: Owner,
    dir: PathBuf,
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    segments: BTreeMap<LogPosition, Segment>,
    /// For each queue the segments it has entries in, ascending. Offsets go on from one to the next.
    queues: HashMap<QueueKey, Vec<Extent>>,
}

#[derive(Debug)]
enum Segment {
    /// Takes entries.
    Open(SegmentEntries),
    /// Full, and being written; served from memory until the files are there.
    Full(Arc<SegmentEntries>),
    Sealed(Arc<Sidecar>),
}

/// The entries of a queue in one segment.
#[derive(Clone, Copy, Debug)]
struct Extent {
    segment: LogPosition,
    first: QueueOffset,
    /// In memory the number of the run, in a sidecar the number of the first entry.
    start: u32,
    /// In a sidecar the number of entries; in memory the run knows.
    count: u32,
}

/// Where an extent's entries are.
enum Place<'a> {
    Memory(&'a [QueueEntry]),
    Sidecar(Arc<Sidecar>, Extent),
}

impl QueueIndex {
    /// Opens the sidecars of the sealed segments in `dir`, and removes whatever else lies there. Also returns the
    /// segments whose sidecars are missing or damaged: [rebuild](Self::rebuild) them, oldest first, before anything
    /// is read or appended.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(disk: Arc<dyn Disk>, owner: Owner, dir: &Path, expected: &[Sealed]) -> Result<(Self, Vec<LogPosition>)> {
        disk.create_dir(dir).map_err(Error::io("create", dir))?;
        let mut table = Table::default();
        let mut missing = Vec::new();
        for &expected in expected {
            let opened = Sidecar::open(&*disk, &owner, dir, expected.base)
                .and_then(|sidecar| sidecar.directory().map(|directory| (sidecar, directory)));
            match opened {
                Ok((sidecar, directory)) if sidecar.sealed() == expected => table.insert(sidecar, &directory),
                Ok(_) => missing.push(expected.base),
                Err(Error::SidecarDamaged { segment, path, reason }) => {
                    tracing::warn!(sidecar.path = %path.display(), reason, "a sidecar is built again");
                    missing.push(segment);
                }
                Err(error) => return Err(error),
            }
        }
        let bases = table.segments.keys();
        let wanted: HashSet<String> = bases.flat_map(|base| Kind::ALL.map(|kind| kind.file_name(*base))).collect();
        let mut removed = false;
        for name in disk.list(dir).map_err(Error::io("list", dir))? {
            if !wanted.contains(&name) {
                remove(&*disk, &dir.join(name))?;
                removed = true;
            }
        }
        if removed {
            disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
        }
        let inner = Inner { disk, owner, dir: dir.to_path_buf(), table: RwLock::new(table) };
        Ok((Self(Arc::new(inner)), missing))
    }

    /// Adds what one frame made visible. A frame without messages counts too: its position may be indexed.
    ///
    /// # Panics
    /// If the frame does not come after all others, or an offset is not the next of its queue.
    pub fn append(&self, frame: &Frame<'_>) {
        let mut table = self.0.table.write();
        let Table { segments, queues } = &mut *table;
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

    /// Reads up to `max` entries of a queue, from an offset on. A queue that is not known is empty.
    ///
    /// # Errors
    /// [`Error::SidecarDamaged`]: rebuild that segment and read again. [`Error::Io`].
    pub fn read(&self, topic: TopicId, queue: QueueId, from: QueueOffset, max: usize) -> Result<QueueRead> {
        let mut found = Vec::new();
        while found.len() < max {
            let at = QueueOffset(from.0 + found.len() as u64);
            let table = self.0.table.read();
            let Some(extent) = table.extent((topic, queue), at) else {
                match table.range((topic, queue)) {
                    Some(range) if from < range.earliest && found.is_empty() => {
                        return Ok(QueueRead::Below { earliest: range.earliest });
                    }
                    _ => break,
                }
            };
            let skip = at.0 - extent.first.0;
            match table.place(extent) {
                Place::Memory(entries) => {
                    let entries = entries.get(skip as usize..).unwrap_or_default();
                    let take = entries.len().min(max - found.len());
                    if take == 0 {
                        break;
                    }
                    found.extend_from_slice(&entries[..take]);
                }
                Place::Sidecar(sidecar, extent) => {
                    drop(table);
                    let Some(left) = u64::from(extent.count).checked_sub(skip).filter(|left| *left > 0) else { break };
                    let take = left.min((max - found.len()) as u64);
                    sidecar.entries(u64::from(extent.start) + skip, take, &mut found)?;
                }
            }
        }
        Ok(QueueRead::Entries(found))
    }

    /// The entry at an offset, if it is here.
    ///
    /// # Errors
    /// As [`QueueIndex::read`].
    pub fn get(&self, topic: TopicId, queue: QueueId, offset: QueueOffset) -> Result<Option<QueueEntry>> {
        Ok(match self.read(topic, queue, offset, 1)? {
            QueueRead::Entries(entries) => entries.first().copied(),
            QueueRead::Below { .. } => None,
        })
    }

    /// The offsets of a queue that are here; `None` if it has none in any segment.
    #[must_use]
    pub fn range(&self, topic: TopicId, queue: QueueId) -> Option<QueueRange> {
        self.0.table.read().range((topic, queue))
    }

    /// The offset of the first message after a place in the log, or the queue's end; `None` as [`QueueIndex::range`].
    ///
    /// # Errors
    /// As [`QueueIndex::read`].
    pub fn first_after_place(
        &self,
        topic: TopicId,
        queue: QueueId,
        place: (LogIndex, Ordinal),
    ) -> Result<Option<QueueOffset>> {
        self.first_where_not(topic, queue, |entry| entry.log_place() <= place)
    }

    /// The offset of the first message stored at a time or later, or the queue's end; `None` as [`QueueIndex::range`].
    ///
    /// # Errors
    /// As [`QueueIndex::read`].
    pub fn first_at_or_after(&self, topic: TopicId, queue: QueueId, time: Timestamp) -> Result<Option<QueueOffset>> {
        self.first_where_not(topic, queue, |entry| entry.stamp < time)
    }

    /// Halves the queue; its entries are in log order, so stamps and places ascend.
    fn first_where_not(
        &self,
        topic: TopicId,
        queue: QueueId,
        before: impl Fn(&QueueEntry) -> bool,
    ) -> Result<Option<QueueOffset>> {
        let Some(range) = self.range(topic, queue) else { return Ok(None) };
        let count = range.end.0 - range.earliest.0;
        let at = partition_point(count, |at| {
            // Dropped meanwhile: then it was before everything that is left.
            Ok(self.get(topic, queue, QueueOffset(range.earliest.0 + at))?.is_none_or(|entry| before(&entry)))
        })?;
        Ok(Some(QueueOffset(range.earliest.0 + at)))
    }

    /// First byte of the frame with this index, or of the nearest indexed one before it; from there a reader walks.
    ///
    /// # Errors
    /// As [`QueueIndex::read`].
    pub fn position_at_or_before(&self, index: LogIndex) -> Result<Option<LogPosition>> {
        let table = self.0.table.read();
        for segment in table.segments.values().rev() {
            let entries = match segment {
                Segment::Open(entries) => entries,
                Segment::Full(entries) => entries,
                Segment::Sealed(sidecar) if sidecar.sealed().first <= index => {
                    let sidecar = Arc::clone(sidecar);
                    drop(table);
                    return sidecar.position_at_or_before(index);
                }
                Segment::Sealed(_) => continue,
            };
            let positions = entries.positions();
            if let Some(at) = positions.partition_point(|(first, _)| *first <= index).checked_sub(1) {
                return Ok(Some(positions[at].1));
            }
        }
        Ok(None)
    }

    /// Places of the messages with a key, newest first, at most `limit`. The caller compares the key itself: two keys
    /// may have one hash.
    ///
    /// # Errors
    /// As [`QueueIndex::read`].
    pub fn by_key(&self, topic: TopicId, key_hash: u64, limit: usize) -> Result<Vec<(LogIndex, Ordinal)>> {
        let mut found = Vec::new();
        let mut sealed = Vec::new();
        let table = self.0.table.read();
        for segment in table.segments.values().rev() {
            match segment {
                Segment::Open(entries) => entries.by_key(topic, key_hash, limit, &mut found),
                Segment::Full(entries) => entries.by_key(topic, key_hash, limit, &mut found),
                Segment::Sealed(sidecar) => sealed.push(Arc::clone(sidecar)),
            }
        }
        drop(table);
        // Segments seal in order, so what is in memory is newer than every sidecar.
        for sidecar in sealed {
            if found.len() >= limit {
                break;
            }
            sidecar.by_key(topic, key_hash, limit, &mut found)?;
        }
        Ok(found)
    }

    /// Writes the sidecars of a segment that takes no more entries, and serves it from them. Segments seal in order;
    /// one that is sealed already is left as it is.
    ///
    /// # Errors
    /// [`Error::SidecarMissing`] if nothing of the segment was appended. After [`Error::Io`] the segment is served
    /// from memory as before, and sealing it may be tried again: the next attempt writes other files.
    pub fn seal(&self, segment: LogPosition) -> Result<()> {
        let mut table = self.0.table.write();
        let entries = match table.segments.remove(&segment) {
            None => return Err(Error::SidecarMissing { segment }),
            Some(Segment::Open(entries)) => Arc::new(entries),
            Some(Segment::Full(entries)) => entries,
            Some(Segment::Sealed(sidecar)) => {
                table.segments.insert(segment, Segment::Sealed(sidecar));
                return Ok(());
            }
        };
        table.segments.insert(segment, Segment::Full(Arc::clone(&entries)));
        drop(table);
        self.write(&entries)
    }

    /// Writes the sidecars of a segment anew, from entries that the caller got by walking it.
    ///
    /// # Errors
    /// [`Error::QueueGap`] if the offsets do not fit those of the neighbours: then nothing was written. [`Error::Io`].
    pub fn rebuild(&self, entries: SegmentEntries) -> Result<()> {
        self.0.table.read().check_neighbours(&entries)?;
        self.write(&Arc::new(entries))
    }

    fn write(&self, entries: &Arc<SegmentEntries>) -> Result<()> {
        let Inner { disk, owner, dir, table } = &*self.0;
        sidecar::write(&**disk, owner, dir, entries)?;
        let sidecar = Sidecar::open(&**disk, owner, dir, entries.base())?;
        let directory = sidecar.directory()?;
        table.write().insert(sidecar, &directory);
        Ok(())
    }

    /// Forgets a segment and removes its sidecars. The names are gone for good only when [`QueueIndex::open`] no longer
    /// expects them.
    ///
    /// # Errors
    /// [`Error::Io`]; the segment is forgotten all the same.
    pub fn drop_segment(&self, segment: LogPosition) -> Result<()> {
        let Inner { disk, dir, table, .. } = &*self.0;
        {
            let mut table = table.write();
            table.segments.remove(&segment);
            table.queues.retain(|_, extents| {
                if let Ok(at) = extents.binary_search_by_key(&segment, |extent| extent.segment) {
                    extents.remove(at);
                }
                !extents.is_empty()
            });
        }
        for kind in Kind::ALL {
            remove(&**disk, &dir.join(kind.file_name(segment)))?;
        }
        disk.sync_dir(dir).map_err(Error::io("sync", dir))
    }

    /// Forgets and removes everything, for a checkpoint that replaces the log.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn clear(&self) -> Result<()> {
        let segments: Vec<LogPosition> = self.0.table.read().segments.keys().copied().collect();
        segments.into_iter().try_for_each(|segment| self.drop_segment(segment))
    }

    /// Segments that are served from sidecars, oldest first.
    #[must_use]
    pub fn sealed(&self) -> Vec<Sealed> {
        let table: RwLockReadGuard<'_, Table> = self.0.table.read();
        let sealed = table.segments.values().filter_map(|segment| match segment {
            Segment::Sealed(sidecar) => Some(sidecar.sealed()),
            _ => None,
        });
        sealed.collect()
    }
}

impl Table {
    /// Takes over a sidecar, also in place of what was in memory or damaged.
    fn insert(&mut self, sidecar: Sidecar, directory: &[DirectoryEntry]) {
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

    fn check_neighbours(&self, entries: &SegmentEntries) -> Result<()> {
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

    fn range(&self, queue: QueueKey) -> Option<QueueRange> {
        let extents = self.queues.get(&queue)?;
        let (first, last) = (extents.first()?, extents.last()?);
        Some(QueueRange { earliest: first.first, end: end_of(&self.segments, last) })
    }

    /// The extent that holds an offset, or would if the queue were longer.
    fn extent(&self, queue: QueueKey, offset: QueueOffset) -> Option<Extent> {
        let extents = self.queues.get(&queue)?;
        let at = extents.partition_point(|extent| extent.first <= offset).checked_sub(1)?;
        Some(extents[at])
    }

    fn place(&self, extent: Extent) -> Place<'_> {
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
