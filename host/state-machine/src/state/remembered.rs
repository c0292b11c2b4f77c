//! What a topic remembers of a dedup key.

use pointsman_model::{QueueId, QueueOffset, Timestamp, TopicId};
use serde::{Deserialize, Serialize};

use crate::command::Place;

/// A dedup key of a topic, as its row is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DedupId {
    /// The topic that the message was published to.
    pub topic: u32,
    /// xxh3-128 of who named the key, and the key.
    pub hash: u128,
}

/// The message that is stored under a dedup key. Field order is the format of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Its record; the first one, if a selector named several targets.
    pub place: Place,
    topic: u32,
    at: Option<(u16, u64)>,
    fingerprint: [u8; 16],
    stored_at: u64,
    window_ms: u64,
    expires: u64,
    listed: u64,
}

/// A key whose message waits for a verdict is not forgotten before it.
const NEVER: u64 = u64::MAX;

impl Remembered {
    /// A message that is stored now. The window of a half message runs from its commit.
    pub(crate) fn new(
        place: Place,
        topic: TopicId,
        at: Option<(QueueId, QueueOffset)>,
        fingerprint: u128,
        now: Timestamp,
        window_ms: u64,
        half: bool,
    ) -> Self {
        let expires = if half { NEVER } else { now.plus_ms(window_ms).0 };
        Self {
            place,
            topic: topic.0,
            at: at.map(|(queue, offset)| (queue.0, offset.0)),
            fingerprint: fingerprint.to_be_bytes(),
            stored_at: now.0,
            window_ms,
            expires,
            listed: place.index,
        }
    }

    /// Its topic: the one it was published to, or where a selector sent it.
    #[must_use]
    pub fn topic(&self) -> TopicId {
        TopicId(self.topic)
    }

    /// Its queue and offset, once it is visible.
    #[must_use]
    pub fn at(&self) -> Option<(QueueId, QueueOffset)> {
        self.at.map(|(queue, offset)| (QueueId(queue), QueueOffset(offset)))
    }

    /// xxh3-128 of its payload.
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        u128::from_be_bytes(self.fingerprint)
    }

    /// When it was stored; of a parked message, when it was parked.
    #[must_use]
    pub fn stored_at(&self) -> Timestamp {
        Timestamp(self.stored_at)
    }

    /// True while a message with the key is a duplicate.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now.0 < self.expires
    }

    /// True if it is half of a transaction without a verdict.
    #[must_use]
    pub fn is_half(&self) -> bool {
        self.expires == NEVER
    }

    /// When it is forgotten and by which entry that was settled; `None` while it waits for a verdict.
    pub(crate) fn listed(&self) -> Option<(u64, u64)> {
        (self.expires != NEVER).then_some((self.expires, self.listed))
    }

    /// The message has become visible, or a half message was committed: then its window starts.
    pub(crate) fn settle(&mut self, topic: TopicId, at: Option<(QueueId, QueueOffset)>, now: Timestamp, index: u64) {
        self.topic = topic.0;
        self.at = at.map(|(queue, offset)| (queue.0, offset.0));
        self.stored_at = now.0;
        if self.expires == NEVER {
            self.expires = now.plus_ms(self.window_ms).0;
            self.listed = index;
        }
    }
}
