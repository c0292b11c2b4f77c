//! Bytes of a checkpoint file: header, blocks, trailer. Layout: `docs/reference/disk-format.md`.

use bytes::{Buf, BufMut, Bytes};
use pointsman_model::{LogIndex, Term};

use super::{META_BYTES_MAX, Meta};
use crate::identity::Owner;

const MAGIC: [u8; 6] = *b"PMCHKP";
const TRAILER_MAGIC: [u8; 8] = *b"PMCHKEND";
pub(super) const FORMAT: u16 = 1;
/// Bytes of the header before `extra`.
pub(super) const HEADER_BYTES: usize = 32;
/// Bytes before the items of a block: length, checksum.
pub(super) const BLOCK_HEADER_BYTES: usize = 8;
/// Items are collected up to here; a block with one long item is longer.
pub(super) const BLOCK_BYTES_TARGET: usize = 64 << 10;
pub(super) const TRAILER_BYTES: usize = 32;
/// Bytes before the key of an item: its length and that of the value.
pub(super) const ITEM_HEADER_BYTES: usize = 6;

/// Header and `extra`.
pub(super) fn encode_header(owner: &Owner, meta: &Meta) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + meta.extra.len());
    out.put_slice(&MAGIC);
    out.put_u16_le(FORMAT);
    out.put_u64_le(meta.term.0);
    out.put_u64_le(meta.index.0);
    out.put_u32_le(meta.extra.len() as u32);
    out.put_slice(&meta.extra);
    let crc = owner.crc(&out);
    // The checksum stands before `extra`, so that the fixed part has one length.
    let extra_at = HEADER_BYTES - 4;
    out.splice(extra_at..extra_at, crc.to_le_bytes());
    out
}

/// What is wrong with a header.
pub(super) enum BadHeader {
    Damaged(&'static str),
    Format(u16),
}

/// Length of `extra`, from the fixed part; to be trusted only to read it.
pub(super) fn extra_bytes(fixed: &[u8; HEADER_BYTES]) -> Result<usize, BadHeader> {
    if fixed[..6] != MAGIC {
        return Err(BadHeader::Damaged("it does not start as a checkpoint"));
    }
    let mut rest = &fixed[24..];
    let extra = rest.get_u32_le() as usize;
    if extra > META_BYTES_MAX { Err(BadHeader::Damaged("its header is too long")) } else { Ok(extra) }
}

/// The header, verified.
pub(super) fn decode_header(owner: &Owner, fixed: &[u8; HEADER_BYTES], extra: &[u8]) -> Result<Meta, BadHeader> {
    let signed = [&fixed[..HEADER_BYTES - 4], extra].concat();
    if owner.crc(&signed).to_le_bytes()[..] != fixed[HEADER_BYTES - 4..] {
        return Err(BadHeader::Damaged("its header does not match its checksum"));
    }
    let mut rest = &fixed[6..];
    let format = rest.get_u16_le();
    if format != FORMAT {
        return Err(BadHeader::Format(format));
    }
    let term = Term(rest.get_u64_le());
    let index = LogIndex(rest.get_u64_le());
    Ok(Meta { term, index, extra: Bytes::copy_from_slice(extra) })
}

/// Checksum of a block: its number and the length are part of it.
pub(super) fn block_crc(owner: &Owner, number: u64, items: &[u8]) -> u32 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&number.to_le_bytes());
    place[8..].copy_from_slice(&(items.len() as u64).to_le_bytes());
    crc32c::crc32c_append(owner.crc(&place), items)
}

/// Appends one item to a block.
pub(super) fn encode_item(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.put_u16_le(key.len() as u16);
    out.put_u32_le(value.len() as u32);
    out.put_slice(key);
    out.put_slice(value);
}

/// Takes one item off a block, or `None` if its lengths do not fit.
pub(super) fn decode_item(block: &mut Bytes) -> Option<(Bytes, Bytes)> {
    let mut lengths = block.get(..ITEM_HEADER_BYTES)?;
    let key = usize::from(lengths.get_u16_le());
    let value = lengths.get_u32_le() as usize;
    if block.len() - ITEM_HEADER_BYTES < key.checked_add(value)? {
        return None;
    }
    block.advance(ITEM_HEADER_BYTES);
    let key = block.split_to(key);
    Some((key, block.split_to(value)))
}

/// What ends the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) items: u64,
    /// xxh3-64 of everything before the trailer.
    pub(super) fingerprint: u64,
}

impl Trailer {
    /// The trailer; its first four bytes are a block length of zero, which no block has.
    pub(super) fn encode(self, owner: &Owner) -> [u8; TRAILER_BYTES] {
        let mut out = [0; TRAILER_BYTES];
        out[4..12].copy_from_slice(&TRAILER_MAGIC);
        out[12..20].copy_from_slice(&self.items.to_le_bytes());
        out[20..28].copy_from_slice(&self.fingerprint.to_le_bytes());
        let crc = owner.crc(&out[..28]);
        out[28..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8; TRAILER_BYTES], owner: &Owner) -> Option<Self> {
        let mut rest = &bytes[12..];
        let trailer = Self { items: rest.get_u64_le(), fingerprint: rest.get_u64_le() };
        (trailer.encode(owner) == *bytes).then_some(trailer)
    }
}
