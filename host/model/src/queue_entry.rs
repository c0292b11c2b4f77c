//! The 56 bytes of a ConsumeQueue entry. `FORMATS.md`, ConsumeQueue entry.

use bytes::{Buf, BufMut};

use crate::ids::{LogIndex, LogPosition, Ordinal, Term};
use crate::time::Timestamp;

/// Bytes of an encoded entry.
pub const ENTRY_BYTES: usize = 56;
/// The message has a TTL; its head says when it ends.
pub const FLAG_TTL: u8 = 1;

/// Where a message of a queue lies, and what is known of it without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueEntry {
    /// First byte of the record in the shard's log.
    pub position: LogPosition,
    /// Index of the entry that holds it.
    pub index: LogIndex,
    /// Bytes of the whole record.
    pub length: u32,
    /// Term of the entry; 32 bits here.
    pub term: Term,
    /// Place of the record in the entry.
    pub ordinal: Ordinal,
    /// Priority, 0 to 9.
    pub priority: u8,
    /// [`FLAG_TTL`] or 0.
    pub flags: u8,
    /// Hash of the tag, 0 without one.
    pub tag_hash: u64,
    /// Hash of the ordering key, 0 without one.
    pub ordering_key_hash: u64,
    /// Stamp of the entry: the message's store time.
    pub stamp: Timestamp,
}

impl QueueEntry {
    /// Appends the 56 bytes.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.position.0);
        out.put_u64_le(self.index.0);
        out.put_u32_le(self.length);
        out.put_u32_le(self.term.0 as u32);
        out.put_u16_le(self.ordinal.0);
        out.put_u8(self.priority);
        out.put_u8(self.flags);
        out.put_u32_le(0);
        out.put_u64_le(self.tag_hash);
        out.put_u64_le(self.ordering_key_hash);
        out.put_u64_le(self.stamp.0);
    }

    /// Reads 56 bytes; the file around them is verified by its own checksum.
    #[must_use]
    pub fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let mut b = &bytes[..];
        let position = LogPosition(b.get_u64_le());
        let index = LogIndex(b.get_u64_le());
        let length = b.get_u32_le();
        let term = Term(u64::from(b.get_u32_le()));
        let ordinal = Ordinal(b.get_u16_le());
        let priority = b.get_u8();
        let flags = b.get_u8();
        let _reserved = b.get_u32_le();
        Self {
            position,
            index,
            length,
            term,
            ordinal,
            priority,
            flags,
            tag_hash: b.get_u64_le(),
            ordering_key_hash: b.get_u64_le(),
            stamp: Timestamp(b.get_u64_le()),
        }
    }

    /// The place in log order: what stream cursors compare.
    #[must_use]
    pub const fn log_place(&self) -> (LogIndex, Ordinal) {
        (self.index, self.ordinal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let entry = QueueEntry {
            position: LogPosition(1),
            index: LogIndex(2),
            length: 3,
            term: Term(4),
            ordinal: Ordinal(5),
            priority: 6,
            flags: FLAG_TTL,
            tag_hash: 7,
            ordering_key_hash: 8,
            stamp: Timestamp(9),
        };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        let bytes: [u8; ENTRY_BYTES] = bytes.try_into().expect("56 bytes");
        assert_eq!(QueueEntry::decode(&bytes), entry);
    }
}
