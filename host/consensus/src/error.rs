//! The one error type of the crate.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use pointsman_model::{LogIndex, LogPosition};

/// Why a shard cannot be opened, or has stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The files say no.
    #[error(transparent)]
    Storage(#[from] pointsman_storage::Error),
    /// `apply` met what it must never meet.
    #[error("apply failed: {0}")]
    StateMachine(#[from] pointsman_state_machine::Error),
    /// Stored bytes whose checksums hold make no sense.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A shard's directory cannot be made.
    #[error("cannot {operation} {path}: {source}")]
    Directory {
        /// What was tried.
        operation: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state ends before the log begins, and no checkpoint fills the gap.
    #[error("the state is at {applied:?}, the log begins after {purged}, and there is no checkpoint between")]
    StateLost {
        /// The last entry in the state.
        applied: Option<LogIndex>,
        /// The last entry purged.
        purged: LogIndex,
    },
    /// No other replica gave an entry that is missing here.
    #[error("entry {index} is missing, and no other node has it: {answered} of {asked} answered")]
    NoEntries {
        /// The entry.
        index: LogIndex,
        /// How many nodes were asked.
        asked: usize,
        /// How many answered.
        answered: usize,
    },
    /// openraft stopped.
    #[error("raft stopped: {0}")]
    Raft(String),
    /// The shard has other members than this node, and was opened without a way to them.
    #[error("shard {shard} belongs to a cluster of several nodes")]
    NotAlone {
        /// The shard.
        shard: u16,
    },
    /// The shard did not become writable in time.
    #[error("shard {shard} has no leader after {}", humane(.waited))]
    NoLeader {
        /// The shard.
        shard: u16,
        /// How long was waited.
        waited: Duration,
    },
    /// An entry would not lie where the leader has it: the two logs differ.
    #[error("entry {index} would lie at {here} here, and lies at {expected} on the leader")]
    Misplaced {
        /// Its index.
        index: u64,
        /// Where it would lie here.
        here: LogPosition,
        /// Where it lies there.
        expected: LogPosition,
    },
    /// openraft asked to purge entries that no applied trim and no installed snapshot covers.
    #[error("refused to purge the log up to {upto}: entries up to {allowed} may go")]
    PurgeFenced {
        /// What it asked for.
        upto: u64,
        /// What may go; 0 if nothing.
        allowed: u64,
    },
}

fn humane(duration: &Duration) -> String {
    format!("{} ms", duration.as_millis())
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Storage(error) => error.into(),
            other => Self::other(other),
        }
    }
}
