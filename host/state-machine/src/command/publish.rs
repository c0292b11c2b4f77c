//! The head of a message, parked, visible for the first time, or again.

use pointsman_model::{LogIndex, MessageId, Ordinal, ShardId, Term, TransactionId};
use serde::{Deserialize, Serialize};

use super::TransactionMeta;

/// Head of a `publish` record. Borrowed, so that `apply` copies nothing it does not keep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PublishHead<'a> {
    /// Media type of the payload.
    #[serde(borrow)]
    pub content_type: Option<&'a str>,
    /// The tag.
    #[serde(borrow)]
    pub tag: Option<&'a str>,
    /// Keys for look-ups.
    #[serde(borrow)]
    pub keys: Vec<&'a str>,
    /// The ordering key.
    #[serde(borrow)]
    pub ordering_key: Option<&'a str>,
    /// Names and values in the order given.
    #[serde(borrow)]
    pub properties: Vec<(&'a str, &'a str)>,
    /// Time to live from the store time on; 0 is none.
    pub ttl_ms: u64,
    /// The producer's `traceparent`.
    #[serde(borrow)]
    pub trace: Option<&'a str>,
    /// How the queue was chosen.
    pub placement: Placement,
    /// Bindings that judged this message, with the generation they ran under.
    pub judged: Vec<Judged>,
    /// Set when a selector sent the message from another topic: that topic, whose generation is fenced too.
    pub source: Option<Source>,
    /// Under which key it is stored once.
    #[serde(borrow)]
    pub dedup: Option<Dedup<'a>>,
    /// Set in a `publish-parked` record: what it waits for.
    pub park: Option<Park>,
    /// Set in a `publish-from` record: where the message was before.
    pub origin: Option<Origin>,
    /// Set in the first half of a transaction: what holds for all of it.
    #[serde(borrow)]
    pub transaction: Option<TransactionMeta<'a>>,
    /// Set in a copy that is made so that an old segment can go: where the record started that this one stands for. The
    /// copy is a `publish-parked` record whatever it stands for, and all else is as it was there.
    pub carried: Option<u64>,
}

/// The key under which a message is stored once within its topic's window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedup<'a> {
    /// The key: the producer's, or the one a plugin named.
    pub key: &'a str,
    /// Who named it. Their keys do not meet.
    pub by: DedupBy,
    /// xxh3-128 of the payload.
    pub fingerprint: u128,
    /// How long the key is remembered, from the store time on.
    pub window_ms: u64,
}

/// Who named a dedup key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DedupBy {
    /// The producer. The same key with another payload is a mistake and refused.
    Producer,
    /// The topic's plugin. Its word alone says what is the same.
    Plugin,
}

/// What a parked message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Park {
    /// A time, ms.
    Until(u64),
    /// The verdict of the transaction whose first record lies so many records before this one.
    Half(u16),
}

/// Where a `publish-from` message was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The record it is a copy of.
    pub place: Place,
    /// Why it is appended again.
    pub cause: Cause,
}

/// A record's place in its shard's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Term of the entry.
    pub term: u64,
    /// Index of the entry.
    pub index: u64,
    /// The record's place in it.
    pub ordinal: u16,
}

impl Place {
    /// The id of the message that lies there.
    #[must_use]
    pub fn message(self, shard: ShardId) -> MessageId {
        let (term, index, ordinal) = (Term(self.term), LogIndex(self.index), Ordinal(self.ordinal));
        MessageId { shard, term, index, ordinal }
    }

    /// The id of the transaction that starts there.
    #[must_use]
    pub fn transaction(self, shard: ShardId) -> TransactionId {
        TransactionId(self.message(shard))
    }
}

/// Why a stored message is appended again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Its time has come. It keeps its id.
    Timer,
    /// Its transaction is committed. It keeps its id.
    Commit,
    /// A dead letter goes to its topic again, as a new message. Holds the group.
    Redrive(u32),
}

/// How the queue of a message was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// The producer named it.
    Explicit,
    /// By the ordering key's slot.
    Slot,
    /// A selector named it.
    Selector,
    /// The selector failed; its binding falls back to the hash.
    Fallback,
    /// Round robin.
    #[default]
    RoundRobin,
}

/// A binding that judged a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The binding.
    pub binding: u32,
    /// The generation of its topic when it judged.
    pub generation: u32,
}

/// The topic a message was published to, where a selector sent it elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The topic.
    pub topic: u32,
    /// Its generation when the selector ran.
    pub generation: u32,
}
