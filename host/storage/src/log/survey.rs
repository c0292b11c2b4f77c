//! Which parts of a damaged log are whole, and what is missing between them.
//!
//! Reads every segment file, sealed ones too, and changes nothing. What verifies is trusted; what does not is a [`Gap`]
//! between the last good frame before and the first good segment behind, or the log's end.

use std::path::{Path, PathBuf};

use pointsman_model::ids::{LogIndex, LogPosition};

use super::config::{Damage, LogConfig};
use super::recovery::{Found, Recovered, first_kept, look};
use super::scan::{Extent, TailEntry, scan};
use super::segment::{Segment, base_of, path};
use super::segment_header::{HEADER_PAGE_BYTES, Predecessor, SegmentHeader};
use super::state::State;
use super::writer::Writer;
use crate::Error;
use crate::base::{Base, BaseFile};
use crate::disk::{Disk, ensure_dir};

/// A run of entries that has to come from another replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// What did not match, and in which file.
    pub damage: Damage,
    /// What lies behind.
    pub end: GapEnd,
    /// The segment that the first missing entry may belong to: its verified frames end where the gap starts.
    pub(crate) open: Option<SegmentHeader>,
    /// The last entry before the gap.
    pub(crate) previous: Option<TailEntry>,
    /// Files in the way.
    pub(crate) stray: Vec<PathBuf>,
}

/// Where a gap ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GapEnd {
    /// A good segment follows.
    Segment {
        /// Its first position.
        base: LogPosition,
        /// Its first index.
        index: LogIndex,
    },
    /// The end of the log, which was at this position or behind it.
    Log {
        /// Everything before was durable once.
        durable: LogPosition,
    },
}

/// What a survey found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) segments: Vec<Segment>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) last: Option<TailEntry>,
}

/// Where the next frame must be.
#[derive(Debug)]
struct Here {
    position: LogPosition,
    /// None if any index may come.
    next: Option<LogIndex>,
    previous: Option<TailEntry>,
    open: Option<SegmentHeader>,
}

impl Here {
    fn is_met_by(&self, header: &SegmentHeader) -> bool {
        self.position == header.base
            && self.next.is_none_or(|next| next == header.base_index)
            && match (self.previous, header.previous) {
                (Some(last), Some(named)) => follows(last, named),
                (last, named) => last.is_none() == named.is_none(),
            }
    }

    fn gap(&self, at: &Path, reason: &'static str, end: GapEnd, stray: &mut Vec<PathBuf>) -> Gap {
        let (to, next_index) = match end {
            GapEnd::Segment { base, index } => (base, Some(index)),
            GapEnd::Log { durable } => (durable.max(self.position), None),
        };
        let first_index = self.next.unwrap_or(LogIndex(0));
        let damage = Damage { path: at.to_owned(), from: self.position, to, first_index, next_index, reason };
        Gap { damage, end, open: self.open, previous: self.previous, stray: std::mem::take(stray) }
    }
}

/// True if a header that names `named` may stand behind `last`. A checksum of 0 is not known.
pub(crate) fn follows(last: TailEntry, named: Predecessor) -> bool {
    (last.term, last.index) == (named.term, named.index) && (last.crc == named.crc || last.crc == 0 || named.crc == 0)
}

/// Looks at everything.
pub(crate) fn survey(disk: &dyn Disk, config: &LogConfig) -> Result<Survey, Error> {
    let dir = config.segments_dir();
    ensure_dir(disk, &dir)?;
    let purged = BaseFile::open(disk, &config.dir, config.owner())?.load();
    let (mut found, mut bad) = look_at_all(disk, config, &dir)?;
    found.drain(..first_kept(&found, purged));
    let mut here = start(&found, purged);
    let (mut out, mut stray) = (Survey::default(), Vec::new());
    for at in 0..found.len() {
        let (this, next) = (&found[at], found.get(at + 1));
        // Files without a good header that lie before this one by their names.
        take_bad(&mut bad, |base| base < this.header.base, &mut stray);
        if this.header.base < here.position {
            stray.push(this.path.clone());
            continue;
        }
        if !here.is_met_by(&this.header) {
            let end = GapEnd::Segment { base: this.header.base, index: this.header.base_index };
            let gap =
                here.gap(&path(&dir, here.file()), "entries before the next segment are missing", end, &mut stray);
            out.gaps.push(gap);
        }
        let file = disk.open_read(&this.path).map_err(Error::io("open", &this.path))?;
        let file_end = LogPosition(this.header.base.0 + this.info.len.saturating_sub(HEADER_PAGE_BYTES));
        let limit = next.map_or(file_end, |next| next.header.base.min(file_end));
        let extent = Extent { path: &this.path, header: &this.header, durable: this.header.base, limit };
        let seen = scan(&file, config.owner(), &extent)?;
        let mut segment = seen.segment;
        segment.sealed = this.info.read_only && next.is_some();
        let before = this.header.previous.and_then(|named| here.previous.filter(|last| follows(*last, named)));
        here = Here {
            position: segment.end,
            next: Some(segment.next_index),
            previous: seen.last.or(before).or_else(|| named(&this.header)),
            open: Some(this.header),
        };
        out.last = seen.last.or(out.last);
        out.segments.push(segment);
        if next.is_none() && here.position < this.watermark.position {
            let end = GapEnd::Log { durable: this.watermark.position };
            out.gaps.push(here.gap(&this.path, "durable entries at the end are missing", end, &mut stray));
        }
    }
    // What is left has no good segment behind it: the log ended in there.
    if let (Some((_, file, reason)), Some((base, ..))) = (bad.first().cloned(), bad.last().cloned()) {
        take_bad(&mut bad, |_| true, &mut stray);
        out.gaps.retain(|gap| !matches!(gap.end, GapEnd::Log { .. }));
        out.gaps.push(here.gap(&file, reason, GapEnd::Log { durable: base }, &mut stray));
    }
    if let (Some(gap), false) = (out.gaps.last_mut(), stray.is_empty()) {
        gap.stray.append(&mut stray);
    }
    Ok(out)
}

