//! The state machine as openraft drives it: committed entries in, outcomes out.
//!
//! For each entry, under the machine's write lock: `Machine::apply`, queue and key entries, rows. Then the index is
//! published and whoever waits for the outcomes gets them. openraft may apply an entry before this node has fsynced
//! it; that is why the state store asks the log before it flushes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use pointsman_model::{LogIndex, LogPosition, Term};
use pointsman_state_machine::EntryMeta;
use pointsman_storage::log::frame_bytes;
use pointsman_storage::queues;

use crate::Error;
use crate::core::Core;
use crate::entry::{Entry, Payload};
use crate::membership;
use crate::progress::Progress;
use crate::raft_types::{Applied, LogId, StoredMembership, Types};
use crate::snapshot::{Builder, Checkpoint};

/// Entries whose outcomes are handed back together.
const RESPOND_ENTRIES_MAX: usize = 64;

/// openraft's state machine.
pub(crate) struct Applier(Arc<Core>);

impl Applier {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self(core)
    }
}

impl Core {
    /// Applies the next entry.
    ///
    /// # Errors
    /// What poisons the shard on this node: a failed read, a damaged row or record, a failed write of the state.
    ///
    /// # Panics
    /// If the entry is not the next one, or its queue entries do not fit: this node would differ from the others.
    pub(crate) fn apply(&self, entry: &Entry) -> Result<Applied, Error> {
        let index = LogIndex(entry.log_id.index);
        let (records, length) = match &entry.payload {
            Payload::Batch(batch) => (batch.records.clone(), batch.records.len()),
            Payload::Blank => (Bytes::new(), 0),
            // Its record is not the state machine's.
            Payload::Membership(membership) => (Bytes::new(), membership::encode_record(membership)?.0.len()),
        };
        let mut machine = self.machine.write();
        let before = self.progress.lock().clone();
        if self.strict {
            let expected = before.as_ref().map(|before| before.index.next());
            assert!(expected.is_none_or(|expected| expected == index), "entry {index} applied, not {expected:?}");
        }
        if let Some(before) = before.as_ref().filter(|_| entry.location.position == entry.location.segment_base) {
            self.note_boundary(before);
        }
        let membership = match (&entry.payload, before) {
            (Payload::Membership(membership), _) => StoredMembership::new(Some(entry.log_id), membership.clone()),
            (_, Some(before)) => before.membership,
            (_, None) => StoredMembership::default(),
        };
        let progress = Progress {
            term: Term(entry.log_id.leader_id.term),
            index,
            stamp: entry.stamp,
            end: LogPosition(entry.location.position.0 + frame_bytes(length) as u64),
            membership,
        };
        let meta = entry_meta(self, entry);
        let applied = machine.apply(&self.rows(), &meta, &records)?;
        if let Payload::Batch(batch) = &entry.payload {
            assert_eq!(applied.outcomes.len(), batch.count as usize, "outcomes of entry {index}");
        }
        self.append_derived(&meta, &applied.queue, &applied.keys);
        let mut changes = applied.writes.iter().map(|(key, value)| (&key[..], value.as_deref()));
        self.state.write(&progress.applied()?, &mut changes)?;
        *self.progress.lock() = Some(progress);
        self.outcomes.applied(index, machine.state().outcome_hash);
        let released = machine.state().released.upto();
        drop(machine);
        if let Some(released) = released {
            self.allow_purge(released);
        }
        if self.applied_segment.swap(meta.segment_base.0, Ordering::Relaxed) != meta.segment_base.0 {
            self.seal_due.store(true, Ordering::Relaxed);
        }
        Ok(Applied { stamp: entry.stamp, outcomes: applied.outcomes })
    }

    /// Adds what one entry made visible to the queues.
    pub(crate) fn append_derived(
        &self,
        meta: &EntryMeta,
        queue: &[pointsman_state_machine::QueueAppend],
        keys: &[pointsman_state_machine::KeyAppend],
    ) {
        let entries: Vec<_> = queue.iter().map(|a| (a.topic, a.queue, a.offset, a.entry)).collect();
        let keys: Vec<_> = keys.iter().map(|a| (a.topic, a.key_hash, a.place.1)).collect();
        self.queues.append(&queues::Frame {
            segment: meta.segment_base,
            index: meta.index,
            position: meta.position,
            entries: &entries,
            keys: &keys,
        });
    }

    /// Tells everyone that entries up to here are applied.
    pub(crate) fn publish(&self, last: LogId) {
        self.leadership.applied(last.leader_id.term);
        self.applied.send_replace(LogIndex(last.index));
    }
}

/// What `apply` must know of an entry beside its records.
pub(crate) fn entry_meta(core: &Core, entry: &Entry) -> EntryMeta {
    EntryMeta {
        shard: core.shard,
        term: Term(entry.log_id.leader_id.term),
        index: LogIndex(entry.log_id.index),
        stamp: entry.stamp,
        position: entry.location.position,
        segment_base: entry.location.segment_base,
    }
}

/// Ends the shard if `apply` panics: openraft would wait for it for ever.
struct Guard<'a>(&'a Core);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("apply panicked");
        }
    }
}

impl RaftStateMachine<Types> for Applier {
    type SnapshotData = Checkpoint;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let progress = self.0.progress.lock();
        Ok(progress
            .as_ref()
            .map_or_else(Default::default, |progress| (Some(progress.log_id()), progress.membership.clone())))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        let core = &self.0;
        let _guard = Guard(core);
        let mut done: Vec<(Option<ApplyResponder<Types>>, Applied)> = Vec::new();
        let mut last = None;
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let applied = core.apply(&entry).inspect_err(|error| core.fail(error))?;
            last = Some(entry.log_id);
            done.push((responder, applied));
            if done.len() >= RESPOND_ENTRIES_MAX {
                respond(core, last, &mut done);
            }
        }
        respond(core, last, &mut done);
        Core::seal_in_background(core);
        Ok(())
    }

    /// Checkpoints are made at segment boundaries, so nothing is built here: openraft hears of the one that the log may
    /// be purged to. A forced build is what it needs to go on at all, where the one at the log's base is lost.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        let offered = *self.0.boundary.offered.lock();
        match offered {
            _ if force => Some(self.get_snapshot_builder().await),
            Some(index) => Some(Builder::of(Arc::clone(&self.0), index)),
            None => None,
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder::of_now(Arc::clone(&self.0))
    }

    async fn install_snapshot(
        &mut self,
        meta: &openraft::alias::SnapshotMetaOf<Types>,
        checkpoint: Checkpoint,
    ) -> Result<(), io::Error> {
        let core = &self.0;
        let progress = core.install(&checkpoint).inspect_err(|error| core.fail(error))?;
        assert_eq!(meta.last_log_id, Some(progress.log_id()), "a checkpoint of another entry");
        core.publish(progress.log_id());
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<openraft::alias::SnapshotOf<Types, Checkpoint>>, io::Error> {
        Ok(self.0.current_snapshot()?)
    }
}

/// Publishes the index first: whoever hears of an outcome finds the state that has it.
fn respond(core: &Core, last: Option<LogId>, done: &mut Vec<(Option<ApplyResponder<Types>>, Applied)>) {
    let Some(last) = last else { return };
    core.publish(last);
    for (responder, applied) in done.drain(..) {
        if let Some(responder) = responder {
            responder.send(applied);
        }
    }
}
