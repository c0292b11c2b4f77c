//! What replicas of a shard say to each other for Raft, as bytes.
//!
//! The first byte tells the kind: [`APPEND`] is [`super::append`]'s, [`ASK`] is everything else: postcard, and behind it
//! the bytes of a piece of a checkpoint. Every request names both replicas by openraft's ids, lives included, so that
//! nothing reaches the next life of a node that was replaced.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::raft_types::{LeaderId, LogId, RaftNodeId, Vote, log_id};

/// First byte of an append: entries, a commit index, or a heartbeat.
pub(crate) const APPEND: u8 = 1;
/// First byte of an [`Envelope`].
pub(crate) const ASK: u8 = 2;

/// Term and index of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place(u64, u64);

impl From<LogId> for Place {
    fn from(id: LogId) -> Self {
        Self(id.leader_id.term, id.index)
    }
}

impl From<Place> for LogId {
    fn from(Place(term, index): Place) -> Self {
        log_id(term, index)
    }
}

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireVote {
    term: u64,
    node: RaftNodeId,
    committed: bool,
}

impl From<&Vote> for WireVote {
    fn from(vote: &Vote) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
    }
}

impl From<WireVote> for Vote {
    fn from(vote: WireVote) -> Self {
        Self { leader_id: LeaderId { term: vote.term, voted_for: vote.node }, committed: vote.committed }
    }
}

/// A request, with who asks whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) from: RaftNodeId,
    pub(crate) to: RaftNodeId,
    pub(crate) ask: Ask,
}

/// What a candidate says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Candidate {
    pub(crate) vote: WireVote,
    /// The end of its log.
    pub(crate) last: Option<Place>,
    /// The leader asked it to stand.
    pub(crate) transfer: bool,
}

/// A request. Variants are added at the end only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// A vote, to be cast.
    Vote(Candidate),
    /// Whether a vote would be cast.
    PreVote(Candidate),
    /// A leader hands over.
    Transfer {
        /// Who leads.
        from: WireVote,
        /// Who is to lead.
        to: RaftNodeId,
        /// What the successor must have.
        last: Option<Place>,
    },
    /// The index that a fresh read has to wait for.
    ReadIndex,
    /// A checkpoint is about to come in pieces.
    CheckpointBegin(CheckpointId),
    /// A piece of it: the bytes behind the envelope, from this offset on.
    CheckpointPiece {
        /// Of which.
        of: CheckpointId,
        /// Where the piece belongs.
        offset: u64,
    },
    /// All pieces are there.
    CheckpointInstall {
        /// Of which.
        of: CheckpointId,
        /// The leader's.
        vote: WireVote,
    },
    /// Whether this replica would take over leadership.
    MayLead,
}

/// A checkpoint file, the same on every replica that has one of this entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckpointId {
    /// The entry it is the state of.
    pub(crate) at: Place,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Hash of the file.
    pub(crate) fingerprint: u64,
}

/// An answer. Variants are added at the end only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// To an append: everything up to here is durable there.
    Matched(Option<Place>),
    /// To an append: what it follows is not there.
    Conflict(Option<Place>),
    /// To an append: another leader is known.
    HigherVote(WireVote),
    /// To a candidate.
    Voted {
        /// The vote held there.
        vote: WireVote,
        /// Whether it is the candidate's.
        granted: bool,
        /// The end of the log there.
        last: Option<Place>,
    },
    /// To a transfer and to [`Ask::MayLead`]: whether the successor may stand.
    Transferring(bool),
    /// To [`Ask::ReadIndex`]; `None` if no quorum confirmed that this node leads.
    ReadAt(Option<u64>),
    /// To begin and pieces of a checkpoint: so many bytes of it are there.
    Have(u64),
    /// To [`Ask::CheckpointInstall`]: the vote held there.
    Installed(WireVote),
    /// To an append on a stream: not served, in words.
    Refused(String),
}

impl Envelope {
    /// The request, and behind it what goes with it.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it cannot be encoded.
    pub(crate) fn encode(&self, piece: Option<Bytes>) -> Result<Vec<Bytes>, Error> {
        let head = postcard::to_extend(self, vec![ASK]).map_err(|_| Error::Malformed("a request"))?;
        Ok(std::iter::once(head.into()).chain(piece).collect())
    }

    /// Reads what [`Envelope::encode`] wrote.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not that.
    pub(crate) fn decode(request: &Bytes) -> Result<(Self, Bytes), Error> {
        let malformed = || Error::Malformed("a request of another node");
        let body = request.strip_prefix(&[ASK]).ok_or_else(malformed)?;
        let (envelope, rest) = postcard::take_from_bytes(body).map_err(|_| malformed())?;
        Ok((envelope, request.slice(request.len() - rest.len()..)))
    }
}

impl Answer {
    /// As bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it cannot be encoded.
    pub(crate) fn encode(&self) -> Result<Bytes, Error> {
        postcard::to_stdvec(self).map(Bytes::from).map_err(|_| Error::Malformed("an answer"))
    }

    /// Reads what [`Answer::encode`] wrote.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not that.
    pub(crate) fn decode(answer: &[u8]) -> Result<Self, Error> {
        decode(answer, "an answer of another node")
    }
}

/// Reads postcard that must end where the bytes end.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, Error> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(Error::Malformed(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Envelope> {
        let vote = WireVote { term: 7, node: 2 << 32, committed: true };
        let candidate = Candidate { vote, last: Some(Place(6, 90)), transfer: false };
        let of = CheckpointId { at: Place(3, 80), bytes: 1 << 33, fingerprint: u64::MAX };
        let asks = [
            Ask::Vote(candidate),
            Ask::PreVote(Candidate { last: None, transfer: true, ..candidate }),
            Ask::Transfer { from: vote, to: 3 << 32, last: None },
            Ask::ReadIndex,
            Ask::CheckpointBegin(of),
            Ask::CheckpointPiece { of, offset: 4_096 },
            Ask::CheckpointInstall { of, vote },
            Ask::MayLead,
        ];
        asks.into_iter().map(|ask| Envelope { from: 1 << 32, to: (2 << 32) + 1, ask }).collect()
    }

    #[test]
    fn requests_come_back_with_what_goes_with_them() {
        for envelope in samples() {
            for piece in [None, Some(Bytes::from_static(b"piece"))] {
                let bytes: Bytes = envelope.encode(piece.clone()).expect("encodes").concat().into();
                let (decoded, rest) = Envelope::decode(&bytes).expect("decodes");
                assert_eq!((decoded, rest), (envelope.clone(), piece.unwrap_or_default()));
            }
        }
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic() {
        for envelope in samples() {
            let bytes: Bytes = envelope.encode(None).expect("encodes").concat().into();
            for length in 0..bytes.len() {
                assert!(Envelope::decode(&bytes.slice(..length)).is_err(), "{length} bytes of {envelope:?}");
            }
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let _ = Envelope::decode(&flipped.into());
            }
        }
        for answer in [Answer::Matched(Some(Place(1, 2))), Answer::Have(9), Answer::Refused("no".into())] {
            let bytes = answer.encode().expect("encodes");
            assert_eq!(Answer::decode(&bytes).expect("decodes"), answer);
            assert!(Answer::decode(&[&bytes[..], b"x"].concat()).is_err(), "something behind {answer:?}");
        }
    }
}
