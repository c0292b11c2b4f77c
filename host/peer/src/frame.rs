//! A frame: what travels between nodes.
//!
//! Layout, little-endian: `length u32 | crc u32 | kind u8 | version u8 | flags u16 | shard u16 | reserved u16 |
//! session u32 | sequence u32`, then `length` bytes. The checksum covers everything behind itself.
//! Reading is in [`read`], writing in [`mod@write`].

pub(crate) mod read;
pub(crate) mod write;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use pointsman_model::ShardId;

/// Bytes before a frame's body.
pub(crate) const HEADER_BYTES: usize = 24;
/// The version of the frames and the only one there is.
pub(crate) const VERSION: u8 = 1;
/// Flag: the last frame of this side of a session.
pub(crate) const END: u16 = 1;
/// Flag: the body is a refusal in words.
pub(crate) const REFUSED: u16 = 2;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Hello,
    Append,
    Reply,
    Control,
    Bulk,
    Forward,
    ForwardReply,
    ForwardChunk,
    Cancel,
    Credit,
    Node,
    Refusal,
    Ping,
    Pong,
    AppendEnd,
}

impl Kind {
    const ALL: [Self; 15] = [
        Self::Hello,
        Self::Append,
        Self::Reply,
        Self::Control,
        Self::Bulk,
        Self::Forward,
        Self::ForwardReply,
        Self::ForwardChunk,
        Self::Cancel,
        Self::Credit,
        Self::Node,
        Self::Refusal,
        Self::Ping,
        Self::Pong,
        Self::AppendEnd,
    ];

    /// Its number on the wire: from 1, in the order above.
    fn number(self) -> u8 {
        self as u8 + 1
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// Everything in a frame's header but its length and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) flags: u16,
    pub(crate) shard: ShardId,
    pub(crate) session: u32,
    pub(crate) sequence: u32,
}

impl Head {
    pub(crate) fn new(kind: Kind, session: u32) -> Self {
        Self { kind, flags: 0, shard: ShardId(0), session, sequence: 0 }
    }

    pub(crate) fn of_shard(self, shard: ShardId) -> Self {
        Self { shard, ..self }
    }

    pub(crate) fn at(self, sequence: u32) -> Self {
        Self { sequence, ..self }
    }

    pub(crate) fn flagged(self, flag: u16) -> Self {
        Self { flags: self.flags | flag, ..self }
    }

    pub(crate) fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The header of a frame with these pieces as its body.
    fn encode(self, pieces: &[Bytes]) -> [u8; HEADER_BYTES] {
        let length: usize = pieces.iter().map(Bytes::len).sum();
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        assert!(length < u32::MAX, "bodies are bounded where they are taken");
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        bytes[8] = self.kind.number();
        bytes[9] = VERSION;
        bytes[10..12].copy_from_slice(&self.flags.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.shard.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.session.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.sequence.to_le_bytes());
        let crc = pieces.iter().fold(crc32c::crc32c(&bytes[8..]), |crc, piece| crc32c::crc32c_append(crc, piece));
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// A header as it arrived; its checksum is not yet verified, for the body is not yet there.
#[derive(Clone, Copy, Debug)]
struct Announced {
    head: Head,
    length: usize,
    crc: u32,
}

impl Announced {
    /// Decodes a header.
    ///
    /// # Errors
    /// Everything that shows that this is no frame of ours, so that garbage is found before its "length" has arrived.
    fn decode(bytes: &[u8; HEADER_BYTES], length_max: usize) -> Result<Self, Broken> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let length = u32_at(0) as usize;
        if length > length_max {
            return Err(Broken::TooLong { length, length_max });
        }
        let kind = Kind::from_number(bytes[8]).ok_or(Broken::Kind(bytes[8]))?;
        if bytes[9] != VERSION {
            return Err(Broken::Version(bytes[9]));
        }
        let flags = u16_at(10);
        if flags & !(END | REFUSED) != 0 || u16_at(14) != 0 {
            return Err(Broken::Reserved);
        }
        let head = Head { kind, flags, shard: ShardId(u16_at(12)), session: u32_at(16), sequence: u32_at(20) };
        Ok(Self { head, length, crc: u32_at(4) })
    }

    /// Whether header and body are what was sent.
    fn verify(&self, header: &[u8; HEADER_BYTES], body: &[u8]) -> Result<(), Broken> {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[8..]), body);
        if crc == self.crc { Ok(()) } else { Err(Broken::Checksum) }
    }
}

/// A frame that arrived and whose checksum holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

/// Why what arrived is not a frame, or none that may come here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("a frame of {length} bytes, at most {length_max} are allowed")]
    TooLong { length: usize, length_max: usize },
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    #[error("a frame of version {0}")]
    Version(u8),
    #[error("a frame with reserved bits")]
    Reserved,
    #[error("a frame with a wrong checksum")]
    Checksum,
    #[error("a hello that cannot be read")]
    Hello,
    #[error("a frame that has no place here: {0}")]
    Rule(&'static str),
}