/// A segment file without a good header: the position in its name, itself, and what is wrong with it.
type Bad = (LogPosition, PathBuf, &'static str);

fn look_at_all(disk: &dyn Disk, config: &LogConfig, dir: &Path) -> Result<(Vec<Found>, Vec<Bad>), Error> {
    let (mut found, mut bad) = (Vec::new(), Vec::new());
    for name in disk.list(dir).map_err(Error::io("list", dir))? {
        let Some(base) = base_of(&name) else { continue };
        match look(disk, config, dir.join(&name), base) {
            Ok(segment) => found.push(segment),
            Err(Error::DamagedFile { path, reason } | Error::Foreign { path, reason }) => {
                bad.push((base, path, reason))
            }
            Err(error) => return Err(error),
        }
    }
    Ok((found, bad))
}

fn take_bad(bad: &mut Vec<Bad>, which: impl Fn(LogPosition) -> bool, stray: &mut Vec<PathBuf>) {
    stray.extend(bad.extract_if(.., |(base, ..)| which(*base)).map(|(_, path, _)| path));
}

pub(crate) fn named(header: &SegmentHeader) -> Option<TailEntry> {
    let stamp = Default::default();
    header.previous.map(|named| TailEntry { term: named.term, index: named.index, stamp, crc: named.crc })
}

impl Here {
    /// Base of the segment file in which the next frame is looked for.
    fn file(&self) -> LogPosition {
        self.open.map_or(self.position, |open| open.base)
    }
}

/// Where the log starts.
fn start(found: &[Found], purged: Option<Base>) -> Here {
    let first = found.first().map(|first| first.header);
    match (purged, first) {
        (Some(base), Some(first)) if first.base_index <= base.index.next() => {
            Here { position: first.base, next: Some(first.base_index), previous: named(&first), open: None }
        }
        (Some(base), _) => {
            let previous = TailEntry { term: base.term, index: base.index, stamp: base.stamp, crc: base.crc };
            Here { position: base.end, next: Some(base.index.next()), previous: Some(previous), open: None }
        }
        (None, first) => {
            let next = first.filter(|first| first.previous.is_none()).map(|first| first.base_index);
            Here { position: LogPosition(0), next, previous: None, open: None }
        }
    }
}

/// What can be served of a log that does not open because of `error`: read-only, with a hole for every gap.
///
/// # Errors
/// The error itself, if it is not about lost, cut, swapped or overwritten segments; I/O.
pub(crate) fn open_read_only(disk: &dyn Disk, config: &LogConfig, error: Error) -> Result<Recovered, Error> {
    if !matches!(error, Error::SegmentMissing { .. } | Error::Foreign { .. } | Error::DamagedFile { .. }) {
        return Err(error);
    }
    let base_file = BaseFile::open(disk, &config.dir, config.owner())?;
    let purged = base_file.load();
    let Survey { segments, gaps, last } = survey(disk, config)?;
    if gaps.is_empty() {
        return Err(error);
    }
    let damages: Vec<Damage> = gaps.into_iter().map(|gap| gap.damage).collect();
    let scanned = segments.len();
    let of_base = purged.map(|base| TailEntry { term: base.term, index: base.index, stamp: base.stamp, crc: base.crc });
    let tail_entry = last.or(of_base);
    let end = segments.last().map(|segment| segment.end).or(purged.map(|base| base.end));
    let state = State {
        segments: segments.into(),
        tail_entry,
        flushed: tail_entry.map(|tail| tail.index),
        position: end.unwrap_or_default(),
        purged,
        damages: damages.clone(),
        ..State::default()
    };
    let report =
        super::RecoveryReport { segments: scanned, scanned, damages, last: state.last(), ..Default::default() };
    Ok(Recovered { state, writer: Writer { active: None, base_file }, report })
}
