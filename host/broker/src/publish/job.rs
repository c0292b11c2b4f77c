//! One publish call on its way, and where its messages go.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use pointsman_model::message::NewMessage;
use pointsman_model::{Generation, Name, QueueId, TenantId, Timestamp, TopicId};
use pointsman_state_machine::command::{Durability, Judged, Placement, ScheduleRan, Source};
use pointsman_state_machine::outcome::Duplicate;

use super::inflight::Hold;
use crate::batcher::Ticket;
use crate::error::Error;

/// One publish call.
pub(super) struct Job {
    pub(super) tenant: TenantId,
    pub(super) topic: TopicId,
    pub(super) name: Name,
    pub(super) messages: Vec<NewMessage>,
    /// When each message is due; empty if all of them are at once.
    pub(super) dues: Vec<Option<Timestamp>>,
    /// It is a run of a schedule.
    pub(super) run: Option<ScheduleRan>,
    /// Its messages are placed for a transaction, which puts them into an entry with those of other topics.
    pub(super) half: bool,
    pub(super) atomic: bool,
    pub(super) ack: Durability,
    pub(super) born: Timestamp,
    pub(super) deadline: Instant,
    /// Its idempotency keys, which are under way as long as this is.
    pub(super) hold: Option<Arc<Hold>>,
}

impl Job {
    /// When a message is due; `None` is at once.
    pub(super) fn due(&self, message: usize) -> Option<Timestamp> {
        self.dues.get(message).copied().flatten()
    }

    /// Some of its messages once more.
    pub(super) fn again(&self, which: &[usize], ack: Durability) -> Self {
        Self {
            tenant: self.tenant,
            topic: self.topic,
            name: self.name.clone(),
            messages: which.iter().map(|i| self.messages[*i].clone()).collect(),
            dues: which.iter().map(|i| self.due(*i)).collect(),
            run: self.run,
            half: self.half,
            atomic: self.atomic,
            ack,
            born: self.born,
            deadline: self.deadline,
            hold: self.hold.clone(),
        }
    }
}

/// Where one message goes.
pub(super) struct Placed {
    /// Which message of its job.
    pub(super) message: usize,
    /// Its places, or why it has none.
    pub(super) spots: Result<Spots, Error>,
    pub(super) placement: Placement,
    /// The selector that was asked.
    pub(super) judged: Option<Judged>,
    /// Under which key it is stored once.
    pub(super) key: Key,
    /// The dedup that was asked.
    pub(super) named_by: Option<Judged>,
}

/// Under which key a message is stored once, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Key {
    /// Under none.
    #[default]
    None,
    /// Its producer's.
    Producer { window_ms: u64 },
    /// The one its topic's plugin named.
    Plugin { key: String, window_ms: u64 },
}

impl Placed {
    /// A message that needed no judge.
    pub(super) fn by_rule(message: usize, spot: Spot, placement: Placement) -> Self {
        Self { message, spots: Ok(Spots::One(spot)), placement, judged: None, key: Key::None, named_by: None }
    }

    /// A message that goes nowhere, before it is said why.
    pub(super) fn by_none(message: usize) -> Self {
        let (spots, placement) = (Ok(Spots::Many(Vec::new())), Placement::default());
        Self { message, spots, placement, judged: None, key: Key::None, named_by: None }
    }

    pub(super) fn refused(message: usize, error: Error) -> Self {
        Self { spots: Err(error), ..Self::by_none(message) }
    }

    /// With its producer's key, if it has one and the topic a window.
    pub(super) fn keyed(mut self, message: &NewMessage, window_ms: u64) -> Self {
        if message.idempotency_key.is_some() && window_ms > 0 {
            self.key = Key::Producer { window_ms };
        }
        self
    }

    /// Decided as of this generation of its own topic.
    pub(super) fn fenced(mut self, generation: Generation) -> Self {
        if let Ok(Spots::One(spot)) = &mut self.spots
            && spot.source.is_none()
        {
            spot.generation = generation;
        }
        self
    }

    /// Its places; none if it is refused, or stored already.
    pub(super) fn spots(&self) -> &[Spot] {
        match &self.spots {
            Ok(Spots::One(spot)) => std::slice::from_ref(spot),
            Ok(Spots::Many(spots)) => spots,
            Ok(Spots::Stored(_)) | Err(_) => &[],
        }
    }
}

/// The places of one message; nearly always one.
pub(super) enum Spots {
    One(Spot),
    Many(Vec<Spot>),
    /// It is stored already, and not proposed.
    Stored(Duplicate),
}

/// One place: a queue of a topic.
pub(super) struct Spot {
    pub(super) topic: TopicId,
    /// Its generation when the place was chosen.
    pub(super) generation: Generation,
    pub(super) queue: QueueId,
    /// Its name, if it is another topic than the job's.
    pub(super) name: Option<Name>,
    /// The job's topic, if it is another one.
    pub(super) source: Option<Source>,
}

/// A job that is decided and whose records lie in entries.
pub(super) struct Decided {
    pub(super) placed: Vec<Placed>,
    /// Which of `placed` lie in which entry.
    pub(super) tickets: Vec<(Range<usize>, Ticket)>,
}
