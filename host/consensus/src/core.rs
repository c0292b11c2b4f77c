//! What the parts of one shard share: the log, what is derived from it, and how far both are.
//!
//! openraft owns a log store and a state machine and drives each on its own task; readers come from everywhere. They
//! meet here. The one order that matters: whoever changes what is derived holds `machine` for writing, so a reader
//! that holds it sees state, rows and queues of one and the same entry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use pointsman_model::{LogIndex, NodeId, ShardId};
use pointsman_state_machine::Machine;
use pointsman_state_machine::machine::{Store, StoreError};
use pointsman_storage::checkpoint::Checkpoints;
use pointsman_storage::log::CommitLog;
use pointsman_storage::queues::QueueIndex;
use pointsman_storage::state::{Read, StateStore};
use pointsman_storage::vote::VoteFile;
use tokio::sync::watch;

use crate::background::Background;
use crate::boundary::Boundary;
use crate::doubts::Doubts;
use crate::leadership::Leadership;
use crate::network::Traffic;
use crate::outcomes::Outcomes;
use crate::progress::Progress;
use crate::raft_types::RaftNodeId;
use crate::serve::Receiver;
use crate::vote_gate::VoteGate;

/// One shard's parts.
pub(crate) struct Core {
    pub(crate) shard: ShardId,
    /// openraft's id of this node.
    pub(crate) id: RaftNodeId,
    pub(crate) log: CommitLog,
    pub(crate) vote: Mutex<VoteFile>,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) queues: QueueIndex,
    pub(crate) checkpoints: Checkpoints,
    /// Typed state. Held for writing while one entry is applied, rows and queue entries included.
    pub(crate) machine: RwLock<Machine>,
    /// The last applied entry; `None` before the first.
    pub(crate) progress: Mutex<Option<Progress>>,
    /// Its index, for those who wait.
    pub(crate) applied: watch::Sender<LogIndex>,
    pub(crate) leadership: Arc<Leadership>,
    /// Whether this node may vote.
    pub(crate) gate: VoteGate,
    /// What `apply` came to, to be compared with the other replicas.
    pub(crate) outcomes: Outcomes,
    /// The last append found no room for its segment.
    full: AtomicBool,
    /// Damage of the log that readers met.
    pub(crate) doubts: Doubts,
    /// Why a damaged log is not repaired yet, once that was tried.
    pub(crate) repairing: Mutex<Option<String>>,
    /// Checkpoints at segment boundaries.
    pub(crate) boundary: Boundary,
    /// Why the shard stopped here, once it did.
    failure: Mutex<Option<String>>,
    /// Entries up to here may be purged, plus one; 0 is none.
    purge_allowed: AtomicU64,
    /// Base of the segment that held the last applied entry.
    pub(crate) applied_segment: AtomicU64,
    /// A segment filled up, and may have to be sealed.
    pub(crate) seal_due: AtomicBool,
    /// One thread seals at a time.
    pub(crate) sealing: Mutex<()>,
    /// Off only for openraft's own storage suite, which applies entries that are in no log and purges at will.
    pub(crate) strict: bool,
    /// Where blocking work goes.
    pub(crate) background: Background,
    /// A checkpoint that comes from the leader.
    pub(crate) receiver: Mutex<Receiver>,
    pub(crate) traffic: Arc<Traffic>,
    /// The newest life of each node that said hello.
    pub(crate) seen: Mutex<BTreeMap<NodeId, u32>>,
    #[cfg(test)]
    pub(crate) probe: crate::tests::cluster::probe::Probe,
}

