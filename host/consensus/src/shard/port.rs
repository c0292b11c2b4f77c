//! The shard as the broker sees it.
//!
//! What is large or old is read from files here, on the caller's thread; callers that must not block bring their own.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::{MappedRwLockReadGuard, RwLockReadGuard};
use pointsman_broker::ports::{
    self, BarrierError, BoxFuture, Committed, Found, Proposal, ProposeError, ReadError, ShardStatus, TransferError,
};
use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::record::{self, Record};
use pointsman_model::{
    GroupId, LogIndex, LogPosition, NodeId, Ordinal, QueueId, QueueOffset, ShardId, TenantId, Term, Timestamp, TopicId,
};
use pointsman_state_machine::command::DedupBy;
use pointsman_state_machine::outcome::Blocker;
use pointsman_state_machine::state::AuditRow;
use pointsman_state_machine::state::{
    DeadLetter, DueTransaction, Held, Moved, Owed, Parked, Part, Remembered, Retry, Timer, Transaction,
    TransactionState,
};
use pointsman_state_machine::{Machine, State};
use pointsman_storage::queues::QueueRead;
use tokio::sync::{oneshot, watch};

use super::Shard;
use crate::Error;

/// A failed read in words, with what caused it.
fn failed(error: impl Into<Error>) -> ReadError {
    let error = error.into();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    ReadError::Storage(text)
}

impl Shard {
    /// Reads from the queues; a sidecar found damaged is built again, once.
    fn read_queues<T>(&self, read: impl Fn() -> Result<T, pointsman_storage::Error>) -> Result<T, ReadError> {
        match read() {
            Err(pointsman_storage::Error::SidecarDamaged { segment, path, reason }) => {
                tracing::warn!(shard.id = self.id.0, sidecar.path = %path.display(), reason, "a sidecar is built again");
                self.core.rebuild_sidecars(segment).map_err(|error| {
                    if let Error::Storage(error) = &error {
                        self.core.doubts.report_error(error);
                    }
                    failed(error)
                })?;
                read().map_err(failed)
            }
            other => other.map_err(failed),
        }
    }

    fn read_record(
        &self,
        entry: &QueueEntry,
        decode: fn(&Bytes) -> Result<Record, record::Error>,
    ) -> Result<Record, ReadError> {
        let bytes = match self.core.log.read_record(entry.position, entry.length as usize) {
            Err(pointsman_storage::Error::NoSuchRecord { .. }) if self.is_released(entry.position) => {
                return Err(ReadError::Gone);
            }
            read => read.map_err(failed)?,
        };
        decode(&bytes).map_err(|error| {
            self.core.doubts.report(entry.position);
            let position = entry.position.0;
            tracing::error!(shard.id = self.id.0, log.position = position, error = %error, "a record is damaged");
            ReadError::Storage(format!("record {} of entry {}: {error}", entry.ordinal, entry.index))
        })
    }

    /// True if retention has given up what lies there.
    fn is_released(&self, position: LogPosition) -> bool {
        position < self.core.machine.read().state().released.base()
    }

    /// First offset of the queue that may be read: trimmed ones are gone at once, whatever the files still hold.
    fn earliest(&self, topic: TopicId, queue: QueueId) -> QueueOffset {
        QueueOffset(self.core.machine.read().state().ends(topic, queue).earliest)
    }

    /// The offset that an empty or unknown queue answers for "after everything".
    fn end(&self, topic: TopicId, queue: QueueId) -> QueueOffset {
        QueueOffset(self.core.machine.read().state().ends(topic, queue).latest)
    }

    fn bounded(&self, topic: TopicId, queue: QueueId, found: Option<QueueOffset>) -> QueueOffset {
        found.map_or_else(|| self.end(topic, queue), |found| found.max(self.earliest(topic, queue)))
    }
}

impl ports::Shard for Shard {
    fn id(&self) -> ShardId {
        self.id
    }

