//! A held message: where a group of ordering `key` or `queue` stands with a message that it has leased.

use serde::{Deserialize, Serialize};

use super::EndedAttempt;
use crate::command::RecordRef;

/// A message of an ordered group that is leased, or was and waits for its next attempt. Until its row goes it is not
/// settled, whatever the cursor says: a dead letter that was put back keeps its settled bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The topic.
    pub topic: u32,
    /// The queue.
    pub queue: u16,
    /// The offset.
    pub offset: u64,
    /// The attempt that runs or comes next, from 1.
    pub attempt: u16,
    /// Attempts before it was last put back out of the dead-letter queue; they count no more.
    pub base: u16,
    /// When the next attempt is due, ms.
    pub due: u64,
    /// The lease, while it runs.
    pub grant: Option<HeldGrant>,
    /// As in [`super::Retry::record`].
    pub record: Option<RecordRef>,
    /// How the attempts before ended, the newest last; at most 32 are kept.
    pub history: Vec<EndedAttempt>,
}

/// A lease that the log knows of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldGrant {
    /// As its receipt has it.
    pub session: u64,
    /// When it runs out, ms.
    pub until: u64,
    /// When it was given, ms.
    pub delivered_at: u64,
    /// Who has it.
    pub client_id: Option<String>,
}

impl Held {
    /// True if the row says no more than a message without one would.
    pub(crate) fn is_fresh(&self) -> bool {
        self.attempt == 1 && self.base == 0 && self.history.is_empty()
    }
}
