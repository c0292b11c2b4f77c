//! Several fake shards that are replicas of one: what the leader commits is applied by all, or later by one that lags.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use pointsman_model::record::{self, FRAME_HEADER_BYTES};
use pointsman_model::time::SharedClock;
use pointsman_model::{LogIndex, LogPosition, NodeId, ShardId, Term, Timestamp};
use pointsman_state_machine::{EntryMeta, Outcome};

use super::FakeShard;

/// Who leads, and who replicates.
pub(super) struct Group {
    /// `None` while nobody leads.
    pub(super) leader: RwLock<Option<(Term, NodeId)>>,
    /// The newest term so far.
    newest: Mutex<Term>,
    replicas: RwLock<Vec<Weak<FakeShard>>>,
}

/// A committed entry.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) term: Term,
    pub(super) index: LogIndex,
    pub(super) stamp: Timestamp,
    pub(super) records: Bytes,
    pub(super) count: u32,
}

/// What a replica has not applied yet.
#[derive(Default)]
pub(super) struct Behind {
    lagging: bool,
    entries: VecDeque<Entry>,
}

impl Group {
    /// A group in which that node leads in term 1.
    pub(super) fn led_by(node: NodeId) -> Arc<Self> {
        let newest = Mutex::new(Term(1));
        Arc::new(Self { leader: RwLock::new(Some((Term(1), node))), newest, replicas: RwLock::default() })
    }

    /// Tells the other replicas of an entry.
    pub(super) fn replicate(&self, from: NodeId, entry: &Entry) {
        for replica in self.replicas.read().iter().filter_map(Weak::upgrade).filter(|replica| replica.node != from) {
            let mut behind = replica.behind.lock();
            if behind.lagging {
                behind.entries.push_back(entry.clone());
            } else {
                drop(behind);
                replica.apply(entry);
            }
        }
    }

    /// The nodes of the replicas.
    pub(super) fn nodes(&self, own: NodeId) -> Vec<NodeId> {
        let mut nodes: Vec<_> = self.replicas.read().iter().filter_map(Weak::upgrade).map(|shard| shard.node).collect();
        if nodes.is_empty() {
            nodes.push(own);
        }
        nodes
    }
}

impl FakeShard {
    /// Replicas of one shard on these nodes; the first leads in term 1.
    #[must_use]
    pub fn group(id: ShardId, clock: &SharedClock, nodes: &[NodeId]) -> Vec<Arc<Self>> {
        let group = Group::led_by(nodes[0]);
        let replica = |node: &NodeId| Arc::new(Self::in_group(id, Arc::clone(clock), *node, Arc::clone(&group)));
        let replicas: Vec<_> = nodes.iter().map(replica).collect();
        *group.replicas.write() = replicas.iter().map(Arc::downgrade).collect();
        replicas
    }

    /// Leads from now on, in the next term, with everything applied.
    pub fn take_over(&self) {
        self.catch_up();
        let last = crate::ports::Shard::now(self);
        *self.stamper.lock() = pointsman_model::time::Stamper::anchored(last, &*self.clock);
        let mut newest = self.group.newest.lock();
        let current = self.group.leader.read().map_or(*newest, |(term, _)| term.max(*newest));
        *newest = Term(current.0 + 1);
        *self.group.leader.write() = Some((*newest, self.node));
    }

    /// Nobody leads, until one takes over.
    pub fn depose(&self) {
        let mut leader = self.group.leader.write();
        if let Some((term, _)) = leader.take() {
            *self.group.newest.lock() = term;
        }
    }

    /// Applies what is committed only when it must, or at once again.
    pub fn set_lagging(&self, lagging: bool) {
        self.behind.lock().lagging = lagging;
        if !lagging {
            self.catch_up();
        }
    }

    /// Applies what it has not applied yet.
    pub(super) fn catch_up(&self) {
        let entries = std::mem::take(&mut self.behind.lock().entries);
        entries.iter().for_each(|entry| drop(self.apply(entry)));
    }

    /// Applies a committed entry.
    pub(super) fn apply(&self, entry: &Entry) -> Vec<Outcome> {
        let mut log = self.log.write();
        log.index += 1;
        assert_eq!(log.index, entry.index.0, "entries come in order");
        let position = LogPosition(log.position);
        let (term, index, stamp) = (entry.term, entry.index, entry.stamp);
        let log = &mut *log;
        if log.position - log.segment_base >= self.segment_bytes.load(Ordering::Relaxed) {
            log.segment_base = log.position;
        }
        let segment_base = LogPosition(log.segment_base);
        let meta = EntryMeta { shard: self.id, term, index, stamp, position, segment_base };
        let applied = log.machine.apply(&log.store, &meta, &entry.records).expect("applies");
        for range in record::ranges(&entry.records) {
            let range = range.expect("whole");
            let at = LogPosition(position.0 + FRAME_HEADER_BYTES + range.start as u64);
            log.records.insert(at, entry.records.slice(range));
        }
        log.position += FRAME_HEADER_BYTES + entry.records.len() as u64;
        log.entries.push(entry.count);
        for (key, value) in applied.writes {
            match value {
                Some(value) => drop(log.store.0.insert(key, value)),
                None => drop(log.store.0.remove(&key)),
            }
        }
        for append in applied.queue {
            let queue = log.queues.entry((append.topic, append.queue)).or_default();
            assert_eq!(queue.len() as u64, append.offset.0, "offsets are dense");
            queue.push(append.entry);
        }
        for append in applied.keys {
            log.keys.entry((append.topic, append.key_hash)).or_default().push(append.place);
        }
        self.applied.send_replace(index);
        applied.outcomes
    }
}
