//! What must hold after a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::RaftLogReader as _;
use pointsman_model::{LogIndex, Ordinal, QueueOffset};
use pointsman_state_machine::{Machine, Outcome};
use pointsman_storage::queues::QueueRead;
use pointsman_storage::state::{ModelState, StateStore};

use super::super::*;
use super::sim::{Moment, Sim, now};
use crate::core::Rows;
use crate::entry::Payload;

/// What became of the messages that were parked.
pub(super) struct Timers {
    pub(super) waiting: usize,
    pub(super) delivered: usize,
    /// Messages that came to nothing because their key was known.
    pub(super) duplicates: usize,
}

impl Sim {
    /// What must hold after recovery and after everything in the log is applied.
    pub(super) fn check(&mut self, moment: &Moment) -> Result<Timers, String> {
        let log = &self.core.log;
        let last = log.last().map_or(0, |(_, index, _)| index.0 + 1) as usize;
        if last < moment.acked {
            return Err(format!("{} entries were acknowledged, {last} are there", moment.acked));
        }
        let voted = self.core.vote.lock().load().map_or(0, |vote| vote.term.0);
        if voted < moment.voted {
            return Err(format!("voted in term {}, remembers {voted}", moment.voted));
        }
        let entries = now(self.store.try_get_log_entries(0..u64::MAX)).map_err(|error| error.to_string())?;
        let first = log.purged().map_or(0, |base| base.index.0 as usize + 1);
        if entries.len() + first != last {
            return Err(format!("{} of the entries {first} to {last} can be read", entries.len()));
        }
        self.check_base()?;
        for (entry, proposed) in entries.iter().zip(&self.proposed[first..]) {
            let same = match (&entry.payload, &proposed.entry.payload) {
                (Payload::Batch(a), Payload::Batch(b)) => a.records == b.records && a.stamp == b.stamp,
                (Payload::Blank, Payload::Blank) => true,
                _ => false,
            };
            if !same || entry.log_id != proposed.entry.log_id {
                return Err(format!("entry {} is not what was proposed", entry.log_id));
            }
        }
        // What was lost was never acknowledged; it never happened.
        self.proposed.truncate(last);
        self.apply(last as u64)?;
        self.check_queues()?;
        let duplicates = self.check_keys()?;
        Ok(Timers { duplicates, ..self.check_timers()? })
    }

    /// Once something is purged, the checkpoint at the log's base is there: it is truth like the log.
    fn check_base(&self) -> Result<(), String> {
        let Some(base) = self.core.log.purged() else { return Ok(()) };
        let current = self.core.current_snapshot().map_err(|error| error.to_string())?;
        match current.and_then(|snapshot| snapshot.meta.last_log_id) {
            Some(id) if id.index == base.index.0 => Ok(()),
            other => Err(format!("the log starts behind {}, the checkpoint is of {other:?}", base.index)),
        }
    }

    /// Within the window of a key one message is visible, and what was called its duplicate is one.
    fn check_keys(&self) -> Result<usize, String> {
        let (mut stored, mut duplicates) = (BTreeMap::new(), 0);
        for proposed in &self.proposed {
            let (Payload::Batch(batch), Some((outcomes, _))) = (&proposed.entry.payload, &proposed.applied) else {
                continue;
            };
            for (range, outcome) in record::ranges(&batch.records).zip(outcomes) {
                let range = range.map_err(|error| error.to_string())?;
                let record = record::decode_head(&batch.records.slice(range)).map_err(|error| error.to_string())?;
                if record.header.kind != kind::PUBLISH {
                    continue;
                }
                let head = postcard::from_bytes::<PublishHead<'_>>(&record.head).map_err(|error| error.to_string())?;
                let Some(key) = head.dedup.map(|dedup| dedup.key.to_owned()) else { continue };
                let before =
                    stored.get(&key).copied().filter(|at: &Timestamp| batch.stamp.since_ms(*at) < DEDUP_WINDOW_MS);
                match (outcome, before) {
                    (Outcome::Published(_), None) => drop(stored.insert(key, batch.stamp)),
                    (Outcome::Duplicate(of), Some(at)) if of.stored_at == at => duplicates += 1,
                    (Outcome::Refused(_), _) => {}
                    other => return Err(format!("`{key}` at {}: {other:?}", batch.stamp)),
                }
            }
        }
        Ok(duplicates)
    }

