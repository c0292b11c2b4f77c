//! A membership as bytes: the head of a membership frame's one record, and part of what the state remembers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use pointsman_model::record;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::raft_types::{Membership, RaftNode};

/// Kind of the record in a membership frame. It is no command; `apply` never sees it.
const RECORD_KIND: u8 = 0;

/// As postcard writes it. Fields are added at the end only.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stored {
    /// One set of voters, or two while they change.
    configs: Vec<Vec<u64>>,
    /// Every voter and learner, and where it listens.
    nodes: Vec<(u64, String)>,
}

impl From<&Membership> for Stored {
    fn from(membership: &Membership) -> Self {
        Self {
            configs: membership.get_joint_config().iter().map(|set| set.iter().copied().collect()).collect(),
            nodes: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        }
    }
}

impl Stored {
    /// The membership, checked.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a voter has no node.
    pub(crate) fn into_membership(self) -> Result<Membership, Error> {
        let configs = self.configs.into_iter().map(|set| set.into_iter().collect::<BTreeSet<_>>()).collect();
        let nodes: BTreeMap<_, _> = self.nodes.into_iter().map(|(id, addr)| (id, RaftNode { addr })).collect();
        Membership::new(configs, nodes).map_err(|_| Error::Malformed("a membership contradicts itself"))
    }
}

/// The one record of a membership frame, with its `records_crc`.
///
/// # Errors
/// [`Error::Malformed`] if the membership cannot be encoded.
pub(crate) fn encode_record(membership: &Membership) -> Result<(Bytes, u32), Error> {
    let head = postcard::to_stdvec(&Stored::from(membership)).map_err(|_| Error::Malformed("membership"))?;
    let mut out = BytesMut::new();
    record::encode(&mut out, &record::Header { kind: RECORD_KIND, ..record::Header::default() }, &head, &[]);
    let crc = record::records_crc(&out).map_err(|_| Error::Malformed("membership record"))?;
    Ok((out.freeze(), crc))
}

/// Reads what [`encode_record`] wrote.
///
/// # Errors
/// [`Error::Malformed`] if it is not that.
pub(crate) fn decode_record(records: &Bytes) -> Result<Membership, Error> {
    let record = record::decode(records).map_err(|_| Error::Malformed("membership record"))?;
    let stored: Stored = postcard::from_bytes(&record.head).map_err(|_| Error::Malformed("membership"))?;
    stored.into_membership()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Membership {
        let node = |addr: &str| RaftNode { addr: addr.into() };
        Membership::new(
            vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])],
            BTreeMap::from([(1, node("a:1")), (2, node("")), (3, node("c:3")), (4, node("d:4"))]),
        )
        .expect("valid")
    }

    #[test]
    fn round_trip() {
        let (records, crc) = encode_record(&sample()).expect("encodes");
        assert_eq!(record::records_crc(&records), Ok(crc));
        assert_eq!(decode_record(&records).expect("decodes"), sample());
    }

    /// These bytes lie in logs; they never change.
    #[test]
    fn the_head_is_what_the_reference_says() {
        let (records, _) = encode_record(&sample()).expect("encodes");
        let head = &record::decode(&records).expect("valid").head[..];
        let expected: &[&[u8]] = &[
            &[2, 2, 1, 2, 2, 2, 3],
            &[4],
            &[1, 3, b'a', b':', b'1'],
            &[2, 0],
            &[3, 3, b'c', b':', b'3'],
            &[4, 3, b'd', b':', b'4'],
        ];
        assert_eq!(head, expected.concat());
    }

    #[test]
    fn every_flipped_bit_is_an_error() {
        let (records, _) = encode_record(&sample()).expect("encodes");
        for bit in 0..records.len() * 8 {
            let mut damaged = records.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_record(&damaged.into()).is_err(), "bit {bit}");
        }
    }
}
