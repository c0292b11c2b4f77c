//! Look-ups of stored messages.

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::record::{Record, kind};
use pointsman_model::{LogIndex, MessageId, Name, Ordinal, QueueId, QueueOffset, ShardId, Term, hash, limits};
use pointsman_state_machine::command::{Cause, Place};
use pointsman_state_machine::state::Topic;

use crate::broker::Home;
use crate::lease::{check, head};
use crate::ports::{Found, ReadError};
use crate::scheduled::scheduled;
use crate::view::{MessageById, StoredMessage};
use crate::{Action, Broker, Call, Error};

impl Broker {
    /// A visible message by its id.
    ///
    /// # Errors
    /// [`Error::MessageNotFound`], also for a message of another tenant.
    pub async fn get_message(&self, call: &Call, tenant: &str, id: MessageId) -> Result<StoredMessage, Error> {
        match self.find_message(call, tenant, id).await? {
            MessageById::Stored(stored) => Ok(stored),
            MessageById::Scheduled(_) => Err(Error::MessageNotFound),
        }
    }

    /// A message by its id, also one that waits for its time.
    ///
    /// # Errors
    /// [`Error::MessageNotFound`], also for a message of another tenant, a half and a cancelled one.
    pub async fn find_message(&self, call: &Call, tenant: &str, id: MessageId) -> Result<MessageById, Error> {
        let home = self.authorize(call, tenant, Action::ConsumeSome)?;
        let found = match self.message_at(&home, id) {
            // This node may be behind.
            Err(Error::NoLeader) => {
                home.shard.catch_up().await?;
                self.message_at(&home, id).map_err(|error| match error {
                    Error::NoLeader => Error::MessageNotFound,
                    error => error,
                })?
            }
            found => found?,
        };
        self.authorize(call, tenant, Action::Consume(found.topic()))?;
        Ok(found)
    }

    /// A message by its id, whoever asks.
    pub(crate) fn message_at(&self, home: &Home, id: MessageId) -> Result<MessageById, Error> {
        if id.shard != home.shard.port.id() {
            return Err(Error::MessageNotFound);
        }
        if let Some(parked) = home.shard.port.parked(home.tenant, id.index, id.ordinal)?
            && parked.place.term == id.term.0
            && let Some(scheduled) = scheduled(home, &parked)?
        {
            return Ok(MessageById::Scheduled(scheduled));
        }
        // What was delivered since the look above is found here.
        let found = find(home, id)?;
        let found = found.ok_or_else(|| home.shard.absent(|| Error::MessageNotFound))?;
        stored(home, id, found).map(MessageById::Stored)
    }

