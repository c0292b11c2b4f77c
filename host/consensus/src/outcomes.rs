//! Hashes of outcomes, exchanged so that a replica that came to other outcomes is found and fenced.
//!
//! `apply` is a pure function of the log, so at one index every replica has one outcome hash. A replica remembers the hash
//! at every multiple of [`EVERY`] entries, the last few of them, and asks the others for theirs.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use pointsman_model::LogIndex;

use crate::raft_types::RaftNodeId;

/// Entries from one remembered hash to the next.
pub(crate) const EVERY: u64 = 4_096;
/// Hashes remembered: replicas further apart than this compare later.
const REMEMBERED_MAX: usize = 64;

/// What this replica came to.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    known: Mutex<VecDeque<(u64, u64)>>,
    #[cfg(test)]
    pub(crate) bent: tests::Bent,
}

/// What the comparison says of this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nobody contradicts it, or those who do are not trusted.
    Fine,
    /// Somebody contradicts it, and a voter that has not answered decides who is right.
    Doubt {
        /// Where.
        index: u64,
    },
    /// More than half of the voters agree on another hash.
    Differs {
        /// Where.
        index: u64,
    },
    /// No hash has more than half of the voters behind it, and no missing answer could change that.
    Undecided {
        /// Where.
        index: u64,
    },
}

impl Outcomes {
    /// An entry was applied, and the running hash is now `hash`.
    pub(crate) fn applied(&self, index: LogIndex, hash: u64) {
        #[cfg(test)]
        let (index, hash) = self.bent.bend(index, hash);
        if !index.0.is_multiple_of(EVERY) {
            return;
        }
        let mut known = self.known.lock();
        known.push_back((index.0, hash));
        if known.len() > REMEMBERED_MAX {
            known.pop_front();
        }
    }

    /// Index and hash of what is remembered, ascending.
    pub(crate) fn known(&self) -> Vec<(u64, u64)> {
        self.known.lock().iter().copied().collect()
    }
}

/// Compares what this replica knows with what other voters said. `voters` counts all voters, this one included.
///
/// The newest index at which this one differs from anybody decides: a hash is running, so who differs once differs ever
/// after, restarts included. On a tie nobody is fenced while a silent voter may decide it: one against one says nothing
/// of who is right. When no answer can decide it any more, all are.
pub(crate) fn judge(mine: &[(u64, u64)], others: &BTreeMap<RaftNodeId, Vec<(u64, u64)>>, voters: usize) -> Verdict {
    for (index, hash) in mine.iter().rev() {
        let said: Vec<u64> = others
            .values()
            .filter_map(|known| known.iter().find(|(at, _)| at == index).map(|(_, hash)| *hash))
            .collect();
        if said.iter().all(|other| other == hash) {
            continue;
        }
        let mut votes: BTreeMap<u64, usize> = BTreeMap::from([(*hash, 1)]);
        for other in &said {
            *votes.entry(*other).or_default() += 1;
        }
        let silent = voters.saturating_sub(1 + said.len());
        let majority = voters / 2 + 1;
        return match votes.iter().max_by_key(|(_, count)| **count) {
            Some((most, count)) if *count >= majority && most != hash => Verdict::Differs { index: *index },
            Some((_, count)) if *count >= majority => Verdict::Fine,
            Some((_, count)) if count + silent < majority => Verdict::Undecided { index: *index },
            _ => Verdict::Doubt { index: *index },
        };
    }
    Verdict::Fine
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    /// A seam: `apply` that comes to something else on one node, and entries that count more than once.
    #[derive(Debug, Default)]
    pub(crate) struct Bent {
        pub(crate) often: AtomicBool,
        pub(crate) wrong: AtomicU64,
    }

    impl Bent {
        pub(super) fn bend(&self, index: LogIndex, hash: u64) -> (LogIndex, u64) {
            let times = if self.often.load(Ordering::Relaxed) { EVERY / 16 } else { 1 };
            (LogIndex(index.0 * times), hash ^ self.wrong.load(Ordering::Relaxed))
        }
    }

    fn judged(mine: &[(u64, u64)], others: &[&[(u64, u64)]], voters: usize) -> Verdict {
        let others = others.iter().zip(1..).map(|(known, id)| (id << 32, known.to_vec())).collect();
        judge(mine, &others, voters)
    }

    #[test]
    fn hashes_are_remembered_at_multiples_and_the_oldest_go() {
        let outcomes = Outcomes::default();
        for index in 1..=EVERY * 70 {
            outcomes.applied(LogIndex(index), index * 3);
        }
        let known = outcomes.known();
        assert_eq!(known.len(), REMEMBERED_MAX);
        assert_eq!(known.first(), Some(&(EVERY * 7, EVERY * 21)));
        assert_eq!(known.last(), Some(&(EVERY * 70, EVERY * 210)));
    }

    #[test]
    fn equal_hashes_and_no_answers_are_fine() {
        assert_eq!(judged(&[(4096, 1)], &[], 3), Verdict::Fine);
        assert_eq!(judged(&[(4096, 1)], &[&[(4096, 1)], &[(8192, 5)]], 3), Verdict::Fine);
        assert_eq!(judged(&[], &[&[(4096, 1)], &[(4096, 2)]], 3), Verdict::Fine);
    }

    #[test]
    fn who_differs_from_the_majority_is_the_one_that_differs() {
        assert_eq!(judged(&[(4096, 1)], &[&[(4096, 2)], &[(4096, 2)]], 3), Verdict::Differs { index: 4096 });
        assert_eq!(judged(&[(4096, 2)], &[&[(4096, 1)], &[(4096, 2)]], 3), Verdict::Fine, "one of the majority");
    }

    #[test]
    fn one_against_one_says_nothing_while_the_third_is_silent() {
        assert_eq!(judged(&[(4096, 1)], &[&[(4096, 2)]], 3), Verdict::Doubt { index: 4096 });
        assert_eq!(judged(&[(4096, 1)], &[&[(4096, 2)], &[]], 3), Verdict::Doubt { index: 4096 });
        assert_eq!(judged(&[(4096, 1)], &[&[(4096, 2)]], 2), Verdict::Undecided { index: 4096 });
    }

    #[test]
    fn three_that_all_differ_are_undecided() {
        assert_eq!(judged(&[(4096, 1)], &[&[(4096, 2)], &[(4096, 3)]], 3), Verdict::Undecided { index: 4096 });
    }

    #[test]
    fn the_newest_index_that_differs_counts() {
        let mine = [(4096, 1), (8192, 1)];
        let theirs = [(4096, 1), (8192, 2)];
        assert_eq!(judged(&mine, &[&theirs, &theirs], 3), Verdict::Differs { index: 8192 });
        assert_eq!(judged(&mine, &[&theirs[..1], &theirs[..1]], 3), Verdict::Fine);
    }
}
