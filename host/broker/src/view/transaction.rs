//! Transactions, as the use cases take and answer them.

use pointsman_model::message::NewMessage;
use pointsman_model::record::Record;
use pointsman_model::{MessageId, Name, QueueId, QueueOffset, ShardId, Timestamp, TransactionId};
use pointsman_state_machine::command::{CheckVia, PublishHead};
use pointsman_state_machine::state::{Transaction, TransactionState};

/// A transaction to prepare.
#[derive(Clone, Debug)]
pub struct Prepare {
    /// Its messages; their shape is checked by the caller.
    pub messages: Vec<HalfMessage>,
    /// Who answers for it.
    pub producer_group: String,
    /// The producer's name for it.
    pub name: Option<String>,
    /// From the prepare to the first check; the default is scaled.
    pub after_ms: Option<u64>,
    /// From a check to the next; the default is scaled.
    pub interval_ms: Option<u64>,
    /// How many checks.
    pub max: Option<u16>,
    /// Who is asked.
    pub via: Option<CheckVia>,
}

/// A message of a transaction.
#[derive(Clone, Debug)]
pub struct HalfMessage {
    /// Another topic than the one it is prepared at.
    pub topic: Option<String>,
    /// The message.
    pub message: NewMessage,
}

/// A transaction that is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreparedTransaction {
    /// Its id.
    pub id: TransactionId,
    /// What became of it.
    pub state: TransactionState,
    /// It had been prepared before, under its name.
    pub repeated: bool,
}

/// A word about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its messages become visible.
    Commit,
    /// They never do.
    Rollback,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionView {
    /// Its id.
    pub id: TransactionId,
    /// Name of the topic that it was prepared at; empty if that is gone.
    pub topic: String,
    /// What is known of it.
    pub transaction: Transaction,
    /// Its messages; `None` in a list.
    pub parts: Option<Vec<HalfPart>>,
}

/// A message of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfPart {
    /// Its id, before and after the commit.
    pub id: MessageId,
    /// Its topic.
    pub topic: String,
    /// Its queue.
    pub queue: QueueId,
    /// Its offset, if it is visible.
    pub offset: Option<QueueOffset>,
}

/// A question to a producer.
#[derive(Clone, Debug)]
pub struct ProducerCheck {
    /// The transaction.
    pub id: TransactionId,
    /// Which check, from 1.
    pub attempt: u16,
    /// When it was prepared.
    pub prepared_at: Timestamp,
    /// Its messages.
    pub messages: Vec<PreparedMessage>,
}

/// A message of a transaction that is not visible.
#[derive(Clone, Debug)]
pub struct PreparedMessage {
    /// Its id.
    pub id: MessageId,
    /// Its topic.
    pub topic: Name,
    /// Its record.
    pub record: Record,
}

impl PreparedMessage {
    /// The head, borrowed from the record.
    ///
    /// # Errors
    /// The record's head is not what a prepare writes.
    pub fn head(&self) -> Result<PublishHead<'_>, crate::Error> {
        super::head(&self.record)
    }
}

/// How many transactions a shard has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionStats {
    /// The shard.
    pub shard: ShardId,
    /// In each state, in the order of [`TransactionState::ALL`].
    pub by_state: [u64; 4],
    /// Messages of expired ones, ever.
    pub discarded: u64,
    /// Checks, ever.
    pub checks: u64,
}
