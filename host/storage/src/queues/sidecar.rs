//! The three sidecars of a sealed segment: what lies where in each, and how it is found.
//!
//! | file | body |
//! |---|---|
//! | `.queues` | directory of queues, sorted; then 56-byte entries, grouped by queue |
//! | `.keys` | (hash, topic, index, ordinal), sorted |
//! | `.positions` | (index, position) of one frame per 64 KiB, in log order |

use std::path::Path;

use bytes::{Buf, BufMut};
use pointsman_model::queue_entry::{ENTRY_BYTES, QueueEntry};
use pointsman_model::{LogIndex, LogPosition, Ordinal, QueueId, QueueOffset, TopicId};

use super::file::{Header, Kind, Reader, Writer};
use super::memory::{KeyPlace, QueueKey};
use super::{Result, Sealed, SegmentEntries};
use crate::disk::Disk;
use crate::identity::Owner;

const DIRECTORY_BYTES: u64 = 24;
const KEY_BYTES: u64 = 24;
const POSITION_BYTES: u64 = 16;

/// A queue of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirectoryEntry {
    pub(super) queue: QueueKey,
    pub(super) first: QueueOffset,
    /// The first of its entries among all of the file.
    pub(super) start: u32,
    pub(super) count: u32,
}

/// The files of one sealed segment.
#[derive(Debug)]
pub(super) struct Sidecar {
    queues: Reader,
    keys: Reader,
    positions: Reader,
}

/// Writes the three files and makes them durable.
pub(super) fn write(disk: &dyn Disk, owner: &Owner, dir: &Path, entries: &SegmentEntries) -> Result<()> {
    let (first, last) = entries.indexes().unwrap_or_default();
    let header = |kind, directory, items| Header { kind, base: entries.base(), first, last, directory, items };

    let runs = entries.sorted_runs();
    let count: usize = runs.iter().map(|run| run.entries.len()).sum();
    let header_queues = header(Kind::Queues, runs.len() as u32, count as u64);
    let mut writer = Writer::create(disk, owner, dir, header_queues)?;
    let mut start = 0;
    for run in &runs {
        let out = writer.item()?;
        out.put_u32_le(run.queue.0.0);
        out.put_u16_le(run.queue.1.0);
        out.put_u16_le(0);
        out.put_u64_le(run.first.0);
        out.put_u32_le(start);
        out.put_u32_le(run.entries.len() as u32);
        start += run.entries.len() as u32;
    }
    for entry in runs.iter().flat_map(|run| &run.entries) {
        entry.encode(writer.item()?);
    }
    writer.finish()?;

    let keys = entries.sorted_keys();
    let mut writer = Writer::create(disk, owner, dir, header(Kind::Keys, 0, keys.len() as u64))?;
    for key in &keys {
        let out = writer.item()?;
        out.put_u64_le(key.hash);
        out.put_u32_le(key.topic.0);
        out.put_u16_le(key.ordinal.0);
        out.put_u16_le(0);
        out.put_u64_le(key.index.0);
    }
    writer.finish()?;

    let positions = entries.positions();
    let mut writer = Writer::create(disk, owner, dir, header(Kind::Positions, 0, positions.len() as u64))?;
    for (index, position) in positions {
        let out = writer.item()?;
        out.put_u64_le(index.0);
        out.put_u64_le(position.0);
    }
    writer.finish()?;
    disk.sync_dir(dir).map_err(crate::Error::io("sync", dir))
}

impl Sidecar {
    /// Opens the three files of a segment.
    ///
    /// # Errors
    /// [`crate::Error::SidecarDamaged`] if one of them is missing, damaged, or of another segment than the others.
    pub(super) fn open(disk: &dyn Disk, owner: &Owner, dir: &Path, base: LogPosition) -> Result<Self> {
        let items = |bytes: u64| move |header: &Header| header.items.checked_mul(bytes);
        let queue_bytes = |header: &Header| {
            let entries = header.items.checked_mul(ENTRY_BYTES as u64)?;
            entries.checked_add(u64::from(header.directory) * DIRECTORY_BYTES)
        };
        let sidecar = Self {
            queues: Reader::open(disk, owner, dir, Kind::Queues, base, queue_bytes)?,
            keys: Reader::open(disk, owner, dir, Kind::Keys, base, items(KEY_BYTES))?,
            positions: Reader::open(disk, owner, dir, Kind::Positions, base, items(POSITION_BYTES))?,
        };
        for other in [&sidecar.keys, &sidecar.positions] {
            let (a, b) = (sidecar.queues.header(), other.header());
            if (a.first, a.last) != (b.first, b.last) {
                return Err(other.damaged("it does not go with the other files of its segment"));
            }
        }
        Ok(sidecar)
    }