/// The parts a shard was recovered into.
pub(crate) struct Parts {
    pub(crate) shard: ShardId,
    pub(crate) id: RaftNodeId,
    pub(crate) log: CommitLog,
    pub(crate) vote: VoteFile,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) queues: QueueIndex,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) machine: Machine,
    pub(crate) progress: Option<Progress>,
    pub(crate) strict: bool,
    pub(crate) background: Background,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let applied = parts.progress.as_ref().map_or(LogIndex(0), |progress| progress.index);
        let term = parts.progress.as_ref().map_or(0, |progress| progress.term.0);
        Arc::new(Self {
            shard: parts.shard,
            id: parts.id,
            log: parts.log,
            vote: Mutex::new(parts.vote),
            state: parts.state,
            queues: parts.queues,
            checkpoints: parts.checkpoints,
            machine: RwLock::new(parts.machine),
            progress: Mutex::new(parts.progress),
            applied: watch::Sender::new(applied),
            leadership: Leadership::new(term),
            gate: VoteGate::default(),
            outcomes: Outcomes::default(),
            full: AtomicBool::new(false),
            doubts: Doubts::default(),
            repairing: Mutex::default(),
            boundary: Boundary::default(),
            failure: Mutex::default(),
            purge_allowed: AtomicU64::new(0),
            applied_segment: AtomicU64::new(u64::MAX),
            seal_due: AtomicBool::new(true),
            sealing: Mutex::default(),
            strict: parts.strict,
            background: parts.background,
            receiver: Mutex::default(),
            traffic: Arc::default(),
            seen: Mutex::default(),
            #[cfg(test)]
            probe: crate::tests::cluster::probe::Probe::default(),
        })
    }

    /// Index of the last applied entry.
    pub(crate) fn applied_index(&self) -> Option<LogIndex> {
        self.progress.lock().as_ref().map(|progress| progress.index)
    }

    /// Ends the shard on this node; the first reason is kept.
    pub(crate) fn fail(&self, reason: impl ToString) {
        let mut failure = self.failure.lock();
        if failure.is_none() {
            let reason = reason.to_string();
            tracing::error!(shard.id = self.shard.0, reason, "the shard stopped on this node");
            *failure = Some(reason);
            drop(failure);
            self.leadership.stop();
        }
    }

    /// As [`CommitLog::check_room`], and remembers whether the disk is full.
    ///
    /// # Errors
    /// As [`CommitLog::check_room`].
    pub(crate) fn check_room(&self, bytes: usize) -> Result<(), pointsman_storage::Error> {
        let room = self.log.check_room(bytes);
        self.full.store(room.as_ref().is_err_and(pointsman_storage::Error::is_disk_full), Ordering::Relaxed);
        room
    }

    /// True on a replica that found no room for what came last. A node alone tells whoever publishes.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed) && self.doubts.is_heard()
    }

    /// True while bytes of the log are known not to verify.
    pub(crate) fn is_damaged(&self) -> bool {
        !self.log.damages().is_empty() || self.doubts.counts().0 > 0
    }

    /// Why the shard stopped here.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Entries up to `index` are covered by an installed snapshot or an applied trim.
    pub(crate) fn allow_purge(&self, index: LogIndex) {
        self.purge_allowed.fetch_max(index.0 + 1, Ordering::AcqRel);
    }

    /// One past the last entry that may be purged.
    pub(crate) fn purge_end(&self) -> u64 {
        self.purge_allowed.load(Ordering::Acquire)
    }

    /// The rows, as `apply` reads them.
    pub(crate) fn rows(&self) -> Rows<'_> {
        Rows(&*self.state)
    }
}

/// The state store as the state machine's port.
pub(crate) struct Rows<'a>(pub(crate) &'a dyn StateStore);

fn failed(error: pointsman_storage::Error) -> StoreError {
    StoreError(error.to_string())
}

impl Store for Rows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(Read::get(self.0, key).map_err(failed)?.map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StoreError> {
        use std::ops::{Bound, ControlFlow};
        let range = (Bound::Included(from), Bound::Excluded(to));
        let mut visit = |key: &[u8], value: &[u8]| {
            if visit(key, value) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        Read::scan(self.0, range, &mut visit).map_err(failed)
    }
}
