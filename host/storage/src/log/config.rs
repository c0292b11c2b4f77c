//! How a log is opened, and what opening found.

use std::path::PathBuf;

use pointsman_model::ids::{LogIndex, LogPosition, ShardId, Term};
use pointsman_model::limits;
use pointsman_model::time::Timestamp;

use crate::Error;
use crate::identity::Owner;

/// Who writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriterMode {
    /// One thread of the log's own.
    #[default]
    Thread,
    /// Nobody but the callers of `step` and `barrier`: deterministic, for simulations.
    Manual,
}

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The shard's directory, which must exist; segments lie in `log` below it.
    pub dir: PathBuf,
    /// The cluster's uuid.
    pub cluster: [u8; 16],
    /// The shard.
    pub shard: ShardId,
    /// Size of a segment file, its first page included. Never changes for a shard.
    pub segment_bytes: u64,
    /// Write zeros to the next segment before it is needed: quicker syncs for twice the bytes.
    pub zero_ahead: bool,
    /// Frames kept in memory for readers.
    pub tail_cache_bytes: usize,
    /// Who writes.
    pub writer: WriterMode,
    /// Other replicas have the same log: one that does not open because files are lost or overwritten is opened
    /// read-only, to be repaired.
    pub replicated: bool,
    /// A seeded bug, to prove that the tests would find it.
    #[cfg(any(test, feature = "sim"))]
    pub mutant: Option<super::mutant::Mutant>,
}

impl LogConfig {
    /// The defaults for a shard.
    #[must_use]
    pub fn new(dir: PathBuf, cluster: [u8; 16], shard: ShardId) -> Self {
        Self {
            dir,
            cluster,
            shard,
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            zero_ahead: true,
            tail_cache_bytes: limits::TAIL_CACHE_BYTES_DEFAULT,
            writer: WriterMode::Thread,
            replicated: false,
            #[cfg(any(test, feature = "sim"))]
            mutant: None,
        }
    }

    /// Directory of the segments.
    #[must_use]
    pub fn segments_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// What every checksum covers.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner { cluster: self.cluster, shard: self.shard }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.segment_bytes < limits::SEGMENT_BYTES_FLOOR || !self.segment_bytes.is_multiple_of(4_096) {
            return Err(Error::Setting { name: "segment_bytes", reason: "at least 16 KiB, and a multiple of 4 KiB" });
        }
        Ok(())
    }
}

/// Durable bytes that recovery could not verify. They were left as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment's file.
    pub path: PathBuf,
    /// First position in doubt.
    pub from: LogPosition,
    /// Where frames are good again.
    pub to: LogPosition,
    /// The first index in doubt.
    pub first_index: LogIndex,
    /// The first index behind it that is good, if one is known.
    pub next_index: Option<LogIndex>,
    /// What did not match.
    pub reason: &'static str,
}

/// What opening a log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments the log has.
    pub segments: usize,
    /// Of these, the ones whose every frame was read and verified.
    pub scanned: usize,
    /// Bytes of the torn tail that were cut; 0 after a clean stop.
    pub torn_bytes: u64,
    /// The last segment is read-only, so there was one behind it: a truncation was interrupted, or a file is gone.
    pub successor_gone: bool,
    /// Damage below the watermark. If there is any, nothing was written and the log takes no entries.
    pub damages: Vec<Damage>,
    /// The last entry.
    pub last: Option<(Term, LogIndex, Timestamp)>,
}
