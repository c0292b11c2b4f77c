//! Why an entry could not be applied at all. Every one of these poisons the shard on this node.

use pointsman_model::{LogIndex, Ordinal, ShardId, record};

use crate::machine::StoreError;

/// An entry could not be applied, or the state could not be read. Never an outcome: what a record asks for and does not
/// get is a [`crate::Refusal`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A row could not be read.
    #[error("a row of the state could not be read")]
    Read(#[from] StoreError),
    /// A row is not what this release writes.
    #[error("the row {key:02x?} of the state is damaged")]
    DamagedRow {
        /// Its key.
        key: Vec<u8>,
    },
    /// A row that must be there is not.
    #[error("the row {key:02x?} of the state is missing")]
    MissingRow {
        /// Its key.
        key: Vec<u8>,
    },
    /// A record does not match its own checksum, or is of a newer layout.
    #[error("record {ordinal} of entry {index} is damaged or newer than this release")]
    DamagedRecord {
        /// Its entry.
        index: LogIndex,
        /// Its place.
        ordinal: Ordinal,
        /// What is wrong.
        source: record::Error,
    },
    /// A command this release does not know: another node is newer, and this one must not go on.
    #[error("record {ordinal} of entry {index} is of kind {kind}, which this release does not know")]
    UnknownKind {
        /// The kind.
        kind: u8,
        /// Its entry.
        index: LogIndex,
        /// Its place.
        ordinal: Ordinal,
    },
    /// More records than an ordinal can count.
    #[error("entry {index} holds more records than an entry may")]
    TooManyRecords {
        /// The entry.
        index: LogIndex,
    },
    /// An entry of another shard.
    #[error("an entry of shard {found} was handed to shard {expected}")]
    WrongShard {
        /// This machine's.
        expected: ShardId,
        /// The entry's.
        found: ShardId,
    },
    /// An earlier entry failed, so the state in memory is not to be trusted.
    #[error("an earlier entry could not be applied")]
    Poisoned,
}
