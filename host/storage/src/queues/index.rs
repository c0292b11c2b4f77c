//! [`QueueIndex`]: reads, appends, seals and rebuilds over all segments of a shard.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{LogIndex, LogPosition, Ordinal, QueueId, QueueOffset, Timestamp, TopicId};

use super::file::{Kind, remove};
use super::sidecar::{self, Sidecar, partition_point};
use super::table::{Place, Segment, Table};
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

impl QueueIndex {
    /// Opens the sidecars of the sealed segments in `dir`, and removes whatever else lies there. Also returns the
    /// segments whose sidecars are missing or damaged: [rebuild](Self::rebuild) them, oldest first, before anything
    /// is read or appended.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(
        disk: Arc<dyn Disk>,
        owner: Owner,
        dir: &Path,
        expected: &[Sealed],
    ) -> Result<(Self, Vec<LogPosition>)> {
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
        self.0.table.write().append(frame);
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
        let table = self.0.table.read();
        let sealed = table.segments.values().filter_map(|segment| match segment {
            Segment::Sealed(sidecar) => Some(sidecar.sealed()),
            _ => None,
        });
        sealed.collect()
    }
}
