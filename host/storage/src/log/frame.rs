//! A frame: one Raft entry as it lies in a segment. `FORMATS.md`, Log.
//!
//! ```text
//! magic u32 | length u32 | term u64 | index u64 | kind u8 | version u8 | flags u16 | count u32 | stamp u64 |
//! records_crc u32 | header_crc u32 | records | zeros up to a multiple of 8
//! ```
//!
//! `length` counts header and records, not the zeros. `header_crc` covers the header, the segment's base position, and
//! the owner, so a frame that lies in another place is no frame.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use pointsman_model::ids::{LogIndex, LogPosition, Term};
use pointsman_model::time::Timestamp;
use pointsman_model::{limits, record};

use crate::identity::Owner;

/// Bytes of a frame before its records.
pub const FRAME_HEADER_BYTES: usize = 48;
/// Frames start at multiples of this.
pub(crate) const FRAME_ALIGN_BYTES: usize = 8;
const MAGIC: u32 = u32::from_le_bytes(*b"PMFR");
const VERSION: u8 = 1;

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A leader's first entry; nothing to apply.
    Blank,
    /// A change of the members.
    Membership,
    /// Records for the state machine.
    Batch,
}

impl FrameKind {
    /// Its number in a frame.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Blank => 0,
            Self::Membership => 1,
            Self::Batch => 2,
        }
    }

    /// The kind of a number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Blank),
            1 => Some(Self::Membership),
            2 => Some(Self::Batch),
            _ => None,
        }
    }
}

/// Waits for a proposed entry on this node; never written. Both calls must be quick and must not call the log.
pub trait Ticket: Send + Sync {
    /// The entry has its place in the log, and is not durable yet.
    fn appended(&self, term: Term, index: LogIndex);
    /// This node's own sync covered the entry, or never will.
    fn fsynced(&self, ok: bool);
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Location {
    /// Its first byte.
    pub position: LogPosition,
    /// The base position of its segment.
    pub segment_base: LogPosition,
}

/// One entry of the log. Cloning copies no records.
#[derive(Clone)]
pub struct Frame {
    /// Term of the leader that proposed it.
    pub term: Term,
    /// Its index.
    pub index: LogIndex,
    /// What it is for.
    pub kind: FrameKind,
    /// When the leader proposed it.
    pub stamp: Timestamp,
    /// Number of records.
    pub count: u32,
    /// [`record::records_crc`] of the records.
    pub records_crc: u32,
    /// The records, one after another.
    pub records: Bytes,
    /// Filled in by append and by reads.
    pub location: Location,
    /// Who waits for it on this node.
    pub ticket: Option<Arc<dyn Ticket>>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("term", &self.term.0)
            .field("index", &self.index.0)
            .field("kind", &self.kind)
            .field("count", &self.count)
            .field("records", &self.records.len())
            .field("position", &self.location.position.0)
            .finish_non_exhaustive()
    }
}

/// Two frames are equal if they would be the same bytes at any place.
impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        (self.term, self.index, self.kind, self.stamp, self.count, self.records_crc)
            == (other.term, other.index, other.kind, other.stamp, other.count, other.records_crc)
            && self.records == other.records
    }
}

impl Eq for Frame {}

/// Bytes a frame with so many bytes of records takes in a segment.
#[must_use]
pub const fn frame_bytes(records: usize) -> usize {
    (FRAME_HEADER_BYTES + records).next_multiple_of(FRAME_ALIGN_BYTES)
}

impl Frame {
    /// A frame without records.
    #[must_use]
    pub fn blank(term: Term, index: LogIndex, stamp: Timestamp) -> Self {
        Self {
            term,
            index,
            kind: FrameKind::Blank,
            stamp,
            count: 0,
            records_crc: 0,
            records: Bytes::new(),
            location: Location::default(),
            ticket: None,
        }
    }

    /// Bytes it takes in a segment.
    #[must_use]
    pub fn bytes(&self) -> usize {
        frame_bytes(self.records.len())
    }

    /// Where the next frame starts.
    #[must_use]
    pub fn end(&self) -> LogPosition {
        LogPosition(self.location.position.0 + self.bytes() as u64)
    }

    /// Where its records start.
    #[must_use]
    pub fn records_position(&self) -> LogPosition {
        LogPosition(self.location.position.0 + FRAME_HEADER_BYTES as u64)
    }

