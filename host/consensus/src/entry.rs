//! Entries as openraft sees them: a log id and counted references, never bytes to copy.
//!
//! openraft reads each entry several times on its way through the log, so the records are encoded once, by whoever
//! proposes them, and lie on disk as they are.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use openraft::entry::{RaftEntry, RaftPayload};
use parking_lot::Mutex;
use pointsman_broker::ports::EarlyAck;
use pointsman_model::{LogIndex, LogPosition, Term, Timestamp};
use pointsman_storage::log::Location;

use crate::raft_types::{LogId, Membership, RaftNode, RaftNodeId, Types};

/// Records that are proposed, committed and applied together.
#[derive(Clone)]
pub(crate) struct Batch {
    /// The leader's time.
    pub(crate) stamp: Timestamp,
    /// How many records.
    pub(crate) count: u32,
    /// `model::record::records_crc` of them.
    pub(crate) records_crc: u32,
    /// The records, one after another.
    pub(crate) records: Bytes,
    /// Set on the node that proposed it, until the log has it. Never encoded.
    pub(crate) ticket: Option<Arc<Ticket>>,
}

/// What an entry carries.
#[derive(Clone)]
pub(crate) enum Payload {
    /// A leader's first word.
    Blank,
    /// Records.
    Batch(Batch),
    /// Who votes and who learns.
    Membership(Membership),
}

/// One entry of the log.
#[derive(Clone)]
pub(crate) struct Entry {
    /// Term and index.
    pub(crate) log_id: LogId,
    /// What it carries.
    pub(crate) payload: Payload,
    /// Its stamp. Blank and membership entries get their predecessor's when the log takes them.
    pub(crate) stamp: Timestamp,
    /// Where its frame lies; set when it is read from the log.
    pub(crate) location: Location,
    /// Where the leader has it, if it came from one; this log must put it there too.
    pub(crate) expected: Option<LogPosition>,
}

impl Entry {
    /// Bytes of records of a batch.
    pub(crate) fn records_bytes(&self) -> usize {
        match &self.payload {
            Payload::Batch(batch) => batch.records.len(),
            Payload::Blank | Payload::Membership(_) => 0,
        }
    }
}

/// Follows a proposal on the node that made it: does the log have it, and who wants to hear so early?
pub(crate) struct Ticket {
    handed_over: AtomicBool,
    early: Option<Arc<dyn EarlyAck>>,
    told: Mutex<Told>,
    /// Bytes promised a place in the log, until it has them.
    promised: Promise,
}

/// What [`EarlyAck`] was told. The writer may be done with its sync before the appender says so.
enum Told {
    Nothing,
    SyncEarly(bool),
    Appended,
}

/// Record bytes of proposals that the log does not have yet. Dropping gives them back.
pub(crate) struct Promise {
    total: Arc<AtomicUsize>,
    bytes: AtomicUsize,
}

impl Promise {
    /// Adds to the total.
    pub(crate) fn new(total: &Arc<AtomicUsize>, bytes: usize) -> Self {
        total.fetch_add(bytes, Ordering::Relaxed);
        Self { total: Arc::clone(total), bytes: AtomicUsize::new(bytes) }
    }

    fn give_back(&self) {
        self.total.fetch_sub(self.bytes.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Ticket {
    /// A ticket for a proposal that the log does not have yet.
    pub(crate) fn new(early: Option<Arc<dyn EarlyAck>>, promised: Promise) -> Self {
        Self { handed_over: AtomicBool::new(false), early, told: Mutex::new(Told::Nothing), promised }
    }

    /// The log is about to take the entry: from now on nobody may say that it was not proposed.
    pub(crate) fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Release);
        self.promised.give_back();
    }

    /// True once the log was given the entry.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }
}

impl pointsman_storage::log::Ticket for Ticket {
    fn appended(&self, term: Term, index: LogIndex) {
        let Some(early) = &self.early else { return };
        let mut told = self.told.lock();
        early.appended(term, index);
        if let Told::SyncEarly(ok) = std::mem::replace(&mut *told, Told::Appended) {
            early.fsynced(ok);
        }
    }

    fn fsynced(&self, ok: bool) {
        let Some(early) = &self.early else { return };
        let mut told = self.told.lock();
        match *told {
            Told::Appended => early.fsynced(ok),
            Told::Nothing | Told::SyncEarly(_) => *told = Told::SyncEarly(ok),
        }
    }
}

impl RaftPayload for Payload {
    type D = Batch;
    type NodeId = RaftNodeId;
    type Node = RaftNode;

    fn blank() -> Self {
        Self::Blank
    }

    fn with_normal(self, data: Batch) -> Self {
        Self::Batch(data)
    }

    fn with_membership(self, membership: Membership) -> Self {
        Self::Membership(membership)
    }

    fn get_membership(&self) -> Option<Membership> {
        match self {
            Self::Membership(membership) => Some(membership.clone()),
            Self::Blank | Self::Batch(_) => None,
        }
    }
}

impl RaftEntry for Entry {
    type CommittedLeaderId = openraft::alias::CommittedLeaderIdOf<Types>;
    type Payload = Payload;

    fn new(log_id: LogId, payload: Payload) -> Self {
        let stamp = match &payload {
            Payload::Batch(batch) => batch.stamp,
            Payload::Blank | Payload::Membership(_) => Timestamp::default(),
        };
        Self { log_id, payload, stamp, location: Location::default(), expected: None }
    }

    fn log_id_parts(&self) -> (&Self::CommittedLeaderId, u64) {
        (&self.log_id.leader_id, self.log_id.index)
    }

    fn set_log_id(&mut self, new: LogId) {
        self.log_id = new;
    }

    fn get_membership(&self) -> Option<Membership> {
        self.payload.get_membership()
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records, {} bytes", self.count, self.records.len())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({self})")
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("blank"),
            Self::Batch(batch) => batch.fmt(f),
            Self::Membership(membership) => membership.fmt(f),
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({self})")
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.log_id, self.payload)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({self})")
    }
}
