//! The first 4 KiB of a segment: its header, written once, and two watermark slots. `FORMATS.md`, Log.
//!
//! ```text
//! magic "PMSEG\0" | format u16 | cluster 16 bytes | shard u16 | flags u16 | reserved u32 | segment_bytes u64 |
//! base position u64 | base index u64 | predecessor: term u64, index u64, header_crc u32 | crc u32
//! ```
//!
//! A slot says "all before this position was synced". It names the end of the *previous* group commit and is written
//! with the next one, so it is true at any moment. The valid slot with the greater counter wins.

use std::path::Path;

use pointsman_model::ids::{LogIndex, LogPosition, ShardId, Term};

use crate::Error;
use crate::identity::Owner;

/// Bytes before the first frame of a segment.
pub(crate) const HEADER_PAGE_BYTES: u64 = 4_096;
const HEADER_BYTES: usize = 80;
const SLOT_BYTES: usize = 20;
const SLOT_DISTANCE_BYTES: u64 = 512;
const MAGIC: [u8; 6] = *b"PMSEG\0";
const FORMAT: u16 = 1;
const FLAG_HAS_PREDECESSOR: u16 = 1;

const _: () = assert!(HEADER_BYTES as u64 <= SLOT_DISTANCE_BYTES && 3 * SLOT_DISTANCE_BYTES <= HEADER_PAGE_BYTES);

/// The last entry before a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Predecessor {
    pub(crate) term: Term,
    pub(crate) index: LogIndex,
    /// `header_crc` of its frame, which covers its records; 0 if the frame was never here.
    pub(crate) crc: u32,
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The shard's segment size, this page included.
    pub(crate) segment_bytes: u64,
    /// Position of the first frame.
    pub(crate) base: LogPosition,
    /// Index of the first frame.
    pub(crate) base_index: LogIndex,
    /// The last entry before; none for the first of a log.
    pub(crate) previous: Option<Predecessor>,
}

impl SegmentHeader {
    /// The whole page: header, and a first slot that says "nothing of this segment yet".
    pub(crate) fn encode_page(&self, owner: &Owner) -> Vec<u8> {
        let mut out = vec![0; HEADER_PAGE_BYTES as usize];
        let previous = self.previous.unwrap_or(Predecessor { term: Term(0), index: LogIndex(0), crc: 0 });
        let flags = if self.previous.is_some() { FLAG_HAS_PREDECESSOR } else { 0 };
        out[..6].copy_from_slice(&MAGIC);
        out[6..8].copy_from_slice(&FORMAT.to_le_bytes());
        out[8..24].copy_from_slice(&owner.cluster);
        out[24..26].copy_from_slice(&owner.shard.0.to_le_bytes());
        out[26..28].copy_from_slice(&flags.to_le_bytes());
        out[32..40].copy_from_slice(&self.segment_bytes.to_le_bytes());
        out[40..48].copy_from_slice(&self.base.0.to_le_bytes());
        out[48..56].copy_from_slice(&self.base_index.0.to_le_bytes());
        out[56..64].copy_from_slice(&previous.term.0.to_le_bytes());
        out[64..72].copy_from_slice(&previous.index.0.to_le_bytes());
        out[72..76].copy_from_slice(&previous.crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..HEADER_BYTES - 4]);
        out[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        let slot = Watermark { counter: 0, position: self.base };
        let at = slot.offset() as usize;
        out[at..at + SLOT_BYTES].copy_from_slice(&slot.encode(owner, self.base));
        out
    }

    /// Decodes and verifies the header of the file at `path`, which must belong to `owner`.
    ///
    /// # Errors
    /// Damaged, foreign, or newer than this release.
    pub(crate) fn decode(page: &[u8], owner: &Owner, path: &Path) -> Result<Self, Error> {
        let damaged = |reason| Error::DamagedFile { path: path.to_owned(), reason };
        let foreign = |reason| Error::Foreign { path: path.to_owned(), reason };
        let Some(bytes) = page.first_chunk::<HEADER_BYTES>() else {
            return Err(damaged("the segment is shorter than its header"));
        };
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if bytes[..6] != MAGIC {
            return Err(damaged("it does not start like a segment"));
        }
        if crc32c::crc32c(&bytes[..HEADER_BYTES - 4]) != word(HEADER_BYTES - 4) {
            return Err(damaged("the segment's header does not match its checksum"));
        }
        if short(6) > FORMAT {
            return Err(Error::UnknownFormat { path: path.to_owned(), found: short(6), known: FORMAT });
        }
        if bytes[8..24] != owner.cluster {
            return Err(foreign("it is a segment of another cluster"));
        }
        if ShardId(short(24)) != owner.shard {
            return Err(foreign("it is a segment of another shard"));
        }
        let previous = Predecessor { term: Term(long(56)), index: LogIndex(long(64)), crc: word(72) };
        Ok(Self {
            segment_bytes: long(32),
            base: LogPosition(long(40)),
            base_index: LogIndex(long(48)),
            previous: (short(26) & FLAG_HAS_PREDECESSOR != 0).then_some(previous),
        })
    }
}

