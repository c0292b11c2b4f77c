//! Lanes: which message of a group of ordering `key` or `queue` may be leased next.
//!
//! A lane holds what must keep its order: the messages of one ordering key of a topic, of one queue, or a single
//! message without a key. Its first message, in order of the log, may be leased once nothing of the lane is leased, it
//! is due, and no *gate* before it is shut. So a busy or failing key holds back its own lane and no other.
//!
//! A gate is a queue that must be read up to some offset first: what lies below may belong to the same lane. A message
//! that a leader finds held waits for what is not judged yet below it; a message of a key slot that moved waits until the
//! slot's old queue is read up to the move. Once that is read, the lane's own order does the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{QueueId, Timestamp, TopicId};
use pointsman_state_machine::command::Ordering;

use super::memory::Place;

/// What keeps its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum LaneId {
    /// An ordering key of a topic, by its hash.
    Key(TopicId, u64),
    /// A queue.
    Queue(TopicId, QueueId),
    /// A message without a key.
    Free(TopicId, QueueId, u64),
}

impl LaneId {
    pub(super) fn of(ordering: Ordering, (topic, queue, offset): Place, entry: &QueueEntry) -> Self {
        match (ordering, entry.ordering_key_hash) {
            (Ordering::Queue, _) => Self::Queue(topic, queue),
            (Ordering::Key | Ordering::None, 0) => Self::Free(topic, queue, offset),
            (Ordering::Key | Ordering::None, key) => Self::Key(topic, key),
        }
    }

    pub(super) fn topic(self) -> TopicId {
        match self {
            Self::Key(topic, _) | Self::Queue(topic, _) | Self::Free(topic, ..) => topic,
        }
    }
}

/// A place in the log: index and ordinal.
pub(super) type Spot = (u64, u16);

/// A message that waits in its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) queue: QueueId,
    pub(super) offset: u64,
    pub(super) attempt: u16,
    /// As in [`pointsman_state_machine::state::Held::base`].
    pub(super) base: u16,
    pub(super) due: Timestamp,
}

/// A queue that must be read up to an offset.
pub(super) type Gate = (TopicId, QueueId, u64);

/// What shuts a lane's first message off, as it is now.
pub(super) trait Gates {
    /// The first gate that is shut.
    fn shut(&self, lane: LaneId, head: &Waiting) -> Option<Gate>;
    /// Up to where a queue is read.
    fn read_to(&self, topic: TopicId, queue: QueueId) -> u64;
}

/// Where a lane is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filed {
    /// Nothing waits, or something is leased.
    Nowhere,
    Open(Spot),
    Delayed(Timestamp),
    Shut(Gate),
}

#[derive(Debug)]
struct Lane {
    waiting: BTreeMap<Spot, Waiting>,
    /// Leased, or about to be.
    leased: usize,
    filed: Filed,
}

/// All lanes of a group.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) ordering: Ordering,
    lanes: HashMap<LaneId, Lane>,
    /// Lanes whose first message may be leased, the oldest first.
    open: BTreeSet<(Spot, LaneId)>,
    delayed: BTreeSet<(Timestamp, LaneId)>,
    shut: BTreeMap<Gate, BTreeSet<LaneId>>,
    waiting: usize,
    /// Messages that had a held row when the rows were read: not judged again.
    held: HashSet<Place>,
}

impl Lanes {
    pub(super) fn new(ordering: Ordering) -> Self {
        Self {
            ordering,
            lanes: HashMap::new(),
            open: BTreeSet::new(),
            delayed: BTreeSet::new(),
            shut: BTreeMap::new(),
            waiting: 0,
            held: HashSet::new(),
        }
    }

    /// Messages that wait, in all lanes.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// True if a lane waits for a queue to be read further.
    pub(super) fn has_shut(&self) -> bool {
        !self.shut.is_empty()
    }

    /// True for a message that was held when the rows were read.
    pub(super) fn was_held(&self, place: &Place) -> bool {
        self.held.contains(place)
    }

    pub(super) fn note_held(&mut self, place: Place) {
        self.held.insert(place);
    }

    /// When the next lane is due by itself.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// How many messages could be leased to one call now, `max` at most.
    pub(super) fn available(&self, max: usize) -> usize {
        match self.ordering {
            Ordering::Queue => {
                self.open.first().and_then(|(_, id)| self.lanes.get(id)).map_or(0, |lane| lane.waiting.len())
            }
            Ordering::Key | Ordering::None => self.open.len(),
        }
        .min(max)
    }

    /// Lets a message wait in its lane, once.
    pub(super) fn put(&mut self, id: LaneId, spot: Spot, message: Waiting, now: Timestamp, gates: &impl Gates) {
        let lane = self.lane(id);
        if lane.waiting.insert(spot, message).is_none() {
            self.waiting += 1;
        }
        self.refile(id, now, gates);
    }

