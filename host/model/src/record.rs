//! One record of a log frame, the unit a reader verifies by itself. `FORMATS.md`, Log.
//!
//! ```text
//! length u32 | head_crc u32 | body_crc u32 | kind u8 | version u8 | flags u16 | tenant u32 | topic u32 | queue u16 |
//! priority u8 | reserved u8 | generation u32 | born u64 | head_len u32 | body_len u32 | head (postcard) | body
//! ```
//!
//! `length` counts the whole record. `head_crc` covers header (from `body_crc` on) and head, so a filter reads
//! and verifies a head without touching the body. `body_crc` covers the body.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ids::{Generation, QueueId, TenantId, TopicId};
use crate::time::Timestamp;

/// Bytes of a log frame before its first record.
pub const FRAME_HEADER_BYTES: u64 = 48;
/// Bytes of a record before its head.
pub const HEADER_BYTES: usize = 48;
/// The layout this code writes.
pub const VERSION: u8 = 1;
/// This record and the next belong to one unit: all applied or none.
pub const FLAG_UNIT_CONTINUES: u16 = 1;
/// This record is another target of the message before it: a duplicate if that one is.
pub const FLAG_SAME_MESSAGE: u16 = 2;

/// The fixed part of a record that is not a length or a checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Which command this is; see [`kind`].
    pub kind: u8,
    /// [`FLAG_UNIT_CONTINUES`] and [`FLAG_SAME_MESSAGE`].
    pub flags: u16,
    /// Whose it is.
    pub tenant: TenantId,
    /// The topic, or 0.
    pub topic: TopicId,
    /// The queue the leader chose, or 0.
    pub queue: QueueId,
    /// Priority of the message, 0 to 9.
    pub priority: u8,
    /// The generation of topic or group under which the leader decided.
    pub generation: Generation,
    /// When the producer's call arrived.
    pub born: Timestamp,
}

pub mod kind;

/// A record whose checksums hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The fixed part.
    pub header: Header,
    /// The command's own postcard bytes.
    pub head: Bytes,
    /// The payload.
    pub body: Bytes,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Fewer bytes than the lengths say, or lengths that contradict each other.
    #[error("a record's lengths do not fit its bytes")]
    Truncated,
    /// Header or head do not match their checksum.
    #[error("a record's head does not match its checksum")]
    HeadChecksum,
    /// The body does not match its checksum.
    #[error("a record's body does not match its checksum")]
    BodyChecksum,
    /// Written by a newer release.
    #[error("a record has version {0}, which this release does not know")]
    UnknownVersion(u8),
}

/// Appends one record and returns its length in bytes.
pub fn encode(out: &mut BytesMut, header: &Header, head: &[u8], body: &[u8]) -> usize {
    let length = HEADER_BYTES + head.len() + body.len();
    let start = out.len();
    out.reserve(length);
    out.put_u32_le(length as u32);
    out.put_u32_le(0);
    out.put_u32_le(crc32c::crc32c(body));
    out.put_u8(header.kind);
    out.put_u8(VERSION);
    out.put_u16_le(header.flags);
    out.put_u32_le(header.tenant.0);
    out.put_u32_le(header.topic.0);
    out.put_u16_le(header.queue.0);
    out.put_u8(header.priority);
    out.put_u8(0);
    out.put_u32_le(header.generation.0);
    out.put_u64_le(header.born.0);
    out.put_u32_le(head.len() as u32);
    out.put_u32_le(body.len() as u32);
    out.put_slice(head);
    let head_crc = crc32c::crc32c(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&head_crc.to_le_bytes());
    out.put_slice(body);
    length
}

/// The length of the record that starts here, if the bytes hold all of it.
#[must_use]
pub fn length_at(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    (length >= HEADER_BYTES && length <= bytes.len()).then_some(length)
}