    pub(super) fn sealed(&self) -> Sealed {
        let header = self.queues.header();
        Sealed { base: header.base, first: header.first, last: header.last }
    }

    /// The queues, sorted; verified against the header's counts.
    pub(super) fn directory(&self) -> Result<Vec<DirectoryEntry>> {
        let header = self.queues.header();
        let mut bytes = self.queues.read(0..u64::from(header.directory) * DIRECTORY_BYTES)?;
        let mut directory: Vec<DirectoryEntry> = Vec::with_capacity(header.directory as usize);
        let mut start = 0_u64;
        while bytes.has_remaining() {
            let topic = TopicId(bytes.get_u32_le());
            let queue = (topic, QueueId(bytes.get_u16_le()));
            bytes.advance(2);
            let first = QueueOffset(bytes.get_u64_le());
            let entry = DirectoryEntry { queue, first, start: bytes.get_u32_le(), count: bytes.get_u32_le() };
            let ascending = directory.last().is_none_or(|last| last.queue < queue);
            if !ascending || u64::from(entry.start) != start {
                return Err(self.queues.damaged("its directory contradicts itself"));
            }
            start += u64::from(entry.count);
            directory.push(entry);
        }
        if start != header.items {
            return Err(self.queues.damaged("its directory contradicts its header"));
        }
        Ok(directory)
    }

    /// `count` entries from the one with number `start` on.
    pub(super) fn entries(&self, start: u64, count: u64, out: &mut Vec<QueueEntry>) -> Result<()> {
        let size = ENTRY_BYTES as u64;
        let at = u64::from(self.queues.header().directory) * DIRECTORY_BYTES + start * size;
        let bytes = self.queues.read(at..at + count * size)?;
        out.extend(bytes.as_chunks::<ENTRY_BYTES>().0.iter().map(QueueEntry::decode));
        Ok(())
    }

    /// Places of a key, newest first, until `found` holds `limit`.
    pub(super) fn by_key(
        &self,
        topic: TopicId,
        hash: u64,
        limit: usize,
        found: &mut Vec<(LogIndex, Ordinal)>,
    ) -> Result<()> {
        let items = self.keys.header().items;
        let after = partition_point(items, |at| {
            let key = self.key(at)?;
            Ok((key.hash, key.topic) <= (hash, topic))
        })?;
        for at in (0..after).rev() {
            let key = self.key(at)?;
            if (key.hash, key.topic) != (hash, topic) || found.len() >= limit {
                break;
            }
            found.push((key.index, key.ordinal));
        }
        Ok(())
    }

    fn key(&self, at: u64) -> Result<KeyPlace> {
        let mut bytes = self.keys.read(at * KEY_BYTES..(at + 1) * KEY_BYTES)?;
        let hash = bytes.get_u64_le();
        let topic = TopicId(bytes.get_u32_le());
        let ordinal = Ordinal(bytes.get_u16_le());
        bytes.advance(2);
        Ok(KeyPlace { hash, topic, index: LogIndex(bytes.get_u64_le()), ordinal })
    }

    /// The indexed frame of `index` or the nearest before it.
    pub(super) fn position_at_or_before(&self, index: LogIndex) -> Result<Option<LogPosition>> {
        let items = self.positions.header().items;
        let after = partition_point(items, |at| Ok(self.position(at)?.0 <= index))?;
        after.checked_sub(1).map(|at| Ok(self.position(at)?.1)).transpose()
    }

    fn position(&self, at: u64) -> Result<(LogIndex, LogPosition)> {
        let mut bytes = self.positions.read(at * POSITION_BYTES..(at + 1) * POSITION_BYTES)?;
        Ok((LogIndex(bytes.get_u64_le()), LogPosition(bytes.get_u64_le())))
    }
}

/// The number of leading items for which `before` holds, by halving.
pub(super) fn partition_point(items: u64, mut before: impl FnMut(u64) -> Result<bool>) -> Result<u64> {
    let (mut low, mut high) = (0, items);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
