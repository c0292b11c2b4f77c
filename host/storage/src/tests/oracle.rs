//! What must hold of a disk that was recovered, whatever it lost.

use std::path::Path;
use std::sync::Arc;

use pointsman_model::ids::{LogIndex, ShardId};

use crate::disk::sim::{SimDisk, World};
use crate::identity::Owner;
use crate::log::{CommitLog, Frame, LogConfig, Mutant, WriterMode};
use crate::vote::{Vote, VoteFile};

pub(crate) const CLUSTER: [u8; 16] = [7; 16];
pub(crate) const SHARD: ShardId = ShardId(1);
/// FORMATS.md: a segment's first frame comes behind so much.
const SEGMENT_HEADER_BYTES: u64 = 4_096;
pub(crate) const DIR: &str = "shard";

/// What was promised up to a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expect {
    /// Every entry appended, oldest first, and not truncated.
    pub(crate) lineage: Vec<Frame>,
    /// Index of the last entry somebody was told is durable.
    pub(crate) durable: u64,
    /// Promises past this index are void: a truncation is under way.
    pub(crate) cap: Option<u64>,
    /// Index of the last purged entry.
    pub(crate) purged: Option<u64>,
    /// The purge under way.
    pub(crate) purging: Option<u64>,
    /// The vote told to somebody.
    pub(crate) vote: Option<Vote>,
    /// The vote being saved.
    pub(crate) voting: Option<Vote>,
}

impl Expect {
    /// Notes that entries up to `index` are durable.
    pub(crate) fn promise(&mut self, index: u64) {
        self.durable = self.durable.max(index.min(self.cap.unwrap_or(u64::MAX)));
    }
}

/// How the log of a run is opened.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) zero_ahead: bool,
    pub(crate) tail_cache_bytes: usize,
    pub(crate) mutant: Option<Mutant>,
}

impl Setting {
    pub(crate) fn config(&self) -> LogConfig {
        LogConfig {
            segment_bytes: 16 << 10,
            zero_ahead: self.zero_ahead,
            tail_cache_bytes: self.tail_cache_bytes,
            writer: WriterMode::Manual,
            mutant: self.mutant,
            ..LogConfig::new(DIR.into(), CLUSTER, SHARD)
        }
    }

    pub(crate) fn open(&self, disk: &SimDisk) -> Result<(CommitLog, crate::log::RecoveryReport), crate::Error> {
        CommitLog::open(Arc::new(disk.clone()), self.config())
    }
}

pub(crate) fn open_vote(disk: &SimDisk) -> Result<VoteFile, crate::Error> {
    VoteFile::open(disk, Path::new(DIR), Owner { cluster: CLUSTER, shard: SHARD })
}

pub(crate) fn read_all(log: &CommitLog) -> Result<Vec<Frame>, crate::Error> {
    let (mut out, mut next) = (Vec::new(), LogIndex(0));
    loop {
        let more = log.read(next..LogIndex(u64::MAX), 1 << 20)?;
        let Some(last) = more.last() else { return Ok(out) };
        next = last.index.next();
        out.extend(more);
    }
}

/// Recovers a disk and compares what it holds with what was promised. Leaves the disk recovered, and gives its log.
pub(crate) fn recover(disk: &SimDisk, expect: &Expect, setting: &Setting) -> Result<CommitLog, String> {
    let (log, report) = setting.open(disk).map_err(|error| format!("does not open: {error}"))?;
    if let Some(damage) = report.damages.first() {
        return Err(format!("takes a crash for damage: {damage:?}"));
    }
    let frames = read_all(&log).map_err(|error| format!("cannot be read: {error}"))?;
    check_entries(&log, &frames, expect)?;
    let vote = open_vote(disk).map_err(|error| format!("vote does not open: {error}"))?.load();
    if vote != expect.vote && (expect.voting.is_none() || vote != expect.voting) {
        return Err(format!("vote {vote:?}, promised {:?}, saving {:?}", expect.vote, expect.voting));
    }
    Ok(log)
}

fn check_entries(log: &CommitLog, frames: &[Frame], expect: &Expect) -> Result<(), String> {
    let purged = log.purged().map(|base| base.index.0);
    if purged != expect.purged && (expect.purging.is_none() || purged != expect.purging) {
        return Err(format!("purged {purged:?}, promised {:?}, purging {:?}", expect.purged, expect.purging));
    }
    let first = purged.map(|index| index + 1);
    let lineage: Vec<&Frame> =
        expect.lineage.iter().filter(|frame| first.is_none_or(|first| frame.index.0 >= first)).collect();
    for (at, frame) in frames.iter().enumerate() {
        match lineage.get(at) {
            Some(expected) if *expected == frame && expected.location == frame.location => {}
            Some(expected) => return Err(format!("entry {at}: {frame:?} instead of {expected:?}")),
            None => return Err(format!("{frame:?} was never appended")),
        }
    }
    let last = frames.last().map(|frame| frame.index.0).max(purged).unwrap_or(0);
    if last < expect.durable {
        return Err(format!("entries {}..={} are lost though promised", last + 1, expect.durable));
    }
    if log.flushed().map_or(0, LogIndex::get) != last {
        return Err(format!("flushed {:?} but the last entry is {last}", log.flushed()));
    }
    Ok(())
}

/// Recovers a crashed world, twice, and compares. The number of bytes cut tells whether recovery had something to do.
pub(crate) fn check(world: World, expect: &Expect, setting: &Setting) -> Result<(), String> {
    let disk = SimDisk::with(world);
    drop(recover(&disk, expect, setting)?);
    let once = disk.world().fingerprint();
    let (log, report) = setting.open(&disk).map_err(|error| format!("does not open twice: {error}"))?;
    if report.torn_bytes != 0 || disk.world().fingerprint() != once {
        return Err(format!("recovering twice changes bytes: {report:?}"));
    }
    check_next_place(&log, setting)
}

/// The next frame goes where it would have gone without the crash: a segment that was opened for a frame that is lost is
/// no place for one that fits into the segment before.
fn check_next_place(log: &CommitLog, setting: &Setting) -> Result<(), String> {
    let Some((term, last, _)) = log.last() else { return Ok(()) };
    let Some(before) = log.read(last..last.next(), 1).ok().and_then(|frames| frames.into_iter().next()) else {
        return Ok(());
    };
    let frame = super::workload::frame(term.0, last.0 + 1, 0, &[4]);
    let used = SEGMENT_HEADER_BYTES + before.end().0 - before.location.segment_base.0;
    let fits = used + frame.bytes() as u64 <= setting.config().segment_bytes;
    log.append(vec![frame], Box::new(|_| {})).map_err(|error| format!("takes nothing any more: {error}"))?;
    let found = log.segments().last().map(|segment| segment.base);
    let expected = if fits { before.location.segment_base } else { before.end() };
    if found == Some(expected) {
        return Ok(());
    }
    Err(format!("the next entry goes to segment {found:?} instead of {expected:?}"))
}
