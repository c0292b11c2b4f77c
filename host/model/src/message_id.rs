//! The opaque id of a message: `m` + Crockford base32 of 18 bytes.
//!
//! {version u8, shard u16, term u32, index u64, ordinal u16, check u8}, little-endian. The term makes an
//! id unique even when an unreplicated entry is overwritten. The check byte catches typing errors; an id
//! is no secret.

use std::fmt;

use crate::hash::hash;
use crate::ids::{LogIndex, Ordinal, ShardId, Term};

const VERSION: u8 = 1;
const LETTER: char = 'm';
const RAW_BYTES: usize = 18;
const TEXT_CHARS: usize = RAW_BYTES * 8 / 5 + 1;
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Where a message was born: its shard, term, index and ordinal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// The shard whose log holds the message.
    pub shard: ShardId,
    /// The term of the entry; 32 bits in ids.
    pub term: Term,
    /// The index of the entry.
    pub index: LogIndex,
    /// The place of the record in the entry.
    pub ordinal: Ordinal,
}

impl MessageId {
    /// Reads an id as [`fmt::Display`] writes it; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_as(LETTER, text)
    }

    /// The same behind another letter.
    pub(crate) fn parse_as(letter: char, text: &str) -> Option<Self> {
        let raw = decode(text.strip_prefix(letter)?)?;
        let (body, check) = raw.split_at(RAW_BYTES - 1);
        if body[0] != VERSION || check[0] != hash(body) as u8 {
            return None;
        }
        Some(Self {
            shard: ShardId(u16::from_le_bytes([raw[1], raw[2]])),
            term: Term(u64::from(u32::from_le_bytes([raw[3], raw[4], raw[5], raw[6]]))),
            index: LogIndex(u64::from_le_bytes([raw[7], raw[8], raw[9], raw[10], raw[11], raw[12], raw[13], raw[14]])),
            ordinal: Ordinal(u16::from_le_bytes([raw[15], raw[16]])),
        })
    }

    fn raw(self) -> [u8; RAW_BYTES] {
        let mut raw = [0; RAW_BYTES];
        raw[0] = VERSION;
        raw[1..3].copy_from_slice(&self.shard.0.to_le_bytes());
        raw[3..7].copy_from_slice(&(self.term.0 as u32).to_le_bytes());
        raw[7..15].copy_from_slice(&self.index.0.to_le_bytes());
        raw[15..17].copy_from_slice(&self.ordinal.0.to_le_bytes());
        raw[17] = hash(&raw[..17]) as u8;
        raw
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(LETTER, f)
    }
}

impl MessageId {
    /// Writes the id behind an ASCII letter.
    pub(crate) fn fmt_as(self, letter: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; 1 + TEXT_CHARS];
        text[0] = letter as u8;
        let (mut bits, mut held, mut at) = (0_u32, 0, 1);
        for byte in self.raw() {
            bits = bits << 8 | u32::from(byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                text[at] = ALPHABET[(bits >> held & 31) as usize];
                at += 1;
            }
        }
        text[at] = ALPHABET[(bits << (5 - held) & 31) as usize];
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

fn decode(text: &str) -> Option<[u8; RAW_BYTES]> {
    if text.len() != TEXT_CHARS {
        return None;
    }
    let mut raw = [0; RAW_BYTES];
    let (mut bits, mut held, mut at) = (0_u32, 0, 0);
    for c in text.bytes() {
        let value = ALPHABET.iter().position(|a| *a == c)? as u32;
        bits = bits << 5 | value;
        held += 5;
        if held >= 8 {
            held -= 8;
            raw[at] = (bits >> held) as u8;
            at += 1;
        }
    }
    (bits & ((1 << held) - 1) == 0).then_some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> MessageId {
        MessageId { shard: ShardId(3), term: Term(77), index: LogIndex(123_456_789), ordinal: Ordinal(42) }
    }

    #[test]
    fn round_trip() {
        let text = id().to_string();
        assert_eq!(text.len(), 30);
        assert_eq!(MessageId::parse(&text), Some(id()));
    }

    #[test]
    fn every_changed_character_is_refused_or_another_id() {
        let text = id().to_string();
        let mut accepted = 0;
        for at in 1..text.len() {
            for c in ALPHABET {
                let mut other = text.clone().into_bytes();
                other[at] = *c;
                let other = String::from_utf8(other).expect("ascii");
                if other != text {
                    accepted += u32::from(MessageId::parse(&other).is_some());
                    assert_ne!(MessageId::parse(&other), Some(id()));
                }
            }
        }
        assert!(accepted < 20, "{accepted} of 899 changes passed the check byte");
    }

    #[test]
    fn nonsense_is_none() {
        for bad in ["", "m", "x", "mé", "m0000", &"m".repeat(30), &id().to_string().to_uppercase()] {
            assert_eq!(MessageId::parse(bad), None, "{bad}");
        }
    }
}