    /// Takes a message out of its lane, if it waits there.
    pub(super) fn remove(&mut self, id: LaneId, spot: Spot, now: Timestamp, gates: &impl Gates) {
        if self.lane(id).waiting.remove(&spot).is_some() {
            self.waiting -= 1;
        }
        self.refile(id, now, gates);
    }

    /// One more message of the lane is leased.
    pub(super) fn lease(&mut self, id: LaneId, now: Timestamp, gates: &impl Gates) {
        self.lane(id).leased += 1;
        self.refile(id, now, gates);
    }

    /// One message of the lane is leased no more.
    pub(super) fn end(&mut self, id: LaneId, now: Timestamp, gates: &impl Gates) {
        let lane = self.lane(id);
        lane.leased = lane.leased.saturating_sub(1);
        self.refile(id, now, gates);
    }

    /// Takes the next messages for one call, and counts them as leased: one of each lane, or a run of one queue. With
    /// `held_only` none that was never leased before.
    pub(super) fn take(
        &mut self,
        max: usize,
        held_only: bool,
        now: Timestamp,
        gates: &impl Gates,
    ) -> Vec<(LaneId, Waiting)> {
        let may = |head: &Waiting| !held_only || head.attempt > 1;
        let head_of = |id: &LaneId| self.lanes.get(id).and_then(|lane| lane.waiting.first_key_value());
        let lanes = if self.ordering == Ordering::Queue { 1 } else { max };
        let open = self.open.iter().map(|(_, id)| *id);
        let ids: Vec<_> = open.filter(|id| head_of(id).is_some_and(|(_, head)| may(head))).take(lanes).collect();
        let mut taken = Vec::new();
        for id in ids {
            let run = if matches!(id, LaneId::Queue(..)) { max } else { 1 };
            let lane = self.lane(id);
            for _ in 0..run {
                let Some((spot, head)) = lane.waiting.first_key_value().map(|(spot, head)| (*spot, *head)) else {
                    break;
                };
                if head.due > now || !may(&head) || gates.shut(id, &head).is_some() {
                    break;
                }
                lane.waiting.remove(&spot);
                lane.leased += 1;
                taken.push((id, head));
            }
            self.refile(id, now, gates);
        }
        self.waiting -= taken.len();
        taken
    }

    /// Files lanes anew that are due by now, or whose gate is open by now.
    pub(super) fn look_again(&mut self, now: Timestamp, gates: &impl Gates) {
        while let Some((due, id)) = self.delayed.first().copied() {
            if due > now {
                break;
            }
            self.refile(id, now, gates);
        }
        let mut next = self.shut.keys().next().copied();
        while let Some(gate) = next {
            let (topic, queue, to) = gate;
            let read_to = gates.read_to(topic, queue);
            if to <= read_to {
                for id in self.shut.get(&gate).cloned().unwrap_or_default() {
                    self.refile(id, now, gates);
                }
            }
            // Of one queue the nearest gate opens first; if it is shut, so are the others.
            let behind = if to <= read_to { (topic, queue, to) } else { (topic, queue, u64::MAX) };
            let behind = (Bound::Excluded(behind), Bound::Unbounded);
            next = self.shut.range(behind).next().map(|(gate, _)| *gate);
        }
    }

    fn lane(&mut self, id: LaneId) -> &mut Lane {
        let new = || Lane { waiting: BTreeMap::new(), leased: 0, filed: Filed::Nowhere };
        self.lanes.entry(id).or_insert_with(new)
    }

    /// Puts a lane where it belongs now.
    fn refile(&mut self, id: LaneId, now: Timestamp, gates: &impl Gates) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let filed = match lane.waiting.first_key_value() {
            Some((spot, head)) if lane.leased == 0 => match gates.shut(id, head) {
                Some(gate) => Filed::Shut(gate),
                None if head.due > now => Filed::Delayed(head.due),
                None => Filed::Open(*spot),
            },
            _ => Filed::Nowhere,
        };
        let before = std::mem::replace(&mut lane.filed, filed);
        if lane.waiting.is_empty() && lane.leased == 0 {
            self.lanes.remove(&id);
        }
        if before == filed {
            return;
        }
        match before {
            Filed::Nowhere => {}
            Filed::Open(spot) => drop(self.open.remove(&(spot, id))),
            Filed::Delayed(due) => drop(self.delayed.remove(&(due, id))),
            Filed::Shut(gate) => {
                if let Some(ids) = self.shut.get_mut(&gate) {
                    ids.remove(&id);
                    if ids.is_empty() {
                        self.shut.remove(&gate);
                    }
                }
            }
        }
        match filed {
            Filed::Nowhere => {}
            Filed::Open(spot) => drop(self.open.insert((spot, id))),
            Filed::Delayed(due) => drop(self.delayed.insert((due, id))),
            Filed::Shut(gate) => drop(self.shut.entry(gate).or_default().insert(id)),
        }
    }
}
