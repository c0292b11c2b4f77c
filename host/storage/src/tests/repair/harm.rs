//! A log with several segments, and ways its files may go wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::oracle::{DIR, Setting, read_all};
use super::super::random::Random;
use super::super::workload::frame;
use crate::Error;
use crate::disk::sim::{SimDisk, World};
use crate::disk::{Disk, ensure_dir};
use crate::log::{CommitLog, Frame, LogConfig, SegmentInfo};

pub(super) const SEGMENT_BYTES: u64 = 16 << 10;

pub(super) fn config() -> LogConfig {
    let setting = Setting { zero_ahead: false, tail_cache_bytes: 0, mutant: None };
    LogConfig { replicated: true, ..setting.config() }
}

pub(super) fn open(disk: &SimDisk) -> Result<CommitLog, Error> {
    Ok(CommitLog::open(Arc::new(disk.clone()), config())?.0)
}

/// A whole log of five segments or more, as this replica had it and as another one has it.
pub(super) struct Whole {
    pub(super) world: World,
    pub(super) frames: Vec<Frame>,
    pub(super) segments: Vec<SegmentInfo>,
}

/// Sealed segments are taken unread at a start, so `sealed` decides what finds the damage.
pub(super) fn whole(seed: u64, sealed: bool) -> Whole {
    let disk = SimDisk::default();
    ensure_dir(&disk, Path::new(DIR)).expect("mkdir");
    let log = open(&disk).expect("open");
    let mut random = Random::new(seed);
    let mut index = 0;
    while log.segments().len() < 5 || random.below(4) > 0 {
        // One entry in a few is longer than a segment, or a blank one of a new leader.
        let sizes = match random.below(12) {
            0 => vec![SEGMENT_BYTES as usize + random.below(5_000) as usize],
            1 => Vec::new(),
            _ => (0..=random.below(3)).map(|_| random.below(3_000) as usize).collect(),
        };
        log.append(vec![frame(1 + index / 9, index, index, &sizes)], Box::new(|_| {})).expect("append");
        log.barrier().expect("barrier");
        index += 1;
    }
    if sealed {
        for segment in log.full_segments() {
            log.seal(segment.base).expect("seal");
        }
    }
    let (frames, segments) = (read_all(&log).expect("read"), log.segments());
    drop(log);
    Whole { world: disk.world(), frames, segments }
}

impl Whole {
    pub(super) fn path(&self, at: usize) -> PathBuf {
        Path::new(DIR).join("log").join(format!("{:020}.seg", self.segments[at].base.0))
    }

    /// What this replica's segments must be again.
    pub(super) fn expected(&self) -> BTreeMap<String, Vec<u8>> {
        segments_of(&self.world)
    }
}

/// The segments' bytes without the watermarks, which replicas need not have in common.
pub(super) fn segments_of(world: &World) -> BTreeMap<String, Vec<u8>> {
    let mut files = world.files();
    files.retain(|path, _| path.contains("/log/"));
    for bytes in files.values_mut().filter(|bytes| bytes.len() >= 1_536) {
        bytes[512..532].fill(0);
        bytes[1_024..1_044].fill(0);
    }
    files
}

/// Ways a file may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    Flip,
    ZeroPage,
    ZeroHeader,
    Cut,
    Swap,
    Delete,
    DeleteTwo,
}

pub(super) const HARMS: [Harm; 7] =
    [Harm::Flip, Harm::ZeroPage, Harm::ZeroHeader, Harm::Cut, Harm::Swap, Harm::Delete, Harm::DeleteTwo];

/// Writes a file anew with other bytes, durably.
pub(super) fn put(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    if disk.info(path).is_ok() {
        disk.unlink(path).expect("unlink");
    }
    let file = disk.create(path).expect("create");
    file.write_all_at(bytes, 0).expect("write");
    file.sync_data().expect("sync");
}

/// Bytes of a segment's frames that were surely durable: the last group commit of a log is in doubt.
pub(super) fn durable_bytes(whole: &Whole, at: usize) -> u64 {
    let segment = &whole.segments[at];
    let last = whole.frames.last().expect("entries").location;
    let end = if last.segment_base == segment.base { last.position } else { segment.end };
    end.0 - segment.base.0
}

pub(super) fn harm(whole: &Whole, at: usize, harm: Harm, random: &mut Random) -> SimDisk {
    let disk = SimDisk::with(whole.world.clone());
    let files = whole.world.files();
    let bytes = |at: usize| {
        let found = files.iter().find(|(path, _)| Path::new(path).ends_with(whole.path(at)));
        found.expect("it is there").1.clone()
    };
    let (path, mut content) = (whole.path(at), bytes(at));
    let used = durable_bytes(whole, at) as usize;
    let sealed = disk.info(&path).expect("it is there").read_only;
    match harm {
        Harm::Flip => content[4_096 + random.below(used as u64) as usize] ^= 1 << random.below(8),
        Harm::ZeroPage => {
            let from = 4_096 + (random.below(used as u64) as usize & !4_095);
            let end = (from + 4_096).min(content.len());
            content[from..end].fill(0);
        }
        Harm::ZeroHeader => content[..4_096].fill(0),
        Harm::Cut => content.truncate(random.below(4_096 + used as u64) as usize),
        Harm::Swap => {
            let other = if at == 0 { 1 } else { at - 1 };
            put(&disk, &whole.path(other), &content);
            content = bytes(other);
        }
        Harm::Delete | Harm::DeleteTwo => {}
    }
    match harm {
        Harm::Delete => disk.unlink(&path).expect("unlink"),
        Harm::DeleteTwo => {
            disk.unlink(&path).expect("unlink");
            disk.unlink(&whole.path(at + 1)).expect("unlink");
        }
        _ => {
            put(&disk, &path, &content);
            disk.set_read_only(&path, sealed).expect("mode");
        }
    }
    disk.sync_dir(&Path::new(DIR).join("log")).expect("sync");
    disk
}
