//! Messages of a group that wait for their next attempt, and those it gave up.

use serde::{Deserialize, Serialize};

use crate::command::{self, RecordRef};

/// A message of a group that waits for its next attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// The topic.
    pub topic: u32,
    /// The queue.
    pub queue: u16,
    /// The offset.
    pub offset: u64,
    /// The attempt that comes next, from 2.
    pub attempt: u16,
    /// Attempts before the last redrive: consumers see `attempt − base`, which starts at 1 again.
    pub base: u16,
    /// When it is due, ms.
    pub due: u64,
    /// Set by a redrive: the record itself, which may no longer be found by its offset.
    pub record: Option<RecordRef>,
    /// How the attempts before ended, the newest last; at most 32 are kept.
    pub history: Vec<EndedAttempt>,
}

/// A message that its group gave up. It refers to the message's record, which stays in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The message's record.
    pub record: RecordRef,
    /// The topic.
    pub topic: u32,
    /// The queue.
    pub queue: u16,
    /// The offset.
    pub offset: u64,
    /// Its last attempt.
    pub attempt: u16,
    /// As in [`Retry::base`].
    pub base: u16,
    /// Why.
    pub reason: DeadReason,
    /// When it was given up, ms.
    pub dead_at: u64,
    /// When it is forgotten, ms.
    pub expires: u64,
    /// When it was redriven, ms. The row stays so that a repeat is told from a first time.
    pub redriven_at: Option<u64>,
    /// As in [`Retry::history`].
    pub history: Vec<EndedAttempt>,
}

/// Why a group gave a message up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadReason {
    /// It had all its deliveries.
    Exhausted,
    /// Its consumer said so, with these words.
    Consumer(Option<String>),
    /// The retry policy said so, with these words.
    Policy(Option<String>),
}

/// How many dead letters a group has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadCount {
    /// Not redriven.
    pub open: u64,
    /// Rows: those and the redriven ones.
    pub rows: u64,
}

/// An attempt that ended badly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndedAttempt {
    /// Which.
    pub attempt: u16,
    /// Which as consumers saw it: counted from the last redrive.
    pub delivery: u16,
    /// It ran out; else the consumer said no.
    pub expired: bool,
    /// When it was delivered, ms; 0 if the leader that delivered it was gone.
    pub delivered_at: u64,
    /// When it ended, ms.
    pub ended_at: u64,
    /// The consumer's words.
    pub reason: Option<String>,
    /// Who had it.
    pub client_id: Option<String>,
    /// The retry decision.
    pub decision: command::Decision,
    /// Who took it.
    pub by: command::DecidedBy,
}