/// A watermark slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// Greater is newer.
    pub(crate) counter: u64,
    /// All before this position was synced.
    pub(crate) position: LogPosition,
}

impl Watermark {
    /// Where in the file it is written: the slots take turns.
    pub(crate) fn offset(&self) -> u64 {
        SLOT_DISTANCE_BYTES * (1 + self.counter % 2)
    }

    /// The 20 bytes.
    pub(crate) fn encode(&self, owner: &Owner, base: LogPosition) -> [u8; SLOT_BYTES] {
        let mut out = [0; SLOT_BYTES];
        out[..8].copy_from_slice(&self.counter.to_le_bytes());
        out[8..16].copy_from_slice(&self.position.0.to_le_bytes());
        let crc = Self::crc(&out[..16], owner, base);
        out[16..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The newest valid slot of a header page.
    pub(crate) fn newest(page: &[u8], owner: &Owner, base: LogPosition) -> Option<Self> {
        let decode = |at: u64| {
            let bytes = page.get(at as usize..)?.first_chunk::<SLOT_BYTES>()?;
            let long = |at: usize| {
                let mut out = [0; 8];
                out.copy_from_slice(&bytes[at..at + 8]);
                u64::from_le_bytes(out)
            };
            let crc = u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
            (Self::crc(&bytes[..16], owner, base) == crc)
                .then(|| Self { counter: long(0), position: LogPosition(long(8)) })
        };
        let (first, second) = (decode(SLOT_DISTANCE_BYTES), decode(2 * SLOT_DISTANCE_BYTES));
        first.into_iter().chain(second).max_by_key(|slot| slot.counter)
    }

    fn crc(bytes: &[u8], owner: &Owner, base: LogPosition) -> u32 {
        crc32c::crc32c_append(owner.crc(bytes), &base.0.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { cluster: [9; 16], shard: ShardId(4) }
    }

    fn sample() -> SegmentHeader {
        SegmentHeader {
            segment_bytes: 65_536,
            base: LogPosition(123_456),
            base_index: LogIndex(77),
            previous: Some(Predecessor { term: Term(3), index: LogIndex(76), crc: 0xABCD }),
        }
    }

    fn decode(page: &[u8]) -> Result<SegmentHeader, Error> {
        SegmentHeader::decode(page, &owner(), Path::new("segment"))
    }

    #[test]
    fn round_trip() {
        for header in [sample(), SegmentHeader { previous: None, ..sample() }] {
            let page = header.encode_page(&owner());
            assert_eq!(decode(&page).expect("good"), header);
            let slot = Watermark { counter: 0, position: header.base };
            assert_eq!(Watermark::newest(&page, &owner(), header.base), Some(slot));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_found() {
        let page = sample().encode_page(&owner());
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = page.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
        for length in 0..HEADER_BYTES {
            assert!(decode(&page[..length]).is_err(), "length {length}");
        }
        for bit in 0..SLOT_BYTES * 8 {
            let mut bad = page.clone();
            bad[SLOT_DISTANCE_BYTES as usize + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Watermark::newest(&bad, &owner(), sample().base), None, "bit {bit}");
        }
    }

    #[test]
    fn foreign_and_newer_headers_are_refused_by_name() {
        let page = sample().encode_page(&Owner { cluster: [8; 16], ..owner() });
        assert!(matches!(decode(&page), Err(Error::Foreign { .. })));
        let page = sample().encode_page(&Owner { shard: ShardId(5), ..owner() });
        assert!(matches!(decode(&page), Err(Error::Foreign { .. })));
        let mut page = sample().encode_page(&owner());
        page[6] = 2;
        let crc = crc32c::crc32c(&page[..HEADER_BYTES - 4]);
        page[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(decode(&page), Err(Error::UnknownFormat { found: 2, .. })));
    }

    #[test]
    fn the_valid_slot_with_the_greater_counter_wins() {
        let mut page = sample().encode_page(&owner());
        let base = sample().base;
        for counter in 1..=3 {
            let slot = Watermark { counter, position: LogPosition(base.0 + counter * 8) };
            let at = slot.offset() as usize;
            page[at..at + SLOT_BYTES].copy_from_slice(&slot.encode(&owner(), base));
            assert_eq!(Watermark::newest(&page, &owner(), base), Some(slot));
        }
        let newest = Watermark { counter: 3, position: LogPosition(0) }.offset() as usize;
        page[newest] ^= 1;
        assert_eq!(Watermark::newest(&page, &owner(), base).map(|slot| slot.counter), Some(2));
    }
}
