//! Groups of ordering `key` and `queue` in the leader's memory: what is read from held rows, what waits, what is next.
//!
//! The log knows who holds what: [`Memory::load`] builds lanes and leases from the held rows whenever the view is new,
//! and [`Memory::sync`] brings one message in line with its row after every record about it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{GroupId, QueueId, QueueOffset, Timestamp, TopicId, limits};
use pointsman_state_machine::State;
use pointsman_state_machine::command::Ordering;
use pointsman_state_machine::state::{Held, HeldGrant};

use super::Wanted;
use super::lanes::{Gate, Gates, LaneId, Lanes, Spot, Waiting};
use super::memory::{Candidate, LeaseMemory, Memory, Place, QueueMemory, Step};
use super::scan::Scan;
use crate::error::Error;
use crate::ports::ReadError;
use crate::shard::ShardParts;

/// Held rows that are read at once.
const PAGE_ROWS: usize = 1_024;

/// How far the queues of a group are read.
struct Doors<'a> {
    group: GroupId,
    queues: &'a [QueueMemory],
    state: &'a State,
}

impl Gates for Doors<'_> {
    fn shut(&self, lane: LaneId, head: &Waiting) -> Option<Gate> {
        let topic = lane.topic();
        if head.offset >= self.read_to(topic, head.queue) {
            return Some((topic, head.queue, head.offset + 1));
        }
        let LaneId::Key(_, hash) = lane else { return None };
        let slots = &self.state.topics.get(&topic)?.slots;
        let slot = (hash % u64::from(limits::KEY_SLOTS)) as u16;
        slots.moves(slot).find(|step| step.to == head.queue.0)?;
        for step in slots.moves(slot) {
            if self.read_to(topic, QueueId(step.from)) < step.barrier {
                return Some((topic, QueueId(step.from), step.barrier));
            }
            if step.to == head.queue.0 {
                break;
            }
        }
        None
    }

    fn read_to(&self, topic: TopicId, queue: QueueId) -> u64 {
        let found = self.queues.iter().find(|memory| memory.topic == topic && memory.queue == queue);
        let next = found.map_or(0, |memory| memory.next);
        let cursor = self.state.cursor(self.group, topic, queue);
        cursor.map_or(next, |cursor| cursor.next_unsettled(QueueOffset(next)).0)
    }
}

/// The place in the log of a message.
fn spot(entry: &QueueEntry) -> Spot {
    (entry.index.0, entry.ordinal.0)
}

impl Memory {
    /// What a lease call does next in a group that keeps an order.
    pub(super) fn step_ordered(
        &mut self,
        id: GroupId,
        parts: &ShardParts,
        (wanted, room): (&Wanted, usize),
        now: Timestamp,
    ) -> Result<Step, Error> {
        self.load(id, parts, now)?;
        let most = wanted.messages.min(room);
        let (available, waiting, shut) = self.with_lanes(id, parts, |lanes, doors| {
            lanes.look_again(now, doors);
            (lanes.available(most), lanes.waiting(), lanes.has_shut())
        });
        let state = parts.port.state();
        let full = state.retrying.get(&id).is_some_and(|held| *held >= limits::HELD_MAX);
        let nothing = available == 0 && (waiting < limits::ORDERED_WAITING_MAX || shut);
        let few = available < most && waiting < limits::LEASE_AHEAD_MESSAGES;
        if (nothing || few)
            && !self.scanning
            && now >= self.paused_until
            && !full
            && let Some(scan) = Scan::claim(self, id, &state, now)
        {
            self.scanning = true;
            return Ok(Step::Scan(scan));
        }
        drop(state);
        let taken = self.with_lanes(id, parts, |lanes, doors| lanes.take(most, full, now, doors));
        let mut candidates = Vec::with_capacity(taken.len());
        for (lane, message) in taken {
            let place = (lane.topic(), message.queue, message.offset);
            match read_entry(id, parts, place) {
                Ok(Some(entry)) => candidates.push(candidate(place, entry, &message)),
                Ok(None) => self.bury_ordered(id, parts, place, lane, now),
                Err(error) => {
                    // Nothing of it was leased.
                    for back in candidates {
                        self.wait_again(id, parts, back, now);
                    }
                    self.end_in_lane(id, parts, lane, now);
                    self.sync(id, parts, place, now)?;
                    return Err(error);
                }
            }
        }
        if candidates.is_empty() {
            return Ok(Step::Nothing { wake_in: self.wake_in(now) });
        }
        self.granting += candidates.len();
        Ok(Step::Grant { epoch: self.epoch, taken: candidates })
    }

