//! Verifies one segment frame by frame, and tells a torn tail from damage.

use std::path::Path;
use std::sync::Arc;

use pointsman_model::ids::{LogIndex, LogPosition, Term};
use pointsman_model::time::Timestamp;

use super::config::Damage;
use super::cursor::{Cursor, Stop};
use super::frame::{Bad, FRAME_ALIGN_BYTES, FrameHeader};
use super::segment::{Segment, Source};
use super::segment_header::SegmentHeader;
use crate::Error;
use crate::disk::DiskFile;
use crate::identity::Owner;

/// The last frame of a log, as the next one must follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TailEntry {
    pub(crate) term: Term,
    pub(crate) index: LogIndex,
    pub(crate) stamp: Timestamp,
    pub(crate) crc: u32,
}

impl TailEntry {
    pub(crate) fn of(header: &FrameHeader) -> Self {
        Self { term: header.term, index: header.index, stamp: header.stamp, crc: header.header_crc }
    }
}

/// What a scan is told about a segment.
#[derive(Debug)]
pub(crate) struct Extent<'a> {
    pub(crate) path: &'a Path,
    pub(crate) header: &'a SegmentHeader,
    /// Everything before it was synced once.
    pub(crate) durable: LogPosition,
    /// Frames must end here at the latest.
    pub(crate) limit: LogPosition,
}

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) segment: Segment,
    pub(crate) last: Option<TailEntry>,
    pub(crate) damages: Vec<Damage>,
}

/// Walks a segment. A bad frame at or above `durable` is the end, whatever follows; one below is damage, and the walk goes
/// on behind it.
pub(crate) fn scan(file: &Arc<dyn DiskFile>, owner: Owner, extent: &Extent<'_>) -> Result<Scan, Error> {
    let Extent { path, header, durable, limit } = *extent;
    let source = Source::File(Arc::clone(file));
    let mut cursor = Cursor::new(source.clone(), owner, header.base, header.base, limit);
    let mut segment = Segment::empty(header.base, header.base_index);
    segment.source = Some(source);
    let mut scan = Scan { segment, last: None, damages: Vec::new() };
    let mut term = header.previous.map_or(Term(0), |previous| previous.term);
    // Where the walk lost the frames, and why.
    let mut lost: Option<(LogPosition, &'static str)> = None;
    while cursor.position < limit {
        let at = cursor.position;
        let next = scan.segment.next_index;
        let found = step(&mut cursor, next, term, durable, lost.is_some());
        let (frame, records_bad) = match found {
            Ok(found) => found,
            Err(Stop::Io(error)) => return Err(Error::io("read", path)(error)),
            Err(Stop::Bad(_)) if at >= durable => break,
            Err(Stop::Bad(bad)) => {
                lost.get_or_insert((at, bad.reason()));
                cursor.position.0 += FRAME_ALIGN_BYTES as u64;
                continue;
            }
        };
        if let Some((from, reason)) = lost.take() {
            scan.damages.push(damage(path, from, at, next, Some(frame.index), reason));
        }
        if let Some(reason) = records_bad {
            let to = LogPosition(at.0 + frame.bytes());
            scan.damages.push(damage(path, at, to, frame.index, Some(frame.index.next()), reason));
        }
        cursor.skip(&frame);
        term = frame.term;
        scan.segment.push(frame.index, at, cursor.position);
        scan.last = Some(TailEntry::of(&frame));
    }
    if lost.is_none() && cursor.position < durable {
        lost = Some((cursor.position, "the file ends early"));
    }
    if let Some((from, reason)) = lost {
        scan.damages.push(damage(path, from, durable, scan.segment.next_index, None, reason));
        scan.segment.end = durable;
    }
    Ok(scan)
}

/// The frame at the cursor, if it may stand there. Durable records that do not verify are named beside a good header.
fn step(
    cursor: &mut Cursor,
    next: LogIndex,
    term: Term,
    durable: LogPosition,
    lost: bool,
) -> Result<(FrameHeader, Option<&'static str>), Stop> {
    let frame = cursor.header()?;
    let follows = if lost { frame.index >= next } else { frame.index == next };
    if !follows || frame.term < term {
        return Err(Stop::Bad(Bad::Frame("the frame does not follow the one before")));
    }
    let below = cursor.position < durable;
    if below && cursor.position.0 + frame.bytes() > durable.0 {
        return Err(Stop::Bad(Bad::Frame("the frame crosses the watermark")));
    }
    match cursor.records(&frame) {
        Ok(_) => Ok((frame, None)),
        Err(Stop::Bad(bad)) if below => Ok((frame, Some(bad.reason()))),
        Err(stop) => Err(stop),
    }
}

fn damage(
    path: &Path,
    from: LogPosition,
    to: LogPosition,
    first_index: LogIndex,
    next_index: Option<LogIndex>,
    reason: &'static str,
) -> Damage {
    Damage { path: path.to_owned(), from, to, first_index, next_index, reason }
}
