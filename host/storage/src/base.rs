//! What the log no longer holds: the file `base` of a shard.
//!
//! Saved before a segment is unlinked, so that a log whose last segment is gone still knows where it goes on.

use std::path::Path;

use pointsman_model::ids::{LogIndex, LogPosition, Term};
use pointsman_model::time::Timestamp;

use crate::Error;
use crate::disk::Disk;
use crate::identity::Owner;
use crate::slots::{Kind, PAYLOAD_BYTES, Payload, Slots};

const KIND: Kind = Kind { magic: *b"PMBA", name: "base" };

/// The last entry purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its term.
    pub term: Term,
    /// Its index.
    pub index: LogIndex,
    /// Where its frame ends.
    pub end: LogPosition,
    /// Its stamp.
    pub stamp: Timestamp,
    /// The `header_crc` of its frame, for the header of a segment that starts behind it; 0 if not known.
    pub crc: u32,
}

impl Base {
    fn encode(self) -> Payload {
        let mut out = [0; PAYLOAD_BYTES];
        out[..8].copy_from_slice(&self.term.0.to_le_bytes());
        out[8..16].copy_from_slice(&self.index.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.end.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.stamp.0.to_le_bytes());
        out[32..36].copy_from_slice(&self.crc.to_le_bytes());
        out
    }

    fn decode(payload: &Payload) -> Self {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&payload[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        Self {
            term: Term(number(0)),
            index: LogIndex(number(8)),
            end: LogPosition(number(16)),
            stamp: Timestamp(number(24)),
            crc: number(32) as u32,
        }
    }
}

/// The open file.
#[derive(Debug)]
pub(crate) struct BaseFile(Slots);

impl BaseFile {
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, owner: Owner) -> Result<Self, Error> {
        Slots::open(disk, dir, KIND, owner).map(Self)
    }

    pub(crate) fn load(&self) -> Option<Base> {
        self.0.load().map(|payload| Base::decode(&payload))
    }

    pub(crate) fn save(&mut self, base: Base) -> Result<(), Error> {
        self.0.save(base.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let base = Base {
            term: Term(3),
            index: LogIndex(u64::MAX),
            end: LogPosition(1 << 40),
            stamp: Timestamp(5),
            crc: u32::MAX,
        };
        assert_eq!(Base::decode(&base.encode()), base);
    }
}
