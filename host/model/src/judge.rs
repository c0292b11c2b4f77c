//! What plugins see and answer: kinds, fields, columns, routes, failure policies.
//!
//! These are the host-side twins of `wit/`. A judging call of the kinds that see every message carries `n` of them as one
//! [`Column`] for each [`Field`] that the plugin asked for at `init`. The kinds that are asked when something went wrong
//! (retry, check-back) get one record a call.

mod check_back;
mod dedup;
mod retry;

use std::fmt;

pub use check_back::{CheckAnswer, CheckResponse, Half, OutsideMethod, OutsideRequest};
pub use dedup::DedupKey;
pub use retry::{RetryAnswer, RetryQuestion};

use crate::ids::QueueId;

/// Absence bit of an end in a [`Column`].
pub const ABSENT: u32 = 1 << 31;
/// The queue of a route that means "by the ordering key's slot".
pub const QUEUE_BY_SLOT: u16 = 0xFFFF;

/// The kinds of plugin, one WIT world each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Says where a message goes.
    Selector,
    /// Says whether a group sees a message.
    Filter,
    /// Names the key under which a message is the same as another.
    Dedup,
    /// Says when to try again.
    Retry,
    /// Says what became of a transaction.
    CheckBack,
    /// Accepts, changes or refuses at publish.
    Admit,
    /// Says which member owns which queue.
    Assign,
}

impl Kind {
    /// All kinds, in the order of the contract.
    pub const ALL: [Self; 7] =
        [Self::Selector, Self::Filter, Self::Dedup, Self::Retry, Self::CheckBack, Self::Admit, Self::Assign];

    /// The kind's name in the API and in WIT.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Selector => "selector",
            Self::Filter => "filter",
            Self::Dedup => "dedup",
            Self::Retry => "retry",
            Self::CheckBack => "check-back",
            Self::Admit => "admit",
            Self::Assign => "assign",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A part of a message that a plugin may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Name of the topic.
    Topic,
    /// The tag.
    Tag,
    /// All keys in one value: u16 length, bytes, …
    Keys,
    /// The ordering key.
    OrderingKey,
    /// The property of that name.
    Property(String),
    /// The payload.
    Body,
    /// xxh3-128 of the payload, 16 bytes.
    BodyHash,
    /// When the producer's call arrived, ms, 8 bytes.
    BornAt,
    /// When it was stored, ms, 8 bytes; absent before.
    StoredAt,
    /// The time the decision may rely on, ms, 8 bytes.
    Now,
    /// Eight pseudo-random bytes, a function of the message.
    Seed,
    /// Priority, 8 bytes.
    Priority,
}

/// One field of `n` messages: value `i` ends at `ends[i]`, with [`ABSENT`] set where the message has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// End of each value in `bytes`, plus the absence bit.
    pub ends: Vec<u32>,
    /// All values, one after another.
    pub bytes: Vec<u8>,
}

impl Column {
    /// Appends the value of the next message.
    pub fn push(&mut self, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.bytes.extend_from_slice(value);
        }
        self.ends.push(self.bytes.len() as u32 | if value.is_some() { 0 } else { ABSENT });
    }

    /// The value of message `i`.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)?;
        if end & ABSENT != 0 {
            return None;
        }
        let start = if i == 0 { 0 } else { self.ends[i - 1] & !ABSENT };
        self.bytes.get(start as usize..end as usize)
    }
}

/// What a plugin wants, said by `init`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The columns of every call, in this order.
    pub fields: Vec<Field>,
    /// A filter's hint: no message without one of these tags can pass. `None`: no hint.
    pub tags: Option<Vec<String>>,
    /// A selector's other topics; target `i + 1` is `destinations[i]`.
    pub destinations: Vec<String>,
}

/// What is equal for all messages of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Deliveries a message may have.
    pub attempt_limit: u16,
    /// The topic's queues and how many messages each holds.
    pub queues: Vec<QueueStat>,
}

/// One queue as a selector sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueStat {
    /// The queue.
    pub queue: QueueId,
    /// Messages stored in it.
    pub messages: u64,
}

/// One place a selector named for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// 0: the topic itself; `i + 1`: `destinations[i]`.
    pub destination: u16,
    /// The queue, or `None` for "by the ordering key's slot".
    pub queue: Option<QueueId>,
}

/// What a plugin said of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    /// Its answer.
    Answer(T),
    /// Its own failure for this message, in its words.
    Failed(String),
    /// No answer: the host stopped it. The class is counted, the failure policy decides.
    Stopped(Failure),
}

/// Why a call gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// It trapped.
    Trap,
    /// It used up its fuel.
    Fuel,
    /// It ran past its wall-clock time.
    Timeout,
    /// It asked for more memory than it may have.
    Memory,
    /// Its answer has the wrong shape.
    Output,
    /// Judged again, it said something else.
    Impure,
    /// Its hint would have skipped a message that it accepts.
    BadHint,
}

impl Failure {
    /// All classes, in the order of the contract.
    pub const ALL: [Self; 7] =
        [Self::Trap, Self::Fuel, Self::Timeout, Self::Memory, Self::Output, Self::Impure, Self::BadHint];

    /// The class's name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Fuel => "fuel",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Output => "output",
            Self::Impure => "impure",
            Self::BadHint => "bad-hint",
        }
    }
}

/// What a binding does with a message that its plugin could not judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Selector: place by hash.
    Hash,
    /// Selector, dedup, admit: refuse the publish.
    Refuse,
    /// Filter: deliver it.
    Deliver,
    /// Filter: skip it.
    Skip,
    /// Filter: stop delivery until the plugin behaves.
    Pause,
    /// Dedup: store it without a key.
    Keep,
    /// Retry: by the default table.
    Default,
    /// Retry: to the dead-letter queue.
    DeadLetter,
    /// Check-back: no verdict yet.
    Unknown,
}

impl OnFailure {
    /// The policy's name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Refuse => "refuse",
            Self::Deliver => "deliver",
            Self::Skip => "skip",
            Self::Pause => "pause",
            Self::Keep => "keep",
            Self::Default => "default",
            Self::DeadLetter => "dead-letter",
            Self::Unknown => "unknown",
        }
    }

    /// The policies a kind allows; the first is its default. Empty for kinds not built yet.
    #[must_use]
    pub const fn allowed(kind: Kind) -> &'static [Self] {
        match kind {
            Kind::Selector => &[Self::Hash, Self::Refuse],
            Kind::Filter => &[Self::Deliver, Self::Skip, Self::Pause],
            Kind::Dedup => &[Self::Keep, Self::Refuse],
            Kind::Retry => &[Self::Default, Self::DeadLetter],
            Kind::CheckBack => &[Self::Unknown],
            Kind::Admit | Kind::Assign => &[],
        }
    }
}

/// What one call of a binding's plugin may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// Fuel before the messages; [`crate::limits::PLUGIN_FUEL_PER_MESSAGE`] comes on top for each.
    pub fuel: u64,
    /// Linear memory.
    pub memory_bytes: u32,
    /// Wall-clock time.
    pub wall_ms: u32,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            fuel: crate::limits::PLUGIN_FUEL_BASE,
            memory_bytes: crate::limits::PLUGIN_MEMORY_BYTES_DEFAULT,
            wall_ms: crate::limits::PLUGIN_WALL_MS_DEFAULT,
        }
    }
}

#[cfg(test)]
mod tests;
