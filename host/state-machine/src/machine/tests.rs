//! Whole entries against the machine, over rows in memory.

mod commands;
mod config;
mod dead_letter;
mod dedup;
mod garbage;
mod held;
mod model;
mod park;
mod plugins;
mod publish;
mod reference;
mod schedules;
mod settle;
mod tenancy;
mod transaction;
mod trim;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use pointsman_model::record::{self, FRAME_HEADER_BYTES, Header};
use pointsman_model::{LogIndex, LogPosition, ShardId, TenantId, Term, Timestamp, TopicId};
use serde::Serialize;

use super::*;
use crate::command::{ConfigDelete, ConfigPut, Expect, Object, Target};

const SHARD: ShardId = ShardId(1);
const TENANT: TenantId = TenantId(7);
/// Entries of a segment, so that runs cross segments.
const SEGMENT_ENTRIES: u64 = 5;

/// Rows in memory.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rows(BTreeMap<Vec<u8>, Vec<u8>>);

impl Store for Rows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StoreError> {
        for (key, value) in self.0.range(from.to_vec()..to.to_vec()) {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

/// A shard without a disk: machine, rows and the log that made them.
struct Shard {
    machine: Machine,
    rows: Rows,
    log: Vec<(EntryMeta, Bytes)>,
    queue: Vec<QueueAppend>,
    keys: Vec<KeyAppend>,
    now: Timestamp,
}

impl Shard {
    fn new() -> Self {
        let rows = Rows::default();
        let machine = Machine::load(&rows, SHARD).unwrap();
        Self { machine, rows, log: Vec::new(), queue: Vec::new(), keys: Vec::new(), now: Timestamp(1_000) }
    }

    /// A shard whose tenant 7 has topic `orders` of two queues and group `workers` on it from its first message on.
    fn with_group() -> Self {
        let mut shard = Self::new();
        shard.one(commands::put(Object::Tenant { name: "acme".into(), id: TENANT.0 }));
        shard.one(commands::put(Object::Topic { name: "orders".into(), config: commands::topic_config(Some(2)) }));
        shard.one(commands::put(Object::Group { name: "workers".into(), config: commands::group_config(&["orders"]) }));
        shard
    }

    fn entry(&mut self, records: &[Command]) -> Applied {
        let mut bytes = BytesMut::new();
        for command in records {
            record::encode(&mut bytes, &command.header, &command.head, &command.body);
        }
        self.raw(bytes.freeze()).unwrap()
    }

    fn one(&mut self, command: Command) -> Outcome {
        self.entry(&[command]).outcomes.remove(0)
    }

    fn raw(&mut self, records: Bytes) -> Result<Applied, Error> {
        let meta = self.next_meta();
        let applied = self.machine.apply(&self.rows, &meta, &records)?;
        for pair in applied.writes.windows(2) {
            assert!(pair[0].0 < pair[1].0, "rows are sorted and each key comes once");
        }
        for (key, value) in applied.writes.clone() {
            match value {
                Some(value) => drop(self.rows.0.insert(key, value)),
                None => drop(self.rows.0.remove(&key)),
            }
        }
        self.queue.extend(&applied.queue);
        self.keys.extend(&applied.keys);
        self.log.push((meta, records));
        Ok(applied)
    }

    fn next_meta(&self) -> EntryMeta {
        let index = self.log.len() as u64 + 1;
        let end = |(meta, records): &(EntryMeta, Bytes)| meta.position.0 + FRAME_HEADER_BYTES + records.len() as u64;
        let position = LogPosition(self.log.last().map_or(0, end));
        let opens = (index - 1).is_multiple_of(SEGMENT_ENTRIES);
        let segment_base = self.log.last().filter(|_| !opens).map_or(position, |(meta, _)| meta.segment_base);
        let (term, index) = (Term(3), LogIndex(index));
        EntryMeta { shard: SHARD, term, index, stamp: self.now, position, segment_base }
    }

    /// What is in memory must be what the rows say; goes on with what the rows say.
    fn reload(&mut self) {
        let machine = Machine::load(&self.rows, SHARD).unwrap();
        assert_eq!(machine.state(), self.machine.state());
        self.machine = machine;
    }

    /// The log once more on an empty machine, and a walk of every segment, come to the same.
    fn check_again(&self) {
        let mut other = Self::new();
        for (meta, records) in &self.log {
            other.now = meta.stamp;
            other.raw(records.clone()).unwrap();
        }
        assert_eq!(other.machine.state(), self.machine.state());
        assert_eq!(other.rows, self.rows);

        let (mut queue, mut keys) = (Vec::new(), Vec::new());
        let mut walk: Option<SegmentWalk> = None;
        for (meta, records) in &self.log {
            if meta.segment_base == meta.position {
                walk = Some(SegmentWalk::new(&self.rows, meta.segment_base).unwrap());
            }
            let (more, more_keys) = walk.as_mut().unwrap().entry(&self.rows, meta, records).unwrap();
            queue.extend(more);
            keys.extend(more_keys);
        }
        assert_eq!(queue, self.queue);
        assert_eq!(keys, self.keys);
    }

    fn topic(&self) -> TopicId {
        self.machine.state().topic(TENANT, "orders").unwrap().id
    }
}

/// A record to be.
#[derive(Clone, Debug)]
struct Command {
    header: Header,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Command {
    fn new<T: Serialize>(kind: u8, head: &T) -> Self {
        let header = Header { kind, tenant: TENANT, ..Header::default() };
        Self { header, head: postcard::to_stdvec(head).unwrap(), body: Vec::new() }
    }

    fn change(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.header);
        self
    }
}
