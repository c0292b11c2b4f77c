//! Opening a log: which segments belong to it, where it ends, and what is wrong with it.
//!
//! Segments that are sealed are taken on the word of their successor's header; the others are read and verified whole.
//! Nothing is written before everything was looked at, and nothing at all if there is damage. What is written is the same
//! the second time.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman_model::ids::LogPosition;
use pointsman_model::limits;

use super::change::zero_range;
use super::config::{Damage, LogConfig, RecoveryReport};
use super::mutant::Mutant;
use super::rebuild::is_unfinished;
use super::scan::{Extent, Scan, TailEntry, scan};
use super::segment::{Segment, base_of, file_offset, path};
use super::segment_header::{HEADER_PAGE_BYTES, SegmentHeader, Watermark};
use super::spare::is_spare;
use super::state::State;
use super::writer::{Active, Writer};
use crate::Error;
use crate::base::{Base, BaseFile};
use crate::disk::{Disk, DiskFile, FileInfo, ensure_dir};

/// An opened log, not yet shared.
pub(crate) struct Recovered {
    pub(crate) state: State,
    pub(crate) writer: Writer,
    pub(crate) report: RecoveryReport,
}

/// A segment file whose header is good.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    pub(crate) watermark: Watermark,
    pub(crate) info: FileInfo,
}

/// What the walk over all segments found.
#[derive(Default)]
struct Walk {
    segments: VecDeque<Segment>,
    scanned: usize,
    damages: Vec<Damage>,
    last: Option<TailEntry>,
}

pub(crate) fn recover(disk: &dyn Disk, config: &LogConfig) -> Result<Recovered, Error> {
    let dir = config.segments_dir();
    ensure_dir(disk, &dir)?;
    let base_file = BaseFile::open(disk, &config.dir, config.owner())?;
    let purged = base_file.load();
    let (mut found, mut stray) = find(disk, config, &dir)?;
    let first_kept = first_kept(&found, purged);
    stray.extend(found.drain(..first_kept).map(|old| old.path));
    check_first(&found, purged)?;
    let mut walk = walk(disk, config, &found)?;
    if is_left_over(&walk, purged) {
        stray.extend(found.drain(..).map(|old| old.path));
        walk = Walk { scanned: walk.scanned, ..Walk::default() };
    }
    let emptied = pop_empty(&mut walk, &mut found);
    let mut recovered = assemble(walk, base_file, purged);
    if recovered.report.damages.is_empty() {
        if let Some(emptied) = &emptied {
            recovered.report.torn_bytes += torn_bytes_of(disk, emptied)?;
            stray.push(emptied.path.clone());
        }
        finish(disk, config, &mut recovered, &stray, found.last())?;
        // A sealed segment is the last one then, but its successor is not lost.
        recovered.report.successor_gone &= emptied.is_none();
    }
    let report = &recovered.report;
    for damage in &report.damages {
        tracing::error!(file.path = %damage.path.display(), log.position = damage.from.get(), reason = damage.reason, "damage");
    }
    tracing::debug!(log.dir = %config.dir.display(), segments = report.segments, torn_bytes = report.torn_bytes, "opened a log");
    Ok(recovered)
}

/// The segment files in order, and the files that have no business here any more.
fn find(disk: &dyn Disk, config: &LogConfig, dir: &Path) -> Result<(Vec<Found>, Vec<PathBuf>), Error> {
    let (mut found, mut stray) = (Vec::new(), Vec::new());
    for name in disk.list(dir).map_err(Error::io("list", dir))? {
        let path = dir.join(&name);
        if is_spare(&name) || is_unfinished(&name) {
            stray.push(path);
        } else if let Some(base) = base_of(&name) {
            found.push(look(disk, config, path, base)?);
        } else {
            tracing::warn!(file.path = %path.display(), "a file that is no segment lies among the segments");
        }
    }
    Ok((found, stray))
}

