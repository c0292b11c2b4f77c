//! What the use cases call.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::{MappedRwLockReadGuard, RwLockReadGuard};
use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::record::{self, Record};
use pointsman_model::{
    GroupId, LogIndex, LogPosition, NodeId, Ordinal, QueueId, QueueOffset, ShardId, TenantId, Term, Timestamp, TopicId,
};
use pointsman_state_machine::command::DedupBy;
use pointsman_state_machine::outcome::Blocker;
use pointsman_state_machine::state::{
    AuditRow, DeadLetter, DueTransaction, Held, Moved, Owed, Parked, Part, Remembered, Retry, Timer, Transaction,
    TransactionState,
};
use pointsman_state_machine::{Machine, State};
use tokio::sync::watch;

use super::{FakeShard, Reply, failed};
use crate::ports::{
    BarrierError, BoxFuture, Found, Proposal, ReadError, Replica, Role, Shard, ShardStatus, TransferError,
};

impl Shard for FakeShard {
    fn id(&self) -> ShardId {
        self.id
    }

    fn leadership(&self) -> Option<Term> {
        self.group.leader.read().filter(|(_, leader)| *leader == self.node).map(|(term, _)| term)
    }

    fn leader(&self) -> Option<NodeId> {
        self.group.leader.read().map(|(_, leader)| leader)
    }