    /// Every message that was parked waits still or is visible, once, and its old place leads there.
    fn check_timers(&self) -> Result<Timers, String> {
        let machine = self.core.machine.read();
        let rows = self.core.rows();
        let outcomes =
            || self.proposed.iter().filter_map(|proposed| proposed.applied.as_ref()).flat_map(|(all, _)| all);
        let visible: BTreeMap<_, _> = outcomes()
            .filter_map(|outcome| match outcome {
                Outcome::Published(at) => Some(((at.index.0, at.ordinal.0), at)),
                _ => None,
            })
            .collect();
        let (mut waiting, mut reached) = (0, BTreeSet::new());
        for outcome in outcomes() {
            let Outcome::Parked(at) = outcome else { continue };
            let (index, ordinal) = (LogIndex(at.place.index), Ordinal(at.place.ordinal));
            let parked = machine.parked(&rows, TENANT, index, ordinal).map_err(|error| error.to_string())?;
            let moved = machine.moved(&rows, TENANT, index, ordinal).map_err(|error| error.to_string())?;
            match (parked, moved) {
                (Some(parked), None) => {
                    waiting += 1;
                    let entry = parked.entry();
                    let bytes = self.core.log.read_record(entry.position, entry.length as usize);
                    record::decode(&bytes.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
                }
                (None, Some(moved)) => {
                    let to = (moved.place.index, moved.place.ordinal);
                    let found = visible.get(&to).ok_or(format!("{:?} leads to nothing", at.place))?;
                    let due = at.deliver_at.ok_or("a timer without a time")?;
                    if found.stored_at < due || !reached.insert(to) {
                        return Err(format!("{:?}, due at {due}, was delivered at {}", at.place, found.stored_at));
                    }
                }
                // Where it was delivered is forgotten with the segment that it was delivered in.
                (None, None) if machine.state().released.upto() >= Some(index) => {}
                both => return Err(format!("{:?}: {both:?}", at.place)),
            }
        }
        let listed = machine.timers(&rows, TENANT, None, usize::MAX).map_err(|error| error.to_string())?.len();
        let counted = machine.state().timers.get(&TENANT).copied().unwrap_or_default() as usize;
        if (listed, counted) != (waiting, waiting) {
            return Err(format!("{waiting} messages wait, {listed} timers are there, {counted} are counted"));
        }
        Ok(Timers { waiting, delivered: reached.len(), duplicates: 0 })
    }

    /// Every visible message is at its offset, and nothing else is.
    pub(super) fn check_queues(&self) -> Result<(), String> {
        let mut next = [0_u64; 2];
        for proposed in &self.proposed {
            let Some((outcomes, _)) = &proposed.applied else { return Err("an entry is not applied".into()) };
            for outcome in outcomes {
                let Outcome::Published(published) = outcome else { continue };
                let offset = &mut next[usize::from(published.queue.0)];
                if published.offset != QueueOffset(*offset) {
                    return Err(format!("offset {} follows {offset}", published.offset));
                }
                *offset += 1;
                let earliest = self.core.machine.read().state().ends(TOPIC, published.queue).earliest;
                if published.offset.0 < earliest {
                    continue;
                }
                let entry = self.core.queues.get(TOPIC, published.queue, published.offset);
                let entry = entry.map_err(|error| error.to_string())?.ok_or("a queue entry is missing")?;
                if entry.log_place() != (published.index, published.ordinal) {
                    return Err(format!("offset {offset} leads to {:?}", entry.log_place()));
                }
                let bytes = self.core.log.read_record(entry.position, entry.length as usize);
                record::decode(&bytes.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
            }
        }
        for (queue, end) in (0..).zip(next) {
            let beyond = self.core.queues.read(TOPIC, QueueId(queue), QueueOffset(end), 1);
            if beyond.map_err(|error| error.to_string())? != QueueRead::Entries(Vec::new()) {
                return Err(format!("queue {queue} goes on behind {end}"));
            }
        }
        Ok(())
    }

    /// The outcome hash of a machine that is given the log from its first entry on.
    pub(super) fn straight_replay(&self) -> u64 {
        let state = ModelState::new(Arc::new(|| None));
        let mut machine = Machine::load(&Rows(&state), ShardId(1)).unwrap();
        for entry in now(self.store.clone().try_get_log_entries(0..u64::MAX)).unwrap() {
            let records = match &entry.payload {
                Payload::Batch(batch) => batch.records.clone(),
                _ => Bytes::new(),
            };
            let meta = crate::applier::entry_meta(&self.core, &entry);
            let applied = machine.apply(&Rows(&state), &meta, &records).unwrap();
            let index = pointsman_storage::state::Applied { index: meta.index, meta: Bytes::new() };
            state.write(&index, &mut applied.writes.iter().map(|(k, v)| (&k[..], v.as_deref()))).unwrap();
        }
        machine.state().outcome_hash
    }
}