/// Reads a segment's first page.
pub(crate) fn look(disk: &dyn Disk, config: &LogConfig, path: PathBuf, base: LogPosition) -> Result<Found, Error> {
    let info = disk.info(&path).map_err(Error::io("look at", &path))?;
    let file = disk.open_read(&path).map_err(Error::io("open", &path))?;
    let mut page = vec![0; HEADER_PAGE_BYTES as usize];
    let read = file.read_up_to(&mut page, 0).map_err(Error::io("read", &path))?;
    let header = SegmentHeader::decode(&page[..read], &config.owner(), &path)?;
    if header.base != base {
        return Err(Error::Foreign { path, reason: "its name and its header differ" });
    }
    if header.segment_bytes != config.segment_bytes {
        return Err(Error::Foreign { path, reason: "its shard has another segment size" });
    }
    let Some(watermark) = Watermark::newest(&page[..read], &config.owner(), base) else {
        return Err(Error::DamagedFile { path, reason: "neither watermark is valid" });
    };
    Ok(Found { path, header, watermark, info })
}

/// Where the kept segments start: a purge may have been interrupted before it unlinked all.
pub(crate) fn first_kept(found: &[Found], purged: Option<Base>) -> usize {
    let Some(purged) = purged else { return 0 };
    let next = purged.index.next();
    found.windows(2).take_while(|pair| pair[1].header.base_index <= next).count()
}

fn check_first(found: &[Found], purged: Option<Base>) -> Result<(), Error> {
    let Some(first) = found.first() else { return Ok(()) };
    let expected = match (purged, first.header.previous) {
        (Some(base), _) if first.header.base_index <= base.index.next() => return Ok(()),
        (None, None) => return Ok(()),
        (Some(base), _) => base.index.next(),
        (None, Some(previous)) => previous.index,
    };
    Err(Error::SegmentMissing { path: first.path.clone(), expected, found: first.header.base_index })
}

/// Verifies the segments and how they follow each other.
fn walk(disk: &dyn Disk, config: &LogConfig, found: &[Found]) -> Result<Walk, Error> {
    let mut walk = Walk::default();
    for (at, this) in found.iter().enumerate() {
        let next = found.get(at + 1);
        if let Some(next) = next
            && this.info.read_only
            && !is_needed_for_stamp(found, at)
        {
            take_unread(disk, config, this, next, &mut walk)?;
            continue;
        }
        let file = disk.open_read(&this.path).map_err(Error::io("open", &this.path))?;
        let file_end = LogPosition(this.header.base.0 + this.info.len.saturating_sub(HEADER_PAGE_BYTES));
        let limit = next.map_or(file_end, |next| next.header.base);
        check_length(&file, config, this, next, file_end)?;
        let durable = durable_end(config, this, next);
        let extent = Extent { path: &this.path, header: &this.header, durable, limit };
        let Scan { mut segment, last, damages } = scan(&file, config.owner(), &extent)?;
        if let Some(next) = next {
            if damages.is_empty() {
                check_follows(this, next, last)?;
            }
            segment.next_index = next.header.base_index;
            segment.sealed = this.info.read_only;
        }
        walk.scanned += 1;
        walk.last = last.or(walk.last);
        walk.damages.extend(damages);
        walk.segments.push_back(segment);
    }
    Ok(walk)
}

/// Before this position everything was synced once.
fn durable_end(config: &LogConfig, this: &Found, next: Option<&Found>) -> LogPosition {
    if config.mutated(Mutant::CutBelowWatermark) && next.is_none() {
        return this.header.base;
    }
    next.map_or(this.watermark.position, |next| next.header.base)
}

/// The last segment may be empty; then the one before has the log's last stamp.
fn is_needed_for_stamp(found: &[Found], at: usize) -> bool {
    at + 2 == found.len() && found[at + 1].watermark.position == found[at + 1].header.base
}

/// A sealed segment: its frames were verified when they were last read here, and are again whenever they are read.
fn take_unread(disk: &dyn Disk, config: &LogConfig, this: &Found, next: &Found, walk: &mut Walk) -> Result<(), Error> {
    let end = next.header.base;
    let file_end = LogPosition(this.header.base.0 + this.info.len.saturating_sub(HEADER_PAGE_BYTES));
    if file_end < end {
        let file = disk.open_read(&this.path).map_err(Error::io("open", &this.path))?;
        check_length(&file, config, this, Some(next), file_end)?;
    }
    let mut segment = Segment::empty(this.header.base, this.header.base_index);
    (segment.end, segment.next_index, segment.sealed, segment.marks) = (end, next.header.base_index, true, None);
    walk.segments.push_back(segment);
    Ok(())
}

