//! Does this node lead, and may it propose yet?
//!
//! Winning an election is not enough: until the leader's own first entry is applied, state may miss entries that an
//! earlier leader committed. So a term counts as led only once an entry *of that term* is applied here. It ends when the
//! quorum's lease does: a leader that hears of no quorum for that long may have a successor. And it pauses while
//! leadership is handed over, so that nothing new is proposed that the successor would have to wait for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::{RaftDataMetrics, RaftServerMetrics};
use openraft::type_config::TypeConfigExt as _;
use parking_lot::Mutex;
use pointsman_model::{NodeId, Term};
use tokio::sync::watch;

use crate::config::{LEASE, SILENCE};
use crate::raft_types::{RaftNodeId, Types};

type DataMetrics = openraft::alias::WatchReceiverOf<Types, RaftDataMetrics<Types>>;
type ServerMetrics = openraft::alias::WatchReceiverOf<Types, RaftServerMetrics<Types>>;

/// What everyone may know of it. Term 0 stands for "none": no leader ever has it.
pub(crate) struct Leadership {
    /// The term openraft says this node leads in.
    elected: AtomicU64,
    /// openraft's id of the leader it knows, plus one; 0 for none.
    known: AtomicU64,
    /// When each node appended here last.
    heard: Mutex<BTreeMap<NodeId, openraft::alias::InstantOf<Types>>>,
    /// The term of the last entry applied here.
    applied_term: AtomicU64,
    /// When a quorum answered last, from openraft.
    quorum: OnceLock<DataMetrics>,
    /// This node is the only voter.
    alone: AtomicBool,
    /// The term in which this node hands over.
    handing_over: AtomicU64,
    /// This node stops and wants to lead no more.
    leaving: AtomicBool,
    closing: AtomicBool,
    /// Terms this node was elected for since it started.
    elections: AtomicU64,
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
            heard: Mutex::default(),
            applied_term: AtomicU64::new(applied_term),
            quorum: OnceLock::new(),
            alone: AtomicBool::new(false),
            handing_over: AtomicU64::new(0),
            leaving: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            elections: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            changed: watch::Sender::new(()),
        })
    }

    /// The term this node leads in, with everything applied that was committed before it.
    pub(crate) fn term(&self) -> Option<Term> {
        let elected = self.elected.load(Ordering::Acquire);
        let leads = elected != 0 && elected == self.applied_term.load(Ordering::Acquire);
        let pauses = self.handing_over.load(Ordering::Acquire) == elected;
        (leads && !pauses && !self.is_stopped() && self.has_quorum()).then_some(Term(elected))
    }

    /// The term openraft says this node leads in, whether it may propose or not.
    pub(crate) fn elected_term(&self) -> Option<u64> {
        Some(self.elected.load(Ordering::Acquire)).filter(|term| *term != 0)
    }

    /// Whether a quorum answered so lately that it has elected nobody else.
    fn has_quorum(&self) -> bool {
        if self.alone.load(Ordering::Acquire) {
            return true;
        }
        let Some(quorum) = self.quorum.get() else { return false };
        let acked = quorum.borrow_watched().last_quorum_acked;
        acked.is_some_and(|acked| Types::now() < *acked + LEASE)
    }

    /// Whether this node is elected and hears of a quorum, whether it may propose or not.
    pub(crate) fn leads_a_quorum(&self) -> bool {
        self.elected_term().is_some() && self.has_quorum()
    }

    /// No more proposals in this term: its leader hands over.
    pub(crate) fn pause(&self, term: u64) {
        self.handing_over.store(term, Ordering::Release);
        self.changed.send_replace(());
    }

    /// The hand-over came to nothing.
    pub(crate) fn resume(&self) {
        self.handing_over.store(0, Ordering::Release);
        self.changed.send_replace(());
    }

    /// The shard is stopped on purpose.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether the shard is stopped on purpose.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Waits until another leader is known than this one.
    pub(crate) async fn wait_for_other_than(&self, leader: RaftNodeId) {
        self.wait_for(|| self.known_leader() != Some(leader)).await;
    }

    /// This node is about to stop.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether this node is about to stop.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// How often this node was elected since it started.
    pub(crate) fn elections(&self) -> u64 {
        self.elections.load(Ordering::Relaxed)
    }

    /// openraft's id of the leader that is known here, this node included.
    pub(crate) fn known_leader(&self) -> Option<RaftNodeId> {
        self.known.load(Ordering::Acquire).checked_sub(1)
    }

    /// A node appends here, as leaders do.
    pub(crate) fn heard_from(&self, node: NodeId) {
        self.heard.lock().insert(node, Types::now());
    }

    /// Whether another node, which is known to lead, has been silent for so long that nothing should be sent to it.
    pub(crate) fn is_silent(&self, leader: NodeId) -> bool {
        let heard = self.heard.lock().get(&leader).copied();
        heard.is_none_or(|heard| Types::now() >= heard + SILENCE)
    }

    /// An entry of this term is applied.
    pub(crate) fn applied(&self, term: u64) {
        if self.applied_term.swap(term, Ordering::AcqRel) != term {
            self.changed.send_replace(());
        }
    }

    fn elected(&self, term: u64) {
        if self.elected.swap(term, Ordering::AcqRel) != term {
            self.elections.fetch_add(u64::from(term != 0), Ordering::Relaxed);
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
    pub(crate) async fn follow(&self, mut metrics: ServerMetrics, quorum: DataMetrics) {
        self.quorum.get_or_init(|| quorum);
        loop {
            let (term, known) = {
                let now = metrics.borrow_watched();
                let term = if now.state == ServerState::Leader { now.vote.leader_id.term } else { 0 };
                let mut voters = now.membership_config.voter_ids();
                self.alone.store(voters.next() == Some(now.id) && voters.next().is_none(), Ordering::Release);
                (term, now.current_leader)
            };
            let known = known.map_or(0, |known| known + 1);
            if self.known.swap(known, Ordering::AcqRel) != known {
                self.changed.send_replace(());
            }
            self.elected(term);
            if metrics.changed().await.is_err() {
                self.known.store(0, Ordering::Release);
                self.elected(0);
                return;
            }
        }
    }
}
