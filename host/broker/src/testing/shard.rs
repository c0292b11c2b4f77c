//! One shard without Raft and without disk: every proposal is committed and applied at once, or when the test says.

mod group;
mod port;
mod rows;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::record::{self, Header, Record};
use pointsman_model::time::{SharedClock, Stamper};
use pointsman_model::{LogIndex, LogPosition, NodeId, Ordinal, QueueId, ShardId, Term, Timestamp, TopicId};
use pointsman_state_machine::Machine;
use pointsman_state_machine::command::{Author, ConfigPut, Expect, Object};
use tokio::sync::{oneshot, watch};

use group::{Behind, Entry, Group};

use crate::ports::{Committed, Proposal, ProposeError, ReadError, Shard};
use rows::MemoryStore;

/// The node of a shard alone.
const NODE: NodeId = NodeId(1);

struct Log {
    machine: Machine,
    store: MemoryStore,
    queues: HashMap<(TopicId, QueueId), Vec<QueueEntry>>,
    keys: HashMap<(TopicId, u64), Vec<(LogIndex, Ordinal)>>,
    records: HashMap<LogPosition, Bytes>,
    index: u64,
    position: u64,
    segment_base: u64,
    entries: Vec<u32>,
}

type Reply = oneshot::Sender<Result<Committed, ProposeError>>;

#[derive(Default)]
struct HeldProposals {
    holding: bool,
    proposals: VecDeque<(Proposal, Reply)>,
    fail_next: Option<ProposeError>,
}

/// One shard without Raft and without disk.
pub struct FakeShard {
    id: ShardId,
    clock: SharedClock,
    node: NodeId,
    group: Arc<Group>,
    behind: Mutex<Behind>,
    /// One entry after the other.
    committing: Mutex<()>,
    /// Stamps as a leader gives them: they follow elapsed time, whatever the wall clock does.
    stamper: Mutex<Stamper>,
    log: RwLock<Log>,
    held: Mutex<HeldProposals>,
    applied: watch::Sender<LogIndex>,
    /// A segment that is as long gets no more entries.
    segment_bytes: AtomicU64,
}

impl FakeShard {
    /// An empty shard that leads in term 1.
    #[must_use]
    pub fn new(id: ShardId, clock: SharedClock) -> Self {
        Self::in_group(id, clock, NODE, Group::led_by(NODE))
    }

    fn in_group(id: ShardId, clock: SharedClock, node: NodeId, group: Arc<Group>) -> Self {
        let store = MemoryStore::default();
        let machine = Machine::load(&store, id).expect("an empty state");
        let log = Log {
            machine,
            store,
            queues: HashMap::new(),
            keys: HashMap::new(),
            records: HashMap::new(),
            index: 0,
            position: 0,
            segment_base: 0,
            entries: Vec::new(),
        };
        let stamper = Mutex::new(Stamper::anchored(Timestamp(0), &*clock));
        Self {
            id,
            clock,
            stamper,
            node,
            group,
            behind: Mutex::default(),
            committing: Mutex::default(),
            log: RwLock::new(log),
            held: Mutex::default(),
            applied: watch::Sender::new(LogIndex(0)),
            segment_bytes: AtomicU64::new(u64::MAX),
        }
    }