    /// Messages of a queue from an offset upward, in order; fewer than `limit` if their bodies are large.
    ///
    /// # Errors
    /// [`Error::OffsetExpired`] below the first offset kept.
    pub async fn list_messages(
        &self,
        call: &Call,
        tenant: &str,
        topic: &str,
        queue: QueueId,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, Error> {
        self.authorize(call, tenant, Action::Consume(topic))?;
        check("limit", limit.into(), 1, limits::PAGE_ITEMS_MAX.into())?;
        let (home, topic) = self.topic_here(tenant, topic).await?;
        if queue.0 >= topic.queues() {
            return Err(Error::invalid("queue", format!("the topic has the queues 0 to {}", topic.queues() - 1)));
        }
        let earliest = home.shard.port.state().ends(topic.id, queue).earliest;
        if offset < earliest {
            return Err(Error::OffsetExpired { earliest });
        }
        let entries = home.shard.port.queue(topic.id, queue, QueueOffset(offset), limit as usize)?;
        let mut messages = Vec::with_capacity(entries.len());
        let mut bytes = 0;
        for (offset, entry) in (offset..).zip(entries) {
            let message = read(&home, &topic.name, &entry, offset)?;
            bytes += message.record.body.len();
            if !messages.is_empty() && bytes > limits::LEASE_BYTES_MAX as usize {
                break;
            }
            messages.push(message);
        }
        Ok(messages)
    }

    /// Messages of a topic that carry exactly this key, newest first.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`], a failed read.
    pub async fn list_messages_by_key(
        &self,
        call: &Call,
        tenant: &str,
        topic: &str,
        key: &str,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, Error> {
        self.authorize(call, tenant, Action::Consume(topic))?;
        check("limit", limit.into(), 1, limits::PAGE_ITEMS_MAX.into())?;
        let (home, topic) = self.topic(tenant, topic)?;
        let places = home.shard.port.by_key(topic.id, hash::hash(key.as_bytes()), limit as usize)?;
        let mut messages = Vec::with_capacity(places.len());
        for place in places {
            messages.extend(by_place(&home, &topic, key, place)?);
        }
        Ok(messages)
    }
}

/// The message of a queue entry.
pub(crate) fn read(home: &Home, topic: &Name, entry: &QueueEntry, offset: u64) -> Result<StoredMessage, Error> {
    let record = home.shard.port.record(entry)?;
    let id = id_of(home.shard.port.id(), entry, &record);
    Ok(StoredMessage { id, topic: topic.clone(), offset: QueueOffset(offset), stored_at: entry.stamp, record })
}

/// The id of a visible message: its record's place, or that of the record it was parked in before.
pub(crate) fn id_of(shard: ShardId, entry: &QueueEntry, record: &Record) -> MessageId {
    let own = MessageId { shard, term: entry.term, index: entry.index, ordinal: entry.ordinal };
    kept_id(record).map_or(own, |place| id_at(shard, place))
}

/// The id of the message that a record at this place is, or was parked in.
pub(crate) fn id_at(shard: ShardId, place: Place) -> MessageId {
    MessageId { shard, term: Term(place.term), index: LogIndex(place.index), ordinal: Ordinal(place.ordinal) }
}

/// The place whose id a record goes on with.
fn kept_id(record: &Record) -> Option<Place> {
    // A copy is `publish-parked` whatever it stands for.
    if !matches!(record.header.kind, kind::PUBLISH_FROM | kind::PUBLISH_PARKED) {
        return None;
    }
    // `apply` has read this head.
    let origin = head(&record.head).ok()?.origin?;
    matches!(origin.cause, Cause::Timer | Cause::Commit).then_some(origin.place)
}

/// The visible message of an id.
pub(crate) fn find(home: &Home, id: MessageId) -> Result<Option<Found>, Error> {
    let port = &home.shard.port;
    if let Some(found) = port.find(id.term, id.index, id.ordinal)? {
        // The message of such a record goes by the id of the one it was parked in, and by no other.
        return Ok(kept_id(&found.record).is_none().then_some(found));
    }
    let moved = port.moved(home.tenant, id.index, id.ordinal)?;
    let Some(moved) = moved.filter(|moved| moved.parked_term == id.term.0) else {
        return Ok(None);
    };
    let at = moved.place;
    Ok(port.find(Term(at.term), LogIndex(at.index), Ordinal(at.ordinal))?)
}

/// A message of the tenant, by its topic's name.
fn stored(home: &Home, id: MessageId, found: Found) -> Result<StoredMessage, Error> {
    let header = &found.record.header;
    let topic = home.shard.port.state().topics.get(&header.topic).map(|topic| topic.name.clone());
    let topic = topic.filter(|_| header.tenant == home.tenant).ok_or(Error::MessageNotFound)?;
    Ok(StoredMessage { id, topic, offset: found.offset, stored_at: found.stored_at, record: found.record })
}

/// The message at a place, if it carries the key and not one of the same hash.
fn by_place(home: &Home, topic: &Topic, key: &str, place: (LogIndex, Ordinal)) -> Result<Option<StoredMessage>, Error> {
    let port = &home.shard.port;
    let before = match place {
        (index, Ordinal(0)) => (LogIndex(index.0.saturating_sub(1)), Ordinal(u16::MAX)),
        (index, ordinal) => (index, Ordinal(ordinal.0 - 1)),
    };
    for queue in (0..topic.queues()).map(QueueId) {
        let offset = port.offset_after(topic.id, queue, before)?;
        let entry = match port.queue(topic.id, queue, offset, 1) {
            // Retention took it; the index of keys goes with its segment only.
            Err(ReadError::Expired { .. }) => None,
            read => read?.into_iter().next(),
        };
        if let Some(entry) = entry.filter(|entry| entry.log_place() == place) {
            let message = read(home, &topic.name, &entry, offset.0)?;
            let carries = head(&message.record.head)?.keys.contains(&key);
            return Ok(carries.then_some(message));
        }
    }
    Ok(None)
}
