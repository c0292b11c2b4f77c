//! Placement that needs no judge: an explicit queue, the slot of the ordering key, round robin.

use std::sync::atomic::{AtomicU32, Ordering};

use pointsman_model::message::NewMessage;
use pointsman_model::{QueueId, hash};
use pointsman_state_machine::command::Placement;
use pointsman_state_machine::state::Topic;

use super::job::{Placed, Spot};
use crate::error::Error;

/// Places messages of a topic by rule.
pub(super) struct Placer<'a> {
    pub(super) topic: &'a Topic,
    pub(super) round_robin: &'a AtomicU32,
    /// A selector is bound; `Some(true)` if it places messages with an ordering key, too.
    pub(super) keyed: Option<bool>,
}

impl Placer<'_> {
    /// The place of a message, or `None` if the selector says.
    pub(super) fn place(&self, i: usize, message: &NewMessage) -> Option<Placed> {
        let limit = self.topic.config.max_message_bytes;
        if message.body.len() > limit as usize {
            return Some(Placed::refused(i, Error::MessageTooLarge { limit }));
        }
        if let Some(queue) = message.queue {
            if queue.0 >= self.topic.queues() {
                let detail = format!("the topic has the queues 0 to {}", self.topic.queues() - 1);
                return Some(Placed::refused(i, Error::invalid("/queue", detail)));
            }
            return Some(self.at(i, queue, Placement::Explicit));
        }
        match (&message.ordering_key, self.keyed) {
            (_, Some(true)) | (None, Some(false)) => None,
            (Some(key), _) => Some(self.at(i, self.topic.slots.queue_of(key), Placement::Slot)),
            (None, None) => Some(self.at(i, self.next(), Placement::RoundRobin)),
        }
    }

    /// The place of a message whose selector failed: by the ordering key's slot, else by a hash of the payload.
    pub(super) fn fall_back(&self, i: usize, message: &NewMessage) -> Placed {
        self.at(i, self.by_slot(message), Placement::Fallback)
    }

    /// What `queue: none` of a selector means: the ordering key's slot, else the slot of a hash of the payload.
    pub(super) fn by_slot(&self, message: &NewMessage) -> QueueId {
        by_slot(self.topic, message)
    }

    fn next(&self) -> QueueId {
        let n = self.round_robin.fetch_add(1, Ordering::Relaxed);
        QueueId((n % u32::from(self.topic.queues())) as u16)
    }

    fn at(&self, i: usize, queue: QueueId, placement: Placement) -> Placed {
        let (topic, generation) = (self.topic.id, self.topic.generation);
        Placed::by_rule(i, Spot { topic, generation, queue, name: None, source: None }, placement)
    }
}

/// The queue of a topic for a message whose place nobody named.
pub(super) fn by_slot(topic: &Topic, message: &NewMessage) -> QueueId {
    match &message.ordering_key {
        Some(key) => topic.slots.queue_of(key),
        None => topic.slots.queue((hash::hash(&message.body) % u64::from(pointsman_model::limits::KEY_SLOTS)) as u16),
    }
}
