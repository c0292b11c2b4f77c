//! What a retry plugin is asked, and what it answers: an attempt at a time.

use crate::time::Timestamp;

/// An attempt that ended badly: by a nack without a delay, or by its lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryQuestion {
    /// Name of the topic.
    pub topic: String,
    /// Name of the group.
    pub group: String,
    /// The attempt that ended, from 1; counted anew after a redrive.
    pub attempt: u16,
    /// The group's `max_retries`: attempt `1 + max_retries` is the last, whatever is answered.
    pub max_retries: u16,
    /// The message's tag.
    pub tag: Option<String>,
    /// Its keys.
    pub keys: Vec<String>,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// Its properties, as published.
    pub properties: Vec<(String, String)>,
    /// Its priority.
    pub priority: u8,
    /// Length of its payload.
    pub body_bytes: u32,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// When its first attempt was delivered, as far as the history reaches; `None` if that leader is gone.
    pub first_delivered_at: Option<Timestamp>,
    /// When the attempt was delivered; `None` if the leader that did is gone.
    pub delivered_at: Option<Timestamp>,
    /// When it ended: the time the decision may rely on.
    pub now: Timestamp,
    /// The lease ran out; else the consumer said no.
    pub expired: bool,
    /// The consumer's words.
    pub reason: Option<String>,
    /// Who had it.
    pub client_id: Option<String>,
}

/// What becomes of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryAnswer {
    /// It is delivered again.
    Again {
        /// After so long, at most [`crate::limits::DELAY_MS_MAX`].
        delay_ms: u64,
        /// The delay is a step of the default table, which the setting `time_scale` multiplies; else it is meant as
        /// stated. Whoever asked does the multiplying.
        scaled: bool,
    },
    /// It goes to the dead-letter queue now.
    DeadLetter {
        /// Why, at most [`crate::limits::REASON_BYTES_MAX`] bytes; `None` leaves the consumer's words.
        reason: Option<String>,
    },
    /// The group is done with it, as if it had been acknowledged.
    Drop,
}
