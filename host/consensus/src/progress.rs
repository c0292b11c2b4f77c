//! How far `apply` is: what the state remembers beside its rows, and a checkpoint says of itself.

use bytes::Bytes;
use pointsman_model::{LogIndex, LogPosition, Term, Timestamp};
use pointsman_storage::base::Base;
use pointsman_storage::state;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::membership::Stored;
use crate::raft_types::{LogId, StoredMembership, log_id};

/// The last applied entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Progress {
    pub(crate) term: Term,
    pub(crate) index: LogIndex,
    pub(crate) stamp: Timestamp,
    /// Where its frame ends.
    pub(crate) end: LogPosition,
    /// The last membership applied.
    pub(crate) membership: StoredMembership,
}

/// As postcard writes it. Fields are added at the end only.
#[derive(Serialize, Deserialize)]
struct Meta {
    term: u64,
    stamp: u64,
    end: u64,
    /// Term and index of the membership's entry.
    membership_at: Option<(u64, u64)>,
    membership: Stored,
}

impl Progress {
    pub(crate) fn log_id(&self) -> LogId {
        log_id(self.term.0, self.index.0)
    }

    /// What a log that starts behind this entry must know. Its frame's checksum is not: nobody here has the frame.
    pub(crate) fn base(&self) -> Base {
        Base { term: self.term, index: self.index, end: self.end, stamp: self.stamp, crc: 0 }
    }

    /// The bytes that go with the index.
    ///
    /// # Errors
    /// [`Error::Malformed`] if they cannot be encoded.
    pub(crate) fn meta(&self) -> Result<Bytes, Error> {
        let meta = Meta {
            term: self.term.0,
            stamp: self.stamp.0,
            end: self.end.0,
            membership_at: self.membership.log_id().map(|id| (id.leader_id.term, id.index)),
            membership: Stored::from(self.membership.membership()),
        };
        postcard::to_stdvec(&meta).map(Bytes::from).map_err(|_| Error::Malformed("progress"))
    }

    /// What the state store writes with an entry's rows.
    ///
    /// # Errors
    /// As [`Progress::meta`].
    pub(crate) fn applied(&self) -> Result<state::Applied, Error> {
        Ok(state::Applied { index: self.index, meta: self.meta()? })
    }

    /// Reads what [`Progress::meta`] wrote.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not that.
    pub(crate) fn decode(index: LogIndex, meta: &[u8]) -> Result<Self, Error> {
        let meta: Meta = postcard::from_bytes(meta).map_err(|_| Error::Malformed("progress"))?;
        let at = meta.membership_at.map(|(term, index)| log_id(term, index));
        Ok(Self {
            term: Term(meta.term),
            index,
            stamp: Timestamp(meta.stamp),
            end: LogPosition(meta.end),
            membership: StoredMembership::new(at, meta.membership.into_membership()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft_types::{Membership, RaftNode};

    /// These bytes lie in states and checkpoints; they never change.
    #[test]
    fn the_bytes_are_what_the_reference_says() {
        let progress = Progress {
            term: Term(3),
            index: LogIndex(9),
            stamp: Timestamp(5),
            end: LogPosition(300),
            membership: StoredMembership::new(Some(log_id(1, 2)), Membership::default()),
        };
        let meta = progress.meta().expect("encodes");
        assert_eq!(meta[..], [3, 5, 0xAC, 2, 1, 1, 2, 0, 0]);
    }

    #[test]
    fn round_trip() {
        let voters = std::collections::BTreeSet::from([7]);
        let nodes = std::collections::BTreeMap::from([(7, RaftNode { addr: "a:1".into() })]);
        let membership = Membership::new(vec![voters], nodes).expect("valid");
        for membership in [StoredMembership::default(), StoredMembership::new(Some(log_id(0, 0)), membership)] {
            let progress = Progress {
                term: Term(3),
                index: LogIndex(9),
                stamp: Timestamp(1 << 40),
                end: LogPosition(4_096),
                membership,
            };
            let meta = progress.meta().expect("encodes");
            assert_eq!(Progress::decode(LogIndex(9), &meta).expect("decodes"), progress);
            for length in 0..meta.len() {
                assert!(Progress::decode(LogIndex(9), &meta[..length]).is_err(), "{length} bytes");
            }
        }
    }
}
