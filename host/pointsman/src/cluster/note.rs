//! What formation has to say in every hello.
//!
//! `version u8 | postcard`. A note of another version, or one that makes no sense, is no note: its node is then not
//! counted on for anything.

use pointsman_model::NodeId;
use serde::{Deserialize, Serialize};

/// The layout that this release writes.
const VERSION: u8 = 1;

/// What a node knows of the cluster that it is in, or would make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Its shards hold a membership: the cluster exists.
    pub(crate) formed: bool,
    /// Every node of that cluster with the life it is in.
    pub(crate) knows: Vec<(u32, u32)>,
    /// Data shards that it has, or would make.
    pub(crate) data_shards: u16,
    /// Size of a segment file of a data shard.
    pub(crate) segment_bytes: u64,
    /// The nodes of its `--peers`.
    pub(crate) lists: Vec<u32>,
}

impl Note {
    pub(crate) fn encode(&self) -> Vec<u8> {
        // A plain struct: postcard has nothing to refuse.
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        match postcard::take_from_bytes(rest) {
            Ok((note, [])) if version == VERSION => Some(note),
            _ => None,
        }
    }

    /// The life in which it knows a node.
    pub(crate) fn incarnation_of(&self, node: NodeId) -> Option<u32> {
        self.knows.iter().find(|(known, _)| *known == node.0).map(|(_, incarnation)| *incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Note {
        Note { formed: true, knows: vec![(1, 0), (70_000, 2)], data_shards: 3, segment_bytes: 1 << 28, lists: vec![1] }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let good = sample().encode();
        assert_eq!(Note::decode(&good), Some(sample()));
        assert_eq!(sample().incarnation_of(NodeId(70_000)), Some(2));
        assert_eq!(sample().incarnation_of(NodeId(2)), None);
        for length in 0..good.len() {
            assert_eq!(Note::decode(&good[..length]), None, "{length} bytes");
        }
        assert_eq!(Note::decode(&[&good[..], &[0]].concat()), None);
        assert_eq!(Note::decode(&[&[VERSION + 1], &good[1..]].concat()), None);
    }

    #[test]
    fn the_largest_cluster_fits_into_a_hello() {
        let knows = vec![(u32::MAX, u32::MAX); pointsman_model::limits::NODES_MAX];
        let lists = vec![u32::MAX; pointsman_model::limits::NODES_MAX];
        let note = Note { formed: true, knows, data_shards: u16::MAX, segment_bytes: u64::MAX, lists };
        assert!(note.encode().len() <= pointsman_model::limits::PEER_NOTE_BYTES_MAX);
    }
}
