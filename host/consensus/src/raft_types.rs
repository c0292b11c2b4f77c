//! The type configuration: what openraft's generics stand for here.
//!
//! openraft is pinned and known to this crate only. Its feature `serde` is off; nothing of it is ever written to disk
//! or wire as it encodes itself.

use std::fmt;

use openraft::impls::leader_id_std;
use pointsman_model::Timestamp;
use pointsman_state_machine::Outcome;

use crate::entry::{Batch, Entry, Payload};
use crate::reply::Reply;

/// Our `RaftTypeConfig`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

/// What a committed and applied entry came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Applied {
    /// Stamp of the entry.
    pub(crate) stamp: Timestamp,
    /// One outcome a record; none for a blank or a membership entry.
    pub(crate) outcomes: Vec<Outcome>,
}

/// `node << 32 | incarnation`: a wiped node comes back under another id (`DESIGN.md` §7).
pub(crate) type RaftNodeId = u64;
/// Where a node listens; empty for a node alone.
pub(crate) type RaftNode = openraft::impls::BasicNode;
/// One leader a term.
pub(crate) type LeaderId = leader_id_std::LeaderId<u64, RaftNodeId>;
/// Term and index.
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
/// A vote.
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
/// A membership.
pub(crate) type Membership = openraft::Membership<RaftNodeId, RaftNode>;
/// A membership and the entry that made it.
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;

impl openraft::RaftTypeConfig for Types {
    type D = Batch;
    type R = Applied;
    type NodeId = RaftNodeId;
    type Node = RaftNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = openraft::Vote<LeaderId>;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = crate::runtime::Runtime;
    type Responder<T>
        = Reply<T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::AnyError;
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} outcomes at {}", self.outcomes.len(), self.stamp)
    }
}

/// The log id of a term and an index.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}
