//! Look-ups of stored messages.

use pointsman_model::{MessageId, QueueId};

use crate::view::StoredMessage;
use crate::{Broker, Call, Error};

impl Broker {
    /// A message by its id.
    ///
    /// # Errors
    /// [`Error::MessageNotFound`], also for a message of another tenant.
    pub async fn get_message(&self, _call: &Call, _tenant: &str, _id: MessageId) -> Result<StoredMessage, Error> {
        Err(Error::NoLeader)
    }

    /// Messages of a queue from an offset upward, in order; fewer than `limit` if their bodies are large.
    ///
    /// # Errors
    /// [`Error::OffsetExpired`] below the first offset kept.
    pub async fn list_messages(
        &self,
        _call: &Call,
        _tenant: &str,
        _topic: &str,
        _queue: QueueId,
        _offset: u64,
        _limit: u32,
    ) -> Result<Vec<StoredMessage>, Error> {
        Err(Error::NoLeader)
    }

    /// Messages of a topic that carry exactly this key, newest first.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`], a failed read.
    pub async fn list_messages_by_key(
        &self,
        _call: &Call,
        _tenant: &str,
        _topic: &str,
        _key: &str,
        _limit: u32,
    ) -> Result<Vec<StoredMessage>, Error> {
        Err(Error::NoLeader)
    }
}
