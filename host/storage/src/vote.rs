//! What this node voted: the file `vote` of a shard.
//!
//! A vote is durable before [`VoteFile::save`] returns. Vote and log writes share one order: call
//! [`crate::log::CommitLog::barrier`] before saving.

use std::path::Path;

use pointsman_model::ids::Term;

use crate::Error;
use crate::disk::Disk;
use crate::identity::Owner;
use crate::slots::{Kind, PAYLOAD_BYTES, Payload, Slots};

const KIND: Kind = Kind { magic: *b"PMVO", name: "vote" };

/// A vote of Raft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vote {
    /// In this term
    pub term: Term,
    /// for this node;
    pub node: u64,
    /// true once a majority granted it.
    pub committed: bool,
}

impl Vote {
    fn encode(self) -> Payload {
        let mut out = [0; PAYLOAD_BYTES];
        out[..8].copy_from_slice(&self.term.0.to_le_bytes());
        out[8..16].copy_from_slice(&self.node.to_le_bytes());
        out[16] = u8::from(self.committed);
        out
    }

    fn decode(payload: &Payload) -> Self {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&payload[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        Self { term: Term(number(0)), node: number(8), committed: payload[16] != 0 }
    }
}

/// The open file.
#[derive(Debug)]
pub struct VoteFile(Slots);

impl VoteFile {
    /// Opens or creates the vote file in a shard's directory, which must exist.
    ///
    /// # Errors
    /// I/O, or the file is damaged, foreign or newer than this release.
    pub fn open(disk: &dyn Disk, dir: &Path, owner: Owner) -> Result<Self, Error> {
        Slots::open(disk, dir, KIND, owner).map(Self)
    }

    /// The last vote saved.
    #[must_use]
    pub fn load(&self) -> Option<Vote> {
        self.0.load().map(|payload| Vote::decode(&payload))
    }

    /// Saves a vote; durable at return.
    ///
    /// # Errors
    /// [`Error::Poisoned`] for the first failure and ever after.
    pub fn save(&mut self, vote: Vote) -> Result<(), Error> {
        self.0.save(vote.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for committed in [false, true] {
            let vote = Vote { term: Term(u64::MAX - 1), node: 0x0102_0304_0506_0708, committed };
            assert_eq!(Vote::decode(&vote.encode()), vote);
        }
    }
}
