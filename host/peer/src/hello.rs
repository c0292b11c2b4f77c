//! The first frame of a connection, each way: who is there. And the refusal that may come instead.
//!
//! Layout, little-endian: `"PMPEER" | lane u8 | has cluster u8 | cluster 16 | node u32 | to u32 | incarnation u32 |
//! protocol_min u16 | protocol_max u16 | feature_level u32 | wall_ms u64`, then the note.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pointsman_model::{NodeId, limits};

use crate::frame::{Broken, VERSION};
use crate::handler::Hello;
use crate::lane::Lane;

const MAGIC: &[u8; 6] = b"PMPEER";
const FIXED_BYTES: usize = 6 + 1 + 1 + 16 + 4 + 4 + 4 + 2 + 2 + 4 + 8;

const _: () = assert!(FIXED_BYTES + limits::PEER_NOTE_BYTES_MAX <= limits::PEER_HELLO_BYTES_MAX);

/// A hello as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) lane: Lane,
    /// Whom the sender takes the other side for.
    pub(crate) to: NodeId,
    /// The oldest and the newest protocol the sender speaks.
    pub(crate) protocols: (u16, u16),
    pub(crate) hello: Hello,
}

impl Greeting {
    /// Our hello. A note that is too long is cut off rather than sent: the other side would close the connection.
    pub(crate) fn ours(lane: Lane, to: NodeId, mut hello: Hello) -> Self {
        if hello.note.len() > limits::PEER_NOTE_BYTES_MAX {
            tracing::error!(note.bytes = hello.note.len(), "the note of our hello is too long and is left out");
            hello.note = Bytes::new();
        }
        Self { lane, to, protocols: (u16::from(VERSION), u16::from(VERSION)), hello }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(FIXED_BYTES + self.hello.note.len());
        bytes.put_slice(MAGIC);
        bytes.put_u8(self.lane.number());
        bytes.put_u8(u8::from(self.hello.cluster.is_some()));
        bytes.put_slice(&self.hello.cluster.unwrap_or_default());
        bytes.put_u32_le(self.hello.node.0);
        bytes.put_u32_le(self.to.0);
        bytes.put_u32_le(self.hello.incarnation);
        bytes.put_u16_le(self.protocols.0);
        bytes.put_u16_le(self.protocols.1);
        bytes.put_u32_le(self.hello.feature_level);
        bytes.put_u64_le(self.hello.wall_ms);
        bytes.put_slice(&self.hello.note);
        bytes.freeze()
    }

    /// Decodes a hello.
    ///
    /// # Errors
    /// [`Broken::Hello`] if it is none.
    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, Broken> {
        if bytes.len() < FIXED_BYTES || bytes.len() > FIXED_BYTES + limits::PEER_NOTE_BYTES_MAX {
            return Err(Broken::Hello);
        }
        if bytes.split_to(MAGIC.len()) != MAGIC[..] {
            return Err(Broken::Hello);
        }
        let lane = Lane::from_number(bytes.get_u8()).ok_or(Broken::Hello)?;
        let has_cluster = bytes.get_u8();
        let mut cluster = [0; 16];
        bytes.copy_to_slice(&mut cluster);
        let cluster = match has_cluster {
            0 if cluster == [0; 16] => None,
            1 => Some(cluster),
            _ => return Err(Broken::Hello),
        };
        let node = NodeId(bytes.get_u32_le());
        let to = NodeId(bytes.get_u32_le());
        let incarnation = bytes.get_u32_le();
        let protocols = (bytes.get_u16_le(), bytes.get_u16_le());
        let feature_level = bytes.get_u32_le();
        let wall_ms = bytes.get_u64_le();
        let hello = Hello { cluster, node, incarnation, feature_level, wall_ms, note: bytes };
        Ok(Self { lane, to, protocols, hello })
    }
}

/// A refusal's words as they are sent: bounded, cut between characters.
pub(crate) fn refusal(reason: &str) -> Bytes {
    let end = reason.floor_char_boundary(limits::PEER_REFUSAL_BYTES_MAX);
    Bytes::copy_from_slice(&reason.as_bytes()[..end])
}

/// A refusal's words as they arrived, fit for a log line.
pub(crate) fn refusal_text(body: &[u8]) -> String {
    let body = &body[..body.len().min(limits::PEER_REFUSAL_BYTES_MAX)];
    String::from_utf8_lossy(body).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
