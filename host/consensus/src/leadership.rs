//! Does this node lead, and may it propose yet?
//!
//! Winning an election is not enough: until the leader's own first entry is applied, state may miss entries that an
//! earlier leader committed. So a term counts as led only once an entry *of that term* is applied here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use pointsman_model::Term;
use tokio::sync::watch;

use crate::raft_types::{RaftNodeId, Types};

type ServerMetrics = openraft::alias::WatchReceiverOf<Types, RaftServerMetrics<Types>>;

/// What everyone may know of it. Term 0 stands for "none": no leader ever has it.
pub(crate) struct Leadership {
    /// The term openraft says this node leads in.
    elected: AtomicU64,
    /// openraft's id of the leader it knows, plus one; 0 for none.
    known: AtomicU64,
    /// The term of the last entry applied here.
    applied_term: AtomicU64,
    /// The shard failed on this node: it never leads again.
    stopped: AtomicBool,
    /// Woken when one of them changes.
    changed: watch::Sender<()>,
}

impl Leadership {
    pub(crate) fn new(applied_term: u64) -> Arc<Self> {
        Arc::new(Self {
            elected: AtomicU64::new(0),
            known: AtomicU64::new(0),
            applied_term: AtomicU64::new(applied_term),
            stopped: AtomicBool::new(false),
            changed: watch::Sender::new(()),
        })
    }

    /// The term this node leads in, with everything applied that was committed before it.
    pub(crate) fn term(&self) -> Option<Term> {
        let elected = self.elected.load(Ordering::Acquire);
        let leads = elected != 0 && elected == self.applied_term.load(Ordering::Acquire);
        (leads && !self.is_stopped()).then_some(Term(elected))
    }

    /// openraft's id of the leader that is known here, this node included.
    pub(crate) fn known_leader(&self) -> Option<RaftNodeId> {
        self.known.load(Ordering::Acquire).checked_sub(1)
    }

    /// An entry of this term is applied.
    pub(crate) fn applied(&self, term: u64) {
        if self.applied_term.swap(term, Ordering::AcqRel) != term {
            self.changed.send_replace(());
        }
    }

    fn elected(&self, term: u64) {
        if self.elected.swap(term, Ordering::AcqRel) != term {
            self.changed.send_replace(());
        }
    }

    /// The shard failed on this node.
    pub(crate) fn stop(&self) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            self.changed.send_replace(());
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits until this node leads; `None` if the shard fails before.
    pub(crate) async fn wait(&self) -> Option<Term> {
        let mut term = None;
        self.wait_for(|| {
            term = self.term();
            term.is_some() || self.is_stopped()
        })
        .await;
        term
    }

    /// Waits until the shard fails.
    pub(crate) async fn wait_stopped(&self) {
        self.wait_for(|| self.is_stopped()).await;
    }

    async fn wait_for(&self, mut done: impl FnMut() -> bool) {
        let mut changed = self.changed.subscribe();
        while !done() {
            // The sender lives in `self`, so this cannot fail.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Follows openraft until it stops.
    pub(crate) async fn follow(&self, mut metrics: ServerMetrics) {
        loop {
            let (term, known) = {
                let now = metrics.borrow_watched();
                let term = if now.state == ServerState::Leader { now.vote.leader_id.term } else { 0 };
                (term, now.current_leader)
            };
            self.known.store(known.map_or(0, |known| known + 1), Ordering::Release);
            self.elected(term);
            if metrics.changed().await.is_err() {
                self.known.store(0, Ordering::Release);
                self.elected(0);
                return;
            }
        }
    }
}
