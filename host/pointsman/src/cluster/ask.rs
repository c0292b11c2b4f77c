//! What nodes ask each other as nodes, beside replication and forwarded requests.
//!
//! Postcard both ways. An ask that makes no sense is refused in words; enums grow at the end only.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A question to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// The lowest node to the others: be of this cluster. Answered once the identity is on disk.
    Form(Form),
    /// A node with an empty directory: give me my next life. Answered by the leader of the metadata shard.
    Replace {
        /// Which node.
        node: u32,
        /// It was passed on once; not again.
        passed_on: bool,
    },
    /// A question of the use cases or of the API, in their own encoding.
    Inner(Vec<u8>),
}

/// What the nodes of a new cluster agree upon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Form {
    /// The cluster's uuid.
    pub(crate) cluster: [u8; 16],
    /// Data shards of each node.
    pub(crate) data_shards: u16,
    /// Size of their segment files.
    pub(crate) segment_bytes: u64,
}

/// The answer to [`Ask::Replace`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NextLife {
    /// The cluster's uuid.
    pub(crate) cluster: [u8; 16],
    /// The life that the node begins.
    pub(crate) incarnation: u32,
    /// Data shards of each node.
    pub(crate) data_shards: u16,
    /// Size of their segment files.
    pub(crate) segment_bytes: u64,
}

impl Ask {
    pub(crate) fn encode(&self) -> Bytes {
        encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode(bytes).ok_or_else(|| "the question makes no sense to this release".to_owned())
    }
}

impl NextLife {
    pub(crate) fn encode(&self) -> Bytes {
        encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    // Plain structs and bytes: postcard has nothing to refuse.
    postcard::to_stdvec(value).unwrap_or_default().into()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_understood_and_nothing_else() {
        let form = Form { cluster: [7; 16], data_shards: 3, segment_bytes: 1 << 28 };
        for ask in [Ask::Form(form), Ask::Replace { node: 3, passed_on: true }, Ask::Inner(vec![1, 2])] {
            let bytes = ask.encode();
            assert_eq!(Ask::decode(&bytes), Ok(ask));
            for length in 0..bytes.len() {
                assert!(Ask::decode(&bytes[..length]).is_err(), "{length} bytes");
            }
        }
        let life = NextLife { cluster: [7; 16], incarnation: 2, data_shards: 3, segment_bytes: 1 << 28 };
        assert_eq!(NextLife::decode(&life.encode()), Some(life));
        assert_eq!(NextLife::decode(b"x"), None);
    }
}