    /// The header at the frame's location.
    pub(crate) fn header(&self, owner: &Owner) -> FrameHeader {
        let mut header = FrameHeader {
            length: (FRAME_HEADER_BYTES + self.records.len()) as u32,
            term: self.term,
            index: self.index,
            kind: self.kind,
            count: self.count,
            stamp: self.stamp,
            records_crc: self.records_crc,
            header_crc: 0,
        };
        header.header_crc = header.checksum(owner, self.location.segment_base);
        header
    }
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Header and records.
    pub(crate) length: u32,
    pub(crate) term: Term,
    pub(crate) index: LogIndex,
    pub(crate) kind: FrameKind,
    pub(crate) count: u32,
    pub(crate) stamp: Timestamp,
    pub(crate) records_crc: u32,
    pub(crate) header_crc: u32,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// A zero magic: nothing was written here.
    Empty,
    /// Anything else, in words.
    Frame(&'static str),
}

impl Bad {
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Empty => "there is no frame",
            Self::Frame(reason) => reason,
        }
    }
}

impl FrameHeader {
    /// Bytes of the frame in its segment.
    pub(crate) fn bytes(&self) -> u64 {
        (self.length as usize).next_multiple_of(FRAME_ALIGN_BYTES) as u64
    }

    fn fixed(&self) -> [u8; FRAME_HEADER_BYTES - 4] {
        let mut out = [0; FRAME_HEADER_BYTES - 4];
        out[..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&self.length.to_le_bytes());
        out[8..16].copy_from_slice(&self.term.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.index.0.to_le_bytes());
        out[24] = self.kind.number();
        out[25] = VERSION;
        out[28..32].copy_from_slice(&self.count.to_le_bytes());
        out[32..40].copy_from_slice(&self.stamp.0.to_le_bytes());
        out[40..].copy_from_slice(&self.records_crc.to_le_bytes());
        out
    }

    fn checksum(&self, owner: &Owner, base: LogPosition) -> u32 {
        header_crc(&self.fixed(), owner, base)
    }

    /// The 48 bytes.
    pub(crate) fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut out = [0; FRAME_HEADER_BYTES];
        out[..FRAME_HEADER_BYTES - 4].copy_from_slice(&self.fixed());
        out[FRAME_HEADER_BYTES - 4..].copy_from_slice(&self.header_crc.to_le_bytes());
        out
    }

    /// Decodes a header and verifies its checksum; the records are another matter.
    pub(crate) fn decode(bytes: &[u8; FRAME_HEADER_BYTES], owner: &Owner, base: LogPosition) -> Result<Self, Bad> {
        let short = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(short(at)) | u64::from(short(at + 4)) << 32;
        match short(0) {
            0 => return Err(Bad::Empty),
            MAGIC => {}
            _ => return Err(Bad::Frame("no frame starts here")),
        }
        let found = short(44);
        if header_crc(&bytes[..44], owner, base) != found {
            return Err(Bad::Frame("the frame's header does not match its checksum"));
        }
        if bytes[25] != VERSION {
            return Err(Bad::Frame("the frame has a version this release does not know"));
        }
        let length = short(4);
        if (length as usize) < FRAME_HEADER_BYTES || length as usize > limits::FRAME_BYTES_MAX {
            return Err(Bad::Frame("the frame's length is out of range"));
        }
        let kind = FrameKind::from_number(bytes[24]).ok_or(Bad::Frame("the frame's kind is not known"))?;
        Ok(Self {
            length,
            term: Term(long(8)),
            index: LogIndex(long(16)),
            kind,
            count: short(28),
            stamp: Timestamp(long(32)),
            records_crc: short(40),
            header_crc: found,
        })
    }

    /// Verifies the records of a frame, every head and body, and the zeros behind them; `rest` is all after the header.
    pub(crate) fn verify_records(&self, rest: &Bytes) -> Result<(), Bad> {
        let records = rest.slice(..self.length as usize - FRAME_HEADER_BYTES);
        if rest[records.len()..].iter().any(|byte| *byte != 0) {
            return Err(Bad::Frame("the frame's padding is not zero"));
        }
        if record::records_crc(&records) != Ok(self.records_crc) {
            return Err(Bad::Frame("the frame's records do not match its checksum"));
        }
        let mut count = 0_u32;
        for range in record::ranges(&records) {
            let range = range.map_err(|_| Bad::Frame("a record's lengths do not fit its frame"))?;
            record::decode(&records.slice(range)).map_err(|_| Bad::Frame("a record does not match its checksums"))?;
            count += 1;
        }
        if count == self.count { Ok(()) } else { Err(Bad::Frame("the frame's count of records is wrong")) }
    }

    /// The frame, its records being the start of `rest`.
    pub(crate) fn frame(&self, rest: &Bytes, location: Location) -> Frame {
        Frame {
            term: self.term,
            index: self.index,
            kind: self.kind,
            stamp: self.stamp,
            count: self.count,
            records_crc: self.records_crc,
            records: rest.slice(..self.length as usize - FRAME_HEADER_BYTES),
            location,
            ticket: None,
        }
    }
}

fn header_crc(fixed: &[u8], owner: &Owner, base: LogPosition) -> u32 {
    crc32c::crc32c_append(owner.crc(fixed), &base.0.to_le_bytes())
}

#[cfg(test)]
mod tests;