    /// Opens the next segment once one is so long.
    pub fn set_segment_bytes(&self, bytes: u64) {
        self.segment_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Leads in another term, or in none.
    pub fn set_term(&self, term: Option<u64>) {
        let last = self.now();
        *self.stamper.lock() = Stamper::anchored(last, &*self.clock);
        *self.group.leader.write() = term.map(|term| (Term(term), self.node));
    }

    /// Keeps proposals until [`Self::release`]. They have their place in the log, but are neither synced nor committed.
    pub fn hold(&self) {
        self.held.lock().holding = true;
    }

    /// Commits what is held, in order, and holds no more.
    pub fn release(&self) {
        let held = {
            let mut held = self.held.lock();
            held.holding = false;
            std::mem::take(&mut held.proposals)
        };
        held.into_iter().for_each(|(proposal, reply)| self.commit(proposal, reply));
    }

    /// Commits what is held, in order, and goes on holding.
    pub fn release_held(&self) {
        let held = std::mem::take(&mut self.held.lock().proposals);
        held.into_iter().for_each(|(proposal, reply)| self.commit(proposal, reply));
    }

    /// Changes every topic, then commits what is held: all of it was decided under a generation that is over.
    pub fn release_after_change(&self) {
        let (records, count) = self.touch_all_topics();
        let records_crc = record::records_crc(&records).expect("whole");
        let term = self.leadership().expect("leads");
        let (reply, _) = oneshot::channel();
        self.commit(Proposal { term, count, records, records_crc, early: None }, reply);
        self.release_held();
    }

    /// Changes a group at once, before whatever is held: that was decided under a generation that is over.
    pub fn change_group_first(&self, name: &str) {
        let (header, head) = {
            let log = self.log.read();
            let group = log.machine.state().groups.values().find(|group| group.name.as_str() == name).expect("a group");
            let mut config = group.config.clone();
            config.lease_ms += 1;
            let object = Object::Group { name: name.to_owned(), config };
            let put = ConfigPut { expect: Expect::Anything, object, author: Author::default() };
            let header = Header { kind: record::kind::CONFIG_PUT, tenant: group.tenant, ..Header::default() };
            (header, postcard::to_stdvec(&put).expect("a head"))
        };
        let mut records = bytes::BytesMut::new();
        record::encode(&mut records, &header, &head, &[]);
        let records = records.freeze();
        let records_crc = record::records_crc(&records).expect("whole");
        let term = self.leadership().expect("leads");
        let (reply, _) = oneshot::channel();
        self.commit(Proposal { term, count: 1, records, records_crc, early: None }, reply);
    }

    fn touch_all_topics(&self) -> (Bytes, u32) {
        let log = self.log.read();
        let mut records = bytes::BytesMut::new();
        for topic in log.machine.state().topics.values() {
            let mut config = topic.config.clone();
            config.retention_ms += 1;
            let object = Object::Topic { name: topic.name.to_string(), config };
            let head = postcard::to_stdvec(&ConfigPut { expect: Expect::Anything, object, author: Author::default() })
                .expect("a head");
            let header = Header { kind: record::kind::CONFIG_PUT, tenant: topic.tenant, ..Header::default() };
            record::encode(&mut records, &header, &head, &[]);
        }
        (records.freeze(), log.machine.state().topics.len() as u32)
    }

    /// Loses what is held: nobody hears what became of it.
    pub fn lose_held(&self) {
        let held = std::mem::take(&mut self.held.lock().proposals);
        held.into_iter().for_each(|(_, reply)| drop(reply.send(Err(ProposeError::OutcomeUnknown))));
    }

    /// How many proposals are held.
    pub fn held(&self) -> usize {
        self.held.lock().proposals.len()
    }

    /// The next proposal fails like this.
    pub fn fail_next(&self, error: ProposeError) {
        self.held.lock().fail_next = Some(error);
    }

    /// Records of each entry so far.
    pub fn entries(&self) -> Vec<u32> {
        self.log.read().entries.clone()
    }

    /// Whose each record is, in log order.
    pub fn tenants(&self) -> Vec<u32> {
        let log = self.log.read();
        let records: BTreeMap<_, _> = log.records.iter().collect();
        let tenant = |bytes: &&Bytes| record::decode(bytes).expect("whole").header.tenant.0;
        records.values().map(tenant).collect()
    }

    /// Every row, as it is stored.
    pub fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.log.read().store.0.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Every record of a queue, in order.
    pub fn messages(&self, topic: TopicId, queue: QueueId) -> Vec<Record> {
        let log = self.log.read();
        let entries = log.queues.get(&(topic, queue)).map(Vec::as_slice).unwrap_or_default();
        entries.iter().map(|entry| record::decode(&log.records[&entry.position]).expect("whole")).collect()
    }

    fn commit(&self, proposal: Proposal, reply: Reply) {
        let Some(term) = self.leadership().filter(|term| *term == proposal.term) else {
            let _ = reply.send(Err(ProposeError::NotLeader));
            return;
        };
        if let Some(early) = &proposal.early {
            early.fsynced(true);
        }
        assert_eq!(record::records_crc(&proposal.records), Ok(proposal.records_crc), "a wrong checksum");
        assert_eq!(record::ranges(&proposal.records).count(), proposal.count as usize, "a wrong count");
        let _one = self.committing.lock();
        let index = LogIndex(self.log.read().index + 1);
        let (stamp, records) = (self.now(), proposal.records);
        let entry = Entry { term, index, stamp, records, count: proposal.count };
        let outcomes = self.apply(&entry);
        self.group.replicate(self.node, &entry);
        let _ = reply.send(Ok(Committed { term, index, stamp, outcomes }));
    }
}

fn failed(error: &pointsman_state_machine::Error) -> ReadError {
    ReadError::Storage(error.to_string())
}