/// A segment that cannot hold all up to its successor: one between them is missing, or the file was cut.
fn check_length(
    file: &Arc<dyn DiskFile>,
    config: &LogConfig,
    this: &Found,
    next: Option<&Found>,
    file_end: LogPosition,
) -> Result<(), Error> {
    let Some(next) = next.filter(|next| next.header.base > file_end) else { return Ok(()) };
    let extent = Extent { path: &this.path, header: &this.header, durable: this.header.base, limit: file_end };
    let expected = scan(file, config.owner(), &extent)?.segment.next_index;
    Err(Error::SegmentMissing { path: next.path.clone(), expected, found: next.header.base_index })
}

/// The successor names the last frame of a segment.
fn check_follows(this: &Found, next: &Found, last: Option<TailEntry>) -> Result<(), Error> {
    let named = next.header.previous;
    let follows = last.is_some_and(|last| {
        named.is_some_and(|named| (named.term, named.index, named.crc) == (last.term, last.index, last.crc))
            && next.header.base_index == last.index.next()
    });
    if follows {
        return Ok(());
    }
    let path = next.path.clone();
    match last {
        Some(last) if last.index.next() < next.header.base_index => {
            Err(Error::SegmentMissing { path, expected: last.index.next(), found: next.header.base_index })
        }
        _ => Err(Error::Foreign {
            path,
            reason: if this.header.base < next.header.base {
                "it does not follow the segment before"
            } else {
                "it overlaps another segment"
            },
        }),
    }
}

/// True if the log was emptied up to the base, and its segments were not all unlinked; or if it never got its first frame.
fn is_left_over(walk: &Walk, purged: Option<Base>) -> bool {
    let Some(segment) = walk.segments.back() else { return false };
    if !walk.damages.is_empty() {
        return false;
    }
    match purged {
        None => walk.segments.len() == 1 && segment.is_empty(),
        Some(base) if segment.is_empty() => {
            segment.base_index != base.index.next() && walk.last.is_none_or(|l| l.index < base.index)
        }
        Some(base) => walk
            .last
            .is_none_or(|last| last.index < base.index || (last.index == base.index && segment.end != base.end)),
    }
}

/// Takes away a last segment whose first frame never became durable. Which frame opens a segment is a function of the log,
/// and the frame that comes instead may fit into the segment before: kept, this replica's segments would be others than
/// its peers'.
fn pop_empty(walk: &mut Walk, found: &mut Vec<Found>) -> Option<Found> {
    if !walk.damages.is_empty() || walk.segments.len() < 2 {
        return None;
    }
    walk.segments.pop_back_if(|last| last.is_empty())?;
    if let Some(segment) = walk.segments.back_mut() {
        // It is the one that is written now.
        segment.sealed = false;
    }
    found.pop()
}

/// Bytes of frames that a segment without a whole one holds.
fn torn_bytes_of(disk: &dyn Disk, emptied: &Found) -> Result<u64, Error> {
    let file = disk.open_read(&emptied.path).map_err(Error::io("open", &emptied.path))?;
    Ok(last_nonzero(&*file, &emptied.path, HEADER_PAGE_BYTES, emptied.info.len)? - HEADER_PAGE_BYTES)
}

fn assemble(walk: Walk, base_file: BaseFile, purged: Option<Base>) -> Recovered {
    let of_base = purged.map(|base| TailEntry { term: base.term, index: base.index, stamp: base.stamp, crc: base.crc });
    let tail_entry = walk.last.or(of_base);
    let position = match (walk.segments.back(), purged) {
        (Some(segment), _) => segment.end,
        (None, base) => base.map_or(LogPosition(0), |base| base.end),
    };
    let mut state = State {
        flushed: tail_entry.map(|tail| tail.index),
        tail_entry,
        position,
        purged,
        damages: walk.damages.clone(),
        segments: walk.segments,
        ..State::default()
    };
    if state.flushed < purged.map(|base| base.index) {
        state.flushed = purged.map(|base| base.index);
    }
    let report = RecoveryReport {
        segments: state.segments.len(),
        scanned: walk.scanned,
        damages: walk.damages,
        last: state.last(),
        ..RecoveryReport::default()
    };
    Recovered { state, writer: Writer { active: None, base_file }, report }
}

