//! Whether this node may vote: not while its log may be shorter than what it once acknowledged.
//!
//! A start that cut a torn tail cannot tell a write that was never acknowledged from one that was and rotted since. If
//! it was, an entry may be committed on the strength of this node's word and lie on one other node only. A vote for a
//! candidate without it would lose it. So such a node votes for nobody and stands in no election until
//!
//! * a leader of the current term has committed in that term and this log reaches its commit index: then everything
//!   ever committed is here; or
//! * every other voter said how far its log goes, and the candidate's goes as far as the farthest: whatever was
//!   committed with this node's word lies on one of them, so it lies on the candidate too. The other voters must all
//!   be there for that, which is what a power cut of the whole cluster ends in.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::raft_types::{LogId, RaftNodeId};

/// The guard in front of votes, cast and asked for.
#[derive(Debug, Default)]
pub(crate) struct VoteGate(Mutex<Option<Shut>>);

/// Why the gate is shut, and what the others said since.
#[derive(Debug)]
struct Shut {
    reason: &'static str,
    /// The other voters; none before the first round of questions.
    others: Vec<RaftNodeId>,
    /// The last entry of each that said so.
    heard: BTreeMap<RaftNodeId, Option<LogId>>,
}

impl VoteGate {
    /// Shuts the gate; the first reason is kept.
    pub(crate) fn shut(&self, reason: &'static str) {
        self.0.lock().get_or_insert_with(|| Shut { reason, others: Vec::new(), heard: BTreeMap::new() });
    }

    /// Why this node does not vote, if it does not.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        self.0.lock().as_ref().map(|shut| shut.reason)
    }

    /// Whether a candidate whose log ends in `last` may have this node's vote; this node may be the candidate.
    pub(crate) fn may_vote(&self, last: Option<LogId>) -> bool {
        let shut = self.0.lock();
        let Some(shut) = &*shut else { return true };
        let reaches = |other| shut.heard.get(other).is_some_and(|heard| *heard <= last);
        !shut.others.is_empty() && shut.others.iter().all(reaches)
    }

    /// Who the other voters are, before they are asked.
    pub(crate) fn ask(&self, others: Vec<RaftNodeId>) {
        if let Some(shut) = &mut *self.0.lock() {
            shut.others = others;
        }
    }

    /// Another voter's log ends in `last`; the newest word of each counts.
    pub(crate) fn heard(&self, voter: RaftNodeId, last: Option<LogId>) {
        if let Some(shut) = &mut *self.0.lock() {
            shut.heard.insert(voter, last);
        }
    }

    /// A leader's append was accepted: it leads in `term` and has committed up to `committed`; this log ends in `last`.
    pub(crate) fn appended(&self, term: u64, committed: Option<LogId>, last: Option<LogId>) {
        let whole = committed.is_some_and(|committed| committed.leader_id.term == term) && last >= committed;
        if whole {
            self.open("the log is whole again: this node votes");
        }
    }

    /// This node leads, and has committed in its term.
    pub(crate) fn leads(&self) {
        self.open("this node was elected: it votes");
    }

    fn open(&self, why: &'static str) {
        if self.0.lock().take().is_some() {
            tracing::info!(why, "the vote gate is open");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft_types::log_id;

    const OTHERS: [RaftNodeId; 2] = [2 << 32, 3 << 32];

    fn shut() -> VoteGate {
        let gate = VoteGate::default();
        gate.shut("a torn tail was cut");
        gate.ask(OTHERS.to_vec());
        gate
    }

    fn may(gate: &VoteGate, term: u64, index: u64) -> bool {
        gate.may_vote(Some(log_id(term, index)))
    }

    #[test]
    fn an_open_gate_lets_everyone_through() {
        let gate = VoteGate::default();
        assert_eq!(gate.reason(), None);
        assert!(gate.may_vote(None));
    }

    #[test]
    fn a_shut_gate_waits_for_every_other_voter() {
        let gate = shut();
        assert!(!may(&gate, 9, 9));
        gate.heard(OTHERS[0], Some(log_id(1, 5)));
        assert!(!may(&gate, 9, 9), "one of two is silent");
        gate.heard(OTHERS[1], None);
        assert!(may(&gate, 1, 5) && may(&gate, 2, 1));
        assert!(!may(&gate, 1, 4), "the candidate lacks what a voter has");
        assert!(!gate.may_vote(None));
        assert!(gate.reason().is_some(), "nothing proves this log whole yet");
    }

    #[test]
    fn the_newest_word_of_a_voter_counts() {
        let gate = shut();
        gate.heard(OTHERS[0], Some(log_id(1, 7)));
        gate.heard(OTHERS[1], Some(log_id(1, 4)));
        assert!(!may(&gate, 1, 5));
        gate.heard(OTHERS[0], Some(log_id(1, 5)));
        assert!(may(&gate, 1, 5));
    }

    #[test]
    fn only_a_leader_that_committed_in_its_term_opens_it_once_the_log_is_there() {
        let gate = shut();
        gate.appended(3, None, Some(log_id(3, 9)));
        gate.appended(3, Some(log_id(2, 5)), Some(log_id(3, 9)));
        assert!(gate.reason().is_some(), "its commit index is of an older term");
        gate.appended(3, Some(log_id(3, 9)), Some(log_id(3, 8)));
        gate.appended(3, Some(log_id(3, 9)), None);
        assert!(gate.reason().is_some(), "the log does not reach it");
        gate.appended(3, Some(log_id(3, 9)), Some(log_id(3, 9)));
        assert_eq!(gate.reason(), None);
        assert!(gate.may_vote(None));
    }

    #[test]
    fn an_elected_node_votes() {
        let gate = shut();
        gate.leads();
        assert_eq!(gate.reason(), None);
    }

    #[test]
    fn nobody_gets_a_vote_before_the_voters_are_known() {
        let gate = VoteGate::default();
        gate.shut("a torn tail was cut");
        gate.heard(OTHERS[0], None);
        assert!(!may(&gate, 9, 9));
    }
}
