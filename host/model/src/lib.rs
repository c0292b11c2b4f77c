//! The words of Pointsman: names, ids, messages, limits, time and the shapes plugins see.
//!
//! Everything here is a value. No I/O, no async, no serde: wire and disk types live where they are
//! written and convert at the edge. Other crates point at this one and it points at none of them.
//!
//! | module | holds |
//! |---|---|
//! | [`ids`] | newtypes for the numbers of FORMATS: shard, tenant, topic, offset, position, … |
//! | [`name`] | names clients choose, and what is refused |
//! | [`message_id`] | the opaque id of a message |
//! | [`transaction_id`] | the opaque id of a transaction |
//! | [`time`] | timestamps, the clock seam and the leader's stamps |
//! | [`hash`] | the one hash and the one fingerprint |
//! | [`record`] | the bytes of one record inside a log frame |
//! | [`queue_entry`] | the 56 bytes of a ConsumeQueue entry |
//! | [`message`] | what a producer says about a message |
//! | [`delay`] | when a message is to be delivered |
//! | [`judge`] | plugin kinds, fields, columns and answers |
//! | [`scope`] | what a token may do |
//! | [`retry`] | the default retry table |
//! | [`limits`] | every bound, in one file |

pub mod delay;
pub mod hash;
pub mod ids;
pub mod judge;
pub mod limits;
pub mod message;
pub mod message_id;
pub mod name;
pub mod queue_entry;
pub mod record;
pub mod retry;
pub mod scope;
pub mod time;
pub mod transaction_id;

pub use ids::{
    Attempt, BindingId, Generation, GroupId, LogIndex, LogPosition, NodeId, Ordinal, PluginVersionId, QueueId,
    QueueOffset, ShardId, TenantId, Term, TopicId,
};
pub use message_id::MessageId;
pub use name::Name;
pub use scope::Scope;
pub use time::Timestamp;
pub use transaction_id::TransactionId;