    fn barrier(&self, _within: Duration) -> BoxFuture<'_, Result<(), BarrierError>> {
        let led = self.leader().map(|_| self.catch_up()).ok_or(BarrierError::NoLeader);
        Box::pin(std::future::ready(led))
    }

    fn transfer(&self, to: NodeId, _within: Duration) -> BoxFuture<'_, Result<(), TransferError>> {
        let nodes = self.group.nodes(self.node);
        let mut leader = self.group.leader.write();
        let done = match *leader {
            Some((_, leader)) if leader == to => Ok(()),
            Some((_, leader)) if leader != self.node => Err(TransferError::NotLeader),
            Some((term, _)) if nodes.contains(&to) => {
                *leader = Some((Term(term.0 + 1), to));
                Ok(())
            }
            Some(_) => Err(TransferError::NotAVoter(to)),
            None => Err(TransferError::NotLeader),
        };
        Box::pin(std::future::ready(done))
    }

    fn status(&self) -> ShardStatus {
        let applied = Some(*self.applied().borrow());
        let replica = |node| Replica { node, incarnation: 0, votes: true, matched: None };
        ShardStatus {
            role: if self.leadership().is_some() { Role::Leader } else { Role::Follower },
            term: self.group.leader.read().map(|(term, _)| term).unwrap_or_default(),
            leader: self.leader(),
            last: applied,
            committed: applied,
            applied,
            outcome_hash: self.state().outcome_hash,
            failure: None,
            replicas: self.group.nodes(self.node).into_iter().map(replica).collect(),
        }
    }

    fn propose(&self, proposal: Proposal, reply: Reply) {
        {
            let mut held = self.held.lock();
            if let Some(error) = held.fail_next.take() {
                let _ = reply.send(Err(error));
                return;
            }
            if let Some(early) = &proposal.early {
                let next = self.log.read().index + 1 + held.proposals.len() as u64;
                early.appended(proposal.term, LogIndex(next));
            }
            if held.holding {
                held.proposals.push_back((proposal, reply));
                return;
            }
        }
        self.commit(proposal, reply);
    }

    fn state(&self) -> MappedRwLockReadGuard<'_, State> {
        RwLockReadGuard::map(self.log.read(), |log| log.machine.state())
    }

    fn now(&self) -> Timestamp {
        self.stamper.lock().stamp(&*self.clock)
    }

    fn queue(
        &self,
        topic: TopicId,
        queue: QueueId,
        from: QueueOffset,
        max: usize,
    ) -> Result<Vec<QueueEntry>, ReadError> {
        let log = self.log.read();
        let earliest = QueueOffset(log.machine.state().ends(topic, queue).earliest);
        if from < earliest {
            return Err(ReadError::Expired { earliest });
        }
        let entries = log.queues.get(&(topic, queue)).map(Vec::as_slice).unwrap_or_default();
        Ok(entries.iter().skip(from.0 as usize).take(max).copied().collect())
    }

    fn owed_entry(&self, topic: TopicId, queue: QueueId, offset: QueueOffset) -> Result<Option<QueueEntry>, ReadError> {
        let log = self.log.read();
        let entry = log.queues.get(&(topic, queue)).and_then(|entries| entries.get(offset.0 as usize));
        Ok(entry.filter(|entry| entry.position >= log.machine.state().released.base()).copied())
    }

    fn blocker(&self, base: LogPosition) -> Result<Option<Blocker>, ReadError> {
        let log = self.log.read();
        log.machine.blocker(&log.store, base).map_err(|error| failed(&error))
    }

    fn owed(&self, below: LogPosition, max: usize) -> Result<Vec<Owed>, ReadError> {
        let log = self.log.read();
        log.machine.owed(&log.store, below, max).map_err(|error| failed(&error))
    }

    fn offset_after(
        &self,
        topic: TopicId,
        queue: QueueId,
        place: (LogIndex, Ordinal),
    ) -> Result<QueueOffset, ReadError> {
        let log = self.log.read();
        let entries = log.queues.get(&(topic, queue)).map(Vec::as_slice).unwrap_or_default();
        Ok(QueueOffset(entries.partition_point(|entry| entry.log_place() <= place) as u64))
    }

    fn offset_at(&self, topic: TopicId, queue: QueueId, time: Timestamp) -> Result<QueueOffset, ReadError> {
        let log = self.log.read();
        let entries = log.queues.get(&(topic, queue)).map(Vec::as_slice).unwrap_or_default();
        let found = QueueOffset(entries.partition_point(|entry| entry.stamp < time) as u64);
        Ok(found.max(QueueOffset(log.machine.state().ends(topic, queue).earliest)))
    }

    fn record(&self, entry: &QueueEntry) -> Result<Record, ReadError> {
        let log = self.log.read();
        if entry.position < log.machine.state().released.base() {
            return Err(ReadError::Gone);
        }
        let bytes = log.records.get(&entry.position).ok_or_else(|| ReadError::Storage("no record there".into()))?;
        record::decode(bytes).map_err(|error| ReadError::Storage(error.to_string()))
    }

    fn find(&self, term: Term, index: LogIndex, ordinal: Ordinal) -> Result<Option<Found>, ReadError> {
        let log = self.log.read();
        for entries in log.queues.values() {
            let at = entries.iter().position(|e| (e.term, e.index, e.ordinal) == (term, index, ordinal));
            if let Some(at) = at {
                let record = record::decode(&log.records[&entries[at].position]).expect("whole");
                let offset = QueueOffset(at as u64);
                let ends = log.machine.state().ends(record.header.topic, record.header.queue);
                let found = Found { record, offset, stored_at: entries[at].stamp };
                return Ok((offset.0 >= ends.earliest).then_some(found));
            }
        }
        Ok(None)
    }

    fn by_key(&self, topic: TopicId, key_hash: u64, max: usize) -> Result<Vec<(LogIndex, Ordinal)>, ReadError> {
        let log = self.log.read();
        let places = log.keys.get(&(topic, key_hash)).map(Vec::as_slice).unwrap_or_default();
        Ok(places.iter().rev().take(max).copied().collect())
    }

    fn due(&self, group: GroupId, now: Timestamp, max: usize) -> Result<Vec<Retry>, ReadError> {
        let log = self.log.read();
        log.machine.due(&log.store, group, now, max).map_err(|error| failed(&error))
    }

    fn next_due(&self, group: GroupId, after: Timestamp) -> Result<Option<Timestamp>, ReadError> {
        let log = self.log.read();
        log.machine.next_due(&log.store, group, after).map_err(|error| failed(&error))
    }

    fn retry(
        &self,
        group: GroupId,
        topic: TopicId,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<Option<Retry>, ReadError> {
        let log = self.log.read();
        log.machine.retry(&log.store, group, topic, queue, offset).map_err(|error| failed(&error))
    }

    fn retries(&self, group: GroupId, topic: TopicId, queue: QueueId, max: usize) -> Result<Vec<Retry>, ReadError> {
        let log = self.log.read();
        log.machine.retries(&log.store, group, topic, queue, max).map_err(|error| failed(&error))
    }

    fn dead_letter(&self, group: GroupId, index: LogIndex, ordinal: Ordinal) -> Result<Option<DeadLetter>, ReadError> {
        let log = self.log.read();
        log.machine.dead_letter(&log.store, group, (index.0, ordinal.0)).map_err(|error| failed(&error))
    }

    fn dead_letters(
        &self,
        group: GroupId,
        after: Option<(LogIndex, Ordinal)>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        let after = after.map(|(index, ordinal)| (index.0, ordinal.0));
        let log = self.log.read();
        log.machine.dead_letters(&log.store, group, after, max).map_err(|error| failed(&error))
    }

    fn expired_dead_letters(&self, group: GroupId, now: Timestamp, max: usize) -> Result<Vec<(u64, u16)>, ReadError> {
        let log = self.log.read();
        log.machine.expired_dead_letters(&log.store, group, now, max).map_err(|error| failed(&error))
    }

    fn parked(&self, tenant: TenantId, index: LogIndex, ordinal: Ordinal) -> Result<Option<Parked>, ReadError> {
        let log = self.log.read();
        log.machine.parked(&log.store, tenant, index, ordinal).map_err(|error| failed(&error))
    }

    fn moved(&self, tenant: TenantId, index: LogIndex, ordinal: Ordinal) -> Result<Option<Moved>, ReadError> {
        let log = self.log.read();
        log.machine.moved(&log.store, tenant, index, ordinal).map_err(|error| failed(&error))
    }

    fn timers_due(&self, now: Timestamp, max: usize) -> Result<Vec<Timer>, ReadError> {
        let log = self.log.read();
        log.machine.timers_due(&log.store, now, max).map_err(|error| failed(&error))
    }

    fn next_timer(&self) -> Result<Option<Timestamp>, ReadError> {
        let log = self.log.read();
        log.machine.next_timer(&log.store).map_err(|error| failed(&error))
    }

    fn timers(
        &self,
        tenant: TenantId,
        after: Option<(Timestamp, LogIndex, Ordinal)>,
        max: usize,
    ) -> Result<Vec<Timer>, ReadError> {
        let log = self.log.read();
        log.machine.timers(&log.store, tenant, after, max).map_err(|error| failed(&error))
    }

    fn transaction(
        &self,
        tenant: TenantId,
        index: LogIndex,
        ordinal: Ordinal,
    ) -> Result<Option<Transaction>, ReadError> {
        let log = self.log.read();
        log.machine.transaction(&log.store, tenant, index, ordinal).map_err(|error| failed(&error))
    }

    fn transaction_by_name(
        &self,
        tenant: TenantId,
        topic: TopicId,
        name: &str,
    ) -> Result<Option<Transaction>, ReadError> {
        let log = self.log.read();
        log.machine.transaction_by_name(&log.store, tenant, topic, name).map_err(|error| failed(&error))
    }

    fn transaction_parts(&self, tenant: TenantId, transaction: &Transaction) -> Result<Vec<Part>, ReadError> {
        let log = self.log.read();
        log.machine.transaction_parts(&log.store, tenant, transaction).map_err(|error| failed(&error))
    }

    fn transactions_due(&self, now: Timestamp, max: usize) -> Result<Vec<DueTransaction>, ReadError> {
        let log = self.log.read();
        log.machine.transactions_due(&log.store, now, max).map_err(|error| failed(&error))
    }

    fn transactions_of_topic(
        &self,
        tenant: TenantId,
        topic: TopicId,
        max: usize,
    ) -> Result<Vec<Transaction>, ReadError> {
        let log = self.log.read();
        log.machine.transactions_of_topic(&log.store, tenant, topic, max).map_err(|error| failed(&error))
    }

    fn transactions(
        &self,
        tenant: TenantId,
        state: Option<TransactionState>,
        after: Option<(Timestamp, LogIndex, Ordinal)>,
        max: usize,
    ) -> Result<Vec<Transaction>, ReadError> {
        let log = self.log.read();
        log.machine.transactions(&log.store, tenant, state, after, max).map_err(|error| failed(&error))
    }

    fn held(
        &self,
        group: GroupId,
        topic: TopicId,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<Option<Held>, ReadError> {
        let log = self.log.read();
        log.machine.held(&log.store, group, topic, queue, offset).map_err(|error| failed(&error))
    }

    fn held_after(
        &self,
        group: GroupId,
        after: Option<(TopicId, QueueId, QueueOffset)>,
        max: usize,
    ) -> Result<Vec<Held>, ReadError> {
        let log = self.log.read();
        log.machine.held_after(&log.store, group, after, max).map_err(|error| failed(&error))
    }

    fn remembered(
        &self,
        tenant: TenantId,
        topic: TopicId,
        by: DedupBy,
        key: &str,
    ) -> Result<Option<Remembered>, ReadError> {
        let now = self.now();
        Machine::remembered(&self.log.read().store, (tenant, topic), by, key, now).map_err(|error| failed(&error))
    }

    fn plugin_bytes(&self, tenant: TenantId, digest: &[u8; 32]) -> Result<Option<Bytes>, ReadError> {
        let log = self.log.read();
        let bytes = log.machine.plugin_bytes(&log.store, tenant, digest).map_err(|error| failed(&error))?;
        Ok(bytes.map(Bytes::from))
    }

    fn audit(
        &self,
        after: Option<(LogIndex, Ordinal)>,
        max: usize,
    ) -> Result<Vec<(LogIndex, Ordinal, AuditRow)>, ReadError> {
        let log = self.log.read();
        log.machine.audit(&log.store, after, max).map_err(|error| failed(&error))
    }

    fn applied(&self) -> watch::Receiver<LogIndex> {
        self.applied.subscribe()
    }
}