    /// Builds lanes and leases from the held rows, where that was not done under this view.
    ///
    /// # Errors
    /// A failed read.
    pub(super) fn load(&mut self, id: GroupId, parts: &ShardParts, now: Timestamp) -> Result<(), Error> {
        let ordering = self.view.as_ref().map_or(Ordering::None, |view| view.ordering);
        if self.lanes.is_some() || ordering == Ordering::None {
            return Ok(());
        }
        // Counted while they are read: a failed read begins anew.
        let known = std::mem::take(&mut self.leases);
        self.expiries.clear();
        self.lanes = Some(Lanes::new(ordering));
        let loaded = self.load_rows(id, parts, &known, now);
        if loaded.is_err() {
            self.lanes = None;
            self.leases = known;
        }
        loaded
    }

    fn load_rows(
        &mut self,
        id: GroupId,
        parts: &ShardParts,
        known: &HashMap<Place, LeaseMemory>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut after = None;
        loop {
            let rows = parts.port.held_after(id, after, PAGE_ROWS)?;
            for row in &rows {
                let place = (TopicId(row.topic), QueueId(row.queue), row.offset);
                after = Some((place.0, place.1, QueueOffset(place.2)));
                if let Some(lanes) = &mut self.lanes {
                    lanes.note_held(place);
                }
                match read_entry(id, parts, place)? {
                    Some(entry) => self.take_over(id, parts, row, entry, known.get(&place), now),
                    None => self.note_skipped(place.0, place.1, place.2, place.2 + 1),
                }
            }
            if rows.len() < PAGE_ROWS {
                return Ok(());
            }
        }
    }

    /// Files a held message as its row says. `known` is what is remembered of its lease.
    fn take_over(
        &mut self,
        id: GroupId,
        parts: &ShardParts,
        row: &Held,
        entry: QueueEntry,
        known: Option<&LeaseMemory>,
        now: Timestamp,
    ) {
        let place = (TopicId(row.topic), QueueId(row.queue), row.offset);
        let message =
            Waiting { queue: place.1, offset: place.2, attempt: row.attempt, base: row.base, due: Timestamp(row.due) };
        let Some(lane) = self.lane_of(place, &entry) else { return };
        let Some(grant) = &row.grant else {
            self.with_lanes(id, parts, |lanes, doors| lanes.put(lane, spot(&entry), message, now, doors));
            return;
        };
        self.with_lanes(id, parts, |lanes, doors| lanes.lease(lane, now, doors));
        let lease = known.filter(|known| known.session == grant.session).cloned();
        let lease = lease.unwrap_or_else(|| lease_of(grant, candidate(place, entry, &message)));
        self.expiries.push(Reverse((lease.expires, place, lease.session)));
        self.leases.insert(place, lease);
    }

    /// Brings what is known of a message in line with its row.
    ///
    /// # Errors
    /// A failed read; then the row is read with all others before the next lease.
    pub(super) fn sync(&mut self, id: GroupId, parts: &ShardParts, place: Place, now: Timestamp) -> Result<(), Error> {
        let synced = self.try_sync(id, parts, place, now);
        if synced.is_err() {
            self.start_over();
        }
        synced
    }

    fn try_sync(&mut self, id: GroupId, parts: &ShardParts, place: Place, now: Timestamp) -> Result<(), Error> {
        if self.lanes.is_none() {
            return Ok(());
        }
        let (topic, queue, offset) = place;
        let row = parts.port.held(id, topic, queue, QueueOffset(offset))?;
        let known = self.leases.get(&place);
        let grant = row.as_ref().and_then(|row| row.grant.as_ref());
        if known.is_some() && known.map(|lease| lease.session) == grant.map(|grant| grant.session) {
            return Ok(());
        }
        let entry = match known {
            Some(lease) => Some(lease.candidate.entry),
            None => read_entry(id, parts, place)?,
        };
        let Some((entry, lane)) = entry.and_then(|entry| Some((entry, self.lane_of(place, &entry)?))) else {
            return Ok(());
        };
        let ended = self.leases.remove(&place);
        self.with_lanes(id, parts, |lanes, doors| {
            if ended.is_some() {
                lanes.end(lane, now, doors);
            }
            lanes.remove(lane, spot(&entry), now, doors);
        });
        match row {
            Some(row) => self.take_over(id, parts, &row, entry, None, now),
            None => {
                let message = Waiting { queue, offset, attempt: 1, base: 0, due: Timestamp(0) };
                self.with_lanes(id, parts, |lanes, doors| {
                    let cursor = doors.state.cursor(id, topic, queue);
                    if !cursor.is_some_and(|cursor| cursor.is_settled(QueueOffset(offset))) {
                        lanes.put(lane, spot(&entry), message, now, doors);
                    }
                });
            }
        }
        Ok(())
    }

