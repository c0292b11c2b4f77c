//! The one error type of the crate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman_model::ids::{LogIndex, LogPosition, QueueId, QueueOffset, Term, TopicId};

/// What can go wrong with files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no room for another segment. Nothing was accepted; it heals when space is free again.
    #[error("no space left for {needed} bytes at {path}")]
    DiskFull {
        /// The file that could not be reserved.
        path: PathBuf,
        /// Its size.
        needed: u64,
    },
    /// A write or a sync failed earlier. Nothing is written or synced here again before a restart.
    #[error("writing stopped after a failure: {0}")]
    Poisoned(#[source] Arc<Error>),
    /// A broken invariant stopped the thread that writes.
    #[error("the thread that writes the log panicked")]
    WriterPanicked,
    /// Stored bytes that were durable once no longer match their checksums.
    #[error("{path} is damaged at position {position}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Position in the shard's log.
        position: LogPosition,
        /// What does not match.
        reason: &'static str,
    },
    /// The log holds damage below its watermark and takes no entries until it is repaired.
    #[error("the log in {path} is damaged in {ranges} place(s) and read-only until it is repaired")]
    ReadOnly {
        /// Directory of the segments.
        path: PathBuf,
        /// How many damaged ranges recovery found.
        ranges: usize,
    },
    /// A file that is checked as a whole does not match its checksum or contradicts itself.
    #[error("{path} is damaged: {reason}")]
    DamagedFile {
        /// The file.
        path: PathBuf,
        /// What does not match.
        reason: &'static str,
    },
    /// The file belongs to another cluster, shard or place.
    #[error("{path} does not belong here: {reason}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: &'static str,
    },
    /// Written by a newer release; nothing was touched.
    #[error("{path} has format {found}, this release knows up to {known}")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u16,
        /// The newest format this release knows.
        known: u16,
    },
    /// A segment between two others, or after the purged part, is not there.
    #[error("a segment is missing before {path}: it should start at index {expected}, but starts at {found}")]
    SegmentMissing {
        /// The segment behind the gap.
        path: PathBuf,
        /// The index that should come next.
        expected: LogIndex,
        /// The index the segment starts with.
        found: LogIndex,
    },
    /// An entry does not follow the last one.
    #[error("entry {found} does not follow: expected index {expected}")]
    NotContiguous {
        /// The only index that may come next.
        expected: LogIndex,
        /// The index given.
        found: LogIndex,
    },
    /// An entry has a smaller term than the one before.
    #[error("entry of term {found} after one of term {last}")]
    TermWentBack {
        /// Term of the last entry.
        last: Term,
        /// Term of the entry given.
        found: Term,
    },
    /// An entry is longer than a frame may be.
    #[error("an entry of {bytes} bytes is longer than a frame may be")]
    FrameTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// What was asked for lies outside the log.
    #[error("index {index} is not in the log")]
    NotInLog {
        /// The index asked for.
        index: LogIndex,
    },
    /// A position that holds no such record, or none any more.
    #[error("there is no record of {length} bytes at position {position}")]
    NoSuchRecord {
        /// The position asked for.
        position: LogPosition,
        /// The length asked for.
        length: usize,
    },
    /// Another process uses the directory.
    #[error("another process uses the data directory (lock {path})")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A setting is out of range.
    #[error("{name} is out of range: {reason}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its range.
        reason: &'static str,
    },
    /// The derived state does not match its checksums or is incomplete: delete it and rebuild it.
    #[error("the state in {dir} is damaged: {detail}")]
    StateDamaged {
        /// Its directory.
        dir: PathBuf,
        /// What the store says.
        detail: String,
    },
    /// A flush or compaction of the state failed earlier. Nothing is written there again before a restart.
    #[error("the state takes no writes after a failure: {cause}")]
    StatePoisoned {
        /// The failure.
        cause: Arc<str>,
    },
    /// A sidecar is missing or does not match its checksums: build it again from its segment.
    #[error("the sidecar {path} of the segment at {segment} is damaged: {reason}")]
    SidecarDamaged {
        /// Base position of the segment.
        segment: LogPosition,
        /// The file.
        path: PathBuf,
        /// What does not match.
        reason: &'static str,
    },
    /// A segment has no queue entries here, neither in memory nor in a sidecar.
    #[error("nothing is known of the queues of the segment at {segment}")]
    SidecarMissing {
        /// Base position of the segment.
        segment: LogPosition,
    },
    /// A sidecar was built whose offsets do not fit those of its neighbours.
    #[error("queue {queue} of topic {topic}: offset {found} where {expected} should be")]
    QueueGap {
        /// The topic.
        topic: TopicId,
        /// The queue.
        queue: QueueId,
        /// The offset that should come next.
        expected: QueueOffset,
        /// The offset that does.
        found: QueueOffset,
    },
    /// A checkpoint's keys do not ascend, or one is no key of a state.
    #[error("a checkpoint's keys are out of order")]
    KeysOutOfOrder,
}

impl Error {
    /// Wraps an error of the operating system.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    /// True if this is back-pressure that heals by itself.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { source, .. } if source.raw_os_error().is_some() => source,
            Error::DiskFull { .. } => Self::new(io::ErrorKind::StorageFull, error),
            other => Self::other(other),
        }
    }
}

/// True for the codes that mean "no room": a full disk or an exhausted quota.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