    fn leadership(&self) -> Option<Term> {
        self.core.leadership.term()
    }

    fn leader(&self) -> Option<NodeId> {
        self.known_leader()
    }

    fn barrier(&self, within: Duration) -> BoxFuture<'_, Result<(), BarrierError>> {
        Box::pin(self.read_index(within))
    }

    fn transfer(&self, to: NodeId, within: Duration) -> BoxFuture<'_, Result<(), TransferError>> {
        Box::pin(self.hand_over(to, within))
    }

    fn status(&self) -> ShardStatus {
        self.replica_status()
    }

    fn propose(&self, proposal: Proposal, reply: oneshot::Sender<Result<Committed, ProposeError>>) {
        match self.proposer() {
            Ok(proposer) => proposer.propose(proposal, reply),
            Err(error) => {
                // A caller that went away needs no answer.
                let _ = reply.send(Err(error));
            }
        }
    }

    fn state(&self) -> MappedRwLockReadGuard<'_, State> {
        RwLockReadGuard::map(self.core.machine.read(), |machine| machine.state())
    }

    fn now(&self) -> Timestamp {
        self.stamp_now()
    }

    fn queue(
        &self,
        topic: TopicId,
        queue: QueueId,
        from: QueueOffset,
        max: usize,
    ) -> Result<Vec<QueueEntry>, ReadError> {
        let earliest = self.earliest(topic, queue);
        if from < earliest {
            return Err(ReadError::Expired { earliest });
        }
        match self.read_queues(|| self.core.queues.read(topic, queue, from, max))? {
            #[cfg(test)]
            QueueRead::Entries(entries) => {
                Ok(crate::tests::cluster::uncommitted::and_more(&self.core, (topic, queue), from, entries))
            }
            #[cfg(not(test))]
            QueueRead::Entries(entries) => Ok(entries),
            QueueRead::Below { earliest } => Err(ReadError::Expired { earliest }),
        }
    }

    fn owed_entry(&self, topic: TopicId, queue: QueueId, offset: QueueOffset) -> Result<Option<QueueEntry>, ReadError> {
        self.read_queues(|| self.core.queues.get(topic, queue, offset))
    }

    fn blocker(&self, base: LogPosition) -> Result<Option<Blocker>, ReadError> {
        self.core.machine.read().blocker(&self.core.rows(), base).map_err(failed)
    }

    fn owed(&self, below: LogPosition, max: usize) -> Result<Vec<Owed>, ReadError> {
        self.core.machine.read().owed(&self.core.rows(), below, max).map_err(failed)
    }

    fn offset_after(
        &self,
        topic: TopicId,
        queue: QueueId,
        place: (LogIndex, Ordinal),
    ) -> Result<QueueOffset, ReadError> {
        let found = self.read_queues(|| self.core.queues.first_after_place(topic, queue, place))?;
        Ok(found.unwrap_or_else(|| self.end(topic, queue)))
    }

    fn offset_at(&self, topic: TopicId, queue: QueueId, time: Timestamp) -> Result<QueueOffset, ReadError> {
        let found = self.read_queues(|| self.core.queues.first_at_or_after(topic, queue, time))?;
        Ok(self.bounded(topic, queue, found))
    }

    fn record(&self, entry: &QueueEntry) -> Result<Record, ReadError> {
        self.read_record(entry, record::decode)
    }

    fn record_head(&self, entry: &QueueEntry) -> Result<Record, ReadError> {
        self.read_record(entry, record::decode_head)
    }

    fn find(&self, term: Term, index: LogIndex, ordinal: Ordinal) -> Result<Option<Found>, ReadError> {
        if self.core.applied_index().is_none_or(|applied| applied < index) {
            return Ok(None);
        }
        let frames = self.core.log.read(index..index.next(), 1).map_err(failed)?;
        let Some(frame) = frames.first().filter(|frame| frame.index == index && frame.term == term) else {
            return Ok(None);
        };
        let Some(range) = record::ranges(&frame.records).nth(usize::from(ordinal.0)) else {
            return Ok(None);
        };
        let damaged = |error| ReadError::Storage(format!("record {ordinal} of entry {index}: {error}"));
        let found = record::decode(&frame.records.slice(range.map_err(damaged)?)).map_err(damaged)?;
        if !matches!(found.header.kind, record::kind::PUBLISH | record::kind::PUBLISH_FROM) {
            return Ok(None);
        }
        let (topic, queue) = (found.header.topic, found.header.queue);
        let before = match (index.0, ordinal.0) {
            (index, 0) => (LogIndex(index.saturating_sub(1)), Ordinal(u16::MAX)),
            (index, ordinal) => (LogIndex(index), Ordinal(ordinal - 1)),
        };
        let offset = self.read_queues(|| self.core.queues.first_after_place(topic, queue, before))?;
        let Some(offset) = offset else {
            return Ok(None);
        };
        // A record that was refused has no queue entry; the next one of the queue is another message.
        let entry = self.read_queues(|| self.core.queues.get(topic, queue, offset))?;
        let is_it = entry.is_some_and(|entry| entry.log_place() == (index, ordinal));
        let trimmed = offset < self.earliest(topic, queue);
        Ok((is_it && !trimmed).then_some(Found { record: found, offset, stored_at: frame.stamp }))
    }

    fn by_key(&self, topic: TopicId, key_hash: u64, max: usize) -> Result<Vec<(LogIndex, Ordinal)>, ReadError> {
        self.read_queues(|| self.core.queues.by_key(topic, key_hash, max))
    }

    fn due(&self, group: GroupId, now: Timestamp, max: usize) -> Result<Vec<Retry>, ReadError> {
        self.core.machine.read().due(&self.core.rows(), group, now, max).map_err(failed)
    }

    fn next_due(&self, group: GroupId, after: Timestamp) -> Result<Option<Timestamp>, ReadError> {
        self.core.machine.read().next_due(&self.core.rows(), group, after).map_err(failed)
    }

    fn retry(
        &self,
        group: GroupId,
        topic: TopicId,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<Option<Retry>, ReadError> {
        self.core.machine.read().retry(&self.core.rows(), group, topic, queue, offset).map_err(failed)
    }

    fn retries(&self, group: GroupId, topic: TopicId, queue: QueueId, max: usize) -> Result<Vec<Retry>, ReadError> {
        self.core.machine.read().retries(&self.core.rows(), group, topic, queue, max).map_err(failed)
    }

    fn dead_letter(&self, group: GroupId, index: LogIndex, ordinal: Ordinal) -> Result<Option<DeadLetter>, ReadError> {
        self.core.machine.read().dead_letter(&self.core.rows(), group, (index.0, ordinal.0)).map_err(failed)
    }

    fn dead_letters(
        &self,
        group: GroupId,
        after: Option<(LogIndex, Ordinal)>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        let after = after.map(|(index, ordinal)| (index.0, ordinal.0));
        self.core.machine.read().dead_letters(&self.core.rows(), group, after, max).map_err(failed)
    }

    fn expired_dead_letters(&self, group: GroupId, now: Timestamp, max: usize) -> Result<Vec<(u64, u16)>, ReadError> {
        self.core.machine.read().expired_dead_letters(&self.core.rows(), group, now, max).map_err(failed)
    }

    fn held(
        &self,
        group: GroupId,
        topic: TopicId,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<Option<Held>, ReadError> {
        self.core.machine.read().held(&self.core.rows(), group, topic, queue, offset).map_err(failed)
    }

    fn held_after(
        &self,
        group: GroupId,
        after: Option<(TopicId, QueueId, QueueOffset)>,
        max: usize,
    ) -> Result<Vec<Held>, ReadError> {
        self.core.machine.read().held_after(&self.core.rows(), group, after, max).map_err(failed)
    }

    fn parked(&self, tenant: TenantId, index: LogIndex, ordinal: Ordinal) -> Result<Option<Parked>, ReadError> {
        self.core.machine.read().parked(&self.core.rows(), tenant, index, ordinal).map_err(failed)
    }

    fn moved(&self, tenant: TenantId, index: LogIndex, ordinal: Ordinal) -> Result<Option<Moved>, ReadError> {
        self.core.machine.read().moved(&self.core.rows(), tenant, index, ordinal).map_err(failed)
    }

    fn timers_due(&self, now: Timestamp, max: usize) -> Result<Vec<Timer>, ReadError> {
        self.core.machine.read().timers_due(&self.core.rows(), now, max).map_err(failed)
    }

    fn next_timer(&self) -> Result<Option<Timestamp>, ReadError> {
        self.core.machine.read().next_timer(&self.core.rows()).map_err(failed)
    }

    fn timers(
        &self,
        tenant: TenantId,
        after: Option<(Timestamp, LogIndex, Ordinal)>,
        max: usize,
    ) -> Result<Vec<Timer>, ReadError> {
        self.core.machine.read().timers(&self.core.rows(), tenant, after, max).map_err(failed)
    }

    fn transaction(
        &self,
        tenant: TenantId,
        index: LogIndex,
        ordinal: Ordinal,
    ) -> Result<Option<Transaction>, ReadError> {
        self.core.machine.read().transaction(&self.core.rows(), tenant, index, ordinal).map_err(failed)
    }

    fn transaction_by_name(
        &self,
        tenant: TenantId,
        topic: TopicId,
        name: &str,
    ) -> Result<Option<Transaction>, ReadError> {
        self.core.machine.read().transaction_by_name(&self.core.rows(), tenant, topic, name).map_err(failed)
    }

    fn transaction_parts(&self, tenant: TenantId, transaction: &Transaction) -> Result<Vec<Part>, ReadError> {
        self.core.machine.read().transaction_parts(&self.core.rows(), tenant, transaction).map_err(failed)
    }

    fn transactions_due(&self, now: Timestamp, max: usize) -> Result<Vec<DueTransaction>, ReadError> {
        self.core.machine.read().transactions_due(&self.core.rows(), now, max).map_err(failed)
    }

    fn transactions_of_topic(
        &self,
        tenant: TenantId,
        topic: TopicId,
        max: usize,
    ) -> Result<Vec<Transaction>, ReadError> {
        self.core.machine.read().transactions_of_topic(&self.core.rows(), tenant, topic, max).map_err(failed)
    }

    fn transactions(
        &self,
        tenant: TenantId,
        state: Option<TransactionState>,
        after: Option<(Timestamp, LogIndex, Ordinal)>,
        max: usize,
    ) -> Result<Vec<Transaction>, ReadError> {
        self.core.machine.read().transactions(&self.core.rows(), tenant, state, after, max).map_err(failed)
    }

    fn remembered(
        &self,
        tenant: TenantId,
        topic: TopicId,
        by: DedupBy,
        key: &str,
    ) -> Result<Option<Remembered>, ReadError> {
        Machine::remembered(&self.core.rows(), (tenant, topic), by, key, self.stamp_now()).map_err(failed)
    }

    fn plugin_bytes(&self, tenant: TenantId, digest: &[u8; 32]) -> Result<Option<Bytes>, ReadError> {
        let bytes = self.core.machine.read().plugin_bytes(&self.core.rows(), tenant, digest).map_err(failed)?;
        Ok(bytes.map(Bytes::from))
    }

    fn audit(
        &self,
        after: Option<(LogIndex, Ordinal)>,
        max: usize,
    ) -> Result<Vec<(LogIndex, Ordinal, AuditRow)>, ReadError> {
        self.core.machine.read().audit(&self.core.rows(), after, max).map_err(failed)
    }

    fn applied(&self) -> watch::Receiver<LogIndex> {
        self.core.applied.subscribe()
    }
}