/// Decodes the record at the start of `bytes`, verifying header and head but not the body.
///
/// # Errors
/// Any [`Error`] but [`Error::BodyChecksum`]; no length is trusted before it fits.
pub fn decode_head(bytes: &Bytes) -> Result<Record, Error> {
    let length = length_at(bytes).ok_or(Error::Truncated)?;
    let mut fixed = &bytes[4..HEADER_BYTES];
    let head_crc = fixed.get_u32_le();
    let _body_crc = fixed.get_u32_le();
    let kind = fixed.get_u8();
    let version = fixed.get_u8();
    let flags = fixed.get_u16_le();
    let tenant = TenantId(fixed.get_u32_le());
    let topic = TopicId(fixed.get_u32_le());
    let queue = QueueId(fixed.get_u16_le());
    let priority = fixed.get_u8();
    let _reserved = fixed.get_u8();
    let generation = Generation(fixed.get_u32_le());
    let born = Timestamp(fixed.get_u64_le());
    let head_len = fixed.get_u32_le() as usize;
    let body_len = fixed.get_u32_le() as usize;
    if HEADER_BYTES.checked_add(head_len).and_then(|n| n.checked_add(body_len)) != Some(length) {
        return Err(Error::Truncated);
    }
    let body_at = HEADER_BYTES + head_len;
    if crc32c::crc32c(&bytes[8..body_at]) != head_crc {
        return Err(Error::HeadChecksum);
    }
    if version != VERSION {
        return Err(Error::UnknownVersion(version));
    }
    Ok(Record {
        header: Header { kind, flags, tenant, topic, queue, priority, generation, born },
        head: bytes.slice(HEADER_BYTES..body_at),
        body: bytes.slice(body_at..length),
    })
}

/// Decodes and verifies the whole record at the start of `bytes`.
///
/// # Errors
/// Any [`Error`].
pub fn decode(bytes: &Bytes) -> Result<Record, Error> {
    let record = decode_head(bytes)?;
    let body_crc = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    if crc32c::crc32c(&record.body) == body_crc { Ok(record) } else { Err(Error::BodyChecksum) }
}

/// The byte ranges of the records that lie one after another in `records`.
pub fn ranges(records: &[u8]) -> impl Iterator<Item = Result<std::ops::Range<usize>, Error>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= records.len() {
            return None;
        }
        let start = at;
        match length_at(&records[start..]) {
            Some(length) => {
                at += length;
                Some(Ok(start..at))
            }
            None => {
                at = records.len();
                Some(Err(Error::Truncated))
            }
        }
    })
}

/// The `records_crc` of a frame: crc32c over every record's length and two checksums.
///
/// # Errors
/// [`Error::Truncated`] if the bytes are not whole records.
pub fn records_crc(records: &[u8]) -> Result<u32, Error> {
    let mut crc = 0;
    for range in ranges(records) {
        let range = range?;
        crc = records_crc_append(crc, &records[range]);
    }
    Ok(crc)
}

/// The `records_crc` after one more record, which must be whole.
#[must_use]
pub fn records_crc_append(crc: u32, record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, &record[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Header, BytesMut) {
        let header = Header {
            kind: kind::PUBLISH,
            flags: FLAG_UNIT_CONTINUES,
            tenant: TenantId(7),
            topic: TopicId(8),
            queue: QueueId(3),
            priority: 9,
            generation: Generation(11),
            born: Timestamp(1_700_000_000_000),
        };
        let mut out = BytesMut::new();
        encode(&mut out, &header, b"head", b"the body");
        (header, out)
    }

    #[test]
    fn round_trip() {
        let (header, bytes) = sample();
        let record = decode(&bytes.freeze()).expect("valid");
        assert_eq!((record.header, &record.head[..], &record.body[..]), (header, &b"head"[..], &b"the body"[..]));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_an_error() {
        let (_, bytes) = sample();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged.freeze()).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes.clone().freeze().slice(..length)).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_damaged_body_leaves_the_head_readable() {
        let (_, mut bytes) = sample();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let bytes = bytes.freeze();
        assert!(decode_head(&bytes).is_ok());
        assert_eq!(decode(&bytes), Err(Error::BodyChecksum));
    }

    #[test]
    fn ranges_walk_all_records() {
        let (header, mut bytes) = sample();
        let first = bytes.len();
        encode(&mut bytes, &header, b"", b"x");
        let found: Result<Vec<_>, _> = ranges(&bytes).collect();
        assert_eq!(found.expect("whole"), vec![0..first, first..bytes.len()]);
        bytes.truncate(bytes.len() - 1);
        assert_eq!(records_crc(&bytes), Err(Error::Truncated));
    }
}