/// The writes of recovery: strays go, the torn tail is zeroed, and all that was read is made durable.
fn finish(
    disk: &dyn Disk,
    config: &LogConfig,
    recovered: &mut Recovered,
    stray: &[PathBuf],
    last: Option<&Found>,
) -> Result<(), Error> {
    let dir = config.segments_dir();
    for path in stray {
        disk.unlink(path).map_err(Error::io("remove", path))?;
    }
    if let (Some(last), Some(segment)) = (last, recovered.state.segments.back_mut()) {
        recovered.report.successor_gone = last.info.read_only;
        if last.info.read_only {
            disk.set_read_only(&last.path, false).map_err(Error::io("make writable", &last.path))?;
        }
        let path = path(&dir, segment.base);
        let file = disk.open(&path).map_err(Error::io("open", &path))?;
        let end = file_offset(segment.base, segment.end);
        let dirty_end = last_nonzero(&*file, &path, end, last.info.len)?;
        if !config.mutated(Mutant::NoZeroingAfterCut) {
            zero_range(&*file, &path, end, dirty_end)?;
        }
        recovered.report.torn_bytes += dirty_end - end;
        if !config.mutated(Mutant::RecoveryTrustsCache) {
            rewrite(&*file, &path, file_offset(segment.base, last.watermark.position), end)?;
        }
        // Frames may be in the page cache alone, left by a process that was killed before its sync.
        if !config.mutated(Mutant::RecoveryNotSynced) {
            file.sync_data().map_err(Error::io("sync", &path))?;
        }
        segment.source = Some(super::segment::Source::File(Arc::clone(&file)));
        recovered.writer.active =
            Some(Active { base: segment.base, file, durable: segment.end, counter: last.watermark.counter });
    }
    disk.sync_dir(&dir).map_err(Error::io("sync", &dir))
}

/// Writes a range again as it is. After a failed sync the page cache shows what the disk never got, and the next sync says
/// Ok without writing it; what is written again is synced again. It is one group commit at most.
fn rewrite(file: &dyn DiskFile, path: &Path, from: u64, to: u64) -> Result<(), Error> {
    let mut buffer = vec![0; (to.saturating_sub(from)).min(limits::ZERO_STEP_BYTES_MAX as u64) as usize];
    let mut at = from;
    while at < to {
        let step = (to - at).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..step], at).map_err(Error::io("read", path))?;
        file.write_all_at(&buffer[..step], at).map_err(Error::io("write", path))?;
        at += step as u64;
    }
    Ok(())
}

/// The end of the bytes that are not zero, from `from` to the end of the file; `from` if there are none.
fn last_nonzero(file: &dyn DiskFile, path: &Path, from: u64, len: u64) -> Result<u64, Error> {
    const STEP_BYTES: usize = 256 << 10;
    let (mut buffer, zeros) = (vec![0; STEP_BYTES], vec![0; STEP_BYTES]);
    let (mut at, mut end) = (from, from);
    loop {
        at = file.next_data(at).map_err(Error::io("seek in", path))?.max(at);
        if at >= len {
            break;
        }
        let wanted = STEP_BYTES.min((len - at) as usize);
        let read = file.read_up_to(&mut buffer[..wanted], at).map_err(Error::io("read", path))?;
        // Almost always all zero, which comparing memory tells much faster than looking for a byte.
        if buffer[..read] != zeros[..read]
            && let Some(last) = buffer[..read].iter().rposition(|byte| *byte != 0)
        {
            end = at + last as u64 + 1;
        }
        if read < wanted {
            break;
        }
        at += read as u64;
    }
    Ok(end)
}