    /// Brings messages whose leases ended in line with their rows; in a queue group those leased behind them as well.
    pub(super) fn sync_ended(&mut self, id: GroupId, parts: &ShardParts, mut ended: Vec<Place>, now: Timestamp) {
        if self.lanes.as_ref().is_some_and(|lanes| lanes.ordering == Ordering::Queue) {
            let mut first: HashMap<(TopicId, QueueId), u64> = HashMap::new();
            for (topic, queue, offset) in &ended {
                first.entry((*topic, *queue)).and_modify(|least| *least = (*offset).min(*least)).or_insert(*offset);
            }
            let behind = |place: &&Place| first.get(&(place.0, place.1)).is_some_and(|least| place.2 > *least);
            ended.extend(self.leases.keys().filter(behind));
        }
        ended.sort_unstable();
        ended.dedup();
        for place in ended {
            if let Err(error) = self.sync(id, parts, place, now) {
                // All rows are read before the next lease.
                tracing::warn!(group.id = %id, %error, "a held message could not be read");
                return;
            }
        }
    }

    /// Forgets what was read, so that it is read anew; what was begun before is dropped.
    fn start_over(&mut self) {
        self.epoch += 1;
        self.scanning = false;
        self.granting = 0;
        self.lanes = None;
        self.queues.iter_mut().for_each(|queue| queue.next = 0);
    }

    /// Lets messages that were judged wait in their lanes.
    pub(super) fn put_judged(&mut self, id: GroupId, parts: &ShardParts, judged: Vec<Candidate>, now: Timestamp) {
        self.with_lanes(id, parts, |lanes, doors| {
            for candidate in judged {
                let lane = LaneId::of(lanes.ordering, candidate.place(), &candidate.entry);
                lanes.put(lane, spot(&candidate.entry), waiting(&candidate), now, doors);
            }
        });
    }

    /// Lets a message that was taken wait again in its place.
    pub(super) fn wait_again(&mut self, id: GroupId, parts: &ShardParts, back: Candidate, now: Timestamp) {
        let Some(lane) = self.lane_of(back.place(), &back.entry) else { return };
        self.with_lanes(id, parts, |lanes, doors| {
            lanes.put(lane, spot(&back.entry), waiting(&back), now, doors);
            lanes.end(lane, now, doors);
        });
    }

    /// Settles a message that was taken and is gone: its lane goes on.
    pub(super) fn bury_ordered(
        &mut self,
        id: GroupId,
        parts: &ShardParts,
        (topic, queue, offset): Place,
        lane: LaneId,
        now: Timestamp,
    ) {
        self.note_skipped(topic, queue, offset, offset + 1);
        self.end_in_lane(id, parts, lane, now);
    }

    /// One message of a lane that was taken is leased no more.
    pub(super) fn end_in_lane(&mut self, id: GroupId, parts: &ShardParts, lane: LaneId, now: Timestamp) {
        self.with_lanes(id, parts, |lanes, doors| lanes.end(lane, now, doors));
    }

    pub(super) fn lane_of(&self, place: Place, entry: &QueueEntry) -> Option<LaneId> {
        self.lanes.as_ref().map(|lanes| LaneId::of(lanes.ordering, place, entry))
    }

    /// The state is locked meanwhile: `change` must not read through the port.
    fn with_lanes<T: Default>(
        &mut self,
        group: GroupId,
        parts: &ShardParts,
        change: impl FnOnce(&mut Lanes, &Doors<'_>) -> T,
    ) -> T {
        let state = parts.port.state();
        let doors = Doors { group, queues: &self.queues, state: &state };
        self.lanes.as_mut().map(|lanes| change(lanes, &doors)).unwrap_or_default()
    }
}

/// A message's queue entry; `None` if its retention ended. What is held outlives that.
fn read_entry(id: GroupId, parts: &ShardParts, (topic, queue, offset): Place) -> Result<Option<QueueEntry>, Error> {
    let found = match parts.port.queue(topic, queue, QueueOffset(offset), 1) {
        Ok(entries) => entries.into_iter().next(),
        Err(ReadError::Expired { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    if found.is_some() {
        return Ok(found);
    }
    match parts.port.held(id, topic, queue, QueueOffset(offset))? {
        Some(Held { record: Some(record), .. }) => Ok(Some(record.entry())),
        Some(_) => Ok(parts.port.owed_entry(topic, queue, QueueOffset(offset))?),
        None => Ok(None),
    }
}

fn candidate((topic, queue, offset): Place, entry: QueueEntry, message: &Waiting) -> Candidate {
    let Waiting { attempt, base, .. } = *message;
    Candidate { topic, queue, offset, entry, attempt, base, expires_at: None, turn: 0 }
}

fn waiting(candidate: &Candidate) -> Waiting {
    let Candidate { queue, offset, attempt, base, .. } = *candidate;
    Waiting { queue, offset, attempt, base, due: Timestamp(0) }
}

/// A lease that another leader gave, or one of ours whose answer was lost.
fn lease_of(grant: &HeldGrant, candidate: Candidate) -> LeaseMemory {
    LeaseMemory {
        session: grant.session,
        expires: Timestamp(grant.until),
        delivered_at: Timestamp(grant.delivered_at),
        client: grant.client_id.as_deref().map(Arc::from),
        candidate,
        expiring: false,
    }
}
